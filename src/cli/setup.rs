//! `dewfs setup`: saves a remote with its secret, checks it, and has it mounted now and at every login.

use std::ffi::OsStr;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use serde::Serialize;

mod undo;

use crate::config::{
    Assignment, ConfigError, ConfigFiles, Login, NewRemote, RemoteSpec, SavedPlace, Schemes, Spec,
    Who, ask, resolve_remote, split_options,
};

use super::output::Output;
use super::remotes::Opened;
use super::saved::Saved;
use super::units::Units;
use super::way_out::with_another;
use super::{ATTENTION, Common, DONE, FAILED, Failure, browser, remote};
use undo::Undo;

/// What to set up; what is left out is asked on a terminal.
#[derive(Args, Clone, Debug)]
pub struct SetupArgs {
    /// What to call it: letters, digits, "_", "." and "-"
    name: Option<String>,
    /// The remote: an address as a browser shows it, or a folder
    spec: Option<String>,
    /// Where to mount it, instead of ~/NAME
    #[arg(long, value_name = "DIR")]
    mountpoint: Option<PathBuf>,
    /// Do it without asking whether to
    #[arg(short, long)]
    yes: bool,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
    /// Keep the secret in the desktop's keyring instead of a file
    #[arg(long)]
    keyring: bool,
    /// Mount options to be saved with it, as in mount.dewfs(8)
    #[arg(short = 'o', long = "options", value_name = "OPT,...")]
    options: Vec<String>,
}

/// How often a password may be mistyped.
const TRIES: usize = 3;

/// How a remote that is only saved is signed in to.
const NAMED: &str = "name a file that has username= and password= with -o credentials=FILE";

/// Runs the command.
pub(super) fn run(args: &SetupArgs, common: &Common) -> Result<u8, Failure> {
    let who = Who::current();
    let plan = Plan::of(args, common, &who)?;
    let login = plan.check(args, common, &who);
    let login = login.map_err(|failure| with_another(failure, super::login::SIGN_IN_AGAIN))?;
    if !args.yes && std::io::stdin().is_terminal() && !plan.is_confirmed(common) {
        return Err(Failure { exit: FAILED, message: "nothing was set up".into() });
    }
    let document = plan.whole_or_not(|undo| {
        plan.write(login.as_ref(), args.keyring.then_some((common, &who)), undo)?;
        plan.mount(common, &who)
    })?;
    let output = Output::of(common);
    if common.json {
        output.line(&crate::control::to_line(&document));
    } else if !common.quiet {
        output.line(&format!("{} is mounted at {}", plan.name, document.mountpoint));
        match document.unit {
            Some(_) if who.is_root() => output.line("and will be each time this machine starts"),
            Some(_) => output.line("and will be each time you log in"),
            None => eprintln!(
                "dewfs: no systemd with dewfs@.service runs {}: after the next {} say dewfs mount {}:",
                if who.is_root() { "here" } else { "for you" },
                if who.is_root() { "start" } else { "login" },
                plan.name
            ),
        }
    }
    Ok(DONE)
}

/// Runs `dewfs remote add`: saves and checks, and mounts nothing.
pub(super) fn add(
    name: &str,
    spec: &str,
    options: &[String],
    common: &Common,
) -> Result<u8, Failure> {
    let args = SetupArgs {
        name: Some(name.to_owned()),
        spec: Some(spec.to_owned()),
        mountpoint: None,
        yes: true,
        password_stdin: false,
        keyring: false,
        options: options.to_vec(),
    };
    let who = Who::current();
    let plan = Plan::of(&args, common, &who)?;
    let login = plan.check(&args, common, &who).map_err(|failure| with_another(failure, NAMED))?;
    plan.whole_or_not(|undo| plan.write(login.as_ref(), None, undo))?;
    if common.json {
        remote::tell_saved(&Saved::find(&plan.name, common)?, common);
    }
    Ok(DONE)
}

/// Is what was set up (JSON type `setup`).
#[derive(Clone, Debug, Serialize)]
struct Document {
    format: u32,
    #[serde(rename = "type")]
    kind: &'static str,
    name: String,
    remote: String,
    mountpoint: String,
    unit: Option<String>,
}

/// Is what is to be set up.
struct Plan {
    name: String,
    spec: String,
    mountpoint: Option<String>,
    options: Vec<Assignment>,
    words: Vec<String>,
    place: SavedPlace,
}

