//! The values of options: sizes, durations, modes, switches.

use std::time::Duration;

use super::ConfigError;

/// Is an amount of disk: bytes, or a share of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// Bytes.
    Bytes(u64),
    /// Hundredths of a percent of the disk.
    Share(u32),
}

impl Amount {
    /// The bytes it is of a disk of `total` bytes.
    pub fn of(self, total: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Share(share) => {
                u64::try_from(u128::from(total) * u128::from(share) / 10_000).unwrap_or(u64::MAX)
            }
        }
    }
}

/// Reads a size: `1048576`, `64K`, `1.5G`, `10T`; powers of 1024, with or without `B` or `iB`.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    scaled(number, 1 << shift)
}

/// Reads `number` (digits with at most one dot) times `unit`, exactly.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) || part.len() > 9 {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    if part.is_empty() {
        return Some(whole);
    }
    let divisor = 10_u128.pow(u32::try_from(part.len()).ok()?);
    let part = part.parse::<u128>().ok()? * u128::from(unit) / divisor;
    whole.checked_add(u64::try_from(part).ok()?)
}

/// Reads a size or a percentage.
pub(super) fn parse_amount(text: &str) -> Option<Amount> {
    match text.trim().strip_suffix('%') {
        Some(percent) => {
            let share = scaled(percent.trim(), 100)?;
            u32::try_from(share).ok().filter(|share| *share <= 10_000).map(Amount::Share)
        }
        None => parse_size(text).map(Amount::Bytes),
    }
}

/// Reads a duration: `500ms`, `30s`, `5m`, `1h30m`, `2d`; a bare number is seconds.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "" if tail.is_empty() && rest.len() == text.trim().len() => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        sum = sum.checked_add(Duration::from_millis(scaled(number, millis)?))?;
        rest = tail;
    }
    Some(sum)
}

/// Reads permission bits in octal, with or without `0o`.
pub(super) fn parse_mode(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o7777)
}

/// Reads `on` or `off`, and the words people use for them.
pub(super) fn parse_switch(text: &str) -> Option<bool> {
    match text {
        "on" | "yes" | "true" | "1" => Some(true),
        "off" | "no" | "false" | "0" => Some(false),
        _ => None,
    }
}

/// The error for a value that cannot be read: names the option, the value, and what would do.
/// Whether an address, with or without its scheme, has a password in it.
pub(super) fn has_password(address: &str) -> bool {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
}

pub(super) fn bad_value(key: &str, value: &str, wanted: &str) -> ConfigError {
    ConfigError::Option(format!("option {key}={value}: {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(parse_size("64K"), Some(65536));
        assert_eq!(parse_size("1.5G"), Some(3 << 29));
        assert_eq!(parse_size("2TiB"), Some(2 << 40));
        assert_eq!(parse_size("17"), Some(17));
        for bad in ["", "G", "1X", "-1", "1.2.3", ".5G", "99999999999T"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }

    #[test]
    fn shares_are_of_the_disk() {
        assert_eq!(parse_amount("5%").map(|a| a.of(2000)), Some(100));
        assert_eq!(parse_amount("0.5%").map(|a| a.of(2000)), Some(10));
        assert_eq!(parse_amount("101%"), None);
        assert_eq!(parse_amount("1G").map(|a| a.of(5)), Some(1 << 30));
    }

    #[test]
    fn durations_add_up_and_bare_numbers_are_seconds() {
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(parse_duration("30"), Some(Duration::from_secs(30)));
        assert_eq!(parse_duration("1.5s"), Some(Duration::from_millis(1500)));
        for bad in ["", "s", "5x", "1h30", "-3s", "1 s"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(parse_mode("0644"), Some(0o644));
        assert_eq!(parse_mode("0o700"), Some(0o700));
        assert_eq!(parse_mode("888"), None);
        assert_eq!(parse_mode("77777"), None);
    }
}
