//! Who wrote which content over which, and which versions they were.

use super::*;

impl Ledger {
    pub(super) fn wrote(&mut self, content: &[u8], over: impl IntoIterator<Item = Vec<u8>>) {
        let content = label(content).into_bytes();
        self.acknowledged.push(content.clone());
        for over in over {
            self.child(&over, &content);
        }
    }

    /// What may have come of a content.
    pub(super) fn child(&mut self, over: &[u8], content: &[u8]) {
        let (over, content) = (label(over).into_bytes(), label(content).into_bytes());
        self.children.entry(over).or_default().push(content);
    }

    pub(super) fn lost(&self, present: &HashSet<Vec<u8>>) -> Vec<String> {
        let mut alive: HashSet<&Vec<u8>> = present.union(&self.gone).collect();
        loop {
            let before = alive.len();
            for (parent, children) in &self.children {
                if children.iter().any(|child| alive.contains(child)) {
                    alive.insert(parent);
                }
            }
            if alive.len() == before {
                break;
            }
        }
        let lost = self.acknowledged.iter().filter(|content| !alive.contains(content));
        lost.map(|content| label(content)).collect()
    }
}

/// The word that a content begins with.
pub(super) fn label(content: &[u8]) -> String {
    String::from_utf8_lossy(content.split(|b| *b == b' ').next().unwrap_or_default()).into_owned()
}

/// Notes the content of each version as it comes into being.
pub(super) fn note_version(store: &MemoryStore, versions: &Versions, path: &str) {
    loop {
        let Some(seen) = store.peek(path).filter(|seen| seen.kind == Kind::File) else { return };
        let Some(content) = store.content(path) else { return };
        if store.peek(path).is_some_and(|again| again.version == seen.version) {
            let word = label(&content).into_bytes();
            let mut versions = versions.lock().unwrap();
            let known = versions.entry(seen.version.0).or_default();
            if !known.contains(&word) {
                known.push(word);
            }
            return;
        }
    }
}

impl Machine {
    pub(super) fn note_version(&self, path: &str) {
        if let Some(store) = self.there.store() {
            note_version(store, &self.versions, path);
        }
    }

    /// Answers may be lost, so versions are also noted by looking.
    pub(super) fn note_all(&self) {
        if let Some(store) = self.there.store() {
            for (path, content) in store.snapshot_text() {
                if content.is_some() {
                    note_version(store, &self.versions, &path);
                }
            }
        }
    }

    /// The contents that a version may stand for.
    pub(super) fn behind(&self, version: &str) -> Vec<Vec<u8>> {
        self.versions.lock().unwrap().get(version).cloned().unwrap_or_default()
    }

    /// Whether the remote had this content under a version that stood for another one as well, as versions that tick do: then
    /// nobody can tell the two apart while they are young.
    pub(super) fn looks_like_another(&self, word: &str) -> bool {
        self.note_all();
        let versions = self.versions.lock().unwrap();
        let word = word.as_bytes();
        versions.values().any(|all| all.len() > 1 && all.iter().any(|one| one == word))
    }

    /// What a content is as a whole.
    pub(super) fn made(&mut self, content: &[u8]) {
        self.whole.insert(label(content), content.to_vec());
    }

    /// Where bytes leave the content that their first word tells.
    pub(super) fn mixed(&self, content: &[u8]) -> String {
        let word = label(content);
        let whole = self.whole.get(&word).cloned().unwrap_or_default();
        let at = whole.iter().zip(content).position(|(one, other)| one != other);
        format!(
            "a mixture under {word}: {} of {} bytes, other from {at:?} on",
            content.len(),
            whole.len()
        )
    }

    /// Whether bytes are the content that their first word tells, if that is known, or a step on the way to it: who writes for
    /// long is sent meanwhile, and somebody else may move that.
    pub(super) fn is_whole(&self, content: &[u8]) -> bool {
        let steps = self.steps.get(&label(content));
        self.is_last(content) || steps.is_some_and(|steps| steps.iter().any(|one| one == content))
    }

    /// Whether bytes are what was acknowledged under their first word.
    pub(super) fn is_last(&self, content: &[u8]) -> bool {
        let word = label(content);
        let also = self.also.get(&word).into_iter().flatten();
        self.doubtful.contains(&word)
            || self.whole.get(&word).is_none_or(|whole| whole == content)
            || also.into_iter().any(|one| one == content)
    }

    /// All that was ever to be seen under a word, what it became first.
    pub(super) fn all_under(&self, word: &str) -> Vec<Vec<u8>> {
        let others = [&self.also, &self.steps].map(|of| of.get(word).into_iter().flatten());
        let mut all: Vec<Vec<u8>> = self.whole.get(word).cloned().into_iter().collect();
        for one in others.into_iter().flatten() {
            if !all.contains(one) {
                all.push(one.clone());
            }
        }
        all
    }
}

/// Is what comes of a file that is patched, whichever of some contents it had: it may be a step on the way to what another
/// machine was told of.
pub(super) struct Patched {
    pub(super) now: Vec<Vec<u8>>,
    pub(super) steps: Vec<Vec<u8>>,
}

/// Of more contents than this, it is not known which one a file has.
const MOST: usize = 12;

impl Patched {
    pub(super) fn over(now: Vec<Vec<u8>>) -> Self {
        Self { now, steps: Vec::new() }
    }

    /// Whether it is known what it was, and that is longer than a label.
    pub(super) fn fits(&self, label: usize) -> bool {
        (1..MOST).contains(&self.now.len()) && self.now.iter().all(|one| one.len() > label)
    }

    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) {
        for one in &mut self.now {
            if let Some(part) = one.get_mut(at..at + bytes.len()) {
                part.copy_from_slice(bytes);
            }
        }
        self.steps.extend(self.now.iter().cloned());
    }

    pub(super) fn cut(&mut self, size: usize) {
        self.now.iter_mut().for_each(|one| one.resize(size, 0));
    }
}
