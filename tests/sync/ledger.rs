//! Who wrote which content over which.

use super::*;

impl Ledger {
    pub(super) fn wrote(&mut self, content: &[u8], over: impl IntoIterator<Item = Vec<u8>>) {
        let content = label(content).into_bytes();
        self.acknowledged.push(content.clone());
        for over in over {
            let over = label(&over).into_bytes();
            self.children.entry(over).or_default().push(content.clone());
        }
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
pub(super) fn note_version(
    store: &MemoryStore,
    versions: &Mutex<HashMap<String, Vec<Vec<u8>>>>,
    path: &str,
) {
    loop {
        let Some(seen) = store.peek(path).filter(|seen| seen.kind == Kind::File) else { return };
        let Some(content) = store.content(path) else { return };
        if store.peek(path).is_some_and(|again| again.version == seen.version) {
            let mut versions = versions.lock().unwrap();
            let known = versions.entry(seen.version.0).or_default();
            if !known.contains(&content.to_vec()) {
                known.push(content.to_vec());
            }
            return;
        }
    }
}
