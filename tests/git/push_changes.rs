//! What a push changes, against histories that stock git made.

use std::collections::{BTreeSet, HashSet};

use auxin::git::ObjectId;
use auxin::git::push_changes::{Change, ChangeLimits, ChangeVisitor, NewCommit, PushChanges, PushChangesError};
use auxin::git::receive_pack::RefUpdate;
use auxin::git::snapshot::Repository;
use bstr::{BStr, ByteSlice as _};

use crate::fetch_support::{Random, Repo, run_git};

const LIMITS: ChangeLimits = ChangeLimits {
    max_commits: 1000,
    max_paths: 10_000,
};

/// What was shown: `commit +path`, `commit -path`, `commit ~path`.
#[derive(Default)]
struct Seen {
    lines: BTreeSet<String>,
    /// The only folder that is looked into.
    only: Option<&'static str>,
    entered: usize,
}

impl ChangeVisitor for Seen {
    fn enters(&mut self, folder: &BStr) -> bool {
        let enters = self.only.is_none_or(|only| folder == only);
        self.entered += usize::from(enters);
        enters
    }

    fn change(&mut self, commit: &NewCommit, change: &Change<'_>) {
        let sign = match (change.old, change.new) {
            (None, Some(_)) => '+',
            (Some(_), None) => '-',
            (Some(old), Some(new)) if old.id == new.id => 'm',
            _ => '~',
        };
        self.lines.insert(format!("{} {sign}{}", commit.id, change.path));
    }
}

fn id(text: &str) -> ObjectId {
    ObjectId::from_hex(text.as_bytes()).expect("an id")
}

fn update(name: &str, old: Option<&str>, new: &str) -> RefUpdate {
    let new = id(new);
    RefUpdate {
        name: name.into(),
        old: old.map_or(new.kind().null(), id),
        new,
    }
}

/// A commit with these files; a path that ends in `*` is executable.
fn commit(repo: &Repo, parents: &[&str], files: &[(&str, &str)]) -> String {
    let mut stream = String::from("reset refs/made\n");
    stream += "commit refs/made\nmark :1\ncommitter A <a@example.org> 1700000000 +0000\ndata 1\nx\n";
    for (number, parent) in parents.iter().enumerate() {
        stream += &format!("{} {parent}\n", if number == 0 { "from" } else { "merge" });
    }
    stream += "deleteall\n";
    for (path, content) in files {
        let (path, mode) = match path.strip_suffix('*') {
            Some(path) => (path, "100755"),
            None => (*path, "100644"),
        };
        stream += &format!("M {mode} inline {path}\ndata {}\n{content}\n", content.len());
    }
    let (ok, _, errors) = run_git(&repo.path, &["fast-import", "--quiet", "--force"], stream.as_bytes());
    assert!(ok, "{errors}");
    let made = repo.git(&["rev-parse", "refs/made"]).trim().to_owned();
    repo.git(&["update-ref", "-d", "refs/made"]);
    made
}

/// What a push of `updates` changes, with the objects of the push in the repository already, as those of
/// an interrupted clean-up are.
fn changes(repo: &Repo, updates: &[RefUpdate]) -> Vec<String> {
    let repository = Repository::open(&repo.path, false).expect("opens");
    let before = repository.snapshot().expect("reads");
    let mut seen = Seen::default();
    let mut tick = || Ok(());
    let mut changes = PushChanges::read(&before, &before.objects, updates, LIMITS, &mut tick).expect("reads");
    changes.visit(&mut seen, &mut tick).expect("reads");
    for update in updates {
        changes.moved(update, &mut seen, &mut tick).expect("reads");
    }
    seen.lines.into_iter().collect()
}

