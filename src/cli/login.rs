//! `dewfs login` and `dewfs logout`: another secret for a saved remote, under a mount in use as well.

use std::io::{BufRead as _, IsTerminal as _};
use std::time::{Duration, Instant};

use clap::Args;

use crate::config::{
    Assignment, Login, MountOptions, NewRemote, RemoteOptions, RemoteSpec, Who, ask_login,
    write_secret,
};
use crate::control::Request;
use crate::fuse::mountinfo::mounts;

use super::output::text;
use super::saved::Saved;
use super::target::Target;
use super::units::Units;
use super::way_out::with_another;
use super::{ATTENTION, Common, DONE, Failure, browser, keyring, remote, remotes};

/// What to do where a name or password was just given and is not the right one.
pub(super) const SIGN_IN_AGAIN: &str = "look at both and try again; where no terminal asks for them, --password-stdin reads the password";

/// How long a mount may take to sign in with what was just tried.
const SIGNED_IN: Duration = Duration::from_secs(20);

/// How often it is asked whether it did.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Who signs in where.
#[derive(Args, Clone, Debug)]
pub struct LoginArgs {
    /// The saved remote, or a path in its mount
    target: String,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
    /// Keep the secret in the desktop's keyring instead of a file
    #[arg(long)]
    keyring: bool,
    /// Keep the secret in a file, whatever is in the keyring
    #[arg(long, conflicts_with = "keyring")]
    file: bool,
}

/// Who signs out where.
#[derive(Args, Clone, Debug)]
#[command(after_help = "What is here can be read, edits wait until dewfs login.")]
pub struct LogoutArgs {
    /// The saved remote, or a path in its mount
    target: String,
}

/// Runs `dewfs login`.
pub(super) fn run(args: &LoginArgs, common: &Common) -> Result<u8, Failure> {
    let saved = saved(&args.target, common)?;
    refuse_anothers(&saved)?;
    let MountOptions { remote: spec, remote_options: with, .. } = &saved.mount;
    let RemoteSpec::WebDav { url, .. } = spec else {
        return Err(Failure::usage(format!("{}: {}", saved.name, signed_in_elsewhere(spec, with))));
    };
    let user = with.username.as_deref();
    let login = if args.password_stdin {
        from_stdin(user)?
    } else if let Some(login) = browser::sign_in(spec, with, remote::STALL)? {
        login
    } else if std::io::stdin().is_terminal() {
        let place = url.host_str().unwrap_or_default();
        ask_login(user, place).ok_or_else(|| Failure::failed("no password was given"))?
    } else {
        return Err(Failure::usage("no terminal to ask on: say --password-stdin"));
    };
    check(spec, with, &login).map_err(|failure| Failure {
        exit: failure.exit,
        ..failure.about("nothing was changed")
    })?;
    if args.keyring && with.credentials.is_some() {
        return Err(Failure::failed(format!(
            "{}: its secret is in the file that credentials= names; without that option it can be in the keyring",
            saved.name
        )));
    }
    let in_keyring = match args.keyring || args.file || with.credentials.is_some() {
        true => args.keyring,
        false => keyring::has(spec, with).map_err(|failure| Failure {
            message: format!(
                "{}: nothing was changed: {}; --file keeps the secret in a file instead",
                saved.name, failure.message
            ),
            ..failure
        })?,
    };
    if in_keyring {
        refuse_another_user(&saved, with.username.as_deref(), &login)?;
        keyring::keep(&saved.name, spec, with, &login)?;
    } else {
        keep(&saved, &login)?;
    }
    resume(&saved)?;
    Ok(DONE)
}

/// Runs `dewfs logout`.
pub(super) fn run_logout(args: &LogoutArgs, common: &Common) -> Result<u8, Failure> {
    let saved = saved(&args.target, common)?;
    refuse_anothers(&saved)?;
    match &saved.mount.remote_options.credentials {
        Some(file) if *file == saved.place.secret => write_secret(file, None)?,
        Some(file) => {
            return Err(Failure::failed(format!(
                "{}: its secret is in {}, which is yours to remove",
                saved.name,
                file.display()
            )));
        }
        None => forget_kept(&saved, common)?,
    }
    tell_mounts(&saved)?;
    Ok(DONE)
}

/// Where the secret of what dewfs does not sign in to goes.
fn signed_in_elsewhere(spec: &RemoteSpec, with: &RemoteOptions) -> String {
    let RemoteSpec::Added { scheme, .. } = spec else {
        return "a folder needs no sign-in".to_owned();
    };
    match &with.credentials {
        Some(file) => format!(
            "{scheme}:// signs in by itself, with what is in {}: write the secret there",
            file.display()
        ),
        None => format!(
            "{scheme}:// signs in by itself: write the secret into a file, and name that with credentials= where the remote is saved"
        ),
    }
}

/// Takes the secret out of the keyring, and tells who else may have signed in with it.
fn forget_kept(saved: &Saved, common: &Common) -> Result<(), Failure> {
    let (spec, with, name) = (&saved.mount.remote, &saved.mount.remote_options, &saved.name);
    let shared = keyring::shared_with_others(saved, common);
    if !keyring::forget(spec, with, keyring::Shared::None)? {
        return Err(Failure::failed(format!("{name}: nobody is signed in")));
    }
    if shared != keyring::Shared::None && !common.quiet {
        eprintln!(
            "dewfs: {name}: other saved remotes on this host may have signed in with that secret as well: dewfs login signs them in again"
        );
    }
    Ok(())
}

