//! Answers about several paths: what fails for one of them is told with its name, and does not keep the others from being done.

use crate::engine::{EngineError, Keep};

use super::handler::{Handler, Outcome, failed};
use super::outcome::{Dropped, Fetched, ResolvedDocument};
use super::protocol::{Done, Kept, Scope};

/// So many failures are told of one by one.
const NAMED: usize = 5;

/// Is what became of several paths.
#[derive(Debug, Default)]
pub(super) struct Several {
    exit: u8,
    said: Vec<String>,
    more: usize,
}

impl Several {
    /// Notes what became of one.
    pub(super) fn add(&mut self, path: &str, outcome: Outcome) {
        let (exit, said) = match outcome {
            Ok(done) => (done.exit, done.message),
            Err(error) => (failed(&error).exit, Some(format!("{path}: {}", in_words(&error)))),
        };
        self.exit = self.exit.max(exit);
        match said {
            Some(said) if self.said.len() < NAMED => self.said.push(said),
            Some(_) => self.more += 1,
            None => {}
        }
    }

    /// The answer: the worst of all.
    pub(super) fn done(mut self) -> Done {
        if self.more > 0 {
            self.said.push(format!("and {} more", self.more));
        }
        let said = (!self.said.is_empty()).then(|| self.said.join("; "));
        Done::with(self.exit, None, said)
    }
}

/// What went wrong with a path, after its name.
pub(super) fn in_words(error: &EngineError) -> String {
    match error {
        EngineError::NotFound => "no such file or folder".to_owned(),
        other => other.to_string(),
    }
}

/// Why one of several files did not come while the remote answers.
fn why_not_fetched(error: &EngineError) -> String {
    match error {
        EngineError::Stale => {
            "it was replaced at the remote meanwhile: ask for it again".to_owned()
        }
        EngineError::Offline => {
            "the remote answers, but cannot reach this part of it now: is a disk missing there?"
                .to_owned()
        }
        other => in_words(other),
    }
}

impl Handler {
    pub(super) async fn hydrate(&self, paths: &[Scope]) -> Outcome {
        let mut all = Several::default();
        for scope in paths {
            let path = self.path_text(&scope.bytes().unwrap_or_default());
            let fetched = async { self.engine.hydrate(self.find(scope).await?).await };
            match fetched.await {
                Ok(hydrated) => {
                    self.say(&Fetched::new(path, hydrated.bytes)).await;
                    for (path, error) in hydrated.failed {
                        self.note_not_fetched(&mut all, &path, &error, "");
                    }
                }
                Err(error) => all.add(&path.path, Err(error)),
            }
        }
        Ok(all.done())
    }

    /// Notes what did not come of what is below the path that was asked for.
    pub(super) fn note_not_fetched(
        &self,
        all: &mut Several,
        path: &[u8],
        error: &EngineError,
        rest: &str,
    ) {
        let path = self.path_text(path).path;
        let said = format!("{path}: {}{rest}", why_not_fetched(error));
        all.add(&path, Ok(Done::with(failed(error).exit, None, Some(said))));
    }

    pub(super) async fn free(&self, paths: &[Scope], dry_run: bool) -> Outcome {
        let mut all = Several::default();
        for scope in paths {
            let path = self.path_text(&scope.bytes().unwrap_or_default());
            let freed = async { self.engine.free(self.find(scope).await?, dry_run).await };
            let outcome = match freed.await {
                Ok(freed) => {
                    self.say(&Dropped::of(&freed, dry_run, &self.info.mountpoint)).await;
                    Ok(Done::with(u8::from(!freed.kept.is_empty()), None, None))
                }
                Err(error) => Err(error),
            };
            all.add(&path.path, outcome);
        }
        Ok(all.done())
    }

    pub(super) async fn resolve(&self, paths: &[Scope], keep: Kept, dry_run: bool) -> Outcome {
        let keep = match keep {
            Kept::Mine => Keep::Mine,
            Kept::Theirs => Keep::Theirs,
            Kept::Both => Keep::Both,
        };
        let mut all = Several::default();
        for scope in paths {
            let path = self.path_text(&scope.bytes().unwrap_or_default()).path;
            let resolved = async {
                self.engine.resolve_conflict(self.find(scope).await?, keep, dry_run).await
            };
            let outcome = match resolved.await {
                Ok(resolved) => {
                    for one in &resolved {
                        self.say(&ResolvedDocument::of(one, dry_run, &self.info.mountpoint)).await;
                    }
                    Ok(Done::well())
                }
                Err(error) => Err(error),
            };
            all.add(&path, outcome);
        }
        Ok(all.done())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_counts_and_not_all_of_very_many_are_named() {
        let mut all = Several::default();
        all.add("/m/a", Ok(Done::well()));
        all.add("/m/b", Err(EngineError::Unauthenticated));
        (0..6).for_each(|n| all.add(&format!("/m/{n}"), Err(EngineError::NotFound)));
        let done = all.done();
        assert_eq!(done.exit, 4);
        let said = done.message.unwrap_or_default();
        assert!(said.contains("/m/3: no such file or folder; and 2 more"), "{said}");
        assert_eq!(Several::default().done(), Done::well());
    }
}
