use super::trees::WALKED_ENTRY_BYTES;
use super::*;
use crate::git::walk::{Bits, Walker};

const LIMITS: FilterLimits = FilterLimits {
    max_depth: 4,
    max_bytes: 1000,
    max_parts: 10,
    max_pattern_bytes: 1000,
    max_patterns: 100,
};

fn parse(text: &str) -> Result<Filter, BadFilter> {
    Filter::parse(text, LIMITS)
}

#[test]
fn every_filter_of_git_is_understood() {
    let id = "1".repeat(40);
    for (text, filter) in [
        ("blob:none", Filter::BlobNone),
        ("blob:limit=2k", Filter::BlobLimit(2048)),
        ("blob:limit=0", Filter::BlobLimit(0)),
        ("tree:0", Filter::TreeDepth(0)),
        ("object:type=tag", Filter::ObjectType(ObjectKind::Tag)),
        (
            "combine:blob:none+tree%3A3",
            Filter::Combine(vec![Filter::BlobNone, Filter::TreeDepth(3)]),
        ),
    ] {
        assert_eq!(parse(text), Ok(filter), "{text}");
    }
    assert!(matches!(parse(&format!("sparse:oid={id}")), Ok(Filter::SparseOid(_))));
    let by_name = parse("combine:sparse:oid=main:a%2Bb+tree:1").and_then(|filter| {
        filter.resolve(&mut |name| ObjectId::from_hex(id.as_bytes()).map_err(|_| BadFilter::Invalid(name.into())))
    });
    assert!(matches!(by_name, Ok(Filter::Combine(parts)) if matches!(parts[0], Filter::SparseOid(_))));
}

fn git(folder: &std::path::Path, arguments: &[&str], input: &str) -> String {
    use std::io::Write;
    let mut child = std::process::Command::new("git")
        .current_dir(folder)
        .args(arguments)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("git starts");
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(input.as_bytes())
        .expect("takes input");
    let output = child.wait_with_output().expect("git ends");
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).expect("hex").trim().to_owned()
}

#[test]
fn a_tree_with_more_paths_than_can_be_remembered_takes_no_more_memory_for_them() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    git(folder.path(), &["init", "-q", "--bare", "."], "");
    let patterns = git(
        folder.path(),
        &["hash-object", "-w", "--stdin"],
        "nothing\n/a/b/c/d/e/file\n",
    );
    let mut below = format!("100644 blob {patterns}\tfile\n");
    let mut root = String::new();
    for _ in 0..6 {
        root = git(folder.path(), &["mktree"], &below);
        below = ["a", "b", "c", "d", "e"]
            .map(|name| format!("040000 tree {root}\t{name}\n"))
            .concat();
    }
    let id = |text: &str| ObjectId::from_hex(text.as_bytes()).expect("an id");
    let hash = gix::hash::Kind::Sha1;
    let store = super::super::object_store::ObjectStore::open(&folder.path().join("objects"), hash, &[], None, 1 << 20)
        .expect("opens");
    let mut walker = Walker::new(&store, &[], 1 << 20);
    let mut trees = FilteredTrees::new(&Filter::SparseOid(id(&patterns)), &mut walker).expect("readable");
    trees.max_walked_bytes = 10_000;
    let (mut bits, nothing) = (Bits::new(store.len()), Bits::new(store.len()));

    trees
        .add_tree(&mut walker, id(&root), false, &mut bits, &nothing, &mut || Ok(()))
        .expect("walks");

    assert!(
        trees.walked.len() <= 10_000 / WALKED_ENTRY_BYTES,
        "{}",
        trees.walked.len()
    );
    assert_eq!(bits.count(), 7, "six folders and the file that one path includes");
}

#[test]
fn a_filter_that_is_not_known_is_named_in_the_refusal() {
    let refusal = parse("sparse:path=x").map_err(|bad| bad.to_string());

    assert_eq!(refusal, Err("filter 'sparse:path=x' not supported".to_owned()));
}

#[test]
fn deeply_nested_filters_are_refused() {
    let mut text = "blob:none".to_owned();
    for _ in 0..6 {
        text = format!(
            "combine:{}",
            percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC)
        );
    }

    assert_eq!(parse(&text), Err(BadFilter::TooLarge));
}