/// In the keyring a secret is found by whose it is, and the mount looks for that of who its address names.
fn refuse_another_user(saved: &Saved, user: Option<&str>, login: &Login) -> Result<(), Failure> {
    match (user, login) {
        (Some(wanted), Login::Basic { user, .. }) if user != wanted => {
            Err(Failure::failed(format!(
                "{}: nothing was changed: {user} signed in, but the keyring is asked for {wanted}; --file keeps the secret in a file",
                saved.name
            )))
        }
        _ => Ok(()),
    }
}

/// A unit of the machine that mounts as somebody else reads a secret that root keeps for it, and not what is written here.
fn refuse_anothers(saved: &Saved) -> Result<(), Failure> {
    let name = &saved.name;
    match Units::of(&Who::current()).and_then(|units| units.user(name)) {
        None => Ok(()),
        Some(user) => Err(Failure::failed(format!(
            "{name}: nothing was changed: dewfs@{name}.service mounts it as {user}, with the secret that its LoadCredential= \
             names: change that file, then systemctl restart dewfs@{name}.service"
        ))),
    }
}

/// A name, or a path in the mount of a saved remote.
fn saved(target: &str, common: &Common) -> Result<Saved, Failure> {
    if !target.contains('/') && target != "." && target != ".." {
        return Saved::find(target, common);
    }
    let mount = Target::of(target.as_ref())?.mount;
    let source = mount.source.to_string_lossy().into_owned();
    let name = source.split_once(':').map(|(name, _)| name).unwrap_or_default();
    Saved::find(name, common).map_err(|_| {
        Failure::failed(format!(
            "{target}: {source} is no saved remote; change the file of its credentials= instead, it is read again"
        ))
    })
}

/// A login whose password is the first line of standard input.
pub(super) fn from_stdin(user: Option<&str>) -> Result<Login, Failure> {
    let user = user.ok_or_else(|| {
        Failure::usage("say the user name: https://USER@HOST/..., or -o username=USER")
    })?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let password = line.trim_end_matches(['\n', '\r']).to_owned();
    if password.is_empty() {
        return Err(Failure::failed("standard input holds no password"));
    }
    Ok(Login::Basic { user: user.to_owned(), password: password.into() })
}

/// Asks the remote with this login alone.
pub(super) fn check(spec: &RemoteSpec, with: &RemoteOptions, login: &Login) -> Result<(), Failure> {
    match remotes::open_as(spec, with, login.clone(), remote::STALL)? {
        Some(opened) => match remote::probe(&opened) {
            Ok(_) => Ok(()),
            Err(failure) => Err(with_another(failure, SIGN_IN_AGAIN)),
        },
        None => Ok(()),
    }
}

/// Writes the secret down where the mount reads it.
fn keep(saved: &Saved, login: &Login) -> Result<(), Failure> {
    if let Some(file) = &saved.mount.remote_options.credentials {
        return Ok(write_secret(file, Some(login))?);
    }
    saved.place.write_secret(login)?;
    // What the machine's administrator saved stays as it is; this stands beside it.
    let is_own = saved.is_own();
    let mut options = if is_own { saved.written.options.clone() } else { Vec::new() };
    let file = saved.place.secret.to_string_lossy().into_owned();
    options.push(Assignment { key: "credentials".into(), value: Some(file) });
    let own = |text: Option<&'_ str>| text.filter(|_| is_own).map(str::to_owned);
    let (spec, mountpoint) =
        (own(Some(&saved.written.spec)), own(saved.written.mountpoint.as_deref()));
    let new =
        NewRemote { spec: spec.as_deref(), mountpoint: mountpoint.as_deref(), options: &options };
    Ok(saved.place.write(&new)?)
}

/// Lets the mounts of a saved remote go on; one that could not start for want of the secret is started.
fn resume(saved: &Saved) -> Result<(), Failure> {
    let told = tell_mounts(saved)?;
    for target in &told {
        wait_until_signed_in(target)?;
    }
    if told.is_empty()
        && let Some(units) = Units::of(&Who::current()).filter(|u| u.is_enabled(&saved.name))
    {
        units.start(&saved.name)?;
    }
    Ok(())
}

/// Waits until a mount that was told has signed in with the secret, which was tried by then.
fn wait_until_signed_in(target: &Target) -> Result<(), Failure> {
    let until = Instant::now() + SIGNED_IN;
    loop {
        let mut is_out = false;
        target.connect()?.ask(Request::Status, false, |document, _| {
            is_out = text(document, "state") == "auth-required";
        })?;
        match is_out {
            false => return Ok(()),
            true if Instant::now() < until => std::thread::sleep(LOOK_AGAIN),
            true => {
                let at = target.mount.mountpoint.display();
                return Err(Failure {
                    exit: ATTENTION,
                    message: format!(
                        "{at}: the secret is saved, but this mount does not sign in with it: unmount it and mount it again"
                    ),
                });
            }
        }
    }
}

/// Tells all mounts of a saved remote that there is another secret, or none; answers which were told.
fn tell_mounts(saved: &Saved) -> Result<Vec<Target>, Failure> {
    let prefix = format!("{}:", saved.name);
    let uid = Who::current().uid;
    let mine = mounts()?.into_iter().filter(|mount| {
        mount.is_dewfs()
            && mount.owner.is_none_or(|owner| owner == uid)
            && mount.source.to_string_lossy().starts_with(&prefix)
    });
    let mut told = Vec::new();
    for mount in mine {
        let target = Target { mount, scope: crate::control::Scope::of(b"") };
        match target.connect() {
            Ok(mut daemon) => {
                daemon.ask(Request::SignIn, false, |_, _| {})?;
                told.push(target);
            }
            Err(failure) => eprintln!("dewfs: {}", failure.message),
        }
    }
    Ok(told)
}
