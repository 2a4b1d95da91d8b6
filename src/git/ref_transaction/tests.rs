//! Refs changed beside stock git, which must agree with every outcome.

use std::path::Path;
use std::process::Command;

use super::lock::LOCK_MARK;
use super::*;

struct Repo {
    folder: tempfile::TempDir,
    commits: Vec<ObjectId>,
    tag: ObjectId,
    identity: ReflogIdentity,
}

impl Repo {
    /// A bare repository with a chain of commits and an annotated tag, and no refs.
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let identity = ReflogIdentity {
            name: "anna".into(),
            email: "anna@http.127.0.0.1".into(),
            at_secs: 1_700_000_000,
        };
        let mut repo = Self {
            folder,
            commits: Vec::new(),
            tag: ObjectId::null(gix::hash::Kind::Sha1),
            identity,
        };
        repo.git(&["init", "-q", "--bare", "-b", "main", "."]);
        let tree = repo.git(&["hash-object", "-t", "tree", "-w", "--stdin"]);
        for n in 0..4 {
            let id = repo.git(&["commit-tree", &tree, "-m", &n.to_string()]);
            repo.commits.push(id.parse().expect("an id"));
        }
        let first = repo.commits[0].to_string();
        repo.git(&["tag", "-a", "-m", "a tag", "t", &first]);
        repo.tag = repo.git(&["rev-parse", "refs/tags/t"]).parse().expect("an id");
        repo.git(&["update-ref", "-d", "refs/tags/t"]);
        repo
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn git(&self, args: &[&str]) -> String {
        let output = self.git_output(args);
        assert!(
            output.status.success(),
            "git {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    fn git_output(&self, args: &[&str]) -> std::process::Output {
        Command::new("git")
            .current_dir(self.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs([
                ("GIT_CONFIG_NOSYSTEM", "1"),
                ("HOME", "/nonexistent"),
                ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ])
            .envs([
                ("GIT_AUTHOR_NAME", "A"),
                ("GIT_AUTHOR_EMAIL", "a@b"),
                ("GIT_AUTHOR_DATE", "1700000000 +0000"),
            ])
            .envs([
                ("GIT_COMMITTER_NAME", "A"),
                ("GIT_COMMITTER_EMAIL", "a@b"),
                ("GIT_COMMITTER_DATE", "1700000000 +0000"),
            ])
            .args(args)
            .stdin(std::process::Stdio::null())
            .output()
            .expect("git runs")
    }

    fn apply(&self, updates: &[RefUpdate], atomic: bool) -> Vec<String> {
        self.apply_with(updates, atomic, None, &mut ())
    }

    fn apply_with(
        &self,
        updates: &[RefUpdate],
        atomic: bool,
        reflogs: Option<LogRefUpdates>,
        observer: &mut dyn Observer,
    ) -> Vec<String> {
        let results = self.with_store(reflogs, |store| store.apply(updates, atomic, observer));
        results
            .into_iter()
            .map(|result| result.map_or_else(|error| error.reason().to_owned(), |()| "ok".into()))
            .collect()
    }

    fn with_store<R>(&self, reflogs: Option<LogRefUpdates>, run: impl FnOnce(&RefStore<'_>) -> R) -> R {
        let peel = |id: &ObjectId| (*id == self.tag).then_some(self.commits[0]);
        run(&RefStore {
            git_dir: self.path(),
            reflogs,
            identity: &self.identity,
            peel: &peel,
        })
    }

    /// All refs as stock git lists them, after stock git found nothing wrong.
    fn refs(&self) -> Vec<String> {
        self.git(&["fsck", "--strict", "--no-dangling"]);
        let listed = self.git(&["for-each-ref", "--format=%(refname) %(objectname)"]);
        listed.lines().map(str::to_owned).collect()
    }

    fn line(&self, name: &str, n: usize) -> String {
        format!("{name} {}", self.commits[n])
    }

    fn files_left(&self) -> Vec<String> {
        let listed = Command::new("find")
            .arg(self.path())
            .args(["-name", "*.lock", "-o", "-name", "*auxin*"])
            .output();
        let listed = listed.expect("find runs").stdout;
        String::from_utf8_lossy(&listed).lines().map(str::to_owned).collect()
    }

    fn create(&self, name: &str, n: usize) -> RefUpdate {
        RefUpdate {
            name: name.into(),
            old: null(),
            new: self.commits[n],
        }
    }

    fn update(&self, name: &str, old: usize, new: usize) -> RefUpdate {
        RefUpdate {
            name: name.into(),
            old: self.commits[old],
            new: self.commits[new],
        }
    }

    fn delete(&self, name: &str, old: usize) -> RefUpdate {
        RefUpdate {
            name: name.into(),
            old: self.commits[old],
            new: null(),
        }
    }
}

fn null() -> ObjectId {
    ObjectId::null(gix::hash::Kind::Sha1)
}

#[test]
fn refs_are_made_moved_and_deleted_as_git_sees_them() {
    let repo = Repo::new();

    assert_eq!(
        repo.apply(
            &[repo.create("refs/heads/main", 0), repo.create("refs/heads/a/b/c", 1)],
            false
        ),
        ["ok", "ok"]
    );
    assert_eq!(
        repo.refs(),
        [repo.line("refs/heads/a/b/c", 1), repo.line("refs/heads/main", 0)]
    );
    assert_eq!(repo.apply(&[repo.update("refs/heads/main", 0, 2)], false), ["ok"]);
    assert_eq!(repo.apply(&[repo.delete("refs/heads/a/b/c", 1)], false), ["ok"]);

    assert_eq!(repo.refs(), [repo.line("refs/heads/main", 2)]);
    assert!(!repo.path().join("refs/heads/a").exists());
    assert!(repo.path().join("refs/heads").exists());
    assert_eq!(repo.files_left(), Vec::<String>::new());
}

#[test]
fn the_old_value_must_be_what_the_pusher_saw() {
    let repo = Repo::new();
    repo.apply(
        &[repo.create("refs/heads/loose", 0), repo.create("refs/heads/packed", 1)],
        false,
    );
    repo.git(&["pack-refs", "--all"]);
    repo.apply(&[repo.update("refs/heads/loose", 0, 1)], false);

    let results = repo.apply(
        &[
            repo.update("refs/heads/loose", 0, 2),
            repo.update("refs/heads/packed", 0, 2),
            repo.create("refs/heads/packed2", 2),
            repo.update("refs/heads/none", 0, 2),
            repo.delete("refs/heads/none2", 0),
        ],
        false,
    );

    let moved = "incorrect old value provided";
    let missing = "reference does not exist";
    assert_eq!(results, [moved, moved, "ok", missing, missing]);
    assert_eq!(
        repo.apply(&[repo.create("refs/heads/packed", 2)], false),
        ["reference already exists"]
    );
    assert_eq!(repo.files_left(), Vec::<String>::new());
}

#[test]
fn packed_refs_are_moved_and_deleted_and_not_rewritten_for_one_ref() {
    let repo = Repo::new();
    repo.apply(
        &[repo.create("refs/heads/one", 0), repo.create("refs/heads/two", 1)],
        false,
    );
    repo.git(&["pack-refs", "--all"]);
    let packed = || std::fs::read(repo.path().join("packed-refs")).expect("readable");
    let before = packed();

    assert_eq!(repo.apply(&[repo.update("refs/heads/one", 0, 2)], false), ["ok"]);
    assert_eq!(packed(), before);
    assert_eq!(
        repo.apply(
            &[repo.delete("refs/heads/one", 2), repo.delete("refs/heads/two", 1)],
            false
        ),
        ["ok", "ok"]
    );

    assert_eq!(repo.refs(), Vec::<String>::new());
    assert_eq!(repo.files_left(), Vec::<String>::new());
}

#[test]
fn refs_in_each_others_way_conflict_whether_loose_or_packed() {
    for packs in [false, true] {
        let repo = Repo::new();
        repo.apply(
            &[repo.create("refs/heads/a", 0), repo.create("refs/heads/b/c/d", 0)],
            false,
        );
        if packs {
            repo.git(&["pack-refs", "--all"]);
        }

        let results = repo.apply(
            &[
                repo.create("refs/heads/a/x", 1),
                repo.create("refs/heads/b/c", 1),
                repo.create("refs/heads/b/c/d/e", 1),
            ],
            false,
        );

        assert_eq!(results, ["refname conflict"; 3], "packed: {packs}");
        assert_eq!(
            repo.refs(),
            [repo.line("refs/heads/a", 0), repo.line("refs/heads/b/c/d", 0)]
        );
        assert_eq!(repo.files_left(), Vec::<String>::new());
    }
}

#[test]
fn refs_of_one_push_conflict_and_the_first_by_name_wins() {
    let repo = Repo::new();
    let updates = [
        repo.create("refs/heads/a/b", 0),
        repo.create("refs/heads/a", 1),
        repo.create("refs/heads/z", 1),
        repo.create("refs/heads/z", 2),
    ];

    assert_eq!(
        repo.apply(&updates, false),
        ["refname conflict", "ok", "ok", "refname conflict"]
    );
    assert_eq!(
        repo.refs(),
        [repo.line("refs/heads/a", 1), repo.line("refs/heads/z", 1)]
    );
}

#[test]
fn a_deleted_ref_makes_room_for_one_below_or_above_it() {
    for packs in [false, true] {
        let repo = Repo::new();
        repo.apply(
            &[repo.create("refs/heads/a", 0), repo.create("refs/heads/b/c", 0)],
            false,
        );
        if packs {
            repo.git(&["pack-refs", "--all"]);
        }

        let updates = [
            repo.create("refs/heads/a/x", 1),
            repo.create("refs/heads/b", 1),
            repo.delete("refs/heads/a", 0),
            repo.delete("refs/heads/b/c", 0),
        ];
        assert_eq!(repo.apply(&updates, false), ["ok"; 4], "packed: {packs}");

        assert_eq!(
            repo.refs(),
            [repo.line("refs/heads/a/x", 1), repo.line("refs/heads/b", 1)]
        );
    }
}

#[test]
fn an_empty_folder_in_the_way_is_removed() {
    let repo = Repo::new();
    std::fs::create_dir_all(repo.path().join("refs/heads/a/b/c")).expect("makes folders");

    assert_eq!(repo.apply(&[repo.create("refs/heads/a", 0)], false), ["ok"]);
    assert_eq!(repo.refs(), [repo.line("refs/heads/a", 0)]);
}

#[test]
fn an_atomic_push_changes_all_refs_or_none() {
    let repo = Repo::new();
    repo.apply(&[repo.create("refs/heads/a", 0), repo.create("refs/heads/b", 0)], false);

    let updates = [
        repo.update("refs/heads/a", 0, 1),
        repo.update("refs/heads/b", 1, 2),
        repo.create("refs/heads/c", 1),
    ];
    let atomic = "atomic transaction failed";
    assert_eq!(
        repo.apply(&updates, true),
        [atomic, "incorrect old value provided", atomic]
    );
    assert_eq!(
        repo.refs(),
        [repo.line("refs/heads/a", 0), repo.line("refs/heads/b", 0)]
    );

    let updates = [
        repo.update("refs/heads/a", 0, 1),
        repo.delete("refs/heads/b", 0),
        repo.create("refs/heads/c", 1),
    ];
    assert_eq!(repo.apply(&updates, true), ["ok"; 3]);
    assert_eq!(
        repo.refs(),
        [repo.line("refs/heads/a", 1), repo.line("refs/heads/c", 1)]
    );
    assert_eq!(repo.files_left(), Vec::<String>::new());
}

/// Lets somebody make a ref below `refs/heads/c` between the two halves of a transaction.
struct Intruder<'r>(&'r Repo);

impl Observer for Intruder<'_> {
    fn prepared(&mut self, _: &[&RefUpdate]) -> Result<(), String> {
        let folder = self.0.path().join("refs/heads/c");
        std::fs::create_dir(&folder).expect("a folder");
        std::fs::write(folder.join("d"), format!("{}\n", self.0.commits[0])).expect("writes");
        Ok(())
    }
    fn committed(&mut self, _: &[&RefUpdate]) {
        panic!("nothing may change");
    }
    fn aborted(&mut self, _: &[&RefUpdate]) {}
}

#[test]
fn an_atomic_push_that_fails_halfway_takes_back_what_it_changed() {
    let repo = Repo::new();
    repo.apply(
        &[repo.create("refs/heads/a", 0), repo.create("refs/heads/gone", 0)],
        false,
    );
    repo.git(&["pack-refs", "--all"]);
    let updates = [
        repo.update("refs/heads/a", 0, 1),
        repo.create("refs/heads/b", 1),
        repo.create("refs/heads/c", 1),
        repo.delete("refs/heads/gone", 0),
    ];

    let results = repo.apply_with(&updates, true, None, &mut Intruder(&repo));

    assert!(results.iter().all(|result| result != "ok"), "{results:?}");
    assert_eq!(
        repo.refs(),
        [
            repo.line("refs/heads/a", 0),
            repo.line("refs/heads/c/d", 0),
            repo.line("refs/heads/gone", 0)
        ]
    );
    assert_eq!(repo.files_left(), Vec::<String>::new());
}

#[test]
fn an_atomic_push_changes_nothing_while_somebody_else_is_packing_refs() {
    let repo = Repo::new();
    repo.apply(&[repo.create("refs/heads/a", 0), repo.create("refs/heads/b", 0)], false);
    repo.git(&["pack-refs", "--all"]);
    let lock = repo.path().join("packed-refs.lock");
    std::fs::write(&lock, "").expect("writes");
    let updates = [repo.update("refs/heads/a", 0, 1), repo.delete("refs/heads/b", 0)];

    let results = repo.apply(&updates, true);

    std::fs::remove_file(&lock).expect("removes");
    assert!(results.iter().all(|result| result != "ok"), "{results:?}");
    assert_eq!(
        repo.refs(),
        [repo.line("refs/heads/a", 0), repo.line("refs/heads/b", 0)]
    );
    assert_eq!(repo.apply(&updates, true), ["ok"; 2]);
}

#[test]
fn thousands_of_refs_go_into_packed_refs_with_what_tags_name() {
    let repo = Repo::new();
    repo.apply(
        &[repo.create("refs/heads/old", 0), repo.create("refs/heads/many/0007", 0)],
        false,
    );
    let mut updates: Vec<_> = (0..1500)
        .map(|n| repo.create(&format!("refs/heads/many/{n:04}"), 1))
        .collect();
    updates[7].old = repo.commits[0];
    updates.push(RefUpdate {
        name: "refs/tags/t".into(),
        old: null(),
        new: repo.tag,
    });

    assert!(repo.apply(&updates, true).iter().all(|result| result == "ok"));

    assert_eq!(repo.refs().len(), 1502);
    assert_eq!(
        repo.git(&["rev-parse", "refs/heads/many/0007"]),
        repo.commits[1].to_string()
    );
    assert_eq!(repo.git(&["rev-parse", "refs/tags/t^{}"]), repo.commits[0].to_string());
    let packed = std::fs::read_to_string(repo.path().join("packed-refs")).expect("readable");
    assert!(packed.contains(&format!("{} refs/tags/t\n^{}\n", repo.tag, repo.commits[0])));
    assert!(!repo.path().join("refs/heads/many").exists());
    assert_eq!(repo.files_left(), Vec::<String>::new());

    let deletes: Vec<_> = (0..1500)
        .map(|n| repo.delete(&format!("refs/heads/many/{n:04}"), 1))
        .collect();
    assert!(repo.apply(&deletes, false).iter().all(|result| result == "ok"));
    assert_eq!(repo.refs().len(), 2);
}

#[test]
fn a_ref_that_git_has_locked_is_waited_for_and_then_given_up() {
    let repo = Repo::new();
    let lock = repo.path().join("refs/heads/main.lock");
    std::fs::write(&lock, "").expect("writes");

    assert_eq!(
        repo.apply(&[repo.create("refs/heads/main", 0)], false),
        ["failed to update ref"]
    );
    assert!(lock.exists());
    std::fs::remove_file(&lock).expect("removes");
    assert_eq!(repo.apply(&[repo.create("refs/heads/main", 0)], false), ["ok"]);
}

#[test]
fn two_writers_of_one_ref_never_both_win() {
    let repo = Repo::new();
    for round in 0..20 {
        let name = format!("refs/heads/race/{round}");
        let wins: usize = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4)
                .map(|n| {
                    let (repo, update) = (&repo, repo.create(&name, n));
                    scope.spawn(move || usize::from(repo.apply(&[update], false) == ["ok"]))
                })
                .collect();
            writers.into_iter().map(|writer| writer.join().expect("no panic")).sum()
        });
        assert_eq!(wins, 1);
    }
}

