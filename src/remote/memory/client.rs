//! A handle to a memory store, and the way of one request through gates and faults.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::fault::{Fault, Moment, Operation, Step};
use super::store::MemoryStore;
use super::tree::{Tree, fail};
use crate::remote::{Conditional, ErrorKind, RemotePath, Result};

/// Is one client of a [`MemoryStore`]. Clones are the same client.
#[derive(Clone, Debug)]
pub struct MemoryRemote {
    pub(super) store: Arc<MemoryStore>,
    client: Arc<Client>,
}

#[derive(Debug)]
struct Client {
    number: u64,
    online: AtomicBool,
    cut: AtomicBool,
    counts: Mutex<BTreeMap<Operation, u64>>,
}

/// Is a request on its way: what it is about, and what meets it.
pub(super) struct Way<'a> {
    remote: &'a MemoryRemote,
    op: Operation,
    at: RemotePath,
    pub(super) fault: Option<Fault>,
}

impl MemoryRemote {
    pub(super) fn new(store: Arc<MemoryStore>, number: u64) -> Self {
        let client = Client {
            number,
            online: AtomicBool::new(true),
            cut: AtomicBool::new(false),
            counts: Mutex::default(),
        };
        Self { store, client: Arc::new(client) }
    }

    /// The store behind it.
    pub fn store(&self) -> &Arc<MemoryStore> {
        &self.store
    }

    /// Which client of its store this is; [`Step::handle`] names it.
    pub fn number(&self) -> u64 {
        self.client.number
    }

    /// Parts this client from the store, or ends that.
    pub fn set_online(&self, online: bool) {
        self.client.online.store(online, Ordering::SeqCst);
    }

    /// Cuts this client off for ever, as a crash does: nothing it asks, or has asked and that is not applied yet, is ever
    /// applied, and it gets no more answers than `Offline`.
    pub fn cut_off(&self) {
        self.client.cut.store(true, Ordering::SeqCst);
    }

    /// How many requests of each kind this client sent.
    pub fn counts(&self) -> BTreeMap<Operation, u64> {
        self.client.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many requests this client sent.
    pub fn requests(&self) -> u64 {
        self.counts().values().sum()
    }

    fn is_reachable(&self) -> bool {
        self.client.online.load(Ordering::SeqCst)
            && !self.client.cut.load(Ordering::SeqCst)
            && self.store.tree().online
    }

    pub(super) fn count(&self, op: Operation) {
        let mut counts = self.client.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(op).or_default() += 1;
        drop(counts);
        *self.store.tree().counts.entry(op).or_default() += 1;
    }

    /// One request: arrives, is applied, is answered; faults and gates in between.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        op: Operation,
        at: &RemotePath,
        apply: impl FnOnce(&mut Tree) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.call_looking(op, at, |_| Ok(()), apply, false).await
    }

    /// One request to a store that first looks and then, if `apart`, lets others come in between before it acts.
    pub(super) async fn call_looking<T: Send + 'static>(
        &self,
        op: Operation,
        at: &RemotePath,
        look: impl FnOnce(&mut Tree) -> Result<()> + Send + 'static,
        act: impl FnOnce(&mut Tree) -> Result<T> + Send + 'static,
        apart: bool,
    ) -> Result<T> {
        self.count(op);
        let way = self.arrive(op, at).await?;
        if way.fault == Some(Fault::DeliverLate) {
            let request = move |tree: &mut Tree| {
                if look(tree).is_ok() {
                    drop(act(tree));
                }
            };
            self.store.tree().late.push_back(Box::new(request));
            return fail(ErrorKind::Offline, op, at);
        }
        let mut result = self.store.act(|tree| look(tree));
        if apart && result.is_ok() && way.pause(Moment::Looked).await.is_some() {
            result = fail(ErrorKind::Offline, op, at);
        }
        if result.is_ok() && self.client.cut.load(Ordering::SeqCst) {
            return fail(ErrorKind::Offline, op, at);
        }
        let result = match result {
            Ok(()) => self.store.act(act),
            Err(error) => Err(error),
        };
        way.answer(result).await
    }

    pub(super) async fn arrive(&self, op: Operation, at: &RemotePath) -> Result<Way<'_>> {
        if !self.is_reachable() {
            return fail(ErrorKind::Offline, op, at);
        }
        let mut way = Way { remote: self, op, at: at.clone(), fault: None };
        let held = way.pause(Moment::Arrives).await;
        way.fault = held.or_else(|| self.strike(op, at));
        if let Some(Fault::Delay(time)) = way.fault {
            tokio::time::sleep(time).await;
        }
        if let Some(Fault::Fail(kind)) = &way.fault {
            return fail(kind.clone(), op, at);
        }
        if !self.is_reachable() {
            return fail(ErrorKind::Offline, op, at);
        }
        Ok(way)
    }

    fn strike(&self, op: Operation, at: &RemotePath) -> Option<Fault> {
        let mut tree = self.store.tree();
        if let Some(fault) = tree.rules.iter_mut().find_map(|rule| rule.strike(op, at)) {
            return Some(fault);
        }
        let random = tree.random_faults.clone()?;
        if random.faults.is_empty() || tree.random.u32(0..1000) >= random.per_mille {
            return None;
        }
        let which = tree.random.usize(0..random.faults.len());
        random.faults.get(which).cloned()
    }

    /// What somebody who is no request can see: whether the store's conditions are atomic.
    pub(super) fn level(&self) -> Conditional {
        self.store.tree().options.conditional
    }
}

impl Way<'_> {
    async fn pause(&self, moment: Moment) -> Option<Fault> {
        let gate = self.remote.store.tree().gate.clone()?;
        let handle = self.remote.client.number;
        (gate.0)(Step { handle, operation: self.op, path: self.at.clone(), moment }).await
    }

    pub(super) async fn answer<T>(self, result: Result<T>) -> Result<T> {
        let lost = self.pause(Moment::Answers).await.is_some();
        if let Some(Fault::DelayAnswer(time)) = self.fault {
            tokio::time::sleep(time).await;
        }
        if lost || self.fault == Some(Fault::LoseAnswer) || !self.remote.is_reachable() {
            return fail(ErrorKind::Offline, self.op, &self.at);
        }
        result
    }
}
