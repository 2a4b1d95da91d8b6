//! Pushes whose objects are refused, and those that only look as if they should be.

use crate::pack;
use crate::push_support::{Place, command, git_in};

const NULL: &str = "0000000000000000000000000000000000000000";

#[test]
fn dangerous_trees_are_refused_and_nothing_of_them_stays() {
    let place = Place::new();
    let blob = place.commit("a", "a");
    let blob = place.git(&["rev-parse", &format!("{blob}:a")]);
    for (name, message) in [
        (".git", "hasDotgit"),
        ("..", "hasDotdot"),
        (".GIT", "hasDotgit"),
        ("git~1", "hasDotgit"),
    ] {
        let entry = format!("100644 blob {blob}\t{name}\n");
        let (ok, tree, errors) =
            crate::fetch_support::run_git(&place.client, &["mktree", "--missing"], entry.as_bytes());
        assert!(ok, "{errors}");
        let tree = String::from_utf8(tree).expect("an id").trim().to_owned();
        let commit = place.git(&["commit-tree", &tree, "-m", "evil"]);

        let pushed = place
            .push(&[&format!("{commit}:refs/heads/evil")])
            .refused("unpacker error");

        assert!(pushed.text.contains(message), "{}", pushed.text);
        assert!(place.object_files().is_empty());
    }
}

#[test]
fn a_dangerous_gitmodules_is_refused_wherever_it_lies_in_the_pack() {
    let place = Place::new();
    place.commit(".gitmodules", "[submodule \"x\"]\n\tpath = x\n\turl = -u./payload\n");
    place.push(&["main"]).refused("unpacker error");
    assert!(place.object_files().is_empty());

    place.git(&["commit", "-q", "--amend", "-m", "x", "--allow-empty"]);
    place.commit(
        ".gitmodules",
        "[submodule \"x\"]\n\tpath = x\n\turl = https://example.org/x.git\n",
    );
    // The bad one is still in history.
    place.push(&["main"]).refused("gitmodulesUrl");
    let orphan = place.git(&["commit-tree", "main^{tree}", "-m", "clean"]);
    place.push(&[&format!("{orphan}:refs/heads/main")]).ok();
}

#[test]
fn the_repository_decides_how_bad_a_thing_is_as_far_as_it_is_trusted() {
    let mut place = Place::new();
    let tree = place.git(&["hash-object", "-t", "tree", "-w", "--stdin"]);
    let text = format!("tree {tree}\nauthor A <a@b> 01 +0000\ncommitter A <a@b> 1 +0000\n\nx\n");
    let (_, id, _) = crate::fetch_support::run_git(
        &place.client,
        &["hash-object", "-t", "commit", "-w", "--literally", "--stdin"],
        text.as_bytes(),
    );
    let spec = format!("{}:refs/heads/x", String::from_utf8(id).expect("an id").trim());
    place.push(&[&spec]).refused("zeroPaddedDate");
    place.on_server(&["config", "receive.fsck.zeroPaddedDate", "warn"]);

    place.push(&[&spec]).refused("zeroPaddedDate");
    place.trust_hooks = true;
    let pushed = place.push(&[&spec]).ok();

    assert!(pushed.text.contains("warning: object"), "{}", pushed.text);
}

#[test]
fn a_pack_that_lacks_objects_is_refused() {
    let place = Place::new();
    place.commit("a", "first");
    let first = place.git(&["rev-parse", "main"]);
    place.commit("folder/b", "second");
    let second = place.git(&["rev-parse", "main"]);
    let tree = place.git(&["rev-parse", "main^{tree}"]);
    let folder = place.git(&["rev-parse", "main:folder"]);
    let blob = place.git(&["rev-parse", "main:folder/b"]);
    let first_tree = place.git(&["rev-parse", "main~1^{tree}"]);
    let first_blob = place.git(&["rev-parse", "main:a"]);
    let all = [&first, &second, &tree, &folder, &blob, &first_tree, &first_blob];
    for left_out in all {
        if left_out == &second {
            continue;
        }
        let sent: Vec<&String> = all.iter().copied().filter(|id| id != &left_out).collect();
        let answer = push_objects(&place, &sent, &second);

        assert!(
            answer.contains("ng refs/heads/x missing necessary objects"),
            "without {left_out}: {answer}"
        );
        assert!(place.object_files().is_empty());
    }
    assert!(
        push_objects(
            &place,
            &[&first, &tree, &folder, &blob, &first_tree, &first_blob],
            &second
        )
        .contains("ng refs/heads/x")
    );
    assert!(push_objects(&place, &all, &second).contains("ok refs/heads/x"));
    assert_eq!(place.refs(), ["refs/heads/x"]);
}

