//! The option parser: `-o` words and `[mount]` tables become the same [`Options`], where everything nobody said is `None`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::engine::{Hydration, Lane, Population, Returns};

use super::ConfigError;
use super::assignment::{Assignment, split_options};
use super::known::{FLAGS, NOT_YET, VALUED, foreign, is_generic, nearest};
use super::values::{
    Amount, bad_value, has_password, parse_amount, parse_duration, parse_mode, parse_switch,
};
use super::who::{parse_group, parse_user};

/// Is what was said about a mount, from any side; `None` = nobody said anything.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `ro`, `rw`.
    pub read_only: Option<bool>,
    /// `noexec`, `exec`.
    pub no_exec: Option<bool>,
    /// `noatime` (true), `relatime` (false).
    pub no_atime: Option<bool>,
    /// `allow_other`, `noallow_other`, `allow_root`.
    pub access: Option<super::Access>,
    /// `nonempty`.
    pub nonempty: bool,
    /// `uid=`.
    pub uid: Option<u32>,
    /// `gid=`.
    pub gid: Option<u32>,
    /// `umask=`.
    pub umask: Option<u32>,
    /// `fmask=`.
    pub fmask: Option<u32>,
    /// `dmask=`.
    pub dmask: Option<u32>,
    /// `file_mode=`.
    pub file_mode: Option<u32>,
    /// `dir_mode=`.
    pub dir_mode: Option<u32>,
    /// `state_dir=`.
    pub state_dir: Option<PathBuf>,
    /// `cache_size=`.
    pub cache_size: Option<Amount>,
    /// `min_free=`.
    pub min_free: Option<Amount>,
    /// `write_back_delay=`.
    pub write_back_delay: Option<Duration>,
    /// `close=`, `sync`.
    pub close: Option<Returns>,
    /// `fsync=`.
    pub fsync: Option<Returns>,
    /// When a change of names returns.
    pub namespace: Option<Returns>,
    /// `poll=`.
    pub poll: Option<Duration>,
    /// `requests=`.
    pub requests: Option<u32>,
    /// `transfers=`.
    pub transfers: Option<u32>,
    /// `timeout=`.
    pub timeout: Option<Duration>,
    /// `drain=`.
    pub drain: Option<Duration>,
    /// `guard=`.
    pub guard: Option<u32>,
    /// `auto_free=`.
    pub auto_free: Option<bool>,
    /// `auto_free=` with a duration.
    pub free_after: Option<Duration>,
    /// `hydration=`.
    pub hydration: Option<Hydration>,
    /// `population=`.
    pub population: Option<Population>,
    /// `passthrough=`.
    pub passthrough: Option<bool>,
    /// `exclude=`, in order.
    pub exclude: Vec<String>,
    /// `username=`.
    pub username: Option<String>,
    /// `credentials=`.
    pub credentials: Option<PathBuf>,
    /// `ca_file=`.
    pub ca_file: Option<PathBuf>,
    /// `client_cert=`.
    pub client_cert: Option<PathBuf>,
    /// `client_key=`.
    pub client_key: Option<PathBuf>,
    /// `proxy=`.
    pub proxy: Option<String>,
    /// `insecure_http`.
    pub insecure_http: bool,
    /// `adopt_remote`.
    pub adopt_remote: bool,
    /// `offline_ok`.
    pub offline_ok: bool,
    /// `name=`.
    pub name: Option<String>,
    /// `log=`.
    pub log: Option<String>,
    /// `rate_down=`, bytes a second.
    pub rate_down: Option<u64>,
    /// `rate_up=`, bytes a second.
    pub rate_up: Option<u64>,
    /// `metered=`.
    pub metered: Option<Option<Lane>>,
    /// `battery=`.
    pub battery: Option<Option<Lane>>,
    /// `metrics=`.
    pub metrics: Option<SocketAddr>,
}

impl Options {
    /// Reads an option string over what is here already.
    pub fn apply_string(&mut self, text: &str) -> Result<(), ConfigError> {
        split_options(text)?.iter().try_for_each(|one| self.apply(one))
    }

