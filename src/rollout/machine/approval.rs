//! What people say of gates that wait for them.

use super::{Turn, word};
use crate::api::{GateAnswer, GateStatus, RolloutAct, RolloutPhase, RolloutVerb, second};
use crate::rollout::gate::{self, Approval, Measurement, Rule, Verdict};

impl Turn<'_> {
    /// Takes an approval or a denial. It is for one revision in one step, so that nobody approves what they have not seen.
    ///
    /// # Errors
    /// Why it does not count, in words.
    pub(super) fn approval(&mut self, act: &RolloutAct) -> Result<(), String> {
        let candidate = self.status.candidate.as_ref().map(|candidate| candidate.digest.clone());
        let Some(candidate) = candidate.filter(|_| self.status.phase == RolloutPhase::Progressing) else {
            return Err(format!("it came when the rollout was {:?}", self.status.phase));
        };
        let step = self.status.step;
        let Some(meant) = act.step.filter(|_| !act.revision.is_empty()) else {
            return Err("it names no revision and step for which it is".to_owned());
        };
        if act.revision != candidate || meant != step {
            return Err(format!(
                "it is for revision {} in step {}, and on its way is {candidate} in step {}",
                act.revision,
                u64::from(meant) + 1,
                u64::from(step) + 1
            ));
        }
        let by = word(&act.by);
        let gate = &act.gate;
        let Some(rule) = self.policy.gates.get(gate) else {
            return Err(format!("there is no gate {gate:?}"));
        };
        if rule.approval.is_none() {
            return Err(format!("gate {gate} is measured, people do not decide about it"));
        }
        let Some(status) = self.status.gates.iter_mut().find(|status| status.name == *gate) else {
            return Err(format!("gate {gate} is not waited for yet"));
        };
        match rule.verdict(status) {
            Verdict::Open(_) => {}
            Verdict::Passed => return Err(format!("gate {gate} has passed already")),
            Verdict::Failed(_) => return Err(format!("gate {gate} has failed already")),
        }
        let (answer, said) = match act.verb {
            RolloutVerb::Deny => (GateAnswer::Fail, "denied"),
            _ if status.approvers.iter().any(|known| known == by) => {
                return Err(format!("{by} has approved gate {gate} already, and it takes another"));
            }
            _ => (GateAnswer::Pass, "approved"),
        };
        if answer == GateAnswer::Pass {
            status.approvers.push(by.to_owned());
        }
        let why = if act.why.is_empty() { String::new() } else { format!(": {}", act.why) };
        let message = format!("{said} by {by}{why}");
        gate::add(status, &Measurement { gate: gate.clone(), answer, value: None, message }, self.seen.now);
        Ok(())
    }

    /// What nobody approved in its time has failed.
    pub(super) fn expire(&mut self) {
        if self.status.phase != RolloutPhase::Progressing {
            return;
        }
        let now = self.seen.now;
        for status in &mut self.status.gates {
            let Some(rule) = self.policy.gates.get(&status.name) else { continue };
            let Some(until) = rule.waits_until(status) else { continue };
            if until > now || !matches!(rule.verdict(status), Verdict::Open(_)) {
                continue;
            }
            let some = if status.approvers.is_empty() { "nobody" } else { "nobody else" };
            let message = format!("{some} approved it until {}", second(until));
            let gate = status.name.clone();
            let over = Measurement { gate, answer: GateAnswer::Fail, value: None, message };
            gate::add(status, &over, now);
        }
    }
}

/// What a gate waits for.
pub(super) fn waits_for(approval: &Approval, rule: &Rule, status: &GateStatus) -> String {
    let many = if rule.count > 1 { format!(", {} of {}", status.passed, rule.count) } else { String::new() };
    let look = if approval.message.is_empty() { String::new() } else { format!(": {}", approval.message) };
    format!("gate {} (`driftless rollout approve`{many}){look}", status.name)
}
