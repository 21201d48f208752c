//! A policy as the machine reads it: every strategy is a list of steps.

use std::collections::{BTreeMap, BTreeSet};

use super::gate::Rule;
use super::machine::Routed;
use super::replicas::Share;
use crate::api::{
    BlueGreen, Canary, HeaderMatch, KnownGood, Rolling, RolloutPolicySpec, Shadow, Unschedulable,
};
use crate::error::{Code, Error, Result};
use crate::model::duration;

/// Seconds for which the progress of a step is waited for.
const DEADLINE: i64 = 600;
/// Seconds for which a rejected revision stays, and an old one after a switch.
const DELAY: i64 = 30;

/// How long a step stays once it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// These seconds.
    For(i64),
    /// Until somebody promotes it.
    Promoted,
}

impl Default for Hold {
    fn default() -> Self {
        Self::For(0)
    }
}

/// How many pods the candidate has in a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Size {
    /// As many as its weight asks for, and what is copied.
    #[default]
    ByWeight,
    /// So many.
    Pods(u32),
    /// This share of the target's replicas, in percent, rounded up.
    Percent(u32),
}

/// One step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Percent of the traffic.
    pub weight: u32,
    /// Percent of the traffic that is copied.
    pub mirror: u32,
    /// Requests with all of these headers go to the candidate only, in the order of their names.
    pub headers: Vec<HeaderMatch>,
    /// Pods.
    pub size: Size,
    /// Time.
    pub hold: Hold,
    /// Gates that must pass.
    pub gates: Vec<String>,
    /// The stable side keeps the pods that it has, for the way back.
    pub keeps: bool,
}

impl Step {
    /// All of the traffic.
    fn all(hold: Hold) -> Self {
        Self { weight: 100, hold, ..Self::default() }
    }

    /// What a router is to do.
    pub(super) fn routed(&self) -> Routed {
        Routed { weight: self.weight, mirror: self.mirror, headers: self.headers.clone() }
    }
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// At least one; the last one has all of the traffic.
    pub steps: Vec<Step>,
    /// Gates that are asked from the first weight on.
    pub background: Vec<String>,
    /// All gates by name.
    pub gates: BTreeMap<String, Rule>,
    /// Seconds without progress.
    pub deadline: i64,
    /// Seconds for which a rejected revision stays.
    pub abort_delay: i64,
    /// What is done where pods cannot be scheduled.
    pub unschedulable: Unschedulable,
    /// What was good before goes without steps.
    pub skips_known_good: bool,
    /// Pods above the replicas.
    pub surge: Share,
    /// Pods that may be missing.
    pub unavailable: Share,
    /// Pods of the candidate at least, with a router.
    pub min_replicas: u32,
    /// The stable side shrinks as its traffic goes.
    pub dynamic: bool,
    /// The target's kind goes from one revision to the other in its own way.
    pub rolls: bool,
}

fn invalid(field: &str, why: impl std::fmt::Display) -> Error {
    Error::new(Code::RolloutInvalid, format!("spec.{field}: {why}"))
}

/// `1h30m` in seconds; `None` where nothing is said.
pub(super) fn seconds(text: &str, field: &str) -> Result<Option<i64>> {
    if text.is_empty() {
        return Ok(None);
    }
    let read = duration(text).and_then(|found| i64::try_from(found.as_secs()).ok());
    let bad = || invalid(field, format!("{text:?} is no duration such as 90s, 10m or 1h30m"));
    read.map(Some).ok_or_else(bad)
}

fn hold(text: &str, field: &str) -> Result<Hold> {
    match text {
        "promoted" => Ok(Hold::Promoted),
        text => Ok(Hold::For(seconds(text, field)?.unwrap_or(0))),
    }
}

/// The headers of a step, in the order of their names, which are in lower case.
fn headers(stated: &[HeaderMatch], field: &str) -> Result<Vec<HeaderMatch>> {
    let mut all: Vec<HeaderMatch> = Vec::with_capacity(stated.len());
    for (at, header) in stated.iter().enumerate() {
        let given = [&header.exact, &header.regex, &header.prefix].into_iter().flatten().count();
        if given != 1 {
            return Err(invalid(&format!("{field}.headers[{at}]"), "states one of exact, regex and prefix"));
        }
        let (way, value) = header.way();
        let read = HeaderMatch::new(&header.name, way, value.to_owned());
        if all.iter().any(|known| known.name == read.name) {
            let why = format!("there are two matches of {}; all must hold, so say it in one", header.name);
            return Err(invalid(&format!("{field}.headers[{at}].name"), why));
        }
        all.push(read);
    }
    all.sort();
    Ok(all)
}

