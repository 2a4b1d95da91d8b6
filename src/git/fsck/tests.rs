//! Objects made by hand, judged as git judges them.

use super::*;

fn id(byte: u8) -> ObjectId {
    ObjectId::Sha1([byte; 20])
}

fn tree(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut data = Vec::new();
    for (mode, name) in entries {
        data.extend_from_slice(format!("{mode} {name}\0").as_bytes());
        data.extend_from_slice(&[7; 20]);
    }
    data
}

/// Message names of what is wrong, with `!` where the object is refused.
fn judged_by(rules: Rules, kind: ObjectKind, data: &[u8]) -> Vec<String> {
    let mut checker = Checker::new(Arc::new(rules));
    checker.check(&id(1), kind, data);
    let mark = |problem: &Problem| if problem.is_error { "!" } else { "" };
    checker
        .problems()
        .iter()
        .map(|problem| format!("{}{}", mark(problem), problem.message.name()))
        .collect()
}

fn judged(kind: ObjectKind, data: &[u8]) -> Vec<String> {
    judged_by(Rules::default(), kind, data)
}

fn person() -> &'static str {
    "Anna <anna@example.org> 1700000000 +0100"
}

fn commit(author: &str) -> Vec<u8> {
    let tree = "1".repeat(40);
    format!(
        "tree {tree}\nparent {tree}\nauthor {author}\ncommitter {}\n\nmessage\n",
        person()
    )
    .into_bytes()
}

#[test]
fn a_plain_tree_is_sound() {
    let entries = [
        ("100644", "a"),
        ("100755", "a.b"),
        ("40000", "a0"),
        ("120000", "link"),
        ("160000", "sub"),
    ];

    assert!(judged(ObjectKind::Tree, &tree(&entries)).is_empty());
    assert!(judged(ObjectKind::Tree, b"").is_empty());
}

#[test]
fn path_tricks_in_trees_are_refused() {
    for (name, message) in [
        (".", "!hasDot"),
        ("..", "!hasDotdot"),
        (".git", "!hasDotgit"),
        (".GIT", "!hasDotgit"),
        ("git~1", "!hasDotgit"),
        (".g\u{200c}it", "!hasDotgit"),
        ("a\\.git\\b", "!hasDotgit"),
        ("a/b", "!fullPathname"),
    ] {
        assert_eq!(
            judged(ObjectKind::Tree, &tree(&[("100644", name)])),
            [message],
            "{name}"
        );
    }
    assert_eq!(
        judged(ObjectKind::Tree, &tree(&[("120000", ".gitmodules")])),
        ["!gitmodulesSymlink"]
    );
    assert_eq!(
        judged(ObjectKind::Tree, &tree(&[("120000", "x\\.gitmodules")])),
        ["!gitmodulesSymlink"]
    );
}

#[test]
fn what_old_history_is_full_of_is_only_told() {
    assert_eq!(
        judged(ObjectKind::Tree, &tree(&[("0100644", "a")])),
        ["zeroPaddedFilemode"]
    );
    assert_eq!(judged(ObjectKind::Tree, &tree(&[("100600", "a")])), ["badFilemode"]);
    assert_eq!(
        judged(ObjectKind::Tree, &tree(&[("120000", ".gitignore")])),
        ["gitignoreSymlink"]
    );
    assert_eq!(
        judged(ObjectKind::Tree, &tree(&[("120000", ".mailmap")])),
        ["mailmapSymlink"]
    );
    assert_eq!(
        judged(ObjectKind::Tree, &tree(&[("120000", ".gitattributes")])),
        ["gitattributesSymlink"]
    );
    assert!(judged(ObjectKind::Tree, &tree(&[("100664", "a")])).is_empty());

    let strict = |mode| judged_by(Rules::strict(), ObjectKind::Tree, &tree(&[(mode, "a")]));
    assert_eq!(strict("0100644"), ["!zeroPaddedFilemode"]);
    assert_eq!(strict("100664"), ["badFilemode"]);
}

