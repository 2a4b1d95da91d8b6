//! Pushes of stock git, judged by stock git.

use crate::push_support::{Place, command, git_in};

const NULL: &str = "0000000000000000000000000000000000000000";

#[test]
fn the_first_push_into_an_empty_repository_stores_one_pack_and_the_ref() {
    let place = Place::new();
    let id = place.commit("take 1.txt", "la la la\n");

    let pushed = place.push(&["main"]).ok();

    assert!(pushed.text.contains("remote: a line from the gate"), "{}", pushed.text);
    assert_eq!(place.refs(), ["refs/heads/main"]);
    assert_eq!(place.server_id("main"), id);
    assert_eq!(place.object_files().len(), 3);
    assert_eq!(
        place.calls(),
        ["check refs/heads/main []", "begin 1 false", "finish 1 of 1"]
    );
    let stats = pushed.served.expect("served").expect("no error");
    assert_eq!((stats.objects, stats.completed), (3, 0));
}

#[test]
fn a_thin_pack_is_completed_and_stock_git_finds_the_repository_whole() {
    let place = Place::new();
    let long: String = (0..2000).map(|n| format!("line {n} of a long text\n")).collect();
    place.commit("score.txt", &long);
    place.push(&["main"]).ok();
    place.commit("score.txt", &long.replace("line 1000 ", "line one thousand "));

    let pushed = place.push(&["--thin", "main"]).ok();

    let stats = pushed.served.expect("served").expect("no error");
    assert_eq!(stats.completed, 1);
    assert_eq!(place.server_id("main"), place.git(&["rev-parse", "main"]));
    assert_eq!(place.refs(), ["refs/heads/main"]);
    place.on_server(&["repack", "-adq"]);
    assert_eq!(place.refs(), ["refs/heads/main"]);
}

#[test]
fn many_pushes_one_after_the_other_keep_the_repository_whole() {
    let place = Place::new();
    for n in 0..15 {
        place.commit(
            &format!("folder {}/file {}.txt", n % 3, n % 5),
            &format!("{}{n}", "text\n".repeat(100)),
        );
        place.push(&["--thin", "main"]).ok();
    }

    assert_eq!(place.server_id("main"), place.git(&["rev-parse", "main"]));
    assert_eq!(place.refs(), ["refs/heads/main"]);
}

#[test]
fn a_ref_to_what_is_there_already_comes_with_an_empty_pack() {
    let place = Place::new();
    place.commit("a", "a");
    place.commit("b", "b");
    place.push(&["main"]).ok();
    let files = place.object_files();

    let pushed = place.push(&["main:refs/heads/copy", "main~1:refs/heads/older"]).ok();

    assert_eq!(pushed.served.expect("served").expect("no error").objects, 0);
    assert_eq!(place.refs(), ["refs/heads/copy", "refs/heads/main", "refs/heads/older"]);
    assert_eq!(place.object_files(), files);
}

#[test]
fn refs_are_deleted_without_a_pack() {
    let place = Place::new();
    place.commit("a", "a");
    place.push(&["main", "main:refs/heads/gone", "main:refs/tags/t"]).ok();

    place.push(&[":refs/heads/gone", ":refs/tags/t"]).ok();

    assert_eq!(place.refs(), ["refs/heads/main"]);
}

#[test]
fn what_is_refused_beside_a_deletion_leaves_nothing() {
    let mut place = Place::new();
    place.commit("a", "a");
    place.push(&["main", "main:refs/heads/gone"]).ok();
    place.commit("b", "b");
    let files = place.object_files();
    place.gate.refused = vec![("refs/heads/new".into(), "not this one".into())];

    place
        .push(&[":refs/heads/gone", "main:refs/heads/new"])
        .refused("not this one");

    assert_eq!(place.refs(), ["refs/heads/main"]);
    assert_eq!(place.object_files(), files);
    place.gate.refused.clear();
    place.push(&["main:refs/heads/new"]).ok();
    assert_ne!(place.object_files(), files);
}

#[test]
fn the_current_branch_is_not_deleted_unless_the_repository_says_so() {
    let place = Place::new();
    place.commit("a", "a");
    place.push(&["main"]).ok();

    place
        .push(&[":refs/heads/main"])
        .refused("deletion of the current branch prohibited");
    place.on_server(&["config", "receive.denyDeleteCurrent", "ignore"]);
    place.push(&[":refs/heads/main"]).ok();

    assert!(place.refs().is_empty());
}

