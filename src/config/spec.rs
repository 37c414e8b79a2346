//! Remote specifications: the words that name a remote.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use percent_encoding::percent_decode_str;
use url::Url;

use super::{ConfigError, Schemes};

/// Is a remote that can be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteSpec {
    /// A local directory, absolute.
    Folder(PathBuf),
    /// A WebDAV collection. The URL is http or https and carries neither user nor password.
    WebDav {
        /// Where.
        url: Url,
        /// The user name that stood in the URL.
        user: Option<String>,
        /// How many of the URL's last names are a folder of the saved remote that was named.
        below: usize,
    },
    /// A remote of a kind that the program brought along.
    Added {
        /// Its kind.
        scheme: String,
        /// What stands behind `//`, without a slash at its end.
        address: String,
    },
}

/// Is a specification as it was written, before saved remotes are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    /// Stands for itself.
    Remote(RemoteSpec),
    /// Names a saved remote and a folder in it.
    Saved {
        /// Its name.
        name: String,
        /// The folder below its root; empty for all of it.
        sub: String,
    },
}

impl Spec {
    /// Reads a specification; a relative folder is taken from `cwd`.
    pub fn parse(
        given: impl AsRef<OsStr>,
        cwd: &Path,
        schemes: &Schemes,
    ) -> Result<Self, ConfigError> {
        let given = given.as_ref();
        let Some(text) = given.to_str() else {
            // Only the names of folders can be anything.
            return Ok(Self::folder(&cwd.join(given)));
        };
        if text.is_empty() {
            return Err(ConfigError::Spec("the remote specification is empty".into()));
        }
        if text.starts_with('/') || text == "." || text == ".." {
            return Ok(Self::folder(&cwd.join(text)));
        }
        if text.starts_with("./") || text.starts_with("../") {
            return Ok(Self::folder(&cwd.join(text)));
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return url_spec(text, &scheme.to_ascii_lowercase(), schemes).map(Self::Remote);
        }
        match text.split_once(':') {
            Some((name, sub)) => saved(text, name, sub, schemes),
            None if cwd.join(text).is_dir() => Ok(Self::folder(&cwd.join(text))),
            None => Err(ConfigError::Spec(format!(
                "{text}: no remote specification; write ./{text} for a folder, {text}: for a saved remote, https://… for WebDAV"
            ))),
        }
    }

    fn folder(path: &Path) -> Self {
        Self::Remote(RemoteSpec::Folder(lexical(path)))
    }
}

impl RemoteSpec {
    /// This remote's folder `sub`.
    pub fn below(self, sub: &str) -> Result<Self, ConfigError> {
        let parts: Vec<&str> = sub.split('/').filter(|part| !part.is_empty()).collect();
        if parts.iter().any(|part| matches!(*part, "." | "..")) {
            return Err(ConfigError::Spec(format!(
                "{sub}: a folder of a saved remote cannot contain \".\" or \"..\""
            )));
        }
        Ok(match self {
            Self::Folder(path) => {
                Self::Folder(parts.iter().fold(path, |path, part| path.join(part)))
            }
            Self::WebDav { mut url, user, below } => {
                let below = below + parts.len();
                if let Ok(mut segments) = url.path_segments_mut() {
                    segments.pop_if_empty().extend(parts);
                }
                Self::WebDav { url, user, below }
            }
            Self::Added { scheme, address } => {
                let address = parts.iter().fold(address, |address, part| address + "/" + part);
                Self::Added { scheme, address }
            }
        })
    }

    /// The one spelling of this remote, in bytes: absolute, host in lower case, no default port, no trailing slash, no user.
    pub fn canonical(&self) -> Vec<u8> {
        match self {
            Self::Folder(path) => [b"file://", path.as_os_str().as_bytes()].concat(),
            Self::WebDav { url, .. } => url.as_str().trim_end_matches('/').into(),
            Self::Added { scheme, address } => format!("{scheme}://{address}").into(),
        }
    }
}

impl std::fmt::Display for RemoteSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::WebDav { url, .. } => url.fmt(f),
            Self::Added { scheme, address } => write!(f, "{scheme}://{address}"),
        }
    }
}

fn url_spec(text: &str, scheme: &str, schemes: &Schemes) -> Result<RemoteSpec, ConfigError> {
    let shown = without_password(text);
    let target = match scheme {
        "file" => return file_url(text, &shown),
        "http" | "dav" => "http",
        "https" | "davs" => "https",
        "s3" | "az" | "gs" => return Err(ConfigError::Unavailable(format!("{scheme}:// remotes"))),
        _ if schemes.is_added(scheme) => return added_spec(text, scheme, &shown),
        _ => {
            let more: String = schemes.added().map(|name| format!(", {name}")).collect();
            return Err(ConfigError::Spec(format!(
                "{shown}: unknown kind of remote \"{scheme}\"; known are folders, file, http, https, dav, davs{more}"
            )));
        }
    };
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    let mut url = Url::parse(&format!("{target}://{rest}"))
        .map_err(|error| ConfigError::Spec(format!("{shown}: not a valid URL: {error}")))?;
    if url.password().is_some() {
        return Err(ConfigError::Spec(format!(
            "{shown}: a password in a URL is refused; put it into a file and name that with -o credentials=FILE"
        )));
    }
    // What a browser's address bar shows of a file view may carry both; neither names a collection.
    url.set_query(None);
    url.set_fragment(None);
    let user = match url.username() {
        "" => None,
        user => Some(percent_decode_str(user).decode_utf8_lossy().into_owned()),
    };
    // Setting the user name fails only for URLs that have no host, and http has one.
    let _had_host = url.set_username("");
    Ok(RemoteSpec::WebDav { url, user, below: 0 })
}

