//! The keyring of the desktop, by the Secret Service that GNOME, KDE and KeePassXC offer on the session's bus. Nobody is asked to
//! unlock it: what is locked counts as not there, and who asks is told so.

use std::collections::HashMap;
use std::time::Duration;

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zbus::{Connection, DynamicType, OwnedObjectPath, OwnedVariant, Type, Variant};

const SERVICE: &str = "org.freedesktop.secrets";
const ROOT: &str = "/org/freedesktop/secrets";
const DEFAULT: &str = "/org/freedesktop/secrets/aliases/default";
const ITEM: &str = "org.freedesktop.Secret.Item";

/// How long the keyring may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What tells our secrets from those of others.
const OURS: (&str, &str) = ("application", "dewfs");
const SERVER: &str = "server";
/// Not there beside secrets from before it was noted.
const PORT: &str = "port";
const USER: &str = "username";
const KIND: &str = "kind";
const TOKEN: &str = "token";

/// Says why the keyring did not do it.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// There is no session bus, or nobody on it who keeps secrets.
    #[error("no keyring: {0}")]
    None(String),
    /// It is locked.
    #[error("the keyring is locked: unlock it, as by signing in at the desktop")]
    Locked,
    /// It took too long.
    #[error("the keyring does not answer")]
    Silent,
}

impl From<zbus::Error> for KeyringError {
    fn from(error: zbus::Error) -> Self {
        Self::None(error.to_string())
    }
}

/// Is a secret in the keyring.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Whose it is, if that was written beside it.
    pub user: Option<String>,
    /// Whether it is a token, and no password.
    pub is_token: bool,
    /// It.
    pub secret: SecretString,
}

type Attributes = HashMap<String, String>;
/// A secret as it goes over the bus: session, parameters, value, content type.
type Wire = (OwnedObjectPath, Vec<u8>, Vec<u8>, String);

/// A host and its port.
type Server<'a> = (&'a str, Option<u16>);

/// Says for which port of its host an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    /// The one that was asked for.
    This,
    /// Any: it was made before ports were noted.
    Any,
}

/// The secret for this server, of this user if one is named; `None` if there is none.
pub fn find(server: Server<'_>, user: Option<&str>) -> Result<Option<Kept>, KeyringError> {
    wait(async move {
        let keyring = Keyring::open().await?;
        let found = match keyring.search(server, user, For::This).await? {
            None => keyring.search(server, user, For::Any).await?,
            found => found,
        };
        let Some((item, noted)) = found else { return Ok(None) };
        let secret = keyring.secret(&item).await?;
        let is_token = noted.get(KIND).is_some_and(|kind| kind == TOKEN);
        Ok(Some(Kept { user: noted.get(USER).cloned(), is_token, secret }))
    })
}

/// What is noted beside a secret for this server.
fn noted_beside(server: Server<'_>, kept: &Kept) -> Attributes {
    let mut attributes = attributes(server.0, kept.user.as_deref(), kept.is_token);
    attributes.extend(server.1.map(|port| (PORT.to_owned(), port.to_string())));
    attributes
}

/// The secret in whose place [`keep`] would put this one.
pub fn in_place_of(server: Server<'_>, kept: &Kept) -> Result<Option<SecretString>, KeyringError> {
    let about = noted_beside(server, kept);
    wait(async move {
        let keyring = Keyring::open().await?;
        match keyring.exactly(&about).await? {
            Some(item) => Ok(Some(keyring.secret(&item).await?)),
            None => Ok(None),
        }
    })
}

/// Takes out what [`keep`] has put there.
pub fn take_back(server: Server<'_>, kept: &Kept) -> Result<(), KeyringError> {
    let about = noted_beside(server, kept);
    wait(async move {
        let keyring = Keyring::open().await?;
        let Some(item) = keyring.exactly(&about).await? else { return Ok(()) };
        is_done(&keyring.call(item.as_str(), ITEM, "Delete", &()).await?)
    })
}

/// Puts a secret for this server into the keyring, in the place of one that is there.
pub fn keep(label: &str, server: Server<'_>, kept: &Kept) -> Result<(), KeyringError> {
    let attributes = noted_beside(server, kept);
    let (label, secret) = (label.to_owned(), kept.secret.clone());
    wait(async move {
        let keyring = Keyring::open().await?;
        let value = secret.expose_secret().as_bytes().to_vec();
        let wire: Wire = (keyring.session.clone(), Vec::new(), value, "text/plain".into());
        let about: HashMap<&str, Variant<'_>> = [
            ("org.freedesktop.Secret.Item.Label", Variant::from(label.as_str())),
            ("org.freedesktop.Secret.Item.Attributes", Variant::from(attributes)),
        ]
        .into();
        let made: (OwnedObjectPath, OwnedObjectPath) = keyring
            .call(DEFAULT, "org.freedesktop.Secret.Collection", "CreateItem", &(about, wire, true))
            .await?;
        is_done(&made.1)
    })
}