#[test]
fn a_push_beside_git_pack_refs_loses_no_ref() {
    let repo = Repo::new();
    repo.apply(&[repo.create("refs/heads/a", 0), repo.create("refs/heads/b", 0)], false);
    std::thread::scope(|scope| {
        let packer = scope.spawn(|| {
            for _ in 0..30 {
                // It may find a lock and give up; it must not lose a ref.
                repo.git_output(&["pack-refs", "--all"]);
            }
        });
        let mut at = 0;
        while !packer.is_finished() {
            let next = (at + 1) % 4;
            let done = repo.apply(&[repo.update("refs/heads/a", at, next)], false);
            assert!(done == ["ok"] || done == ["failed to update ref"], "{done:?}");
            if done == ["ok"] {
                at = next;
            }
        }
        assert_eq!(repo.git(&["rev-parse", "refs/heads/a"]), repo.commits[at].to_string());
    });
}

#[test]
fn a_symbolic_ref_is_followed_to_the_ref_it_names() {
    let repo = Repo::new();
    repo.apply(&[repo.create("refs/heads/main", 0)], false);
    repo.git(&["symbolic-ref", "refs/heads/link", "refs/heads/main"]);

    assert_eq!(repo.apply(&[repo.update("refs/heads/link", 0, 1)], false), ["ok"]);

    assert_eq!(repo.git(&["symbolic-ref", "refs/heads/link"]), "refs/heads/main");
    assert_eq!(repo.git(&["rev-parse", "refs/heads/main"]), repo.commits[1].to_string());
}

