//! What an upload sends, and what it does when something fails.

use lfs_protocol::Oid;

use crate::agent::{Agent, Moved, Repository, noise, take};
use crate::stand_in::{Fault, StandIn};

fn upload(server: &StandIn, repository: &Repository, bytes: &[u8]) -> Moved {
    let object = repository.add(bytes);
    let mut agent = Agent::start(repository, "upload");
    let moved = agent.upload(server, bytes, &object);
    agent.end();
    moved
}

fn assert_there(server: &StandIn, bytes: &[u8]) {
    let oid = Oid::from_sha256(*lfs_protocol::ChunkId::of(bytes).as_bytes());
    assert!(server.object(&oid.to_string()).expect("it is there") == bytes);
}

#[test]
fn objects_of_every_size_arrive_and_small_ones_take_one_request() {
    let (server, repository) = (StandIn::start(), Repository::new());
    let mut agent = Agent::start(&repository, "upload");
    for (len, requests) in [
        (0, 1),
        (1, 1),
        (100_000, 1),
        (1 << 20, 2),
        ((1 << 20) + 1, 3),
        (3 << 20, 3),
    ] {
        // Without the requests for new tokens, whose number depends on the clock.
        let count = || server.count("") - server.count("/token");
        let before = count();
        let bytes = noise(len as u64 + 1, len);
        agent.upload(&server, &bytes, &repository.add(&bytes)).assert_done(len);
        assert_there(&server, &bytes);
        assert_eq!(count() - before, requests, "{len} bytes: {:?}", server.state().requests);
    }
    agent.end();
    assert!(repository.files_below(&repository.lfs().join("tmp")).is_empty());
}

#[test]
fn only_what_is_new_travels() {
    let (server, repository) = (StandIn::start(), Repository::new());
    let first = take(1, 8, 6 << 20);
    upload(&server, &repository, &first).assert_done(first.len());
    let sent = server.sent_bytes("/packs/");
    assert!(sent > 6 << 20, "{sent} of noise");

    let again = take(1, 5000, 6 << 20);
    upload(&server, &repository, &again).assert_done(again.len());

    assert_there(&server, &again);
    let new = server.sent_bytes("/packs/") - sent;
    assert!((1..8 << 10).contains(&new), "{new} bytes for a header of 5000");
}

#[test]
fn a_large_object_goes_in_packs_and_what_repeats_goes_once() {
    let (server, repository) = (StandIn::start(), Repository::new());
    let part = noise(5, 30 << 20);
    let bytes = [&part[..], &noise(6, 20 << 20), &part].concat();

    let moved = upload(&server, &repository, &bytes);

    moved.assert_done(bytes.len());
    assert_there(&server, &bytes);
    assert_eq!(server.count("/packs/"), 2);
    let sent = server.sent_bytes("/packs/");
    assert!(sent < 52 << 20, "{sent} bytes");
    assert!(moved.progress.len() > 50, "{:?}", moved.progress);
}

#[test]
fn cuts_refusals_that_pass_and_lost_answers_are_tried_again() {
    let (server, repository) = (StandIn::start(), Repository::new());
    let bytes = noise(7, 5 << 20);
    for (word, fault) in [
        ("/token", Fault::Status(503)),
        ("/missing", Fault::CutRequest(10)),
        ("/missing", Fault::Status(429)),
        ("/missing", Fault::CutAnswer(3)),
        ("/packs/", Fault::CutRequest(3 << 20)),
        ("/packs/", Fault::Status(500)),
        ("/packs/", Fault::LoseAnswer),
        ("/objects/", Fault::LoseAnswer),
        ("/objects/", Fault::Status(502)),
    ] {
        server.fail(word, fault);
    }

    let moved = upload(&server, &repository, &bytes);

    moved.assert_done(bytes.len());
    assert_there(&server, &bytes);
    assert!(server.state().faults.is_empty(), "each fault happened");
}

