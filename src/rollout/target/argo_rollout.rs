//! Rollouts of Argo Rollouts. Their own controller brings a new template to users in its own steps; the policy waits for its
//! word, judges beside it, and has it go back. People's wishes are handed on as `kubectl argo rollouts` writes them.

use serde_json::{Value, json};

use super::{Measure, Side, Wish, Within, revision_of};

pub(super) struct ArgoRollout;

const UNSEEN: &str = "its controller has not seen it";

fn text<'a>(live: &'a Value, field: &str) -> &'a str {
    live["status"][field].as_str().unwrap_or_default()
}

/// Whether all users have what it is to run.
fn is_promoted(live: &Value) -> bool {
    let status = &live["status"];
    status["stableRS"].is_string() && status["stableRS"] == status["currentPodHash"]
}

fn is_paused(live: &Value) -> bool {
    live["status"]["pauseConditions"].as_array().is_some_and(|all| !all.is_empty())
}

/// Promoted, and its controller has not gone on yet; the phase is of before.
fn goes_on(live: &Value) -> bool {
    live["status"]["controllerPause"] == true && !is_paused(live)
}

/// Its step and how many it has; `None` where it has none.
fn step(live: &Value) -> Option<(u64, u64)> {
    let steps = live["spec"]["strategy"]["canary"]["steps"].as_array()?.len() as u64;
    Some((live["status"]["currentStepIndex"].as_u64().unwrap_or(0), steps))
}

fn place(live: &Value) -> String {
    match step(live) {
        Some((at, steps)) if at < steps => format!("at its step {} of {steps}", at + 1),
        Some((_, steps)) => format!("its {steps} steps are done"),
        None => "without steps".to_owned(),
    }
}

impl ArgoRollout {
    fn side(&self, live: &Value) -> Side {
        let seen = self.is_seen(live);
        let (phase, message) = (text(live, "phase"), text(live, "message"));
        let said = if message.is_empty() { String::new() } else { format!(": {message}") };
        // Until its controller has forgotten what it aborted before, that is not of this template.
        let is_old = message.starts_with("RolloutAborted") && live["status"]["abort"] != true;
        let mut side = Side { digest: revision_of(live), size: 1, pods: 1, ..Side::default() };
        match phase {
            _ if !seen => UNSEEN.clone_into(&mut side.obstacle),
            "Healthy" if is_promoted(live) => (side.available, side.settled) = (1, true),
            "Degraded" if !is_old => {
                side.given_up = format!("its own controller has given it up{said}");
                side.obstacle.clone_from(&side.given_up);
            }
            "Paused" if !goes_on(live) => {
                side.steps_itself = true;
                side.obstacle = format!("paused {}{said}", place(live));
            }
            "Paused" | "Progressing" | "Healthy" => {
                side.steps_itself = true;
                side.obstacle = format!("on its way {}{said}", place(live));
            }
            _ => UNSEEN.clone_into(&mut side.obstacle),
        }
        side
    }
}

impl Within for ArgoRollout {
    fn kind(&self) -> (&'static str, &'static str) {
        ("argoproj.io", "Rollout")
    }

    /// As for its own controller, whatever else it says makes no revision.
    fn revision(&self, object: &Value) -> Value {
        object["spec"]["template"].clone()
    }

    fn measure(&self) -> Measure {
        Measure::Word
    }

    fn check(&self, object: &Value) -> Result<(), String> {
        if object["spec"]["workloadRef"].is_null() {
            return Ok(());
        }
        Err("its template is that of another object (spec.workloadRef), so nothing of it changes with a revision".into())
    }

    fn share(&self, _wanted: &mut Value, _live: &Value, _much: u32) {}

    fn is_whole(&self, _live: &Value) -> bool {
        true
    }

    fn candidate(&self, live: &Value, _pods: &[Value]) -> Side {
        self.side(live)
    }

    fn whole(&self, live: &Value) -> Side {
        self.side(live)
    }

    /// `observedGeneration` is text; before 0.10 it was a hash, which says nothing.
    fn is_seen(&self, live: &Value) -> bool {
        let Some(seen) = live["status"]["observedGeneration"].as_str() else { return false };
        seen.parse::<i64>().map_or(true, |seen| Some(seen) >= live["metadata"]["generation"].as_i64())
    }

    fn left(&self, live: &Value, _pods: &[Value]) -> Option<u32> {
        Some(u32::from(!self.side(live).settled))
    }

