//! Which names are kept here only: patterns in the manner of gitignore, the last one that fits decides.

use super::{Glob, Name};

/// Is the exclude patterns of a mount.
#[derive(Clone, Debug, Default)]
pub struct Exclude {
    rules: Vec<Rule>,
    /// Whether some look at more than a name.
    by_path: bool,
}

#[derive(Clone, Debug)]
struct Rule {
    glob: Glob,
    /// `!` before it: what fits is sent after all.
    sends: bool,
    /// `/` behind it: only folders fit.
    folders: bool,
}

impl Exclude {
    /// These patterns: of a name at any depth, or with a slash before their end of a path from the mountpoint; a slash at
    /// the end fits folders only; `!` takes back what one before it says.
    #[must_use]
    pub fn new<P: AsRef<str>>(patterns: &[P]) -> Self {
        let rules: Vec<Rule> = patterns.iter().filter_map(|one| Rule::read(one.as_ref())).collect();
        let by_path = rules.iter().any(|rule| !rule.glob.is_name());
        Self { rules, by_path }
    }

    /// Whether a pattern looks at more than a name: then a folder that moves makes it fit other things below.
    #[must_use]
    pub fn looks_at_paths(&self) -> bool {
        self.by_path
    }

    /// Whether a name is kept here only; `above` gives the names of the folders above it, and is asked only where a pattern
    /// looks at them.
    pub fn matches<E>(
        &self,
        name: &Name,
        is_folder: bool,
        above: impl FnOnce() -> Result<Vec<Name>, E>,
    ) -> Result<bool, E> {
        let above = if self.by_path { above()? } else { Vec::new() };
        let path: Vec<&[u8]> = above.iter().chain([name]).map(Name::as_bytes).collect();
        let fits = |rule: &&Rule| {
            let by_name = rule.glob.is_name() && rule.glob.matches_name(name.as_bytes());
            (is_folder || !rule.folders) && (by_name || rule.glob.matches(&path) && self.by_path)
        };
        Ok(self.rules.iter().rev().find(fits).is_some_and(|rule| !rule.sends))
    }
}

impl Rule {
    fn read(pattern: &str) -> Option<Self> {
        let (sends, pattern) = match pattern.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, pattern),
        };
        let folders = pattern.ends_with('/');
        let body = pattern.trim_end_matches('/');
        let glob = match body.starts_with('/') {
            // A slash before a name alone ties it to the top.
            true => Glob::anchored(body.as_bytes()),
            false => Glob::new(body.as_bytes()),
        };
        (!body.is_empty()).then_some(Self { glob, sends, folders })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn kept(patterns: &[&str], path: &str) -> bool {
        let (path, is_folder) = path.strip_suffix('/').map_or((path, false), |path| (path, true));
        let mut names: Vec<Name> = path.split('/').map(|name| Name::new(name).unwrap()).collect();
        let name = names.pop().unwrap();
        Exclude::new(patterns).matches(&name, is_folder, || Ok::<_, ()>(names)).unwrap()
    }

    #[test]
    fn patterns_are_read_as_in_gitignore() {
        for (patterns, path, expected) in [
            (&["*.o"] as &[&str], "a/b.o", true),
            (&["*.o"], "a/b.c", false),
            (&["*.o", "!keep.o"], "keep.o", false),
            (&["!keep.o", "*.o"], "keep.o", true),
            (&["build/"], "a/build/", true),
            (&["build/"], "a/build", false),
            (&["/build"], "build", true),
            (&["/build"], "a/build", false),
            (&["a/*.o"], "a/b.o", true),
            (&["a/*.o"], "x/a/b.o", false),
            (&["**/a/*.o"], "x/a/b.o", true),
            (&["*.o", "!a/*.o"], "a/b.o", false),
            (&["[._]*.sw[a-p]"], ".x.swo", true),
            (&["/", "!", ""], "x", false),
        ] {
            assert_eq!(kept(patterns, path), expected, "{patterns:?} {path}");
        }
    }
}
