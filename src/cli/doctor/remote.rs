//! Whether a remote answers, and what may be wrong if not: network, TLS, sign-in, clocks.

use std::ffi::OsString;

use super::Check;
use crate::cli::{ATTENTION, Common, Failure, remote};

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
            vec![Check::ill("remote", failure.message.clone(), &mend(&failure, &shown))]
        }
    }
}

fn mend(failure: &Failure, spec: &str) -> String {
    let said = failure.message.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if has(&["unencrypted"]) {
        return "write https://; only if the way to the server is safe otherwise: -o insecure_http"
            .to_owned();
    }
    if failure.exit == ATTENTION {
        return format!(
            "the user name or password is not accepted: dewfs login {spec} for a saved remote, else mend the file of credentials="
        );
    }
    if has(&["certificate", "unknownissuer", "notvalidforname", "expired"]) {
        return "if the server's certificate comes from an authority of your own, name that with -o ca_file=FILE; if it seems expired, look at this machine's clock".to_owned();
    }
    if has(&["tls", "ssl", "handshake", "corrupt message", "invalidcontenttype"]) {
        return "the server does not speak TLS there: look at the port, and whether it is http:// or https://".to_owned();
    }
    if has(&["dns", "resolve", "lookup", "name or service"]) {
        return "no such host is known: look at the spelling and at the network".to_owned();
    }
    if has(&["refused", "unreachable", "timed out", "no progress"]) {
        return "nobody answers there: look at host, port and network".to_owned();
    }
    "dewfs remote test says more".to_owned()
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
