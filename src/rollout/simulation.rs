//! A policy on a cluster that is made up: what it does, decision by decision, offline.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::policy::seconds;
use super::{Command, Decision, Measurement, Policy, Routed, Seen, Side, Sizing, Traffic, decide};
use crate::api::{GateAnswer, RolloutAct, RolloutPhase, RolloutRevision, RolloutStatus, RolloutVerb};
use crate::error::{Code, Error, Result};

/// Decisions after which a simulation ends that comes to no rest.
const MOST: usize = 20_000;
/// When a pod serves that has no place.
const NEVER: i64 = i64::MAX;
/// Where a simulation begins, so that the same file gives the same lines.
const BEGIN: &str = "2026-01-01T00:00:00Z";

/// A cluster that is made up, and what happens to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    /// Pods that the target is to have.
    #[serde(default = "ten")]
    pub replicas: u32,
    /// Who divides the traffic.
    #[serde(default)]
    pub traffic: Divider,
    /// Pods that the nodes have a place for, of both sides; any number where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub places: Option<u32>,
    /// How long a pod takes to serve, such as 20s.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ready_after: String,
    /// The revision that is deployed; none where empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stable: String,
    /// The revision that Git has at the beginning.
    pub wanted: String,
    /// What gates answer, one after the other; the last answer goes on. `pass` where a gate is not named.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub gates: BTreeMap<String, Vec<GateAnswer>>,
    /// What happens, in the order of time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
}

fn ten() -> u32 {
    10
}

/// Who divides the traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Divider {
    /// A router, by weight.
    #[default]
    Router,
    /// The number of pods.
    Pods,
}

/// Something that happens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Event {
    /// When, from the beginning: 90s, 10m, 1h30m.
    pub at: String,
    /// Git has this revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<String>,
    /// A person asks for this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<RolloutVerb>,
    /// The gate that they approve or deny, as of the revision and step that are there then.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub gate: String,
    /// Who they are; `script` where not given.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// The target is to have so many pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// At most so many pods of the candidate serve from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate_serves: Option<u32>,
    /// The nodes have a place for so many pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub places: Option<u32>,
    /// The router does what it is told, or nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router_works: Option<bool>,
}

/// What was decided at a time.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// Seconds from the beginning.
    pub at: i64,
    /// Where it stands.
    pub phase: RolloutPhase,
    /// The step, from 1.
    pub step: u32,
    /// Percent of the traffic that the candidate gets.
    pub weight: u32,
    /// Pods of the target: as told, and serving.
    pub stable: [u32; 2],
    /// Pods of the candidate: as told, and serving.
    pub candidate: [u32; 2],
    /// What was done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
    /// Gates with their answers: passed and failed.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub gates: BTreeMap<String, [u32; 2]>,
    /// What it waits for, or why it ended.
    pub message: String,
}

#[derive(Clone, Debug, Default)]
struct Pods {
    digest: String,
    /// When each of them serves.
    ready: Vec<i64>,
}

impl Pods {
    fn resize(&mut self, size: u32, ready: i64) {
        // The youngest go first, as those that do not serve yet.
        self.ready.sort_unstable();
        self.ready.resize(size as usize, ready);
    }

    /// Pods that have a place.
    fn placed(&self) -> usize {
        self.ready.iter().filter(|ready| **ready != NEVER).count()
    }

    fn side(&self, now: i64, most: u32) -> Side {
        let serving = self.ready.iter().filter(|ready| **ready <= now).count();
        let size = u32::try_from(self.ready.len()).unwrap_or(u32::MAX);
        let available = u32::try_from(serving).unwrap_or(u32::MAX).min(most);
        let obstacle = if self.ready.contains(&NEVER) { "a pod has no place" } else { "" }.to_owned();
        // All of them change at once, so none is left of before.
        Side {
            digest: self.digest.clone(),
            size,
            pods: size,
            available,
            settled: true,
            obstacle,
            ..Side::default()
        }
    }
}

