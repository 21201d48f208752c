//! Every failure of driftless: what failed, where, why, and the next command.
//!
//! A [`Code`] is a contract: its number is stable, `driftless explain DL0123` prints its page, its
//! name is the reason of the condition that it causes, its [`Kind`] is the exit code.

use std::fmt;

/// What sort of failure, which is also the exit code of a command that ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The command line or a configuration is wrong.
    Usage,
    /// A source could not be read, or what it holds could not be rendered.
    Source,
    /// The Kubernetes API refused, failed or is away.
    Api,
    /// A limit of time ran out.
    Timeout,
    /// An object is unhealthy, or a rollout was aborted.
    Unhealthy,
    /// A policy or a safety rule refused.
    Policy,
    /// A fault of driftless itself.
    Internal,
}

impl Kind {
    /// The process exit code; 0 and 1 (same, differs) are answers and not failures.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Source => 3,
            Self::Api => 4,
            Self::Timeout => 5,
            Self::Unhealthy => 6,
            Self::Policy => 7,
            Self::Internal => 70,
        }
    }
}

macro_rules! codes {
    ($($name:ident $number:literal $kind:ident $retry:literal $title:literal $page:literal)+) => {
        /// A failure that has a number, a page and a name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(clippy::doc_markdown, reason = "titles are shown to people, as text")]
        pub enum Code { $(#[doc = $title] $name,)+ }

        impl Code {
            /// All codes, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];
            /// The stable number, such as `DL0103`.
            pub fn number(self) -> &'static str { match self { $(Self::$name => $number,)+ } }
            /// The condition reason, such as `RevisionNotFound`.
            pub fn reason(self) -> &'static str { match self { $(Self::$name => stringify!($name),)+ } }
            /// The sort of failure.
            pub fn kind(self) -> Kind { match self { $(Self::$name => Kind::$kind,)+ } }
            /// One line that says what the code means.
            pub fn title(self) -> &'static str { match self { $(Self::$name => $title,)+ } }
            /// What to look at and what to do, for `driftless explain`.
            pub fn page(self) -> &'static str { match self { $(Self::$name => $page,)+ } }
            /// Whether time alone may mend it; what cannot is `Stalled` until something changes.
            pub fn is_transient(self) -> bool { match self { $(Self::$name => $retry,)+ } }
        }
    };
}

codes! {
    RepositoryUnreachable "DL0101" Source true "the server of the source could not be reached"
        "The connection to the Git server, Helm repository or registry was refused, cut or never answered, the name did not resolve, or nothing is at the address. The last good revision stays deployed and nothing is deleted. Check the address in spec.source.repo and the network policy of the agent's namespace; HTTPS_PROXY and NO_PROXY are honoured."
    AuthenticationFailed "DL0102" Source true "the server of the source refused the credentials"
        "The server answered 401 or 403, or refused the SSH key. Check the Secret that spec.source.secretRef names (keys: username and password, bearerToken, identity and known_hosts, .dockerconfigjson, or githubAppID, githubAppInstallationID and githubAppPrivateKey), and that the account may read this repository. GitHub answers 404 for a private repository without credentials; many registries answer 401 for a repository that does not exist."
    RevisionNotFound "DL0103" Source true "the branch, tag, commit, version or digest does not exist"
        "The repository answers, but it has no such branch, tag, commit or digest, or no version in the semver range; the message names what is near. Objects stay as they are. List what there is with `git ls-remote REPO`, `helm search repo -l` or `crane ls`."
    PathNotFound "DL0104" Source false "the path does not exist at this revision"
        "spec.source.path names a folder or file that the revision does not have. Nothing is deleted: a path that vanished is never an order to prune. Correct the path, or delete the Application."
    RepositoryCorrupt "DL0105" Source true "what the server of the source sent is not what it should be"
        "A pack failed its checksum, an object, manifest, layer or chart does not hash to its name or digest, an index.yaml cannot be read, or the answer is not Git's protocol. The revision is refused and the cache is left as it was."
    SourceTimedOut "DL0106" Source true "the server of the source did not answer in time"
        "The server accepted the connection and then sent nothing, or too slowly. The poll is tried again with backoff; other applications go on."
    HostKeyUnknown "DL0107" Source false "the SSH host key is not in known_hosts, or is another one"
        "Host keys are checked strictly. Put the output of `ssh-keyscan HOST` (compared with what the host's owner publishes) under the key `known_hosts` of the Secret."
    SubmoduleRefused "DL0109" Source false "the path holds a Git submodule"
        "driftless reads one repository per source and follows no submodule. Name the other repository as a second entry of spec.sources."
    SymlinkRefused "DL0110" Source false "a symbolic link leaves the repository or never ends"
        "Links are resolved inside the tree only. The message names the link and its target."
    SourceTooLarge "DL0111" Source false "a file or the whole source is larger than the limit"
        "Limits: 64 MiB a file, 1 GiB a fetched pack, 256 MiB a packed chart or artifact, 64 MiB an index.yaml, 4 MiB a manifest, 100,000 files a source. Git LFS pointers are not followed."
    CertificateRefused "DL0112" Source true "the TLS certificate of the source's server is not trusted"
        "Expired, for another host, or signed by an authority that this machine does not trust. A private authority goes under the key caFile (or ca.crt) of the Secret. There is no switch to skip the check."
    CredentialsInvalid "DL0113" Source false "the Secret with the credentials is missing or malformed"
        "spec.source.secretRef names a Secret of the Application's own namespace. The message says which key is missing or cannot be read."
    RedirectRefused "DL0114" Source false "the server of the source redirected to another host"
        "Credentials are never sent to a host that spec.source.repo does not name, and https is never left for http. Registries and Helm repositories may send elsewhere for their files, which are then asked for without credentials. Use the address that the redirect points to, if you trust it."
    RepositoryInvalid "DL0115" Source false "the repository address cannot be used"
        "Allowed are https://, http://, ssh://, user@host:path, file:// and oci:// addresses (oci+http:// for a registry without TLS) without a password in them; credentials belong in a Secret. A chart comes from https://, http:// or oci://; for a chart in Git give its path. A tag or digest belongs in revision."
    ArchiveInvalid "DL0116" Source false "an archive cannot be read, or is beyond the limits"
        "A chart or artifact is a tar archive, compressed with gzip. Refused are paths that leave it, links out of it, devices, and more than 100,000 files, 64 MiB a file or 256 MiB in all once unpacked."
    HistoryRewritten "DL0117" Source false "the branch or tag no longer leads from the revision that is deployed"
        "The head of the branch, or the commit of the tag, was replaced (`git push --force`) by one that does not have the deployed commit among its ancestors, and spec.source.allowRewrite is false. The deployed revision stays. Look at both with `git log OLD..NEW` and `git log NEW..OLD`; set allowRewrite to true to go on to the new one, or push a commit on top of the old one."
    ManifestInvalid "DL0201" Source false "a manifest is not valid YAML or JSON"
        "The message gives file, line and column. driftless reads manifests as kubectl does; `driftless render PATH` shows the same error offline."
    ManifestIncomplete "DL0202" Source false "a document is not a Kubernetes object"
        "Every document needs apiVersion, kind and metadata.name. Files that are no manifests can be left out with spec.source.directory.exclude."
    DuplicateObject "DL0203" Source false "two documents of one application describe the same object"
        "The message names both places. Remove one; which of two should win is not a guess to make."
    BudgetExceeded "DL0204" Source false "a manifest is beyond the limits of depth, aliases or size"
        "Limits: depth 512, 50,000 documents, 4 million nodes, and an alias ratio that stops expansion bombs."
    NothingRendered "DL0205" Policy false "the source rendered to no object at all"
        "An empty result would delete everything the application manages, so it is refused. If that is meant, set spec.sync.allowEmpty to true; `kubectl delete application` leaves the objects alone."
    RendererMissing "DL0206" Source false "the folder needs a renderer that this version does not have"
        "A folder below the path holds a chart or a kustomization of its own, which plain manifests do not go into. Name that folder as the path of a source, or leave the file out with spec.source.directory.exclude. Jsonnet and CUE are not read: render them in your pipeline and commit the result."
    KustomizationInvalid "DL0207" Source false "a kustomization cannot be built"
        "The message names the file, the line and the kustomizations that led there. `driftless render FOLDER` shows the same offline; what kustomize 5.7 builds without plugins is built here."
    RemoteBaseRefused "DL0208" Source false "a kustomization names something outside of the repository"
        "A render never uses the network, so that the same commit always gives the same objects. Commit a copy of the base and name its path."
    ChartInvalid "DL0209" Source false "a Helm chart cannot be loaded"
        "Chart.yaml, its dependencies, a values file or a value given for it is at fault; the message names the file. `helm dependency build` brings subcharts into the charts folder: commit them, the agent fetches none for a chart in Git."
    TemplateFailed "DL0210" Source false "a template cannot be parsed or executed"
        "The message is Helm's: template:line:column and the expression, with every template on the way. `driftless render CHART` shows the same offline."
    ValuesInvalid "DL0211" Source false "the values do not satisfy the chart's values.schema.json"
        "Each violation is listed with the chart and the path of the value. Correct the values; spec.source.helm.skipSchemaValidation turns the check off."
    DecryptionFailed "DL0212" Source false "a file that SOPS encrypted cannot be read"
        "The message names the file and the keys it is encrypted for. Put an age identity for one of them under a key that ends in .agekey into the Secret that spec.source.decryption.secretRef names. Other key services (AWS KMS, GCP KMS, Azure Key Vault, Vault, PGP) are not used."
    SubstitutionFailed "DL0213" Source false "a variable cannot be put in place"
        "`${NAME}` has neither a value nor a default, or the expression is malformed. Give it in spec.source.substitute, write `${NAME:-default}`, write `$${NAME}` for the text itself, or annotate the object with driftless.dev/substitute: disabled."
    HealthRuleInvalid "DL0214" Source false "a rule of health cannot be used"
        "A Lua script does not parse, a condition in CEL does not compile, or a key of the ConfigMap has another form than resource.customizations.health.GROUP_KIND. What the rule speaks of is Unknown until then. `driftless health --rules FILE OBJECT` tries it offline."
    ApiUnreachable "DL0301" Api true "the Kubernetes API server could not be reached"
        "The agent waits and tries again; nothing is deleted on partial knowledge. Check the kubeconfig (`kubectl version`) or the API server."
    Forbidden "DL0302" Api true "the Kubernetes API server forbids the request"
        "The message names verb, resource and user. Grant it with a Role or ClusterRole; the other objects of the application are applied meanwhile, and nothing is pruned."
    KindUnknown "DL0303" Api true "the cluster does not serve this kind"
        "The CustomResourceDefinition is not installed, or this version of it is not served. The pass is tried again when a CRD appears."
    ObjectRejected "DL0304" Api true "the API server rejected the object"
        "Its schema or validation refused a field; the message is the server's own. `driftless drift` shows the same without applying."
    FieldImmutable "DL0305" Api false "a field that cannot be changed would have to change"
        "The object must be made again for this. Allow it for the object (annotation driftless.dev/sync-options: Force=true) or for the application (spec.sync.force), delete it by hand, or take the change back."
    ConflictRefused "DL0306" Api true "another writer changed the object at the same moment"
        "Tried again by itself. If it stays, the event names the other manager."
    AdmissionDenied "DL0307" Api true "an admission webhook or policy denied the object"
        "The message names the webhook or policy and gives its reason."
    NamespaceMissing "DL0308" Api true "the namespace does not exist"
        "Add the Namespace to the repository, create it, or correct spec.destination.namespace."
    CrdNotEstablished "DL0309" Api true "a CustomResourceDefinition did not become Established in time"
        "Its conditions say why: `kubectl get crd NAME -o yaml`, often `NamesAccepted=False`."
    Throttled "DL0310" Api true "the API server asks for fewer requests"
        "429 Too Many Requests; its Retry-After is obeyed."
    OwnedByAnother "DL0311" Policy false "another application manages this object"
        "The first owner keeps it. Remove it from one of the two repositories; the object then moves, it is not deleted."
    StillDeleting "DL0312" Api true "an object that must go first is not gone"
        "Its finalizers or the objects that hang on it hold it; the message names them. Find out what their controller waits for; taking a finalizer off by hand skips its work."
    ApplicationInvalid "DL0313" Usage false "the Application is not valid"
        "The message names the field. `kubectl explain application.spec` documents each."
    ApplicationNotFound "DL0314" Usage false "there is no such Application"
        "`driftless get -A` lists all of them."
    KubeconfigInvalid "DL0315" Usage false "the kubeconfig or its context cannot be used"
        "Looked for, in this order: --kubeconfig, KUBECONFIG, ~/.kube/config, the service account of the pod."
    WatchFailed "DL0316" Api true "a kind cannot be watched"
        "Drift of this kind is not seen until the watch is back; nothing of it is pruned meanwhile."
    TimedOut "DL0401" Timeout true "the limit of time ran out"
        "The message says what was waited for. The agent goes on; --timeout sets the limit."
    Unhealthy "DL0501" Unhealthy true "an object is not healthy"
        "The message names the object, its container or event where known."
    SyncFailed "DL0502" Unhealthy false "a hook or a wave of a sync failed"
        "The message names the hook or the object and why. It is tried again as spec.sync.retry says; a newer commit is tried at once, and so is `driftless sync APP`."
    PruneRefused "DL0601" Policy true "objects would be deleted on partial knowledge"
        "A step of this pass failed or was cut short, so nothing is deleted in it. Mend the error that is reported beside this one."
    ProjectRefused "DL0602" Policy false "the Project of the Application does not allow it"
        "Which repositories, namespaces, kinds and clusters an Application may use is said by the Project that spec.project names, and by secure defaults where there is no Project `default`: namespaced kinds but those of RBAC, in the Application's own namespace. Nothing of the commit is applied and nothing is deleted until all of it is allowed. `kubectl get projects.driftless.dev NAME -o yaml` shows the rules; docs/projects.md explains them."
    ProjectInvalid "DL0603" Policy false "a Project cannot be used"
        "The message names the field. Until it is corrected, nothing of the Applications that name the Project is fetched or applied. `kubectl explain project.spec` documents each field; `driftless lint FILE` checks it before it is applied."
    RolloutInvalid "DL0604" Policy false "a RolloutPolicy cannot be used"
        "The message names the field. Weights go up from step to step and end at 100 or below; holds are durations or `promoted`; every gate that a step names is in spec.gates, and every gate of spec.gates is named. `driftless rollout simulate FILE` shows what a policy does."
    RolloutRejected "DL0605" Policy false "a revision was rejected on its way to its users"
        "Users get the stable revision, and the rejected one is not begun again by itself. The message holds the evidence: the gate with its last values, the pods that did not come up, or who aborted it. Another commit is rolled out as usual, `git revert` takes the difference back, and `driftless rollout retry POLICY` begins the same revision once more."
    Usage "DL0701" Usage false "the command line is not valid"
        "`driftless help COMMAND` shows its options."
    FileUnreadable "DL0702" Usage false "a file or folder on this machine cannot be read"
        "The message names the path and the reason of the system."
    Internal "DL0900" Internal true "a fault of driftless itself"
        "Please report it, with the message and `driftless version -o json`."
}

/// Where it failed; every part that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The Application, `namespace/name`.
    pub app: Option<String>,
    /// The object, `Kind namespace/name`.
    pub object: Option<String>,
    /// The file inside the source.
    pub file: Option<String>,
    /// 1-based line; 0 where unknown.
    pub line: usize,
    /// 1-based column; 0 where unknown.
    pub column: usize,
}

/// One failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Its contract.
    pub code: Code,
    /// Why, in words; never holds a secret.
    pub why: String,
    /// Where.
    pub place: Box<Place>,
    /// The next command or action, where one is better than the page of the code.
    pub hint: Option<String>,
}