    /// Takes one option over what is here already.
    pub fn apply(&mut self, one: &Assignment) -> Result<(), ConfigError> {
        let key = one.key.as_str();
        if key == "remount" {
            return Err(ConfigError::Remount);
        }
        if NOT_YET.contains(&key) {
            return Err(ConfigError::Unavailable(format!("option {key}")));
        }
        match &one.value {
            None if FLAGS.contains(&key) => {
                self.flag(key);
                Ok(())
            }
            Some(value) if VALUED.contains(&key) => self.valued(key, value),
            None if VALUED.contains(&key) => {
                Err(ConfigError::Option(format!("option {key} needs a value: {key}=…")))
            }
            Some(_) if FLAGS.contains(&key) => {
                Err(ConfigError::Option(format!("option {key} takes no value")))
            }
            _ if is_generic(key) => Ok(()),
            _ => Err(unknown(key)),
        }
    }

    fn flag(&mut self, key: &str) {
        match key {
            "ro" | "rw" => self.read_only = Some(key == "ro"),
            "noexec" | "exec" => self.no_exec = Some(key == "noexec"),
            "noatime" | "relatime" => self.no_atime = Some(key == "noatime"),
            "sync" => self.close = Some(Returns::Remote),
            "allow_other" => self.access = Some(super::Access::Everyone),
            "noallow_other" => self.access = Some(super::Access::Owner),
            "allow_root" => self.access = Some(super::Access::OwnerAndRoot),
            "nonempty" => self.nonempty = true,
            "insecure_http" => self.insecure_http = true,
            "adopt_remote" => self.adopt_remote = true,
            "offline_ok" => self.offline_ok = true,
            // nosuid and nodev always hold.
            _ => {}
        }
    }

    fn valued(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        match key {
            "uid" | "gid" | "umask" | "fmask" | "dmask" | "file_mode" | "dir_mode" => {
                self.owner(key, value)
            }
            "hydration" | "population" | "close" | "fsync" | "namespace" | "auto_free"
            | "verify" | "passthrough" => self.choice(key, value),
            "write_back_delay" | "poll" | "timeout" | "drain" => self.duration(key, value),
            "requests" | "transfers" | "guard" => self.number(key, value),
            "cache_size" | "min_free" => self.amount(key, value),
            _ => self.text(key, value),
        }
    }

    fn owner(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let mode = || {
            parse_mode(value)
                .ok_or_else(|| bad_value(key, value, "an octal mode such as 0022 is needed"))
        };
        match key {
            "uid" => {
                let user = parse_user(value);
                self.uid = Some(user.ok_or_else(|| bad_value(key, value, "no such user"))?);
            }
            "gid" => {
                let group = parse_group(value);
                self.gid = Some(group.ok_or_else(|| bad_value(key, value, "no such group"))?);
            }
            "umask" => self.umask = Some(mode()?),
            "fmask" => self.fmask = Some(mode()?),
            "dmask" => self.dmask = Some(mode()?),
            "file_mode" => self.file_mode = Some(mode()?),
            _ => self.dir_mode = Some(mode()?),
        }
        Ok(())
    }

    fn choice(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        if key == "auto_free"
            && let Some(age) = parse_duration(value).filter(|age| !age.is_zero())
            && parse_switch(value).is_none()
        {
            (self.auto_free, self.free_after) = (Some(true), Some(age));
            return Ok(());
        }
        let known: &[&str] = match key {
            "hydration" => &["partial", "progressive", "full", "always"],
            "population" => &["on-demand", "full"],
            "close" | "fsync" | "namespace" => &["local", "remote"],
            _ => &["on", "off"],
        };
        let switch = parse_switch(value);
        let is_switch = known.contains(&"on") && switch.is_some();
        if !known.contains(&value) && !is_switch {
            return Err(bad_value(key, value, &format!("one of {} is needed", known.join(", "))));
        }
        let returns = if value == "remote" { Returns::Remote } else { Returns::Local };
        match (key, value) {
            ("close", _) => self.close = Some(returns),
            ("fsync", _) => self.fsync = Some(returns),
            ("auto_free", _) => (self.auto_free, self.free_after) = (switch, None),
            ("hydration", "partial") => self.hydration = Some(Hydration::Partial),
            ("hydration", "progressive") => self.hydration = Some(Hydration::Progressive),
            ("hydration", "full") => self.hydration = Some(Hydration::Full),
            ("hydration", _) => self.hydration = Some(Hydration::Always),
            ("population", "full") => self.population = Some(Population::Full),
            ("population", _) => self.population = Some(Population::OnDemand),
            ("passthrough", _) => self.passthrough = switch,
            ("namespace", _) => self.namespace = Some(returns),
            ("verify", _) if switch == Some(true) => {}
            _ => return Err(ConfigError::Unavailable(format!("option {key}={value}"))),
        }
        Ok(())
    }

