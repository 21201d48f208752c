//! One report model and its formats.