fn share(text: &str, field: &str, otherwise: Share) -> Result<Share> {
    let number = |digits: &str| {
        digits
            .parse::<u32>()
            .map_err(|_| invalid(field, format!("{text:?} is no number and no percentage such as 25%")))
    };
    match text.strip_suffix('%') {
        _ if text.is_empty() => Ok(otherwise),
        Some(percent) => number(percent).map(Share::Percent),
        None => number(text).map(Share::Count),
    }
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// `RolloutInvalid`, with the field.
    pub fn read(spec: &RolloutPolicySpec) -> Result<Self> {
        let mut gates = BTreeMap::new();
        for (at, gate) in spec.gates.iter().enumerate() {
            let rule = Rule::read(gate).map_err(|error| {
                error.reworded(|why| why.replacen("spec.", &format!("spec.gates[{at}]."), 1))
            })?;
            if gates.insert(gate.name.clone(), rule).is_some() {
                return Err(invalid(
                    &format!("gates[{at}].name"),
                    format!("there are two gates {}", gate.name),
                ));
            }
        }
        let strategy = &spec.strategy;
        let mut policy = Self {
            steps: Vec::new(),
            background: Vec::new(),
            gates,
            deadline: seconds(&spec.progress_deadline, "progressDeadline")?.unwrap_or(DEADLINE),
            abort_delay: seconds(&spec.abort_scale_down_delay, "abortScaleDownDelay")?.unwrap_or(DELAY),
            unschedulable: spec.unschedulable,
            skips_known_good: spec.known_good == KnownGood::SkipSteps,
            surge: Share::Percent(25),
            unavailable: Share::Count(0),
            rolls: false,
            min_replicas: 1,
            dynamic: false,
        };
        match (&strategy.canary, &strategy.blue_green, &strategy.shadow, &strategy.rolling) {
            (Some(canary), None, None, None) => policy.canary(canary)?,
            (None, Some(both), None, None) => policy.blue_green(both)?,
            (None, None, Some(shadow), None) => policy.shadow(shadow)?,
            (None, None, None, Some(rolling)) => policy.rolling(rolling)?,
            _ => return Err(invalid("strategy", "states one of canary, blueGreen, shadow and rolling")),
        }
        if spec.unschedulable == Unschedulable::NoSurge {
            policy.makes_place(strategy.canary.as_ref())?;
        }
        policy.check()?;
        Ok(policy)
    }

    fn canary(&mut self, canary: &Canary) -> Result<()> {
        let mut before = 0;
        for (at, step) in canary.steps.iter().enumerate() {
            let field = format!("strategy.canary.steps[{at}]");
            if step.weight > 100 {
                return Err(invalid(&format!("{field}.weight"), format!("{} is more than 100", step.weight)));
            }
            if step.weight < before {
                let why = format!(
                    "{} is less than the {before} of the step before; a rollout only goes up",
                    step.weight
                );
                return Err(invalid(&format!("{field}.weight"), why));
            }
            before = step.weight;
            let size = match step.scale {
                None => Size::ByWeight,
                Some(scale) => match (scale.replicas, scale.percent) {
                    (Some(pods), None) => Size::Pods(pods),
                    (None, Some(percent)) => Size::Percent(percent),
                    _ => return Err(invalid(&format!("{field}.scale"), "states replicas or percent")),
                },
            };
            let hold = hold(&step.hold, &format!("{field}.hold"))?;
            let mirror = step.mirror.unwrap_or(0);
            if step.mirror.is_some_and(|percent| !(1..=100).contains(&percent)) {
                return Err(invalid(&format!("{field}.mirror"), "is from 1 to 100"));
            }
            let headers = headers(&step.headers, &field)?;
            let (weight, gates) = (step.weight, step.gates.clone());
            self.steps.push(Step { weight, mirror, headers, size, hold, gates, keeps: false });
        }
        if canary.steps.is_empty() {
            return Err(invalid("strategy.canary.steps", "there are none"));
        }
        if let Some(after) = &canary.after {
            if after.hold.is_empty() && after.gates.is_empty() {
                return Err(invalid("strategy.canary.after", "states hold, gates or both"));
            }
            let hold = hold(&after.hold, "strategy.canary.after.hold")?;
            self.steps.push(Step { gates: after.gates.clone(), keeps: true, ..Step::all(hold) });
        }
        self.background.clone_from(&canary.background);
        self.surge = share(&canary.max_surge, "strategy.canary.maxSurge", self.surge)?;
        self.unavailable =
            share(&canary.max_unavailable, "strategy.canary.maxUnavailable", self.unavailable)?;
        self.min_replicas = canary.min_replicas.unwrap_or(1);
        self.dynamic = canary.dynamic_stable_scale;
        Ok(())
    }

    /// Whether there is something that can make place.
    fn makes_place(&self, canary: Option<&Canary>) -> Result<()> {
        let Some(canary) = canary else {
            return Err(invalid(
                "unschedulable",
                "NoSurge is for canary; the others need both sides in full",
            ));
        };
        let none = [Share::Count(0), Share::Percent(0)];
        if !canary.max_unavailable.is_empty() && none.contains(&self.unavailable) {
            let why = "is 0, and with NoSurge one pod at least makes place";
            return Err(invalid("strategy.canary.maxUnavailable", why));
        }
        Ok(())
    }

    fn blue_green(&mut self, both: &BlueGreen) -> Result<()> {
        let field = "strategy.blueGreen";
        let delay = seconds(&both.scale_down_delay, &format!("{field}.scaleDownDelay"))?.unwrap_or(DELAY);
        self.steps = vec![
            Step {
                size: both.preview_replicas.map_or(Size::Percent(100), Size::Pods),
                hold: hold(&both.hold, &format!("{field}.hold"))?,
                gates: both.before.clone(),
                ..Step::default()
            },
            // The old pods are there while it lasts, so the way back is one change of the weight.
            Step { weight: 100, hold: Hold::For(delay), gates: both.after.clone(), ..Step::default() },
        ];
        Ok(())
    }

    fn rolling(&mut self, rolling: &Rolling) -> Result<()> {
        let hold = hold(&rolling.hold, "strategy.rolling.hold")?;
        let gates = rolling.gates.clone();
        self.steps = vec![Step { gates, ..Step::all(hold) }];
        self.background.clone_from(&rolling.background);
        self.rolls = true;
        Ok(())
    }

    fn shadow(&mut self, shadow: &Shadow) -> Result<()> {
        let field = "strategy.shadow";
        if !(1..=100).contains(&shadow.percent) {
            return Err(invalid(&format!("{field}.percent"), "is from 1 to 100"));
        }
        let hold = hold(&shadow.hold, &format!("{field}.hold"))?;
        let size = shadow.replicas.map_or(Size::Percent(100), Size::Pods);
        self.steps =
            vec![Step { mirror: shadow.percent, size, hold, gates: shadow.gates.clone(), ..Step::default() }];
        Ok(())
    }

    /// Ends the steps, and looks whether all gates are there and each is of use.
    fn check(&mut self) -> Result<()> {
        if self.steps.last().is_some_and(|last| last.weight < 100) {
            self.steps.push(Step::all(Hold::For(0)));
        }
        let named = self.steps.iter().flat_map(|step| &step.gates).chain(&self.background);
        let named: BTreeSet<&String> = named.collect();
        if let Some(missing) = named.iter().find(|name| !self.gates.contains_key(**name)) {
            return Err(invalid("gates", format!("there is no gate {missing}, which a step names")));
        }
        if let Some(idle) = self.gates.keys().find(|name| !named.contains(name)) {
            return Err(invalid("gates", format!("no step names the gate {idle}")));
        }
        let people = |name: &&String| self.gates.get(*name).is_some_and(|rule| rule.approval.is_some());
        if let Some(approved) = self.background.iter().find(people) {
            let why = format!("{approved} is approved by people, which only a step waits for");
            return Err(invalid("gates", why));
        }
        for step in &self.steps {
            if let Some(both) = step.gates.iter().find(|name| self.background.contains(name)) {
                return Err(invalid("gates", format!("{both} is a gate of a step and of the background")));
            }
        }
        Ok(())
    }
}
