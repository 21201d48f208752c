//! The connection: discover, apply, read, delete.

use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use http::{Method, Request, header};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::DynamicObject;
use kube::{Client, Config, Resource as _};
use serde_json::Value;
use tokio::sync::{Mutex, Semaphore};

use crate::api::FIELD_MANAGER;
use crate::error::{Code, Error, Result};
use crate::live::kube::backoff::spread;
use crate::live::kube::patience::PatienceLayer;
use crate::live::kube::{Account, Discovered, Lean, Resource, conflicting_managers, is_absent, translate};
use crate::model::{Gvk, Key};

/// The answer of an apply or a delete holds metadata only: a fifth of the bytes, and no Secret data.
pub(super) const METADATA: &str =
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
/// Writes in flight: the API server does 264 creations a second on two cores with 8 connections, and no
/// more with 64; 16 covers a round trip of a few milliseconds besides.
const WRITES: usize = 16;
/// A kind that is not served is asked for again at most this often.
const REDISCOVER: Duration = Duration::from_secs(5);
/// How often an apply is made again at once that met another write.
const CONFLICTS: u32 = 3;
/// Who owns the number of pods that a rollout gives its target on the way.
const RESIZER: &str = "driftless-rollout";
/// Requests between two layers of the client; each is handed on at once.
const QUEUE: usize = 1024;
/// No single request may take longer; watches have their own limit.
const REQUEST: Duration = Duration::from_secs(30);

/// How to reach a cluster, as kubectl's flags say it.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// `--kubeconfig`.
    pub kubeconfig: Option<PathBuf>,
    /// `--context`.
    pub context: Option<String>,
}

/// Whether an apply takes fields from other managers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// It does; what Git says wins.
    Yes,
    /// It answers with the list of managers that own them.
    No,
}

/// What happens to fields that the API server does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// They are refused.
    Strict,
    /// They are dropped.
    Ignore,
}

impl Check {
    /// `Ignore` where validation is to be lax.
    pub fn lax(lax: bool) -> Self {
        if lax { Self::Ignore } else { Self::Strict }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Strict => "Strict",
            Self::Ignore => "Ignore",
        }
    }
}

/// What a deletion does to the objects that hang on the deleted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They go first, and the deletion waits for them.
    Foreground,
    /// They go afterwards.
    Background,
    /// They stay.
    Orphan,
}

/// What a deletion came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// The object is gone, by this request.
    Gone,
    /// It is on its way: finalizers or dependents hold it.
    Leaving,
    /// It was gone already, or another object has its name.
    NotThere,
}

/// What the API server answered to an apply.
#[derive(Clone, Debug)]
pub enum Applied {
    /// It is applied; the object as it is now.
    Done(Box<Lean>),
    /// Others own fields of it (only without force).
    Conflict(Vec<String>),
}

/// A connection to one cluster, in somebody's name.
pub struct Cluster {
    client: Client,
    namespace: String,
    account: Option<Account>,
    shared: Arc<Shared>,
}

/// What is the same whoever acts.
struct Shared {
    /// Of whoever connected: which kinds there are is asked once, not for each account.
    client: Client,
    discovered: RwLock<Arc<Discovered>>,
    discovery: Mutex<Option<Instant>>,
    writes: Semaphore,
}

/// Is told the verb of every request.
pub type Observe = Arc<dyn Fn(&'static str) + Send + Sync>;

/// A request's verb as the API server counts it.
pub(super) fn verb(request: &Request<kube::client::Body>) -> &'static str {
    let watches =
        request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "watch=true"));
    match *request.method() {
        Method::GET if watches => "watch",
        Method::GET => "get",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "other",
    }
}

impl Cluster {
    /// Connects lazily: reads the kubeconfig, sends nothing yet.
    pub async fn connect(connection: &Connection) -> Result<Self> {
        Self::connect_observed(connection, Arc::new(|_| ())).await
    }

    /// As [`Cluster::connect`]; `observe` is told the verb of every request.
    pub async fn connect_observed(connection: &Connection, observe: Observe) -> Result<Self> {
        let invalid = |error: &dyn std::fmt::Display| Error::new(Code::KubeconfigInvalid, error.to_string());
        let options =
            KubeConfigOptions { context: connection.context.clone(), ..KubeConfigOptions::default() };
        let config = if let Some(path) = &connection.kubeconfig {
            let file = Kubeconfig::read_from(path).map_err(|error| invalid(&error))?;
            Config::from_custom_kubeconfig(file, &options).await.map_err(|error| invalid(&error))?
        } else if connection.context.is_some() {
            Config::from_kubeconfig(&options).await.map_err(|error| invalid(&error))?
        } else {
            Config::infer().await.map_err(|error| invalid(&error))?
        };
        Self::with(config, observe)
    }

