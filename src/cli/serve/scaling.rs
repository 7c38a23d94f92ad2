//! Has the daemon dispatch workers as its queue grows: what `backend/pool/scale.rs` asks for, from the
//! settings and from the engine.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::place::Place;
use crate::{
    backend::{
        Backend,
        pool::{Asking, Bounds, Demand, ScaleFigures, ScaleSettings},
    },
    cli::discovery::{Addresses, Discovery},
    config::Config,
    dispatcher::Handle,
    lifecycle::Lifecycle,
    metrics,
    nomad::{Client, ClientSettings},
    store::Store,
    submission::{StateName, SystemClock},
};

/// Starts the task that scales, where it is asked for.
///
/// # Errors
/// The settings of Nomad make no sense.
pub(super) async fn begin(
    config: &Config,
    store: &Store,
    (place, handle): (&Place, &Handle),
    discovery: &Discovery,
    lifecycle: &mut Lifecycle,
) -> anyhow::Result<()> {
    let Some(job) = config.scale_job.clone() else { return Ok(()) };
    let Some(pool) = place.warm_workers() else {
        tracing::warn!(
            "no workers are dispatched: without a secret for them they are of no use here"
        );
        return Ok(());
    };
    let client = ClientSettings::from_env(|name| std::env::var(name).ok());
    let Addresses { servers, .. } = discovery.nomad(config, &client.tls).await?;
    let settings = ScaleSettings {
        job,
        bounds: Bounds { min: config.scale_min as usize, max: config.scale_max as usize },
        lease: Duration::from_secs(config.scale_lease_seconds),
        instance: store.instance().to_owned(),
    };
    let scaler = pool.scaler(Client::new(&client, servers)?, settings, SystemClock);
    let asking = asking(handle.clone(), place.beside_warm_workers());
    let soft = lifecycle.soft();
    lifecycle.spawn("scaling of workers", async move {
        let scaling = scaler.run(asking, figures);
        CancellationToken::run_until_cancelled_owned(soft, scaling).await;
        Ok(())
    });
    Ok(())
}

fn figures(ScaleFigures { wanted, present, coming }: ScaleFigures) {
    metrics::leased_workers(wanted, present, coming);
}

/// What waits and what runs, as the engine counts it; none while the store cannot be read, which is said
/// elsewhere.
fn asking(handle: Handle, others: Vec<Arc<dyn Backend>>) -> Asking {
    Box::new(move || {
        let handle = handle.clone();
        let usable = others.iter().filter(|backend| backend.trouble().is_none());
        let slots_elsewhere = usable.map(|backend| backend.capacity()).sum();
        Box::pin(async move {
            let stats = handle.stats().await.ok()?;
            let count = |state: StateName| stats.submissions.get(state.as_str()).copied();
            let count = |state| count(state).unwrap_or_default();
            Some(Demand {
                waiting: count(StateName::Queued) + count(StateName::Dispatching),
                running: count(StateName::Running),
                ended_last_minute: stats.finished_last_minute,
                slots_elsewhere,
            })
        })
    })
}
