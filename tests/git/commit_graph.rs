//! Commit-graphs: git's read by Auxin, Auxin's judged by git, and walks the same with and without.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use auxin::git::ObjectId;
use auxin::git::ancestry::is_fast_forward;
use auxin::git::commit_graph::{CommitGraph, GraphLayout, GraphPos, WriteError, WriteReport, write};
use auxin::git::object_store::Pos;
use auxin::git::snapshot::{Repository, Snapshot};
use auxin::git::walk::{Bits, Walker};
use sha1::{Digest, Sha1};

use crate::plan::{TestRepo, git_in};

const CACHE_BYTES: usize = 1 << 20;

/// Commits with merges of two, three and five parents and with dates that lie, on `main` and `side`.
fn repo() -> TestRepo {
    let repo = TestRepo::with_history();
    let id = |name: &str| repo.git(&["rev-parse", name]).trim().to_owned();
    let tree = id("main^{tree}");
    let commit = |parents: &[String], date: &str| {
        let mut arguments = vec!["commit-tree", "-m", "x"];
        for parent in parents {
            arguments.extend(["-p", parent]);
        }
        arguments.push(&tree);
        commit_at(&repo.path, &arguments, date)
    };
    let tips: Vec<String> = (1..=4)
        .map(|number| commit(&[id(&format!("main~{number}"))], "1700009000 +0000"))
        .collect();
    let three = commit(&[tips[0].clone(), tips[1].clone(), id("side")], "1700009001 +0000");
    let late = commit(&[three], "@4000000000 +0000");
    // Its corrected date is more than 2^31 seconds from its own.
    let early = commit(&[late], "@5 +0000");
    let five = commit(
        &[
            early,
            tips[0].clone(),
            tips[1].clone(),
            tips[2].clone(),
            tips[3].clone(),
        ],
        "1700009002 +0000",
    );
    let root = commit(&[], "@0 +0000");
    let last = commit(&[five, root], "1700009003 +0000");
    repo.git(&["update-ref", "refs/heads/main", &last]);
    repo
}

