//! Which pin holds for an item, by its own and that of the folder it is in.

use super::{Kind, Pin};

impl Pin {
    /// The pin that holds for an item of this kind with `self` as its own in a folder for which `above` holds.
    ///
    /// Files-On-Demand's table for what a new or moved child gets: excluded passes down to everything; pinned and unpinned
    /// stay; unspecified takes pinned from above, and unpinned only if it is a folder; excluded without an excluded folder
    /// above counts as unspecified.
    #[must_use]
    pub fn under(self, above: Self, kind: Kind) -> Self {
        match (above, self) {
            (Self::Excluded, _) => Self::Excluded,
            (_, Self::Pinned | Self::Unpinned) => self,
            (Self::Pinned, _) => Self::Pinned,
            (Self::Unpinned, _) if kind == Kind::Folder => Self::Unpinned,
            (Self::Unpinned | Self::Unspecified, _) => Self::Unspecified,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Pin::{Excluded as X, Pinned as P, Unpinned as F, Unspecified as U};

    #[test]
    fn a_child_gets_what_the_table_says() {
        // Own pin, then the result below unspecified, pinned, unpinned and excluded.
        let files = [(U, [U, P, U, X]), (P, [P, P, P, X]), (F, [F, F, F, X]), (X, [U, P, U, X])];
        let folders = [(U, [U, P, F, X]), (P, [P, P, P, X]), (F, [F, F, F, X]), (X, [U, P, F, X])];
        for (kind, table) in [(Kind::File, files), (Kind::Folder, folders)] {
            for (own, expected) in table {
                let found = [U, P, F, X].map(|above| own.under(above, kind));
                assert_eq!(found, expected, "{kind:?} {own:?}");
            }
        }
    }
}