#[test]
fn tags_notes_and_refs_to_any_object_are_taken() {
    let place = Place::new();
    place.commit("a", "a");
    place.git(&["tag", "-a", "-m", "x", "t1"]);
    place.git(&["tag", "-a", "-m", "x", "t2", "t1"]);
    place.git(&["tag", "blob", "HEAD:a"]);
    place.git(&["tag", "tree", "HEAD^{tree}"]);
    place.git(&["notes", "add", "-m", "nice"]);

    place.push(&["--mirror"]).ok();

    let expected = [
        "refs/heads/main",
        "refs/notes/commits",
        "refs/tags/blob",
        "refs/tags/t1",
        "refs/tags/t2",
    ];
    assert_eq!(place.refs()[..5], expected);
    place.push(&["--mirror"]).ok();
    place
        .push(&["t1:refs/heads/branch"])
        .refused("invalid new value provided");
}

#[test]
fn a_branch_is_moved_back_by_force_and_not_where_the_repository_denies_it() {
    let place = Place::new();
    let first = place.commit("a", "a");
    place.commit("b", "b");
    place.push(&["main"]).ok();

    place.push(&["--force", "main~1:main"]).ok();
    assert_eq!(place.server_id("main"), first);
    place.on_server(&["config", "receive.denyNonFastForwards", "true"]);
    place.push(&["main"]).ok();
    place.push(&["--force", "main~1:main"]).refused("non-fast-forward");
    place.on_server(&["config", "receive.denyDeletes", "true"]);
    place.push(&["main:refs/heads/x"]).ok();
    place.push(&[":refs/heads/x"]).refused("deletion prohibited");
}

#[test]
fn a_push_that_saw_an_old_ref_is_refused() {
    let place = Place::new();
    place.commit("a", "a");
    place.push(&["main"]).ok();
    let seen = place.advertise();
    let seen = &seen[b"001f# service=git-receive-pack\n0000".len()..];
    place.commit("b", "b");
    place.push(&["main"]).ok();
    place.commit("c", "c");
    let files = place.object_files();
    drop(place.calls());

    let pushed = place
        .push_seeing(&place.client, seen, &["main"])
        .refused("incorrect old value provided");

    assert!(pushed.text.contains("but expected"), "{}", pushed.text);
    assert!(!place.calls().iter().any(|call| call.starts_with("finish 0")));
    assert_eq!(place.refs(), ["refs/heads/main"]);
    assert_eq!(place.object_files(), files, "nothing stays of it");
}

#[test]
fn an_atomic_push_changes_all_refs_or_none() {
    let place = Place::new();
    place.commit("a", "a");
    place.push(&["main", "main:refs/heads/other/conflict"]).ok();
    place.commit("b", "b");
    let files = place.object_files();

    let pushed = place.push(&["--atomic", "main:refs/heads/atomic", "main:refs/heads/other"]);

    let pushed = pushed.refused("main -> other (atomic transaction failed)");
    assert!(
        pushed.text.contains("main -> atomic (atomic transaction failed)"),
        "{}",
        pushed.text
    );
    assert_eq!(place.refs(), ["refs/heads/main", "refs/heads/other/conflict"]);
    let pushed = place.push(&["--atomic", "main:refs/heads/new", "main:refs/heads/new/below"]);
    pushed.refused("main -> new (atomic transaction failed)");
    assert_eq!(place.object_files(), files, "nothing stays of them");
    place.push(&["--atomic", "main:refs/heads/x", "main"]).ok();
    assert_eq!(
        place.refs(),
        ["refs/heads/main", "refs/heads/other/conflict", "refs/heads/x"]
    );
}

#[test]
fn an_atomic_push_that_fails_reports_even_a_deletion_of_nothing_as_failed() {
    let place = Place::new();
    place.commit("a", "a");
    place.push(&["main", "main:refs/heads/other"]).ok();
    let unknown = "12".repeat(20);
    let mut request = command(&unknown, NULL, "refs/heads/gone", Some("report-status atomic"));
    request.extend(command(&unknown, NULL, "refs/heads/other", None));
    request.extend_from_slice(b"0000");

    let (report, _) = place.serve(&request);

    let report = String::from_utf8_lossy(&report);
    assert!(
        report.contains("ng refs/heads/gone atomic transaction failed"),
        "{report}"
    );
    assert!(
        report.contains("ng refs/heads/other atomic transaction failed"),
        "{report}"
    );
    assert_eq!(place.refs(), ["refs/heads/main", "refs/heads/other"]);
}