#[test]
fn names_that_could_leave_the_repository_are_no_refs() {
    let repo = Repo::new();
    for name in [
        "refs/heads/../../x",
        "HEAD",
        "refs/heads/a.lock",
        "refs/heads//a",
        "refs/heads/a..b",
        "config",
        "refs/",
    ] {
        assert_eq!(repo.apply(&[repo.create(name, 0)], false), ["funny refname"], "{name}");
    }
    assert_eq!(repo.refs(), Vec::<String>::new());
}

#[test]
fn the_observer_can_stop_a_transaction_and_is_told_how_it_ends() {
    struct Log(Vec<String>, bool);
    impl Observer for Log {
        fn prepared(&mut self, updates: &[&RefUpdate]) -> Result<(), String> {
            self.0.push(format!("prepared {}", updates.len()));
            if self.1 { Ok(()) } else { Err("not today".into()) }
        }
        fn committed(&mut self, updates: &[&RefUpdate]) {
            self.0.push(format!("committed {}", updates.len()));
        }
        fn aborted(&mut self, updates: &[&RefUpdate]) {
            self.0.push(format!("aborted {}", updates.len()));
        }
    }
    let repo = Repo::new();
    let updates = [repo.create("refs/heads/a", 0), repo.create("refs/heads/b", 0)];

    let mut log = Log(Vec::new(), false);
    assert_eq!(repo.apply_with(&updates, true, None, &mut log), ["hook declined"; 2]);
    assert_eq!(log.0, ["prepared 2"]);
    assert_eq!(repo.refs(), Vec::<String>::new());

    let mut log = Log(Vec::new(), true);
    assert_eq!(repo.apply_with(&updates, false, None, &mut log), ["ok"; 2]);
    assert_eq!(log.0, ["prepared 2", "committed 2"]);
}

