//! Names between a remote and here: a reversible escape for hostile ones, and the private names of uploads.
//!
//! Nothing a remote calls a name is followed or dropped in silence: what is no legal [`Name`] is shown under an escape that
//! [`raw`] turns back; what cannot be turned back (too long, or twice in one listing) carries its raw name in
//! [`Shown::raw`], which a backend keeps in `Observed.extra`.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use super::{AttemptTag, Name, OWN_PREFIX};

/// What an escaped name begins with. A raw name that is exactly what an escape would make is escaped itself.
const ESCAPED: &[u8] = b"%dewfs%";
/// What the name of a removed folder begins with on servers that do not tell all that is in it: hidden, and kept.
const REMOVED: &[u8] = b".dewfs-removed.";
/// Begins the hidden name of what is exchanged with a file, until it was looked at.
const HELD: &[u8] = b".dewfs-held.";
/// The words in a mark that tells names apart which would be shown alike.
const ALIKE: &str = "same name ";
/// The digits in such a mark.
const DIGITS: usize = 16;
/// The longest name in bytes that Linux allows.
const NAME_MAX: usize = 255;
/// What a temporary upload's name begins with: hidden, and removed when it is old.
const TEMP: &[u8] = b".dewfs-tmp.";
/// What the name of something moved out of the way begins with: visible, since it may be the only copy of a content.
const ASIDE: &[u8] = b".aside-";

/// Is a raw remote name as it is shown here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The legal name.
    pub name: Name,
    /// The raw name, where [`raw`] cannot find it from `name`; belongs into `Observed.extra`.
    pub raw: Option<Vec<u8>>,
}

/// Whether a name belongs to dewfs and is left out of listings.
pub fn is_hidden(name: &[u8]) -> bool {
    name.starts_with(OWN_PREFIX)
}

/// The legal name under which a raw remote name is shown.
pub fn show(raw: &[u8]) -> Shown {
    let text = if needs_escape(raw) { Cow::Owned(escape(raw)) } else { Cow::Borrowed(raw) };
    match Name::new(text.as_ref()) {
        Ok(name) => Shown { name, raw: None },
        Err(_) => Shown { name: shorten(&text, raw, ""), raw: Some(raw.to_vec()) },
    }
}

/// The raw remote name of a name here: the inverse of [`show`] wherever that kept no raw name.
pub fn raw(name: &Name) -> Vec<u8> {
    match unescape(name.as_bytes()) {
        Some(raw) => raw,
        None => name.as_bytes().to_vec(),
    }
}

/// Shows the names of one whole listing, each under its own name; `None` for hidden ones.
///
/// Each item is a raw name and what tells it from another of that name (an id, or its place in the listing). Of several
/// that would be shown alike, the one with the least discriminator keeps the plain name, whatever the order.
pub fn show_all(items: &[(&[u8], &[u8])]) -> Vec<Option<Shown>> {
    let mut shown: Vec<Option<Shown>> =
        items.iter().map(|(raw, _)| (!is_hidden(raw)).then(|| show(raw))).collect();
    let mut alike: BTreeMap<Name, Vec<usize>> = BTreeMap::new();
    for (index, one) in shown.iter().enumerate() {
        if let Some(one) = one {
            alike.entry(one.name.clone()).or_default().push(index);
        }
    }
    let mut taken: HashSet<Name> = alike.keys().cloned().collect();
    for (name, mut indexes) in alike {
        let told_apart = |index: &usize| items.get(*index).map(|(raw, mark)| (*mark, *raw));
        indexes.sort_by_key(|index| (told_apart(index), *index));
        for index in indexes.into_iter().skip(1) {
            let Some((raw, mark)) = items.get(index) else { continue };
            let name = distinct(&name, raw, mark, &taken);
            taken.insert(name.clone());
            if let Some(slot) = shown.get_mut(index) {
                *slot = Some(Shown { name, raw: Some(raw.to_vec()) });
            }
        }
    }
    shown
}

