//! The desktop's keyring as the place of a secret, on a bus of the test's own: a Secret Service that is strict about what it is
//! asked.
#![cfg(feature = "desktop")]

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::support::bus::{Bus, Reply};
use crate::support::cloud::{CloudServer, LOGIN, Options, PASSWORD, USER};
use crate::support::mount::{dewfs, eventually};
use crate::support::ordinary::{USUAL, goes_on, home};
use zbus::message::Message;
use zbus::{OwnedObjectPath, OwnedVariant, Variant};

const SESSION: &str = "/org/freedesktop/secrets/session/s1";
const ITEMS: &str = "/org/freedesktop/secrets/collection/login/";

type Attributes = HashMap<String, String>;
type Wire = (OwnedObjectPath, Vec<u8>, Vec<u8>, String);

#[derive(Default)]
struct Kept {
    items: Vec<(Attributes, Vec<u8>)>,
    locked: bool,
    /// How often a secret was given away.
    given: usize,
}

/// A Secret Service and what it keeps.
struct Keyring {
    bus: Bus,
    kept: Arc<Mutex<Kept>>,
    _service: zbus::Connection,
}

fn path(text: &str) -> OwnedObjectPath {
    OwnedObjectPath::try_from(text).unwrap()
}

impl Keyring {
    fn start() -> Self {
        let bus = Bus::start();
        let kept = Arc::<Mutex<Kept>>::default();
        let shared = kept.clone();
        let service = bus.serve("org.freedesktop.secrets", move |_, call| {
            answer(&mut shared.lock().unwrap(), call)
        });
        Self { bus, kept, _service: service }
    }

    /// Only this, as it was kept before ports were noted.
    fn put(&self, secret: &str) {
        self.put_as(old(), secret);
    }

    fn put_as(&self, about: Attributes, secret: &str) {
        let mut kept = self.kept.lock().unwrap();
        kept.items.clear();
        kept.items.push((about, secret.into()));
    }

    fn secrets(&self) -> Vec<(Attributes, String)> {
        let kept = self.kept.lock().unwrap();
        let text = |secret: &Vec<u8>| String::from_utf8(secret.clone()).unwrap();
        kept.items.iter().map(|(about, secret)| (about.clone(), text(secret))).collect()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = dewfs();
        command.args(words).env("DBUS_SESSION_BUS_ADDRESS", &self.bus.address);
        command
    }

