//! Packs that were made to do harm: each is refused, costs little memory and leaves nothing behind.

use std::io::Write;

use super::limits::Target;
use crate::support::pack::{self, BLOB, COMMIT, OFS_DELTA, Pack, TREE};
use crate::support::repositories;
use crate::support::wire::{self, NO_OBJECT, V2};
use crate::support::{MIB, Request, TestServer, noise};

/// A commit with one file, and everything of it but the commit as a pack.
pub fn file_in_commit(kind: &str, mode: &str, name: &[u8], content: &[u8]) -> (Pack, String) {
    let file = pack::id(kind, content);
    let tree = pack::tree(&[(mode, name, file)]);
    let tree_id = pack::id("tree", &tree);
    let commit = pack::commit(&tree_id);
    let mut pack = Pack::default();
    pack.object(COMMIT, &commit);
    pack.object(TREE, &tree);
    if kind == "blob" {
        pack.object(BLOB, content);
    }
    (pack, pack::hex(&pack::id("commit", &commit)))
}

#[test]
fn a_pack_head_that_promises_four_billion_objects_costs_nothing() {
    let target = Target::start();
    let (pack, tip) = file_in_commit("blob", "100644", b"take", b"la");
    target.assert_pack_refused(&tip, &pack.finish_with_count(u32::MAX), "unpack");
}

#[test]
fn a_pack_with_more_or_fewer_objects_than_it_says_or_a_wrong_sum_is_refused() {
    let target = Target::start();
    let pack = || file_in_commit("blob", "100644", b"take", b"la");
    let (right, tip) = pack();
    let mut sum = right.finish();
    *sum.last_mut().expect("a byte") ^= 1;
    target.assert_pack_refused(&tip, &sum, "unpack");
    target.assert_pack_refused(&tip, &pack().0.finish_with_count(2), "unpack");
    target.assert_pack_refused(&tip, &pack().0.finish_with_count(4), "unpack");
    let mut cut = pack().0.finish();
    cut.truncate(cut.len() - 25);
    target.assert_pack_refused(&tip, &cut, "unpack");
    let mut version = pack().0.finish();
    version[7] = 9;
    target.assert_pack_refused(&tip, &version, "unpack");
    target.assert_pack_refused(&tip, b"", "unpack");
    target.assert_pack_refused(&tip, b"PACK", "unpack");
}

#[test]
fn an_object_that_unfolds_beyond_the_size_it_says_is_refused() {
    let target = Target::start();
    let (mut pack, tip) = file_in_commit("", "100644", b"take", b"la");
    pack.raw(BLOB, 10, &[], &pack::deflate_zeros(1 << 30));
    target.assert_pack_refused(&tip, &pack.finish(), "unpack");
    let (mut pack, tip) = file_in_commit("", "100644", b"take", b"la");
    pack.raw(BLOB, 1 << 40, &[], &pack::deflate(b"la"));
    target.assert_pack_refused(&tip, &pack.finish(), "unpack");
    // A folder of a gigabyte, as large as it says.
    let (mut pack, tip) = file_in_commit("", "100644", b"take", b"la");
    pack.raw(TREE, 1 << 30, &[], &pack::deflate_zeros(1 << 30));
    target.assert_pack_refused(&tip, &pack.finish(), "");
}