#[track_caller]
fn assert_changes(found: Vec<String>, expected: &[(&str, &str)]) {
    let mut expected: Vec<String> = expected.iter().map(|(id, what)| format!("{id} {what}")).collect();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn each_kind_of_change_is_seen_and_nothing_else() {
    let repo = Repo::empty();
    let base = commit(
        &repo,
        &[],
        &[
            ("a", "1"),
            ("b", "1"),
            ("f/c", "1"),
            ("f/d", "1"),
            ("g/e", "1"),
            ("x", "1"),
        ],
    );
    repo.git(&["update-ref", "refs/heads/main", &base]);
    let next = commit(
        &repo,
        &[&base],
        // b edited, f/c renamed to h/c, f/d executable, g/e gone, x became a folder.
        &[("a", "1"), ("b", "2"), ("h/c", "1"), ("f/d*", "1"), ("x/y", "1")],
    );

    let found = changes(&repo, &[update("refs/heads/main", Some(&base), &next)]);

    let next = next.as_str();
    assert_changes(
        found,
        &[
            (next, "~b"),
            (next, "-f/c"),
            (next, "+h/c"),
            (next, "mf/d"),
            (next, "-g/e"),
            (next, "-x"),
            (next, "+x/y"),
        ],
    );
}

#[test]
fn a_first_commit_adds_everything_and_what_refs_reach_is_not_new() {
    let repo = Repo::empty();
    let first = commit(&repo, &[], &[("a", "1"), ("f/b", "1")]);
    let second = commit(&repo, &[&first], &[("a", "2"), ("f/b", "1")]);

    let both = changes(&repo, &[update("refs/heads/main", None, &second)]);
    assert_changes(both, &[(&first, "+a"), (&first, "+f/b"), (&second, "~a")]);

    repo.git(&["update-ref", "refs/hidden/x", &first]);
    let only_second = changes(&repo, &[update("refs/heads/main", None, &second)]);
    assert_changes(only_second, &[(&second, "~a")]);

    repo.git(&["tag", "-a", "-m", "x", "v1", &second]);
    let tag = repo.git(&["rev-parse", "v1"]);
    assert_changes(changes(&repo, &[update("refs/heads/main", None, &second)]), &[]);
    repo.git(&["update-ref", "-d", "refs/hidden/x"]);
    repo.git(&["tag", "-d", "v1"]);
    let by_tag = changes(&repo, &[update("refs/tags/v1", None, tag.trim())]);
    assert_changes(by_tag, &[(&first, "+a"), (&first, "+f/b"), (&second, "~a")]);
}

#[test]
fn a_merge_changes_only_what_differs_from_all_its_parents() {
    let repo = Repo::empty();
    let base = commit(&repo, &[], &[("a", "1"), ("f/b", "1"), ("f/c", "1"), ("f/d", "1")]);
    let ours = commit(&repo, &[&base], &[("a", "2"), ("f/b", "1"), ("f/c", "2"), ("f/d", "1")]);
    let theirs = commit(&repo, &[&base], &[("a", "1"), ("f/b", "3"), ("f/c", "3")]);
    repo.git(&["update-ref", "refs/heads/main", &ours]);
    repo.git(&["update-ref", "refs/heads/side", &theirs]);
    // a from ours, f/b and the deletion of f/d from theirs, f/c by hand, f/e from nowhere.
    let merge = commit(
        &repo,
        &[&ours, &theirs],
        &[("a", "2"), ("f/b", "3"), ("f/c", "4"), ("f/e", "5")],
    );

    let found = changes(&repo, &[update("refs/heads/main", Some(&ours), &merge)]);

    assert_changes(found, &[(&merge, "~f/c"), (&merge, "+f/e")]);
}

#[test]
fn a_branch_that_moves_back_or_is_forced_shows_what_it_loses() {
    let repo = Repo::empty();
    let base = commit(&repo, &[], &[("a", "1"), ("b", "1"), ("c", "1")]);
    let tip = commit(&repo, &[&base], &[("a", "2"), ("b", "1"), ("c", "1")]);
    repo.git(&["update-ref", "refs/heads/main", &tip]);

    let back = changes(&repo, &[update("refs/heads/main", Some(&tip), &base)]);
    assert_changes(back, &[(&base, "~a")]);

    let other = commit(&repo, &[&base], &[("a", "1"), ("b", "2"), ("c", "1")]);
    let forced = changes(&repo, &[update("refs/heads/main", Some(&tip), &other)]);
    assert_changes(forced, &[(&other, "~a"), (&other, "~b")]);

    // Of tags there is no way back.
    assert_changes(changes(&repo, &[update("refs/tags/v1", Some(&tip), &base)]), &[]);
}

#[test]
fn a_branch_put_on_top_of_what_others_pushed_loses_nothing_of_theirs() {
    let repo = Repo::empty();
    let base = commit(&repo, &[], &[("a", "1"), ("b", "1")]);
    let theirs = commit(&repo, &[&base], &[("a", "2"), ("b", "1")]);
    let mine = commit(&repo, &[&base], &[("a", "1"), ("b", "2")]);
    repo.git(&["update-ref", "refs/heads/main", &theirs]);
    repo.git(&["update-ref", "refs/heads/mine", &mine]);
    let rebased = commit(&repo, &[&theirs], &[("a", "2"), ("b", "2")]);

    let found = changes(&repo, &[update("refs/heads/mine", Some(&mine), &rebased)]);

    assert_changes(found, &[(&rebased, "~b")]);
}

#[test]
fn only_wanted_folders_are_opened_and_limits_are_told() {
    let repo = Repo::empty();
    let base = commit(&repo, &[], &[("f/a", "1"), ("g/a", "1")]);
    let next = commit(&repo, &[&base], &[("f/a", "2"), ("g/a", "2")]);
    let repository = Repository::open(&repo.path, false).expect("opens");
    let before = repository.snapshot().expect("reads");
    let updates = [update("refs/heads/main", None, &next)];
    let mut tick = || Ok(());
    let read = |limits| PushChanges::read(&before, &before.objects, &updates, limits, &mut || Ok(()));

    let mut seen = Seen {
        only: Some("g"),
        ..Seen::default()
    };
    let mut all = read(LIMITS).expect("reads");
    all.visit(&mut seen, &mut tick).expect("reads");
    assert_eq!(seen.entered, 2);
    assert!(seen.lines.iter().all(|line| line.ends_with("g/a")), "{:?}", seen.lines);
    let wanted = HashSet::from([id(&base)]);
    let other = update("refs/heads/other", None, &next);
    let gone = RefUpdate {
        name: "refs/heads/x".into(),
        old: id(&next),
        new: id(&next).kind().null(),
    };
    assert_eq!(all.updates_with(&[other, gone], &wanted).expect("reads"), [true, false]);
    assert_eq!(all.commits().len(), 2);

    let few_commits = ChangeLimits {
        max_commits: 1,
        ..LIMITS
    };
    let refused = read(few_commits).err();
    assert!(
        matches!(refused, Some(PushChangesError::TooManyCommits { limit: 1 })),
        "{refused:?}"
    );
    let few_paths = ChangeLimits { max_paths: 3, ..LIMITS };
    let refused = read(few_paths).expect("reads").visit(&mut Seen::default(), &mut tick);
    assert!(
        matches!(refused, Err(PushChangesError::TooManyPaths { limit: 3 })),
        "{refused:?}"
    );
}

#[test]
fn random_histories_change_what_git_says() {
    for seed in 1..25 {
        let format = if seed % 4 == 0 { "sha256" } else { "sha1" };
        let repo = Repo::random_in(seed, format);
        let mut random = Random::new(seed);
        let refs = repo.git(&["for-each-ref", "--format=%(refname)", "refs/heads"]);
        let names: Vec<&str> = refs.lines().collect();
        let pushed = names[random.below(names.len())];
        let tip = repo.git(&["rev-parse", pushed]).trim().to_owned();
        repo.git(&["symbolic-ref", "HEAD", "refs/heads/none"]);
        // As if this branch were pushed now, and tags had not been.
        for tag in repo.git(&["for-each-ref", "--format=%(refname)", "refs/tags"]).lines() {
            repo.git(&["update-ref", "-d", tag]);
        }
        repo.git(&["update-ref", "-d", pushed]);

        let found = changes(&repo, &[update(pushed, None, &tip)]);

        let new = repo.git(&["rev-list", &tip, "--not", "--all"]);
        let mut expected = BTreeSet::new();
        for commit in new.lines() {
            // Of a merge git names those that differ from all parents with -c.
            let text = repo.git(&[
                "diff-tree",
                "-r",
                "--root",
                "-c",
                "--no-renames",
                "--name-status",
                "-z",
                "--no-commit-id",
                commit,
            ]);
            let mut fields = text.split('\0').filter(|field| !field.is_empty());
            while let (Some(status), Some(path)) = (fields.next(), fields.next()) {
                expected.insert(format!(
                    "{commit} {} {}",
                    status.chars().next().expect("a letter"),
                    path
                ));
            }
        }
        let found: BTreeSet<String> = found
            .iter()
            .map(|line| {
                let (commit, rest) = line.split_once(' ').expect("a blank");
                let letter = match rest.as_bytes()[0] {
                    b'+' => 'A',
                    b'-' => 'D',
                    _ => 'M',
                };
                format!("{commit} {letter} {}", rest.as_bytes()[1..].as_bstr())
            })
            .collect();
        assert_eq!(found, expected, "seed {seed}");
        assert!(!new.trim().is_empty() || expected.is_empty());
    }
}