fn distinct(name: &Name, raw: &[u8], mark: &[u8], taken: &HashSet<Name>) -> Name {
    let mut hash = blake3::Hasher::new();
    hash.update(raw).update(b"/").update(mark);
    let text = name.as_bytes();
    let mut count = 0u64;
    loop {
        let candidate = shorten(text, hash.finalize().as_bytes(), ALIKE);
        if !taken.contains(&candidate) {
            return candidate;
        }
        count += 1;
        hash.update(&count.to_le_bytes());
    }
}

/// `text` with a mark of `identity` at its end, cut at a character so that it fits.
fn shorten(text: &[u8], identity: &[u8], word: &str) -> Name {
    let hash = blake3::hash(identity).to_hex();
    let suffix = format!(" ({word}{})", hash.get(..DIGITS).unwrap_or_default());
    let mut bytes = cut(text, NAME_MAX - suffix.len()).to_vec();
    bytes.extend_from_slice(suffix.as_bytes());
    legal(bytes)
}

/// Whether a name looks like one that [`raw`] cannot turn back: only a listing of its folder tells what it stands for.
pub fn may_be_marked(name: &Name) -> bool {
    let Some(text) = name.as_bytes().strip_suffix(b")") else { return false };
    let Some((head, digits)) = text.len().checked_sub(DIGITS).map(|at| text.split_at(at)) else {
        return false;
    };
    let head = head.strip_suffix(ALIKE.as_bytes()).unwrap_or(head);
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    head.ends_with(b" (") && digits.iter().all(is_digit)
}

fn needs_escape(raw: &[u8]) -> bool {
    if raw.is_empty() || raw == b"." || raw == b".." || raw.iter().any(|b| matches!(b, b'/' | 0)) {
        return true;
    }
    unescape(raw).is_some()
}

fn escape(raw: &[u8]) -> Vec<u8> {
    let mut out = ESCAPED.to_vec();
    let dots = raw == b"." || raw == b"..";
    for &byte in raw {
        match byte {
            b'/' | 0 | b'%' => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            b'.' if dots => out.extend_from_slice(b"%2E"),
            _ => out.push(byte),
        }
    }
    out
}

