//! Ciphers.
use super::Called;
use crate::render::template::value::Value;
pub(super) fn call(_name: &str, _arguments: &[Value]) -> Called {
    None
}
