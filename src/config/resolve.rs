//! One [`MountOptions`] out of a request: files and words joined, and what nobody said filled in.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::engine::{Returns, Settings};

use super::assignment::split_options;
use super::places::{resolved, state_id};
use super::spec::{RemoteSpec, Spec};
use super::values::Amount;
use super::who::{is_entrusted, is_from_home};
use super::{ConfigError, ConfigFiles, Options, Places, Schemes, Thrift, Who};

/// Says who may use the mount; the kernel checks permissions for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The mounting user.
    Owner,
    /// The mounting user and root.
    OwnerAndRoot,
    /// Everybody.
    Everyone,
}

/// Says when the kernel notes that something was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Atime {
    /// Now and then.
    Relative,
    /// Never.
    Never,
}

/// Is what goes to the kernel. `nosuid` and `nodev` always do.
#[derive(Clone, Debug)]
pub struct KernelOptions {
    /// `ro`.
    pub read_only: bool,
    /// `noexec`.
    pub no_exec: bool,
    /// `noatime` or `relatime`.
    pub atime: Atime,
    /// `allow_other`, `allow_root`.
    pub access: Access,
}

/// Is what the remote is opened with.
#[derive(Clone, Debug, Default)]
pub struct RemoteOptions {
    /// The user name, of option or URL.
    pub username: Option<String>,
    /// The file with the secret.
    pub credentials: Option<PathBuf>,
    /// Authorities to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// A client certificate.
    pub client_cert: Option<PathBuf>,
    /// Its key.
    pub client_key: Option<PathBuf>,
    /// A proxy for all requests.
    pub proxy: Option<String>,
    /// Whether a password may go over plain http to another machine.
    pub insecure_http: bool,
    /// Whether nothing is to be changed there, not even to find out what could be.
    pub read_only: bool,
}

/// Is everything about one mount, with nothing left to look up.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// What is mounted.
    pub remote: RemoteSpec,
    /// The source that the kernel shows: the specification as given, a relative folder made absolute.
    pub source: OsString,
    /// Where, absolute, symlinks resolved.
    pub mountpoint: PathBuf,
    /// What people call it.
    pub name: String,
    /// Who mounts.
    pub who: Who,
    /// Where its files are.
    pub places: Places,
    /// What the engine is told.
    pub settings: Settings,
    /// What the kernel is told.
    pub kernel: KernelOptions,
    /// What the remote is opened with.
    pub remote_options: RemoteOptions,
    /// Whether the mountpoint may hold something.
    pub nonempty: bool,
    /// Whether the mountpoint is the saved remote's own place, and dewfs's to look after.
    pub is_own_place: bool,
    /// The level of the log, if it was said.
    pub log: Option<String>,
    /// Where figures are shown, if it was said.
    pub metrics: Option<std::net::SocketAddr>,
    /// What stands still while the network is metered, or on the battery.
    pub thrift: Thrift,
    /// The kinds of remotes besides dewfs's own.
    pub schemes: Schemes,
    /// `--config FILE`.
    pub config: Option<PathBuf>,
}

impl MountOptions {
    /// Which file has the secret now, as it is written where the remote is saved: somebody may have signed in since.
    pub fn credentials_now(&self) -> Option<PathBuf> {
        let (spec, config, root) = (&self.source, self.config.as_deref(), Path::new("/"));
        if !matches!(Spec::parse(spec, root, &self.schemes), Ok(Spec::Saved { .. })) {
            return None;
        }
        let saved = resolve_remote(spec, &[], config, &self.who, root, &self.schemes);
        saved.ok()?.1.credentials
    }
}

/// Is what somebody asked for, as written.
#[derive(Clone, Debug)]
pub struct MountRequest<'a> {
    /// The remote specification.
    pub spec: &'a OsStr,
    /// The mountpoint.
    pub dir: &'a Path,
    /// Every `-o`, in order.
    pub options: &'a [String],
    /// `--config FILE`.
    pub config: Option<&'a Path>,
    /// mount(8)'s `-s`: words in `options` that mean nothing here are left alone.
    pub sloppy: bool,
    /// The kinds of remotes besides dewfs's own.
    pub schemes: &'a Schemes,
}

