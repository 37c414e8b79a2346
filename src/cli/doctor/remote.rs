//! Whether a remote answers, and what may be wrong if not: network, TLS, sign-in, clocks.

use std::ffi::OsString;

use super::Check;
use crate::cli::way_out::{way_out, without_way_out};
use crate::cli::{ATTENTION, Common, Failure, remote};
use crate::config::shell_word;

/// Seconds by which two clocks that are both right may differ, on the way and by rounding.
const CLOCKS_DIFFER: u64 = 10;

/// The remote, and its clock if it told the time.
pub(super) fn checks(spec: &OsString, common: &Common) -> Vec<Check> {
    let shown = spec.to_string_lossy();
    match remote::look(spec, &[], common) {
        Ok(found) => {
            let answers = Check::well("remote", format!("{shown} answers"));
            found.clock_ahead.map(clock).into_iter().chain([answers]).collect()
        }
        Err(failure) => {
            let said = without_way_out(&failure.message).to_owned();
            vec![Check::ill("remote", said, &mend(&failure, &shown))]
        }
    }
}

fn mend(failure: &Failure, spec: &str) -> String {
    let known = way_out(&failure.message);
    if failure.exit == ATTENTION && !failure.message.contains("unencrypted") {
        let sign_in = match spec.contains('/') {
            true => format!("dewfs setup NAME {} asks for both", shell_word(spec)),
            false => {
                format!("dewfs login {} asks for both", shell_word(spec.trim_end_matches(':')))
            }
        };
        return format!(
            "the user name or password is missing or not accepted: {sign_in}; or mend the file of credentials="
        );
    }
    known.unwrap_or("look at the address, or ask who runs the server").to_owned()
}

/// Compares the clocks: times of files, and the names of conflict copies, are told by both.
fn clock(ahead: i64) -> Check {
    let seconds = ahead.unsigned_abs();
    let way = if ahead > 0 { "behind" } else { "ahead of" };
    if seconds < CLOCKS_DIFFER {
        return Check::well("clock", format!("differs from the server's by {seconds} s at most"));
    }
    Check::ill(
        "clock",
        format!("{seconds} s {way} the server's"),
        "let it be set by the network: sudo timedatectl set-ntp true",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_differ_are_told_with_the_way_they_do() {
        assert!(clock(0).ok && clock(9).ok && clock(-9).ok);
        let behind = clock(3600);
        assert!(!behind.ok && behind.message.starts_with("3600 s behind"), "{}", behind.message);
        let ahead = clock(-86400);
        assert!(!ahead.ok && ahead.message.starts_with("86400 s ahead of"), "{}", ahead.message);
        assert!(ahead.mend.is_some());
    }
}