#[test]
fn reflogs_are_kept_only_where_the_repository_asks_for_them() {
    let repo = Repo::new();
    repo.apply(&[repo.create("refs/heads/main", 0)], false);
    assert!(!repo.path().join("logs").exists());

    repo.apply_with(
        &[repo.update("refs/heads/main", 0, 1)],
        false,
        Some(LogRefUpdates::Yes),
        &mut (),
    );
    repo.apply_with(
        &[repo.create("refs/tags/v", 1)],
        false,
        Some(LogRefUpdates::Yes),
        &mut (),
    );

    let log = repo.git(&["reflog", "show", "--format=%gs %gn %ge", "refs/heads/main"]);
    assert_eq!(log, "push anna anna@http.127.0.0.1");
    assert_eq!(repo.git(&["reflog", "show", "--format=%gs", "HEAD"]), "push");
    assert!(!repo.path().join("logs/refs/tags").exists());

    repo.apply(&[repo.delete("refs/heads/main", 1)], false);
    assert!(!repo.path().join("logs/refs/heads/main").exists());
}

#[test]
fn head_is_pointed_at_a_branch() {
    let repo = Repo::new();

    set_head(repo.path(), "refs/heads/master".into()).expect("a branch");

    assert_eq!(repo.git(&["symbolic-ref", "HEAD"]), "refs/heads/master");
    assert!(set_head(repo.path(), "refs/tags/x".into()).is_err());
    assert!(set_head(repo.path(), "refs/heads/a..b".into()).is_err());
    assert_eq!(repo.files_left(), Vec::<String>::new());
}