#[test]
fn filters_of_more_parts_than_allowed_are_refused_however_they_are_nested() {
    let flat = |count: usize| format!("combine:{}", vec!["tree:1"; count].join("+"));
    assert!(parse(&flat(10)).is_ok());
    assert_eq!(parse(&flat(11)), Err(BadFilter::TooManyParts { limit: 10 }));
    let half = percent_encoding::utf8_percent_encode(&flat(6), percent_encoding::NON_ALPHANUMERIC).to_string();
    assert_eq!(
        parse(&format!("combine:{half}+{half}")),
        Err(BadFilter::TooManyParts { limit: 10 })
    );
}

/// A bare repository with one folder of `entries` files and folders, and a blob of `patterns`.
fn wide(entries: usize, patterns: &str) -> (tempfile::TempDir, ObjectStore, ObjectId, ObjectId) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    git(folder.path(), &["init", "-q", "--bare", "."], "");
    let patterns = git(folder.path(), &["hash-object", "-w", "--stdin"], patterns);
    let mut listing = String::new();
    for number in 0..entries {
        listing.push_str(&format!("100644 blob {patterns}\tfile-{number}\n"));
    }
    let root = git(folder.path(), &["mktree"], &listing);
    let hash = gix::hash::Kind::Sha1;
    let store = ObjectStore::open(&folder.path().join("objects"), hash, &[], None, 64 << 20).expect("opens");
    let id = |text: &str| ObjectId::from_hex(text.as_bytes()).expect("an id");
    (folder, store, id(&root), id(&patterns))
}

#[test]
fn the_comparisons_of_one_wide_folder_with_many_patterns_tick() {
    let patterns: String = (0..500).map(|number| format!("/nothing-{number}\n")).collect();
    let (_folder, store, root, blob) = wide(1000, &patterns);
    for (filter, least_ticks) in [(Filter::SparseOid(blob), 100), (Filter::TreeDepth(2), 0)] {
        let mut walker = Walker::new(&store, &[], 1 << 20);
        let mut trees = FilteredTrees::new(&filter, &mut walker).expect("readable");
        let (mut bits, nothing) = (Bits::new(store.len()), Bits::new(store.len()));
        let mut ticks = 0;

        trees
            .add_tree(&mut walker, root, false, &mut bits, &nothing, &mut || {
                ticks += 1;
                Ok(())
            })
            .expect("walks");

        assert!(ticks >= least_ticks, "{filter:?}: {ticks}");
    }
}

#[test]
fn a_list_of_patterns_that_is_named_often_is_kept_once() {
    let (_folder, store, _, blob) = wide(1, "/a\n/b\n");
    let filter = Filter::Combine(vec![Filter::SparseOid(blob); 50]);
    let mut walker = Walker::new(&store, &[], 1 << 20);

    let trees = FilteredTrees::new(&filter, &mut walker).expect("readable");

    assert_eq!((trees.rules.len(), trees.matches_per_entry), (1, 3));
}

#[test]
fn lists_of_patterns_are_bounded_in_bytes_and_number() {
    let many = "a\n".repeat(LIMITS.max_patterns + 1);
    let long = "#".repeat(LIMITS.max_pattern_bytes as usize + 1);
    for content in [many, long] {
        let (_folder, store, _, blob) = wide(1, &content);
        let checked = Filter::SparseOid(blob)
            .check_patterns(&store, LIMITS)
            .expect("readable");
        assert!(matches!(checked, Err(BadFilter::TooManyPatterns { .. })));
    }
    let (_folder, store, _, blob) = wide(1, "/a\n");
    assert_eq!(
        Filter::SparseOid(blob)
            .check_patterns(&store, LIMITS)
            .expect("readable"),
        Ok(())
    );
}

#[test]
fn sizes_that_overflow_are_refused() {
    assert!(parse("blob:limit=99999999999999999999").is_err());
    assert!(parse("blob:limit=18446744073709551615g").is_err());
    assert!(parse("blob:limit=k").is_err());
}