#[test]
fn a_refusal_is_told_in_the_words_of_the_server_and_not_tried_again() {
    let (server, repository) = (StandIn::start(), Repository::new());
    for (word, status) in [
        ("/packs/", 507),
        ("/missing", 404),
        ("/objects/", 422),
        ("/missing", 403),
    ] {
        server.fail(word, Fault::Status(status));
        let bytes = noise(8, 2 << 20);
        let moved = upload(&server, &repository, &bytes);
        assert_eq!(moved.error(), (u64::from(status), "The drummer is late."));
        moved.assert_progress(bytes.len());
        assert!(server.state().faults.is_empty());
    }
}

#[test]
fn chunks_that_the_server_lost_meanwhile_are_sent() {
    let (server, repository) = (StandIn::start(), Repository::new());
    let (small, large) = (noise(9, 300_000), noise(10, 4 << 20));
    for bytes in [&small, &large] {
        upload(&server, &repository, bytes).assert_done(bytes.len());
        server.state().objects.clear();
        let mut state = server.state();
        let lost: Vec<[u8; 32]> = state.chunks.keys().take(3).copied().collect();
        for id in lost {
            state.chunks.remove(&id);
        }
        // At first it believes that it has them.
        state.forgets = 1;
        drop(state);
        upload(&server, &repository, bytes).assert_done(bytes.len());
        assert_there(&server, bytes);
        assert_eq!(server.state().forgets, 0);
    }
    server.state().forgets = 100;
    server.state().chunks.clear();
    let moved = upload(&server, &repository, &large);
    assert!(moved.error().1.contains("keeps losing"), "{moved:?}");
}

#[test]
fn the_proof_is_waited_for_with_progress() {
    let (server, repository) = (StandIn::start(), Repository::new());
    for len in [50_000, 4 << 20] {
        server.state().proving = 4;
        let bytes = noise(11, len);
        upload(&server, &repository, &bytes).assert_done(len);
        assert_eq!(server.state().proving, 0);
    }
    // A server that was started anew knows of no proof.
    server.state().proving = 2;
    server.fail("/proof", Fault::Status(404));
    let bytes = noise(12, 3 << 20);
    upload(&server, &repository, &bytes).assert_done(bytes.len());
}

#[test]
fn what_is_sent_before_the_agent_is_killed_is_not_sent_again() {
    let (server, repository) = (StandIn::start(), Repository::new());
    let bytes = noise(13, 70 << 20);
    let object = repository.add(&bytes);
    let mut agent = Agent::start(&repository, "upload");
    let size = bytes.len();
    agent.say(&serde_json::json!({"event": "upload", "oid": object.0.to_string(), "size": size, "path": object.1,
        "action": {"href": format!("{}/objects/{}?size={size}", server.url, object.0), "header": {"Auxin-Chunking": "1"}}}));
    let started = std::time::Instant::now();
    while server.count("/packs/") < 1 {
        assert!(started.elapsed().as_secs() < 100, "no pack came");
        std::thread::yield_now();
    }
    drop(agent);
    let before = server.sent_bytes("/packs/");

    upload(&server, &repository, &bytes).assert_done(bytes.len());

    assert_there(&server, &bytes);
    let in_all = server.sent_bytes("/packs/");
    assert!(before >= 31 << 20, "{before}");
    assert!(in_all < bytes.len() + (34 << 20), "at most one pack twice: {in_all}");
    assert!(repository.files_below(&repository.lfs().join("tmp")).is_empty());
}

