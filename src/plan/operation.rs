//! A sync as a row of steps.
//!
//! 1. `steps`: phases in their order, in each its waves; namespaces and CRDs before all of it, because nothing else
//!    could be applied without them.
//! 2. `gate`: a step lets the next begin when its hooks have ended and its objects are healthy.
//! 3. Every pass begins with the first step again. What is applied needs nothing, what is healthy lets it pass, so it
//!    comes to where it was; the hooks that ran are the only thing that must be remembered.
//!
//! Whatever has one step has no gate: it ends when it is applied.

use std::collections::BTreeMap;
use std::time::Duration;

use super::hook::Phase;
use super::{Desired, Why, rank};
use crate::health::{Health, Status};

/// Everything of one phase and wave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The phase.
    pub phase: Phase,
    /// The wave; `i64::MIN` for what comes before all.
    pub wave: i64,
    /// All ordinary objects, by their place; the gate looks at them.
    pub objects: Vec<usize>,
    /// All hooks.
    pub hooks: Vec<usize>,
    /// What must be applied, in stages: all of one may be applied at once.
    pub stages: Vec<Vec<(usize, Why)>>,
}

/// The steps of these phases.
pub fn steps(desired: &[Desired], todo: &BTreeMap<usize, Why>, phases: &[Phase]) -> Vec<Step> {
    let mut steps: BTreeMap<(Phase, i64), Step> = BTreeMap::new();
    let mut stages: BTreeMap<(Phase, i64, u8), Vec<(usize, Why)>> = BTreeMap::new();
    for (index, object) in desired.iter().enumerate() {
        if let Some(hook) = &object.hook {
            for phase in hook.phases.iter().filter(|phase| phases.contains(phase)) {
                steps.entry((*phase, object.wave)).or_default().hooks.push(index);
            }
        } else if phases.contains(&Phase::Sync) {
            steps.entry((Phase::Sync, object.wave)).or_default().objects.push(index);
            let rank = rank(&object.gvk);
            // Whatever their wave: others cannot be applied without them.
            let (phase, wave) =
                if rank <= 1 { (Phase::PreSync, i64::MIN) } else { (Phase::Sync, object.wave) };
            if let Some(why) = todo.get(&index) {
                stages.entry((phase, wave, rank)).or_default().push((index, *why));
            }
        }
    }
    for ((phase, wave, _), stage) in stages {
        steps.entry((phase, wave)).or_default().stages.push(stage);
    }
    let named = steps.into_iter().map(|((phase, wave), step)| Step { phase, wave, ..step });
    named.collect()
}

/// How a hook's run went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Run {
    /// It has not begun.
    Pending,
    /// It has not ended; why.
    Running(String),
    /// It did its work.
    Succeeded,
    /// It did not; why.
    Failed(String),
}

/// Whether the next step may begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It may.
    Open,
    /// Not yet: what it waits for.
    Waits(Vec<String>),
    /// It never will.
    Closed(String),
}

/// Looks at a step that was applied.
pub fn gate(
    step: &Step,
    desired: &[Desired],
    health: impl Fn(&Desired) -> Health,
    run: impl Fn(&Desired, Phase) -> Run,
) -> Gate {
    let (mut waits, mut broken) = (Vec::new(), Vec::new());
    for object in step.hooks.iter().filter_map(|index| desired.get(*index)) {
        match run(object, step.phase) {
            Run::Succeeded => {}
            Run::Pending => waits.push(format!("{} hook {} to begin", step.phase, object.key)),
            Run::Running(why) => {
                waits.push(with(format!("{} hook {} to end", step.phase, object.key), &why));
            }
            Run::Failed(why) => broken.push(with(format!("{} hook {} failed", step.phase, object.key), &why)),
        }
    }
    for object in step.objects.iter().filter_map(|index| desired.get(*index)) {
        let found = health(object);
        match found.status {
            Status::Healthy => {}
            Status::Suspended if object.rests => {}
            Status::Degraded => broken.push(with(format!("{} is degraded", object.key), &found.reason)),
            _ => waits.push(with(format!("{} to be healthy", object.key), &found.reason)),
        }
    }
    match broken.len() {
        0 if waits.is_empty() => Gate::Open,
        0 => Gate::Waits(waits),
        1 => Gate::Closed(broken.swap_remove(0)),
        more => Gate::Closed(format!("{} (and {} more)", broken.swap_remove(0), more - 1)),
    }
}

fn with(what: String, why: &str) -> String {
    if why.is_empty() { what } else { format!("{what}: {why}") }
}

/// What is awaited, in a sentence: the first and how many more.
pub fn awaited(waits: &[String]) -> String {
    match waits {
        [] => String::new(),
        [one] => format!("waits for {one}"),
        [one, rest @ ..] => format!("waits for {one} (and {} more)", rest.len()),
    }
}

/// How a sync that failed is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How often after the first time; `None` for ever.
    pub limit: Option<u32>,
    /// Before the first retry.
    pub first: Duration,
    /// What each further wait is multiplied with.
    pub factor: u32,
    /// The longest wait.
    pub most: Duration,
}

impl Retry {
    /// The wait after this many attempts; `None` when there is no further one.
    pub fn after(&self, attempts: u32) -> Option<Duration> {
        if self.limit.is_some_and(|limit| attempts > limit) {
            return None;
        }
        let times = self.factor.max(1).saturating_pow(attempts.saturating_sub(1));
        Some(self.first.saturating_mul(times).min(self.most))
    }
}