#[test]
fn an_atomic_push_that_died_between_two_refs_is_finished_at_start() {
    let repo = Repo::new();
    repo.apply(
        &[
            repo.create("refs/heads/a", 0),
            repo.create("refs/heads/b", 0),
            repo.create("refs/heads/gone", 0),
        ],
        false,
    );
    let updates = [
        repo.update("refs/heads/a", 0, 1),
        repo.update("refs/heads/b", 0, 2),
        repo.delete("refs/heads/gone", 0),
        repo.create("refs/heads/new", 3),
    ];
    // As the dead process left it: one ref moved, the others locked.
    repo.apply(&updates[..1], false);
    std::fs::write(repo.path().join("refs/heads/b.lock"), format!("{}\n", repo.commits[2])).expect("writes");
    std::fs::write(repo.path().join("refs/heads/gone.lock"), "").expect("writes");

    let settled = repo.with_store(None, |store| settle(store, &updates, true));

    assert_eq!(settled, [true; 4]);
    assert_eq!(
        repo.refs(),
        [
            repo.line("refs/heads/a", 1),
            repo.line("refs/heads/b", 2),
            repo.line("refs/heads/new", 3)
        ]
    );
    assert_eq!(repo.files_left(), Vec::<String>::new());
}

#[test]
fn a_push_that_died_before_its_first_ref_is_dropped_at_start() {
    let repo = Repo::new();
    repo.apply(&[repo.create("refs/heads/a", 0)], false);
    let updates = [repo.update("refs/heads/a", 0, 1), repo.create("refs/heads/b", 1)];
    std::fs::write(repo.path().join("packed-refs.lock"), LOCK_MARK).expect("writes");
    std::fs::write(repo.path().join("refs/heads/a.lock"), format!("{}\n", repo.commits[1])).expect("writes");

    sweep(repo.path());
    let settled = repo.with_store(None, |store| settle(store, &updates, true));

    assert_eq!(settled, [false, false]);
    assert_eq!(repo.refs(), [repo.line("refs/heads/a", 0)]);
    assert_eq!(repo.files_left(), Vec::<String>::new());
}

