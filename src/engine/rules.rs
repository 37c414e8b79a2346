//! Pin rules: which files are pinned because they fit a rule. Rules are kept in the catalog; what fits is looked at again
//! when something changed, as often as that is cheap, and every hour where age counts.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::core::{Core, now};
use super::open::lock;
use super::{Engine, EngineError};
use crate::catalog::{CatalogError, Durability, Origin, Reader};
use crate::model::{Ino, Kind, Name, Pin, PinRule};

type Ready<T> = Result<T, EngineError>;

/// Under which key the catalog keeps the rules.
const RULES: &str = "pin rules";
/// How long what fits is not looked at again, at least. A large catalog rests longer.
const REST: Duration = Duration::from_secs(1);
/// How often what fits is looked at where age counts.
const AGEING: Duration = Duration::from_secs(3600);

/// Is a pin rule as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    name: String,
    expression: String,
    budget: Option<u64>,
}

/// Is a pin rule, and what it does.
#[derive(Clone, Debug)]
pub struct RuleStatus {
    /// What people call it.
    pub name: String,
    /// What it says.
    pub expression: String,
    /// How many bytes may be pinned by it.
    pub budget: Option<u64>,
    /// Files that are pinned by it, not those that will be.
    pub files: u64,
    /// Their length, bytes.
    pub size: u64,
    /// Of that, bytes here.
    pub present_bytes: u64,
    /// Files that fit and are not pinned, because the budget is used up.
    pub left_out: u64,
    /// Folders in which files may fit, whose names are not known yet.
    pub unlisted: u64,
}

/// Is an item with a pin of its own.
#[derive(Clone, Debug)]
pub struct OwnPin {
    /// Its path below the mountpoint, bytes, without a leading slash.
    pub path: Vec<u8>,
    /// The pin that was set on it.
    pub pin: Pin,
}

/// Is what those who look at the rules share.
#[derive(Default)]
pub(crate) struct Rules {
    /// The rules changed.
    news: Notify,
    /// Of several rules with a budget, which is the first that a file was within: no one file tells that.
    chosen: Mutex<HashMap<Ino, Arc<str>>>,
}

/// Is the folders that rules are about.
#[derive(Debug, Default)]
pub(crate) struct AboutRules {
    /// All names at and below these are wanted.
    pub(crate) tops: Vec<Ino>,
    /// Only their own names are.
    pub(crate) ways: HashSet<Ino>,
}

impl AboutRules {
    /// Whether no rule is about a folder that is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.tops.is_empty() && self.ways.is_empty()
    }
}

/// Says how far the way to the folder of a rule is known.
enum Way {
    /// To its end.
    Whole(Ino),
    /// To this folder, which is not listed.
    Unlisted(Ino),
    /// There is no such folder.
    Nowhere,
}

/// Is what one rule finds.
#[derive(Default)]
struct Fits {
    pinned: Vec<Ino>,
    size: u64,
    left_out: u64,
}

impl Engine {
    /// Adds a pin rule, or replaces the one of this name; without a name it gets one. Answers the name;
    /// `Refused` with the reason if the expression is no rule.
    pub async fn add_pin_rule(
        &self,
        name: Option<&str>,
        expression: &str,
        budget: Option<u64>,
    ) -> Ready<String> {
        PinRule::parse(expression).map_err(EngineError::Refused)?;
        let (name, expression) = (name.map(str::to_owned), expression.to_owned());
        // In one transaction: others may add theirs at the same time.
        let added = self.core.change_pin_rules(move |rules| {
            let free = |number: &u32| {
                let name = format!("rule-{number}");
                rules.iter().all(|rule| rule.name != name).then_some(name)
            };
            let fresh = || (1..u32::MAX).find_map(|number| free(&number)).unwrap_or_default();
            let name = name.unwrap_or_else(fresh);
            let rule = Kept { name: name.clone(), expression, budget };
            match rules.iter_mut().find(|other| other.name == name) {
                Some(same) => *same = rule,
                None => rules.push(rule),
            }
            Ok(name)
        });
        added.await
    }