    /// Connects to the cluster of a kubeconfig that was read with [`super::read_kubeconfig`].
    pub async fn connect_by(file: Kubeconfig, observe: Observe) -> Result<Self> {
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
        let config = config.map_err(|error| Error::new(Code::KubeconfigInvalid, error.to_string()))?;
        Self::with(config, observe)
    }

    fn with(mut config: Config, observe: Observe) -> Result<Self> {
        // Ours is the retry: a pass with backoff that newer commits supersede, not 15 tries in a row.
        config.default_retry = false;
        config.connect_timeout = Some(Duration::from_secs(10));
        let namespace = config.default_namespace.clone();
        let count = tower::util::MapRequestLayer::new(move |request: Request<kube::client::Body>| {
            observe(verb(&request));
            request
        });
        let builder = kube::client::ClientBuilder::try_from(config).map_err(|error| translate(&error))?;
        let queue = tower::buffer::BufferLayer::new(QUEUE);
        let client = builder.with_layer(&count).with_layer(&queue).with_layer(&PatienceLayer).build();
        let shared = Shared {
            client: client.clone(),
            discovered: RwLock::default(),
            discovery: Mutex::new(None),
            writes: Semaphore::new(WRITES),
        };
        Ok(Self { client, namespace, account: None, shared: Arc::new(shared) })
    }

    /// The same cluster, and the same connections, in the name of an account.
    ///
    /// # Errors
    /// `ApplicationInvalid` for a name that no account can have.
    pub fn acting_as(&self, account: &Account) -> Result<Self> {
        let user = account.to_string();
        let invalid = |_| Error::new(Code::ApplicationInvalid, format!("{user} is no name of an account"));
        let user = header::HeaderValue::from_str(&user).map_err(invalid)?;
        Ok(self.impersonating(user, account.namespace.clone(), Some(account.clone())))
    }

    /// The same cluster in the name of this user, as `kubectl --as` asks it.
    ///
    /// # Errors
    /// `Usage` for a name that no user can have.
    pub fn acting_as_user(&self, user: &str) -> Result<Self> {
        let invalid = |_| Error::new(Code::Usage, format!("{user:?} is no name of a user"));
        let user = header::HeaderValue::from_str(user).map_err(invalid)?;
        Ok(self.impersonating(user, self.namespace.clone(), None))
    }

    fn impersonating(&self, user: header::HeaderValue, namespace: String, account: Option<Account>) -> Self {
        let shared = self.shared.client.clone();
        let service = tower::service_fn(move |mut request: Request<kube::client::Body>| {
            request.headers_mut().insert("impersonate-user", user.clone());
            let client = shared.clone();
            async move { client.send(request).await }
        });
        Self {
            client: Client::new(service, namespace.clone()),
            namespace,
            account,
            shared: self.shared.clone(),
        }
    }

    /// In whose name requests are made; `None` for whoever connected.
    pub fn account(&self) -> Option<&Account> {
        self.account.as_ref()
    }

    /// The client, for our own typed objects.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The namespace of the context.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// What was discovered last.
    pub fn discovered(&self) -> Arc<Discovered> {
        self.shared
            .discovered
            .read()
            .map_or_else(|poisoned| poisoned.into_inner().clone(), |found| found.clone())
    }

    /// Asks which kinds there are, unless that is known.
    pub async fn discover(&self) -> Result<()> {
        if self.discovered().is_empty() {
            // Any kind that is always there.
            self.resource(&Gvk::parse("v1", "Namespace"), true).await?;
        }
        Ok(())
    }