    /// Runs it with this on its standard input, wants this exit status, and answers what was said.
    fn said(&self, status: i32, words: &[&str], input: &str) -> String {
        let mut command = self.command(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert_eq!(output.status.code(), Some(status), "{words:?}: {said}");
        said
    }

    /// `dewfs setup Cloud` with the secret in the keyring.
    fn sets_up(&self, status: i32, server: &CloudServer) -> String {
        let (url, user) = (server.url(), format!("username={LOGIN}"));
        let setup = ["setup", "Cloud", &url, "--yes", "--password-stdin", "--keyring", "-o", &user];
        self.said(status, &setup, &format!("{PASSWORD}\n"))
    }
}

fn ours(server: &CloudServer) -> Attributes {
    let mut ours = old();
    ours.insert("port".to_owned(), server.port.to_string());
    ours
}

fn old() -> Attributes {
    [("application", "dewfs"), ("server", "127.0.0.1"), ("username", LOGIN)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

fn built<B: serde::Serialize + zbus::DynamicType>(call: &Message, body: &B) -> Reply {
    Reply::Built(Message::method_return(&call.header()).build(body).unwrap())
}

/// Answers as the specification of the Secret Service says, and refuses everything else.
fn answer(kept: &mut Kept, call: &Message) -> Reply {
    let header = call.header();
    let (at, method) = (header.path().unwrap().to_string(), header.member().unwrap().to_string());
    let interface = header.interface().unwrap().to_string();
    let number = at.strip_prefix(ITEMS).and_then(|number| number.parse::<usize>().ok());
    let none = path("/");
    if number.is_some_and(|number| number >= kept.items.len()) {
        return Reply::Refused("org.freedesktop.DBus.Error.UnknownObject", at);
    }
    match (interface.as_str(), method.as_str(), number) {
        ("org.freedesktop.Secret.Service", "OpenSession", None) => {
            let (kind, input): (String, OwnedVariant) = call.body().deserialize().unwrap();
            assert_eq!(kind, "plain");
            assert!(matches!(&*input, Variant::Str(text) if text.as_str().is_empty()));
            built(call, &(Variant::from(""), path(SESSION)))
        }
        ("org.freedesktop.Secret.Service", "SearchItems", None) => {
            let wanted: Attributes = call.body().deserialize().unwrap();
            let has = |about: &Attributes| {
                wanted.iter().all(|(key, value)| about.get(key) == Some(value))
            };
            let found = kept.items.iter().enumerate().filter(|(_, (about, _))| has(about));
            let found: Vec<OwnedObjectPath> =
                found.map(|(number, _)| path(&format!("{ITEMS}{number}"))).collect();
            let nothing = Vec::<OwnedObjectPath>::new();
            match kept.locked {
                true => built(call, &(nothing, found)),
                false => built(call, &(found, nothing)),
            }
        }
        ("org.freedesktop.DBus.Properties", "Get", Some(number)) => {
            let asked: (String, String) = call.body().deserialize().unwrap();
            assert_eq!(
                (asked.0.as_str(), asked.1.as_str()),
                ("org.freedesktop.Secret.Item", "Attributes")
            );
            Reply::Value(Variant::from(kept.items[number].0.clone()))
        }
        ("org.freedesktop.Secret.Item", "GetSecret", Some(number)) => {
            let session: OwnedObjectPath = call.body().deserialize().unwrap();
            assert_eq!(session.as_str(), SESSION);
            assert!(!kept.locked);
            kept.given += 1;
            let secret = kept.items[number].1.clone();
            let wire: Wire = (session, Vec::new(), secret, "text/plain".into());
            built(call, &(wire,))
        }
        ("org.freedesktop.Secret.Item", "Delete", Some(number)) => {
            kept.items.remove(number);
            built(call, &none)
        }
        ("org.freedesktop.Secret.Collection", "CreateItem", None) => {
            assert_eq!(at, "/org/freedesktop/secrets/aliases/default");
            let body = call.body();
            let (about, wire, replace): (HashMap<String, OwnedVariant>, Wire, bool) =
                body.deserialize().unwrap();
            assert!(replace && wire.0.as_str() == SESSION);
            let label = about["org.freedesktop.Secret.Item.Label"].try_clone().unwrap();
            assert!(String::try_from(label).unwrap().starts_with("dewfs: "));
            if kept.locked {
                return built(call, &(none, path("/org/freedesktop/secrets/prompt/p1")));
            }
            let about = about["org.freedesktop.Secret.Item.Attributes"].try_clone().unwrap();
            let about: Attributes = about.try_into().unwrap();
            kept.items.retain(|(other, _)| *other != about);
            kept.items.push((about, wire.2));
            built(call, &(path(&format!("{ITEMS}{}", kept.items.len() - 1)), none))
        }
        other => Reply::Refused("org.freedesktop.DBus.Error.UnknownMethod", format!("{other:?}")),
    }
}

fn cloud() -> (tokio::runtime::Runtime, CloudServer) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(CloudServer::start(Options::nextcloud()));
    server.put("notes.txt", b"theirs");
    (runtime, server)
}

/// A server and an empty keyring, for who stands in the home directory.
fn at_home() -> (tokio::runtime::Runtime, CloudServer, Keyring) {
    let (runtime, server) = cloud();
    std::env::set_current_dir(home()).unwrap();
    (runtime, server, Keyring::start())
}

fn state(keyring: &Keyring) -> String {
    keyring.said(0, &["status", "Cloud", "--json"], "")
}

/// S121 "A secret in the desktop's keyring signs in where no file and no environment has one; it stays there, and is read again
/// when it is refused, as a file is."
#[test]
fn a_secret_in_the_keyring_signs_in_and_is_read_again() {
    if !goes_on("keyring::a_secret_in_the_keyring_signs_in_and_is_read_again", USUAL) {
        return;
    }
    let (_runtime, server) = cloud();
    let keyring = Keyring::start();
    keyring.put(PASSWORD);
    std::env::set_current_dir(home()).unwrap();
    keyring.said(
        0,
        &["setup", "Cloud", &server.url(), "--yes", "-o", "poll=1s,write_back_delay=0"],
        "",
    );
    assert_eq!(std::fs::read(home().join("Cloud/notes.txt")).unwrap(), b"theirs");
    assert!(!home().join(".config/dewfs/secrets/Cloud").exists(), "it stays in the keyring");
    keyring.said(0, &["umount", "Cloud"], "");
    keyring.put("another one");
    keyring.said(0, &["mount", "Cloud:"], "");
    std::fs::write(home().join("Cloud/mine.txt"), "mine").unwrap();
    eventually("it is refused", || state(&keyring).contains("auth-required"));
    keyring.put(PASSWORD);
    eventually("what was written is there", || server.content("mine.txt").is_some());
    keyring.said(0, &["remove", "Cloud"], "");
}

#[test]
fn setup_and_login_put_the_secret_into_the_keyring() {
    if !goes_on("keyring::setup_and_login_put_the_secret_into_the_keyring", USUAL) {
        return;
    }
    let (_runtime, server, keyring) = at_home();
    keyring.kept.lock().unwrap().locked = true;
    let said = keyring.sets_up(1, &server);
    assert!(said.contains("the keyring is locked"), "{said}");
    keyring.kept.lock().unwrap().locked = false;
    keyring.sets_up(0, &server);
    assert_eq!(keyring.secrets(), [(ours(&server), PASSWORD.to_owned())]);
    assert!(!home().join(".config/dewfs/secrets/Cloud").exists());
    assert_eq!(std::fs::read(home().join("Cloud/notes.txt")).unwrap(), b"theirs");
    let said = keyring.said(4, &["login", "Cloud", "--password-stdin"], "wrong\n");
    assert!(said.contains("nothing was changed"), "{said}");
    keyring.put_as(ours(&server), "old");
    keyring.said(0, &["login", "Cloud", "--password-stdin"], &format!("{PASSWORD}\n"));
    assert_eq!(
        keyring.secrets(),
        [(ours(&server), PASSWORD.to_owned())],
        "in its place, and no file"
    );
    assert!(!home().join(".config/dewfs/secrets/Cloud").exists());
    keyring.said(0, &["logout", "Cloud"], "");
    assert_eq!(keyring.secrets(), []);
    eventually("nobody is signed in", || state(&keyring).contains("auth-required"));
    keyring.said(0, &["login", "Cloud", "--password-stdin", "--keyring"], &format!("{PASSWORD}\n"));
    eventually("it goes on", || state(&keyring).contains("\"online\""));
    keyring.said(0, &["remove", "Cloud"], "");
    assert_eq!(keyring.secrets(), [], "nothing of it stays");
}

#[test]
fn file_and_environment_come_before_the_keyring() {
    if !goes_on("keyring::file_and_environment_come_before_the_keyring", USUAL) {
        return;
    }
    let (_runtime, server) = cloud();
    let keyring = Keyring::start();
    keyring.put("wrong");
    let file = home().join("secret");
    std::fs::write(&file, format!("username={LOGIN}\npassword={PASSWORD}\n")).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let option = format!("credentials={}", file.display());
    keyring.said(0, &["remote", "test", &server.url(), "-o", &option], "");
    let url = server.url();
    let mut by_environment = keyring.command(&["remote", "test", &url]);
    by_environment.env("DEWFS_USER", LOGIN).env("DEWFS_PASSWORD", PASSWORD);
    let output = by_environment.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(keyring.kept.lock().unwrap().given, 0, "nobody asked for it");
    // Alone it is tried, and refused.
    keyring.said(4, &["remote", "test", &url], "");
    assert!(keyring.kept.lock().unwrap().given > 0);
}

/// Two people's secrets for one server were taken for each other's, and one went with the other's remote.
#[test]
fn regression_two_users_of_a_server_keep_their_secrets() {
    if !goes_on("keyring::regression_two_users_of_a_server_keep_their_secrets", USUAL) {
        return;
    }
    let (_runtime, server, keyring) = at_home();
    let url = server.url();
    let mut by_browser = keyring.command(&["setup", "One", &url, "--yes", "--keyring"]);
    let mut by_browser = by_browser.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(by_browser.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("/login/v2/flow/")));
    server.grant();
    assert!(by_browser.wait().unwrap().success(), "{:?}", lines.collect::<Vec<_>>());
    let saved = std::fs::read_to_string(home().join(".config/dewfs/remotes/One.toml")).unwrap();
    assert!(saved.contains(&format!("username = \"{LOGIN}\"")), "{saved}");
    let user = format!("username={USER}");
    let other = ["setup", "Two", &url, "--yes", "--password-stdin", "--keyring", "-o", &user];
    keyring.said(0, &other, &format!("{PASSWORD}\n"));
    let mut others = ours(&server);
    others.insert("username".to_owned(), USER.to_owned());
    assert_eq!(keyring.secrets().len(), 2);
    keyring.said(0, &["remove", "One"], "");
    assert_eq!(keyring.secrets(), [(others.clone(), PASSWORD.to_owned())]);
    // Two remotes of one user have one secret: it goes with the last of them.
    keyring.said(0, &["remote", "add", "Three", &url, "-o", &user], "");
    keyring.said(0, &["remove", "Two"], "");
    assert_eq!(keyring.secrets(), [(others, PASSWORD.to_owned())]);
    keyring.said(0, &["remove", "Three"], "");
    assert_eq!(keyring.secrets(), []);
}

/// Two servers on two ports of a host took each other's secret, and one went with the other's remote.
#[test]
fn regression_two_ports_of_a_host_keep_their_secrets() {
    if !goes_on("keyring::regression_two_ports_of_a_host_keep_their_secrets", USUAL) {
        return;
    }
    let (_runtime, one) = cloud();
    let (_other_runtime, two) = cloud();
    let keyring = Keyring::start();
    std::env::set_current_dir(home()).unwrap();
    let user = format!("username={LOGIN}");
    for (name, server) in [("One", &one), ("Two", &two)] {
        let url = server.url();
        let setup = ["setup", name, &url, "--yes", "--password-stdin", "--keyring", "-o", &user];
        keyring.said(0, &setup, &format!("{PASSWORD}\n"));
    }
    let kept = |server| (ours(server), PASSWORD.to_owned());
    assert_eq!(keyring.secrets(), [kept(&one), kept(&two)]);
    // What is only the other one's is not offered to this one.
    keyring.put_as(ours(&two), PASSWORD);
    let given = || keyring.kept.lock().unwrap().given;
    let before = given();
    keyring.said(4, &["remote", "test", &one.url(), "-o", &user], "");
    assert_eq!(given(), before);
    keyring.said(0, &["remote", "test", &two.url(), "-o", &user], "");
    keyring.kept.lock().unwrap().items.push((ours(&one), PASSWORD.into()));
    keyring.said(0, &["remove", "One"], "");
    assert_eq!(keyring.secrets(), [kept(&two)]);
    keyring.said(0, &["remove", "Two"], "");
    assert_eq!(keyring.secrets(), []);
}

/// What was kept before ports were noted serves every port until the last of its remotes goes, and gives way to what is newer.
#[test]
fn a_secret_without_a_port_is_found_still() {
    if !goes_on("keyring::a_secret_without_a_port_is_found_still", USUAL) {
        return;
    }
    let (_runtime, one) = cloud();
    let (_other_runtime, two) = cloud();
    let keyring = Keyring::start();
    std::env::set_current_dir(home()).unwrap();
    keyring.put(PASSWORD);
    let user = format!("username={LOGIN}");
    for (name, server) in [("One", &one), ("Two", &two)] {
        keyring.said(0, &["remote", "add", name, &server.url(), "-o", &user], "");
        keyring.said(0, &["remote", "test", &format!("{name}:")], "");
    }
    keyring.said(0, &["login", "One", "--password-stdin"], &format!("{PASSWORD}\n"));
    let (kept, before) = ((ours(&one), PASSWORD.to_owned()), (old(), PASSWORD.to_owned()));
    assert_eq!(keyring.secrets(), [before.clone(), kept]);
    keyring.said(0, &["remove", "One"], "");
    assert_eq!(keyring.secrets(), std::slice::from_ref(&before));
    // Who signs out alone is out, and the others are told of.
    let others = "other saved remotes on this host may have signed in with that secret";
    let said = keyring.said(0, &["logout", "Two"], "");
    assert!(!said.contains(others), "{said}");
    keyring.put(PASSWORD);
    keyring.said(0, &["remote", "add", "One", &one.url(), "-o", &user], "");
    let said = keyring.said(0, &["logout", "Two"], "");
    assert!(said.contains(others), "{said}");
    assert_eq!(keyring.secrets(), []);
    keyring.put(PASSWORD);
    keyring.said(0, &["remove", "One"], "");
    assert_eq!(keyring.secrets(), [before]);
    keyring.said(0, &["remove", "Two"], "");
    assert_eq!(keyring.secrets(), []);
}

/// A mount that was started without a file for the secret never learned of the file that `dewfs login` wrote, which said that
/// all was well.
#[test]
fn regression_login_reaches_a_mount_that_had_no_file_for_the_secret() {
    if !goes_on("keyring::regression_login_reaches_a_mount_that_had_no_file_for_the_secret", USUAL)
    {
        return;
    }
    let (_runtime, server, keyring) = at_home();
    keyring.sets_up(0, &server);
    keyring.said(0, &["logout", "Cloud"], "");
    eventually("nobody is signed in", || state(&keyring).contains("auth-required"));
    keyring.said(0, &["login", "Cloud", "--password-stdin"], &format!("{PASSWORD}\n"));
    assert!(home().join(".config/dewfs/secrets/Cloud").exists());
    assert!(state(&keyring).contains("\"online\""), "it has signed in when login has ended");
    keyring.said(0, &["logout", "Cloud"], "");
    eventually("nobody is signed in", || state(&keyring).contains("auth-required"));
    keyring.said(0, &["login", "Cloud", "--password-stdin"], &format!("{PASSWORD}\n"));
    assert!(state(&keyring).contains("\"online\""));
    keyring.said(0, &["remove", "Cloud"], "");
}

/// Who chose the keyring had the secret in a plain file for good, once it was locked at `dewfs login`.
#[test]
fn regression_a_locked_keyring_makes_no_file_of_the_secret() {
    if !goes_on("keyring::regression_a_locked_keyring_makes_no_file_of_the_secret", USUAL) {
        return;
    }
    let (_runtime, server, keyring) = at_home();
    keyring.sets_up(0, &server);
    let saved =
        || std::fs::read_to_string(home().join(".config/dewfs/remotes/Cloud.toml")).unwrap();
    let (before, file) = (saved(), home().join(".config/dewfs/secrets/Cloud"));
    keyring.kept.lock().unwrap().locked = true;
    let login = ["login", "Cloud", "--password-stdin"];
    let said = keyring.said(1, &login, &format!("{PASSWORD}\n"));
    assert!(said.contains("the keyring is locked") && said.contains("--file"), "{said}");
    assert!(!file.exists());
    assert_eq!(saved(), before);
    // Unless that is wanted.
    keyring.said(0, &[&login[..], &["--file"]].concat(), &format!("{PASSWORD}\n"));
    assert!(file.exists());
    let said = keyring.said(0, &["remove", "Cloud"], "");
    assert!(!file.exists(), "{said}");
}

/// A mount that failed left the secret in the keyring, and a remote that could not be written left it there or in its file.
#[test]
fn regression_a_setup_that_fails_leaves_no_secret_behind() {
    if !goes_on("keyring::regression_a_setup_that_fails_leaves_no_secret_behind", USUAL) {
        return;
    }
    let (_runtime, server, keyring) = at_home();
    let (at, config) = (home().join("Cloud"), home().join(".config/dewfs"));
    let (remotes, secret) = (config.join("remotes"), config.join("secrets/Cloud"));
    let (url, user) = (server.url(), format!("username={LOGIN}"));
    let in_file = |status, option: &str| {
        let words = ["setup", "Cloud", &url, "--yes", "--password-stdin", "-o", option];
        keyring.said(status, &words, &format!("{PASSWORD}\n"))
    };
    let close = |mode| {
        std::fs::set_permissions(&remotes, std::os::unix::fs::PermissionsExt::from_mode(mode))
    };
    std::fs::create_dir(&at).unwrap();
    std::fs::write(at.join("mine"), "in the way").unwrap();
    keyring.sets_up(1, &server);
    assert!(!remotes.join("Cloud.toml").exists());
    assert_eq!(keyring.secrets(), []);
    in_file(1, &user);
    assert!(!remotes.join("Cloud.toml").exists() && !secret.exists());
    // It cannot be written down.
    close(0o500).unwrap();
    let said = keyring.sets_up(1, &server);
    assert!(said.contains("Cloud.toml"), "{said}");
    assert_eq!(keyring.secrets(), []);
    in_file(1, &user);
    assert!(!secret.exists());
    close(0o700).unwrap();
    // What was there before is there again, and nothing of others goes.
    let others = ("others".to_owned(), "secret".to_owned());
    keyring.put_as([others].into(), "theirs");
    keyring.kept.lock().unwrap().items.push((old(), b"of any port".into()));
    keyring.kept.lock().unwrap().items.push((ours(&server), b"before".into()));
    let mut before = keyring.secrets();
    before.sort_by_key(|(_, secret)| secret.clone());
    keyring.sets_up(1, &server);
    let mut after = keyring.secrets();
    after.sort_by_key(|(_, secret)| secret.clone());
    assert_eq!(after, before);
    let earlier = format!("username={LOGIN}\npassword={PASSWORD}\n");
    std::fs::write(&secret, &earlier).unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    in_file(1, &user);
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), earlier);
    let option = format!("credentials={}", secret.display());
    keyring.said(1, &["setup", "Cloud", &url, "--yes", "-o", &option], "");
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), earlier);
    std::fs::remove_file(at.join("mine")).unwrap();
    keyring.sets_up(0, &server);
    keyring.said(0, &["remove", "Cloud"], "");
}
