//! Values in place of `${NAME}`, as Flux's postBuild puts them.

use std::collections::BTreeMap;
use std::fmt;

/// Values by name; some may come from Secrets and are never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Variables(pub BTreeMap<String, String>);

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
