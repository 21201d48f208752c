//! Projects of the tree, and what they refuse. Held by the command, which knows how the agent reads them.

use crate::lint::rule::rules;

rules! { "Projects":
    INVALID_PROJECT "invalid-project" Error Certain
        "a Project that cannot be used"
        "While a Project has a field that cannot be read, nothing of the Applications that name it is fetched or applied. Globs know * and ? alone; a repository is scheme, host and path, with * for a segment and ** for any number of them."
    REFUSED_BY_PROJECT "refused-by-project" Error Likely
        "what the Project of an Application does not allow"
        "The Project in this repository refuses it: nothing of the commit is applied, nothing is deleted, and the Application is not Ready. Take it out, name another Project in spec.project, or have the Project changed by whoever owns it."
}
