//! Packets: four hexadecimal digits of length, then the data.

use crate::error::Result;

use super::malformed;

/// One packet.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::source) enum Packet<'a> {
    Flush,
    Delimiter,
    End,
    Data(&'a [u8]),
}

/// Appends a packet with text.
pub(in crate::source) fn line(request: &mut Vec<u8>, text: &str) {
    request.extend_from_slice(format!("{:04x}", text.len() + 4).as_bytes());
    request.extend_from_slice(text.as_bytes());
}

/// The first packet and what follows it; `None` while it is not complete.
pub(in crate::source) fn partial(bytes: &[u8]) -> Result<Option<(Packet<'_>, &[u8])>> {
    let Some((length, _)) = bytes.split_at_checked(4) else { return Ok(None) };
    let length = std::str::from_utf8(length).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
    let length = length.ok_or_else(|| malformed("a packet without a length"))?;
    let control = match length {
        0 => Some(Packet::Flush),
        1 => Some(Packet::Delimiter),
        2 => Some(Packet::End),
        3 => return Err(malformed("a packet shorter than its length")),
        _ => None,
    };
    if let Some(packet) = control {
        return Ok(Some((packet, &bytes[4..])));
    }
    Ok(bytes.split_at_checked(length).map(|(packet, rest)| (Packet::Data(&packet[4..]), rest)))
}

/// The first packet of a complete answer; `None` at its end.
pub(in crate::source) fn next(bytes: &[u8]) -> Result<Option<(Packet<'_>, &[u8])>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    partial(bytes)?.ok_or_else(|| malformed("it was cut off")).map(Some)
}