#[test]
fn a_file_that_is_not_what_its_name_says_is_not_sent() {
    let (server, repository) = (StandIn::start(), Repository::new());
    let bytes = noise(14, 2 << 20);
    let object = repository.add(&bytes);
    let mut agent = Agent::start(&repository, "upload");
    for (other, words) in [
        (noise(15, 2 << 20), "not what its name says"),
        (noise(14, 1 << 20), "not the 2097152"),
        (noise(14, 3 << 20), "more than the 2097152"),
    ] {
        std::fs::write(&object.1, other).expect("written");
        let moved = agent.upload(&server, &bytes, &object);
        assert!(moved.error().1.contains(words), "{moved:?}");
    }
    std::fs::remove_file(&object.1).expect("removed");
    assert_eq!(agent.upload(&server, &bytes, &object).error().0, 500);
    std::fs::write(&object.1, &bytes).expect("written");
    agent.upload(&server, &bytes, &object).assert_done(bytes.len());
    assert_eq!(server.count("/missing"), 1, "nothing was asked before");
    agent.end();
}

#[test]
fn a_token_is_renewed_before_it_ends() {
    let (server, repository) = (StandIn::start(), Repository::new());
    {
        let mut state = server.state();
        state.token = Some("first".to_owned());
        // Always older than half of its time.
        state.token_secs = 0;
    }
    let bytes = noise(16, 3 << 20);
    upload(&server, &repository, &bytes).assert_done(bytes.len());
    assert!(server.state().tokens >= 4, "{}", server.state().tokens);

    // One that has ended can not be renewed, and that is told.
    server.state().token = Some("another".to_owned());
    server.fail("/token", Fault::Status(401));
    let bytes = noise(17, 3 << 20);
    let moved = upload(&server, &repository, &bytes);
    assert_eq!(moved.error(), (401, "The token has expired."));
}

#[test]
fn a_server_that_takes_no_such_cuts_is_told_apart() {
    let (server, repository) = (StandIn::start(), Repository::new());
    let bytes = noise(18, 2000);
    let (oid, path) = repository.add(&bytes);
    let mut agent = Agent::start(&repository, "upload");
    agent.say(
        &serde_json::json!({"event": "upload", "oid": oid.to_string(), "size": 2000, "path": path,
        "action": {"href": format!("{}/objects/{oid}?size=2000", server.url), "header": {"Auxin-Chunking": "7"}}}),
    );
    // Another one is asked for at once, so that the answer of the first is read here.
    let moved = agent.upload(&server, &bytes, &(oid, path));
    assert!(moved.error().1.contains("takes no files"), "{moved:?}");
    assert_eq!(server.count(""), 0);
}

#[test]
fn other_repositories_of_the_server_are_named() {
    let (server, repository) = (StandIn::start(), Repository::new());
    let root = server
        .url
        .strip_suffix("/anna/song.git/info/lfs/auxin")
        .expect("an address");
    repository.config("remote.origin.url", &format!("{root}/anna/song.git"));
    repository.config(
        "remote.ben.url",
        &format!("{}/ben/song", root.replace("://", "://anna@")),
    );
    repository.config("remote.far.url", "https://elsewhere.org/ben/secret");
    repository.config("auxin.with", "anna/loops");
    let bytes = noise(20, 2 << 20);
    upload(&server, &repository, &bytes).assert_done(bytes.len());
    let named = "with=ben/song&with=anna/loops";
    assert_eq!(
        server.state().queries,
        [named.to_owned(), format!("size={}&{named}", bytes.len())]
    );

    repository.config("auxin.with", "loops");
    let moved = upload(&server, &repository, &noise(21, 100));
    assert!(moved.error().1.contains("OWNER/NAME"), "{moved:?}");
}

#[test]
#[cfg(target_os = "linux")]
fn one_agent_holds_little_memory() {
    let (server, repository) = (StandIn::start(), Repository::new());
    let bytes = noise(19, 100 << 20);
    let object = repository.add(&bytes);
    let mut agent = Agent::start(&repository, "upload");
    agent.upload(&server, &bytes, &object).assert_done(bytes.len());
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.id())).expect("it runs");
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("a peak");
    let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(peak_kib < 30 << 10, "{peak_kib} KiB");
    agent.end();
}
