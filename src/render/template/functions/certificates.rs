//! Certificates as Sprig makes them, from keys and serial numbers of the seed.

use std::rc::Rc;

use core::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose,
    SanType, SerialNumber,
};
use serde_json::{Value as Json, json};
use time::{Duration, OffsetDateTime};

use super::keys::{Key, pem, unpem};
use super::{CERTIFICATE, Called, any, int, text};
use crate::render::template::host::Host;
use crate::render::template::value::{Object, Value};

type Result<T> = std::result::Result<T, String>;

/// Bits of a certificate's RSA key, and of one that is made alone.
const BITS: usize = 2048;
const BITS_ALONE: usize = 4096;

pub(super) fn call(host: &mut Host, name: &str, arguments: &[Value]) -> Called {
    let of_text = |at: usize| text(arguments, at);
    let given_key =
        |at: usize| Key::read(text(arguments, at)).map_err(|why| format!("parsing private key: {why}"));
    Some(match name {
        "genPrivateKey" => private(host, of_text(0)).map(Value::text),
        "buildCustomCert" => custom(of_text(0), of_text(1)),
        "genCA" => Key::rsa(host, BITS).and_then(|key| authority(host, arguments, &key)),
        "genCAWithKey" => given_key(2).and_then(|key| authority(host, arguments, &key)),
        "genSelfSignedCert" => own(host, arguments, None),
        "genSelfSignedCertWithKey" => given_key(4).and_then(|key| own(host, arguments, Some(key))),
        "genSignedCert" => signed(host, arguments, None),
        "genSignedCertWithKey" => given_key(5).and_then(|key| signed(host, arguments, Some(key))),
        _ => return None,
    })
}

fn private(host: &mut Host, sort: &str) -> Result<String> {
    match sort {
        "" | "rsa" => Key::rsa(host, BITS_ALONE)?.write(),
        "ecdsa" => Key::ec(host)?.write(),
        "ed25519" => Key::ed(host)?.write(),
        "dsa" => Err("DSA keys are not supported here: no server takes them any more".to_owned()),
        other => Ok(format!("Unknown type {other}")),
    }
}

/// What all certificates have.
fn params(host: &mut Host, name: &str, days: i64, ips: &Value, names: &Value) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    for ip in ips.items().unwrap_or_default() {
        let Value::Text(ip) = ip else {
            return Err(format!("error parsing ip: {} is not a string", ip.print()));
        };
        let ip: IpAddr = ip.parse().map_err(|_| format!("error parsing ip: {ip}"))?;
        params.subject_alt_names.push(SanType::IpAddress(ip));
    }
    let mut hosts = Vec::new();
    for name in names.items().unwrap_or_default() {
        let Value::Text(name) = name else {
            return Err(format!("error processing alternate dns name: {} is not a string", name.print()));
        };
        let bad =
            |_| format!("error creating certificate: x509: {:?} cannot be encoded as an IA5String", &**name);
        hosts.push(SanType::DnsName(name.to_string().try_into().map_err(bad)?));
    }
    // Names stand before addresses.
    params.subject_alt_names.splice(0..0, hosts);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let mut serial = [0; 16];
    host.random().fill(&mut serial);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let begin = OffsetDateTime::from_unix_timestamp(host.now()).map_err(|_| "the time is out of range")?;
    params.not_before = begin;
    let end = days.checked_mul(86_400).map(Duration::seconds).and_then(|span| begin.checked_add(span));
    params.not_after = end.ok_or("error creating certificate: too many days")?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.is_ca = IsCa::ExplicitNoCa;
    Ok(params)
}

fn failed(error: &rcgen::Error) -> String {
    format!("error creating certificate: {error}")
}

fn authority(host: &mut Host, arguments: &[Value], key: &Key) -> Result<Value> {
    let mut params = params(host, text(arguments, 0), int(arguments, 1), &Value::NilList, &Value::NilList)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages.push(KeyUsagePurpose::KeyCertSign);
    let made = params.self_signed(key).map_err(|error| failed(&error))?;
    pair(pem("CERTIFICATE", made.der()), key)
}

fn own(host: &mut Host, arguments: &[Value], key: Option<Key>) -> Result<Value> {
    // What is wrong with the names shows before a key is made for nothing.
    let params = params(host, text(arguments, 0), int(arguments, 3), any(arguments, 1), any(arguments, 2))?;
    let key = key.map_or_else(|| Key::rsa(host, BITS), Ok)?;
    let made = params.self_signed(&key).map_err(|error| failed(&error))?;
    pair(pem("CERTIFICATE", made.der()), &key)
}

fn signed(host: &mut Host, arguments: &[Value], key: Option<Key>) -> Result<Value> {
    let field = |name: &str| match any(arguments, 4) {
        Value::Object(object) => object.get(name, &[]).and_then(Result::ok).map(|value| value.print()),
        _ => None,
    };
    let (signer, secret) = (field("Cert").unwrap_or_default(), field("Key").unwrap_or_default());
    let (_, der) = unpem(&signer).ok_or("unable to decode certificate")?;
    let secret = Key::read(&secret).map_err(|why| format!("error parsing private key: {why}"))?;
    let issuer = Issuer::from_ca_cert_der(&der.into(), secret)
        .map_err(|error| format!("error parsing certificate: decodedSignerCert.Bytes: {error}"))?;
    let mut params =
        params(host, text(arguments, 0), int(arguments, 3), any(arguments, 1), any(arguments, 2))?;
    params.use_authority_key_identifier_extension = true;
    let key = key.map_or_else(|| Key::rsa(host, BITS), Ok)?;
    let made = params.signed_by(&key, &issuer).map_err(|error| failed(&error))?;
    pair(pem("CERTIFICATE", made.der()), &key)
}

fn custom(certificate: &str, key: &str) -> Result<Value> {
    let decode = |given: &str, what: &str| {
        super::encode::unbase64(given)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| format!("unable to decode base64 {what}"))
    };
    let certificate = decode(certificate, "certificate")?;
    let key = decode(key, "private key")?;
    let (_, der) = unpem(&certificate).ok_or("unable to decode certificate")?;
    let read = Key::read(&key).map_err(|why| format!("error parsing private key: {why}"));
    // The certificate is looked at first.
    let borrowed = read.as_ref().map_err(Clone::clone);
    if let Ok(key) = borrowed {
        Issuer::from_ca_cert_der(&der.into(), key)
            .map_err(|error| format!("error parsing certificate: decodedCert.Bytes: {error}"))?;
    }
    read?;
    Ok(Value::Object(Rc::new(Pair { certificate, key })))
}

fn pair(certificate: String, key: &Key) -> Result<Value> {
    Ok(Value::Object(Rc::new(Pair { certificate, key: key.write()? })))
}

/// A certificate with its key.
struct Pair {
    certificate: String,
    key: String,
}

impl Object for Pair {
    fn type_name(&self) -> &'static str {
        CERTIFICATE
    }

    fn get(&self, name: &str, _arguments: &[Value]) -> Option<std::result::Result<Value, String>> {
        match name {
            "Cert" => Some(Ok(Value::text(&self.certificate))),
            "Key" => Some(Ok(Value::text(&self.key))),
            _ => None,
        }
    }

    fn print(&self) -> String {
        format!("{{{} {}}}", self.certificate, self.key)
    }

    fn json(&self) -> Json {
        json!({"Cert": self.certificate, "Key": self.key})
    }
}