#[test]
fn trees_out_of_order_and_with_twins_are_refused() {
    let of = |entries: &[(&str, &str)]| judged(ObjectKind::Tree, &tree(entries));

    assert_eq!(of(&[("100644", "b"), ("100644", "a")]), ["!treeNotSorted"]);
    assert_eq!(of(&[("40000", "a"), ("100644", "a.b")]), ["!treeNotSorted"]);
    assert_eq!(of(&[("100644", "a"), ("100644", "a")]), ["!duplicateEntries"]);
    assert_eq!(of(&[("100644", "a"), ("40000", "a")]), ["!duplicateEntries"]);
    assert_eq!(
        of(&[("100644", "a"), ("100644", "a.b"), ("40000", "a")]),
        ["!duplicateEntries"]
    );
    assert_eq!(
        of(&[
            ("100644", "a"),
            ("100644", "a.b"),
            ("100644", "a.b.c"),
            ("40000", "a.b"),
            ("40000", "a")
        ]),
        ["!duplicateEntries"]
    );
}

#[test]
fn a_damaged_tree_is_refused() {
    let whole = tree(&[("100644", "a")]);
    for data in [
        &whole[..whole.len() - 1],
        b"100644 a",
        b"x a\0",
        b" a\0xxxxxxxxxxxxxxxxxxxx",
        b"100644",
        b"108 a\0",
    ] {
        assert_eq!(judged(ObjectKind::Tree, data), ["!badTree"], "{data:?}");
    }
    assert_eq!(judged(ObjectKind::Tree, &tree(&[("100644", "")])), ["!badTree"]);
}

#[test]
fn a_plain_commit_is_sound() {
    assert!(judged(ObjectKind::Commit, &commit(person())).is_empty());
    assert!(judged(ObjectKind::Commit, &commit("Anna <> 0 +0000")).is_empty());
}

#[test]
fn broken_authors_are_refused_by_their_own_message() {
    for (author, message) in [
        ("<a@b> 1 +0000", "!missingNameBeforeEmail"),
        ("Anna 1 +0000", "!missingEmail"),
        ("Anna> <a@b> 1 +0000", "!badName"),
        ("Anna<a@b> 1 +0000", "!missingSpaceBeforeEmail"),
        ("Anna <a@b 1 +0000", "!badEmail"),
        ("Anna <a@<b> 1 +0000", "!badEmail"),
        ("Anna <a@b>1 +0000", "!missingSpaceBeforeDate"),
        ("Anna <a@b> x +0000", "!badDate"),
        ("Anna <a@b> 1", "!badDate"),
        ("Anna <a@b> 01 +0000", "!zeroPaddedDate"),
        ("Anna <a@b> 18446744073709551616 +0000", "!badDateOverflow"),
        ("Anna <a@b> 99999999999999999999999999999 +0000", "!badDateOverflow"),
        ("Anna <a@b> 1 0000", "!badTimezone"),
        ("Anna <a@b> 1 +00000", "!badTimezone"),
    ] {
        assert_eq!(judged(ObjectKind::Commit, &commit(author)), [message], "{author}");
    }
}

#[test]
fn broken_commit_headers_are_refused() {
    let sound = String::from_utf8(commit(person())).expect("plain text");
    let of = |text: String| judged(ObjectKind::Commit, text.as_bytes());

    assert_eq!(of(sound.replace("tree ", "tee ")), ["!missingTree"]);
    assert_eq!(of(sound.replace("tree 1", "tree x")), ["!badTreeSha1"]);
    assert_eq!(of(sound.replace("parent 1", "parent 11")), ["!badParentSha1"]);
    assert_eq!(of(sound.replace("author ", "writer ")), ["!missingAuthor"]);
    assert_eq!(of(sound.replace("committer ", "keeper ")), ["!missingCommitter"]);
    assert_eq!(
        of(sound.replace("committer", &format!("author {}\ncommitter", person()))),
        ["!multipleAuthors"]
    );
    assert_eq!(of(sound.replace("parent", "pa\0rent")), ["!nulInHeader"]);
    assert_eq!(of(sound.replace("message", "mess\0age")), ["nulInCommit"]);
    assert_eq!(of("tree".to_owned()), ["!unterminatedHeader"]);
    assert_eq!(of(String::new()), ["!unterminatedHeader"]);
}