#[test]
fn what_the_gate_refuses_leaves_no_object_and_tells_its_sentence() {
    let mut place = Place::new();
    place.gate.refused = vec![(
        "refs/heads/main".into(),
        "main is protected: push to another branch".into(),
    )];
    place.commit("a", "a");

    place
        .push(&["main"])
        .refused("(main is protected: push to another branch)");
    assert!(place.refs().is_empty());
    assert!(place.object_files().is_empty());
    assert_eq!(place.calls(), ["check refs/heads/main []"]);

    place
        .push(&["main", "main:refs/heads/other"])
        .refused("main is protected");
    assert_eq!(place.refs(), ["refs/heads/other"]);
    place.commit("b", "b");
    let pushed = place.push(&["--atomic", "main", "main:refs/heads/third"]);
    pushed.refused("main -> third (atomic push failure)");

    place.gate.refused.clear();
    place.gate.is_closed = true;
    place.push(&["main"]).refused("the books are closed");
    assert_eq!(place.refs(), ["refs/heads/other"]);
}

#[test]
fn push_options_reach_the_gate_and_the_hooks() {
    let mut place = Place::new();
    place.trust_hooks = true;
    place.hook(
        "pre-receive",
        "echo \"$GIT_PUSH_OPTION_COUNT: $GIT_PUSH_OPTION_0, $GIT_PUSH_OPTION_1\"",
    );
    place.commit("a", "a");

    let pushed = place
        .push(&["--push-option=one", "--push-option=two words", "main"])
        .ok();

    assert!(pushed.text.contains("remote: 2: one, two words"), "{}", pushed.text);
    assert_eq!(place.calls()[0], "check refs/heads/main [one two words]");
}

#[test]
fn hooks_run_in_gits_order_with_gits_environment() {
    let mut place = Place::new();
    place.trust_hooks = true;
    let log = place.beside("log");
    for name in [
        "pre-receive",
        "update",
        "reference-transaction",
        "post-receive",
        "post-update",
    ] {
        let script = format!(
            "{{ echo \"{name} $* ${{GIT_QUARANTINE_PATH:+quarantine}}\"; test {name} = update || cat; }} >> {}; \
             echo \"{name} $REMOTE_USER $GIT_PUSHER $GIT_COMMITTER_EMAIL $AUXIN_REPOSITORY\"; \
             git rev-parse --is-bare-repository >/dev/null || exit 1",
            log.display()
        );
        place.hook(name, &script);
    }
    let id = place.commit("a", "a");

    let pushed = place.push(&["main"]).ok();

    let line = format!("{NULL} {id} refs/heads/main");
    let expected = format!(
        "pre-receive  quarantine\n{line}\nupdate refs/heads/main {NULL} {id} quarantine\n\
         reference-transaction prepared \n{line}\nreference-transaction committed \n{line}\n\
         post-receive  \n{line}\npost-update refs/heads/main \n"
    );
    assert_eq!(std::fs::read_to_string(log).expect("the hooks wrote it"), expected);
    assert!(
        pushed
            .text
            .contains("remote: pre-receive anna anna anna@http.203.0.113.7 anna/song"),
        "{}",
        pushed.text
    );
}

#[test]
fn hooks_see_the_pushed_objects_and_can_refuse_them() {
    let mut place = Place::new();
    place.trust_hooks = true;
    place.hook(
        "pre-receive",
        "read old new ref; git cat-file -p $new | grep -q loud && { echo too loud >&2; exit 1; }; true",
    );
    place.hook("update", "test $1 != refs/heads/closed");
    let script = "test $1 != prepared || ! grep -q refs/heads/frozen";
    place.hook("reference-transaction", script);
    place.commit("loud", "a");

    let pushed = place.push(&["main"]).refused("pre-receive hook declined");
    assert!(pushed.text.contains("remote: too loud"), "{}", pushed.text);
    assert!(place.object_files().is_empty());

    place.git(&["commit", "-q", "--amend", "-m", "quiet"]);
    place
        .push(&["main:refs/heads/closed", "main"])
        .refused("closed (hook declined)");
    assert_eq!(place.refs(), ["refs/heads/main"]);
    place
        .push(&["main:refs/heads/frozen"])
        .refused("frozen (hook declined)");
    let pushed = place.push(&["--atomic", "main:refs/heads/closed", "main:refs/heads/open"]);
    pushed.refused("open (atomic push failure)");
    assert_eq!(place.refs(), ["refs/heads/main"]);
}

