//! Named places where a test lets the process die; nothing is left of them in release builds.

#[cfg(debug_assertions)]
use std::collections::HashMap;
#[cfg(debug_assertions)]
use std::sync::{Arc, Mutex};

#[cfg(debug_assertions)]
use crate::model::Ino;

/// Decides whether the process dies at this place.
#[cfg(debug_assertions)]
pub type CrashHook = Arc<dyn Fn(&'static str) -> bool + Send + Sync>;

/// Holds the hook of one engine, and counts what goes round and round.
#[cfg(debug_assertions)]
#[derive(Default)]
pub(crate) struct CrashPoints {
    hook: Mutex<Option<CrashHook>>,
    steps: Mutex<HashMap<Ino, u32>>,
}

#[cfg(debug_assertions)]
impl CrashPoints {
    /// Sets the hook.
    pub(crate) fn set(&self, hook: CrashHook) {
        *super::open::lock(&self.hook) = Some(hook);
    }

    /// Whether the process dies here.
    pub(crate) fn dies(&self, place: &'static str) -> bool {
        let hook = super::open::lock(&self.hook).clone();
        hook.is_some_and(|hook| hook(place))
    }

    /// A step for this inode begins.
    pub(super) fn count_step(&self, ino: Ino) {
        *super::open::lock(&self.steps).entry(ino).or_default() += 1;
    }

    /// How many steps began for the inode with the most of them.
    pub(super) fn most_steps(&self) -> u32 {
        super::open::lock(&self.steps).values().copied().max().unwrap_or(0)
    }
}

/// Ends the running task for ever if a test wants the process to die at this place.
macro_rules! crash_point {
    ($core:expr, $place:literal) => {
        #[cfg(debug_assertions)]
        if $core.workers.crash.dies($place) {
            std::future::pending::<()>().await;
        }
    };
}

/// The same where nothing can be awaited: only a hook that ends the whole process ends anything here.
macro_rules! crash_here {
    ($core:expr, $place:literal) => {
        #[cfg(debug_assertions)]
        if $core.workers.crash.dies($place) {
            tracing::trace!($place);
        }
    };
}

pub(crate) use {crash_here, crash_point};
