//! A revision and its tree.