#[test]
fn hooks_that_nobody_trusts_do_not_run() {
    let place = Place::new();
    for name in [
        "pre-receive",
        "update",
        "reference-transaction",
        "post-receive",
        "post-update",
    ] {
        place.hook(name, "exit 1");
    }
    place.commit("a", "a");

    place.push(&["main"]).ok();
}

#[test]
fn hidden_refs_are_neither_told_nor_touched() {
    let place = Place::new();
    place.commit("a", "a");
    place.push(&["main", "main:refs/hidden/x"]).ok();
    place.on_server(&["config", "receive.hideRefs", "refs/hidden"]);

    let told = String::from_utf8_lossy(&place.advertise()).into_owned();
    assert!(!told.contains("refs/hidden"), "{told}");
    place
        .push(&["main:refs/hidden/y"])
        .refused("deny updating a hidden ref");
    let id = place.server_id("main");
    let mut request = command(&id, NULL, "refs/hidden/x", Some("report-status"));
    request.extend(b"0000");
    let (answer, _) = place.serve(&request);
    assert!(String::from_utf8_lossy(&answer).contains("ng refs/hidden/x deny deleting a hidden ref"));
}

#[test]
fn the_advertisement_is_what_stock_git_says() {
    let place = Place::new();
    let of_git = |place: &Place| {
        let mut expected = b"001f# service=git-receive-pack\n0000".to_vec();
        let output =
            crate::fetch_support::run_git(&place.server, &["receive-pack", "--http-backend-info-refs", "."], b"");
        expected.extend(output.1);
        without_capabilities(&expected)
    };
    assert_eq!(without_capabilities(&place.advertise()), of_git(&place));
    place.commit("a", "a");
    place.git(&["tag", "-a", "-m", "x", "t"]);
    place.push(&["--mirror"]).ok();
    assert_eq!(without_capabilities(&place.advertise()), of_git(&place));
    let capabilities = String::from_utf8_lossy(&place.advertise()).into_owned();
    let words = "report-status report-status-v2 delete-refs side-band-64k quiet atomic ofs-delta push-options \
                 object-format=sha1 agent=auxin/";
    assert!(capabilities.contains(words), "{capabilities}");
}

#[test]
fn a_session_id_is_told_where_the_repository_or_else_the_settings_say_so() {
    let mut place = Place::new();
    let ids = |place: &Place| {
        let told = String::from_utf8_lossy(&place.advertise()).into_owned();
        let words = told.split_ascii_whitespace().map(str::to_owned);
        let ids: Vec<String> = words.filter(|word| word.starts_with("session-id=")).collect();
        ids
    };
    assert!(ids(&place).is_empty());
    place.settings.advertise_session_id = true;
    let (first, second) = (ids(&place), ids(&place));
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_ne!(first, second, "each answer has its own");
    place.commit("a", "a");
    place.push(&["main"]).ok();
    place.on_server(&["config", "transfer.advertiseSID", "false"]);
    assert!(ids(&place).is_empty());
    place.settings.advertise_session_id = false;
    place.on_server(&["config", "transfer.advertiseSID", "true"]);
    assert_eq!(ids(&place).len(), 1);
}

/// The text of an advertisement, line by line, without lengths and capabilities.
fn without_capabilities(advertisement: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest = advertisement;
    while rest.len() >= 4 {
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..4]).expect("digits"), 16).expect("digits");
        let line = &rest[4..length.max(4)];
        let line = line.split(|&byte| byte == 0).next().unwrap_or_default();
        lines.push(String::from_utf8_lossy(line).trim_end().to_owned());
        rest = &rest[length.max(4)..];
    }
    lines
}

#[test]
fn objects_of_alternates_need_not_be_sent() {
    let place = Place::new();
    place.commit("a", "a");
    place.push(&["main"]).ok();
    let fork = place.beside("fork.git");
    git_in(
        &place.server,
        &["clone", "-q", "--bare", "--shared", ".", &fork.to_string_lossy()],
    );
    git_in(&fork, &["update-ref", "-d", "refs/heads/main"]);
    git_in(&fork, &["pack-refs", "--all"]);
    let mut forked = Place::new();
    let origin = std::mem::replace(&mut forked.server, fork);
    drop(origin);

    let told = String::from_utf8_lossy(&forked.advertise()).into_owned();
    assert!(told.contains(" .have"), "{told}");
    place.commit("b", "b");
    let pushed = forked.push_from(&place.client, &["main"]).ok();
    assert_eq!(pushed.served.expect("served").expect("no error").objects, 3);
    assert_eq!(forked.refs(), ["refs/heads/main"]);
}

