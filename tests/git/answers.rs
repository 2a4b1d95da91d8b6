//! Answers that are remembered: never stale, and made once for many.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use auxin::git::snapshot::Repository;
use auxin::git::upload_pack::{self, AnswerLimits, Answers, Protocol, UploadOptions, UploadStats};
use auxin::git::work::Work;

use crate::fetch_support::{Answer, Random, Repo, run_git, v2};

fn open(repo: &Repo, disk_bytes: u64) -> Arc<Repository> {
    let limits = AnswerLimits {
        memory_bytes: 16 << 20,
        disk_bytes,
        folder: repo.beside("cache"),
    };
    std::fs::create_dir_all(&limits.folder).expect("a folder");
    Repository::open_with(&repo.path, false, Some(Answers::new(&limits))).expect("opens")
}

fn ask(repo: &Repo, repository: &Repository, protocol: Protocol, mut body: &[u8]) -> (Vec<u8>, UploadStats) {
    let work = Work::unlimited();
    let options = UploadOptions {
        protocol,
        limits: &repo.settings,
        grace_tips: &Vec::new,
        bundle_base: None,
        seen: None,
        work: &work,
    };
    let mut answer = Vec::new();
    let stats = upload_pack::serve(repository, &options, &mut body, &mut answer).expect("serves");
    (answer, stats)
}

fn advertisement(repo: &Repo, repository: &Repository, protocol: Protocol) -> Vec<u8> {
    let work = Work::unlimited();
    let options = UploadOptions {
        protocol,
        limits: &repo.settings,
        grace_tips: &Vec::new,
        bundle_base: None,
        seen: None,
        work: &work,
    };
    let mut answer = Vec::new();
    upload_pack::advertise(&repository.snapshot().expect("reads"), &options, &mut answer).expect("writes");
    answer
}

fn listing_bodies() -> Vec<Vec<u8>> {
    let argument = |text: &str| text.to_owned();
    vec![
        v2("ls-refs", &[]),
        v2("ls-refs", &[argument("peel"), argument("symrefs"), argument("unborn")]),
        v2("ls-refs", &[argument("peel"), argument("ref-prefix refs/heads/")]),
        v2(
            "ls-refs",
            &[argument("ref-prefix refs/tags/"), argument("ref-prefix HEAD")],
        ),
    ]
}

/// A repository with so many refs that its lists are remembered.
fn with_many_refs() -> Repo {
    let repo = Repo::linear(20);
    for number in 0..200 {
        let commit = &repo.commits[number % repo.commits.len()];
        repo.git(&["update-ref", &format!("refs/heads/take-{number:03}"), commit]);
    }
    repo.git(&["tag", "-a", "-m", "x", "v1", "HEAD"]);
    repo
}

fn fetch_all(repo: &Repo) -> Vec<u8> {
    let tips = repo.git(&["for-each-ref", "--format=%(objectname)", "refs/heads", "refs/tags"]);
    let mut arguments: Vec<String> = tips.lines().map(|tip| format!("want {tip}")).collect();
    arguments.extend(["ofs-delta", "no-progress", "include-tag", "done"].map(str::to_owned));
    v2("fetch", &arguments)
}

#[test]
fn no_change_leaves_a_stale_answer() {
    let repo = with_many_refs();
    let repository = open(&repo, 1 << 30);
    let changes: [&[&str]; 7] = [
        &["update-ref", "refs/heads/new", "main~3"],
        &["update-ref", "refs/heads/take-000", "main~7"],
        &["update-ref", "-d", "refs/heads/take-001"],
        &["config", "transfer.hideRefs", "refs/heads/take-1"],
        &["pack-refs", "--all"],
        &["repack", "-adbq"],
        &["symbolic-ref", "HEAD", "refs/heads/take-002"],
    ];
    for change in changes {
        repo.git(change);
        for round in 0..2 {
            for protocol in [Protocol::V0, Protocol::V1] {
                let (ours, fresh) = (advertisement(&repo, &repository, protocol), repo.advertise(protocol));
                assert_eq!(ours, fresh, "{change:?}, round {round}");
            }
            for body in listing_bodies() {
                let (ours, fresh) = (
                    ask(&repo, &repository, Protocol::V2, &body).0,
                    repo.serve(Protocol::V2, &body),
                );
                assert_eq!(ours, fresh, "{change:?}, round {round}");
            }
            let body = fetch_all(&repo);
            let (ours, fresh) = (
                ask(&repo, &repository, Protocol::V2, &body).0,
                repo.serve(Protocol::V2, &body),
            );
            let packs = [ours, fresh].map(|answer| Answer::of_v2(&answer).pack);
            assert_eq!(packs[0], packs[1], "{change:?}, round {round}");
        }
    }
}

