//! Keeps a service registered with the agent.
//!
//! An agent may forget a service: one in dev mode or in a container without a volume has no memory
//! beyond its process, and the check's deadline or an operator may have taken it out. So it is looked
//! at every few seconds, and registered again when it is not what it should be.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{Background, CheckKind, Client, ConsulError, Problem, ServiceDefinition};
use crate::error_chain::error_chain;

/// How often to look whether the agent still has the service.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How long a call that was under way when the end came may take: what it may register is to be
/// there before it is taken out.
const LAST_CALL_TIME: Duration = Duration::from_secs(1);

/// How long taking the service out may take: a shutdown does not wait for a Consul that is away,
/// whose check finds out by itself.
const DEREGISTER_TIME: Duration = Duration::from_secs(2);

/// Has the agent know the service until the background stops, and then takes it out, which takes
/// three seconds at most. Says to a TTL check that the service is well, three times in its time.
///
/// The value is whether the service was there when last looked at. Ends with the background alone.
pub fn keep_registered(
    client: Client,
    service: ServiceDefinition,
    background: &Background,
) -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    let subject = format!("registration of {}", service.id);
    let background = background.clone();
    let tasks = background.clone();
    tasks.spawn(async move {
        keep(&client, &service, &background, &subject, &sender).await;
        sender.send_replace(false);
        match timeout(DEREGISTER_TIME, client.deregister(&service.id)).await {
            Ok(Ok(())) => {
                tracing::info!(consul.service_id = service.id, "taken out of Consul");
            }
            Ok(Err(error)) => left(&service, &error_chain(&error)),
            Err(_) => left(&service, "it gave no answer in time"),
        }
        background.forget(&subject);
    });
    receiver
}

fn left(service: &ServiceDefinition, reason: &str) {
    tracing::warn!(
        consul.service_id = service.id,
        error = reason,
        "could not be taken out of Consul; its check will turn critical"
    );
}

/// Looks and registers until the background stops.
async fn keep(
    client: &Client,
    service: &ServiceDefinition,
    background: &Background,
    subject: &str,
    there: &watch::Sender<bool>,
) {
    let jitter = background.jitter(subject);
    let stopping = background.stopping();
    let (mut first, mut failures) = (true, 0);
    loop {
        let step = step(client, service, first);
        tokio::pin!(step);
        let result = tokio::select! {
            result = &mut step => result,
            () = stopping.cancelled() => {
                let _ = timeout(LAST_CALL_TIME, step).await;
                return;
            }
        };
        there.send_if_modified(|last| std::mem::replace(last, result.is_ok()) != result.is_ok());
        let rest = match result {
            Ok(()) => {
                background.succeeded(subject);
                (first, failures) = (false, 0);
                between_looks(service)
            }
            Err(error) => {
                background.failed(subject, &error);
                failures += 1;
                jitter.backoff(failures - 1)
            }
        };
        tokio::select! {
            () = sleep(rest) => {}
            () = stopping.cancelled() => return,
        }
    }
}

/// Has the service be there, and well if that is for us to say. The first time it is registered in
/// any case: what an earlier process left may have another check.
async fn step(
    client: &Client,
    service: &ServiceDefinition,
    first: bool,
) -> Result<(), ConsulError> {
    let found = if first { None } else { client.registered(&service.id).await? };
    if !found.is_some_and(|found| service.is(&found)) {
        register(client, service, first).await?;
    }
    if !matches!(service.check.kind, CheckKind::Ttl { .. }) {
        return Ok(());
    }
    match pass(client, service).await {
        Err(error) if error.problem() == Some(Problem::NotFound) => {
            register(client, service, first).await?;
            pass(client, service).await
        }
        result => result,
    }
}

async fn register(
    client: &Client,
    service: &ServiceDefinition,
    first: bool,
) -> Result<(), ConsulError> {
    client.register(service).await?;
    let (id, name) = (&service.id, &service.name);
    if first {
        tracing::info!(consul.service_id = id, consul.service = name, "registered in Consul");
    } else {
        tracing::info!(
            consul.service_id = id,
            consul.service = name,
            "registered in Consul again, which had lost it"
        );
    }
    Ok(())
}

async fn pass(client: &Client, service: &ServiceDefinition) -> Result<(), ConsulError> {
    client.pass_check(&service.check_id(), "ready").await
}

fn between_looks(service: &ServiceDefinition) -> Duration {
    match service.check.kind {
        CheckKind::Http { .. } => LOOK_EVERY,
        CheckKind::Ttl { ttl } => LOOK_EVERY.min(ttl / 3),
    }
}
