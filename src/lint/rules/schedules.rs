//! What runs by the clock.

use serde_json::Value;

use crate::lint::cron::{Dialect, fault, is_zone};
use crate::lint::pods::{Pod, pods};
use crate::lint::rule::{Out, rules};
use crate::lint::set::Subject;

rules! { "Schedules":
    INVALID_CRON "invalid-cron" Error Certain
        "a schedule that is refused, or means something else"
        "CronJob, CronWorkflow and RayCronJob take five fields (minute, hour, day of the month, month, day of the week from 0), macros such as @daily, and @every 1h. ScheduledWorkflow of Kubeflow Pipelines takes six, seconds first: a line of five fields is accepted there and runs at other times."
    INVALID_TIME_ZONE "invalid-time-zone" Error Certain
        "a time zone that does not exist"
        "Use a name of the IANA database such as Europe/Berlin or Etc/UTC. Abbreviations such as CEST are none."
    CRON_ZONE_IN_SCHEDULE "cron-zone-in-schedule" Error Certain
        "a time zone inside of a CronJob's schedule"
        "TZ= and CRON_TZ= are refused in new CronJobs. Use spec.timeZone."
    CRON_OVERLAP "cron-overlap" Warning Likely
        "runs with GPUs that may overlap"
        "concurrencyPolicy is Allow where nothing is said: a run that takes longer than its period holds its GPUs while the next asks for more. Set Forbid or Replace."
    CRON_NO_ZONE "cron-without-time-zone" Info Likely
        "a schedule without a time zone"
        "It runs by the clock of the machine the controller is on, which differs between clusters. State a zone, Etc/UTC for instance."
}

pub(super) fn check(subject: &Subject, out: &mut Out) {
    match (subject.gvk.group.as_str(), subject.gvk.kind.as_str()) {
        ("batch", "CronJob") => {
            let zoned = subject.text("/spec/schedule").contains("TZ=");
            if zoned {
                out.add(&CRON_ZONE_IN_SCHEDULE, "/spec/schedule", "the zone belongs in spec.timeZone");
            } else {
                schedule(subject, "/spec/schedule", Dialect::Standard, out);
            }
            zone(subject, "/spec/timeZone", out);
            overlap(subject, out);
        }
        ("argoproj.io", "CronWorkflow") => {
            schedule(subject, "/spec/schedule", Dialect::Standard, out);
            for at in 0..subject.list("/spec/schedules").len() {
                schedule(subject, &format!("/spec/schedules/{at}"), Dialect::Standard, out);
            }
            zone(subject, "/spec/timezone", out);
            if subject.text("/spec/timezone").is_empty() {
                out.add(
                    &CRON_NO_ZONE,
                    "/spec",
                    "the schedule is read by the clock of the controller's machine",
                );
            }
            overlap(subject, out);
        }
        ("ray.io", "RayCronJob") => schedule(subject, "/spec/schedule", Dialect::Standard, out),
        ("kubeflow.org", "ScheduledWorkflow") => {
            schedule(subject, "/spec/trigger/cronSchedule/cron", Dialect::Seconds, out);
        }
        _ => {}
    }
}

fn schedule(subject: &Subject, path: &str, dialect: Dialect, out: &mut Out) {
    let Some(text) = subject.at(path).and_then(Value::as_str).filter(|text| !text.contains("{{")) else {
        return;
    };
    if let Some(why) = fault(text, dialect) {
        out.add(&INVALID_CRON, path, format!("the schedule {text:?}: {why}"));
    }
}

fn zone(subject: &Subject, path: &str, out: &mut Out) {
    let name = subject.text(path);
    // Kubernetes refuses Local, by which its controller would read its own.
    let local = name.eq_ignore_ascii_case("local") && subject.is("batch", "CronJob");
    if !name.is_empty() && !name.contains("{{") && (local || !is_zone(name)) {
        out.add(&INVALID_TIME_ZONE, path, format!("{name} is no time zone of the IANA database"));
    }
}

fn overlap(subject: &Subject, out: &mut Out) {
    if !matches!(subject.text("/spec/concurrencyPolicy"), "" | "Allow") {
        return;
    }
    let all = pods(subject);
    let gpus = all.iter().flat_map(Pod::containers).any(|container| {
        let limits = container.value.pointer("/resources/limits").and_then(Value::as_object);
        limits.is_some_and(|limits| {
            limits.keys().any(|name| name.ends_with("/gpu") || name.contains("nvidia.com/"))
        })
    });
    if gpus {
        let at =
            if subject.at("/spec/concurrencyPolicy").is_some() { "/spec/concurrencyPolicy" } else { "/spec" };
        out.add(
            &CRON_OVERLAP,
            at,
            "runs ask for GPUs, and a new one begins while the last still has its own",
        );
    }
}
