//! Where objects live. Today that is Kubernetes; each further system is one file or folder here.
//!
//! Must not know where the wanted objects come from.

pub mod kube;
