//! Notes that stock git reads, and notes of stock git.

use std::collections::BTreeMap;

use auxin::git::ObjectId;
use auxin::git::notes::{self, Notes, NotesAuthor, NotesChange, NotesError};
use auxin::git::snapshot::Repository;

use crate::fetch_support::{self, Repo};

const NAME: &str = "refs/notes/logic";

fn id(text: &str) -> ObjectId {
    ObjectId::from_hex(text.trim().as_bytes()).expect("an id")
}

/// A repository with `count` commits, the newest first.
fn history(count: usize) -> (Repo, Vec<ObjectId>) {
    let repo = Repo::linear(count);
    let commits = repo.git(&["rev-list", "main"]);
    (repo, commits.lines().map(id).collect())
}

/// Runs git with something on its standard input.
fn git_with(repo: &Repo, args: &[&str], input: &str) -> String {
    let (ok, out, errors) = fetch_support::run_git(&repo.path, args, input.as_bytes());
    assert!(ok, "git {args:?}: {errors}");
    String::from_utf8(out).expect("text")
}

fn write(
    repository: &Repository,
    old: Option<ObjectId>,
    notes: &[(ObjectId, Option<&str>)],
) -> Result<usize, NotesError> {
    let snapshot = repository.reload().expect("readable");
    let found = snapshot.refs.find(NAME.into()).map(|found| found.target);
    let notes: BTreeMap<_, _> = notes
        .iter()
        .map(|(commit, text)| (*commit, text.map(|text| text.as_bytes().to_vec())))
        .collect();
    let change = |name: &str, old: Option<ObjectId>| NotesChange {
        name: name.into(),
        old: old.unwrap_or_else(|| snapshot.hash().null()),
        notes: notes.clone(),
    };
    let also = snapshot.refs.find("refs/notes/also".into()).map(|found| found.target);
    let author = NotesAuthor {
        name: "Auxin".into(),
        email: "auxin@localhost".into(),
        at_secs: 1_700_000_000,
    };
    let changes = [change(NAME, old.or(found)), change("refs/notes/also", also)];
    notes::write(repository, &snapshot, &changes, &author, "Notes", &mut || Ok(())).map(|moved| moved.len())
}

#[test]
fn stock_git_reads_and_edits_the_notes_and_they_are_read_back() {
    let (repo, commits) = history(700);
    let repository = repo.open();
    let texts: Vec<String> = commits.iter().map(|commit| format!("of {commit}\n")).collect();
    let all: Vec<_> = std::iter::zip(&commits, &texts)
        .map(|(commit, text)| (*commit, Some(text.as_str())))
        .collect();

    assert_eq!(write(&repository, None, &all[..400]).expect("written"), 2);
    // Git writes its own layout over ours, and ours goes over that again.
    let edited = commits[3].to_string();
    repo.git(&["notes", "--ref=logic", "add", "-f", "-m", "by hand", &edited]);
    repo.git(&["notes", "--ref=logic", "remove", &commits[4].to_string()]);
    assert_eq!(write(&repository, None, &all[300..]).expect("written"), 2);
    assert_eq!(
        write(&repository, None, &all[300..]).expect("written"),
        0,
        "nothing is to be changed"
    );

    for (number, commit) in commits.iter().enumerate().filter(|(number, _)| number % 40 < 6) {
        let shown = repo.git(&["log", "-1", "--format=%N", "--notes=logic", &commit.to_string()]);
        let expected = match number {
            3 => "by hand",
            4 => "",
            _ => texts[number].trim_end(),
        };
        assert_eq!(shown.trim_end(), expected, "{number}");
    }
    let listed = repo.git(&["notes", "--ref=logic", "list"]);
    let snapshot = repository.reload().expect("readable");
    let mut notes = Notes::of(&snapshot, NAME.into()).expect("readable");
    let ours = notes.all(&mut || Ok(())).expect("readable");
    let of_git: BTreeMap<ObjectId, ObjectId> = listed
        .lines()
        .map(|line| line.split_once(' ').expect("two ids"))
        .map(|(blob, commit)| (id(commit), id(blob)))
        .collect();
    assert_eq!(ours, of_git);
    assert_eq!(ours.len(), 699);
    assert_eq!(notes.find(&commits[4]).expect("readable"), None);
    assert_eq!(
        notes.read(&commits[3], 100).expect("readable"),
        Some(Ok(b"by hand\n".to_vec()))
    );
    assert_eq!(notes.read(&commits[3], 7).expect("readable"), Some(Err(8)));
    repo.git(&["fsck", "--strict", "--no-dangling"]);
    let quarantines = std::fs::read_dir(repo.path.join("objects"))
        .expect("a folder")
        .flatten();
    assert!(
        !quarantines
            .into_iter()
            .any(|entry| entry.file_name().as_encoded_bytes().len() > 4
                && entry.file_name() != "info"
                && entry.file_name() != "pack")
    );
}

#[test]
fn notes_of_any_layout_of_git_are_read() {
    let (repo, commits) = history(5);
    // Flat, one folder deep, and two.
    let blob = |text: &str| {
        git_with(&repo, &["hash-object", "-w", "--stdin"], text)
            .trim()
            .to_owned()
    };
    let name: Vec<String> = commits.iter().map(ObjectId::to_string).collect();
    let mut stream = String::from("commit refs/notes/logic\ncommitter A <a@b.c> 1700000000 +0000\ndata 1\nn\n");
    for (path, text) in [
        (name[0].clone(), "flat"),
        (format!("{}/{}", &name[1][..2], &name[1][2..]), "one"),
        (format!("{}/{}/{}", &name[2][..2], &name[2][2..4], &name[2][4..]), "two"),
        ("README".to_owned(), "no note"),
    ] {
        stream += &format!("M 100644 {} {path}\n", blob(text));
    }
    git_with(&repo, &["fast-import", "--quiet"], &stream);
    let repository = repo.open();
    let read = |number: usize| {
        let snapshot = repository.reload().expect("readable");
        let mut notes = Notes::of(&snapshot, NAME.into()).expect("readable");
        let found = notes.read(&commits[number], 100).expect("readable");
        found.map(|text| String::from_utf8(text.expect("short")).expect("text"))
    };
    let texts = || (0..5).map(read).collect::<Vec<_>>();
    let expected = |of_three: Option<&str>| {
        ["flat", "one", "two"]
            .map(|text| Some(text.to_owned()))
            .into_iter()
            .chain([of_three.map(str::to_owned), None])
            .collect::<Vec<_>>()
    };
    assert_eq!(texts(), expected(None));

    write(&repository, None, &[(commits[3], Some("new"))]).expect("written");

    assert_eq!(texts(), expected(Some("new")));
    let list = repo.git(&["ls-tree", "-r", "--name-only", "refs/notes/logic"]);
    assert!(list.lines().any(|path| path == "README"), "{list}");
    repo.git(&["fsck", "--strict", "--no-dangling"]);
}

#[test]
fn whoever_was_faster_wins_and_nothing_moves() {
    let (repo, commits) = history(2);
    let repository = repo.open();
    write(&repository, None, &[(commits[0], Some("first"))]).expect("written");
    let stale = id(&repo.id(NAME));
    write(&repository, None, &[(commits[0], Some("second"))]).expect("written");
    let before = repo.git(&["for-each-ref"]);

    let late = write(&repository, Some(stale), &[(commits[1], Some("late"))]);

    assert!(matches!(late, Err(NotesError::Ref(_))), "{late:?}");
    assert_eq!(repo.git(&["for-each-ref"]), before);
}