/// Reads the files, joins them with the words, and fills in the rest. Touches nothing.
pub fn resolve(
    request: &MountRequest<'_>,
    who: &Who,
    cwd: &Path,
) -> Result<MountOptions, ConfigError> {
    let files = ConfigFiles::of(who, request.config);
    resolve_with(request, who, cwd, &files)
}

fn resolve_with(
    request: &MountRequest<'_>,
    who: &Who,
    cwd: &Path,
    files: &ConfigFiles,
) -> Result<MountOptions, ConfigError> {
    let mut options = Options::default();
    files.apply_general(&mut options, request.config.is_some())?;
    let remote = open_spec(request.spec, who, cwd, files, request.schemes, &mut options)?;
    for one in request.options.iter().map(|text| split_options(text)) {
        for one in one?.iter().filter(|one| !request.sloppy || one.is_known()) {
            options.apply(one)?;
        }
    }
    let mountpoint = absolute_mountpoint(&cwd.join(request.dir));
    if is_entrusted() && mountpoint != super::spec::lexical(&cwd.join(request.dir)) {
        let asked = request.dir.display();
        return Err(ConfigError::Place(format!(
            "{asked}: a symbolic link is on the way to {}; a daemon with CAP_SYS_ADMIN follows none",
            mountpoint.display()
        )));
    }
    let user = options.username.clone().or_else(|| match &remote {
        RemoteSpec::WebDav { user, .. } => user.clone(),
        RemoteSpec::Folder(_) | RemoteSpec::Added { .. } => None,
    });
    let place = String::from_utf8_lossy(&remote.canonical()).into_owned();
    let as_user = user.as_ref().map(|user| format!(" as {user}")).unwrap_or_default();
    let id = state_id(&remote, user.as_deref(), None, &mountpoint);
    let state_dir = options.state_dir.as_ref().map(|dir| resolved(&who.path(cwd, dir)));
    let places = Places::of(id, state_dir, who)?;
    refuse_loops(&remote, &mountpoint, &places.state_dir)?;
    Ok(MountOptions {
        source: source(request.spec, &remote),
        name: options.name.clone().unwrap_or_else(|| display_name(request, cwd, &mountpoint)),
        settings: Settings {
            remote: place + &as_user,
            ..settings(&options, who, &places.state_dir)
        },
        kernel: kernel(&options, who),
        remote_options: remote_options(&options, user, who, cwd),
        nonempty: options.nonempty,
        is_own_place: is_own_place(request, &mountpoint, who, cwd),
        log: options.log.clone(),
        metrics: options.metrics,
        thrift: Thrift::of(options.metered, options.battery),
        schemes: request.schemes.clone(),
        config: request.config.map(|file| cwd.join(file)),
        who: who.clone(),
        remote,
        mountpoint,
        places,
    })
}

/// The remote a specification names; a saved one brings its options.
fn open_spec(
    spec: &OsStr,
    who: &Who,
    cwd: &Path,
    files: &ConfigFiles,
    schemes: &Schemes,
    options: &mut Options,
) -> Result<RemoteSpec, ConfigError> {
    let (name, sub) = match Spec::parse(spec, cwd, schemes)? {
        Spec::Remote(remote) => return Ok(remote),
        Spec::Saved { name, sub } => (name, sub),
    };
    let saved = files.remote(&name)?;
    saved.options.iter().try_for_each(|one| options.apply(one))?;
    let written = match is_from_home(&saved.spec) {
        true => who.path(Path::new("/"), Path::new(&saved.spec)).into_os_string(),
        false => OsString::from(&saved.spec),
    };
    match Spec::parse(written, Path::new("/"), schemes)? {
        Spec::Remote(remote) => remote.below(&sub),
        Spec::Saved { .. } => Err(ConfigError::Spec(format!(
            "saved remote {name}: its spec {} names another saved remote",
            saved.spec
        ))),
    }
}