/// The result of everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure with its reason in words (lower case, no full stop).
    pub fn new(code: Code, why: impl Into<String>) -> Self {
        Self { code, why: why.into(), place: Box::default(), hint: None }
    }

    /// Adds the Application, unless a deeper layer named it.
    #[must_use]
    pub fn in_app(mut self, app: impl fmt::Display) -> Self {
        self.place.app.get_or_insert_with(|| app.to_string());
        self
    }

    /// Adds the object, unless a deeper layer named it.
    #[must_use]
    pub fn on_object(mut self, object: impl fmt::Display) -> Self {
        self.place.object.get_or_insert_with(|| object.to_string());
        self
    }

    /// Adds the file, unless a deeper layer named it.
    #[must_use]
    pub fn in_file(mut self, file: impl fmt::Display) -> Self {
        self.place.file.get_or_insert_with(|| file.to_string());
        self
    }

    /// Adds line and column (1-based, 0 where unknown).
    #[must_use]
    pub fn at(mut self, line: usize, column: usize) -> Self {
        (self.place.line, self.place.column) = (line, column);
        self
    }

    /// Adds the next command.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With its texts changed, such as by what takes secrets out.
    #[must_use]
    pub fn reworded(self, change: impl Fn(&str) -> String) -> Self {
        Self { why: change(&self.why), hint: self.hint.as_deref().map(change), ..self }
    }

    /// `file:line:column`, as much of it as is known.
    pub fn position(&self) -> Option<String> {
        let file = self.place.file.as_ref()?;
        Some(match (self.place.line, self.place.column) {
            (0, _) => file.clone(),
            (line, 0) => format!("{file}:{line}"),
            (line, column) => format!("{file}:{line}:{column}"),
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(position) = self.position() {
            write!(f, "{position}: ")?;
        }
        if let Some(object) = &self.place.object {
            write!(f, "{object}: ")?;
        }
        f.write_str(&self.why)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_and_ascend() {
        let numbers: Vec<_> = Code::ALL.iter().map(|code| code.number()).collect();
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(numbers, sorted);
    }

    #[test]
    fn the_message_says_where_then_why() {
        let error = Error::new(Code::ManifestInvalid, "found a tab").in_file("apps/a.yaml").at(3, 7);
        assert_eq!(error.to_string(), "apps/a.yaml:3:7: found a tab");
    }
}
