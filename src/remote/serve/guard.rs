//! Who may ask.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HOST};
use secrecy::{ExposeSecret as _, SecretString};

/// Is who may ask.
#[derive(Clone, Debug)]
pub enum SignIn {
    /// Everybody who reaches it; for this machine only.
    Nobody,
    /// Who knows user name and password.
    Basic {
        /// The user name.
        user: String,
        /// The password.
        password: SecretString,
    },
    /// Who has the token.
    Bearer(SecretString),
}

impl SignIn {
    /// Whether credentials are asked for.
    pub fn is_asked(&self) -> bool {
        !matches!(self, Self::Nobody)
    }

    /// Whether a request comes from somebody who may ask.
    pub(super) fn lets_in(&self, headers: &HeaderMap) -> bool {
        let expected = match self {
            Self::Nobody => return is_named_like_this_machine(headers),
            Self::Basic { user, password } => {
                let pair = format!("{user}:{}", password.expose_secret());
                format!("Basic {}", STANDARD.encode(pair))
            }
            Self::Bearer(token) => format!("Bearer {}", token.expose_secret()),
        };
        let told = headers.get(AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
        // Digests are compared: how long that takes tells nothing of the secret.
        blake3::hash(told) == blake3::hash(expected.as_bytes())
    }

    /// What a refused client is told to do.
    pub(super) fn challenge(&self) -> &'static str {
        match self {
            Self::Bearer(_) => "Bearer realm=\"dewfs\"",
            _ => "Basic realm=\"dewfs\", charset=\"UTF-8\"",
        }
    }
}

/// Without credentials a page in a browser must not reach the share by a name of its own that leads here.
fn is_named_like_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(name: hyper::header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn only_the_right_secret_lets_in() {
        let basic = SignIn::Basic { user: "a".into(), password: "b".to_owned().into() };
        assert!(basic.lets_in(&headers(AUTHORIZATION, "Basic YTpi")));
        assert!(!basic.lets_in(&headers(AUTHORIZATION, "Basic YTpj")));
        assert!(!basic.lets_in(&HeaderMap::new()));
        let token = SignIn::Bearer("t".to_owned().into());
        assert!(token.lets_in(&headers(AUTHORIZATION, "Bearer t")));
        assert!(!token.lets_in(&headers(AUTHORIZATION, "Basic YTpi")));
    }

    #[test]
    fn without_credentials_only_this_machines_names_lead_here() {
        for name in ["localhost:8080", "127.0.0.1", "127.0.0.1:80", "[::1]:8080", "LOCALHOST"] {
            assert!(SignIn::Nobody.lets_in(&headers(HOST, name)), "{name}");
        }
        for name in ["evil.example", "127.0.0.1.evil.example:8080", ""] {
            assert!(!SignIn::Nobody.lets_in(&headers(HOST, name)), "{name}");
        }
    }
}
