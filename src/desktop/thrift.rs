//! Whether the network is metered and whether the machine runs on its battery, as NetworkManager and UPower tell it over the
//! system's bus.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, select};
use tokio::sync::watch;
use zbus::message::Type;
use zbus::{Connection, MatchRule, MessageStream, OwnedVariant, Variant};

/// How long an answer may take before it counts as none.
const PATIENCE: Duration = Duration::from_secs(10);
/// When a bus that went away is tried again, first and at the latest.
const AGAIN: Duration = Duration::from_secs(5);
const AGAIN_AT_MOST: Duration = Duration::from_secs(300);

/// Is how the machine fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// Whether what goes over the network is paid for by its amount, or probably is.
    pub metered: bool,
    /// Whether the machine runs on its battery.
    pub on_battery: bool,
}

/// Is a property of a service, and where it goes.
#[derive(Clone, Copy, Debug)]
struct Property {
    service: &'static str,
    path: &'static str,
    interface: &'static str,
    name: &'static str,
    put: fn(&mut Circumstances, bool),
}

const METERED: Property = Property {
    service: "org.freedesktop.NetworkManager",
    path: "/org/freedesktop/NetworkManager",
    interface: "org.freedesktop.NetworkManager",
    name: "Metered",
    put: |now, yes| now.metered = yes,
};

const ON_BATTERY: Property = Property {
    service: "org.freedesktop.UPower",
    path: "/org/freedesktop/UPower",
    interface: "org.freedesktop.UPower",
    name: "OnBattery",
    put: |now, yes| now.on_battery = yes,
};

/// Tells how the machine fares, of what was asked for, from now on. The first answer is there once the receiver was told of a
/// change, or the sender is gone: then there is no bus. Runs on the current runtime until nobody listens.
pub fn follow(metered: bool, on_battery: bool) -> watch::Receiver<Circumstances> {
    let (told, heard) = watch::channel(Circumstances::default());
    let wanted: Vec<Property> = [(metered, METERED), (on_battery, ON_BATTERY)]
        .into_iter()
        .filter_map(|(wanted, property)| wanted.then_some(property))
        .collect();
    if !wanted.is_empty() {
        tokio::spawn(async move {
            let ended = told.clone();
            tokio::select! {
                () = stay_connected(&wanted, &told) => {}
                () = ended.closed() => {}
            }
        });
    }
    heard
}

/// Stays on the bus, over its restarts; ends if there is none to begin with.
async fn stay_connected(wanted: &[Property], told: &watch::Sender<Circumstances>) {
    let (mut was_there, mut again) = (false, AGAIN);
    loop {
        match Connection::system().await {
            Ok(bus) => {
                (was_there, again) = (true, AGAIN);
                listen(&bus, wanted, told).await;
                // Who cannot be asked any more asks for no thrift.
                told.send_replace(Circumstances::default());
            }
            Err(error) if !was_there => {
                tracing::debug!(%error, "no system bus: metered connections and batteries are not noticed");
                return;
            }
            Err(_) => again = (again * 2).min(AGAIN_AT_MOST),
        }
        tokio::time::sleep(again).await;
    }
}

/// Asks for every property, and again for each that may have changed; ends with the connection.
async fn listen(bus: &Connection, wanted: &[Property], told: &watch::Sender<Circumstances>) {
    let mut news = Vec::new();
    for property in wanted {
        match news_of(bus, *property).await {
            Ok(stream) => news.push(stream),
            Err(error) => {
                tracing::debug!(%error, "the system bus does not tell of changes");
                return;
            }
        }
    }
    let mut now = Circumstances::default();
    for property in wanted {
        (property.put)(&mut now, ask(bus, *property).await);
    }
    told.send_replace(now);
    let mut news = futures_util::stream::select_all(news);
    while let Some(property) = news.next().await {
        (property.put)(&mut now, ask(bus, property).await);
        told.send_if_modified(|before| std::mem::replace(before, now) != now);
    }
}

/// Yields the property each time that it may have changed, and when its service comes or goes.
async fn news_of(
    bus: &Connection,
    property: Property,
) -> zbus::Result<BoxStream<'static, Property>> {
    let changed = MatchRule::builder()
        .msg_type(Type::Signal)
        .path(property.path)
        .interface("org.freedesktop.DBus.Properties")
        .member("PropertiesChanged")
        .arg(0, property.interface)
        .build()?;
    let moved = MatchRule::builder()
        .msg_type(Type::Signal)
        .interface("org.freedesktop.DBus")
        .member("NameOwnerChanged")
        .arg(0, property.service)
        .build()?;
    let changed = MessageStream::for_match_rule(changed, bus, None).await?;
    let moved = MessageStream::for_match_rule(moved, bus, None).await?;
    // Whoever sent it: the service itself is asked.
    let news = select(changed, moved).map(move |_| property);
    Ok(news.boxed())
}

/// Whether the property says yes; nobody to ask says no.
async fn ask(bus: &Connection, property: Property) -> bool {
    let question = (property.interface, property.name);
    let asked = bus.call_method(
        Some(property.service),
        property.path,
        Some("org.freedesktop.DBus.Properties"),
        "Get",
        &question,
    );
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(answer)) => {
            answer.body().deserialize::<OwnedVariant>().is_ok_and(|value| is_yes(&value))
        }
        _ => false,
    }
}

/// Yes as NetworkManager says it is a number, `yes` or `probably`.
fn is_yes(value: &Variant<'_>) -> bool {
    const YES: u32 = 1;
    const GUESSED_YES: u32 = 3;
    matches!(value, Variant::Bool(true) | Variant::U32(YES | GUESSED_YES))
}
