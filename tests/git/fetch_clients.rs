//! Stock git clones and fetches, in every protocol version.

use std::path::Path;

use crate::fetch_host::Host;
use crate::fetch_support::{Repo, run_git};

const VERSIONS: [u8; 3] = [0, 1, 2];

fn git(folder: &Path, arguments: &[&str]) -> String {
    let (ok, out, errors) = run_git(folder, arguments, b"");
    assert!(ok, "git {arguments:?}: {errors}");
    String::from_utf8(out).expect("text").trim_end().to_owned()
}

fn assert_sound(folder: &Path) {
    let (ok, _, errors) = run_git(folder, &["fsck", "--strict", "--no-dangling"], b"");
    assert!(ok, "{errors}");
}

fn refs(folder: &Path) -> String {
    git(folder, &["for-each-ref", "--format=%(objectname) %(refname)"])
}

#[test]
fn a_mirror_clone_has_every_ref_and_every_object() {
    for version in VERSIONS {
        for seed in 301..305 {
            let repo = Repo::random(seed);
            let host = Host::start(&repo);

            let mirror = host.clone(&repo, version, "mirror", &["--mirror"]);

            assert_eq!(refs(&mirror), refs(&repo.path));
            assert_sound(&mirror);
        }
    }
}

#[test]
fn a_clone_of_an_empty_repository_learns_its_branch_name() {
    let repo = Repo::empty();
    repo.git(&["symbolic-ref", "HEAD", "refs/heads/studio"]);
    let host = Host::start(&repo);

    let clone = host.clone(&repo, 2, "clone", &[]);
    host.clone(&repo, 0, "old", &[]);

    assert_eq!(git(&clone, &["symbolic-ref", "HEAD"]), "refs/heads/studio");
}

#[test]
fn a_fetch_brings_only_what_is_new() {
    for version in VERSIONS {
        let repo = Repo::linear(30);
        let tip = repo.id("main");
        repo.git(&["update-ref", "refs/heads/main", &repo.commits[20]]);
        let host = Host::start(&repo);
        let clone = host.clone(&repo, version, "clone", &["--bare"]);

        repo.git(&["update-ref", "refs/heads/main", &tip]);
        repo.git(&["tag", "-a", "-m", "x", "v1", &tip]);
        let said = host.git(version, &clone, &["fetch", "--progress", "{url}", "main:main"]);

        assert_eq!(git(&clone, &["rev-parse", "main"]), tip);
        assert_eq!(git(&clone, &["rev-parse", "v1"]), repo.id("v1"), "the tag came along");
        assert_sound(&clone);
        // Nine commits, each with at most eleven files and folders, and a tag.
        let total: usize = said
            .lines()
            .find_map(|line| line.strip_prefix("remote: Total "))
            .and_then(|rest| rest.split(' ').next()?.parse().ok())
            .expect("a line with the total");
        assert!((10..=9 * 12 + 1).contains(&total), "{said}");
    }
}

#[test]
fn a_fetch_with_nothing_new_moves_nothing() {
    for version in VERSIONS {
        let repo = Repo::random(310);
        let host = Host::start(&repo);
        let mirror = host.clone(&repo, version, "mirror", &["--mirror"]);

        host.git(version, &mirror, &["fetch", "{url}", "+refs/*:refs/*"]);

        assert_eq!(refs(&mirror), refs(&repo.path));
    }
}

#[test]
fn a_shallow_clone_is_deepened_step_by_step_and_then_whole() {
    for version in VERSIONS {
        let repo = Repo::linear(20);
        let host = Host::start(&repo);
        let clone = host.clone(&repo, version, "clone", &["--depth=3", "--bare"]);
        let count = || git(&clone, &["rev-list", "--count", "main"]);
        assert_eq!(count(), "3");
        assert_sound(&clone);

        host.git(version, &clone, &["fetch", "--depth=5", "{url}", "main"]);
        assert_eq!(count(), "5");
        assert_sound(&clone);

        host.git(version, &clone, &["fetch", "--deepen=4", "{url}", "main"]);
        assert_eq!(count(), "9");
        assert_sound(&clone);

        host.git(
            version,
            &clone,
            &["fetch", "--shallow-since=1700000420", "{url}", "main"],
        );
        assert_eq!(count(), "14");
        assert_sound(&clone);

        host.git(version, &clone, &["fetch", "--unshallow", "{url}", "main"]);
        assert_eq!(count(), "20");
        assert_sound(&clone);
    }
}

#[test]
fn a_shallow_clone_can_become_shallower() {
    for version in VERSIONS {
        let repo = Repo::linear(20);
        let host = Host::start(&repo);
        let clone = host.clone(&repo, version, "clone", &["--depth=8", "--bare"]);

        host.git(version, &clone, &["fetch", "--depth=2", "{url}", "main"]);

        assert_eq!(git(&clone, &["rev-list", "--count", "main"]), "2");
    }
}

#[test]
fn a_shallow_clone_of_a_branching_history_is_sound_after_each_fetch() {
    for version in VERSIONS {
        for seed in 320..326 {
            let repo = Repo::random(seed);
            let host = Host::start(&repo);
            let mirror = host.clone(&repo, version, "mirror", &["--mirror", "--depth=2"]);
            assert_sound(&mirror);

            for more in ["--depth=4", "--deepen=2", "--depth=2147483647"] {
                host.git(version, &mirror, &["fetch", more, "{url}", "+refs/*:refs/*"]);
                assert_sound(&mirror);
            }

            assert_eq!(refs(&mirror), refs(&repo.path));
            assert!(!mirror.join("shallow").exists());
        }
    }
}

