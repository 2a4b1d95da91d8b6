//! What a download asks for, and what it does when something fails.

use lfs_protocol::Oid;

use crate::agent::{Agent, Moved, Repository, noise, take};
use crate::stand_in::{Fault, StandIn};

/// Gets an object and puts it where `git lfs` would.
fn download(server: &StandIn, repository: &Repository, oid: Oid, bytes: &[u8]) -> Moved {
    let mut agent = Agent::start(repository, "download");
    let moved = agent.download(server, oid, bytes.len());
    agent.end();
    if moved.complete["error"].is_null() {
        moved.assert_done(bytes.len());
        let to = repository.object_path(&oid.to_string());
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        std::fs::rename(moved.path(), &to).expect("on one file system");
        assert!(std::fs::read(to).expect("readable") == bytes, "other bytes came");
    }
    moved
}

fn asked_chunks(server: &StandIn) -> usize {
    server.state().served_chunks
}

#[test]
fn objects_of_every_size_come() {
    let (server, repository) = (StandIn::start(), Repository::new());
    for len in [0, 1, 100_000, 3 << 20, 70 << 20] {
        let bytes = noise(len as u64 + 30, len);
        let oid = server.keep(&bytes);
        download(&server, &repository, oid, &bytes).assert_done(len);
    }
    assert_eq!(
        server.count("/chunks"),
        5,
        "two for the largest, none for the empty one"
    );
    assert!(
        repository
            .files_below(&repository.lfs().join("auxin/partial"))
            .is_empty()
    );
}

#[test]
fn what_is_here_is_not_asked_for_and_a_false_note_does_no_harm() {
    let (server, repository) = (StandIn::start(), Repository::new());
    let (first, second, third) = (take(1, 8, 6 << 20), take(1, 5000, 6 << 20), take(1, 9000, 6 << 20));
    let oid = server.keep(&first);
    download(&server, &repository, oid, &first);
    let before = asked_chunks(&server);

    let again = server.keep(&second);
    download(&server, &repository, again, &second).assert_done(second.len());
    let new = asked_chunks(&server) - before;
    assert!((1..10).contains(&new), "{new} chunks");

    // Somebody damages what is here: it is noticed chunk by chunk, and got.
    for oid in [oid, again] {
        let path = repository.object_path(&oid.to_string());
        let mut bytes = std::fs::read(&path).expect("readable");
        for at in (1 << 20..2 << 20).step_by(1000) {
            bytes[at] ^= 1;
        }
        std::fs::write(&path, bytes).expect("written");
    }
    let before = asked_chunks(&server);
    let oid = server.keep(&third);
    download(&server, &repository, oid, &third).assert_done(third.len());
    let new = asked_chunks(&server) - before;
    assert!((10..120).contains(&new), "{new} chunks");
}

#[test]
fn what_an_upload_brought_is_known_when_something_comes() {
    let (server, repository) = (StandIn::start(), Repository::new());
    let (ours, theirs) = (take(2, 8, 4 << 20), take(2, 700, 4 << 20));
    let object = repository.add(&ours);
    Agent::start(&repository, "upload")
        .upload(&server, &ours, &object)
        .assert_done(ours.len());
    let oid = server.keep(&theirs);
    download(&server, &repository, oid, &theirs).assert_done(theirs.len());
    let asked = asked_chunks(&server);
    assert!((1..10).contains(&asked), "{asked} chunks");
}

#[test]
fn what_repeats_in_a_file_comes_once() {
    let (server, repository) = (StandIn::start(), Repository::new());
    let part = noise(31, 2 << 20);
    let bytes = part.repeat(4);
    let oid = server.keep(&bytes);
    download(&server, &repository, oid, &bytes).assert_done(bytes.len());
    let (asked, different) = (asked_chunks(&server), server.state().chunks.len());
    assert_eq!(asked, different);
}

#[test]
fn a_cut_stream_goes_on_where_it_ended_also_in_another_process() {
    let (server, repository) = (StandIn::start(), Repository::new());
    let bytes = noise(32, 10 << 20);
    let oid = server.keep(&bytes);
    let all = server.state().chunks.len();
    server.fail("/recipe", Fault::CutAnswer(100));
    server.fail("/chunks", Fault::CutAnswer(3 << 20));
    server.fail("/chunks", Fault::Status(503));
    server.fail("/chunks", Fault::CutAnswer(2 << 20));
    server.fail("/chunks", Fault::Status(403));
    let moved = download(&server, &repository, oid, &bytes);
    assert_eq!(moved.error(), (403, "The drummer is late."));
    moved.assert_progress(bytes.len());
    let before = asked_chunks(&server);

    download(&server, &repository, oid, &bytes).assert_done(bytes.len());

    let rest = asked_chunks(&server) - before;
    assert!((all / 3..all * 2 / 3).contains(&rest), "{rest} of {all}");
    assert!(server.state().faults.is_empty());
}

#[test]
fn a_recipe_that_makes_another_object_gives_nothing() {
    let (server, repository) = (StandIn::start(), Repository::new());
    let bytes = noise(33, 300_000);
    let oid = server.keep(&bytes);
    let other = server.keep(&noise(34, 300_000));
    {
        let mut state = server.state();
        let mut wrong = state.objects[&other.to_string()].clone();
        wrong.oid = oid;
        state.objects.insert(oid.to_string(), wrong);
    }
    let moved = download(&server, &repository, oid, &bytes);
    assert!(moved.error().1.contains("do not make this object"), "{moved:?}");
    assert!(repository.files_below(&repository.lfs().join("auxin")).is_empty());
    let absent = download(&server, &repository, Oid::EMPTY, b"x");
    assert_eq!(absent.error().0, 404);
}
