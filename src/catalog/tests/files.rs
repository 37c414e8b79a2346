use super::*;
use crate::model::BlockSet;

const STAMP: Stamp = Stamp { size: 10, ctime: 500 };

fn blocks(range: std::ops::Range<u32>) -> BlockSet {
    let mut set = BlockSet::default();
    set.insert(range);
    set
}

#[test]
fn blocks_are_noted_only_for_their_generation() {
    let bench = Bench::new();
    let ino = bench.appear(Ino::ROOT, "a", seen(Kind::File, 100_000));
    assert_eq!(bench.inode(ino).content, Content::Placeholder);
    let old = Generation(0);
    bench.engine(move |tx| {
        let mut here = blocks(0..2);
        here.insert(4..5);
        assert!(tx.set_presence(ino, old, &here)?);
        assert!(!tx.set_presence(ino, Generation(1), &blocks(3..4))?);
        Ok(())
    });
    let here = bench.read(|reader| reader.presence(ino));
    assert_eq!(here.blocks.absent(0..7), [2..4, 5..7]);
    assert_eq!(bench.inode(ino).content, Content::Partial);
    bench.engine(move |tx| tx.set_content(ino, old, Content::Hydrated, Some(STAMP)));
    assert!(bench.read(|reader| reader.presence(ino)).blocks.is_full(100_000));
    assert_eq!(bench.inode(ino).stamp, Some(STAMP));
}

#[test]
fn freeing_moves_on_to_a_data_file_that_nobody_unlinks() {
    let bench = Bench::new();
    let ino = bench.appear(Ino::ROOT, "a", seen(Kind::File, 10));
    bench.engine(move |tx| tx.set_content(ino, Generation(0), Content::Hydrated, Some(STAMP)));
    let mut changes = bench.catalog.take_changes().unwrap();
    while changes.try_recv().is_ok() {}
    let edition = bench.inode(ino).edition;
    assert!(bench.engine(move |tx| tx.set_content(ino, Generation(0), Content::Placeholder, None)));
    let told = changes.try_recv().unwrap();
    assert!(told.contains(&Change::Forgotten { ino, generation: Generation(0) }), "{told:?}");
    let freed = bench.inode(ino);
    assert_eq!((freed.generation, freed.edition, freed.stamp), (Generation(1), edition, None));
    assert!(!bench.engine(move |tx| tx.set_content(ino, Generation(0), Content::Hydrated, None)));
}

#[test]
fn a_remote_change_is_another_generation_and_edition() {
    let bench = Bench::new();
    let ino = bench.appear(Ino::ROOT, "a", seen(Kind::File, 10));
    bench.engine(move |tx| tx.set_content(ino, Generation(0), Content::Hydrated, Some(STAMP)));
    let before = bench.inode(ino);
    let mut changes = bench.catalog.take_changes().unwrap();
    while changes.try_recv().is_ok() {}
    let edition = bench.engine(move |tx| {
        tx.become_placeholder(ino, &Observed { mtime: Some(88), ..seen(Kind::File, 30) })
    });
    let after = bench.inode(ino);
    assert!(edition > before.edition && after.edition == edition);
    assert_eq!((after.content, after.generation), (Content::Placeholder, Generation(1)));
    assert_eq!((after.attributes.size, after.attributes.mtime), (30, 88));
    let told = changes.try_recv().unwrap();
    assert!(told.contains(&Change::Content(ino)));
    assert!(told.contains(&Change::Forgotten { ino, generation: Generation(0) }));
    assert_eq!(bench.read(|reader| reader.sums()).bytes, 30);
}

#[test]
fn an_equal_stamp_is_no_edit_and_an_unequal_one_is() {
    let bench = Bench::new();
    let ino = bench.appear(Ino::ROOT, "a", seen(Kind::File, 10));
    bench.engine(move |tx| tx.set_content(ino, Generation(0), Content::Hydrated, Some(STAMP)));
    let before = bench.inode(ino);
    assert!(!bench.engine(move |tx| tx.observe(ino, Generation(0), STAMP, 7)));
    assert!(!bench.inode(ino).pending);
    let moved = Stamp { size: 12, ctime: 501 };
    assert!(!bench.engine(move |tx| tx.observe(ino, Generation(1), moved, 7)));
    assert!(bench.engine(move |tx| tx.observe(ino, Generation(0), moved, 7)));
    let after = bench.inode(ino);
    assert!(after.edition > before.edition && after.pending && after.edited);
    assert_eq!((after.attributes.size, after.attributes.mtime, after.stamp), (12, 7, Some(moved)));
    assert_eq!(bench.read(|reader| reader.sums()).bytes, 12);
    assert!(!bench.engine(move |tx| tx.observe(ino, Generation(0), moved, 7)));
    // The base catches up with what is here: nothing of ours is left.
    bench.engine(move |tx| tx.set_base(ino, Some(based(place(Ino::ROOT, "a"), after.edition, 12))));
    assert!(!bench.inode(ino).edited);
}

#[test]
fn fetching_is_no_edit() {
    let bench = Bench::new();
    let ino = bench.appear(Ino::ROOT, "a", seen(Kind::File, 100_000));
    bench.engine(move |tx| tx.set_presence(ino, Generation(0), &blocks(0..2)));
    assert!(!bench.engine(move |tx| tx.observe(ino, Generation(0), STAMP, 7)));
    // Once written to, each move of the stamp counts; the length is the row's until all is here.
    bench.engine(move |tx| tx.mark_edited(ino));
    assert!(bench.engine(move |tx| tx.observe(ino, Generation(0), STAMP, 7)));
    assert_eq!(bench.inode(ino).attributes.size, 100_000);
}

