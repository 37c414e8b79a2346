//! One option as it is written, and an option string taken apart into them.

use std::path::Path;

use super::known::{FLAGS, PATHS, VALUED};
use super::values::bad_value;
use super::{ConfigError, Who};

/// Is one option as written: `key` or `key=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Its name.
    pub key: String,
    /// Its value, without the quotes.
    pub value: Option<String>,
}

impl Assignment {
    fn read(word: &str) -> Self {
        match word.split_once('=') {
            Some((key, value)) => Self { key: key.trim().to_owned(), value: Some(unquoted(value)) },
            None => Self { key: word.trim().to_owned(), value: None },
        }
    }

    /// Whether the name is one of ours.
    pub(super) fn is_known(&self) -> bool {
        let key = self.key.as_str();
        key == "remount" || VALUED.contains(&key) || FLAGS.contains(&key)
    }

    /// Makes a path that is taken from `cwd` mean the same everywhere.
    pub fn name_from_root(&mut self, cwd: &Path, who: &Who) -> Result<(), ConfigError> {
        let Some(value) = self.value.as_mut().filter(|_| PATHS.contains(&self.key.as_str())) else {
            return Ok(());
        };
        let full = super::spec::lexical(&who.path(cwd, Path::new(value)));
        match full.to_str() {
            _ if value.is_empty() => {}
            Some(full) => full.clone_into(value),
            None => return Err(bad_value(&self.key, value, "a path that is UTF-8 is needed")),
        }
        Ok(())
    }
}

/// Splits an option string at its commas; a comma inside double quotes belongs to the value. Empty words are dropped.
pub fn split_options(text: &str) -> Result<Vec<Assignment>, ConfigError> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match (c, words.last_mut()) {
            (',', _) if !quoted => words.push(String::new()),
            (_, Some(word)) => {
                quoted ^= c == '"';
                word.push(c);
            }
            (_, None) => {}
        }
    }
    if quoted {
        return Err(ConfigError::Option(format!(
            "options \"{text}\": a double quote is not closed"
        )));
    }
    Ok(words
        .iter()
        .filter(|word| !word.trim().is_empty())
        .map(|word| Assignment::read(word))
        .collect())
}

fn unquoted(value: &str) -> String {
    value.replace('"', "")
}