    /// The kind; asks the server again when it is not known, at most every 5 s, unless `now`.
    pub async fn resource(&self, gvk: &Gvk, now: bool) -> Result<Resource> {
        if let Some(resource) = self.discovered().get(gvk) {
            return Ok(resource.clone());
        }
        let mut last = self.shared.discovery.lock().await;
        if let Some(resource) = self.discovered().get(gvk) {
            return Ok(resource.clone());
        }
        if now || last.is_none_or(|at| at.elapsed() > REDISCOVER) {
            self.ask(&mut last).await?;
        }
        let found = self.discovered();
        if found.get(gvk).is_none() && found.is_silent(gvk) {
            let why =
                format!("the API server behind {} does not answer, so {gvk} is not known", gvk.api_version());
            return Err(Error::new(Code::ApiUnreachable, why).hint("kubectl get apiservices"));
        }
        found.get(gvk).cloned().ok_or_else(|| {
            Error::new(Code::KindUnknown, format!("the cluster does not serve {gvk}"))
                .hint("install the CustomResourceDefinition, or add it to the same repository")
        })
    }

    async fn ask(&self, last: &mut Option<Instant>) -> Result<()> {
        let discovery = kube::Discovery::new(self.shared.client.clone()).run_aggregated().await;
        let discovery = discovery.map_err(|error| translate(&error))?;
        let version = self.shared.client.apiserver_version().await.map_err(|error| translate(&error))?;
        *last = Some(Instant::now());
        let found = Arc::new(Discovered::new(&discovery, version.git_version, &self.discovered()));
        match self.shared.discovered.write() {
            Ok(mut slot) => *slot = found,
            Err(poisoned) => *poisoned.into_inner() = found,
        }
        Ok(())
    }

    /// Asks which kinds there are, though they are known; what was known counts until the answer is there.
    ///
    /// # Errors
    /// Those of the API server.
    pub async fn rediscover(&self) -> Result<()> {
        self.ask(&mut *self.shared.discovery.lock().await).await
    }

    /// As [`Cluster::rediscover`], where what is known is older than this.
    ///
    /// # Errors
    /// Those of the API server.
    pub async fn rediscover_after(&self, age: Duration) -> Result<()> {
        let mut last = self.shared.discovery.lock().await;
        if last.is_some_and(|at| at.elapsed() < age) {
            return Ok(());
        }
        self.ask(&mut last).await
    }

    /// Forgets what is known of kinds, because a CRD came or went.
    pub async fn forget_kinds(&self) {
        *self.shared.discovery.lock().await = None;
        match self.shared.discovered.write() {
            Ok(mut slot) => *slot = Arc::default(),
            Err(poisoned) => *poisoned.into_inner() = Arc::default(),
        }
    }

    /// Server-side apply of canonical JSON. One request.
    pub async fn apply(
        &self,
        resource: &Resource,
        key: &Key,
        body: Vec<u8>,
        force: Force,
        check: Check,
    ) -> Result<Applied> {
        let forced = if force == Force::Yes { "&force=true" } else { "" };
        let url = format!("{}{forced}", writing(&path(resource, key), check));
        for again in (0..=CONFLICTS).rev() {
            let status =
                match self.write(Method::PATCH, &url, "application/apply-patch+yaml", body.clone()).await {
                    Ok(lean) => return Ok(Applied::Done(Box::new(lean))),
                    Err(kube::Error::Api(status)) if status.code == 409 => status,
                    Err(error) => return Err(translate(&error).on_object(key)),
                };
            let managers = conflicting_managers(&status);
            if force == Force::No && !managers.is_empty() {
                return Ok(Applied::Conflict(managers));
            }
            if again == 0 || !managers.is_empty() {
                return Err(translate(&kube::Error::Api(status)).on_object(key));
            }
            // Somebody else wrote at the same moment; the request reads anew by itself.
            tokio::time::sleep(spread(Duration::from_millis(100))).await;
        }
        Err(Error::new(Code::Internal, "an apply was not tried").on_object(key))
    }

    /// The whole live object, `None` where there is none.
    pub async fn get(&self, resource: &Resource, key: &Key) -> Result<Option<Value>> {
        let request = request(Method::GET, &path(resource, key), "", "application/json", Vec::new())?;
        match self.send::<Value>(request).await {
            Ok(value) => Ok(Some(value)),
            Err(kube::Error::Api(status)) if is_absent(&status) => Ok(None),
            Err(error) => Err(translate(&error).on_object(key)),
        }
    }