#[test]
fn a_probe_is_answered_with_nothing_and_leaves_nothing() {
    let place = Place::new();

    for request in [&b"0000"[..], b""] {
        let (answer, served) = place.serve(request);
        assert!(answer.is_empty());
        assert!(served.expect("no error").outcomes.is_empty());
    }

    assert!(place.object_files().is_empty());
    assert!(place.calls().is_empty());
}

#[test]
fn refs_in_each_others_way_are_refused_and_deletions_make_room() {
    let place = Place::new();
    place.commit("a", "a");
    place
        .push(&["main:refs/heads/branch/conflict", "main:refs/heads/file"])
        .ok();

    place
        .push(&["main:refs/heads/branch", "main:refs/heads/file/x"])
        .refused("refname conflict");
    assert_eq!(place.refs(), ["refs/heads/branch/conflict", "refs/heads/file"]);
    place
        .push(&[":refs/heads/branch/conflict", "main:refs/heads/branch"])
        .ok();
    assert_eq!(place.refs(), ["refs/heads/branch", "refs/heads/file"]);
}

#[test]
fn names_that_are_no_refs_are_refused_one_by_one() {
    let place = Place::new();
    let id = place.commit("a", "a");
    let mut request = Vec::new();
    let names = [
        "refs/heads/ok",
        "refs/heads/../../x",
        "HEAD",
        "refs/heads/a.lock",
        "refs/stash",
        "refs/heads/twice",
        "refs/heads/twice",
    ];
    for (n, name) in names.iter().enumerate() {
        request.extend(command(
            NULL,
            &id,
            name,
            (n == 0).then_some("report-status side-band-64k"),
        ));
    }
    request.extend(b"0000");
    let list = place.git(&["rev-list", "--objects", "main"]);
    let ids: String = list.lines().map(|line| format!("{}\n", &line[..40])).collect();
    let (_, pack, _) =
        crate::fetch_support::run_git(&place.client, &["pack-objects", "-q", "--stdout"], ids.as_bytes());
    request.extend(pack);

    let (answer, served) = place.serve(&request);

    let answer = String::from_utf8_lossy(&answer).into_owned();
    for name in &names[1..5] {
        assert!(answer.contains(&format!("ng {name} funny refname")), "{name}: {answer}");
    }
    assert!(answer.contains("ok refs/heads/ok"), "{answer}");
    assert!(answer.contains("ng refs/heads/twice multiple updates"), "{answer}");
    assert!(answer.ends_with("00000000"), "{answer}");
    let refused = served
        .expect("no error")
        .outcomes
        .iter()
        .filter(|outcome| outcome.refused.is_some())
        .count();
    assert_eq!(refused, 6);
    assert_eq!(place.refs(), ["refs/heads/ok"]);
}

#[test]
fn pushing_the_same_objects_twice_keeps_one_pack() {
    let place = Place::new();
    place.commit("a", "a");
    let request = place.push(&["main:refs/heads/x"]).ok().request;
    place.on_server(&["update-ref", "-d", "refs/heads/x"]);

    let (answer, _) = place.serve(&request);

    assert!(String::from_utf8_lossy(&answer).contains("ok refs/heads/x"));
    assert_eq!(place.packs(), 1);
    assert_eq!(place.refs(), ["refs/heads/x"]);
}

#[test]
fn a_thousand_refs_are_pushed_at_once_and_deleted_again() {
    let place = Place::new();
    place.commit("a", "a");
    let specs: Vec<String> = (0..1000).map(|n| format!("main:refs/heads/many/{n:04}")).collect();
    let mut args: Vec<&str> = specs.iter().map(String::as_str).collect();
    args.push("--atomic");

    place.push(&args).ok();
    assert_eq!(place.refs().len(), 1000);
    let deletions: Vec<String> = (0..1000).map(|n| format!(":refs/heads/many/{n:04}")).collect();
    place
        .push(&deletions.iter().map(String::as_str).collect::<Vec<_>>())
        .ok();

    assert!(place.refs().is_empty());
}

