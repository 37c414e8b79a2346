//! What stands under the help of each command: how it is used, by its commonest words.

/// The commands, and what may follow their names.
pub(super) const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "mount",
        &[
            "https://alice@cloud.example.org/dav/ ~/Cloud",
            "/srv/nas ~/Nas -o ro,cache_size=20G",
            "Cloud:",
        ],
    ),
    ("umount", &["~/Cloud", "~/Cloud --timeout 1m", "Cloud: --no-wait"]),
    ("status", &["", "~/Cloud --wait --timeout 5m", "~/Cloud/report.odt", "--pending ~/Cloud"]),
    ("sync", &["~/Cloud --wait", "~/Cloud --accept-remote"]),
    ("ls", &["~/Cloud/Photos", "-R --fetch ~/Cloud", "--json ~/Cloud"]),
    ("hydrate", &["~/Cloud/film.mp4", "~/Cloud/Papers"]),
    ("free", &["~/Cloud/Films", "-n ~/Cloud"]),
    (
        "pin",
        &[
            "~/Cloud/Papers",
            "--wait ~/Cloud/Papers",
            "~/Cloud --rule 'docs/** modified<30d size<50M' --budget 20G",
            "--list ~/Cloud",
        ],
    ),
    ("unpin", &["~/Cloud/Papers"]),
    ("why", &["~/Cloud/report.odt"]),
    ("conflicts", &["", "~/Cloud"]),
    (
        "resolve",
        &[
            "~/Cloud/report.odt --keep mine",
            "~/Cloud/report*conflict*.odt --keep theirs",
            "-n ~/Cloud/report.odt --keep theirs",
        ],
    ),
    ("held", &["~/Cloud"]),
    ("release", &["-n ~/Cloud", "~/Cloud"]),
    ("undo", &["-n ~/Cloud", "~/Cloud"]),
    ("find", &["~/Cloud '*.pdf'", "~/Cloud 'docs/**/*.txt'"]),
    ("du", &["~/Cloud"]),
    ("largest", &["~/Cloud -N 20"]),
    ("recent", &["~/Cloud -N 20"]),
    ("pause", &["~/Cloud", "~/Cloud --lane bulk"]),
    ("resume", &["~/Cloud"]),
    (
        "watch",
        &["~/Cloud", "~/Cloud | jq -r 'select(.event == \"error\") | .path + \": \" + .message'"],
    ),
    ("cache", &["stat ~/Cloud", "verify ~/Cloud", "clear -n ~/Cloud"]),
    (
        "setup",
        &[
            "Cloud https://alice@cloud.example.org/dav/",
            "Nas /srv/nas --mountpoint ~/Files --yes",
            "Cloud https://cloud.example.org/dav/ -o username=alice --password-stdin <secret",
        ],
    ),
    ("remove", &["Cloud", "Cloud --export ~/not-sent"]),
    ("login", &["Cloud", "~/Cloud", "Cloud --password-stdin <secret"]),
    ("logout", &["Cloud"]),
    ("remote", &["test https://cloud.example.org/dav/", "add Nas /srv/nas", "list", "forget Nas"]),
    ("serve", &["/srv/files", "~/Shared --listen 127.0.0.1:9000 --credentials ~/share.secret"]),
    ("doctor", &["", "Cloud:", "https://alice@cloud.example.org/dav/"]),
    ("completions", &["bash >~/.local/share/bash-completion/completions/dewfs"]),
    ("man", &["/usr/local/share/man"]),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::EXAMPLES;
    use crate::cli::args::command_line;

    /// The words that the program gets from a shell: what is in quotes is one, and what others get is none.
    fn words(line: &str) -> Vec<&str> {
        let line = line.split(" | ").next().unwrap();
        let parts = line.split('\'').enumerate();
        let words = parts.flat_map(|(number, part)| match number % 2 {
            0 => part.split_whitespace().filter(|word| !word.starts_with(['<', '>'])).collect(),
            _ => vec![part],
        });
        words.collect()
    }

    #[test]
    fn every_command_has_examples_that_it_understands() {
        for command in command_line().get_subcommands() {
            let name = command.get_name();
            let after = command.get_after_help().unwrap().to_string();
            // Two commands showed two lists, one of them in no page that tests read.
            assert!(after.matches("Example").count() == 1 && after.contains("Examples:"), "{name}");
            let lines = EXAMPLES.iter().find(|(one, _)| *one == name).map(|(_, lines)| *lines);
            for line in lines.unwrap() {
                let words = ["dewfs", name].into_iter().chain(words(line));
                let read = command_line().try_get_matches_from(words);
                assert!(read.is_ok(), "dewfs {name} {line}: {}", read.unwrap_err());
            }
        }
    }
}
