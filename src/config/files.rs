//! Configuration files: `config.toml` with `[mount]`, and `remotes/NAME.toml` with `spec` and `[mount]`.

use std::path::{Path, PathBuf};

use super::assignment::Assignment;
use super::who::is_from_home;
use super::{ConfigError, Options, Schemes, Who};

/// Where the configuration of the machine is.
pub(super) const SITE: &str = "/etc/dewfs";

/// Is where configuration is read from, the site's first.
#[derive(Clone, Debug)]
pub struct ConfigFiles {
    dirs: Vec<PathBuf>,
    general: Vec<PathBuf>,
}

/// Is a saved remote: what it names, and the options saved with it.
#[derive(Clone, Debug)]
pub struct SavedRemote {
    /// Its specification, as written.
    pub spec: String,
    /// Where it is mounted if nobody says, as written.
    pub mountpoint: Option<String>,
    /// Its options, the site's first.
    pub options: Vec<Assignment>,
}

impl ConfigFiles {
    /// The places of the contract; `general` (`--config FILE`) stands for every `config.toml`.
    pub fn of(who: &Who, general: Option<&Path>) -> Self {
        let mut dirs = vec![PathBuf::from(SITE)];
        dirs.extend(who.config_home.as_ref().map(|home| home.join("dewfs")));
        Self::at(dirs, general)
    }

    /// These directories, the weakest first.
    pub fn at(dirs: Vec<PathBuf>, general: Option<&Path>) -> Self {
        let general = match general {
            Some(file) => vec![file.to_owned()],
            None => dirs.iter().map(|dir| dir.join("config.toml")).collect(),
        };
        Self { dirs, general }
    }

    /// Takes what the general files say over `options`. A file named by hand must be there.
    pub fn apply_general(
        &self,
        options: &mut Options,
        named_by_hand: bool,
    ) -> Result<(), ConfigError> {
        for path in &self.general {
            match read(path)? {
                Some(table) => apply(options, path, &assignments(&table, path, &["mount"])?)?,
                None if named_by_hand => {
                    return Err(ConfigError::File {
                        path: path.clone(),
                        why: "no such file".into(),
                    });
                }
                None => {}
            }
        }
        Ok(())
    }

    /// The saved remote of this name: the user's specification over the site's, the options of both.
    pub fn remote(&self, name: &str) -> Result<SavedRemote, ConfigError> {
        let mut spec = None;
        let mut mountpoint = None;
        let mut options = Vec::new();
        let mut without = None;
        for dir in &self.dirs {
            let path = dir.join("remotes").join(format!("{name}.toml"));
            let Some(table) = read(&path)? else { continue };
            for (key, place) in [("spec", &mut spec), ("mountpoint", &mut mountpoint)] {
                match table.get(key) {
                    Some(toml::Value::String(text)) => *place = Some(text.clone()),
                    Some(_) => {
                        let why = format!("{key} must be a string");
                        return Err(ConfigError::File { path, why });
                    }
                    None => {}
                }
            }
            let said = assignments(&table, &path, &["mount", "mountpoint", "spec"])?;
            // What is wrong is told with the file that it is in.
            apply(&mut Options::default(), &path, &said)?;
            options.extend(said);
            without = Some(path);
        }
        match (spec, without) {
            (Some(spec), _) => Ok(SavedRemote { spec, mountpoint, options }),
            (None, Some(path)) => {
                let why = "spec is missing: it says what the remote is, such as \"https://…\"";
                Err(ConfigError::File { path, why: why.into() })
            }
            (None, None) => Err(ConfigError::Spec(format!(
                "{name}: no saved remote of this name ({}); dewfs remote list shows all, dewfs setup {name} saves one",
                self.dirs
                    .iter()
                    .map(|dir| dir.join("remotes").display().to_string())
                    .collect::<Vec<_>>()
                    .join(", ")
            ))),
        }
    }

