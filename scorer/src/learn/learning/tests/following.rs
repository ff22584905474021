//! A process that decides beside the one that learns.

use super::*;
use crate::learn::Joiner;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_decides_by_the_same_policy_and_remembers_the_same_people() {
    let dir = TempDir::new().unwrap();
    let world = World::open(dir.path(), with_shadow());
    let (leading, following) = (world.learning(), world.learning());
    let (led, followed) = (leading.published(), following.published());
    let shadow = leading.shadow().unwrap().id().policy;
    let steering = following.steering();
    let scorer = world.scorer_of(followed.clone(), following.published_shadow());
    let memory = Arc::new(crate::memory::Memory::new(100));
    let elsewhere =
        Joiner::new(world.log.clone(), &world.config.learn, memory.clone(), world.clock()).unwrap();
    let stop = CancellationToken::new();
    let tasks = [
        tokio::spawn(world.joiner().run(stop.clone())),
        tokio::spawn(leading.run(world.clock(), stop.clone())),
        tokio::spawn(following.follow(world.clock(), stop.clone())),
        tokio::spawn(elsewhere.follow(stop.clone())),
    ];

    let shown = live(&world, &scorer, 12).await;
    wait_until(|| led.load().version() == 8 && followed.load().version() == 8).await;
    wait_until(|| shown.iter().all(|id| memory.knows(id))).await;
    let muted =
        Feedback { impression: shown[0].clone(), reaction: ReactionKind::Muted, at: None, channel: None };
    scorer.feedback(&muted, world.now()).await.unwrap();
    wait_until(|| memory.with_person("user-0", |p| !p.muted.is_empty())).await;

    // An order given to the follower holds for both.
    steering.promote(shadow, "ann".into(), "{}".into()).await.unwrap();
    wait_until(|| [&led, &followed].iter().all(|p| p.load().name() == "linucb")).await;
    live(&world, &scorer, 3).await;
    wait_until(|| led.load().version() == 10 && followed.load().version() == 10).await;
    stop.cancel();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    // What the follower knew is what a restart of the leader finds.
    assert_eq!(served(&world.learning()), ("linucb".to_owned(), 10));
}
