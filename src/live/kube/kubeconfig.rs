//! Kubeconfigs that somebody else wrote: those in Secrets that Applications name.
//!
//! Whoever may write such a Secret must not make the agent run a program, read its files, or hand out its own token.

use kube::config::Kubeconfig;

use crate::error::{Code, Error, Result};

/// Reads the text of a kubeconfig: a server, its authority, and a token, a client certificate or a password, all of them
/// in the text itself.
///
/// # Errors
/// `KubeconfigInvalid` for what cannot be read, and for programs, plugins and files that it names.
pub fn read(text: &str) -> Result<Kubeconfig> {
    // Without the parser's words: they may quote a token.
    let broken = |_| Error::new(Code::KubeconfigInvalid, "it is no kubeconfig in YAML");
    let file = Kubeconfig::from_yaml(text).map_err(broken)?;
    let refused = |what: &str, name: &str, instead: &str| {
        Err(Error::new(Code::KubeconfigInvalid, format!("{what} of {name} is refused: {instead}")))
    };
    for user in &file.auth_infos {
        let Some(info) = &user.auth_info else { continue };
        let name = format!("user {}", user.name);
        if info.exec.is_some() {
            return refused(
                "exec",
                &name,
                "the agent runs no programs; give a token or a client certificate",
            );
        }
        if info.auth_provider.is_some() {
            return refused("auth-provider", &name, "give a token or a client certificate");
        }
        if info.token_file.is_some() {
            return refused("tokenFile", &name, "it is a file of the agent; give token");
        }
        if info.client_certificate.is_some() || info.client_key.is_some() {
            let instead = "they are files of the agent; give client-certificate-data and client-key-data";
            return refused("client-certificate or client-key", &name, instead);
        }
    }
    for cluster in &file.clusters {
        let Some(info) = &cluster.cluster else { continue };
        if info.certificate_authority.is_some() {
            let instead = "it is a file of the agent; give certificate-authority-data";
            return refused("certificate-authority", &format!("cluster {}", cluster.name), instead);
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(user: &str, cluster: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
             contexts: [{{name: a, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: 'https://10.0.0.1:6443'{cluster}}}}}]\n\
             users: [{{name: u, user: {{{user}}}}}]\n"
        )
    }

    #[test]
    fn only_what_is_in_the_text_is_used() {
        for user in ["token: abc", "client-certificate-data: YQ==, client-key-data: YQ=="] {
            assert!(read(&with(user, ", certificate-authority-data: YQ==")).is_ok(), "{user}");
        }
        let refused = [
            ("exec: {apiVersion: client.authentication.k8s.io/v1, command: aws}", "", "exec of user u"),
            ("auth-provider: {name: gcp, config: {}}", "", "auth-provider of user u"),
            ("tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token", "", "tokenFile of user u"),
            ("client-certificate: /etc/a.pem", "", "client-certificate or client-key of user u"),
            ("token: abc", ", certificate-authority: /etc/ca.pem", "certificate-authority of cluster c"),
        ];
        for (user, cluster, says) in refused {
            let error = read(&with(user, cluster)).unwrap_err();
            assert!(error.why.starts_with(says), "{}", error.why);
        }
    }

    #[test]
    fn no_message_quotes_it() {
        let error = read("users: [{name: u, user: {token: [canary]}}]").unwrap_err();
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}
