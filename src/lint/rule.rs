//! What a rule is, and how it says what it found.

use super::Finding;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; may be meant.
    Info,
    /// Will surprise somebody.
    Warning,
    /// Is refused or does not work.
    Error,
}

impl Severity {
    /// As it is written in options, files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    /// The severity of a name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Info, Self::Warning, Self::Error].into_iter().find(|one| one.name() == text)
    }
}

/// How sure a rule can be from files alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confidence {
    /// The cluster or the controller does what the message says, whatever else is in it.
    Certain,
    /// So in nearly every repository; something outside of the files may make it right.
    Likely,
}

impl Confidence {
    /// As it is written in the list of rules.
    pub fn name(self) -> &'static str {
        match self {
            Self::Certain => "certain",
            Self::Likely => "likely",
        }
    }
}

/// One rule. Its id is a contract: comments and files of other people name it.
#[derive(Debug)]
pub struct Rule {
    /// Such as `mutable-image-tag`.
    pub id: &'static str,
    /// Whose objects it is about.
    pub system: &'static str,
    /// How bad a finding is where nothing else is configured.
    pub severity: Severity,
    /// How sure it is.
    pub confidence: Confidence,
    /// What is wrong, in one line.
    pub title: &'static str,
    /// Why it matters and what to do.
    pub page: &'static str,
}

/// Declares the rules of a file, each as a static and all of them as `ALL`.
macro_rules! rules {
    ($system:literal: $($name:ident $id:literal $severity:ident $confidence:ident $title:literal $page:literal)+) => {
        $(pub(in crate::lint) static $name: $crate::lint::Rule = $crate::lint::Rule {
            id: $id,
            system: $system,
            severity: $crate::lint::Severity::$severity,
            confidence: $crate::lint::Confidence::$confidence,
            title: $title,
            page: $page,
        };)+
        /// The rules of this file.
        pub(in crate::lint) static ALL: &[&$crate::lint::Rule] = &[$(&$name),+];
    };
}
pub(super) use rules;

/// Where rules put what they find.
#[derive(Default)]
pub(super) struct Out {
    subject: usize,
    findings: Vec<Finding>,
}

impl Out {
    /// What follows is about the object at this place of the set.
    pub(super) fn begin(&mut self, subject: usize) {
        self.subject = subject;
    }

    /// Something is wrong at a field.
    pub(super) fn add(
        &mut self,
        rule: &'static Rule,
        pointer: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.findings.push(Finding {
            rule,
            severity: rule.severity,
            subject: self.subject,
            pointer: pointer.into(),
            message: message.into(),
        });
    }

    pub(super) fn len(&self) -> usize {
        self.findings.len()
    }

    pub(super) fn finish(self) -> Vec<Finding> {
        self.findings
    }
}
