//! `braindrill jobs status`: how the jobs stand, in lines for people.

use crate::{
    backend::nomad::{JobSettings, Standing},
    cli::say,
    nomad::{Children, Client, Node, NomadError},
};

/// Prints how all jobs stand, and says whether all are up to date.
///
/// # Errors
/// Nomad could not be asked.
pub(super) async fn print(client: &Client, jobs: &JobSettings) -> Result<bool, NomadError> {
    let mut all_well = true;
    for file in jobs.files() {
        let id = jobs.id(*file);
        let job = client.job(&id).await?;
        let standing = jobs.standing(*file, job.as_ref());
        all_well &= standing == Standing::UpToDate;
        say(format_args!("{id}  {}", words(&standing)));
        if let Some(job) = job {
            let Children { pending, running, dead } = client.children(&id).await?;
            say(format_args!("  version   {}", job.version));
            say(format_args!("  children  {pending} pending, {running} running, {dead} dead"));
        }
    }
    say(nodes_line(&client.nodes().await?, jobs));
    Ok(all_well)
}

fn words(standing: &Standing) -> &'static str {
    match standing {
        Standing::Missing => "is not registered",
        Standing::Unusable => "cannot be dispatched from: it is stopped, or not parameterized",
        Standing::Differs => "is registered, and differs from what would be registered here",
        Standing::UpToDate => "is registered and up to date",
    }
}

/// Which of the cluster's nodes can take the jobs.
fn nodes_line(nodes: &[Node], jobs: &JobSettings) -> String {
    let driver = jobs.driver.name();
    let takes = |node: &&Node| node.takes(driver) && jobs.datacenters.contains(&node.datacenter);
    let names: Vec<_> = nodes.iter().filter(takes).map(|node| node.name.as_str()).collect();
    let places = jobs.datacenters.join(", ");
    if names.is_empty() {
        return format!("nodes       none of {} has {driver} ready in {places}", nodes.len());
    }
    format!("nodes       {} of {} ({})", names.len(), nodes.len(), names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_count_by_driver_and_datacenter() {
        let text = include_str!("../../../tests/data/nomad-1.1.0/nodes.json");
        let mut nodes: Vec<Node> = serde_json::from_str(text).unwrap();
        nodes[0].name = "here".to_owned();
        let elsewhere = Node { datacenter: "eu".to_owned(), ..nodes[0].clone() };
        let down = Node { status: "down".to_owned(), ..nodes[0].clone() };
        nodes.extend([elsewhere, down]);
        let jobs = JobSettings::own("0123abcd", "/braindrill".into());
        assert_eq!(nodes_line(&nodes, &jobs), "nodes       1 of 3 (here)");
        let nowhere = JobSettings { datacenters: vec!["us".to_owned()], ..jobs };
        assert_eq!(nodes_line(&nodes, &nowhere), "nodes       none of 3 has raw_exec ready in us");
    }
}