/// The remote that a specification names, with what is saved about how to open it: for commands that need no mountpoint.
pub fn resolve_remote(
    spec: &OsStr,
    words: &[String],
    config: Option<&Path>,
    who: &Who,
    cwd: &Path,
    schemes: &Schemes,
) -> Result<(RemoteSpec, RemoteOptions), ConfigError> {
    let files = ConfigFiles::of(who, config);
    let mut options = Options::default();
    files.apply_general(&mut options, config.is_some())?;
    let remote = open_spec(spec, who, cwd, &files, schemes, &mut options)?;
    words.iter().try_for_each(|text| options.apply_string(text))?;
    let user = options.username.clone().or_else(|| match &remote {
        RemoteSpec::WebDav { user, .. } => user.clone(),
        RemoteSpec::Folder(_) | RemoteSpec::Added { .. } => None,
    });
    let opened_with = remote_options(&options, user, who, cwd);
    Ok((remote, opened_with))
}

/// Where a saved remote is mounted if nobody says: the place saved with it, else `~/NAME`.
pub fn own_mountpoint(
    spec: &OsStr,
    config: Option<&Path>,
    who: &Who,
    cwd: &Path,
    schemes: &Schemes,
) -> Result<PathBuf, ConfigError> {
    let shown = spec.to_string_lossy();
    let name = match Spec::parse(spec, cwd, schemes)? {
        Spec::Saved { name, sub } if sub.is_empty() => name,
        _ => {
            return Err(ConfigError::Option(format!(
                "{shown}: say where to mount it; only a saved remote (NAME:) has a place of its own"
            )));
        }
    };
    let home = || {
        who.home.clone().ok_or_else(|| {
            ConfigError::Place(format!(
                "user {} has no home directory: say where to mount",
                who.uid
            ))
        })
    };
    match ConfigFiles::of(who, config).remote(&name)?.mountpoint.as_deref() {
        None => Ok(home()?.join(&name)),
        Some("~") => home(),
        Some(place) => match place.strip_prefix("~/") {
            Some(below) => Ok(home()?.join(below)),
            None if Path::new(place).is_absolute() => Ok(place.into()),
            None => Err(ConfigError::Place(format!(
                "saved remote {name}: mountpoint = \"{place}\" must begin with / or ~/"
            ))),
        },
    }
}

/// Whether this is where the saved remote that `request` names is mounted if nobody says.
fn is_own_place(request: &MountRequest<'_>, mountpoint: &Path, who: &Who, cwd: &Path) -> bool {
    let own = own_mountpoint(request.spec, request.config, who, cwd, request.schemes);
    own.is_ok_and(|own| absolute_mountpoint(&own) == mountpoint)
}

fn source(spec: &OsStr, remote: &RemoteSpec) -> OsString {
    match remote {
        RemoteSpec::Folder(path)
            if !spec.as_encoded_bytes().contains(&b':') && !Path::new(spec).is_absolute() =>
        {
            path.into()
        }
        _ => spec.to_owned(),
    }
}

/// What people call it who did not say: a saved remote by its name, wherever it is mounted.
fn display_name(request: &MountRequest<'_>, cwd: &Path, mountpoint: &Path) -> String {
    if let Ok(Spec::Saved { name, sub }) = Spec::parse(request.spec, cwd, request.schemes)
        && sub.is_empty()
    {
        return name;
    }
    mountpoint.file_name().unwrap_or(OsStr::new("dewfs")).to_string_lossy().into_owned()
}

/// The mountpoint, absolute and without symlinks. What is mounted there is not asked: it may be dead.
fn absolute_mountpoint(dir: &Path) -> PathBuf {
    let dir = super::spec::lexical(dir);
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else { return dir };
    let at = resolved(parent).join(name);
    if at.is_symlink() { resolved(&at) } else { at }
}

fn refuse_loops(remote: &RemoteSpec, mountpoint: &Path, state: &Path) -> Result<(), ConfigError> {
    let clash = |a: &Path, b: &Path| a.starts_with(b) || b.starts_with(a);
    let refuse = |a: &str, x: &Path, b: &str, y: &Path| {
        Err(ConfigError::Place(format!(
            "{a} {} and {b} {}: one lies in the other",
            x.display(),
            y.display()
        )))
    };
    let state = &resolved(state);
    if clash(mountpoint, state) {
        return refuse("the mountpoint", mountpoint, "the state directory", state);
    }
    if let RemoteSpec::Folder(folder) = remote {
        let folder = &resolved(folder);
        if clash(mountpoint, folder) {
            return refuse("the mountpoint", mountpoint, "the remote folder", folder);
        }
        if clash(folder, state) {
            return refuse("the remote folder", folder, "the state directory", state);
        }
    }
    Ok(())
}