/// The raw name, if this is exactly what [`escape`] makes of a name that needs it.
fn unescape(name: &[u8]) -> Option<Vec<u8>> {
    let mut rest = name.strip_prefix(ESCAPED)?.iter();
    let mut raw = Vec::new();
    while let Some(&byte) = rest.next() {
        if byte != b'%' {
            raw.push(byte);
            continue;
        }
        let digits = [*rest.next()?, *rest.next()?];
        raw.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    (needs_escape(&raw) && escape(&raw) == name).then_some(raw)
}

/// The longest beginning of `bytes` of at most `max` bytes that splits no UTF-8 character.
fn cut(bytes: &[u8], max: usize) -> &[u8] {
    let is_inside = |at: usize| bytes.get(at).is_some_and(|b| b & 0xC0 == 0x80);
    if bytes.len() <= max {
        return bytes;
    }
    let whole = (max.saturating_sub(3)..=max).rev().find(|at| !is_inside(*at)).unwrap_or(max);
    bytes.get(..whole).unwrap_or(bytes)
}

/// Where a name is made here from legal parts, this is that name; anything else becomes its hash, which always is one.
fn legal(bytes: Vec<u8>) -> Name {
    let clean: Vec<u8> =
        bytes.into_iter().map(|b| if matches!(b, b'/' | 0) { b'_' } else { b }).collect();
    match Name::new(clean) {
        Ok(name) => name,
        Err(_) => name_of_nothing(),
    }
}

#[expect(clippy::expect_used, reason = "a constant that is a legal name")]
fn name_of_nothing() -> Name {
    Name::new(b"%dewfs%".as_slice()).expect("a constant that is a legal name")
}

/// The hidden name of an attempt's temporary upload beside `name`.
pub fn temp(tag: &AttemptTag, name: &Name) -> Name {
    private(TEMP, tag, name)
}

/// The visible name under which an attempt moves out of the way what it finds at `name`. Never removed by age: until it was
/// looked at, it may be the only copy of somebody's content.
pub fn aside(tag: &AttemptTag, name: &Name) -> Name {
    private(ASIDE, tag, name)
}

/// The hidden name that a file has for the moment between an exchange and the look at what came out of it. Never removed by
/// age: until it was looked at, it may be the only copy of somebody's content; the next start gives it back.
pub fn held(tag: &AttemptTag, name: &Name) -> Name {
    private(HELD, tag, name)
}

/// The hidden name under which a folder stays that was removed where nobody can tell whether it is empty. Never removed by
/// dewfs: it may hold what no listing shows.
pub fn removed(tag: &AttemptTag, name: &Name) -> Name {
    private(REMOVED, tag, name)
}

/// The visible name that a content moved aside gets when its old name was taken meanwhile.
pub fn kept(tag: &AttemptTag, name: &Name) -> Name {
    let suffix = format!(" (kept {}-{})", tag.item, tag.nonce);
    let mut bytes = cut(name.as_bytes(), NAME_MAX - suffix.len()).to_vec();
    bytes.extend_from_slice(suffix.as_bytes());
    legal(bytes)
}

/// The attempt and the (perhaps cut) name that [`temp`] made this of.
pub fn parse_temp(name: &[u8]) -> Option<(AttemptTag, Vec<u8>)> {
    let rest = name.strip_prefix(TEMP)?;
    let end = rest.windows(2).position(|pair| pair == b"--")?;
    let (head, tail) = rest.split_at_checked(end)?;
    let mut parts = std::str::from_utf8(head).ok()?.split('.');
    let mount = parts.next()?;
    let item = parts.next()?.parse().ok()?;
    let nonce = parts.next()?.parse().ok()?;
    if parts.next().is_some() || mount_id(mount) != mount {
        return None;
    }
    let tail = tail.get(2..)?;
    (!tail.is_empty()).then(|| (AttemptTag { mount: mount.to_owned(), item, nonce }, tail.to_vec()))
}

/// Whether two tags, one of them read from a name, are of one mount.
pub fn is_same_mount(one: &AttemptTag, other: &AttemptTag) -> bool {
    mount_id(&one.mount) == mount_id(&other.mount)
}

fn private(prefix: &[u8], tag: &AttemptTag, name: &Name) -> Name {
    let mut bytes = prefix.to_vec();
    let mount = mount_id(&tag.mount);
    bytes.extend_from_slice(format!("{mount}.{}.{}--", tag.item, tag.nonce).as_bytes());
    let room = NAME_MAX - bytes.len();
    bytes.extend_from_slice(cut(name.as_bytes(), room));
    legal(bytes)
}

fn mount_id(mount: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    mount.chars().take(40).map(safe).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn hostile() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            Just(b"%dewfs%".to_vec()),
            Just(b"%2F".to_vec()),
            Just(b"%25".to_vec()),
            Just(b"%2E".to_vec()),
            Just(b"/".to_vec()),
            Just(b"\0".to_vec()),
            Just(b".".to_vec()),
            Just("ä€😀".as_bytes().to_vec()),
            prop::collection::vec(any::<u8>(), 0..12),
            Just(vec![b'x'; 200]),
        ];
        prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
    }

    fn name(bytes: &[u8]) -> Name {
        Name::new(bytes).unwrap()
    }

    proptest! {
        #[test]
        fn every_name_comes_back(bytes in hostile()) {
            let shown = show(&bytes);
            match shown.raw {
                Some(kept) => {
                    prop_assert_eq!(kept, bytes);
                    prop_assert!(may_be_marked(&shown.name));
                }
                None => prop_assert_eq!(raw(&shown.name), bytes),
            }
        }

        #[test]
        fn different_names_are_shown_differently(a in hostile(), b in hostile()) {
            prop_assume!(a != b);
            prop_assert_ne!(show(&a).name, show(&b).name);
        }

        #[test]
        fn ordinary_names_stay_as_they_are(text in "[^/\0.%][^/\0]{0,60}") {
            let shown = show(text.as_bytes());
            prop_assert_eq!(shown.name.as_bytes(), text.as_bytes());
        }

        #[test]
        fn a_listing_shows_no_name_twice_whatever_its_order(
            names in prop::collection::vec(hostile(), 0..12),
            copies in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut names = names;
            if !names.is_empty() {
                for copy in copies {
                    names.push(names[copy.index(names.len())].clone());
                }
            }
            let marks: Vec<Vec<u8>> = (0..names.len()).map(|i| i.to_string().into_bytes()).collect();
            let mut items: Vec<(&[u8], &[u8])> =
                names.iter().zip(&marks).map(|(n, m)| (n.as_slice(), m.as_slice())).collect();
            let by_mark = |items: &[(&[u8], &[u8])]| -> BTreeMap<Vec<u8>, Option<Shown>> {
                items.iter().map(|(_, m)| m.to_vec()).zip(show_all(items)).collect()
            };
            let forward = by_mark(&items);
            let visible: Vec<_> = forward.values().flatten().map(|s| s.name.clone()).collect();
            let unique: HashSet<_> = visible.iter().cloned().collect();
            prop_assert_eq!(visible.len(), unique.len());
            let unreadable = |s: &&Shown| s.raw.is_some();
            prop_assert!(forward.values().flatten().filter(unreadable).all(|s| may_be_marked(&s.name)));
            items.reverse();
            prop_assert_eq!(forward, by_mark(&items));
        }

        #[test]
        fn private_names_fit_and_are_read_back(
            mount in "[a-z0-9]{1,40}", item: u64, nonce: u64, text in "[^/\0.]{1,80}",
        ) {
            let (tag, text) = (AttemptTag { mount, item, nonce }, show(text.as_bytes()).name);
            let (read, rest) = parse_temp(temp(&tag, &text).as_bytes()).unwrap();
            prop_assert_eq!(&read, &tag);
            prop_assert!(text.as_bytes().starts_with(&rest));
        }
    }

    #[test]
    fn dots_separators_and_nothing_are_escaped() {
        for (raw, shown) in [
            (&b"."[..], &b"%dewfs%%2E"[..]),
            (b"..", b"%dewfs%%2E%2E"),
            (b"", b"%dewfs%"),
            (b"a/b", b"%dewfs%a%2Fb"),
            (b"a\0b", b"%dewfs%a%00b"),
            (b"%dewfs%a%2Fb", b"%dewfs%%25dewfs%25a%252Fb"),
            (b"%dewfs%plain", b"%dewfs%plain"),
        ] {
            assert_eq!(show(raw).name.as_bytes(), shown);
        }
    }

    #[test]
    fn a_long_name_is_cut_at_a_character_and_keeps_its_raw_name() {
        let raw = "€".repeat(100);
        let shown = show(raw.as_bytes());
        assert!(std::str::from_utf8(shown.name.as_bytes()).is_ok());
        assert!(shown.name.as_bytes().len() <= NAME_MAX);
        assert_eq!(shown.raw.as_deref(), Some(raw.as_bytes()));
    }

    #[test]
    fn a_temporary_is_hidden_and_an_aside_is_not() {
        let tag = AttemptTag { mount: "m1".into(), item: 7, nonce: 9 };
        let temp = temp(&tag, &name(b"a.txt"));
        assert_eq!(temp.as_bytes(), b".dewfs-tmp.m1.7.9--a.txt");
        assert!(is_hidden(temp.as_bytes()));
        let aside = aside(&tag, &name(b"a.txt"));
        assert_eq!(aside.as_bytes(), b".aside-m1.7.9--a.txt");
        assert!(!is_hidden(aside.as_bytes()));
        let removed = removed(&tag, &name(b"a.txt"));
        assert_eq!(removed.as_bytes(), b".dewfs-removed.m1.7.9--a.txt");
    }

    #[test]
    fn names_of_others_are_no_private_names() {
        for bytes in [&b".dewfs-tmp.m.1--a"[..], b".dewfs-tmp.m.1.2-a", b".dewfs-tmp.m.1.2--", b"a"]
        {
            assert_eq!(parse_temp(bytes), None);
        }
    }
}