#[test]
fn a_pack_whose_objects_are_not_what_others_say_is_refused() {
    let place = Place::new();
    place.commit("a", "a");
    let blob = place.git(&["rev-parse", "main:a"]);
    let commit = place.git(&["rev-parse", "main"]);
    let id_bytes = |id: &str| -> Vec<u8> {
        let digits = id.as_bytes().chunks(2);
        let text = digits.map(|pair| std::str::from_utf8(pair).expect("digits"));
        text.map(|pair| u8::from_str_radix(pair, 16).expect("digits")).collect()
    };
    let tree_of = |mode: &str, id: &str| {
        let content = [mode.as_bytes(), b" x\0", &id_bytes(id)].concat();
        let (ok, tree, errors) = crate::fetch_support::run_git(
            &place.client,
            &["hash-object", "-t", "tree", "-w", "--literally", "--stdin"],
            &content,
        );
        assert!(ok, "{errors}");
        String::from_utf8(tree).expect("an id").trim().to_owned()
    };
    let main_tree = place.git(&["rev-parse", "main^{tree}"]);
    for (mode, named) in [
        ("40000", &blob),
        ("40000", &commit),
        ("100644", &main_tree),
        ("100644", &NULL.to_owned()),
    ] {
        let tree = tree_of(mode, named);
        let tip = place.git(&["commit-tree", &tree, "-m", "x"]);
        // Each pack holds everything that is named, as something else.
        let sent: Vec<&String> = [&tip, &tree, &blob, &commit, &main_tree].into_iter().collect();

        let answer = push_objects(&place, &sent, &tip);

        assert!(answer.contains("ng refs/heads/x"), "{mode} {named}: {answer}");
        assert!(place.object_files().is_empty());
    }
    // A commit of another repository need not be here.
    let tree = tree_of("160000", "1234567890123456789012345678901234567890");
    let tip = place.git(&["commit-tree", &tree, "-m", "x"]);
    assert!(push_objects(&place, &[&tip, &tree], &tip).contains("ok refs/heads/x"));
}