    fn duration(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let wanted = "a duration such as 500ms, 30s or 1h30m is needed";
        let duration = parse_duration(value).ok_or_else(|| bad_value(key, value, wanted))?;
        if duration.is_zero() && matches!(key, "poll" | "timeout") {
            return Err(bad_value(key, value, "more than nothing is needed"));
        }
        match key {
            "write_back_delay" => self.write_back_delay = Some(duration),
            "poll" => self.poll = Some(duration),
            "timeout" => self.timeout = Some(duration),
            _ => self.drain = Some(duration),
        }
        Ok(())
    }

    fn number(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let number: u32 =
            value.parse().map_err(|_| bad_value(key, value, "a whole number is needed"))?;
        if number == 0 && key != "guard" {
            return Err(bad_value(key, value, "at least 1 is needed"));
        }
        match key {
            "requests" => self.requests = Some(number),
            "transfers" => self.transfers = Some(number),
            _ => self.guard = Some(number),
        }
        Ok(())
    }

    fn amount(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let wanted = "a size such as 500M, 20G or 10% is needed";
        let amount = parse_amount(value).ok_or_else(|| bad_value(key, value, wanted))?;
        let is_bare = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        match key {
            // Nothing fits into so little: a unit was forgotten.
            "cache_size" if is_bare && amount.of(0) < 1 << 20 => {
                let why = format!("so many bytes are next to nothing; {value}G is meant?");
                return Err(bad_value(key, value, &why));
            }
            "cache_size" => self.cache_size = Some(amount),
            _ => self.min_free = Some(amount),
        }
        Ok(())
    }

    fn text(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        if value.is_empty() {
            return Err(bad_value(key, value, "a value is needed"));
        }
        match key {
            "state_dir" => self.state_dir = Some(value.into()),
            "credentials" => self.credentials = Some(value.into()),
            "ca_file" => self.ca_file = Some(value.into()),
            "client_cert" => self.client_cert = Some(value.into()),
            "client_key" => self.client_key = Some(value.into()),
            "proxy" if has_password(value) => {
                return Err(bad_value(key, "URL", "a password in it would be seen by everybody"));
            }
            "proxy" => self.proxy = Some(value.to_owned()),
            "username" => self.username = Some(value.to_owned()),
            "exclude" => self.exclude.push(value.to_owned()),
            "name" => self.name = Some(value.to_owned()),
            "rate_down" => self.rate_down = Some(rate(key, value)?),
            "rate_up" => self.rate_up = Some(rate(key, value)?),
            "metered" => self.metered = Some(super::thrift::parse(key, value)?),
            "battery" => self.battery = Some(super::thrift::parse(key, value)?),
            "metrics" => self.metrics = Some(metrics(value)?),
            "log" => {
                let levels = ["error", "warn", "info", "debug", "trace", "off"];
                if !levels.contains(&value) {
                    return Err(bad_value(
                        key,
                        value,
                        &format!("one of {} is needed", levels.join(", ")),
                    ));
                }
                self.log = Some(value.to_owned());
            }
            _ => return Err(unknown(key)),
        }
        Ok(())
    }
}

fn rate(key: &str, value: &str) -> Result<u64, ConfigError> {
    let wanted = "bytes a second such as 500K or 2M are needed, or 0 for no limit";
    crate::model::parse_bytes(value).ok_or_else(|| bad_value(key, value, wanted))
}

fn metrics(value: &str) -> Result<SocketAddr, ConfigError> {
    let wanted = "a loopback address and a port are needed, such as 127.0.0.1:9464";
    let value_of = value.parse::<SocketAddr>().ok();
    value_of
        .filter(|address| address.ip().is_loopback())
        .ok_or_else(|| bad_value("metrics", value, wanted))
}

