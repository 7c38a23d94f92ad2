//! What Nomad says, as sentences that a user may read: they name no path and no host.

use crate::nomad::{Allocation, Evaluation, PlacementFailure};

use super::job::TASK;

/// Why a job is not placed, when its evaluation says so.
pub(super) fn waiting(evaluation: &Evaluation) -> Option<String> {
    let Some(failure) = evaluation.failures.values().next() else {
        return match evaluation.status.as_str() {
            "failed" => Some("Nomad's scheduler gave up for now and will try again".to_owned()),
            "blocked" => Some("Nomad has no room for it now".to_owned()),
            _ => None,
        };
    };
    Some(waiting_for_room(failure))
}

fn waiting_for_room(failure: &PlacementFailure) -> String {
    let PlacementFailure { nodes_evaluated, nodes_filtered, .. } = failure;
    if *nodes_evaluated == 0 {
        return "Nomad has no node that is ready in the datacenters of its job".to_owned();
    }
    if nodes_filtered == nodes_evaluated {
        return format!(
            "none of the {nodes_evaluated} nodes of Nomad may run it: raw_exec is off there, or a \
             constraint forbids it"
        );
    }
    let short: Vec<_> = failure.dimension_exhausted.keys().map(String::as_str).collect();
    let short = if short.is_empty() { "something".to_owned() } else { short.join(" and ") };
    format!(
        "no node of Nomad has room for it now: {short} is short on {} of {nodes_evaluated}",
        failure.nodes_exhausted
    )
}

/// Why an allocation that is over gave no result.
pub(super) fn lost(allocation: &Allocation) -> String {
    if allocation.client_status == "lost" {
        return "its Nomad node was lost".to_owned();
    }
    let events = allocation.task_states.get(TASK).map_or(&[][..], |task| &task.events);
    if allocation.desired_status == "stop" && allocation.client_status != "failed" {
        return "its Nomad allocation was stopped from outside".to_owned();
    }
    let failure = events.iter().rev().find(|event| {
        event.kind == "Terminated" || event.kind.contains("Fail") || event.kind.contains("Error")
    });
    match failure {
        Some(end) if end.kind == "Terminated" && end.signal != 0 => {
            format!("its runner was ended by signal {} without a result", end.signal)
        }
        Some(end) if end.kind == "Terminated" => {
            format!("its runner ended with exit code {} without a result", end.exit_code)
        }
        Some(failure) => format!("its runner could not be started by Nomad ({})", failure.kind),
        None => "its Nomad allocation ended without a result".to_owned(),
    }
}

/// What Nomad's own words about the end of an allocation are, for the log alone.
pub(super) fn details(allocation: &Allocation) -> String {
    let events = allocation.task_states.values().flat_map(|task| &task.events);
    events.map(|event| event.display_message.as_str()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_lack_of_memory_is_told() {
        let text = include_str!("../../../tests/data/nomad-1.1.0/evaluation-no-room.json");
        let evaluation: Evaluation = serde_json::from_str(text).unwrap();
        assert_eq!(
            waiting(&evaluation).unwrap(),
            "no node of Nomad has room for it now: memory is short on 1 of 1"
        );
    }

    #[test]
    fn a_cluster_without_fitting_nodes_is_told() {
        let with = |failure| Evaluation {
            status: "complete".to_owned(),
            failures: [("run".to_owned(), failure)].into(),
            ..Evaluation::default()
        };
        let none = with(PlacementFailure::default());
        assert!(waiting(&none).unwrap().contains("no node that is ready"));
        let filtered = with(PlacementFailure {
            nodes_evaluated: 2,
            nodes_filtered: 2,
            ..PlacementFailure::default()
        });
        assert!(waiting(&filtered).unwrap().contains("none of the 2 nodes"));
    }

    #[test]
    fn an_evaluation_without_trouble_is_no_reason_to_wait() {
        for status in ["pending", "complete"] {
            let evaluation = Evaluation { status: status.to_owned(), ..Evaluation::default() };
            assert_eq!(waiting(&evaluation), None);
        }
    }

    #[test]
    fn recorded_ends_without_a_result_are_told_apart() {
        let read = |text: &str| {
            let text = text.replace("\"main\"", "\"runner\"");
            serde_json::from_str::<Vec<Allocation>>(&text).unwrap().remove(0)
        };
        let failed = read(include_str!("../../../tests/data/nomad-1.1.0/allocations-failed.json"));
        assert_eq!(lost(&failed), "its runner ended with exit code 3 without a result");
        let never =
            read(include_str!("../../../tests/data/nomad-1.1.0/allocations-never-started.json"));
        assert_eq!(lost(&never), "its runner could not be started by Nomad (Failed Validation)");
        assert!(details(&never).contains("Extra characters"));
        let vanished = Allocation { client_status: "lost".to_owned(), ..failed };
        assert_eq!(lost(&vanished), "its Nomad node was lost");
    }
}
