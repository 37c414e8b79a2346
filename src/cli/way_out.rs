//! What to do about a remote that does not answer as it should, found by what was said of it.

use super::Failure;

/// What there is to do where nobody is let in.
const NAME_A_FILE: &str = "name a file that has username= and password= with -o credentials=FILE, or sign in to a saved remote with dewfs login NAME";

/// What was said without its way out.
pub(super) fn without_way_out(said: &str) -> &str {
    let known = way_out(said).and_then(|known| said.strip_suffix(known)?.strip_suffix("; "));
    known.unwrap_or(said)
}

/// A failure to sign in with another way out: one that can be gone where it happens.
pub(super) fn with_another(failure: Failure, way_out: &str) -> Failure {
    match failure.message.strip_suffix(NAME_A_FILE) {
        Some(said) => Failure { message: format!("{said}{way_out}"), ..failure },
        None => failure,
    }
}

/// Answers the way out, if one is known.
pub(super) fn way_out(said: &str) -> Option<&'static str> {
    // Names of hosts and folders say nothing of what is wrong.
    let is_word = |word: &&str| !word.contains('/');
    let said = said.split_whitespace().filter(is_word).collect::<Vec<_>>().join(" ").to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if has(&["in maintenance"]) {
        Some("try again when its administrator has ended that")
    } else if has(&["unencrypted"]) {
        Some("write https://; only if the way to the server is safe otherwise: -o insecure_http")
    } else if has(&["certificate", "unknownissuer", "notvalidforname", "expired"]) {
        Some(
            "if the server's certificate comes from an authority of your own, name that with -o ca_file=FILE; if it seems expired, look at this machine's clock",
        )
    } else if has(&["tls", "ssl", "handshake", "corrupt message", "invalidcontenttype"]) {
        Some(
            "the server does not speak TLS there: look at the port, and whether it is http:// or https://",
        )
    } else if has(&["dns error", "failed to lookup", "name or service", "name resolution"]) {
        Some("no such host is known: look at the spelling and at the network")
    } else if has(&["refused", "unreachable", "timed out", "no progress"]) {
        Some("nobody answers there: look at host, port and network")
    } else if has(&["reset by peer", "connection closed"]) {
        Some("the server broke off: look at the port, and whether it is http:// or https://")
    } else if has(&["answered 403"]) {
        Some("look at who you sign in as, and at the path of the address")
    } else if has(&["answered 5"]) {
        Some("try again later, or ask who runs the server")
    } else if has(&["no such file"]) {
        Some("look at the spelling, and whether the disk or share that it is on is mounted")
    } else if has(&["not accepted"]) {
        Some(NAME_A_FILE)
    } else {
        None
    }
}

/// What was said with its way out, unless that was said with it.
pub(super) fn with_way_out(said: &str) -> String {
    let is_said = ["use https", "CA:FALSE", "ca_file="].iter().any(|known| said.contains(known));
    match way_out(said).filter(|_| !is_said) {
        Some(way_out) => format!("{said}; {way_out}"),
        None => said.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_way_out_is_not_given_another() {
        let said = "https://h/: cannot be reached (bad certificate; name its file with ca_file=)";
        assert_eq!(with_way_out(said), said);
        let said = "https://h/: cannot be reached (failed to lookup address information)";
        assert!(with_way_out(said).starts_with(&format!("{said}; no such host")));
        assert_eq!(with_way_out("something else"), "something else");
        let said = "https://me.duckdns.org/ssl/: sign-in needed (answered 401 Unauthorized: it is not accepted)";
        assert!(with_way_out(said).contains("dewfs login"), "{}", with_way_out(said));
    }
}