#[test]
fn objects_pushes_and_packs_have_limits_that_can_be_set() {
    let target = Target::with(
        TestServer::prepare()
            .setting("git.max_object_bytes", MIB)
            .setting("git.max_push_bytes", 4 * MIB)
            .setting("git.max_push_inflated_bytes", 8 * MIB)
            .setting("git.max_push_objects", 100),
    );
    let (pack, tip) = file_in_commit("blob", "100644", b"take", &noise(1, 2 * MIB));
    target.assert_pack_refused(&tip, &pack.finish(), "max");
    let (mut pack, tip) = file_in_commit("blob", "100644", b"take", b"la");
    for number in 0..8 {
        pack.object(BLOB, &noise(number, MIB - 1000));
    }
    target.assert_pack_refused(&tip, &pack.finish(), "max");
    let (mut pack, tip) = file_in_commit("blob", "100644", b"take", b"la");
    for number in 0..100_u32 {
        pack.object(BLOB, &number.to_be_bytes());
    }
    target.assert_pack_refused(&tip, &pack.finish(), "objects");
    // A few kilobytes that unfold to nine megabytes.
    let (mut pack, tip) = file_in_commit("blob", "100644", b"take", b"la");
    for number in 0..9 {
        pack.object(BLOB, &vec![0; MIB - 1000 - number]);
    }
    target.assert_pack_refused(&tip, &pack.finish(), "git.max_push_inflated_bytes");
}

#[test]
fn a_chain_of_deltas_that_is_too_long_is_refused_and_a_long_one_is_not() {
    let target = Target::with(TestServer::prepare().setting("git.max_delta_depth", 200));
    let chain = |length: u64| {
        let (mut pack, tip) = file_in_commit("blob", "100644", b"take", b"la");
        let mut base = pack.object(BLOB, b"first verse");
        let mut size = 11;
        for number in 0..length {
            let content = format!("verse {number:08}");
            base = pack.delta_at(base, &pack::insert(size, content.as_bytes()));
            size = content.len() as u64;
        }
        (pack.finish(), tip)
    };
    let (pack, tip) = chain(201);
    target.assert_pack_refused(&tip, &pack, "delta");
    let (pack, tip) = chain(50_000);
    target.assert_pack_refused(&tip, &pack, "delta");

    let (pack, tip) = chain(199);
    let command = wire::command(NO_OBJECT, &tip, "refs/heads/long");
    let body = wire::push(&[command], "report-status", &[], &pack);
    let answer = target.attack(Request::receive_pack("anna/song", body));
    assert!(answer.text().contains("ok refs/heads/long"), "{answer:?}");
    repositories::assert_sound(&target.server.folder_of("anna/song"));
}

#[test]
fn deltas_that_lie_are_refused() {
    let target = Target::start();
    let base_content = b"first verse";
    let attempt = |build: &dyn Fn(&mut Pack, u64)| {
        let (mut pack, tip) = file_in_commit("blob", "100644", b"take", b"la");
        let base = pack.object(BLOB, base_content);
        build(&mut pack, base);
        target.assert_pack_refused(&tip, &pack.finish(), "unpack");
    };
    // The result would be four gigabytes.
    attempt(&|pack, base| {
        let mut delta = pack::delta_head(11, 1 << 32);
        delta.extend([0x90, 11]);
        pack.delta_at(base, &delta);
    });
    // It copies what lies behind the end of its base.
    attempt(&|pack, base| {
        let mut delta = pack::delta_head(11, 100);
        delta.extend([0x91, 5, 100]);
        pack.delta_at(base, &delta);
    });
    // It says another size of its base, or makes less than it says.
    attempt(&|pack, base| {
        pack.delta_at(base, &pack::insert(12, b"verse"));
    });
    attempt(&|pack, base| {
        let mut delta = pack::delta_head(11, 100);
        delta.extend([0x90, 11]);
        pack.delta_at(base, &delta);
    });
    // An instruction that is reserved, and one that is cut off.
    attempt(&|pack, base| {
        let mut delta = pack::delta_head(11, 5);
        delta.push(0);
        pack.delta_at(base, &delta);
    });
    attempt(&|pack, base| {
        let mut delta = pack::delta_head(11, 100);
        delta.extend([100, b'x']);
        pack.delta_at(base, &delta);
    });
    // Its base lies at itself, before the pack, in the head, or between two entries.
    for distance in [0_u64, 1, 1 << 40] {
        attempt(&|pack, _| {
            let delta = pack::insert(11, b"verse");
            let size = delta.len() as u64;
            pack.raw(OFS_DELTA, size, &pack::offset(distance), &pack::deflate(&delta));
        });
    }
    attempt(&|pack, _| {
        let delta = pack::insert(11, b"verse");
        let (at, size) = (pack.position(), delta.len() as u64);
        pack.raw(OFS_DELTA, size, &pack::offset(at - 4), &pack::deflate(&delta));
    });
    // Bases that nobody has, and two that wait for each other.
    attempt(&|pack, _| {
        pack.delta_of(&[0x11; 20], &pack::insert(11, b"verse"));
    });
    attempt(&|pack, _| {
        let (one, two) = (pack::id("blob", b"one"), pack::id("blob", b"two"));
        pack.delta_of(&two, &pack::insert(3, b"one"));
        pack.delta_of(&one, &pack::insert(3, b"two"));
    });
    // A kind of entry that does not exist.
    attempt(&|pack, _| {
        pack.raw(5, 2, &[], &pack::deflate(b"la"));
    });
    attempt(&|pack, _| {
        pack.raw(0, 2, &[], &pack::deflate(b"la"));
    });
}