    /// The names of all saved remotes, in order.
    pub fn names(&self, schemes: &Schemes) -> Vec<String> {
        let folders = self.dirs.iter().filter_map(|dir| dir.join("remotes").read_dir().ok());
        let files = folders.flatten().filter_map(|entry| Some(entry.ok()?.path()));
        let mut names: Vec<String> = files
            .filter(|path| path.extension().is_some_and(|end| end == "toml"))
            .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
            .filter(|name| super::spec::check_name(name, schemes).is_ok())
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

fn apply(options: &mut Options, path: &Path, all: &[Assignment]) -> Result<(), ConfigError> {
    all.iter().try_for_each(|one| options.apply(one)).map_err(|error| match error {
        ConfigError::Option(why) => ConfigError::File { path: path.to_owned(), why },
        other => other,
    })
}

fn read(path: &Path) -> Result<Option<toml::Table>, ConfigError> {
    let why = |why: String| ConfigError::File { path: path.to_owned(), why };
    match std::fs::read_to_string(path) {
        Ok(text) => text.parse().map(Some).map_err(|error: toml::de::Error| why(one_line(&error))),
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(why(error.to_string())),
    }
}

/// Where and what, without the picture of the line.
fn one_line(error: &toml::de::Error) -> String {
    let text = error.to_string();
    let place = text.lines().next().unwrap_or("cannot be read");
    format!("{place}: {}", error.message().replace('\n', "; "))
}

/// The options of `[mount]`; other keys than the `known` ones are errors.
fn assignments(
    table: &toml::Table,
    path: &Path,
    known: &[&str],
) -> Result<Vec<Assignment>, ConfigError> {
    let why = |why: String| ConfigError::File { path: path.to_owned(), why };
    if let Some(key) = table.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(why(format!("unknown key {key}; known are {}", known.join(", "))));
    }
    let mount = match table.get("mount") {
        Some(toml::Value::Table(mount)) => mount,
        Some(_) => return Err(why("mount must be a table".into())),
        None => return Ok(Vec::new()),
    };
    let mut all = Vec::new();
    for (key, value) in mount {
        words(key, value, &mut all).map_err(why)?;
    }
    Ok(all)
}

fn words(key: &str, value: &toml::Value, all: &mut Vec<Assignment>) -> Result<(), String> {
    let valued = super::known::VALUED.contains(&key);
    let one = |value: String| Assignment { key: key.to_owned(), value: Some(value) };
    match value {
        toml::Value::String(text)
            if super::known::PATHS.contains(&key)
                && !text.starts_with('/')
                && !is_from_home(text) =>
        {
            // The same words would be another place in each directory that somebody stands in.
            return Err(format!("option {key}: \"{text}\" must begin with / or ~/"));
        }
        toml::Value::String(text) => all.push(one(text.clone())),
        toml::Value::Integer(_) if key.ends_with("mask") || key.ends_with("_mode") => {
            // 22 could be meant as either; in quotes it is octal, as everywhere else.
            return Err(format!("option {key}: write the octal mode in quotes, such as \"0022\""));
        }
        toml::Value::Integer(number) => all.push(one(number.to_string())),
        toml::Value::Float(number) => all.push(one(number.to_string())),
        toml::Value::Boolean(on) if valued => all.push(one(if *on { "on" } else { "off" }.into())),
        toml::Value::Boolean(true) => all.push(Assignment { key: key.to_owned(), value: None }),
        toml::Value::Boolean(false) => all.extend(opposite(key)),
        toml::Value::Array(values) => {
            values.iter().try_for_each(|value| words(key, value, all))?;
        }
        _ => return Err(format!("option {key}: a string, number, switch or list is needed")),
    }
    Ok(())
}

/// What `flag = false` says: the opposite flag where there is one.
fn opposite(key: &str) -> Option<Assignment> {
    let key = match key {
        "ro" => "rw",
        "rw" => "ro",
        "noexec" => "exec",
        "allow_other" => "noallow_other",
        "noatime" => "relatime",
        _ => return None,
    };
    Some(Assignment { key: key.to_owned(), value: None })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn put(dir: &Path, name: &str, text: &str) {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn the_user_is_over_the_site_and_both_add_options() {
        let dir = tempfile::tempdir().unwrap();
        let (site, user) = (dir.path().join("site"), dir.path().join("user"));
        put(&site, "remotes/nas.toml", "spec = '/site'\n[mount]\nro = true\npoll = 5\n");
        put(
            &user,
            "remotes/nas.toml",
            "spec = '/user'\n[mount]\nro = false\nexclude = ['a', 'b,c']\n",
        );
        let saved = ConfigFiles::at(vec![site, user], None).remote("nas").unwrap();
        assert_eq!(saved.spec, "/user");
        let mut options = Options::default();
        saved.options.iter().for_each(|one| options.apply(one).unwrap());
        assert_eq!(options.read_only, Some(false));
        assert_eq!(options.poll.unwrap().as_secs(), 5);
        assert_eq!(options.exclude, ["a", "b,c"]);
    }

    #[test]
    fn what_is_wrong_in_a_file_is_named_with_the_file() {
        let dir = tempfile::tempdir().unwrap();
        for (text, named) in [
            ("[mount]\npol = 3\n", "nearest is poll"),
            ("[mont]\n", "unknown key mont"),
            ("[mount\n", "config.toml"),
            ("mount = 3\n", "table"),
            ("[mount]\nstate_dir = 'here'\n", "must begin with /"),
            ("[mount]\ncredentials = '~other/x'\n", "must begin with / or ~/"),
        ] {
            put(dir.path(), "config.toml", text);
            let files = ConfigFiles::at(vec![dir.path().into()], None);
            let error =
                files.apply_general(&mut Options::default(), false).unwrap_err().to_string();
            assert!(error.contains(named) && error.contains("config.toml"), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
        let files = ConfigFiles::at(vec![dir.path().into()], None);
        let said = files.remote("nope").unwrap_err().to_string();
        assert!(said.contains("nope: no saved remote") && said.contains("dewfs remote list"));
        for (text, named) in [
            ("mountpoint = '/x'\n", "spec is missing"),
            ("spec = '/x'\n[mount]\npol = 3\n", "nearest is poll"),
        ] {
            put(dir.path(), "remotes/ill.toml", text);
            let said = files.remote("ill").unwrap_err().to_string();
            assert!(said.contains(named) && said.contains("remotes/ill.toml"), "{said}");
        }
    }
}