#[test]
fn tags_are_judged() {
    let sound = format!(
        "object {}\ntype commit\ntag v1\ntagger {}\n\ntext\n",
        "2".repeat(40),
        person()
    );
    let of = |text: String| judged(ObjectKind::Tag, text.as_bytes());

    assert!(of(sound.clone()).is_empty());
    assert_eq!(of(sound.replace("object 2", "object x")), ["!badObjectSha1"]);
    assert_eq!(of(sound.replace("object", "objekt")), ["!missingObject"]);
    assert_eq!(of(sound.replace("type commit", "type song")), ["!badType"]);
    assert_eq!(of(sound.replace("type", "typ")), ["!missingTypeEntry"]);
    assert_eq!(of(sound.replace("tag v1\n", "")), ["!missingTagEntry"]);
    assert_eq!(of(sound.replace("tag v1", "tag a..b")), ["badTagName"]);
    assert_eq!(of(sound.replace("tagger", "taggr")), ["missingTaggerEntry"]);
    assert_eq!(of(sound.replace("+0100", "CET")), ["!badTimezone"]);
}

#[test]
fn config_changes_severities_but_not_of_what_is_always_refused() {
    let mut rules = Rules::default();

    assert!(rules.set("hasdotgit", "ignore"));
    assert!(rules.set("zeroPaddedFilemode", "error"));
    assert!(rules.set("largePathname", "error:3"));
    assert!(!rules.set("nulinheader", "warn"));
    assert!(!rules.set("nosuchmessage", "warn"));
    assert!(!rules.set("badDate", "loud"));

    let data = tree(&[("0100644", ".git"), ("100644", "long")]);
    assert_eq!(
        judged_by(rules, ObjectKind::Tree, &data),
        ["!zeroPaddedFilemode", "!largePathname"]
    );
}

#[test]
fn objects_on_the_skip_list_are_not_judged() {
    let mut rules = Rules::default();
    rules.skip(format!("# known\n{} # old\n", id(1)).as_bytes());

    assert!(judged_by(rules, ObjectKind::Tree, &tree(&[("100644", "..")])).is_empty());
}

#[test]
fn gitmodules_and_gitattributes_are_read_after_the_trees_that_name_them() {
    let mut checker = Checker::new(Arc::default());
    let entries = [("100644", ".gitattributes"), ("100644", ".gitmodules")];
    let mut data = tree(&entries);
    let len = data.len();
    data[len - 20..].fill(8);
    checker.check(&id(1), ObjectKind::Tree, &data);

    checker.finish(&mut |found| {
        FoundBlob::Content(if *found == id(8) {
            b"[submodule \"..\"]\n\turl = -x\n\tpath = -y\n\tupdate = !rm\n".to_vec()
        } else {
            vec![b'x'; GITATTRIBUTES_MAX_LINE_BYTES]
        })
    });

    let names: Vec<_> = checker
        .problems()
        .iter()
        .map(|problem| problem.message.name())
        .collect();
    let expected = [
        "gitmodulesName",
        "gitmodulesUrl",
        "gitmodulesName",
        "gitmodulesPath",
        "gitmodulesName",
        "gitmodulesUpdate",
        "gitattributesLineLength",
    ];
    assert_eq!(names, expected);
    assert_eq!(checker.error_count(), names.len());
}

#[test]
fn a_gitmodules_that_is_missing_large_or_no_blob_is_refused() {
    let of = |found: &dyn Fn() -> FoundBlob| {
        let mut checker = Checker::new(Arc::default());
        checker.check(&id(1), ObjectKind::Tree, &tree(&[("100644", ".gitmodules")]));
        checker.finish(&mut |_| found());
        checker.problems()[0].message.name()
    };

    assert_eq!(of(&|| FoundBlob::Missing), "gitmodulesMissing");
    assert_eq!(of(&|| FoundBlob::NotABlob), "gitmodulesBlob");
    assert_eq!(of(&|| FoundBlob::TooLarge), "gitmodulesLarge");
}

#[test]
fn many_problems_are_counted_and_errors_are_shown_first() {
    let mut checker = Checker::new(Arc::default());
    for n in 0..100 {
        checker.check(&id(n), ObjectKind::Tree, &tree(&[("0100644", "a")]));
    }
    checker.check(&id(200), ObjectKind::Tree, &tree(&[("100644", "..")]));

    assert_eq!((checker.error_count(), checker.warning_count()), (1, 100));
    assert_eq!(checker.problems().len(), MAX_PROBLEMS_SHOWN);
    assert_eq!(checker.problems()[0].message, Message::HasDotdot);
    assert!(checker.problems()[0].to_string().ends_with("hasDotdot: contains '..'"));
}