/// Pushes a pack of just these objects, with `tip` as the new value of `refs/heads/x`.
fn push_objects(place: &Place, objects: &[&String], tip: &str) -> String {
    let list: String = objects.iter().map(|id| format!("{id}\n")).collect();
    let (ok, pack, errors) =
        crate::fetch_support::run_git(&place.client, &["pack-objects", "-q", "--stdout"], list.as_bytes());
    assert!(ok, "{errors}");
    let mut request = command(NULL, tip, "refs/heads/x", Some("report-status"));
    request.extend(b"0000");
    request.extend(pack);
    let (answer, _) = place.serve(&request);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn the_empty_tree_need_not_be_sent_and_is_stored_all_the_same() {
    let place = Place::new();
    let tree = place.git(&["hash-object", "-t", "tree", "-w", "--stdin"]);
    let empty = place.git(&["commit-tree", &tree, "-m", "nothing yet"]);

    let answer = push_objects(&place, &[&empty], &empty);

    assert!(answer.contains("ok refs/heads/x"), "{answer}");
    assert_eq!(place.refs(), ["refs/heads/x"]);
    assert_eq!(place.on_server(&["cat-file", "-t", &tree]), "tree");
}

#[test]
fn objects_that_lie_around_without_a_ref_prove_nothing() {
    let place = Place::new();
    place.commit("a", "first");
    place.push(&["main"]).ok();
    let commit = place.commit("folder/b", "second");
    // What an interrupted clean-up leaves: the commit and its trees, but not the file.
    let ids: Vec<String> = ["main", "main^{tree}", "main:folder"]
        .iter()
        .map(|name| place.git(&["rev-parse", name]))
        .collect();
    let list: String = ids.iter().map(|id| format!("{id}\n")).collect();
    let pack = place.server.join("objects/pack/pack");
    let (ok, _, errors) = crate::fetch_support::run_git(
        &place.client,
        &["pack-objects", "-q", &pack.to_string_lossy()],
        list.as_bytes(),
    );
    assert!(ok, "{errors}");

    let answer = push_objects(&place, &[], &commit);
    assert!(answer.contains("missing necessary objects"), "{answer}");

    place.commit("c", "third");
    let tip = place.git(&["rev-parse", "main"]);
    let sent: Vec<String> = ["main", "main^{tree}", "main:c"]
        .iter()
        .map(|name| place.git(&["rev-parse", name]))
        .collect();
    let answer = push_objects(&place, &sent.iter().collect::<Vec<_>>(), &tip);
    assert!(answer.contains("missing necessary objects"), "{answer}");
    let blob = place.git(&["rev-parse", "main:folder/b"]);
    let mut sent: Vec<&String> = sent.iter().collect();
    sent.push(&blob);
    let answer = push_objects(&place, &sent, &tip);
    assert!(answer.contains("ok refs/heads/x"), "{answer}");
    assert_eq!(place.refs(), ["refs/heads/main", "refs/heads/x"]);
}

#[test]
fn a_push_from_a_shallow_clone_is_taken_where_the_history_is_known() {
    let place = Place::new();
    for n in 0..4 {
        place.commit("a", &n.to_string());
    }
    place.push(&["main"]).ok();
    let shallow = place.beside("shallow");
    let url = format!("file://{}", place.server.display());
    git_in(
        &place.server,
        &["clone", "-q", "--depth", "1", &url, &shallow.to_string_lossy()],
    );
    std::fs::write(shallow.join("b"), "b").expect("writes");
    git_in(&shallow, &["add", "-A"]);
    git_in(&shallow, &["commit", "-q", "-m", "from a shallow clone"]);

    place.push_from(&shallow, &["main"]).ok();

    assert_eq!(place.server_id("main"), git_in(&shallow, &["rev-parse", "main"]));
    assert_eq!(place.refs(), ["refs/heads/main"]);
    assert!(!place.server.join("shallow").exists());
}

#[test]
fn a_ref_that_needs_a_shallow_boundary_is_refused_unless_the_repository_takes_it() {
    let origin = Place::new();
    for n in 0..4 {
        origin.commit("a", &n.to_string());
    }
    let shallow = origin.beside("shallow");
    let url = format!("file://{}", origin.client.display());
    git_in(
        &origin.client,
        &["clone", "-q", "--depth", "2", &url, &shallow.to_string_lossy()],
    );
    let place = Place::new();

    place
        .push_from(&shallow, &["main"])
        .refused("shallow update not allowed");
    assert!(place.refs().is_empty());
    assert!(place.object_files().is_empty());
    place.on_server(&["config", "receive.shallowUpdate", "true"]);
    place.push_from(&shallow, &["main"]).ok();

    assert_eq!(place.on_server(&["rev-list", "--count", "main"]), "2");
    assert_eq!(place.refs(), ["refs/heads/main"]);
}

#[test]
fn limits_are_told_in_the_report() {
    let mut place = Place::new();
    place.commit("a", &"x".repeat(5000));
    place.settings.max_push_bytes = 100;
    place.push(&["main"]).refused("exceeds the maximum of 100 bytes");
    place.settings.max_push_bytes = 0;
    place.settings.max_push_objects = 2;
    place.push(&["main"]).refused("git.max_push_objects");
    place.settings.max_push_objects = 100;
    place.settings.max_push_inflated_bytes = 5000;
    place.push(&["main"]).refused("git.max_push_inflated_bytes");
    place.settings.max_push_inflated_bytes = 0;
    place.settings.max_object_bytes = 1000;
    place.push(&["main"]).refused("git.max_object_bytes");
    place.settings.max_object_bytes = 1 << 30;
    place.on_server(&["config", "receive.maxInputSize", "50"]);
    place.push(&["main"]).refused("exceeds the maximum of 50 bytes");
    place.settings.max_ref_name_bytes = 20;
    place
        .push(&["main:refs/heads/a-long-name-for-a-ref"])
        .refused("longer than 20 bytes");
    assert!(place.object_files().is_empty());
}

#[test]
fn a_push_cut_off_in_mid_pack_leaves_nothing() {
    let place = Place::new();
    place.commit("a", &"text ".repeat(5000));
    let request = place.push(&["main"]).ok().request;
    let other = Place::new();
    for cut in [request.len() - 1, request.len() - 25, request.len() / 2] {
        let (answer, _) = other.serve(&request[..cut]);
        assert!(String::from_utf8_lossy(&answer).contains("unpack the pack ends too early"));
        assert!(other.object_files().is_empty());
        assert!(other.refs().is_empty());
    }
    assert!(other.calls().is_empty());
}

#[test]
fn a_request_that_is_no_push_is_told_so() {
    let place = Place::new();
    for (request, expected) in [
        (
            &b"0009hello"[..],
            "ERR protocol error: expected old/new/ref, got 'hello'",
        ),
        (b"zzzz", "ERR protocol error: bad line length"),
        (b"0032 ", "ERR protocol error"),
    ] {
        let (answer, served) = place.serve(request);
        assert!(served.is_err());
        assert!(
            String::from_utf8_lossy(&answer).contains(expected),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
}

/// A push of one blob that copies all of the blob `base` and adds to it, under a tag.
fn built_on(base: &str, content: &[u8]) -> (Vec<u8>, String) {
    let mut delta = pack::delta_head(content.len() as u64, content.len() as u64 + 1);
    delta.extend([0xb0, content.len() as u8, (content.len() >> 8) as u8, 1, b'!']);
    let mut id = [0; 20];
    for (byte, digits) in id.iter_mut().zip(base.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).expect("hex"), 16).expect("hex");
    }
    let mut pack = pack::Pack::default();
    pack.delta_of(&id, &delta);
    let made = pack::hex(&pack::id("blob", &[content, b"!"].concat()));
    let mut request = command(&"0".repeat(40), &made, "refs/tags/made", Some("report-status"));
    request.extend(b"0000");
    request.extend(pack.finish());
    (request, made)
}

#[test]
fn a_thin_pack_may_build_only_on_what_the_client_was_told_of() {
    let place = Place::new();
    place.commit("a", "a");
    place.push(&["main"]).ok();
    let secret = b"a password that was deleted from history".to_vec();
    std::fs::write(place.client.join("secret"), &secret).expect("writes");
    let path = place.client.join("secret");
    let id = place.on_server(&["hash-object", "-w", &path.to_string_lossy()]);
    let (request, made) = built_on(&id, &secret);
    let files = place.object_files();

    let (answer, _) = place.serve(&request);

    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.contains("unresolved deltas"), "{answer}");
    assert_eq!(place.object_files(), files);
    // The same once a visible ref reaches it, in a folder or by itself; a hidden one does not count.
    place.on_server(&["update-ref", "refs/secret/keep", &id]);
    place.on_server(&["config", "transfer.hideRefs", "refs/secret"]);
    let (answer, _) = place.serve(&request);
    assert!(String::from_utf8_lossy(&answer).contains("unresolved deltas"));
    place.on_server(&["update-ref", "refs/tags/known", &id]);
    let (answer, _) = place.serve(&request);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.contains("ok refs/tags/made"), "{answer}");
    assert_eq!(place.on_server(&["rev-parse", "refs/tags/made"]), made);
}

#[test]
fn a_thin_pack_builds_on_old_history_and_on_what_a_lender_told() {
    let place = Place::new();
    let text: String = (0..2000).map(|n| format!("line {n}\n")).collect();
    place.commit("old", &text);
    let old = place.git(&["rev-parse", "HEAD:old"]);
    place.commit("old", "something short");
    place.push(&["main"]).ok();
    let content = text.into_bytes();
    // No branch holds it as it is now.
    let (request, _) = built_on(&old, &content);
    let (answer, _) = place.serve(&request);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.contains("ok refs/tags/made"), "{answer}");

    let borrower = Place::new();
    let alternates = borrower.server.join("objects/info/alternates");
    std::fs::create_dir_all(alternates.parent().expect("a folder")).expect("makes folders");
    std::fs::write(alternates, format!("{}\n", place.server.join("objects").display())).expect("writes");
    let (request, _) = built_on(&old, &content);
    let (answer, _) = borrower.serve(&request);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.contains("ok refs/tags/made"), "{answer}");
}