/// A cluster that is made up, at a time.
pub struct Simulation {
    policy: Policy,
    scenario: Scenario,
    /// What is written down.
    pub status: RolloutStatus,
    begin: Timestamp,
    now: i64,
    ready_after: i64,
    events: VecDeque<(i64, Event)>,
    wanted: RolloutRevision,
    act: Option<RolloutAct>,
    acts: u32,
    stable: Option<Pods>,
    candidate: Option<Pods>,
    serves: u32,
    routed: Routed,
    router_works: bool,
    asked: BTreeMap<String, usize>,
    measured: Vec<Measurement>,
}

fn revision(name: &str) -> RolloutRevision {
    RolloutRevision { digest: name.to_owned(), commit: String::new() }
}

impl Simulation {
    /// At its beginning.
    ///
    /// # Errors
    /// `RolloutInvalid` for times that are none, and events out of order.
    pub fn new(policy: Policy, scenario: Scenario) -> Result<Self> {
        let mut events = VecDeque::new();
        let mut last = 0;
        for (number, event) in scenario.events.iter().enumerate() {
            let at = seconds(&event.at, &format!("events[{number}].at"))?.unwrap_or(0);
            if at < last {
                let why = format!("events[{number}].at: {} is before the event before it", event.at);
                return Err(Error::new(Code::RolloutInvalid, why));
            }
            last = at;
            events.push_back((at, event.clone()));
        }
        let ready_after = seconds(&scenario.ready_after, "readyAfter")?.unwrap_or(0);
        let stable = (!scenario.stable.is_empty())
            .then(|| Pods { digest: scenario.stable.clone(), ready: vec![0; scenario.replicas as usize] });
        Ok(Self {
            wanted: revision(&scenario.wanted),
            begin: BEGIN.parse().unwrap_or(Timestamp::UNIX_EPOCH),
            policy,
            scenario,
            status: RolloutStatus::default(),
            now: 0,
            ready_after,
            events,
            act: None,
            acts: 0,
            stable,
            candidate: None,
            serves: u32::MAX,
            routed: Routed::default(),
            router_works: true,
            asked: BTreeMap::new(),
            measured: Vec::new(),
        })
    }

    fn time(&self) -> Timestamp {
        self.begin.checked_add(SignedDuration::from_secs(self.now)).unwrap_or(Timestamp::MAX)
    }

    fn sides(&self) -> (Option<Side>, Option<Side>) {
        let stable = self.stable.as_ref().map(|pods| pods.side(self.now, u32::MAX));
        (stable, self.candidate.as_ref().map(|pods| pods.side(self.now, self.serves)))
    }

    /// Whether pods are missing that have no place, and no others.
    fn is_short_of_places(&self) -> bool {
        let all = [&self.stable, &self.candidate];
        let mut missing = all.into_iter().flatten().flat_map(|pods| &pods.ready).filter(|at| **at > self.now);
        let first = missing.next();
        first == Some(&NEVER) && missing.all(|at| *at == NEVER)
    }

    /// Pods come to the places that are free, those of the target first.
    fn place(&mut self) {
        let Some(places) = self.scenario.places else { return };
        let ready = self.now + self.ready_after;
        let mut all = [&mut self.stable, &mut self.candidate];
        let taken: usize = all.iter().filter_map(|pods| pods.as_ref()).map(Pods::placed).sum();
        let free = (places as usize).saturating_sub(taken);
        let waiting = all.iter_mut().filter_map(|pods| pods.as_mut()).flat_map(|pods| &mut pods.ready);
        waiting.filter(|at| **at == NEVER).take(free).for_each(|at| *at = ready);
    }

