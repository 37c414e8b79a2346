//! What an engine runs in that is going to be killed: its tasks and threads end with it, as those of a process do.

use std::path::PathBuf;

use dewfs::remote::Remote;
use tokio::runtime::{Builder, Runtime};

use super::*;

/// How long what a thread is just doing may take: it is done to its end, as if the process had died a little later.
const LAST: Duration = Duration::from_secs(60);

/// Is the process of one engine, if it needs one of its own; that costs twice the time.
pub(super) struct Process(Option<Runtime>);

impl Process {
    pub(super) fn new(is_doomed: bool) -> Self {
        let build = || Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self(is_doomed.then(build))
    }

    /// Starts an engine in it.
    pub(super) async fn start(
        &self,
        settings: Settings,
        dir: PathBuf,
        remote: Arc<dyn Remote>,
    ) -> Engine {
        let start = async move { Engine::start(settings, &dir, remote).await };
        match &self.0 {
            Some(runtime) => runtime.spawn(start).await.unwrap().unwrap(),
            None => start.await.unwrap(),
        }
    }

    /// Ends it without letting it end anything by itself.
    pub(super) async fn kill(mut self, engine: Engine) {
        let runtime = self.0.take().expect("nobody told that it is going to be killed");
        let killed = tokio::task::spawn_blocking(move || {
            runtime.shutdown_timeout(LAST);
            engine.bury();
        });
        killed.await.unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