fn added_spec(text: &str, scheme: &str, shown: &str) -> Result<RemoteSpec, ConfigError> {
    if text != shown {
        return Err(ConfigError::Spec(format!(
            "{shown}: a password in a URL is refused; put it into a file and name that with -o credentials=FILE"
        )));
    }
    let address = text.split_once("://").map_or("", |(_, rest)| rest).trim_end_matches('/');
    Ok(RemoteSpec::Added { scheme: scheme.to_owned(), address: address.to_owned() })
}

fn file_url(text: &str, shown: &str) -> Result<RemoteSpec, ConfigError> {
    let refuse = || {
        ConfigError::Spec(format!("{shown}: write file:///abs/dir, for a folder of this machine"))
    };
    let url = Url::parse(text).map_err(|_| refuse())?;
    let path = url.to_file_path().map_err(|()| refuse())?;
    Ok(RemoteSpec::Folder(lexical(&path)))
}

/// The text without the password it may carry, for messages.
fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let authority = rest.split('/').next().unwrap_or(rest);
    match authority.rsplit_once('@') {
        Some((login, _)) => match login.split_once(':') {
            Some((user, _)) => {
                let after = rest.get(login.len()..).unwrap_or_default();
                format!("{scheme}://{user}:…{after}")
            }
            None => text.to_owned(),
        },
        None => text.to_owned(),
    }
}

fn saved(text: &str, name: &str, sub: &str, schemes: &Schemes) -> Result<Spec, ConfigError> {
    if schemes.is_kind(&name.to_ascii_lowercase()) {
        return Err(ConfigError::Spec(format!("{text}: write {name}://…")));
    }
    check_name(name, schemes)?;
    Ok(Spec::Saved { name: name.to_owned(), sub: sub.to_owned() })
}

/// Checks the name of a saved remote.
pub(super) fn check_name(name: &str, schemes: &Schemes) -> Result<(), ConfigError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if schemes.is_kind(&name.to_ascii_lowercase()) {
        return Err(ConfigError::Spec(format!(
            "\"{name}\" is a kind of remote and cannot be the name of a saved one"
        )));
    }
    let begins_well = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if begins_well && name.len() <= 64 && name.chars().all(legal) {
        return Ok(());
    }
    Err(ConfigError::Spec(format!(
        "\"{name}\": the name of a saved remote has letters, digits, \"_\", \".\" and \"-\", begins with a letter or digit, and is at most 64 long"
    )))
}

/// The path without `.`, `..` and double slashes, by its text alone.
pub(super) fn lexical(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::Normal(name) => out.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(text: &str) -> Result<Spec, ConfigError> {
        Spec::parse(text, Path::new("/here"), &Schemes::new())
    }

    fn canonical(text: &str) -> String {
        match parse(text).unwrap() {
            Spec::Remote(remote) => String::from_utf8(remote.canonical()).unwrap(),
            Spec::Saved { name, sub } => format!("{name}|{sub}"),
        }
    }

    #[test]
    fn every_kind_has_one_spelling() {
        for (given, one) in [
            ("/srv/data/", "file:///srv/data"),
            ("./data", "file:///here/data"),
            ("../x/./y", "file:///x/y"),
            ("file:///srv/a%20b", "file:///srv/a b"),
            ("https://Cloud.Example.ORG:443/dav/", "https://cloud.example.org/dav"),
            ("http://h:80", "http://h"),
            ("davs://alice@h/x", "https://h/x"),
            ("dav://h:8080/x//", "http://h:8080/x"),
            ("cloud:", "cloud|"),
            ("my-nas_1.x:Photos/2024", "my-nas_1.x|Photos/2024"),
        ] {
            assert_eq!(canonical(given), one, "{given}");
        }
    }

    #[test]
    fn the_user_name_is_kept_and_the_password_refused_unseen() {
        let Spec::Remote(RemoteSpec::WebDav { url, user, .. }) =
            parse("https://a%40b@h/x").unwrap()
        else {
            unreachable!()
        };
        assert_eq!((url.as_str(), user.as_deref()), ("https://h/x", Some("a@b")));
        let message = parse("https://bob:hunter2@h/x").unwrap_err().to_string();
        assert!(!message.contains("hunter2"), "{message}");
        assert!(message.contains("credentials=FILE"), "{message}");
    }

    #[test]
    fn what_is_no_specification_is_named() {
        for (given, named) in [
            ("", "empty"),
            ("nowhere", "./nowhere"),
            ("ftp://h/x", "ftp"),
            ("s3://bucket", "not available in this version"),
            ("az://a/c", "not available in this version"),
            ("http:", "http://"),
            ("-x:", "-x"),
            ("file://host/x", "file:///abs/dir"),
            ("https://", "not a valid URL"),
        ] {
            let message = parse(given).unwrap_err().to_string();
            assert!(message.contains(named), "{given}: {message}");
            assert!(!message.contains('\n'));
        }
    }

    #[test]
    fn a_folder_of_a_saved_remote_stays_below_it() {
        let base = RemoteSpec::Folder("/srv".into());
        assert_eq!(base.clone().below("a/b/").unwrap(), RemoteSpec::Folder("/srv/a/b".into()));
        assert!(base.below("a/../../etc").is_err());
        let Spec::Remote(dav) = parse("https://h/dav/").unwrap() else { unreachable!() };
        assert_eq!(dav.below("a b/c").unwrap().canonical(), b"https://h/dav/a%20b/c");
    }
}
