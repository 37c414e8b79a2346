//! A message bus of one's own, and services on it that say what a test tells them to.
#![allow(dead_code)]

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::StreamExt as _;
use tokio::runtime::Runtime;
use zbus::message::{Message, Type};
use zbus::{Connection, MessageStream, Variant};

const CONFIG: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path=PLACE/bus</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
  </policy>
</busconfig>
"#;

/// A bus that ends with it.
pub struct Bus {
    daemon: Child,
    /// Where it listens, as D-Bus writes it.
    pub address: String,
    pub runtime: Runtime,
    _dir: tempfile::TempDir,
}

impl Bus {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().canonicalize().unwrap();
        let config = place.join("bus.conf");
        std::fs::write(&config, CONFIG.replace("PLACE", place.to_str().unwrap())).unwrap();
        let mut daemon = Command::new("dbus-daemon")
            .arg("--nofork")
            .arg("--print-address=1")
            .arg(format!("--config-file={}", config.display()))
            .stdout(Stdio::piped())
            // It tells of limits that it cannot raise.
            .stderr(Stdio::null())
            .spawn()
            .expect("dbus-daemon is installed: scripts/test-servers");
        let mut address = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut address).unwrap();
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        Self { daemon, address: address.trim().to_owned(), runtime, _dir: dir }
    }

    pub fn connect(&self) -> Connection {
        let address = self.address.as_str();
        let connected =
            async move { zbus::connection::Builder::address(address).build().await.unwrap() };
        self.runtime.block_on(connected)
    }

    /// A service whose calls are answered by this.
    pub fn serve(
        &self,
        name: &str,
        answer: impl Fn(&Connection, &Message) -> Reply + Send + 'static,
    ) -> Connection {
        let connection = self.connect();
        let mut calls = MessageStream::from(&connection);
        let served = connection.clone();
        drop(self.runtime.spawn(async move {
            while let Some(Ok(call)) = calls.next().await {
                if call.message_type() != Type::MethodCall {
                    continue;
                }
                let reply = answer(&served, &call);
                let header = call.header();
                let sent = match reply {
                    Reply::Value(value) => served.reply(&header, &value).await,
                    Reply::Refused(name, why) => served.reply_error(&header, name, &why).await,
                    Reply::Built(message) => served.send(&message).await,
                };
                sent.unwrap();
            }
        }));
        self.runtime.block_on(connection.request_name(name)).unwrap();
        connection
    }
}

/// What a call is answered.
pub enum Reply {
    Value(Variant<'static>),
    Refused(&'static str, String),
    Built(Message),
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ended = self.daemon.kill();
        let _gone = self.daemon.wait();
    }
}

/// One property of one service.
pub struct Property<'a> {
    bus: &'a Bus,
    connection: Connection,
    about: (&'static str, &'static str, &'static str),
    value: Arc<Mutex<Variant<'static>>>,
    asked: Arc<AtomicU64>,
}

impl<'a> Property<'a> {
    /// Network manager's word on what the network costs.
    pub fn metered(bus: &'a Bus, value: u32) -> Self {
        let name = "org.freedesktop.NetworkManager";
        Self::new(bus, (name, "/org/freedesktop/NetworkManager", "Metered"), Variant::U32(value))
    }

    /// UPower's word on the battery.
    pub fn on_battery(bus: &'a Bus, value: bool) -> Self {
        let name = "org.freedesktop.UPower";
        Self::new(bus, (name, "/org/freedesktop/UPower", "OnBattery"), Variant::Bool(value))
    }

    fn new(
        bus: &'a Bus,
        about: (&'static str, &'static str, &'static str),
        value: Variant<'static>,
    ) -> Self {
        let (value, asked) = (Arc::new(Mutex::new(value)), Arc::<AtomicU64>::default());
        let (kept, count) = (value.clone(), asked.clone());
        let connection = bus.serve(about.0, move |_, call| {
            let question: (String, String) = call.body().deserialize().unwrap();
            assert_eq!((question.0.as_str(), question.1.as_str()), (about.0, about.2));
            count.fetch_add(1, Ordering::SeqCst);
            Reply::Value(kept.lock().unwrap().try_clone().unwrap())
        });
        Self { bus, connection, about, value, asked }
    }

    /// How often it was asked for.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// Changes it and says so.
    pub fn change(&self, value: Variant<'static>) {
        let (service, path, name) = self.about;
        *self.value.lock().unwrap() = value.try_clone().unwrap();
        let changed: HashMap<&str, Variant<'_>> = [(name, value)].into();
        let body = (service, changed, Vec::<&str>::new());
        let interface = "org.freedesktop.DBus.Properties";
        let told =
            self.connection.emit_signal(None::<&str>, path, interface, "PropertiesChanged", &body);
        self.bus.runtime.block_on(told).unwrap();
    }

    /// Goes away without a word, as a service that crashed.
    pub fn leave(self) {
        self.bus.runtime.block_on(self.connection.release_name(self.about.0)).unwrap();
    }
}
