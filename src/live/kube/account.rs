//! Who acts in a cluster for an application.

use std::fmt;

/// A ServiceAccount, in whose name requests are made: the API server grants them what it grants the account, and
/// nothing of the rights of whoever asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Account {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Account {
    /// As the API server names it, such as `system:serviceaccount:ml:deployer`. The server adds the account's groups.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "system:serviceaccount:{}:{}", self.namespace, self.name)
    }
}
