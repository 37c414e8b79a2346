//! The engine's verbs over a memory remote: what `docs/SEMANTICS.md` promises, sentence by sentence.

use crate::support::world::{ME, READ, WRITE, World, name, pattern, quick_settings, ready, same};
use bytes::Bytes;
use dewfs::engine::{EngineError, OpenMode, RenameMode, Settings};
use dewfs::model::{Ino, Pin};
use dewfs::remote::memory::{Fault, FaultRule, MemoryOptions, Operation};

fn there(world: &World, path: &str) -> Option<String> {
    world.content_there(path).map(|content| String::from_utf8(content).unwrap())
}

/// S15 "A folder is listed on the remote when it is first needed. After that, `ls`, `find`, `stat` and a missing name in it
/// cost no request, also after a remount" (A03, B28, C21)
#[tokio::test(flavor = "multi_thread")]
async fn a_listed_folder_costs_no_further_request() {
    let world = World::new().await;
    world.store.mkdir("docs").unwrap();
    for index in 0..30 {
        world.store.put(&format!("docs/{index}.txt"), "x").unwrap();
    }
    assert_eq!(world.names("").await, ["docs"]);
    assert_eq!(world.names("docs").await.len(), 30);
    let world = world.restart().await;
    let lists = |world: &World| world.remote.counts().get(&Operation::List).copied().unwrap_or(0);
    let before = lists(&world);
    assert_eq!(world.names("docs").await.len(), 30);
    let docs = ready(world.engine.lookup(Ino::ROOT, &name("docs"))).unwrap();
    let missing = ready(world.engine.lookup(docs.ino, &name("nowhere")));
    assert!(matches!(missing, Err(EngineError::NotFound)));
    assert_eq!(lists(&world), before);
}

/// S16 "Names, sizes, times, modes, renames and deletes fetch no content." (C24)
#[tokio::test(flavor = "multi_thread")]
async fn names_and_attributes_fetch_no_content() {
    let world = World::new().await;
    world.store.put("a", pattern(100_000, 1)).unwrap();
    world.store.put("b", pattern(100_000, 2)).unwrap();
    assert_eq!(world.stat("a").await.size, 100_000);
    world.rename("a", "c").await.unwrap();
    world.remove("b").await.unwrap();
    world.in_sync().await;
    assert_eq!(world.there().iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), ["c"]);
    assert_eq!(world.remote.counts().get(&Operation::Read), None);
}

