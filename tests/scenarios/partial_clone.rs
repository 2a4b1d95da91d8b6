//! Clones that leave out what they do not need yet, and fetch it when they do.

use std::path::PathBuf;

use crate::support::repositories::{self, Import};
use crate::support::{GitProgram, Person, TestServer, WorkTree, noise};

fn server_with_a_song(server: TestServer) -> (TestServer, Person, PathBuf) {
    let anna = server.user("anna");
    let bare = server.repo("anna/song");
    let mut import = Import::default();
    let mut parent = Vec::new();
    for number in 0..12_u64 {
        let take = noise(number, 500 + 300 * number as usize);
        let text = format!("take {number}\n");
        // Of its own content: of a file that is too deep in one place and not in another, git's
        // combined filters lose both.
        let deep = format!("deep {number}\n");
        parent = vec![import.commit(
            "refs/heads/main",
            &parent,
            &[
                ("Audio Files/vox.wav", &take),
                ("Notes/song.txt", text.as_bytes()),
                (&format!("Notes/deep/er/{number}.txt"), deep.as_bytes()),
            ],
        )];
    }
    import.tag("mix-1", parent[0]);
    import.write_to(&bare);
    (server, anna, bare)
}

/// Objects that history names and the clone does not have.
fn missing(copy: &WorkTree) -> usize {
    copy.ask(&["rev-list", "--objects", "--all", "--missing=print"])
        .lines()
        .filter(|line| line.starts_with('?'))
        .count()
}

#[test]
fn a_clone_without_blobs_really_lacks_them_and_fetches_them_when_needed() {
    let (_server, anna, bare) = server_with_a_song(TestServer::start());
    for git in GitProgram::all() {
        for version in ["0", "2"] {
            let anna = anna.with_git(&git);
            anna.git(&["config", "--global", "protocol.version", version])
                .assert_ok();
            let copy = anna.clone_repo("anna/song", "copy", &["--filter=blob:none", "--no-checkout"]);
            let lacking = missing(&copy);
            assert!(lacking >= 24, "only {lacking} objects are missing");

            let old = copy.git(&["cat-file", "blob", "main~5:Audio Files/vox.wav"]);

            assert_eq!(old.assert_ok().stdout, noise(6, 500 + 300 * 6));
            assert_eq!(missing(&copy), lacking - 1);
            copy.git(&["checkout", "--quiet", "main"]).assert_ok();
            assert!(missing(&copy) > 0);
            copy.write("new.txt", "new").commit("New");
            copy.git(&["log", "--stat", "-n", "3"]).assert_ok();
            copy.git(&["fsck"]).assert_ok();
        }
    }
    drop(bare);
}

#[test]
fn a_partial_clone_pushes_and_fetches() {
    let (_server, anna, bare) = server_with_a_song(TestServer::start());
    let copy = anna.clone_repo("anna/song", "copy", &["--filter=blob:none"]);
    let whole = anna.clone_repo("anna/song", "whole", &[]);

    copy.write("new.txt", "new").commit("New");
    copy.push("anna/song", &["main"]).assert_ok();
    whole.git(&["pull", "--quiet"]).assert_ok();
    whole.write("more.txt", "more").commit("More");
    whole.push("anna/song", &["main"]).assert_ok();
    copy.git(&["pull", "--quiet"]).assert_ok();

    assert_eq!(copy.id("HEAD"), repositories::id(&bare, "main"));
    assert!(copy.folder.join("more.txt").exists());
    repositories::assert_sound(&bare);
}

