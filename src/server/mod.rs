//! Metrics and probes.