#[test]
fn what_was_hidden_meanwhile_is_not_to_be_had_from_memory() {
    let repo = with_many_refs();
    let repository = open(&repo, 1 << 30);
    repo.git(&[
        "update-ref",
        "refs/secret/one",
        repo.git(&["commit-tree", "-m", "secret", "HEAD^{tree}"]).trim(),
    ]);
    let secret = repo.id("refs/secret/one");
    let body = v2("fetch", &[format!("want {secret}"), "done".to_owned()]);
    let (before, _) = ask(&repo, &repository, Protocol::V2, &body);
    assert!(Answer::of_v2(&before).pack.is_some());

    repo.git(&["config", "transfer.hideRefs", "refs/secret"]);

    let work = Work::unlimited();
    let options = UploadOptions {
        protocol: Protocol::V2,
        limits: &repo.settings,
        grace_tips: &Vec::new,
        bundle_base: None,
        seen: None,
        work: &work,
    };
    let mut answer = Vec::new();
    let refused = upload_pack::serve(&repository, &options, &mut &body[..], &mut answer);
    assert!(refused.is_err());
    assert!(String::from_utf8_lossy(&answer).contains("not our ref"));
}

#[test]
fn many_clones_at_once_get_the_same_pack_with_and_without_room_on_disk() {
    for disk_bytes in [1 << 30, 300_000, 0] {
        let repo = Repo::linear(300);
        // Not one file as it lies, and more than is kept in memory.
        let mut random = Random::new(7);
        let noise: Vec<u8> = (0..400_000).map(|_| random.below(256) as u8).collect();
        let noise = run_git(&repo.path, &["hash-object", "-w", "--stdin"], &noise).1;
        let noise = String::from_utf8(noise).expect("an id");
        let tree = format!("100644 blob {}\tnoise.wav\n", noise.trim());
        let tree = run_git(&repo.path, &["mktree"], tree.as_bytes()).1;
        let tree = String::from_utf8(tree).expect("an id");
        let commit = repo.git(&["commit-tree", "-m", "noise", "-p", "HEAD", tree.trim()]);
        repo.git(&["update-ref", "refs/heads/main", commit.trim()]);
        let repository = open(&repo, disk_bytes);
        let body = fetch_all(&repo);
        let expected = Answer::of_v2(&repo.serve(Protocol::V2, &body)).pack;
        assert!(expected.as_ref().is_some_and(|pack| pack.len() > 300_000));
        let barrier = Barrier::new(12);
        let equal = AtomicUsize::new(0);
        for _ in 0..2 {
            std::thread::scope(|scope| {
                for _ in 0..12 {
                    scope.spawn(|| {
                        barrier.wait();
                        let (answer, stats) = ask(&repo, &repository, Protocol::V2, &body);
                        let pack = Answer::of_v2(&answer).pack;
                        assert_eq!(
                            stats.pack.map(|pack| pack.bytes),
                            pack.as_ref().map(|pack| pack.len() as u64)
                        );
                        equal.fetch_add(usize::from(pack == expected), Ordering::Relaxed);
                    });
                }
            });
        }

        assert_eq!(equal.into_inner(), 24, "{disk_bytes} bytes of disk");
        let left = std::fs::read_dir(repo.beside("cache")).expect("lists").count();
        assert_eq!(left, 0, "no file has a name");
    }
}