#[test]
fn history_before_a_tag_can_be_left_out() {
    for version in VERSIONS {
        let repo = Repo::linear(12);
        repo.git(&["tag", "v1", &repo.commits[4]]);
        let host = Host::start(&repo);

        let clone = host.clone(
            &repo,
            version,
            "clone",
            &["--bare", "--single-branch", "--shallow-exclude=v1"],
        );

        assert_eq!(git(&clone, &["rev-list", "--count", "main"]), "7");
        assert_sound(&clone);
    }
}

#[test]
fn a_partial_clone_lacks_blobs_and_fetches_them_when_needed() {
    for version in VERSIONS {
        let repo = Repo::linear(10);
        let host = Host::start(&repo);

        let clone = host.clone(&repo, version, "clone", &["--filter=blob:none", "--no-checkout"]);
        let missing = |clone: &Path| {
            git(
                clone,
                &["rev-list", "--objects", "--all", "--missing=print", "--no-object-names"],
            )
            .lines()
            .filter(|line| line.starts_with('?'))
            .count()
        };
        let before = missing(&clone);
        host.git(version, &clone, &["checkout", "-q", "main"]);

        assert!(before > 10, "{before}");
        let after = missing(&clone);
        assert!(after < before && after > 0, "{before} {after}");
        assert!(clone.join("own10.txt").exists());
    }
}

#[test]
fn filters_of_every_kind_are_served() {
    let repo = Repo::linear(10);
    let host = Host::start(&repo);
    for (number, filter) in [
        "blob:limit=100",
        "tree:0",
        "tree:2",
        "object:type=commit",
        "combine:tree:2+blob:none",
    ]
    .iter()
    .enumerate()
    {
        let argument = format!("--filter={filter}");
        let clone = host.clone(&repo, 2, &format!("clone{number}"), &["--bare", &argument]);
        assert_eq!(git(&clone, &["rev-list", "--count", "main"]), "10", "{filter}");
    }
}

#[test]
fn an_object_can_be_fetched_by_its_id() {
    for version in VERSIONS {
        let repo = Repo::linear(10);
        let host = Host::start(&repo);
        let clone = host.clone(&repo, version, "clone", &["--bare", "--depth=1"]);

        host.git(version, &clone, &["fetch", "--depth=1", "{url}", &repo.commits[3]]);

        assert_eq!(git(&clone, &["cat-file", "-t", &repo.commits[3]]), "commit");
        assert_sound(&clone);
    }
}

#[test]
fn a_shallow_repository_is_cloned_with_its_boundary() {
    for version in VERSIONS {
        let repo = Repo::linear(10);
        let cut = format!("{}\n", repo.commits[5]);
        std::fs::write(repo.path.join("shallow"), cut).expect("writes");
        let host = Host::start(&repo);

        let clone = host.clone(&repo, version, "clone", &["--bare"]);
        let cut_further = host.clone(&repo, version, "further", &["--bare", "--depth=2"]);
        host.git(version, &cut_further, &["fetch", "--depth=4", "{url}", "main"]);

        assert_eq!(git(&clone, &["rev-list", "--count", "main"]), "5");
        assert_sound(&clone);
        assert_eq!(git(&cut_further, &["rev-list", "--count", "main"]), "4");
    }
}

#[test]
fn a_fetch_of_many_refs_with_a_compressed_request_works() {
    for version in VERSIONS {
        let repo = Repo::linear(60);
        for (number, id) in repo.commits.iter().enumerate() {
            for copy in 0..10 {
                repo.git(&["update-ref", &format!("refs/heads/many/{number}-{copy}"), id]);
            }
        }
        let host = Host::start(&repo);

        let mirror = host.clone(&repo, version, "mirror", &["--mirror"]);

        assert_eq!(refs(&mirror), refs(&repo.path));
    }
}

#[test]
fn refs_that_are_wanted_by_name_arrive() {
    let repo = Repo::linear(10);
    repo.git(&["config", "uploadpack.allowRefInWant", "true"]);
    repo.git(&["branch", "side", &repo.commits[4]]);
    let host = Host::start(&repo);
    let clone = host.clone(&repo, 2, "clone", &["--bare"]);

    assert_eq!(refs(&clone), refs(&repo.path));
}

#[test]
fn a_client_may_ask_what_is_common_without_fetching() {
    let repo = Repo::linear(10);
    let host = Host::start(&repo);
    let clone = host.clone(&repo, 2, "clone", &[]);

    let common = host.git(
        2,
        &clone,
        &["fetch", "--negotiate-only", "--negotiation-tip=HEAD", "{url}"],
    );

    assert_eq!(common.trim_end(), repo.id("main"));
}

#[test]
fn names_that_are_not_text_survive() {
    use std::os::unix::ffi::OsStrExt;
    let repo = Repo::linear(2);
    let folder = repo.path.join("refs/heads");
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9");
    std::fs::write(folder.join(name), format!("{}\n", repo.commits[0])).expect("writes");
    let host = Host::start(&repo);

    for version in VERSIONS {
        let mirror = host.clone(&repo, version, &format!("mirror{version}"), &["--mirror"]);
        let (_, ours, _) = run_git(&mirror, &["for-each-ref"], b"");
        let (_, theirs, _) = run_git(&repo.path, &["for-each-ref"], b"");
        assert_eq!(ours, theirs);
    }
}
