//! Rollouts in a pass.
//!
//! 1. `stand`: of each policy, before anything is applied: may its target be applied as any other object, or is it held
//!    back, because what is live is another revision than Git wants?
//! 2. The sync goes on without what is held back. Where it comes to it, it is handed over.
//! 3. `course`: the machine is asked what to do with what is seen (`scene`), and that is done (`acts`; `candidate` has what
//!    stands beside a target, `revision` the objects of each commit), until there is nothing to do now. Every decision is
//!    written into the policy's status before it has effects, by compare-and-set.
//!
//! Events of the target, of what stands beside it and of its routes begin passes, as those of all objects do. What is
//! remembered between passes can be lost: it saves requests.

mod acts;
mod candidate;
mod course;
mod endpoints;
mod revision;
mod routes;
mod scene;
mod stand;
mod status;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;

pub(super) use self::course::{Asked, Ended, Whence};
use self::endpoints::Endpoints;
pub(super) use self::stand::Stand;
use super::gates::{Gates, Measured};
use super::guard;
use crate::api::{Gate, ROLLOUT_REQUEST, RolloutAct, RolloutPhase, RolloutStatus};
use crate::health::Health;
use crate::live::kube::{Cluster, Following};
use crate::model::{Digest, Key};
use crate::rollout::provider::About;
use crate::rollout::{Bound, Measurement};

/// How soon a measurement that is under way is looked at again: a tenth of the time that it has taken, between these. One of
/// hours costs four requests a minute, and its answer is a minute's fraction late.
const PENDING: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

fn pause(taken: Duration) -> Duration {
    (taken / 10).clamp(PENDING.0, PENDING.1)
}

/// Seconds after which a rollout on its way was not looked at: passes come every 5 s, and every 6 minutes at least where they
/// fail.
const BREAK: i64 = 60;
const BREAK_OF_FAILED: i64 = 400;

/// What is held back in a pass, with how its rollout stands.
#[derive(Clone, Debug, Default)]
pub struct Held {
    objects: BTreeMap<Key, Health>,
}

impl Held {
    /// How the rollout of an object stands; `None` for what is applied as usual.
    pub fn get(&self, key: &Key) -> Option<&Health> {
        self.objects.get(key)
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    fn add(&mut self, key: &Key, health: &Health) {
        self.objects.insert(key.clone(), health.clone());
    }
}

/// A policy as it was read last, or written.
#[derive(Clone, Debug, Default)]
pub(super) struct Policy {
    uid: String,
    version: u64,
    resource_version: String,
    generation: i64,
    status: RolloutStatus,
    /// What a person asks for.
    act: Option<RolloutAct>,
    /// A request that nobody can read.
    unreadable: Option<String>,
}

impl Policy {
    fn read(live: &Value) -> Self {
        let metadata = &live["metadata"];
        let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
        let request = metadata["annotations"][ROLLOUT_REQUEST].as_str().filter(|text| !text.is_empty());
        let act = request.map(RolloutAct::requested);
        Self {
            uid: text("uid"),
            version: text("resourceVersion").parse().unwrap_or_default(),
            resource_version: text("resourceVersion"),
            generation: metadata["generation"].as_i64().unwrap_or_default(),
            // A status that cannot be read is none: whatever is live is taken for the stable revision.
            status: serde_json::from_value(live["status"].clone()).unwrap_or_default(),
            unreadable: act.as_ref().and_then(|act| act.as_ref().err().cloned()),
            act: act.and_then(Result::ok),
        }
    }

    /// A request that is not done yet.
    fn asks(&self) -> Option<&RolloutAct> {
        self.act.as_ref().filter(|act| self.status.acts.iter().all(|done| done.id != act.id))
    }

    /// Whether users get what Git wants.
    fn is_settled(&self, bound: &Bound) -> bool {
        let stable = self.status.stable.as_ref();
        self.status.phase == RolloutPhase::Healthy
            && stable.is_some_and(|stable| stable.digest == bound.revision)
    }

    fn is_at_rest(&self) -> bool {
        matches!(self.status.phase, RolloutPhase::Pending | RolloutPhase::Healthy | RolloutPhase::Rejected)
    }
}

/// What is remembered of one policy between passes.
#[derive(Default)]
pub(super) struct Remembered {
    policy: Option<Policy>,
    /// Digests of what was written beside the target last, by object.
    written: HashMap<Key, Digest>,
    /// Measurements that have ended and are not written down.
    measured: Arc<Mutex<Vec<Answer>>>,
    /// Gates that are being asked, by name.
    asking: Arc<Mutex<HashMap<String, Asking>>>,
    /// Where the rollout stood when what ran for measurements was last looked through.
    tidied: Option<Place>,
    /// When words alone were written last, in seconds.
    said: i64,
    /// When what a router is to do was written last.
    routed_at: Option<Instant>,
    endpoints: Endpoints,
    /// Its objects, until it is at rest.
    following: Option<Following>,
    /// When it was looked at last, and since when without a break.
    looked: Option<(Timestamp, Timestamp)>,
    /// What was to be done then could not be done.
    failed: bool,
}

/// Where a rollout stands: phase, step, and the candidate's digest.
type Place = (RolloutPhase, u32, String);

/// A measurement that is under way.
struct Asking {
    turn: String,
    revision: String,
    task: tokio::task::AbortHandle,
}

/// A measurement that has ended.
struct Answer {
    /// Which one it is of its gate.
    turn: String,
    revision: String,
    measurement: Measurement,
}

/// What a measurement needs.
pub(super) struct Question {
    pub(super) cluster: Arc<Cluster>,
    pub(super) gates: Arc<Gates>,
    pub(super) gate: Gate,
    pub(super) about: About,
}

impl Remembered {
    /// Notes that it is looked at; since when that is so without a break.
    fn looks(&mut self, now: Timestamp) -> Timestamp {
        let most = if self.failed { BREAK_OF_FAILED } else { BREAK };
        let is_on = |last: Timestamp| (0..=most).contains(&(now.as_second() - last.as_second()));
        let since = self.looked.filter(|(last, _)| is_on(*last)).map_or(now, |(_, since)| since);
        self.looked = Some((now, since));
        since
    }