#[test]
fn every_filter_leaves_out_what_stock_git_leaves_out() {
    let (server, anna, bare) = server_with_a_song(TestServer::start());
    let sparse =
        repositories::on_disk_with_input(&bare, &["hash-object", "-w", "--stdin"], b"/Notes/*\n!/Notes/deep/\n")
            .assert_ok()
            .out();
    repositories::on_disk(&bare, &["update-ref", "refs/heads/patterns/keep", "main"]).assert_ok();
    let mut import = Import::default();
    import.text(&format!(
        "commit refs/heads/patterns/sparse\ncommitter Ada <a@example.org> 1800000000 +0000\n\
         data 3\nnew\nM 100644 {sparse} patterns\n\n"
    ));
    import.write_to(&bare);
    for (key, value) in [
        ("uploadpack.allowFilter", "true"),
        ("uploadpack.allowAnySHA1InWant", "true"),
    ] {
        repositories::on_disk(&bare, &["config", key, value]).assert_ok();
    }
    let sparse = format!("sparse:oid={sparse}");
    let file = format!("file://{}", bare.display());
    for filter in [
        "blob:none",
        "blob:limit=0",
        "blob:limit=1k",
        "blob:limit=2000",
        "tree:0",
        "tree:1",
        "tree:2",
        "tree:3",
        "object:type=commit",
        "object:type=tag",
        "object:type=tree",
        "object:type=blob",
        &sparse,
        "combine:blob:limit=2k+tree:3",
        "combine:object:type=blob+blob:limit=1k",
    ] {
        let name = filter.replace([':', '=', '+'], "-");
        let clone = |url: &str, into: &str| {
            anna.git(&[
                "-c",
                "safe.directory=*",
                "clone",
                "--quiet",
                "--bare",
                &format!("--filter={filter}"),
                url,
                into,
            ])
        };
        let (ours, reference) = (format!("{name}.git"), format!("{name}-reference.git"));

        let cloned = clone(&server.repo_url("anna/song"), &ours);
        clone(&file, &reference).assert_ok();

        cloned.assert_ok();
        let objects = |folder: &str| {
            let list = repositories::objects(&anna.home().join(folder));
            list.into_iter().collect::<std::collections::BTreeSet<String>>()
        };
        let (ours, gits) = (objects(&ours), objects(&reference));
        let described = |ids: Vec<&String>| -> Vec<String> {
            let kind = |id: &str| repositories::ask(&bare, &["cat-file", "-t", id]);
            ids.into_iter().map(|id| format!("{id} {}", kind(id))).collect()
        };
        let more = described(ours.difference(&gits).collect());
        let less = described(gits.difference(&ours).collect());
        assert!(
            more.is_empty() && less.is_empty(),
            "{filter}: too much {more:?}, too little {less:?}"
        );
    }
}

#[test]
fn a_filter_nobody_knows_is_refused_by_name() {
    let (server, anna, bare) = server_with_a_song(TestServer::start());
    let tip = repositories::id(&bare, "main");
    for filter in ["loudness:none", "tree:-1", "blob:limit=x", "sparse:path=/etc/passwd"] {
        let body = crate::support::wire::V2::fetch()
            .arg(format!("want {tip}"))
            .arg(format!("filter {filter}"))
            .arg("done")
            .bytes();
        let answer = server.send(crate::support::Request::upload_pack("anna/song", 2, body).by(&anna));
        let said = answer.text();
        assert!(said.contains("ERR ") && said.contains("filter"), "{filter}: {answer:?}");
        assert!(!said.contains("PACK"), "{filter}");
    }
}

#[test]
fn with_filters_switched_off_a_clone_gets_everything() {
    let server = TestServer::prepare().setting("git.allow_filter", false).start();
    let (_server, anna, _bare) = server_with_a_song(server);

    let copy = anna.clone_repo("anna/song", "copy", &["--filter=blob:none", "--no-checkout"]);

    assert_eq!(missing(&copy), 0);
}

#[test]
fn a_shallow_clone_without_blobs_is_both() {
    let (_server, anna, _bare) = server_with_a_song(TestServer::start());
    let copy = anna.clone_repo(
        "anna/song",
        "copy",
        &["--depth=3", "--filter=blob:none", "--no-checkout"],
    );

    assert_eq!(copy.ask(&["rev-list", "--count", "HEAD"]), "3");
    assert!(missing(&copy) >= 6);
    copy.git(&["checkout", "--quiet", "main"]).assert_ok();
}