impl Plan {
    fn of(args: &SetupArgs, common: &Common, who: &Who) -> Result<Self, Failure> {
        let name = match &args.name {
            Some(name) => name.clone(),
            None => ask("What to call it (such as Cloud): ", true)
                .ok_or_else(|| Failure::usage("say what to call it: dewfs setup NAME SPEC"))?,
        };
        let place = SavedPlace::of(who, &name, &common.schemes)?;
        // Whatever is in it: somebody wrote it.
        if place.file.symlink_metadata().is_ok() {
            return Err(Failure::failed(format!(
                "{name}: a remote of this name is saved already, in {}; dewfs remove {name} takes it away",
                place.file.display()
            )));
        }
        match ConfigFiles::of(who, None).remote(&name) {
            Ok(_) => {
                return Err(Failure::failed(format!(
                    "{name}: a remote of this name is saved for everybody on this machine: dewfs mount {name}: mounts it"
                )));
            }
            // There is none.
            Err(ConfigError::Spec(_)) => {}
            Err(mistake) => return Err(mistake.into()),
        }
        let spec = match &args.spec {
            Some(spec) => spec.clone(),
            None => ask("Address, as the browser shows it, or a folder: ", true)
                .ok_or_else(|| Failure::usage("say what to mount: dewfs setup NAME SPEC"))?,
        };
        let cwd = std::env::current_dir()?;
        let spec = as_people_know_it(&spec, &cwd, &common.schemes)?;
        let mut options = Vec::new();
        for text in &args.options {
            options.extend(split_options(text)?);
        }
        options.iter_mut().try_for_each(|one| one.name_from_root(&cwd, who))?;
        let mountpoint = match &args.mountpoint {
            None => None,
            Some(dir) => {
                let dir = who.path(&cwd, dir);
                let text = dir.to_str().map(str::to_owned);
                Some(text.ok_or_else(|| Failure::usage("--mountpoint: not valid UTF-8"))?)
            }
        };
        let plan = Self { name, spec, mountpoint, options, words: args.options.clone(), place };
        // What is written wrongly is said before anything is asked.
        let (spec, config) = (OsStr::new(&plan.spec), common.config.as_deref());
        resolve_remote(spec, &plan.words, config, who, &cwd, &common.schemes)?;
        Ok(plan)
    }

    /// Asks the remote with what signs in; answers what is to be saved of that.
    fn check(
        &self,
        args: &SetupArgs,
        common: &Common,
        who: &Who,
    ) -> Result<Option<Login>, Failure> {
        let cwd = std::env::current_dir()?;
        let (config, schemes) = (common.config.as_deref(), &common.schemes);
        let spec = OsStr::new(&self.spec);
        let (target, with) = resolve_remote(spec, &self.words, config, who, &cwd, schemes)?;
        if let (RemoteSpec::Folder(_), true) = (&target, args.password_stdin || args.keyring) {
            let option = if args.password_stdin { "--password-stdin" } else { "--keyring" };
            return Err(Failure::usage(format!(
                "{}: a folder needs no sign-in: leave {option} out",
                self.spec
            )));
        }
        if let (RemoteSpec::Added { scheme, .. }, true) = (&target, args.keyring) {
            return Err(Failure::usage(format!(
                "{scheme}:// does not ask the keyring: leave --keyring out, and {NAMED}"
            )));
        }
        if args.password_stdin {
            let login = super::login::from_stdin(with.username.as_deref())?;
            super::login::check(&target, &with, &login)?;
            return Ok(Some(login));
        }
        let opened = super::remotes::open(&target, &with, who, remote::STALL, schemes)?;
        let known = || opened.signs.as_ref().and_then(|signs| signs.credentials.known());
        if known().is_none()
            && let Some(login) = browser::sign_in(&target, &with, remote::STALL)?
        {
            super::login::check(&target, &with, &login)?;
            return Ok(Some(login));
        }
        probe_patiently(&opened)?;
        // A file that was named stays the place of the secret, and so does the keyring.
        let stays = with.credentials.is_some()
            || opened.signs.as_ref().is_some_and(|signs| signs.credentials.is_in_keyring());
        Ok(known().filter(|_| !stays))
    }

    fn is_confirmed(&self, common: &Common) -> bool {
        if !common.quiet {
            eprintln!("{} answers.", self.spec);
        }
        let at = self.mountpoint.clone().unwrap_or_else(|| format!("~/{}", self.name));
        let question = format!("Mount it at {at}, now and at every login? [Y/n] ");
        let answer = ask(&question, true).unwrap_or_default();
        matches!(answer.trim(), "" | "y" | "Y" | "yes" | "Yes")
    }

    /// Does it, or takes back what was done of it.
    fn whole_or_not<T>(
        &self,
        work: impl FnOnce(&mut Undo) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut undo = Undo::default();
        let done = work(&mut undo);
        if done.is_err() {
            undo.take_back(&self.name, &self.place);
        }
        done
    }