    fn happen(&mut self) {
        while self.events.front().is_some_and(|(at, _)| *at <= self.now) {
            let Some((_, event)) = self.events.pop_front() else { break };
            if let Some(wanted) = event.wanted {
                self.wanted = revision(&wanted);
            }
            if let Some(replicas) = event.replicas {
                self.scenario.replicas = replicas;
            }
            if let Some(serves) = event.candidate_serves {
                self.serves = serves;
            }
            if let Some(places) = event.places {
                self.scenario.places = Some(places);
            }
            if let Some(works) = event.router_works {
                self.router_works = works;
            }
            if let Some(verb) = event.act {
                self.acts += 1;
                let decides = matches!(verb, RolloutVerb::Approve | RolloutVerb::Deny);
                let candidate = self.status.candidate.as_ref().filter(|_| decides);
                self.act = Some(RolloutAct {
                    by: if event.by.is_empty() { "script".to_owned() } else { event.by },
                    gate: event.gate,
                    revision: candidate.map(|candidate| candidate.digest.clone()).unwrap_or_default(),
                    step: decides.then_some(self.status.step),
                    ..RolloutAct::new(self.acts.to_string(), verb)
                });
            }
        }
    }

    /// What is decided now; nothing is done yet.
    pub fn ask(&mut self) -> Decision {
        self.happen();
        self.place();
        let (stable, candidate) = self.sides();
        decide(
            &self.policy,
            &self.status,
            &Seen {
                sizing: Sizing::Rollout,
                now: self.time(),
                since: self.begin,
                unschedulable: self.is_short_of_places(),
                wanted: &self.wanted,
                replicas: self.scenario.replicas,
                stable: stable.as_ref(),
                candidate: candidate.as_ref(),
                traffic: match self.scenario.traffic {
                    Divider::Router => Traffic::Router(Some(self.routed.clone())),
                    Divider::Pods => Traffic::Pods,
                },
                measured: &self.measured,
                act: self.act.as_ref(),
            },
        )
    }

    /// Writes a status down. What was measured is in it.
    pub fn write(&mut self, status: RolloutStatus) {
        self.status = status;
        self.measured.clear();
    }

    /// Does what was decided.
    pub fn act(&mut self, command: &Command) {
        let ready = if self.scenario.places.is_some() { NEVER } else { self.now + self.ready_after };
        match command {
            Command::Create(revision, size) => {
                let mut pods = Pods { digest: revision.digest.clone(), ready: Vec::new() };
                pods.resize(*size, ready);
                self.candidate = Some(pods);
            }
            Command::SizeCandidate(size) => {
                if let Some(pods) = &mut self.candidate {
                    pods.resize(*size, ready);
                }
            }
            Command::SizeStable(size) => {
                if let Some(pods) = &mut self.stable {
                    pods.resize(*size, ready);
                }
            }
            Command::Route(routed) if self.router_works => self.routed = routed.clone(),
            Command::Route(_) => {}
            Command::Apply(revision) => {
                let size =
                    self.stable.as_ref().map_or(self.scenario.replicas as usize, |pods| pods.ready.len());
                self.stable = Some(Pods { digest: revision.digest.clone(), ready: vec![ready; size] });
            }
            Command::Retire => self.candidate = None,
            Command::Measure(gate) => self.measure(gate),
        }
        self.place();
    }

    fn measure(&mut self, gate: &str) {
        let asked = self.asked.entry(gate.to_owned()).or_default();
        let answers = self.scenario.gates.get(gate).map_or(&[][..], Vec::as_slice);
        let answer = answers.get(*asked).or(answers.last()).copied().unwrap_or(GateAnswer::Pass);
        *asked += 1;
        let message = match answer {
            GateAnswer::Pass | GateAnswer::Fail => "as the script says",
            GateAnswer::NoData => "the script has no data",
            GateAnswer::Error => "the script has an error",
        };
        let gate = gate.to_owned();
        self.measured.push(Measurement { gate, answer, value: None, message: message.to_owned() });
    }

    /// Goes to the next moment at which something can happen; false where nothing does.
    pub fn pass(&mut self, again: Option<Timestamp>) -> bool {
        let again = again.map(|at| at.as_second() - self.begin.as_second());
        let ready = [&self.stable, &self.candidate].into_iter().flatten();
        let ready = ready
            .flat_map(|pods| pods.ready.iter().copied())
            .filter(|at| *at > self.now && *at != NEVER)
            .min();
        let event = self.events.front().map(|(at, _)| *at);
        let Some(next) = [again, ready, event].into_iter().flatten().filter(|at| *at > self.now).min() else {
            return false;
        };
        self.now = next;
        true
    }