#[test]
fn a_plain_push_that_died_between_two_refs_is_settled_as_it_stands() {
    let repo = Repo::new();
    let updates = [repo.create("refs/heads/a", 0), repo.create("refs/heads/b", 1)];
    repo.apply(&updates[..1], false);

    assert_eq!(
        repo.with_store(None, |store| settle(store, &updates, false)),
        [true, false]
    );
    assert_eq!(repo.refs(), [repo.line("refs/heads/a", 0)]);
}

#[test]
fn a_lock_that_stock_git_holds_is_left_alone_at_start() {
    let repo = Repo::new();
    let locks = ["packed-refs.lock", "HEAD.lock", "shallow.lock"].map(|name| repo.path().join(name));
    for lock in &locks {
        std::fs::write(lock, "ref: refs/heads/main\n").expect("writes");
    }

    sweep(repo.path());

    assert!(locks.iter().all(|lock| lock.exists()));
}

#[test]
fn locks_of_head_and_of_the_shallow_boundary_that_a_dead_process_left_are_removed_at_start() {
    let repo = Repo::new();
    let leave = |name: &str| std::mem::forget(Lock::take_marked(&repo.path().join(name)).expect("free"));
    leave("HEAD");
    leave("shallow");
    std::fs::write(repo.path().join("HEAD.auxin-new"), "ref: refs/he").expect("writes");
    assert!(set_head(repo.path(), "refs/heads/main".into()).is_err(), "still locked");

    sweep(repo.path());

    set_head(repo.path(), "refs/heads/main".into()).expect("free");
    add_shallow(repo.path(), &[repo.commits[0]]).expect("free");
    let left = std::fs::read_dir(repo.path()).expect("readable");
    let names: Vec<String> = left
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains(".lock") || name.contains(".auxin-"))
        .collect();
    assert_eq!(names, Vec::<String>::new());
}

#[test]
fn pushes_that_add_to_the_shallow_boundary_at_once_lose_nothing() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let id = |n: usize| ObjectId::from_hex(format!("{n:040x}").as_bytes()).expect("an id");
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let path = folder.path();
            scope.spawn(move || {
                for n in 0..10 {
                    add_shallow(path, &[id(writer * 10 + n)]).expect("adds");
                }
            });
        }
    });

    let content = std::fs::read_to_string(folder.path().join("shallow")).expect("readable");
    assert_eq!(content.lines().count(), 40, "{content}");
}
