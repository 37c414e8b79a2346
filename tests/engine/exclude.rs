//! Names that are kept here only, what the remote has under such names, and the desktop's trash.

use crate::support::world::{World, name, quick_settings};
use dewfs::engine::{EngineError, RenameMode, Settings, SyncState};
use dewfs::model::{Ino, Pin};
use dewfs::remote::memory::{MemoryOptions, MemoryStore, Operation};

async fn state(world: &World, path: &str) -> (&'static str, SyncState, Pin) {
    let item = world.engine.item_status(world.ino(path).await).await.unwrap();
    (item.word(), item.sync, item.pin)
}

/// S40 "Names that editors and desktops make for themselves stay on this machine, and are shown as `local-only` and `excluded`;
/// what the remote already has under such a name is shown and synced like any other."
#[tokio::test(flavor = "multi_thread")]
async fn editors_own_files_stay_here_and_are_shown_so() {
    let world = World::new().await;
    world.store.put(".~lock.theirs.odt#", "them").unwrap();
    world.write(".~lock.ours.odt#", b"us").await;
    world.write("ours.odt", b"text").await;
    world.in_sync().await;
    let local_only = ("local-only", SyncState::LocalOnly, Pin::Excluded);
    assert_eq!(state(&world, ".~lock.ours.odt#").await, local_only);
    assert_eq!(world.names("").await, [".~lock.ours.odt#", ".~lock.theirs.odt#", "ours.odt"]);
    assert_eq!(world.read(".~lock.theirs.odt#").await.unwrap(), "them");
    // Theirs is changed and removed here as any other file.
    world.write(".~lock.theirs.odt#", b"taken over").await;
    world.in_sync().await;
    assert_eq!(world.content_there(".~lock.theirs.odt#").unwrap(), b"taken over");
    world.remove(".~lock.theirs.odt#").await.unwrap();
    world.in_sync().await;
    let there: Vec<String> = world.there().into_iter().map(|(path, _)| path).collect();
    assert_eq!(there, ["ours.odt"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_here_covers_theirs_until_it_goes() {
    let world = World::new().await;
    world.write(".goutputstream-X", b"ours").await;
    world.store.put(".goutputstream-X", "theirs").unwrap();
    world.store.put("other", "").unwrap();
    world.until("their news are here", async || world.try_ino("other").await.is_ok()).await;
    assert_eq!(world.read(".goutputstream-X").await.unwrap(), "ours");
    world.remove(".goutputstream-X").await.unwrap();
    world.until("theirs appears", async || world.try_ino(".goutputstream-X").await.is_ok()).await;
    assert_eq!(world.read(".goutputstream-X").await.unwrap(), "theirs");
    assert_eq!(world.content_there(".goutputstream-X").unwrap(), b"theirs");
}

/// S41 "An item whose bytes are not all here is never renamed to a name that is kept here only: that is `EXDEV`, so that `mv` and
/// file managers copy it."
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_all_here_is_not_renamed_to_a_name_that_is_kept_here() {
    let world = World::new().await;
    world.store.put("doc", vec![1; 100_000]).unwrap();
    world.store.mkdir("folder").unwrap();
    world.store.put("folder/deep", "x").unwrap();
    for path in ["doc", "folder"] {
        let refused = world.rename(path, "4913").await;
        assert!(matches!(refused, Err(EngineError::CrossDevice)), "{path}: {refused:?}");
    }
    world.read("doc").await.unwrap();
    // Until it is recorded that all of it is here, it is copied.
    world.until("it may be renamed", async || world.rename("doc", "4913").await.is_ok()).await;
    world.in_sync().await;
    assert!(world.content_there("doc").is_none(), "it left what is synced");
    assert_eq!(world.read("4913").await.unwrap().len(), 100_000);
}

/// Nor is it by an exchange, whichever of the two is named first.
#[tokio::test(flavor = "multi_thread")]
async fn regression_what_is_not_all_here_is_not_exchanged_with_a_name_that_is_kept_here() {
    let world = World::new().await;
    world.store.put("doc", vec![1; 100_000]).unwrap();
    world.names("").await;
    world.write("4913", b"kept here").await;
    for (from, to) in [("doc", "4913"), ("4913", "doc")] {
        let (from, to) = (name(from), name(to));
        let mode = RenameMode::Exchange;
        let exchanged = world.engine.rename(Ino::ROOT, &from, Ino::ROOT, to, mode).wait().await;
        assert!(matches!(exchanged, Err(EngineError::CrossDevice)), "{exchanged:?}");
    }
    world.in_sync().await;
    assert_eq!(world.content_there("doc").unwrap().len(), 100_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_of_ones_own_are_read_as_in_gitignore() {
    let mut exclude = Settings::default().exclude;
    exclude.extend(["*.o", "!keep.o", "build/", "/top/*.log"].map(str::to_owned));
    let settings = Settings { exclude, ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    for folder in ["top", "src", "src/build"] {
        world.mkdir(folder).await;
    }
    for file in ["a.o", "keep.o", "build", "src/build/x", "top/a.log", "src/a.log"] {
        world.write(file, b"1").await;
    }
    world.in_sync().await;
    let there: Vec<String> = world.there().into_iter().map(|(path, _)| path).collect();
    assert_eq!(there, ["build", "keep.o", "src", "src/a.log", "top"]);
    let world = world.restart().await;
    assert_eq!(state(&world, "src/build/x").await.0, "local-only");
}

/// S42 "A delete into the desktop's trash (`.Trash-UID`) is one rename on the remote; what was only online is restored without
/// having been fetched."
#[tokio::test(flavor = "multi_thread")]
async fn the_trash_is_an_ordinary_folder() {
    let world = World::new().await;
    world.store.mkdir("photos").unwrap();
    for number in 0..20 {
        world.store.put(&format!("photos/{number}"), vec![7; 50_000]).unwrap();
    }
    for folder in [".Trash-1000", ".Trash-1000/files", ".Trash-1000/info"] {
        world.mkdir(folder).await;
    }
    world.names("photos").await;
    world.in_sync().await;
    let renames = || moves(&world.store);
    let before = renames();
    world.write(".Trash-1000/info/photos.trashinfo", b"[Trash Info]\n").await;
    world.rename("photos", ".Trash-1000/files/photos").await.unwrap();
    world.in_sync().await;
    assert_eq!(renames() - before, 1);
    assert!(world.content_there(".Trash-1000/files/photos/7").is_some());
    world.rename(".Trash-1000/files/photos", "photos").await.unwrap();
    world.remove(".Trash-1000/info/photos.trashinfo").await.unwrap();
    world.in_sync().await;
    assert_eq!(renames() - before, 2);
    assert_eq!(world.engine.mount_status().await.unwrap().bytes_down, 0);
    assert_eq!(world.read("photos/7").await.unwrap().len(), 50_000);
}

fn moves(store: &MemoryStore) -> u64 {
    store.counts().get(&Operation::Rename).copied().unwrap_or_default()
}

/// What a pattern kept here counted as in sync when the pattern was gone, and was never sent.
#[tokio::test(flavor = "multi_thread")]
async fn regression_what_no_pattern_keeps_here_any_more_is_sent() {
    let settings = Settings { exclude: vec!["*.iso".into(), "kept/".into()], ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    world.write("x.iso", b"image").await;
    world.mkdir("kept").await;
    world.write("kept/a", b"a").await;
    world.in_sync().await;
    assert_eq!(world.there(), []);
    world.engine.stop().await;
    let (store, state) = (world.store.clone(), world.state.clone());
    let world = World::start(store, state, quick_settings()).await;
    world.in_sync().await;
    assert_eq!(world.content_there("x.iso").unwrap(), b"image");
    assert_eq!(world.content_there("kept/a").unwrap(), b"a");
}

/// The same of what a pattern of a path kept here, and which a folder above was moved out of.
#[tokio::test(flavor = "multi_thread")]
async fn regression_what_leaves_the_path_of_a_pattern_is_sent() {
    let settings = Settings { exclude: vec!["cache/*.bin".into()], ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    world.mkdir("cache").await;
    world.write("cache/a.bin", b"a").await;
    world.in_sync().await;
    assert_eq!(world.there().len(), 1);
    world.rename("cache", "data").await.unwrap();
    world.in_sync().await;
    assert_eq!(world.content_there("data/a.bin").unwrap(), b"a");
}
