//! Pin rules: a pattern of paths, with limits of age and size, such as `docs/** modified<30d size<50M`.

use super::Glob;

/// Is what a pin rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinRule {
    glob: Glob,
    /// The folders that every fitting path begins with.
    folder: Vec<Vec<u8>>,
    limits: Vec<Limit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    /// Changed less (more) than so many nanoseconds ago.
    Modified(Than, i64),
    /// Smaller (larger) than so many bytes.
    Size(Than, u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Than {
    Less,
    More,
}

impl PinRule {
    /// Reads a rule: a pattern (in double quotes if it has blanks), then `modified<30d`, `modified>1h`, `size<50M`, `size>1K` in
    /// any order. The error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut words = words(text)?.into_iter();
        let pattern = words.next().filter(|word| !word.is_empty());
        let pattern = pattern.ok_or("a rule begins with a pattern such as docs/**")?;
        if limit(&pattern).is_some() {
            return Err(format!(
                "a rule begins with a pattern such as docs/**, not with {pattern}"
            ));
        }
        let plain = |part: &&str| !part.contains(['*', '?', '[', '\\']);
        let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty()).collect();
        let folders = parts.split_last().map(|(_, folders)| folders).unwrap_or_default();
        let folder = folders.iter().copied().take_while(plain).map(|part| part.as_bytes().to_vec());
        let limits = words.map(|word| {
            let why = format!("{word}: expected modified<30d, modified>1h, size<50M or size>1K");
            limit(&word).flatten().ok_or(why)
        });
        Ok(Self {
            folder: folder.collect(),
            glob: Glob::new(pattern.as_bytes()),
            limits: limits.collect::<Result<_, _>>()?,
        })
    }

    /// Its pattern.
    #[must_use]
    pub fn glob(&self) -> &Glob {
        &self.glob
    }

    /// The folder below which everything that fits is, as names from the mountpoint; empty for the mountpoint itself.
    #[must_use]
    pub fn folder(&self) -> &[Vec<u8>] {
        &self.folder
    }

    /// Whether time alone changes what fits.
    #[must_use]
    pub fn ages(&self) -> bool {
        self.limits.iter().any(|limit| matches!(limit, Limit::Modified(..)))
    }

    /// Whether a file of this size, last changed then, is within the limits; times are nanoseconds since 1970.
    #[must_use]
    pub fn allows(&self, size: u64, mtime: i64, now: i64) -> bool {
        self.limits.iter().all(|limit| match *limit {
            Limit::Modified(Than::Less, age) => now.saturating_sub(mtime) < age,
            Limit::Modified(Than::More, age) => now.saturating_sub(mtime) > age,
            Limit::Size(Than::Less, most) => size < most,
            Limit::Size(Than::More, least) => size > least,
        })
    }
}

/// A limit, if the word is about one; `Some(None)` if it is wrong.
fn limit(word: &str) -> Option<Option<Limit>> {
    let (key, than, value) = match (word.split_once('<'), word.split_once('>')) {
        (Some((key, value)), _) => (key, Than::Less, value),
        (None, Some((key, value))) => (key, Than::More, value),
        (None, None) => return None,
    };
    Some(match key {
        "modified" => age(value).map(|age| Limit::Modified(than, age)),
        "size" => bytes(value).map(|size| Limit::Size(than, size)),
        _ => None,
    })
}

fn age(text: &str) -> Option<i64> {
    let (number, unit) = split(text)?;
    let seconds: i64 = match unit {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        "y" => 365 * 86_400,
        _ => return None,
    };
    i64::try_from(number).ok()?.checked_mul(seconds)?.checked_mul(1_000_000_000)
}

/// Reads a size: a whole number with K, M, G or T (powers of 1024).
pub fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let shift = match unit.trim_end_matches(['B', 'i']) {
        "" => 0,
        "K" | "k" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit))
}

/// The words, at blanks; in double quotes a blank belongs to the word.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    if quoted { Err(format!("{text}: a double quote is not closed")) } else { Ok(words) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DAY: i64 = 86_400_000_000_000;

    #[test]
    fn a_rule_is_a_pattern_and_limits() {
        let rule = PinRule::parse("docs/2024/** modified<30d size<50M").unwrap();
        assert_eq!(rule.folder(), [b"docs".to_vec(), b"2024".to_vec()]);
        assert!(rule.ages() && !rule.glob().is_name());
        let now = 100 * DAY;
        assert!(rule.allows(1, 71 * DAY, now));
        assert!(!rule.allows(1, 70 * DAY, now), "30 days old");
        assert!(!rule.allows(50 << 20, now, now), "50 MiB");
        let rule = PinRule::parse("\"my docs/*.pdf\" size>1K").unwrap();
        assert!(rule.glob().matches(&[b"my docs", b"a.pdf"]));
        assert!(rule.allows(1025, 0, now) && !rule.allows(1024, 0, now));
        assert_eq!(PinRule::parse("*.pdf").unwrap().folder(), [] as [Vec<u8>; 0]);
        assert_eq!(PinRule::parse("a*/b/c").unwrap().folder(), [] as [Vec<u8>; 0]);
    }

    #[test]
    fn what_is_wrong_in_a_rule_is_named() {
        for (text, named) in [
            ("", "begins with a pattern"),
            ("size<5M", "not with size<5M"),
            ("docs/** size<many", "size<many"),
            ("docs/** modified<3", "modified<3"),
            ("docs/** owner<3", "owner<3"),
            ("docs/** new", "new"),
            ("\"docs", "not closed"),
        ] {
            let why = PinRule::parse(text).unwrap_err();
            assert!(why.contains(named), "{text}: {why}");
        }
    }
}