#[test]
fn a_time_set_by_a_user_stays_until_the_data_file_moves_on() {
    let bench = Bench::new();
    let ino = bench.create(Ino::ROOT, "a", Kind::File).ino;
    let set = SetAttributes { mtime: Some(5), mtime_of_data: Some(600), ..Default::default() };
    bench.kernel(move |tx| tx.set_attributes(ino, set));
    // Written before the time was set, seen after it.
    bench.engine(move |tx| tx.observe(ino, Generation(0), Stamp { size: 3, ctime: 601 }, 600));
    assert_eq!(bench.inode(ino).attributes.mtime, 5);
    bench.engine(move |tx| tx.observe(ino, Generation(0), Stamp { size: 3, ctime: 700 }, 699));
    let inode = bench.inode(ino);
    assert_eq!((inode.attributes.mtime, inode.mtime_of_data), (699, None));
}

#[test]
fn edits_that_fit_nothing_any_more_are_kept_and_not_unlinked() {
    let bench = Bench::new();
    let ino = bench.appear(Ino::ROOT, "a", seen(Kind::File, 100_000));
    let mut changes = bench.catalog.take_changes().unwrap();
    bench.engine(move |tx| {
        tx.set_presence(ino, Generation(0), &blocks(0..2))?;
        tx.mark_edited(ino)
    });
    while changes.try_recv().is_ok() {}
    bench.engine(move |tx| {
        tx.rescue(ino)?;
        tx.become_placeholder(ino, &seen(Kind::File, 5)).map(drop)
    });
    let told = changes.try_recv().unwrap();
    assert_eq!(told, [Change::Rescued { ino, generation: Generation(0) }, Change::Content(ino)]);
    // What comes next in its place is told again.
    bench.engine(move |tx| {
        tx.set_presence(ino, Generation(1), &blocks(0..1))?;
        tx.rescue(ino)?;
        tx.become_placeholder(ino, &seen(Kind::File, 5)).map(drop)
    });
    let told = changes.try_recv().unwrap();
    assert!(told.contains(&Change::Forgotten { ino, generation: Generation(1) }), "{told:?}");
}

#[test]
fn a_successor_has_all_but_the_bytes() {
    let bench = Bench::new();
    let old = bench.create(Ino::ROOT, "a", Kind::File).ino;
    let new = bench.engine(move |tx| {
        tx.set_attributes(old, SetAttributes { mode: Some(0o600), ..Default::default() })?;
        tx.set_xattr(old, b"user.x", b"y")?;
        tx.set_local(old, None)?;
        let new = tx.succeed(old)?;
        tx.set_local(new, Some(place(Ino::ROOT, "a")))?;
        Ok(new)
    });
    let (old, new) = (bench.inode(old), bench.inode(new));
    assert_eq!((new.edition, new.attributes), (old.edition, old.attributes));
    assert_eq!((old.content, new.content), (Content::Hydrated, Content::Placeholder));
    assert_eq!(bench.read(|reader| reader.xattr(new.ino, b"user.x")), Some(b"y".to_vec()));
}

#[test]
fn pins_pass_down_and_tell_what_to_fetch() {
    let bench = Bench::new();
    let folder = bench.appear(Ino::ROOT, "folder", seen(Kind::Folder, 0));
    let below = bench.appear(folder, "below", seen(Kind::Folder, 0));
    let file = bench.appear(below, "file", seen(Kind::File, 10));
    let free = bench.appear(below, "free", seen(Kind::File, 10));
    let other = bench.appear(Ino::ROOT, "other", seen(Kind::File, 10));
    assert!(bench.read(|reader| reader.pinned_not_hydrated(Ino(0), 10)).is_empty());
    assert!(!bench.read(|reader| reader.has_pins()));
    bench.kernel(move |tx| {
        tx.set_pin(folder, Pin::Pinned)?;
        tx.set_pin(free, Pin::Unpinned)?;
        tx.set_content(free, Generation(0), Content::Hydrated, Some(STAMP))?;
        tx.set_content(other, Generation(0), Content::Hydrated, Some(STAMP))?;
        tx.set_last_use(&[(free, i64::MAX - 1), (other, i64::MAX)])
    });
    bench.read(|reader| {
        assert!(reader.has_pins()?);
        assert_eq!(reader.effective_pin(file)?, Pin::Pinned);
        assert_eq!(reader.pin_from(file)?, Some(folder));
        assert_eq!(reader.effective_pin(free)?, Pin::Unpinned);
        assert_eq!(reader.pin_from(other)?, None);
        assert_eq!(reader.pinned_not_hydrated(Ino(0), 10)?, [file]);
        assert!(reader.pinned_not_hydrated(file, 10)?.is_empty());
        let evict: Vec<_> = reader.eviction_candidates(10)?.iter().map(|one| one.ino).collect();
        assert_eq!(evict, [free, other]);
        Ok(())
    });
    bench.kernel(move |tx| tx.set_content(file, Generation(0), Content::Hydrated, None));
    bench.kernel(move |tx| tx.mark_edited(other));
    let evict = bench.read(|reader| reader.eviction_candidates(10));
    assert_eq!(evict.iter().map(|one| one.ino).collect::<Vec<_>>(), [free]);
}

#[test]
fn only_files_with_a_base_are_evicted() {
    let bench = Bench::new();
    bench.create(Ino::ROOT, "local only~", Kind::File);
    assert!(bench.read(|reader| reader.eviction_candidates(10)).is_empty());
    let kept = bench.read(|reader| reader.data_files(Ino(0), 10));
    assert_eq!(kept, [(Ino(3), Generation(0))]);
}