/// S17 "A read fetches the blocks of 16 KiB that it touches, and reads ahead only for a reader that goes on in order."
#[tokio::test(flavor = "multi_thread")]
async fn a_read_in_the_middle_fetches_only_its_blocks() {
    let world = World::new().await;
    let content = pattern(4 << 20, 3);
    world.store.put("big", content.clone()).unwrap();
    let (ino, handle) = world.open("big", READ).await;
    let got = world.engine.read(ino, handle, 1_000_001, 65_536).wait().await.unwrap();
    assert_eq!(&got[..], &content[1_000_001..1_000_001 + 65_536]);
    let item = world.engine.item_status(ino).await.unwrap();
    assert!(item.present_bytes <= 6 * 16_384, "{} bytes came", item.present_bytes);
    // The same again asks nobody.
    assert_eq!(&ready(world.engine.read(ino, handle, 1_000_001, 65_536)).unwrap()[..], &got[..]);
    world.close(ino, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_file_is_read_in_order_and_then_hydrated() {
    let world = World::new().await;
    let content = pattern((3 << 20) + 777, 4);
    world.store.put("big", content.clone()).unwrap();
    same(&world.read("big").await.unwrap(), &content);
    let reads = world.remote.counts()[&Operation::Read];
    same(&world.read("big").await.unwrap(), &content);
    assert_eq!(world.remote.counts()[&Operation::Read], reads);
    let ino = world.ino("big").await;
    let item = world.engine.item_status(ino).await.unwrap();
    assert_eq!(item.present_bytes, content.len() as u64);
    assert_eq!(item.word(), "local");
    let world = world.restart().await;
    same(&world.read("big").await.unwrap(), &content);
    assert_eq!(world.remote.counts().get(&Operation::Read), None);
}

/// S1 "When `close` of a written file has returned, its bytes … arrive on the remote later."
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_arrives_whole_under_its_name() {
    let world = World::new().await;
    world.mkdir("new").await;
    let content = pattern(300_000, 5);
    world.write("new/file", &content).await;
    same(&world.read("new/file").await.unwrap(), &content);
    world.in_sync().await;
    same(&world.content_there("new/file").unwrap(), &content);
    assert_eq!(world.there().len(), 2);
    world.write("new/file", b"again").await;
    world.in_sync().await;
    assert_eq!(there(&world, "new/file").unwrap(), "again");
    world.write("new/empty", b"").await;
    world.in_sync().await;
    assert_eq!(there(&world, "new/empty").unwrap(), "");
}

/// S18 "Opening a file with `O_TRUNC`, or cutting it to nothing, fetches nothing." (B38)
#[tokio::test(flavor = "multi_thread")]
async fn truncating_to_nothing_fetches_nothing() {
    let world = World::new().await;
    world.store.put("a", pattern(200_000, 1)).unwrap();
    world.store.put("b", pattern(200_000, 1)).unwrap();
    world.write("a", b"short").await;
    assert_eq!(world.truncate("b", 0).await.size, 0);
    world.in_sync().await;
    assert_eq!(there(&world, "a").unwrap(), "short");
    assert_eq!(there(&world, "b").unwrap(), "");
    assert_eq!(world.remote.counts().get(&Operation::Read), None);
}

/// HAZARDS 1.8: a write into a file that is not all here fetches what it touches, then the rest, and sends the whole.
#[tokio::test(flavor = "multi_thread")]
async fn an_edit_in_a_placeholder_keeps_every_other_byte() {
    let world = World::new().await;
    let mut content = pattern(900_000, 6);
    world.store.put("big", content.clone()).unwrap();
    let (ino, handle) = world.open("big", WRITE).await;
    world.write_at(ino, handle, 500_123, b"edited here").await;
    world.write_at(ino, handle, 900_100, b"beyond the end").await;
    world.close(ino, handle).await;
    content[500_123..500_134].copy_from_slice(b"edited here");
    content.resize(900_100, 0);
    content.extend_from_slice(b"beyond the end");
    same(&world.read("big").await.unwrap(), &content);
    world.in_sync().await;
    same(&world.content_there("big").unwrap(), &content);
}

#[tokio::test(flavor = "multi_thread")]
async fn cutting_and_growing_a_placeholder_leaves_zeros_not_old_bytes() {
    let world = World::new().await;
    let mut content = pattern(400_000, 7);
    world.store.put("f", content.clone()).unwrap();
    world.truncate("f", 100_001).await;
    world.truncate("f", 300_000).await;
    content.truncate(100_001);
    content.resize(300_000, 0);
    same(&world.read("f").await.unwrap(), &content);
    world.in_sync().await;
    same(&world.content_there("f").unwrap(), &content);
}

/// S7 "If somebody else changed a file that was edited here, both contents exist afterwards: theirs under the name,
/// ours as `NAME (conflict DATE TIME HOST).EXT` beside it, here and on the remote."
#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_keeps_both_contents() {
    let world = World::new().await;
    world.store.put("doc.txt", "first").unwrap();
    assert_eq!(&world.read("doc.txt").await.unwrap()[..], b"first");
    let (ino, handle) = world.open("doc.txt", WRITE).await;
    world.write_at(ino, handle, 0, b"MINE!").await;
    world.store.put("doc.txt", "theirs").unwrap();
    world.close(ino, handle).await;
    world.in_sync().await;
    assert_eq!(there(&world, "doc.txt").unwrap(), "theirs");
    let tree = world.there();
    let copy = tree.iter().find(|(path, _)| path.starts_with("doc (conflict ")).expect("a copy");
    assert!(copy.0.ends_with(").txt"), "{}", copy.0);
    assert_eq!(copy.1.as_deref(), Some(&b"MINE!"[..]));
    assert_eq!(tree.len(), 2);
    assert_eq!(&world.read("doc.txt").await.unwrap()[..], b"theirs");
    assert_eq!(&world.read(&copy.0).await.unwrap()[..], b"MINE!");
}

/// S8 "Equal content is no conflict, and with no other writer there is never a conflict copy."
#[tokio::test(flavor = "multi_thread")]
async fn equal_content_is_no_conflict() {
    let world = World::new().await;
    world.store.put("doc", "first").unwrap();
    let (ino, handle) = world.open("doc", WRITE).await;
    world.write_at(ino, handle, 0, b"EQUAL").await;
    world.store.put("doc", "EQUAL").unwrap();
    world.close(ino, handle).await;
    world.in_sync().await;
    assert_eq!(world.there(), [("doc".to_owned(), Some(b"EQUAL".to_vec()))]);
}

/// A safe-save (temp + rename over) is one conditional write of the same remote file, not delete + create (RULES 15).
#[tokio::test(flavor = "multi_thread")]
async fn a_safe_save_stays_the_same_remote_file() {
    let world = World::with(
        MemoryOptions { stable_ids: true, ..MemoryOptions::default() },
        quick_settings(),
    )
    .await;
    world.store.put("doc", "old").unwrap();
    let id = world.store.peek("doc").unwrap().id;
    assert!(id.is_some());
    world.read("doc").await.unwrap();
    world.write("doc.new", b"saved").await;
    world.rename("doc.new", "doc").await.unwrap();
    world.in_sync().await;
    assert_eq!(world.there(), [("doc".to_owned(), Some(b"saved".to_vec()))]);
    assert_eq!(world.store.peek("doc").unwrap().id, id);
    assert_eq!(&world.read("doc").await.unwrap()[..], b"saved");
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_move_with_all_in_them_in_one_request() {
    let world = World::new().await;
    world.store.mkdir("a").unwrap();
    for index in 0..20 {
        world.store.put(&format!("a/{index}"), "x").unwrap();
    }
    assert_eq!(world.names("a").await.len(), 20);
    world.mkdir("b").await;
    world.rename("a", "b/c").await.unwrap();
    world.write("b/c/new", b"n").await;
    world.in_sync().await;
    assert_eq!(there(&world, "b/c/new").unwrap(), "n");
    assert_eq!(there(&world, "b/c/7").unwrap(), "x");
    assert_eq!(world.remote.counts().get(&Operation::Rename), Some(&1));
    assert!(matches!(world.rename("b", "b/c/d").await, Err(EngineError::IntoItself)));
}

/// S21, S22: while the remote is away, what is here works and what is not fails in time; edits wait and arrive.
#[tokio::test(flavor = "multi_thread")]
async fn offline_is_a_normal_state() {
    let world = World::new().await;
    world.store.put("here", "here").unwrap();
    world.store.put("away", "away").unwrap();
    assert_eq!(&world.read("here").await.unwrap()[..], b"here");
    world.store.set_online(false);
    let world = world.restart().await;
    assert_eq!(&world.read("here").await.unwrap()[..], b"here");
    let refused = world.read("away").await;
    assert!(matches!(refused, Err(EngineError::Offline | EngineError::TimedOut)), "{refused:?}");
    world.write("new", b"made offline").await;
    world.rename("here", "moved").await.unwrap();
    world.store.set_online(true);
    world.in_sync().await;
    assert_eq!(there(&world, "new").unwrap(), "made offline");
    assert_eq!(there(&world, "moved").unwrap(), "here");
    assert_eq!(there(&world, "here"), None);
    assert_eq!(&world.read("away").await.unwrap()[..], b"away");
}

/// S14 "An answer … cut short gives the right bytes after another try, or an error"
#[tokio::test(flavor = "multi_thread")]
async fn a_body_cut_short_is_taken_up_again() {
    let world = World::new().await;
    let content = pattern(500_000, 9);
    world.store.put("f", content.clone()).unwrap();
    world.store.inject(FaultRule::next(Operation::Read, Fault::Truncate(100_000)));
    same(&world.read("f").await.unwrap(), &content);
}

/// S3 "Content that is not in sync is never freed or evicted."
/// S5 "Freeing space, evicting content and clearing the cache never delete anything on the remote."
#[tokio::test(flavor = "multi_thread")]
async fn free_gives_space_back_and_keeps_what_is_not_sent() {
    let world = World::new().await;
    let content = pattern(200_000, 8);
    world.store.put("f", content.clone()).unwrap();
    world.read("f").await.unwrap();
    world.store.set_online(false);
    world.write("unsent", b"unsent").await;
    let freed = world.engine.free(Ino::ROOT, false).await.unwrap();
    assert!(freed.bytes >= 200_000, "{freed:?}");
    assert_eq!(freed.kept.len(), 1, "{freed:?}");
    assert_eq!(freed.kept[0].0, b"unsent");
    world.store.set_online(true);
    same(&world.read("f").await.unwrap(), &content);
    world.in_sync().await;
    same(&world.content_there("f").unwrap(), &content);
    assert_eq!(there(&world, "unsent").unwrap(), "unsent");
}

/// C12 "Pinning does not by itself load content; the engine must watch pinned+offline and hydrate"
#[tokio::test(flavor = "multi_thread")]
async fn pinned_content_comes_by_itself_also_later() {
    let world = World::new().await;
    world.store.mkdir("keep").unwrap();
    world.store.put("keep/a", pattern(50_000, 1)).unwrap();
    let keep = world.ino("keep").await;
    world.engine.set_pin(keep, Pin::Pinned).await.unwrap();
    world.names("keep").await;
    let a = world.ino("keep/a").await;
    world
        .until("the pinned file is here", async || {
            world.engine.item_status(a).await.unwrap().word() == "pinned"
        })
        .await;
    world.store.put("keep/b", pattern(60_000, 2)).unwrap();
    world
        .until("what came later is here", async || {
            let Ok(b) = world.engine.resolve(b"keep/b", false).await else { return false };
            world.engine.item_status(b).await.unwrap().word() == "pinned"
        })
        .await;
}

/// A change by somebody else appears by itself; an open handle keeps the version it opened (B48).
#[tokio::test(flavor = "multi_thread")]
async fn a_remote_change_appears_and_an_open_handle_is_a_snapshot() {
    let world = World::new().await;
    world.store.put("f", "version one").unwrap();
    assert_eq!(&world.read("f").await.unwrap()[..], b"version one");
    let (ino, handle) = world.open("f", READ).await;
    world.store.put("f", "version two!").unwrap();
    world.until("the new size", async || world.stat("f").await.size == 12).await;
    assert_eq!(&world.read("f").await.unwrap()[..], b"version two!");
    let old = world.engine.read(ino, handle, 0, 100).wait().await.unwrap();
    assert_eq!(&old[..], b"version one");
    world.close(ino, handle).await;
    world.store.rm("f").unwrap();
    world.until("it is gone", async || world.try_ino("f").await.is_err()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unlinked_open_file_lives_until_it_is_closed() {
    let world = World::new().await;
    world.write("f", b"content").await;
    world.in_sync().await;
    let (ino, handle) = world.open("f", WRITE).await;
    world.remove("f").await.unwrap();
    assert_eq!(world.engine.stat(ino).wait().await.unwrap().links, 0);
    world.write_at(ino, handle, 0, b"CONTENT").await;
    let got = world.engine.read(ino, handle, 0, 100).wait().await.unwrap();
    assert_eq!(&got[..], b"CONTENT");
    world.close(ino, handle).await;
    world.in_sync().await;
    assert_eq!(world.there(), []);
    world.until("the row goes", async || world.engine.stat(ino).wait().await.is_err()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn renames_obey_posix() {
    let world = World::new().await;
    world.write("a", b"a").await;
    world.write("b", b"b").await;
    world.mkdir("d").await;
    world.write("d/x", b"x").await;
    let rename = async |from: &str, to: &str, mode| {
        let answer =
            world.engine.rename(Ino::ROOT, &name(from), Ino::ROOT, name(to), mode).wait().await;
        answer.map_err(|error| format!("{error:?}"))
    };
    assert_eq!(rename("a", "b", RenameMode::NoReplace).await, Err("Exists".into()));
    assert_eq!(rename("a", "d", RenameMode::Replace).await, Err("IsFolder".into()));
    assert_eq!(rename("d", "a", RenameMode::Replace).await, Err("NotFolder".into()));
    assert_eq!(rename("a", "b", RenameMode::Exchange).await, Ok(()));
    assert_eq!(&world.read("a").await.unwrap()[..], b"b");
    world.mkdir("e").await;
    assert_eq!(rename("e", "d", RenameMode::Replace).await, Err("NotEmpty".into()));
    assert_eq!(rename("d", "e", RenameMode::Replace).await, Ok(()));
    world.in_sync().await;
    assert_eq!(there(&world, "e/x").unwrap(), "x");
    assert_eq!(there(&world, "a").unwrap(), "b");
    assert_eq!(there(&world, "b").unwrap(), "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_go_to_the_end_whatever_the_offset() {
    let world = World::new().await;
    world.write("log", b"one\n").await;
    let mode = OpenMode { append: true, ..WRITE };
    let (ino, handle) = world.open("log", mode).await;
    world.engine.write(ino, handle, 0, Bytes::from_static(b"two\n"), false).wait().await.unwrap();
    world.close(ino, handle).await;
    assert_eq!(&world.read("log").await.unwrap()[..], b"one\ntwo\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_belong_to_dewfs_are_refused() {
    let world = World::new().await;
    let made = world.engine.make_folder(Ino::ROOT, name(".dewfs-x"), 0o755, ME).wait().await;
    assert!(matches!(made, Err(EngineError::NotPermitted(_))), "{made:?}");
}

/// S9 "An edit beats a delete, whoever made which." (RULES 19)
#[tokio::test(flavor = "multi_thread")]
async fn an_edit_beats_a_delete() {
    let world = World::new().await;
    world.store.put("deleted here", "old").unwrap();
    world.store.put("deleted there", "old").unwrap();
    world.read("deleted here").await.unwrap();
    world.read("deleted there").await.unwrap();
    world.store.set_online(false);
    world.remove("deleted here").await.unwrap();
    let (ino, handle) = world.open("deleted there", WRITE).await;
    world.write_at(ino, handle, 0, b"NEW").await;
    world.close(ino, handle).await;
    world.store.set_online(true);
    world.store.put("deleted here", "edited there").unwrap();
    world.store.rm("deleted there").unwrap();
    world.in_sync().await;
    assert_eq!(there(&world, "deleted here").unwrap(), "edited there");
    assert_eq!(&world.read("deleted here").await.unwrap()[..], b"edited there");
    assert_eq!(there(&world, "deleted there").unwrap(), "NEW");
}

/// S10 "A folder is removed on the remote only if it is empty there."
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_not_empty_there_comes_back() {
    let world = World::new().await;
    world.store.mkdir("d").unwrap();
    assert!(world.names("d").await.is_empty());
    world.store.set_online(false);
    world.remove("d").await.unwrap();
    world.store.set_online(true);
    world.store.put("d/unseen", "unseen").unwrap();
    world.in_sync().await;
    assert_eq!(there(&world, "d/unseen").unwrap(), "unseen");
    world.until("the folder is back", async || world.try_ino("d/unseen").await.is_ok()).await;
}

/// S4 "A damaged catalog is set aside with all local content in `recovered/`, and so is all local content when the catalog
/// is gone; nothing of it is deleted."
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_catalog_is_set_aside_with_all_content() {
    let world = World::new().await;
    world.store.put("known", "known").unwrap();
    world.names("").await;
    world.store.set_online(false);
    world.write("unsent", b"only here").await;
    world.engine.stop().await;
    let state = world.state.path().join("state");
    let mut damaged = std::fs::read(state.join("catalog.db")).unwrap();
    damaged.iter_mut().skip(100).step_by(7).for_each(|byte| *byte ^= 0x5a);
    std::fs::write(state.join("catalog.db"), damaged).unwrap();
    world.store.set_online(true);
    let world = World::start(world.store, world.state, world.settings).await;
    assert_eq!(world.names("").await, ["known"]);
    let kept: Vec<Vec<u8>> = std::fs::read_dir(state.join("recovered"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| std::fs::read(path).unwrap())
        .collect();
    assert!(kept.iter().any(|content| content == b"only here"), "{} files kept", kept.len());
}

/// Many removals at once are sent: until there is a command that releases what is held, nothing is held.
#[tokio::test(flavor = "multi_thread")]
async fn removing_hundreds_of_files_reaches_the_remote() {
    let settings = Settings { guard: 0, ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    world.store.mkdir("many").unwrap();
    for index in 0..250 {
        world.store.put(&format!("many/{index}"), "x").unwrap();
    }
    for name in world.names("many").await {
        world.remove(&format!("many/{name}")).await.unwrap();
    }
    world.remove("many").await.unwrap();
    world.in_sync().await;
    assert_eq!(world.there(), []);
}

/// HAZARDS 2.4: the first listing of a folder tells the kernel nothing of its names; what appears after an answer "not
/// there" is told.
#[tokio::test(flavor = "multi_thread")]
async fn only_names_that_may_have_been_missed_are_told() {
    use dewfs::engine::Invalidation;
    let world = World::new().await;
    let mut news = world.engine.take_invalidations().unwrap();
    world.store.mkdir("d").unwrap();
    world.store.put("d/a", "a").unwrap();
    let told = |news: &mut tokio::sync::mpsc::UnboundedReceiver<Vec<Invalidation>>| {
        let mut names = Vec::new();
        while let Ok(batch) = news.try_recv() {
            for one in batch {
                if let Invalidation::Entry { name, .. } = one {
                    names.push(name.lossy().into_owned());
                }
            }
        }
        names
    };
    assert_eq!(world.names("d").await, ["a"]);
    world.in_sync().await;
    assert_eq!(told(&mut news), Vec::<String>::new());
    assert!(world.try_ino("d/late").await.is_err());
    world.store.put("d/late", "late").unwrap();
    world.until("it appears", async || world.try_ino("d/late").await.is_ok()).await;
    let mut seen = Vec::new();
    world
        .until("the kernel is told", async || {
            seen.extend(told(&mut news));
            seen == ["late"]
        })
        .await;
}
