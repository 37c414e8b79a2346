//! What mount(8) says: `SOURCE TARGET [-s] [-f] [-n] [-v] -o OPTIONS [-N NAMESPACE] [-t TYPE.SUBTYPE]`, in any order.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Says what is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// `mount -f`: as if it had been done.
    Nothing,
    /// Mount.
    Mount(Order),
}

/// Is one mount to be made.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Order {
    /// The remote specification.
    source: OsString,
    /// The mountpoint.
    target: OsString,
    /// All options, as they were given.
    options: OsString,
    /// Unknown options are to be ignored.
    sloppy: bool,
    /// In which mount namespace, if not in this one.
    pub(crate) namespace: Option<OsString>,
}

/// Says why nothing is done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Source or target is missing, or there is a third.
    Places(usize),
    /// A letter that mount(8) does not use.
    Unknown(String),
    /// A letter without its value.
    NoValue(char),
    /// Options of a mount are changed by mounting it anew, never by mounting over it.
    Remount,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Places(count) => write!(
                f,
                "a remote and a folder are needed, {count} given: mount.dewfs SPEC DIR [-o OPT,…]"
            ),
            Self::Unknown(argument) => write!(f, "unknown argument {argument}"),
            Self::NoValue(letter) => write!(f, "-{letter} needs a value"),
            Self::Remount => {
                f.write_str("remount: not supported; unmount and mount again to change options")
            }
        }
    }
}

impl Order {
    /// The arguments for `dewfs`.
    pub(crate) fn arguments(self) -> Vec<OsString> {
        let mut arguments = vec![self.source, self.target];
        if self.sloppy {
            arguments.push("-s".into());
        }
        arguments.extend(["-o".into(), self.options]);
        arguments
    }
}

/// Reads the arguments after the program's name.
pub(crate) fn read(arguments: impl Iterator<Item = OsString>) -> Result<Wanted, Refusal> {
    let mut arguments = arguments;
    let mut order = Order::default();
    let mut places = Vec::new();
    let mut options: Vec<OsString> = Vec::new();
    let mut fake = false;
    while let Some(argument) = arguments.next() {
        let letters = match argument.as_bytes() {
            b"--" => {
                places.extend(arguments.by_ref());
                break;
            }
            [b'-', letters @ ..] if !letters.is_empty() => letters.to_vec(),
            _ => {
                places.push(argument);
                continue;
            }
        };
        let mut letters = letters.as_slice();
        while let Some((&letter, rest)) = letters.split_first() {
            letters = rest;
            match letter {
                b's' => order.sloppy = true,
                b'f' => fake = true,
                // No mtab is written, dewfs says little anyway, and what is read-only stands in the options, too.
                b'n' | b'v' | b'w' => {}
                b'r' => options.push("ro".into()),
                b'o' => options.push(value(letter, std::mem::take(&mut letters), &mut arguments)?),
                b'N' => {
                    let namespace = value(letter, std::mem::take(&mut letters), &mut arguments)?;
                    order.namespace = Some(namespace);
                }
                // The subtype after `dewfs.` has no meaning.
                b't' => {
                    value(letter, std::mem::take(&mut letters), &mut arguments)?;
                }
                _ => return Err(Refusal::Unknown(argument.to_string_lossy().into_owned())),
            }
        }
    }
    if fake {
        return Ok(Wanted::Nothing);
    }
    order.options = joined(&options);
    let count = places.len();
    let Ok([source, target]) = <[OsString; 2]>::try_from(places) else {
        return Err(Refusal::Places(count));
    };
    if words(&order.options).any(|word| word == b"remount") {
        return Err(Refusal::Remount);
    }
    Ok(Wanted::Mount(Order { source, target, ..order }))
}

/// The value of a letter: what follows it at once, else the next argument.
fn value(
    letter: u8,
    attached: &[u8],
    arguments: &mut impl Iterator<Item = OsString>,
) -> Result<OsString, Refusal> {
    if attached.is_empty() {
        arguments.next().ok_or(Refusal::NoValue(char::from(letter)))
    } else {
        Ok(OsString::from_vec(attached.to_vec()))
    }
}

/// mount(8) gives at least `rw`; whoever calls this by hand may give nothing.
fn joined(options: &[OsString]) -> OsString {
    if options.is_empty() { "rw".into() } else { options.join(OsStr::new(",")) }
}

/// The options one by one; a comma inside double quotes belongs to a value.
fn words(options: &OsStr) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    options.as_bytes().split(move |byte| {
        quoted ^= *byte == b'"';
        *byte == b',' && !quoted
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(line: &[&str]) -> Result<Wanted, Refusal> {
        read(line.iter().map(OsString::from))
    }

    fn arguments(line: &[&str]) -> Vec<OsString> {
        match of(line).unwrap() {
            Wanted::Mount(order) => order.arguments(),
            Wanted::Nothing => panic!("nothing to be done"),
        }
    }

    #[test]
    fn mounts_as_mount_8_asks() {
        let line = ["cloud:", "/mnt/c", "-s", "-n", "-v", "-o", "rw,_netdev,x=1", "-t", "dewfs.a"];
        assert_eq!(arguments(&line), ["cloud:", "/mnt/c", "-s", "-o", "rw,_netdev,x=1"]);
    }

    #[test]
    fn the_order_of_arguments_does_not_matter() {
        let line = ["-o", "ro", "-n", "s3://b/p", "-oname=a b", "/mnt/my cloud"];
        assert_eq!(arguments(&line), ["s3://b/p", "/mnt/my cloud", "-o", "ro,name=a b"]);
        assert_eq!(arguments(&["-o", "rw", "--", "-odd", "/m"]), ["-odd", "/m", "-o", "rw"]);
    }

    #[test]
    fn options_are_passed_on_verbatim() {
        let options = r#"rw,name="a,b",exclude=x\,y,uhelper=h"#;
        assert_eq!(arguments(&["a:", "/m", "-o", options])[3], options);
    }

    #[test]
    fn a_fake_mount_does_nothing() {
        assert_eq!(of(&["a:", "/m", "-fnv", "-o", "rw,remount"]).unwrap(), Wanted::Nothing);
    }

    #[test]
    fn a_remount_never_mounts() {
        assert_eq!(of(&["a:", "/m", "-o", "ro,remount"]), Err(Refusal::Remount));
        assert_eq!(arguments(&["a:", "/m", "-o", r#"name="x,remount,y""#])[2], "-o");
    }

    #[test]
    fn a_namespace_is_kept() {
        let wanted = of(&["a:", "/m", "-o", "rw", "-N", "/proc/7/fd/4"]).unwrap();
        let Wanted::Mount(order) = wanted else { panic!("nothing to be done") };
        assert_eq!(order.namespace.as_deref(), Some(OsStr::new("/proc/7/fd/4")));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(of(&["a:", "-o", "rw"]), Err(Refusal::Places(1)));
        assert_eq!(of(&["a:", "/m", "/n"]), Err(Refusal::Places(3)));
        assert_eq!(of(&["a:", "/m", "-Q"]), Err(Refusal::Unknown("-Q".into())));
        assert_eq!(of(&["a:", "/m", "-o"]), Err(Refusal::NoValue('o')));
    }

    #[test]
    fn without_options_it_is_a_plain_mount() {
        assert_eq!(arguments(&["a:", "/m"]), ["a:", "/m", "-o", "rw"]);
    }
}
