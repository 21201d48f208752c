//! Keys and certificates.
use super::Called;
use crate::render::template::host::Host;
use crate::render::template::value::Value;
pub(super) fn call(_host: &mut Host, _name: &str, _arguments: &[Value]) -> Called {
    None
}