#[test]
fn a_symref_and_its_target_pushed_together_must_agree() {
    let place = Place::new();
    place.commit("a", "a");
    place.push(&["main"]).ok();
    place.on_server(&["symbolic-ref", "refs/heads/alias", "refs/heads/main"]);
    place.commit("b", "b");

    place.push(&["main", "main:refs/heads/alias"]).ok();
    assert_eq!(place.server_id("main"), place.git(&["rev-parse", "main"]));
    place.commit("c", "c");
    place
        .push(&["main", "--force", "main~2:refs/heads/alias"])
        .refused("inconsistent aliased update");
}

#[test]
fn a_client_that_knows_no_ofs_delta_can_push_deltas_on_what_we_have() {
    let place = Place::new();
    let long: String = (0..2000).map(|n| format!("line {n} of a long text\n")).collect();
    place.commit("score.txt", &long);
    place.push(&["main"]).ok();
    for n in 0..5 {
        place.commit("score.txt", &long.replace("line 1000 ", &format!("line {n} thousand ")));
    }
    let old = place.server_id("main");
    let new = place.git(&["rev-parse", "main"]);
    let (ok, pack, errors) = crate::fetch_support::run_git(
        &place.client,
        &["pack-objects", "-q", "--stdout", "--thin", "--revs", "--no-reuse-delta"],
        format!("{new}\n^{old}\n").as_bytes(),
    );
    assert!(ok, "{errors}");
    let mut request = command(&old, &new, "refs/heads/main", Some("report-status"));
    request.extend(b"0000");
    request.extend(pack);

    let (answer, served) = place.serve(&request);

    assert!(String::from_utf8_lossy(&answer).contains("ok refs/heads/main"));
    assert!(served.expect("no error").completed >= 1);
    assert_eq!(place.refs(), ["refs/heads/main"]);
}

#[test]
fn deleting_what_does_not_exist_is_a_success_without_an_effect() {
    let place = Place::new();
    let id = place.commit("a", "a");
    place.push(&["main"]).ok();
    place.calls();
    let unknown = "12".repeat(20);
    for old in [NULL, &unknown] {
        let mut request = command(old, NULL, "refs/heads/none", Some("report-status side-band-64k"));
        request.extend(b"0000");
        let (answer, _) = place.serve(&request);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(
            answer.contains("ok refs/heads/none") && answer.contains("deleting a non-existent ref"),
            "{answer}"
        );
    }
    assert!(place.calls().is_empty());

    std::fs::write(place.server.join("refs/heads/broken"), format!("{unknown}\n")).expect("writes");
    let mut request = command(NULL, NULL, "refs/heads/broken", Some("report-status"));
    request.extend(command(&unknown, NULL, "refs/heads/main", None));
    request.extend(b"0000");
    let (answer, _) = place.serve(&request);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.contains("ok refs/heads/broken"), "{answer}");
    assert!(answer.contains("ng refs/heads/main"), "{answer}");
    assert_eq!(place.server_id("main"), id);
    assert_eq!(place.refs(), ["refs/heads/main"]);
}

#[test]
fn a_push_survives_stock_git_repacking_before_its_refs_have_moved() {
    let mut place = Place::new();
    place.commit("a", "a");
    place.push(&["main"]).ok();
    place.commit("b", "b");
    let server = place.server.clone();
    place.gate.meanwhile = Some(std::sync::Arc::new(move || {
        git_in(&server, &["repack", "-a", "-d", "-q"]);
        git_in(&server, &["prune", "--expire=now"]);
    }));

    place.push(&["main", "main~1:refs/heads/empty-pack"]).ok();

    assert_eq!(place.refs(), ["refs/heads/empty-pack", "refs/heads/main"]);
    assert_eq!(place.server_id("main"), place.git(&["rev-parse", "main"]));
    assert!(place.object_files().iter().all(|file| !file.ends_with(".keep")));
}

#[test]
fn a_delta_on_a_file_too_large_for_deltas_is_refused_with_the_limit() {
    let mut place = Place::new();
    let text: String = (0..2000).map(|n| format!("line {n}\n")).collect();
    place.commit("a", &text);
    place.push(&["main"]).ok();
    place.commit("a", &format!("{text}more"));
    place.settings.max_delta_object_bytes = 4096;
    let files = place.object_files();

    place.push(&["--thin", "main"]).refused("git.max_delta_object_bytes");

    assert_eq!(place.object_files(), files);
}
