//! What the API server's refusals mean.

use kube::core::Status;

use crate::error::{Code, Error};

/// A client failure in our words. Secret values never appear: messages of the API server name fields,
/// and the caller scrubs those that echo an object.
pub fn translate(error: &kube::Error) -> Error {
    match error {
        kube::Error::Api(status) => status_error(status),
        kube::Error::InferConfig(_) | kube::Error::InferKubeconfig(_) => {
            Error::new(Code::KubeconfigInvalid, chain(error))
        }
        kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => Error::new(
            Code::ApiUnreachable,
            format!("the API server's answer could not be read: {}", chain(error)),
        ),
        _ => Error::new(Code::ApiUnreachable, chain(error)),
    }
}

/// The error and its causes on one line, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = inner.source();
    }
    text
}

fn status_error(status: &Status) -> Error {
    let message = status.message.clone();
    let code = match (status.code, status.reason.as_str()) {
        (401, _) => Code::Forbidden,
        (403, _) if message.contains("admission") || message.contains("denied the request") => {
            Code::AdmissionDenied
        }
        (403, _) if message.contains("being terminated") => Code::NamespaceMissing,
        (403, _) => Code::Forbidden,
        (404, _) if message.starts_with("namespaces ") => Code::NamespaceMissing,
        (404, _) => Code::KindUnknown,
        (409, _) => Code::ConflictRefused,
        (429, _) => Code::Throttled,
        (_, _) if message.contains("denied the request") || message.contains("failed calling webhook") => {
            Code::AdmissionDenied
        }
        (422, _)
            if message.contains("field is immutable")
                || message.contains("may not change once set")
                || message.contains("updates to statefulset spec for fields other than")
                || message.contains("is immutable") =>
        {
            Code::FieldImmutable
        }
        // The server's own word for a text where it wants a number is an internal error.
        (500, _) if message.contains("failed to create typed patch object") => Code::ObjectRejected,
        // As is what etcd says of an object of more than 1.5 MiB.
        (_, _) if message.contains("request is too large") => Code::ObjectRejected,
        (400 | 405 | 413 | 415 | 422, _) => Code::ObjectRejected,
        _ => Code::ApiUnreachable,
    };
    Error::new(code, message)
}

/// Whether it is the object that is not there. A kind or version that is not served is answered with 404 too, by whoever
/// knows nothing of the path, and says nothing of the object.
pub fn is_absent(status: &Status) -> bool {
    status.code == 404
        && status.reason == "NotFound"
        && status.details.as_ref().is_some_and(|details| !details.name.is_empty())
}

/// The managers that a 409 of a server-side apply names, in order.
pub fn conflicting_managers(status: &Status) -> Vec<String> {
    let mut managers = Vec::new();
    let causes = status.details.iter().flat_map(|details| &details.causes);
    for cause in causes.filter(|cause| cause.reason == "FieldManagerConflict") {
        // conflict with "kubectl-edit" using apps/v1
        let Some(manager) = cause.message.split('"').nth(1) else { continue };
        if !managers.iter().any(|known| known == manager) {
            managers.push(manager.to_owned());
        }
    }
    managers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: u16, message: &str, expected: Code) {
        let status = Status { code, message: message.into(), ..Status::default() };
        assert_eq!(status_error(&status).code, expected, "{message}");
    }

    #[test]
    fn refusals_get_their_codes() {
        check(403, "deployments.apps is forbidden: User \"x\" cannot patch", Code::Forbidden);
        check(404, "namespaces \"ml\" not found", Code::NamespaceMissing);
        check(
            422,
            "Deployment.apps \"a\" is invalid: spec.selector: Invalid value: {}: field is immutable",
            Code::FieldImmutable,
        );
        check(422, "Service \"a\" is invalid: spec.ports: Required value", Code::ObjectRejected);
        check(400, "admission webhook \"w.example\" denied the request: no", Code::AdmissionDenied);
        check(429, "too many requests", Code::Throttled);
        let typed =
            "failed to create typed patch object (n/a; /v1, Kind=ConfigMap): .data.v: expected string";
        check(500, typed, Code::ObjectRejected);
        check(500, "etcdserver: request timed out", Code::ApiUnreachable);
    }
}