    /// What a chart's `lookup` asks for: the object, or a list where the name is empty, of all namespaces where the
    /// namespace is empty too.
    pub async fn look_up(&self, gvk: &Gvk, namespace: &str, name: &str) -> Result<Option<Value>> {
        let resource = self.resource(gvk, false).await?;
        let key = Key {
            group: gvk.group.clone(),
            kind: gvk.kind.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        if !name.is_empty() {
            return self.get(&resource, &key).await;
        }
        let url = path(&resource, &key);
        let request = request(Method::GET, url.trim_end_matches('/'), "", "application/json", Vec::new())?;
        self.send::<Value>(request).await.map(Some).map_err(|error| translate(&error).on_object(&key))
    }

    /// Asks whether the server would take the object: validation and admission, nothing is written.
    pub async fn try_apply(&self, resource: &Resource, key: &Key, body: Vec<u8>, check: Check) -> Result<()> {
        let url = format!("{}&force=true&dryRun=All", writing(&path(resource, key), check));
        match self.write(Method::PATCH, &url, "application/apply-patch+yaml", body).await {
            Ok(_) => Ok(()),
            Err(error) => Err(translate(&error).on_object(key)),
        }
    }

    /// Makes the object; `None` where one of this name is there.
    pub async fn create(
        &self,
        resource: &Resource,
        key: &Key,
        body: Vec<u8>,
        check: Check,
    ) -> Result<Option<Lean>> {
        let whole = path(resource, key);
        let folder = whole.rsplit_once('/').map_or(whole.as_str(), |(folder, _)| folder);
        match self.write(Method::POST, &writing(folder, check), "application/json", body).await {
            Ok(lean) => Ok(Some(lean)),
            Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => {
                Ok(None)
            }
            Err(error) => Err(translate(&error).on_object(key)),
        }
    }

    /// Puts the object in the place of the one that is there; nothing where none is. What others own of it is lost.
    pub async fn replace(&self, resource: &Resource, key: &Key, body: Vec<u8>, check: Check) -> Result<()> {
        let Some(live) = self.look(resource, key).await? else { return Ok(()) };
        let broken = |error: serde_json::Error| Error::new(Code::Internal, error.to_string());
        let mut object: Value = serde_json::from_slice(&body).map_err(broken)?;
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("resourceVersion".into(), live.metadata.resource_version.into());
        }
        let bytes = object.to_string().into_bytes();
        match self.write(Method::PUT, &writing(&path(resource, key), check), "application/json", bytes).await
        {
            Ok(_) => Ok(()),
            Err(error) => Err(translate(&error).on_object(key)),
        }
    }

    /// The objects of a kind in a namespace that a label selector selects. One request.
    pub async fn list_selected(&self, gvk: &Gvk, namespace: &str, selector: &str) -> Result<Vec<Value>> {
        let resource = self.resource(gvk, false).await?;
        let key = Key {
            group: gvk.group.clone(),
            kind: gvk.kind.clone(),
            namespace: namespace.to_owned(),
            name: String::new(),
        };
        let url = path(&resource, &key);
        // Labels have no character that an address could not hold.
        let url = format!("{}?labelSelector={selector}", url.trim_end_matches('/'));
        let request = request(Method::GET, &url, "", "application/json", Vec::new())?;
        let listed: Value = self.send(request).await.map_err(|error| translate(&error).on_object(&key))?;
        Ok(listed["items"].as_array().cloned().unwrap_or_default())
    }

    /// Gives an object another number of pods, by a merge patch, under a name of its own: an apply of the same object says
    /// nothing of it.
    pub async fn resize(&self, gvk: &Gvk, key: &Key, patch: &Value) -> Result<Lean> {
        self.patch_beside(gvk, key, "", patch).await
    }

    /// Writes into the status of another controller's object what makes it act, as its own command line does.
    ///
    /// # Errors
    /// Those of the API server; `ConflictRefused` where the patch names a resourceVersion that is not the newest.
    pub async fn wish(&self, gvk: &Gvk, key: &Key, patch: &Value) -> Result<Lean> {
        self.patch_beside(gvk, key, "/status", patch).await
    }

    async fn patch_beside(&self, gvk: &Gvk, key: &Key, part: &str, patch: &Value) -> Result<Lean> {
        let resource = self.resource(gvk, false).await.map_err(|error| error.on_object(key))?;
        let url = format!("{}{part}?fieldManager={RESIZER}", path(&resource, key));
        let body = patch.to_string().into_bytes();
        let written = self.write(Method::PATCH, &url, "application/merge-patch+json", body).await;
        written.map_err(|error| translate(&error).on_object(key))
    }

