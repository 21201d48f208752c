//! The pipeline and its queue.