/// Takes the secret for this server out of the keyring, and with `any_port` one that does not say for which port it is; answers
/// whether there was one.
pub fn forget(
    server: Server<'_>,
    user: Option<&str>,
    any_port: bool,
) -> Result<bool, KeyringError> {
    wait(async move {
        let keyring = Keyring::open().await?;
        let mut were_there = false;
        for port in [For::This, For::Any].into_iter().take(1 + usize::from(any_port)) {
            let Some((item, _)) = keyring.search(server, user, port).await? else { continue };
            let prompt: OwnedObjectPath = keyring.call(item.as_str(), ITEM, "Delete", &()).await?;
            is_done(&prompt)?;
            were_there = true;
        }
        Ok(were_there)
    })
}

fn attributes(server: &str, user: Option<&str>, is_token: bool) -> Attributes {
    let pairs = [Some(OURS), Some((SERVER, server)), user.map(|user| (USER, user))];
    let token = is_token.then_some((KIND, TOKEN));
    let pairs = pairs.into_iter().chain([token]).flatten();
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// The keyring wants to ask somebody where it answers with a prompt.
fn is_done(prompt: &OwnedObjectPath) -> Result<(), KeyringError> {
    if prompt.as_str() == "/" { Ok(()) } else { Err(KeyringError::Locked) }
}

/// Does it on a thread of its own, so that it can be asked from anywhere.
fn wait<T: Send>(
    work: impl Future<Output = Result<T, KeyringError>> + Send,
) -> Result<T, KeyringError> {
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| KeyringError::None(error.to_string()))?;
            let outcome = async { tokio::time::timeout(PATIENCE, work).await };
            runtime.block_on(outcome).unwrap_or(Err(KeyringError::Silent))
        });
        asked.join().unwrap_or(Err(KeyringError::Silent))
    })
}

/// Is a session with the keyring.
struct Keyring {
    bus: Connection,
    session: OwnedObjectPath,
}

impl Keyring {
    /// Secrets go over the bus as they are: only this user and root can listen there.
    async fn open() -> Result<Self, KeyringError> {
        let bus = Connection::session().await?;
        let root = OwnedObjectPath::try_from("/")?;
        let mut keyring = Self { bus, session: root };
        let wish = ("plain", Variant::from(""));
        let (_, session): (OwnedVariant, OwnedObjectPath) =
            keyring.call(ROOT, "org.freedesktop.Secret.Service", "OpenSession", &wish).await?;
        keyring.session = session;
        Ok(keyring)
    }

    /// The first item of this server and user, and what is noted beside it.
    async fn search(
        &self,
        (server, port): Server<'_>,
        user: Option<&str>,
        wanted: For,
    ) -> Result<Option<(OwnedObjectPath, Attributes)>, KeyringError> {
        let about = attributes(server, user, false);
        let (open, locked): (Vec<OwnedObjectPath>, Vec<OwnedObjectPath>) =
            self.call(ROOT, "org.freedesktop.Secret.Service", "SearchItems", &about).await?;
        let port = port.map(|port| port.to_string()).filter(|_| wanted == For::This);
        let first_locked = open.len();
        for (number, item) in open.into_iter().chain(locked).enumerate() {
            let noted = self.properties(&item, &(ITEM, "Attributes")).await?;
            let noted: Attributes = noted.try_into()?;
            if noted.get(PORT) == port.as_ref() {
                let is_open = number < first_locked;
                return if is_open { Ok(Some((item, noted))) } else { Err(KeyringError::Locked) };
            }
        }
        Ok(None)
    }

    /// The open item that has these notes and, of ours, no others; keyrings note things of their own as well.
    async fn exactly(&self, about: &Attributes) -> Result<Option<OwnedObjectPath>, KeyringError> {
        let (open, _locked): (Vec<OwnedObjectPath>, Vec<OwnedObjectPath>) =
            self.call(ROOT, "org.freedesktop.Secret.Service", "SearchItems", about).await?;
        for item in open {
            let noted: Attributes =
                self.properties(&item, &(ITEM, "Attributes")).await?.try_into()?;
            if [PORT, USER, KIND].iter().all(|key| noted.get(*key) == about.get(*key)) {
                return Ok(Some(item));
            }
        }
        Ok(None)
    }

    async fn secret(&self, item: &OwnedObjectPath) -> Result<SecretString, KeyringError> {
        let (_, _, value, _): Wire =
            self.call(item.as_str(), ITEM, "GetSecret", &self.session).await?;
        let value = Zeroizing::new(value);
        Ok(String::from_utf8_lossy(&value).into_owned().into())
    }

    async fn properties(
        &self,
        at: &OwnedObjectPath,
        question: &(&str, &str),
    ) -> Result<OwnedVariant, KeyringError> {
        self.call(at.as_str(), "org.freedesktop.DBus.Properties", "Get", question).await
    }

    async fn call<A: DeserializeOwned + Type>(
        &self,
        at: &str,
        interface: &str,
        method: &str,
        body: &(impl Serialize + DynamicType),
    ) -> Result<A, KeyringError> {
        let reply = self.bus.call_method(Some(SERVICE), at, Some(interface), method, body).await?;
        Ok(reply.body().deserialize_ignore_signature::<A>()?)
    }
}