    /// Begins to ask a gate, unless it is being asked; `done` when its answer is here.
    pub(super) fn ask(&self, question: Question, done: impl FnOnce() + Send + 'static) {
        let Question { cluster, gates, gate, about } = question;
        let name = gate.name.clone();
        let (turn, revision) = (about.turn.clone(), about.revision.clone());
        let is_this = {
            let (turn, revision) = (turn.clone(), revision.clone());
            move |known: &Asking| known.turn == turn && known.revision == revision
        };
        let mut all = guard(&self.asking);
        if all.get(&name).is_some_and(&is_this) {
            return;
        }
        // It came while this pass was on its way.
        let is_it = |answer: &Answer| answer.measurement.gate == name && answer.turn == turn;
        if guard(&self.measured).iter().any(is_it) {
            return;
        }
        let (measured, asking, asked) = (self.measured.clone(), self.asking.clone(), name.clone());
        let task = tokio::spawn(async move {
            let begin = Instant::now();
            let measurement = loop {
                match gates.measure(&cluster, &gate, &about).await {
                    Measured::Done(measurement) => break measurement,
                    Measured::Pending => tokio::time::sleep(pause(begin.elapsed())).await,
                }
            };
            let About { turn, revision, .. } = about;
            guard(&measured).push(Answer { turn, revision, measurement });
            let mut asking = guard(&asking);
            if asking.get(&asked).is_some_and(is_this) {
                asking.remove(&asked);
            }
            drop(asking);
            done();
        });
        let asking = Asking { turn, revision, task: task.abort_handle() };
        if let Some(older) = all.insert(name, asking) {
            // Its answer would be nobody's.
            older.task.abort();
        }
    }

    /// Ends measurements that nobody waits for; whether there were any.
    fn forget(&self, is_awaited: impl Fn(&str, &str, &str) -> bool) -> bool {
        let mut all = guard(&self.asking);
        let before = all.len();
        all.retain(|name, asking| {
            let keeps = is_awaited(name, &asking.turn, &asking.revision);
            if !keeps {
                asking.task.abort();
            }
            keeps
        });
        all.len() < before
    }

    /// Answers to what the machine asks now, one for each gate; those to older questions are nobody's.
    fn answers(&self, status: &RolloutStatus) -> Vec<Measurement> {
        let revision = status.candidate.as_ref().map(|candidate| candidate.digest.as_str());
        let all = std::mem::take(&mut *guard(&self.measured));
        let mut heard = HashSet::new();
        let is_awaited = |answer: &Answer| {
            let gate = status.gates.iter().find(|gate| gate.name == answer.measurement.gate);
            revision == Some(answer.revision.as_str())
                && gate.map(About::next).as_ref() == Some(&answer.turn)
                && heard.insert(answer.measurement.gate.clone())
        };
        all.into_iter().filter(is_awaited).map(|answer| answer.measurement).collect()
    }
}

/// All policies of an application.
#[derive(Default)]
pub(super) struct Memories {
    all: HashMap<Key, Remembered>,
}

impl Memories {
    /// Of a policy.
    pub(super) fn of(&mut self, policy: &Key) -> &mut Remembered {
        self.all.entry(policy.clone()).or_default()
    }

    /// Forgets policies that are not there any more.
    pub(super) fn keep<'a>(&mut self, policies: impl Iterator<Item = &'a Key>) {
        if self.all.is_empty() {
            return;
        }
        let policies: HashSet<&Key> = policies.collect();
        self.all.retain(|policy, _| policies.contains(policy));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{GateAnswer, GateStatus, RolloutRevision};

    #[test]
    fn a_question_has_one_answer() {
        let answer = |gate: &str, turn: &str, revision: &str, value: f64| Answer {
            turn: turn.into(),
            revision: revision.into(),
            measurement: Measurement {
                gate: gate.into(),
                answer: GateAnswer::Fail,
                value: Some(value),
                message: String::new(),
            },
        };
        let memory = Remembered::default();
        guard(&memory.measured).extend([
            answer("latency", "t1", "v2", 1.0),
            // Asked while the one before it was on its way.
            answer("latency", "t1", "v2", 2.0),
            answer("success", "t0", "v2", 3.0),
            answer("success", "t1", "v1", 4.0),
            answer("success", "t1", "v2", 5.0),
        ]);
        let gate =
            |name: &str| GateStatus { name: name.into(), measured_at: "t1".into(), ..GateStatus::default() };
        let status = RolloutStatus {
            candidate: Some(RolloutRevision { digest: "v2".into(), ..RolloutRevision::default() }),
            gates: vec![gate("latency"), gate("success")],
            ..RolloutStatus::default()
        };
        let values = |all: Vec<Measurement>| all.iter().filter_map(|one| one.value).collect::<Vec<_>>();
        assert_eq!(values(memory.answers(&status)), [1.0, 5.0]);
        assert!(memory.answers(&status).is_empty());
    }

    #[test]
    fn what_takes_long_is_asked_for_seldom() {
        let seconds = |taken: u64| pause(Duration::from_secs(taken)).as_secs();
        assert_eq!([0, 9, 60, 149, 7200].map(seconds), [1, 1, 6, 14, 15]);
    }
}
