//! A kustomization file that was read, and where in it a fault or a change is written.

use std::sync::Arc;

use super::kustomization::{Kustomization, line_below, line_of};
use super::ledger::Step;
use crate::error::Error;

/// A kustomization that was read.
pub(super) struct Layer {
    /// Its folder, without links.
    pub(super) folder: String,
    pub(super) file: Arc<str>,
    pub(super) bytes: Arc<[u8]>,
    pub(super) kustomization: Kustomization,
}

/// A kustomization file, for any number of builds.
pub(super) struct ReadKustomization {
    pub(super) bytes: Arc<[u8]>,
    pub(super) kustomization: Kustomization,
}

impl Layer {
    /// A kustomization around this one that no file holds; its paths are those of this one.
    pub(super) fn around(&self, name: &str, kustomization: Kustomization) -> Self {
        Self { folder: self.folder.clone(), file: name.into(), bytes: Arc::default(), kustomization }
    }

    /// The line in which a text that is written in place begins.
    pub(super) fn line_of_text(&self, text: &str) -> usize {
        let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        line_of(&self.bytes, first.trim()).max(1)
    }

    /// An error at the line of this file that holds a word.
    pub(super) fn at(&self, error: Error, word: &str) -> Error {
        if error.place.file.is_some() {
            error
        } else {
            error.in_file(&self.file).at(line_of(&self.bytes, word), 0)
        }
    }

    /// An error at the line below a field that holds a word, or at the field.
    pub(super) fn at_field(&self, error: Error, field: &str, word: &str) -> Error {
        if error.place.file.is_some() {
            error
        } else {
            error.in_file(&self.file).at(line_below(&self.bytes, field, word), 0)
        }
    }

    /// A change that a field of this kustomization makes, for the ledger.
    pub(super) fn step(&self, field: &'static str, detail: &str) -> Step {
        Step {
            by: field,
            file: self.file.clone(),
            bytes: self.bytes.clone(),
            detail: detail.to_owned(),
            operations: Vec::new(),
        }
    }
}