    /// Removes a pin rule; what only it pinned may be freed again. `NotFound` if there is none of this name.
    pub async fn remove_pin_rule(&self, name: &str) -> Ready<()> {
        let name = name.to_owned();
        let removed = self.core.change_pin_rules(move |rules| {
            let before = rules.len();
            rules.retain(|rule| rule.name != name);
            if rules.len() == before { Err(EngineError::NotFound) } else { Ok(()) }
        });
        removed.await
    }

    /// Takes away the pin that an item has itself; what a rule pins stays so. `NotFound` if there is no such inode.
    pub async fn unpin(&self, ino: Ino) -> Ready<()> {
        if self.core.catalog.read(|rows| self.core.rule_of(rows, ino))?.is_some() {
            return Ok(());
        }
        self.set_pin(ino, Pin::Unspecified).await?;
        if self.core.catalog.read(|rows| rules_for(rows, ino))?.is_empty() {
            return Ok(());
        }
        // Else it would be told what is not so a moment later.
        self.core.apply_pin_rules().await
    }

    /// The pin rules and what they do.
    pub async fn pin_rules(&self) -> Ready<Vec<RuleStatus>> {
        let core = self.core.clone();
        self.core
            .blocking(move || {
                let rules = core.pin_rules()?;
                rules.into_iter().map(|rule| core.rule_status(rule)).collect()
            })
            .await
    }

    /// What has a pin of its own at or below `top`.
    pub async fn own_pins(&self, top: Ino) -> Ready<Vec<OwnPin>> {
        let mut pins = Vec::new();
        for (ino, pin) in self.core.catalog.read(|rows| rows.own_pins())? {
            if self.core.is_below(ino, top)?
                && let Some(path) = self.core.path_bytes(ino)
            {
                pins.push(OwnPin { path, pin });
            }
        }
        pins.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(pins)
    }
}

fn rules_in(kept: Option<&[u8]>) -> Vec<Kept> {
    kept.and_then(|kept| serde_json::from_slice(kept).ok()).unwrap_or_default()
}

/// The rules that a file fits, and whose budget is no smaller than it.
fn rules_for(rows: &Reader, ino: Ino) -> Result<Vec<Kept>, CatalogError> {
    let mut rules = rules_in(rows.state(RULES)?.as_deref());
    let Some((Kind::File, size, mtime)) = rows.kind_size_mtime(ino)? else { return Ok(Vec::new()) };
    let path = super::status::path_of(rows, ino)?;
    let path: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let now = now();
    rules.retain(|kept| {
        let fits = PinRule::parse(&kept.expression).is_ok_and(|rule| {
            let glob = rule.glob();
            let is_called_so = match path.last() {
                Some(name) if glob.is_name() => glob.matches_name(name),
                _ => glob.matches(&path),
            };
            is_called_so && rule.allows(size, mtime, now)
        });
        fits && kept.budget.is_none_or(|budget| size <= budget)
    });
    Ok(rules)
}

impl Core {
    /// The rule that pins a file: of several the first that leaves nothing out, else the first whose budget it is within. `None`
    /// if no rule pinned it, or none fits it any more and it is about to be let go.
    pub(super) fn rule_of(&self, rows: &Reader, ino: Ino) -> Result<Option<String>, CatalogError> {
        if !rows.is_pinned_by_rule(ino)? {
            return Ok(None);
        }
        let mut rules = rules_for(rows, ino)?;
        rules.sort_by_key(|rule| rule.budget.is_some());
        let is_clear = rules.len() == 1 || rules.first().is_some_and(|rule| rule.budget.is_none());
        if !is_clear {
            let chosen = lock(&self.rules.chosen).get(&ino).cloned();
            rules.retain(|rule| chosen.as_deref() == Some(&rule.name));
        }
        Ok(rules.into_iter().next().map(|rule| rule.name))
    }

