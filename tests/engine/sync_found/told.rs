//! What a feed tells while something is made here.

use dewfs::model::RemotePath;
use dewfs::remote::memory::{Gate, Held, Moment, Operation, Step};
use tokio::time::timeout;

use crate::support::world::{PATIENCE, World, name};

/// What others put into a folder that was just made here was told in a page of changes that was judged before the folder was known,
/// and ended after it: nobody looked into that folder.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_folder_made_while_a_page_of_changes_is_judged_is_looked_into() {
    let world = World::new().await;
    world.store.put("known", "known").unwrap();
    world.until("it is listed", async || world.names("").await == ["known"]).await;
    world.in_sync().await;
    let new = RemotePath(vec![name("new")]);
    let (gate, mut asked) = Gate::holding(move |step: &Step| match step.operation {
        Operation::MakeFolder => step.moment == Moment::Answers,
        Operation::Changes => step.moment == Moment::Arrives,
        Operation::Stat => step.moment == Moment::Arrives && step.path == new,
        _ => false,
    });
    world.store.gate(Some(gate));
    world.mkdir("new").await;
    let (mut made, mut pages, mut is_put) = (None, Vec::new(), false);
    let look = loop {
        let held = timeout(PATIENCE, asked.recv()).await.unwrap().unwrap();
        match held.step.operation {
            Operation::MakeFolder => made = Some(held),
            Operation::Changes => pages.push(held),
            _ => break held,
        }
        if made.is_some() && !is_put {
            // Both are told in one page.
            world.store.put("new/f", "theirs").unwrap();
            is_put = true;
        }
        if is_put {
            pages.drain(..).for_each(Held::pass);
        }
    };
    made.unwrap().pass();
    let pending = async || world.engine.mount_status().await.unwrap().pending;
    world.until("it is made", async || pending().await == 0).await;
    look.pass();
    drop(asked);
    world.until("what they put there", async || world.names("new").await == ["f"]).await;
}