    /// Saves the remote and its secret, which is `in_keyring` or in a file.
    fn write(
        &self,
        login: Option<&Login>,
        in_keyring: Option<(&Common, &Who)>,
        undo: &mut Undo,
    ) -> Result<(), Failure> {
        let mut options = self.options.clone();
        if let (Some(login), Some((common, who))) = (login, in_keyring) {
            let cwd = std::env::current_dir()?;
            let (spec, config) = (OsStr::new(&self.spec), common.config.as_deref());
            let (target, with) =
                resolve_remote(spec, &self.words, config, who, &cwd, &common.schemes)?;
            undo.in_keyring = super::keyring::put(&self.name, &target, &with, login)?;
            // Who signs in tells it from the secrets of others for the same server.
            if let Login::Basic { user, .. } = login
                && with.username.as_ref() != Some(user)
            {
                options.push(Assignment { key: "username".into(), value: Some(user.clone()) });
            }
        } else if let Some(login) = login {
            undo.write_secret(&self.place, login)?;
            let file = self.place.secret.to_string_lossy().into_owned();
            options.push(Assignment { key: "credentials".into(), value: Some(file) });
        }
        let new = NewRemote {
            spec: Some(&self.spec),
            mountpoint: self.mountpoint.as_deref(),
            options: &options,
        };
        self.place.write(&new)?;
        undo.is_written = true;
        Ok(())
    }

    /// Mounts it: by systemd if there is one, which then does so by itself; else as `dewfs mount` would.
    fn mount(&self, common: &Common, who: &Who) -> Result<Document, Failure> {
        let saved = Saved::find(&self.name, common)?;
        let at = &saved.mount.mountpoint;
        let is_new = !at.exists();
        let units = Units::of(who);
        let mounted = match &units {
            Some(units) => units.enable(&self.name),
            None => mount_without_systemd(&self.name),
        };
        if let Err(failure) = mounted {
            if let Some(units) = &units {
                drop(units.disable(&self.name));
            }
            if is_new {
                drop(std::fs::remove_dir(at));
            }
            return Err(failure);
        }
        Ok(Document {
            format: crate::control::FORMAT,
            kind: "setup",
            name: self.name.clone(),
            remote: self.spec.clone(),
            mountpoint: at.to_string_lossy().into_owned(),
            unit: units.map(|_| format!("dewfs@{}.service", self.name)),
        })
    }
}

/// Asks the remote; a person at a terminal who mistypes the password is asked again.
fn probe_patiently(opened: &Opened) -> Result<(), Failure> {
    let mut outcome = remote::probe(opened);
    for _ in 1..TRIES {
        match &outcome {
            Err(failure) if failure.exit == ATTENTION && std::io::stdin().is_terminal() => {
                eprintln!("dewfs: {}", failure.message);
                outcome = remote::probe(opened);
            }
            _ => break,
        }
    }
    outcome.map(drop)
}

fn mount_without_systemd(name: &str) -> Result<(), Failure> {
    let program = std::env::current_exe()?;
    let status = Command::new(program).arg("mount").arg(format!("{name}:")).status()?;
    // It has said why.
    if status.success() { Ok(()) } else { Err(Failure { exit: FAILED, message: String::new() }) }
}

/// The specification that is meant: an address without `https://` is one, and a folder is named from the root.
fn as_people_know_it(given: &str, cwd: &Path, schemes: &Schemes) -> Result<String, Failure> {
    let given = given.trim();
    let host = given.split('/').next().unwrap_or_default();
    let is_host = !given.contains("://")
        && host.contains('.')
        && !host.starts_with('.')
        && !host.ends_with(':')
        && !cwd.join(given).exists();
    let full = if is_host { format!("https://{given}") } else { given.to_owned() };
    match Spec::parse(&full, cwd, schemes)? {
        Spec::Saved { .. } => Err(Failure::usage(format!(
            "{given}: names a saved remote; say the address or folder itself"
        ))),
        Spec::Remote(RemoteSpec::Folder(path)) => match path.to_str() {
            Some(path) => Ok(path.to_owned()),
            None => Err(Failure::usage("a folder whose name is not UTF-8 cannot be saved")),
        },
        Spec::Remote(_) => Ok(full),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_are_taken_as_people_know_them() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a.folder")).unwrap();
        let meant = |given: &str| as_people_know_it(given, dir.path(), &Schemes::new());
        let here = dir.path().to_str().unwrap();
        assert_eq!(meant("cloud.example.org").unwrap(), "https://cloud.example.org");
        assert_eq!(meant(" cloud.example.org/dav ").unwrap(), "https://cloud.example.org/dav");
        assert_eq!(meant("https://al@h/x").unwrap(), "https://al@h/x");
        assert_eq!(meant("/srv/nas/").unwrap(), "/srv/nas");
        assert_eq!(meant("a.folder").unwrap(), format!("{here}/a.folder"));
        assert_eq!(meant("./x").unwrap(), format!("{here}/x"));
        for wrong in ["Cloud:", "nothing", "", "ftp://h"] {
            assert!(meant(wrong).is_err(), "{wrong}");
        }
    }
}