    fn pin_rules(&self) -> Ready<Vec<Kept>> {
        Ok(rules_in(self.catalog.read(|rows| rows.state(RULES))?.as_deref()))
    }

    /// Changes the rules in one transaction, and applies them.
    async fn change_pin_rules<T: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Vec<Kept>) -> Ready<T> + Send + 'static,
    ) -> Ready<T> {
        let changed = self
            .catalog
            .write(Durability::Synced, Origin::Engine, move |tx| {
                let mut rules = rules_in(tx.state(RULES)?.as_deref());
                let answer = change(&mut rules)?;
                let bytes =
                    serde_json::to_vec(&rules).map_err(|_| EngineError::Invalid("a rule"))?;
                tx.set_state(RULES, Some(&bytes))?;
                Ok::<_, EngineError>(answer)
            })
            .await?;
        self.apply_pin_rules().await?;
        self.rules.news.notify_one();
        // There may be a folder to list of which no rule told before.
        self.pins.notify_one();
        Ok(changed)
    }

    /// What fits a rule now, the files changed last first, as far as its budget goes.
    fn fitting(&self, kept: &Kept) -> Ready<Fits> {
        let Ok(rule) = PinRule::parse(&kept.expression) else { return Ok(Fits::default()) };
        let now = now();
        let mut files = self.catalog.read(|rows| {
            let mut files = Vec::new();
            for ino in rows.find(Ino::ROOT, Some(rule.glob()))? {
                let Some((kind, size, mtime)) = rows.kind_size_mtime(ino)? else { continue };
                if kind == Kind::File && rule.allows(size, mtime, now) {
                    files.push((mtime, ino, size));
                }
            }
            Ok(files)
        })?;
        files.sort_unstable_by(|one, other| other.cmp(one));
        let mut fits = Fits::default();
        for (_, ino, size) in files {
            if kept.budget.is_some_and(|budget| fits.size.saturating_add(size) > budget) {
                fits.left_out += 1;
                continue;
            }
            fits.size += size;
            fits.pinned.push(ino);
        }
        Ok(fits)
    }

    fn rule_status(&self, kept: Kept) -> Ready<RuleStatus> {
        let fits = self.fitting(&kept)?;
        // What fits is pinned soon; a pin that somebody set on a file keeps it from that.
        let (files, size, present_bytes) = self.catalog.read(|rows| {
            let applied: HashSet<Ino> = rows.pinned_by_rule()?.into_iter().collect();
            let (mut files, mut size, mut present) = (0, 0, 0);
            for ino in fits.pinned.iter().filter(|ino| applied.contains(*ino)) {
                files += 1;
                size += rows.kind_size_mtime(*ino)?.map_or(0, |(_, size, _)| size);
                present += rows.found(*ino)?.map_or(0, |found| found.present);
            }
            Ok((files, size, present))
        })?;
        let unlisted = match PinRule::parse(&kept.expression) {
            Ok(rule) => match self.folder_of(&rule)? {
                Way::Whole(top) => self.catalog.read(|rows| rows.unlisted_below(top))?,
                Way::Unlisted(_) => 1,
                Way::Nowhere => 0,
            },
            Err(_) => 0,
        };
        Ok(RuleStatus {
            unlisted,
            name: kept.name,
            expression: kept.expression,
            budget: kept.budget,
            files,
            size,
            present_bytes,
            left_out: fits.left_out,
        })
    }

    /// Pins what fits a rule, and lets go of what no longer does.
    async fn apply_pin_rules(self: &Arc<Self>) -> Ready<()> {
        let core = self.clone();
        let (rules, add, drop) = self
            .blocking(move || {
                let (mut wanted, mut chosen) = (HashSet::new(), HashMap::new());
                let rules = core.catalog.read(|rows| rows.state(RULES))?;
                let all = rules_in(rules.as_deref());
                let has_several = all.iter().filter(|rule| rule.budget.is_some()).count() > 1;
                for rule in &all {
                    let pinned = core.fitting(rule)?.pinned;
                    if has_several && rule.budget.is_some() {
                        let name: Arc<str> = rule.name.as_str().into();
                        for ino in &pinned {
                            chosen.entry(*ino).or_insert_with(|| name.clone());
                        }
                    }
                    wanted.extend(pinned);
                }
                *lock(&core.rules.chosen) = chosen;
                let pinned: HashSet<Ino> =
                    core.catalog.read(|rows| rows.pinned_by_rule())?.into_iter().collect();
                let add: Vec<Ino> = wanted.difference(&pinned).copied().collect();
                let drop: Vec<Ino> = pinned.difference(&wanted).copied().collect();
                Ok((rules, add, drop))
            })
            .await?;
        if add.is_empty() && drop.is_empty() {
            return Ok(());
        }
        self.catalog
            .write(Durability::Soon, Origin::Engine, move |tx| {
                // Who gave others meanwhile applies these.
                if tx.state(RULES)? != rules { Ok(()) } else { tx.set_rule_pins(&add, &drop) }
            })
            .await
            .map_err(EngineError::from)?;
        self.let_pins_try_again();
        Ok(())
    }

    /// The folders that rules are about, as far as they are known: what is not listed in them is. Of one that is not known
    /// yet, the folder on the way to it whose names are to be known first.
    pub(crate) fn folders_of_rules(&self) -> Ready<AboutRules> {
        let mut folders = AboutRules::default();
        for kept in self.pin_rules()? {
            let Ok(rule) = PinRule::parse(&kept.expression) else { continue };
            if rule.folder().is_empty() {
                continue;
            }
            match self.folder_of(&rule)? {
                Way::Whole(folder) => folders.tops.push(folder),
                Way::Unlisted(folder) => drop(folders.ways.insert(folder)),
                Way::Nowhere => {}
            }
        }
        Ok(folders)
    }

    /// How far the way to the folder of a rule is known.
    fn folder_of(&self, rule: &PinRule) -> Ready<Way> {
        let mut at = Ino::ROOT;
        for part in rule.folder() {
            let Ok(name) = Name::new(part.as_slice()) else { return Ok(Way::Nowhere) };
            at = match self.catalog.read(|rows| rows.lookup(at, &name))? {
                Some(inode) if inode.kind == Kind::Folder => inode.ino,
                Some(_) => return Ok(Way::Nowhere),
                None if self.catalog.read(|rows| rows.is_listed(at))? => return Ok(Way::Nowhere),
                None => return Ok(Way::Unlisted(at)),
            };
        }
        Ok(Way::Whole(at))
    }

    /// Keeps the pins of rules true; ends with the engine. Without rules it sleeps.
    pub(crate) async fn run_rules(self: Arc<Self>) {
        let mut stopping = self.stopping.subscribe();
        let mut pulse = self.pulse.subscribe();
        loop {
            let begun = Instant::now();
            let rules = self.pin_rules().unwrap_or_default();
            if !rules.is_empty()
                && let Err(error) = self.apply_pin_rules().await
            {
                tracing::warn!(%error, "cannot tell what fits the pin rules");
            }
            pulse.borrow_and_update();
            let ages = |rule: &Kept| PinRule::parse(&rule.expression).is_ok_and(|rule| rule.ages());
            let ages = rules.iter().any(ages);
            // A large catalog takes a while: at most a hundredth of the time goes into this.
            let rest = REST.max(begun.elapsed() * 100);
            let news = async {
                tokio::time::sleep(rest).await;
                pulse.changed().await.is_ok()
            };
            tokio::select! {
                _news = news, if !rules.is_empty() => {}
                () = tokio::time::sleep(AGEING), if ages => {}
                () = self.rules.news.notified() => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
        }
    }
}