    /// What there is to say now.
    fn line(&self, commands: &[Command], message: &str) -> Line {
        let (stable, candidate) = self.sides();
        let pods = |side: Option<Side>| side.map_or([0, 0], |side| [side.size, side.available]);
        let [_, stable_serves] = pods(stable.clone());
        let [_, candidate_serves] = pods(candidate.clone());
        let weight = match self.scenario.traffic {
            Divider::Router => self.routed.weight,
            Divider::Pods => {
                (candidate_serves * 100).checked_div(candidate_serves + stable_serves).unwrap_or(0)
            }
        };
        Line {
            at: self.now,
            phase: self.status.phase,
            step: self.status.step + 1,
            weight,
            stable: pods(stable),
            candidate: pods(candidate),
            commands: commands.iter().map(ToString::to_string).collect(),
            gates: self
                .status
                .gates
                .iter()
                .map(|gate| (gate.name.clone(), [gate.passed, gate.failed]))
                .collect(),
            message: message.to_owned(),
        }
    }

    /// Runs to its end: nothing is waited for and nothing more happens.
    pub fn run(&mut self) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for _ in 0..MOST {
            let decision = self.ask();
            if let Some(status) = decision.status {
                self.write(status);
                continue;
            }
            decision.commands.iter().for_each(|command| self.act(command));
            let line = self.line(&decision.commands, &decision.message);
            // A measurement is news when it has ended.
            let asks = |command: &Command| matches!(command, Command::Measure(_));
            let only_asks = !decision.commands.is_empty() && decision.commands.iter().all(asks);
            let news =
                !only_asks && lines.last().is_none_or(|last| Line { at: last.at, ..line.clone() } != *last);
            if news {
                lines.push(line);
            }
            let acted = decision
                .commands
                .iter()
                .any(|command| !matches!(command, Command::Route(_) if !self.router_works));
            if acted {
                // What was done is seen a second later.
                self.now += 1;
            } else if !self.pass(decision.again) {
                break;
            }
        }
        lines
    }

    /// A second passes, or the time until something happens where commands have no effect.
    #[cfg(test)]
    pub(super) fn tick(&mut self, again: Option<Timestamp>) -> bool {
        if self.router_works {
            self.now += 1;
            return true;
        }
        self.pass(again)
    }

    /// As many pods serve as there are to be, on the whole and for the traffic of each side, save so many.
    #[cfg(test)]
    pub(super) fn assert_no_more_missing(&self, unavailable: u32) {
        let replicas = self.scenario.replicas;
        let serve = |side: Option<Side>| side.map_or(0, |side| side.available);
        let (stable, candidate) = self.sides();
        let (stable, candidate) = (serve(stable), serve(candidate));
        let status = &self.status;
        assert!(stable + candidate + unavailable >= replicas, "{stable} and {candidate}: {status:?}");
        if self.scenario.traffic == Divider::Router {
            let weight = self.routed.weight;
            assert!(
                candidate + unavailable >= replicas * weight / 100,
                "{candidate} at {weight} %: {status:?}"
            );
            assert!(
                stable + unavailable >= replicas * (100 - weight) / 100,
                "{stable} at {weight} %: {status:?}"
            );
        }
    }

    /// No traffic to what does not serve.
    #[cfg(test)]
    pub(super) fn assert_served(&self, command: &Command) {
        if let Command::Route(routed) = command
            && *routed != Routed::default()
        {
            let (_, candidate) = self.sides();
            assert!(candidate.is_some_and(|side| side.available > 0), "{command} to nobody");
        }
    }

    /// Everything is as if there were no policy.
    #[cfg(test)]
    pub(super) fn assert_at_rest(&self, digest: &str) {
        let (stable, candidate) = self.sides();
        let stable = stable.expect("a target");
        assert_eq!((stable.digest.as_str(), stable.size), (digest, self.scenario.replicas));
        assert_eq!(candidate, None);
        assert_eq!(self.routed, Routed::default());
    }
}