    fn wish(&self, live: &Value, wish: Wish) -> Option<Value> {
        let status = &live["status"];
        if !self.is_seen(live) || is_promoted(live) {
            return None;
        }
        let next = step(live).filter(|(at, steps)| at < steps).map(|(at, _)| at + 1);
        let judged = &status["canary"]["currentStepAnalysisRunStatus"]["status"];
        match (wish, next) {
            (Wish::Abort, _) => (status["abort"] != true).then(|| json!({"abort": true})),
            (Wish::PromoteFull, _) => (status["promoteFull"] != true).then(|| json!({"promoteFull": true})),
            // An analysis that nobody can judge would hold the next pause up.
            (Wish::Promote, Some(next)) if is_paused(live) && judged == "Inconclusive" => {
                Some(json!({"pauseConditions": null, "controllerPause": false, "currentStepIndex": next}))
            }
            (Wish::Promote, _) if is_paused(live) => Some(json!({"pauseConditions": null})),
            (Wish::Promote, Some(next)) => Some(json!({"pauseConditions": null, "currentStepIndex": next})),
            (Wish::Promote, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(status: Value) -> Value {
        let mut all = json!({"metadata": {"generation": 3},
            "spec": {"strategy": {"canary": {"steps": [{"setWeight": 20}, {"pause": {}}]}}},
            "status": {"observedGeneration": "3", "stableRS": "a", "currentPodHash": "b", "currentStepIndex": 1}});
        if let (Some(known), Value::Object(more)) = (all["status"].as_object_mut(), status) {
            known.extend(more);
        }
        all
    }

    /// `a` for available, `s` for steps of its own, `g` for given up; and what it says.
    fn seen(status: Value) -> String {
        let side = ArgoRollout.side(&live(status));
        let mut words = String::new();
        for (is, letter) in [(side.settled, 'a'), (side.steps_itself, 's'), (!side.given_up.is_empty(), 'g')]
        {
            words.extend(is.then_some(letter));
        }
        format!("{words} {}", side.obstacle)
    }

    #[test]
    fn its_controllers_word_is_read() {
        for (status, expected) in [
            (json!({"phase": "Healthy", "stableRS": "b"}), "a "),
            (
                json!({"phase": "Healthy", "observedGeneration": "2", "stableRS": "b"}),
                " its controller has not seen it",
            ),
            (
                json!({"phase": "Progressing", "message": "more replicas need to be updated"}),
                "s on its way at its step 2 of 2: more replicas need to be updated",
            ),
            (
                json!({"phase": "Paused", "message": "CanaryPauseStep", "pauseConditions": [{}], "controllerPause": true}),
                "s paused at its step 2 of 2: CanaryPauseStep",
            ),
            (json!({"phase": "Paused", "controllerPause": true}), "s on its way at its step 2 of 2"),
            (
                json!({"phase": "Degraded", "message": "RolloutAborted: by hand", "abort": true}),
                "g its own controller has given it up: RolloutAborted: by hand",
            ),
            // What it aborted before is forgotten with the next write.
            (
                json!({"phase": "Degraded", "message": "RolloutAborted: before"}),
                " its controller has not seen it",
            ),
            (
                json!({"phase": "Degraded", "message": "ProgressDeadlineExceeded: late"}),
                "g its own controller has given it up: ProgressDeadlineExceeded: late",
            ),
            (json!({}), " its controller has not seen it"),
        ] {
            assert_eq!(seen(status.clone()), expected, "{status}");
        }
    }

    #[test]
    fn wishes_are_what_its_command_line_writes() {
        let paused = || json!({"phase": "Paused", "pauseConditions": [{"reason": "CanaryPauseStep"}]});
        let mut inconclusive = paused();
        inconclusive["canary"] = json!({"currentStepAnalysisRunStatus": {"status": "Inconclusive"}});
        for (status, wish, expected) in [
            (paused(), Wish::Promote, Some(json!({"pauseConditions": null}))),
            (
                inconclusive,
                Wish::Promote,
                Some(json!({"pauseConditions": null, "controllerPause": false, "currentStepIndex": 2})),
            ),
            (
                json!({"phase": "Progressing"}),
                Wish::Promote,
                Some(json!({"pauseConditions": null, "currentStepIndex": 2})),
            ),
            (json!({"phase": "Progressing", "currentStepIndex": 2}), Wish::Promote, None),
            (paused(), Wish::PromoteFull, Some(json!({"promoteFull": true}))),
            (json!({"promoteFull": true}), Wish::PromoteFull, None),
            (paused(), Wish::Abort, Some(json!({"abort": true}))),
            (json!({"abort": true}), Wish::Abort, None),
            // All users have it: nothing is on its way.
            (json!({"stableRS": "b"}), Wish::Abort, None),
            (json!({"observedGeneration": "2"}), Wish::PromoteFull, None),
        ] {
            assert_eq!(ArgoRollout.wish(&live(status.clone()), wish), expected, "{status} {wish:?}");
        }
    }

    #[test]
    fn a_template_of_somewhere_else_is_no_target() {
        let object = json!({"spec": {"workloadRef": {"kind": "Deployment", "name": "a"}}});
        assert!(ArgoRollout.check(&object).unwrap_err().contains("spec.workloadRef"));
    }
}