fn settings(options: &Options, who: &Who, state_dir: &Path) -> Settings {
    let usual = Settings::default();
    let disk = disk_size(state_dir);
    let tenth = Amount::Share(1000).of(disk).min(50 << 30);
    let private = who.is_root() && options.uid.is_some();
    let umask = options.umask.unwrap_or(if private { 0o177 } else { 0o022 });
    let dir_umask = options.umask.unwrap_or(if private { 0o077 } else { 0o022 });
    let mut exclude = usual.exclude;
    for pattern in &options.exclude {
        if pattern == "!" {
            exclude.clear();
        } else {
            exclude.push(pattern.clone());
        }
    }
    Settings {
        read_only: options.read_only.unwrap_or(false),
        uid: options.uid.unwrap_or(who.uid),
        gid: options.gid.unwrap_or_else(|| options.uid.and_then(group_of).unwrap_or(who.gid)),
        file_mode: options.file_mode.unwrap_or(0o666 & !options.fmask.unwrap_or(umask)),
        dir_mode: options.dir_mode.unwrap_or(0o777 & !options.dmask.unwrap_or(dir_umask)),
        cache_size: options.cache_size.map_or(tenth, |amount| amount.of(disk)),
        min_free: options.min_free.unwrap_or(Amount::Share(500)).of(disk),
        write_back_delay: options.write_back_delay.unwrap_or(usual.write_back_delay),
        close: options.close.unwrap_or(Returns::Local),
        fsync: options.fsync.unwrap_or(Returns::Local),
        namespace: options.namespace.unwrap_or(Returns::Local),
        poll: options.poll.unwrap_or(usual.poll),
        requests: options.requests.unwrap_or(usual.requests),
        transfers: options.transfers.unwrap_or(usual.transfers),
        timeout: options.timeout.unwrap_or(usual.timeout),
        drain: options.drain.unwrap_or(usual.drain),
        guard: options.guard.unwrap_or(usual.guard),
        free_after: options.free_after,
        rate_down: options.rate_down.unwrap_or(0),
        rate_up: options.rate_up.unwrap_or(0),
        hydration: options.hydration.unwrap_or(usual.hydration),
        population: options.population.unwrap_or(usual.population),
        auto_free: options.auto_free.unwrap_or(true),
        remote: String::new(),
        adopt_remote: options.adopt_remote,
        offline_ok: options.offline_ok,
        atime: !options.no_atime.unwrap_or(false),
        passthrough: options.passthrough.unwrap_or(true),
        exclude,
    }
}

fn group_of(uid: u32) -> Option<u32> {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok()??;
    Some(user.gid.as_raw())
}

/// The size of the disk that holds `dir`, or will.
fn disk_size(dir: &Path) -> u64 {
    let found = dir.ancestors().find_map(|dir| rustix::fs::statvfs(dir).ok());
    found.map_or(0, |disk| disk.f_blocks.saturating_mul(disk.f_frsize))
}

fn kernel(options: &Options, who: &Who) -> KernelOptions {
    let usual = if who.is_root() { Access::Everyone } else { Access::Owner };
    KernelOptions {
        read_only: options.read_only.unwrap_or(false),
        no_exec: options.no_exec.unwrap_or(false),
        atime: if options.no_atime == Some(true) { Atime::Never } else { Atime::Relative },
        access: options.access.unwrap_or(usual),
    }
}

fn remote_options(
    options: &Options,
    username: Option<String>,
    who: &Who,
    cwd: &Path,
) -> RemoteOptions {
    let absolute = |path: &Option<PathBuf>| path.as_ref().map(|path| who.path(cwd, path));
    RemoteOptions {
        username,
        credentials: absolute(&options.credentials),
        ca_file: absolute(&options.ca_file),
        client_cert: absolute(&options.client_cert),
        client_key: absolute(&options.client_key),
        proxy: options.proxy.clone(),
        insecure_http: options.insecure_http,
        read_only: options.read_only.unwrap_or(false),
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