#[test]
fn a_push_that_lacks_objects_is_refused() {
    let target = Target::start();
    let (pack, tip) = file_in_commit("", "100644", b"take", b"never sent");
    target.assert_pack_refused(&tip, &pack.finish(), "missing necessary objects");
    let tree = pack::id("tree", b"never sent");
    let commit = pack::commit(&tree);
    let mut pack = Pack::default();
    pack.object(COMMIT, &commit);
    let tip = pack::hex(&pack::id("commit", &commit));
    target.assert_pack_refused(&tip, &pack.finish(), "missing necessary objects");
    let nothing = "1".repeat(40);
    target.assert_pack_refused(&nothing, super::rights::EMPTY_PACK, "missing necessary objects");
}

#[test]
fn folders_and_files_that_would_harm_a_musicians_computer_are_refused() {
    let target = Target::start();
    let names: [&[u8]; 12] = [
        b".git",
        b".GIT",
        b".Git ",
        b"git~1",
        b"GIT~1",
        b".",
        b"..",
        b"a/b",
        b"",
        b".g\xe2\x80\x8cit",
        b".git::$INDEX_ALLOCATION",
        b".git\\x",
    ];
    for name in names {
        let (pack, tip) = file_in_commit("blob", "100644", name, b"la");
        target.assert_pack_refused(&tip, &pack.finish(), "");
    }
    let modules: [&[u8]; 4] = [
        b"[submodule \"../../x\"]\n\tpath = x\n\turl = https://example.org/x\n",
        b"[submodule \"x\"]\n\tpath = x\n\turl = -u./evil\n",
        b"[submodule \"x\"]\n\tpath = -x\n\turl = https://example.org/x\n",
        b"[submodule \"x\"]\n\tpath = x\n\turl = https://example.org/x\n\tupdate = !rm -rf /\n",
    ];
    for content in modules {
        let (pack, tip) = file_in_commit("blob", "100644", b".gitmodules", content);
        target.assert_pack_refused(&tip, &pack.finish(), "gitmodules");
    }
    let (pack, tip) = file_in_commit("blob", "120000", b".gitmodules", b"x");
    target.assert_pack_refused(&tip, &pack.finish(), "gitmodules");
    // Two files of one name; a tree that is cut off; a commit without its tree.
    let file = pack::id("blob", b"la");
    let twice = pack::tree(&[("100644", b"take", file), ("100644", b"take", file)]);
    let cut = pack::tree(&[("100644", b"take", file)])[..20].to_vec();
    for tree in [twice, cut] {
        let commit = pack::commit(&pack::id("tree", &tree));
        let mut pack = Pack::default();
        pack.object(COMMIT, &commit);
        pack.object(TREE, &tree);
        pack.object(BLOB, b"la");
        let tip = pack::hex(&pack::id("commit", &commit));
        target.assert_pack_refused(&tip, &pack.finish(), "");
    }
    let commit = b"author nobody\n\nno tree\n";
    let mut pack = Pack::default();
    pack.object(COMMIT, commit);
    let tip = pack::hex(&pack::id("commit", commit));
    target.assert_pack_refused(&tip, &pack.finish(), "");
}

