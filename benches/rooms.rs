//! What the parts cost that every request comes by: a name looked up, a page of a folder, a new file, a set of blocks, a
//! server's listing. `cargo bench` compares with the run before; the memory remote and the state directory are local.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "../tests/support/wait.rs"]
#[allow(dead_code)]
mod wait;
#[path = "../tests/support/world.rs"]
#[allow(unreachable_pub)]
mod world;

use std::fmt::Write;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use dewfs::engine::Settings;
use dewfs::model::{BLOCK, BlockSet, Ino};
use dewfs::remote::memory::MemoryOptions;
use tokio::runtime::Runtime;
use world::{ME, WRITE, World, name};

/// Entries of the folder, of a page and of the listing.
const ENTRIES: usize = 10_000;
const PAGE: usize = 500;
const LISTED: usize = 1000;

/// A mount whose changes rest, with one folder that is known.
fn world(runtime: &Runtime) -> (World, Ino) {
    runtime.block_on(async {
        let rests = Settings { write_back_delay: Duration::from_secs(3600), ..Settings::default() };
        let world = World::with(MemoryOptions::default(), rests).await;
        let folder = world.mkdir("folder").await;
        for number in 0..ENTRIES {
            let made = world.engine.create(folder, numbered(number), 0o644, WRITE, ME);
            let (stat, opened) = made.wait().await.unwrap();
            world.engine.release(stat.ino, opened.handle);
        }
        (world, folder)
    })
}

fn numbered(number: usize) -> dewfs::model::Name {
    name(&format!("entry-{number:06}.txt"))
}

fn names(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let (world, folder) = world(&runtime);
    let engine = &world.engine;
    let mut next = 0;
    criterion.bench_function("lookup in a folder of 10,000", |bench| {
        bench.iter(|| {
            next = (next + 7919) % ENTRIES;
            runtime.block_on(engine.lookup(folder, &numbered(next)).wait()).unwrap()
        });
    });
    let mut group = criterion.benchmark_group("readdir");
    group.throughput(Throughput::Elements(PAGE as u64));
    group.bench_function("a page of 500 of 10,000", |bench| {
        bench.iter(|| runtime.block_on(engine.read_dir(folder, 0, PAGE).wait()).unwrap());
    });
    group.finish();
    let mut fresh = ENTRIES;
    criterion.bench_function("create and close", |bench| {
        bench.iter(|| {
            fresh += 1;
            runtime.block_on(async {
                let made = engine.create(folder, numbered(fresh), 0o644, WRITE, ME);
                let (stat, opened) = made.wait().await.unwrap();
                world.close(stat.ino, opened.handle).await;
            });
        });
    });
    runtime.block_on(world.engine.stop());
}

fn blocks(criterion: &mut Criterion) {
    // Every other block of a file of 10 GiB.
    let size = 10 << 30;
    let scattered = || {
        let mut set = BlockSet::default();
        for block in (0..655_360_u32).step_by(2) {
            set.insert(block..block + 1);
        }
        set
    };
    let set = scattered();
    let mut at = 0;
    criterion.bench_function("block set: one read is here or not", |bench| {
        bench.iter(|| {
            at = (at + 7919 * BLOCK) % size;
            black_box(set.has(at..at + 4096))
        });
    });
    criterion.bench_function("block set: insert a MiB", |bench| {
        let whole_mib = |mut set: BlockSet| {
            set.insert(1000..1064);
            set
        };
        bench.iter_batched(scattered, whole_mib, BatchSize::LargeInput);
    });
    criterion.bench_function("block set: to bytes and back", |bench| {
        bench.iter(|| BlockSet::from_bytes(&set.to_bytes()));
    });
}

fn listing(criterion: &mut Criterion) {
    let mut text = String::from("<?xml version=\"1.0\"?><D:multistatus xmlns:D=\"DAV:\">");
    for number in 0..LISTED {
        write!(
            text,
            "<D:response><D:href>/dav/entry-{number:06}.txt</D:href><D:propstat><D:prop>\
             <D:getcontentlength>{number}</D:getcontentlength><D:resourcetype/>\
             <D:getlastmodified>Sun, 22 Nov 2026 07:00:00 GMT</D:getlastmodified>\
             <D:getetag>\"5f-{number:x}\"</D:getetag></D:prop>\
             <D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
        )
        .unwrap();
    }
    text.push_str("</D:multistatus>");
    let mut group = criterion.benchmark_group("multistatus");
    group.throughput(Throughput::Elements(LISTED as u64));
    group.bench_function("1,000 entries", |bench| {
        bench.iter(|| {
            let found = dewfs::remote::webdav::count_entries(text.as_bytes());
            assert_eq!(found, Some(LISTED));
        });
    });
    group.finish();
}

criterion_group!(rooms, names, blocks, listing);
criterion_main!(rooms);
