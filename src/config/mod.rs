//! From words to plain values: remote specifications, mount options, configuration files, places, credentials.
//!
//! Words come from four sides: `config.toml` and `remotes/NAME.toml` in `/etc/dewfs` and in the user's configuration
//! directory, and `-o` on the command line. All of them are the same options, read by the same parser ([`Options`]), later
//! ones over earlier ones. [`resolve`] then fills in what nobody said and answers one [`MountOptions`], which is passed on
//! by value and stored nowhere globally. What is misspelt is an error that names it and the nearest name; what a later
//! version will honour is refused by name, never ignored.

mod assignment;
mod credentials;
mod error;
mod files;
mod handed_over;
mod known;
mod options;
mod places;
mod resolve;
mod saved;
mod schemes;
mod shell;
mod spec;
mod thrift;
mod values;
mod who;

pub use assignment::{Assignment, split_options};
pub use credentials::{Credentials, Login, Secret, Server, ask, ask_login};
pub use error::ConfigError;
pub use files::{ConfigFiles, SavedRemote};
pub use handed_over::{
    forget as forget_handed_over, hide_secrets_in_environment, keep_memory_private, pass_on,
};
pub use known::option_names;
pub use options::Options;
pub use places::{Places, RunDir, is_service_of_machine, resolved, state_base, state_id};
pub use resolve::{
    Access, Atime, KernelOptions, MountOptions, MountRequest, RemoteOptions, own_mountpoint,
    resolve, resolve_remote,
};
pub use saved::{NewRemote, SavedPlace, write_secret};
pub use schemes::{Open, Schemes};
pub use shell::shell_word;
pub use spec::{RemoteSpec, Spec};
pub use thrift::Thrift;
pub use values::{Amount, parse_duration, parse_size};
pub use who::{Who, is_entrusted};