fn unknown(key: &str) -> ConfigError {
    ConfigError::Option(match (foreign(key), nearest(key)) {
        (Some(ours), _) => match ours.strip_prefix("nothing: ") {
            Some(why) => format!("unknown option {key}; dewfs needs none: {why}"),
            None => format!("unknown option {key}; dewfs says {ours}"),
        },
        (None, Some(near)) => format!("unknown option {key}; the nearest is {near}"),
        (None, None) => format!("unknown option {key}; mount.dewfs(8) tells of all"),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Result<Options, ConfigError> {
        let mut options = Options::default();
        options.apply_string(text).map(|()| options)
    }

    #[test]
    fn a_comma_in_quotes_belongs_to_the_value() {
        let options = read(r#"exclude="a,b",,ro,exclude=c"#).unwrap();
        assert_eq!(options.exclude, ["a,b", "c"]);
        assert_eq!(options.read_only, Some(true));
        assert!(read("exclude=\"a,b").is_err());
    }

    #[test]
    fn later_words_win_and_generic_ones_are_left_alone() {
        let options =
            read("ro,defaults,_netdev,nofail,user,x-gvfs-hide,x-a=b,comment=z,rw,dev,suid");
        assert_eq!(options.unwrap().read_only, Some(false));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            ("cache-size=1G", "nearest is cache_size"),
            ("vfs_cache_max_size=1G", "dewfs says cache_size="),
            ("IdentityFile=/x", "dewfs says credentials=FILE"),
            ("delay_upload=3", "dewfs says write_back_delay="),
            ("remount,ro", "remount"),
            ("namespace=there", "one of local, remote"),
            ("verify=off", "verify=off: not available in this version"),
            ("guard=many", "a whole number is needed"),
            ("hydration=ful", "one of partial"),
            ("metered=on", "one of bulk, uploads, all, ignore"),
            ("metrics=:9", "metrics=:9"),
            ("metrics=192.0.2.1:9464", "loopback"),
            ("poll=soon", "poll=soon"),
            ("poll=0", "poll=0"),
            ("cache_size=many", "cache_size=many"),
            ("cache_size=20", "20G is meant?"),
            ("uid=nobodyatall", "no such user"),
            ("ro=1", "takes no value"),
            ("poll", "needs a value"),
            ("umask=9", "octal"),
            ("log=loud", "log=loud"),
        ] {
            let message = read(text).unwrap_err().to_string();
            assert!(message.contains(named), "{text}: {message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn every_name_of_ours_is_read() {
        for key in FLAGS.iter().filter(|key| !NOT_YET.contains(key)) {
            read(key).unwrap();
        }
        for (key, value) in [
            ("uid", "0"),
            ("gid", "0"),
            ("umask", "0077"),
            ("fmask", "0133"),
            ("dmask", "0022"),
            ("file_mode", "0600"),
            ("dir_mode", "0700"),
            ("state_dir", "/x"),
            ("cache_size", "1G"),
            ("min_free", "1%"),
            ("hydration", "partial"),
            ("population", "on-demand"),
            ("write_back_delay", "1s"),
            ("close", "remote"),
            ("fsync", "remote"),
            ("namespace", "local"),
            ("poll", "5s"),
            ("requests", "9"),
            ("transfers", "2"),
            ("timeout", "9s"),
            ("drain", "0"),
            ("guard", "50"),
            ("auto_free", "30d"),
            ("verify", "on"),
            ("passthrough", "off"),
            ("exclude", "*.o"),
            ("username", "a"),
            ("credentials", "/c"),
            ("name", "n"),
            ("log", "debug"),
            ("metrics", "127.0.0.1:0"),
            ("rate_down", "2M"),
            ("rate_up", "500K"),
            ("metered", "ignore"),
            ("battery", "uploads"),
            ("ca_file", "/c"),
            ("client_cert", "/c"),
            ("client_key", "/c"),
            ("proxy", "http://p:1"),
        ] {
            assert!(VALUED.contains(&key), "{key}");
            read(&format!("{key}={value}")).unwrap();
        }
    }
}