fn commit_at(path: &Path, arguments: &[&str], date: &str) -> String {
    let output = std::process::Command::new("git")
        .arg("-C")
        .arg(path)
        .args(arguments)
        .envs([("GIT_AUTHOR_DATE", date), ("GIT_COMMITTER_DATE", date)])
        .envs([("GIT_AUTHOR_NAME", "A"), ("GIT_COMMITTER_NAME", "A")])
        .envs([
            ("GIT_AUTHOR_EMAIL", "a@example.org"),
            ("GIT_COMMITTER_EMAIL", "a@example.org"),
        ])
        .output()
        .expect("git runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// A few commits upon `main`.
fn grow(repo: &TestRepo, count: usize) {
    for _ in 0..count {
        let main = repo.git(&["rev-parse", "main"]).trim().to_owned();
        let tree = repo.git(&["rev-parse", "main^{tree}"]).trim().to_owned();
        let next = commit_at(
            &repo.path,
            &["commit-tree", "-m", "more", "-p", &main, &tree],
            "1700010000 +0000",
        );
        repo.git(&["update-ref", "refs/heads/main", &next]);
    }
}

fn copy(repo: &TestRepo) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let path = folder.path().join("copy.git");
    repo.git(&["clone", "-q", "--mirror", ".", path.to_str().expect("text")]);
    (folder, path)
}

fn open(path: &Path) -> Arc<Repository> {
    Repository::open(path, false).expect("opens")
}

fn snapshot(path: &Path) -> Arc<Snapshot> {
    open(path).snapshot().expect("reads")
}

fn write_ours(path: &Path, layout: GraphLayout) -> WriteReport {
    write(&snapshot(path), &path.join("objects"), layout, &mut || Ok(()))
        .expect("writes")
        .expect("this repository may have one")
}

fn graph(path: &Path) -> CommitGraph {
    CommitGraph::open(&path.join("objects"), snapshot(path).hash(), None)
        .expect("sound")
        .expect("there")
}

fn verify(path: &Path) {
    let output = std::process::Command::new("git")
        .arg("-C")
        .arg(path)
        .args(["commit-graph", "verify"])
        .output()
        .expect("git runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

/// What a graph says of each commit: tree, parents, date, level, corrected date.
type Told = BTreeMap<ObjectId, (ObjectId, Vec<ObjectId>, i64, u32, u64)>;

fn told(graph: &CommitGraph) -> Told {
    let id = |position| graph.id(position).expect("within").to_owned();
    let corrected = graph.corrected_dates().expect("sound").expect("there");
    (0..graph.len())
        .map(|number| {
            let commit = graph.commit(GraphPos(number)).expect("sound");
            let parents = commit.parents.iter().map(|parent| id(*parent)).collect();
            let told = (
                commit.tree,
                parents,
                commit.committed_at_secs,
                commit.level,
                corrected[number as usize],
            );
            (id(GraphPos(number)), told)
        })
        .collect()
}

/// Every commit as its object says it, with the generation numbers that follow from that.
fn true_history(path: &Path) -> Told {
    let (ok, list) = git_in(path, &["rev-list", "--all", "--topo-order", "--reverse"], b"");
    assert!(ok);
    let snapshot = snapshot(path);
    let mut reader = snapshot.objects.reader(CACHE_BYTES).without_graph();
    let mut all = Told::new();
    for line in String::from_utf8(list).expect("text").lines() {
        let id = ObjectId::from_hex(line.as_bytes()).expect("an id");
        let commit = reader.commit(&id).expect("sound").expect("there");
        let of_parents = commit.parents.iter().map(|parent| &all[parent]);
        let level = of_parents.clone().map(|parent| parent.3).max().unwrap_or(0) + 1;
        let corrected = of_parents.map(|parent| parent.4 + 1).max().unwrap_or(1);
        let corrected = corrected.max(commit.committed_at_secs as u64);
        all.insert(
            id,
            (commit.tree, commit.parents, commit.committed_at_secs, level, corrected),
        );
    }
    all
}

#[test]
fn graphs_that_git_wrote_are_read_as_what_the_objects_say() {
    let repo = repo();
    repo.git(&["commit-graph", "write", "--reachable", "--changed-paths"]);
    let one = told(&graph(&repo.path));
    assert_eq!(one, true_history(&repo.path));

    fs::remove_file(repo.path.join("objects/info/commit-graph")).expect("removes");
    for count in [0, 1, 7] {
        grow(&repo, count);
        repo.git(&["commit-graph", "write", "--reachable", "--split=no-merge"]);
        let chain = graph(&repo.path);
        assert_eq!(told(&chain), true_history(&repo.path));
    }
    assert_eq!(graph(&repo.path).layer_count(), 3);
}

#[test]
fn graphs_of_both_layouts_are_accepted_by_git_and_say_what_the_objects_say() {
    let repo = repo();
    for layout in [GraphLayout::OneFile, GraphLayout::Chain] {
        let (_folder, path) = copy(&repo);

        let report = write_ours(&path, layout);

        assert_eq!((report.layers_after, report.is_changed), (1, true));
        assert_eq!(report.commits, report.new_commits);
        verify(&path);
        assert_eq!(told(&graph(&path)), true_history(&path));
        let again = write_ours(&path, layout);
        assert_eq!((again.new_commits, again.is_changed), (0, false));
    }
}

#[test]
fn sha256_repositories_have_graphs_of_both_layouts_too() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let path = folder.path().join("song.git");
    let name = path.to_str().expect("text");
    assert!(
        git_in(
            folder.path(),
            &["init", "-q", "--bare", "--object-format=sha256", name],
            b""
        )
        .0
    );
    let (ok, tree) = git_in(&path, &["mktree"], b"");
    assert!(ok);
    let tree = String::from_utf8(tree).expect("text").trim().to_owned();
    let mut tip = commit_at(&path, &["commit-tree", "-m", "x", &tree], "1700000000 +0000");
    for layout in [GraphLayout::OneFile, GraphLayout::Chain, GraphLayout::Chain] {
        tip = commit_at(
            &path,
            &["commit-tree", "-m", "x", "-p", &tip, &tree],
            "1700000001 +0000",
        );
        assert!(git_in(&path, &["update-ref", "refs/heads/main", &tip], b"").0);

        let report = write_ours(&path, layout);

        assert!(report.is_changed);
        verify(&path);
        assert_eq!(told(&graph(&path)), true_history(&path));
    }
}

#[test]
fn a_graph_in_one_file_is_the_very_file_that_git_writes() {
    let repo = repo();
    let (_folder, path) = copy(&repo);
    repo.git(&["commit-graph", "write", "--reachable"]);
    write_ours(&path, GraphLayout::OneFile);

    let theirs = fs::read(repo.path.join("objects/info/commit-graph")).expect("reads");
    let ours = fs::read(path.join("objects/info/commit-graph")).expect("reads");

    assert!(ours == theirs, "{} and {} bytes", ours.len(), theirs.len());
}

#[test]
fn layers_are_added_and_merged_as_git_does_it() {
    let repo = repo();
    let (_folder, path) = copy(&repo);
    for count in [0, 1, 1, 3, 0, 40, 2, 5, 1, 200, 1] {
        grow(&repo, count);
        let (ok, _) = git_in(&path, &["fetch", "-q", "origin"], b"");
        assert!(ok);
        repo.git(&["commit-graph", "write", "--reachable", "--split"]);

        let report = write_ours(&path, GraphLayout::Chain);

        verify(&path);
        let (theirs, ours) = (graph(&repo.path), graph(&path));
        assert_eq!((ours.len(), ours.layer_count()), (theirs.len(), theirs.layer_count()));
        assert_eq!((report.commits, report.layers_after), (ours.len(), ours.layer_count()));
        assert_eq!(told(&ours), true_history(&path));
        let files = fs::read_dir(path.join("objects/info/commit-graphs")).expect("lists");
        assert_eq!(files.count(), ours.layer_count() + 1, "the chain and its layers");
    }
    // Git goes on where Auxin stopped, and Auxin where git stopped.
    grow(&repo, 3);
    assert!(git_in(&path, &["fetch", "-q", "origin"], b"").0);
    assert!(git_in(&path, &["commit-graph", "write", "--reachable", "--split"], b"").0);
    verify(&path);
    grow(&repo, 1);
    assert!(git_in(&path, &["fetch", "-q", "origin"], b"").0);
    write_ours(&path, GraphLayout::Chain);
    verify(&path);
    assert_eq!(told(&graph(&path)), true_history(&path));
}

#[test]
fn one_layout_takes_the_place_of_the_other() {
    let repo = repo();
    let objects = repo.path.join("objects");
    let (one, chain) = (objects.join("info/commit-graph"), objects.join("info/commit-graphs"));
    write_ours(&repo.path, GraphLayout::OneFile);
    grow(&repo, 2);

    let report = write_ours(&repo.path, GraphLayout::Chain);

    assert_eq!((report.new_commits, report.layers_after), (2, 1));
    assert!(!one.exists());
    verify(&repo.path);

    let report = write_ours(&repo.path, GraphLayout::OneFile);

    assert_eq!((report.new_commits, report.is_changed), (0, true));
    assert!(one.exists());
    assert_eq!(fs::read_dir(chain).expect("lists").count(), 0);
    verify(&repo.path);
    assert_eq!(told(&graph(&repo.path)), true_history(&repo.path));
}

#[test]
fn commits_that_nothing_reaches_any_more_leave_with_their_layer() {
    let repo = repo();
    repo.git(&["update-ref", "refs/heads/gone", "main"]);
    write_ours(&repo.path, GraphLayout::Chain);
    grow(&repo, 2);
    write_ours(&repo.path, GraphLayout::Chain);
    repo.git(&["update-ref", "refs/heads/main", "main~1"]);
    grow(&repo, 3);

    write_ours(&repo.path, GraphLayout::Chain);

    verify(&repo.path);
    assert_eq!(told(&graph(&repo.path)), true_history(&repo.path));
}

#[test]
fn a_chain_of_an_older_git_or_a_damaged_one_is_written_anew() {
    let repo = repo();
    let layers = || {
        let files = fs::read_dir(repo.path.join("objects/info/commit-graphs")).expect("lists");
        let paths = files.map(|entry| entry.expect("entry").path());
        paths
            .filter(|path| path.extension().is_some_and(|extension| extension == "graph"))
            .collect::<Vec<PathBuf>>()
    };
    repo.git(&[
        "-c",
        "commitGraph.generationVersion=1",
        "commit-graph",
        "write",
        "--reachable",
        "--split",
    ]);
    grow(&repo, 1);

    let report = write_ours(&repo.path, GraphLayout::Chain);

    assert_eq!((report.new_commits, report.layers_after), (report.commits, 1));
    verify(&repo.path);

    grow(&repo, 1);
    flip(&layers()[0]);
    let report = write_ours(&repo.path, GraphLayout::Chain);

    assert_eq!((report.layers_before, report.layers_after), (0, 1));
    assert_eq!(layers().len(), 1);
    verify(&repo.path);
    assert_eq!(told(&graph(&repo.path)), true_history(&repo.path));
}

#[test]
fn a_graph_that_somebody_else_is_writing_is_left_to_them() {
    let repo = repo();
    let objects = repo.path.join("objects");
    fs::create_dir_all(objects.join("info/commit-graphs")).expect("makes the folder");
    let lock = objects.join("info/commit-graphs/commit-graph-chain.lock");
    fs::write(&lock, "").expect("writes");
    let write = || write(&snapshot(&repo.path), &objects, GraphLayout::Chain, &mut || Ok(()));

    assert!(matches!(write(), Err(WriteError::Busy(path)) if path == lock));
    fs::remove_file(&lock).expect("removes");
    assert!(write().is_ok());
}

/// What walks find: reached commits, differences, and which moves only add.
fn walks(snapshot: &Snapshot, with_graph: bool) -> (u32, Vec<Vec<Pos>>, Vec<Pos>) {
    let store = &*snapshot.objects;
    let walker = || {
        let walker = Walker::new(store, &[], CACHE_BYTES);
        if with_graph { walker } else { walker.without_graph() }
    };
    let mut reached = Bits::new(store.len());
    walker()
        .add_commits(&snapshot.all_tips(), &mut reached, &mut || Ok(()))
        .expect("whole");
    let commits: Vec<Pos> = reached
        .range(0, store.len())
        .filter(|position| {
            store
                .reader(0)
                .header_at(*position)
                .is_ok_and(|(kind, _)| kind.as_str() == "commit")
        })
        .collect();
    let mut differences = Vec::new();
    for want in commits.iter().step_by(7) {
        for have in commits.iter().step_by(5) {
            let limited = walker().limit(&[*want], &[*have], &mut || Ok(())).expect("whole");
            let mut found: Vec<Pos> = limited.commits.iter().map(|(position, _)| *position).collect();
            found.sort_unstable();
            differences.push(found);
        }
    }
    (reached.count(), differences, commits)
}

#[test]
fn walks_find_the_same_with_and_without_a_graph() {
    let repo = repo();
    write_ours(&repo.path, GraphLayout::Chain);
    grow(&repo, 3);
    let snapshot = snapshot(&repo.path);

    assert_eq!(walks(&snapshot, true), walks(&snapshot, false));

    let (_, _, commits) = walks(&snapshot, true);
    for old in commits.iter().step_by(3) {
        for new in commits.iter().step_by(4) {
            let (old, new) = (snapshot.objects.id(*old), snapshot.objects.id(*new));
            let only_adds = is_fast_forward(&snapshot.objects, &[], &old, &new, &mut || Ok(())).expect("whole");
            let (expected, _) = git_in(
                &repo.path,
                &["merge-base", "--is-ancestor", &old.to_string(), &new.to_string()],
                b"",
            );
            assert_eq!(only_adds, expected, "{old} {new}");
        }
    }
}

fn flip(path: &Path) {
    let mut content = fs::read(path).expect("reads");
    let at = content.len() / 2;
    content[at] ^= 0x40;
    fs::remove_file(path).expect("removes");
    fs::write(path, content).expect("writes");
}

/// Changes the date of every commit in a graph and makes its checksum right: a graph that lies, and
/// so shows whether it is used.
fn make_lie(path: &Path) {
    let mut content = fs::read(path).expect("reads");
    let chunks = usize::from(content[6]);
    let entry = (0..chunks)
        .map(|number| 8 + number * 12)
        .find(|at| &content[*at..at + 4] == b"CDAT")
        .expect("every graph has one");
    let offset = |at: usize| u64::from_be_bytes(content[at + 4..at + 12].try_into().expect("8 bytes")) as usize;
    for at in (offset(entry)..offset(entry + 12)).step_by(36) {
        content[at + 32..at + 36].copy_from_slice(&77_u32.to_be_bytes());
    }
    let end = content.len() - 20;
    content.truncate(end);
    let checksum = Sha1::digest(&content);
    content.extend(checksum);
    fs::remove_file(path).expect("removes");
    fs::write(path, content).expect("writes");
}

/// Whether the graph in one file, which lies, is used.
fn is_used(repository: &Repository, name: &str) -> bool {
    let snapshot = repository.snapshot().expect("reads");
    let id = snapshot
        .refs
        .all()
        .iter()
        .find(|known| known.name == name)
        .expect("there is such a ref")
        .target;
    let commit = snapshot.objects.reader(CACHE_BYTES).commit(&id).expect("sound");
    commit.expect("there").committed_at_secs == 77
}

#[test]
fn a_graph_is_used_from_the_moment_it_is_there_and_not_where_git_would_not() {
    let repo = repo();
    let repository = open(&repo.path);
    let file = repo.path.join("objects/info/commit-graph");
    assert!(!is_used(&repository, "refs/heads/main"));

    write_ours(&repo.path, GraphLayout::OneFile);
    make_lie(&file);
    assert!(
        is_used(&repository, "refs/heads/main"),
        "the graph is noticed without any other change"
    );

    flip(&file);
    assert!(
        !is_used(&repository, "refs/heads/main"),
        "a damaged graph is not believed"
    );
    write_ours(&repo.path, GraphLayout::OneFile);
    make_lie(&file);
    assert!(is_used(&repository, "refs/heads/main"));

    let side = repo.git(&["rev-parse", "side"]);
    for (path, content) in [
        ("info/grafts", side.clone()),
        ("shallow", side.clone()),
        (&*format!("refs/replace/{}", side.trim()), side.clone()),
    ] {
        let path = repo.path.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("makes the folder");
        fs::write(&path, content).expect("writes");
        let repository = open(&repo.path);
        assert!(!is_used(&repository, "refs/heads/main"), "{}", path.display());
        let snapshot = repository.snapshot().expect("reads");
        let written = write(
            &snapshot,
            &repo.path.join("objects"),
            GraphLayout::Chain,
            &mut || Ok(()),
        );
        assert!(written.is_ok_and(|report| report.is_none()), "{}", path.display());
        fs::remove_file(&path).expect("removes");
    }
    assert!(is_used(&open(&repo.path), "refs/heads/main"));
}