    /// What is kept of the live object, read from etcd and not from a cache; `None` where there is none.
    pub async fn look(&self, resource: &Resource, key: &Key) -> Result<Option<Lean>> {
        let request = request(Method::GET, &path(resource, key), "", METADATA, Vec::new())?;
        match self.send::<Lean>(request).await {
            Ok(lean) => Ok(Some(lean)),
            Err(kube::Error::Api(status)) if is_absent(&status) => Ok(None),
            Err(error) => Err(translate(&error).on_object(key)),
        }
    }

    /// Takes one finalizer off the object with this uid; nothing where it has none.
    pub async fn take_finalizer(&self, resource: &Resource, key: &Key, uid: &str, name: &str) -> Result<()> {
        let Some(live) = self.look(resource, key).await? else { return Ok(()) };
        let finalizers = live.metadata.finalizers.unwrap_or_default();
        if live.metadata.uid.as_deref() != Some(uid) || !finalizers.iter().any(|found| found == name) {
            return Ok(());
        }
        let left: Vec<&String> = finalizers.iter().filter(|found| *found != name).collect();
        // The resourceVersion makes sure that nobody's finalizer is lost.
        let patch = serde_json::json!({"metadata": {
            "uid": uid, "resourceVersion": live.metadata.resource_version, "finalizers": left}});
        let url = format!("{}?fieldManager={FIELD_MANAGER}", path(resource, key));
        let bytes = patch.to_string().into_bytes();
        match self.write(Method::PATCH, &url, "application/merge-patch+json", bytes).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(translate(&error).on_object(key)),
        }
    }

    /// Deletes the object with exactly this uid (I1).
    pub async fn delete(
        &self,
        resource: &Resource,
        key: &Key,
        uid: &str,
        propagation: Propagation,
    ) -> Result<Deleted> {
        let body = serde_json::json!({
            "apiVersion": "v1", "kind": "DeleteOptions",
            "preconditions": {"uid": uid}, "propagationPolicy": format!("{propagation:?}"),
        });
        let bytes = body.to_string().into_bytes();
        match self.write(Method::DELETE, &path(resource, key), "application/json", bytes).await {
            // What is gone is answered with a Status, or with the object as it was.
            Ok(left) if left.metadata.deletion_timestamp.is_some() => Ok(Deleted::Leaving),
            Ok(_) => Ok(Deleted::Gone),
            Err(kube::Error::Api(status)) if is_absent(&status) => Ok(Deleted::NotThere),
            Err(kube::Error::Api(status)) if status.code == 409 && status.message.contains("UID") => {
                Ok(Deleted::NotThere)
            }
            Err(error) => Err(translate(&error).on_object(key)),
        }
    }

    pub(super) async fn write(
        &self,
        method: Method,
        url: &str,
        content: &str,
        body: Vec<u8>,
    ) -> Result<Lean, kube::Error> {
        let _permit = self.shared.writes.acquire().await;
        let request = match request(method, url, content, METADATA, body) {
            Ok(request) => request,
            Err(error) => return Err(kube::Error::Service(Box::new(error))),
        };
        self.send(request).await
    }

    pub(super) async fn send<T: serde::de::DeserializeOwned>(
        &self,
        request: Request<Vec<u8>>,
    ) -> Result<T, kube::Error> {
        match tokio::time::timeout(REQUEST, self.client.request::<T>(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(kube::Error::Service("no answer from the API server within 30 s".into())),
        }
    }
}

/// As our manager.
fn writing(path: &str, check: Check) -> String {
    format!("{path}?fieldManager={FIELD_MANAGER}&fieldValidation={}", check.word())
}

/// `/apis/apps/v1/namespaces/ml/deployments/fraud`.
pub(super) fn path(resource: &Resource, key: &Key) -> String {
    let namespace = (resource.namespaced && !key.namespace.is_empty()).then_some(key.namespace.as_str());
    format!("{}/{}", DynamicObject::url_path(&resource.api, namespace), key.name)
}

pub(super) fn request(
    method: Method,
    url: &str,
    content: &str,
    accept: &str,
    body: Vec<u8>,
) -> Result<Request<Vec<u8>>> {
    let mut builder = Request::builder().method(method).uri(url).header(header::ACCEPT, accept);
    if !content.is_empty() {
        builder = builder.header(header::CONTENT_TYPE, content);
    }
    builder
        .body(body)
        .map_err(|error| Error::new(Code::ManifestIncomplete, format!("not a usable name: {error}")))
}
