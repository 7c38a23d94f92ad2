//! What goes on beside the programs where they run on this machine, in a daemon and in a worker alike.

use std::path::PathBuf;

use tokio::sync::watch;

use crate::{
    language::Catalog,
    lifecycle::Lifecycle,
    runner::{Runner, self_test},
};

/// Has kept programs give way while nothing runs that would see to it.
pub(super) fn watch_room(lifecycle: &mut Lifecycle, runner: Runner) {
    let soft = lifecycle.soft();
    lifecycle.spawn("room for programs", async move {
        runner.watch_room(&soft).await;
        Ok(())
    });
}

/// Tries each language out while nobody wants the machine, as `demand` says; passes are remembered in
/// `folder`.
pub(super) fn self_tests(
    lifecycle: &mut Lifecycle,
    catalog: Catalog,
    runner: Runner,
    demand: watch::Receiver<usize>,
    folder: PathBuf,
) {
    let soft = lifecycle.soft();
    lifecycle.spawn("self-tests", async move {
        let file = self_test::file_in(&folder);
        self_test::check_all(&catalog, &runner, file, demand, &soft).await;
        // A task that ends is a reason to end all; this one is merely done.
        soft.cancelled().await;
        Ok(())
    });
}