/// The name of a hook that states only its beginning: the same each time within one operation, so that an agent that
/// was killed finds its own.
pub fn hook_name(prefix: &str, phase: Phase, operation: &str) -> String {
    let end = format!("{}-{operation}", phase.to_string().to_lowercase());
    let room = 63usize.saturating_sub(end.len());
    let mut cut = prefix.len().min(room);
    while !prefix.is_char_boundary(cut) {
        cut -= 1;
    }
    format!("{}{end}", &prefix[..cut])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Gvk, Key};
    use crate::plan::hook::{Cleanup, Hook};

    fn object(kind: &str, name: &str, wave: i64, phases: &[Phase]) -> Desired {
        let cleanup = Cleanup { before: true, succeeded: false, failed: false };
        let hook = (!phases.is_empty()).then(|| Hook { phases: phases.to_vec(), cleanup });
        Desired {
            key: Key { group: String::new(), kind: kind.into(), namespace: "n".into(), name: name.into() },
            gvk: Gvk { group: String::new(), version: "v1".into(), kind: kind.into() },
            wave,
            hook,
            ..Desired::default()
        }
    }

    const SYNC: [Phase; 3] = [Phase::PreSync, Phase::Sync, Phase::PostSync];

    #[test]
    fn phases_then_waves_then_kinds() {
        let all = [
            object("Namespace", "a", 9, &[]),
            object("Pod", "b", 1, &[Phase::PreSync]),
            object("ConfigMap", "c", -1, &[]),
            object("Secret", "d", 0, &[]),
            object("Service", "e", 0, &[]),
            object("Secret", "f", 0, &[Phase::Sync, Phase::SyncFail]),
            object("Pod", "g", 0, &[Phase::PostSync]),
        ];
        let todo: BTreeMap<usize, Why> = (0..all.len()).map(|index| (index, Why::New)).collect();
        let shown: Vec<String> = steps(&all, &todo, &SYNC)
            .iter()
            .map(|step| {
                let names =
                    |list: &[usize]| list.iter().map(|at| all[*at].key.name.as_str()).collect::<String>();
                let stages: Vec<String> = step
                    .stages
                    .iter()
                    .map(|stage| stage.iter().map(|(at, _)| all[*at].key.name.as_str()).collect())
                    .collect();
                let wave = if step.wave == i64::MIN { "first".to_owned() } else { step.wave.to_string() };
                format!(
                    "{} {wave}: {} hooks {} gate {}",
                    step.phase,
                    stages.join("|"),
                    names(&step.hooks),
                    names(&step.objects)
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                "PreSync first: a hooks  gate ",
                "PreSync 1:  hooks b gate ",
                "Sync -1: c hooks  gate c",
                "Sync 0: d|e hooks f gate de",
                "Sync 9:  hooks  gate a",
                "PostSync 0:  hooks g gate ",
            ]
        );
        let failed = steps(&all, &todo, &[Phase::SyncFail]);
        assert_eq!(failed.len(), 1);
        assert_eq!((failed[0].hooks.as_slice(), failed[0].objects.len()), ([5].as_slice(), 0));
    }

    #[test]
    fn a_gate_says_what_it_waits_for() {
        let mut all = vec![object("Deployment", "a", 0, &[]), object("Job", "j", 0, &[Phase::Sync])];
        let step = &steps(&all, &BTreeMap::new(), &SYNC)[0];
        let check = |all: &[Desired], status, run: Run| {
            gate(step, all, |_| Health::new(status, "why"), |_, _| run.clone())
        };
        assert_eq!(gate(step, &all, |_| Health::healthy(), |_, _| Run::Succeeded), Gate::Open);
        let waits = check(&all, Status::Progressing, Run::Running("1 active".into()));
        let Gate::Waits(waits) = waits else { panic!("{waits:?}") };
        assert_eq!(awaited(&waits), "waits for Sync hook Job n/j to end: 1 active (and 1 more)");
        assert_eq!(
            check(&all, Status::Degraded, Run::Succeeded),
            Gate::Closed("Deployment n/a is degraded: why".into())
        );
        assert_eq!(
            check(&all, Status::Healthy, Run::Failed("exit 1".into())),
            Gate::Closed("Sync hook Job n/j failed: exit 1".into())
        );
        // What stands still is waited for, unless Git says so.
        assert!(matches!(check(&all, Status::Suspended, Run::Succeeded), Gate::Waits(_)));
        all[0].rests = true;
        assert_eq!(check(&all, Status::Suspended, Run::Succeeded), Gate::Open);
        assert!(matches!(check(&all, Status::Missing, Run::Succeeded), Gate::Waits(_)));
    }

    #[test]
    fn retries_wait_longer_each_time_and_end() {
        let retry =
            Retry { limit: Some(4), first: Duration::from_secs(5), factor: 2, most: Duration::from_secs(18) };
        let waits: Vec<_> =
            (1..=6).map(|attempts| retry.after(attempts).map(|wait| wait.as_secs())).collect();
        assert_eq!(waits, [Some(5), Some(10), Some(18), Some(18), None, None]);
        assert_eq!(Retry { limit: None, ..retry }.after(1_000_000), Some(Duration::from_secs(18)));
    }

    #[test]
    fn a_hook_has_one_name_in_one_operation() {
        assert_eq!(hook_name("migrate-", Phase::PreSync, "0a1b2c3d4e"), "migrate-presync-0a1b2c3d4e");
        let long = hook_name(&"x".repeat(80), Phase::PostSync, "0a1b2c3d4e");
        assert_eq!(long.len(), 63);
        assert!(long.ends_with("xpostsync-0a1b2c3d4e"));
    }
}