#[test]
fn an_object_that_is_sent_again_never_replaces_the_one_that_is_there() {
    let target = Target::start();
    let bare = target.server.folder_of("anna/song");
    let before = repositories::objects(&bare);
    let (mut pack, tip) = file_in_commit("blob", "100644", b"take", b"la");
    pack.object(BLOB, b"la");
    pack.object(BLOB, b"la");
    let command = wire::command(NO_OBJECT, &tip, "refs/heads/again");
    let body = wire::push(&[command], "report-status", &[], &pack.finish());

    let answer = target.attack(Request::receive_pack("anna/song", body));

    // Taken or refused: the store stays sound.
    answer.assert_status(200);
    repositories::assert_sound(&bare);
    let after = repositories::objects(&bare);
    assert!(before.iter().all(|id| after.binary_search(id).is_ok()));
}

#[test]
fn a_folder_that_holds_itself_ten_times_ten_levels_deep_costs_nothing() {
    let target = Target::start();
    let mut pack = Pack::default();
    pack.object(BLOB, b"la");
    let mut tree = pack::tree(&[("100644", b"take", pack::id("blob", b"la"))]);
    for _ in 0..12 {
        pack.object(TREE, &tree);
        let id = pack::id("tree", &tree);
        let names: Vec<String> = (0..10).map(|number| format!("folder {number}")).collect();
        let entries: Vec<(&str, &[u8], [u8; 20])> = names.iter().map(|name| ("40000", name.as_bytes(), id)).collect();
        tree = pack::tree(&entries);
    }
    pack.object(TREE, &tree);
    let commit = pack::commit(&pack::id("tree", &tree));
    pack.object(COMMIT, &commit);
    let tip = pack::hex(&pack::id("commit", &commit));
    let body = wire::push(
        &[wire::command(NO_OBJECT, &tip, "refs/heads/bomb")],
        "report-status",
        &[],
        &pack.finish(),
    );

    let answer = target.attack(Request::receive_pack("anna/song", body));
    assert!(answer.text().contains("ok refs/heads/bomb"), "{answer:?}");
    for filter in ["", "filter blob:none", "filter tree:5", "deepen 1"] {
        let mut request = V2::fetch().arg(format!("want {tip}"));
        if !filter.is_empty() {
            request = request.arg(filter);
        }
        let body = request.arg("done").bytes();
        let answer = target.attack(Request::upload_pack("anna/song", 2, body));
        let parsed = wire::parse_v2_fetch(&answer.body).expect("pkt-lines");
        assert!(parsed.pack.is_some_and(|pack| pack.len() < 10_000), "{filter}");
    }
    let bare = target.server.folder_of("anna/song");
    repositories::on_disk(&bare, &["update-ref", "-d", "refs/heads/bomb"]).assert_ok();
    target.assert_unharmed();
}

#[test]
fn pushes_cut_off_midway_leave_nothing_behind() {
    let target = Target::start();
    let (mut pack, tip) = file_in_commit("blob", "100644", b"take", b"la");
    pack.object(BLOB, &noise(7, 4 * MIB));
    let pack = pack.finish();
    let commands = [wire::command(NO_OBJECT, &tip, "refs/heads/cut")];
    let body = wire::push(&commands, "report-status side-band-64k", &[], &pack);
    for part in [10, 100, 1000, body.len() / 2, body.len() - 1] {
        let mut stream = Request::new("POST", "/anna/song.git/git-receive-pack")
            .header("Content-Type", "application/x-git-receive-pack-request")
            .header("Content-Length", &body.len().to_string())
            .by(&target.anna)
            .open(target.server.url());
        stream.write_all(&body[..part]).expect("the server reads");
        drop(stream);
        target.assert_unharmed();
    }
}
