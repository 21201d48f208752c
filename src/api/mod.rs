//! The CRDs.
