//! Pushes that are signed, over HTTP.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::{Person, TestServer, run};

/// Lets somebody sign with a new SSH key; gives the public half.
fn with_key(person: &Person) -> String {
    let key = person.home().join("key");
    let mut command = std::process::Command::new("ssh-keygen");
    command
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "anna", "-f"])
        .arg(&key);
    run(&mut command).assert_ok();
    let public = format!("{}.pub", key.display());
    person.git(&["config", "--global", "gpg.format", "ssh"]).assert_ok();
    person
        .git(&["config", "--global", "user.signingKey", &public])
        .assert_ok();
    std::fs::read_to_string(public).expect("the key")
}

#[test]
fn a_hook_verifies_who_signed_a_push_that_makes_its_repository() {
    let server = TestServer::prepare().setting("git.push_certificates", true).start();
    let anna = server.user("anna");
    let public = with_key(&anna);
    let song = anna.new_project("song");
    song.write("song.txt", "la").commit("First take");

    // The nonce of the first request counts in the second, which goes to a repository made meanwhile.
    song.push("anna/song", &["--signed", "main"]).assert_ok();

    let bare = server.folder_of("anna/song");
    server.auxin(&["repo", "trust-hooks", "anna/song"]).assert_ok();
    let allowed = bare.join("allowed_signers");
    std::fs::write(&allowed, format!("anna namespaces=\"git\" {public}")).expect("written");
    let hook = bare.join("hooks/pre-receive");
    std::fs::create_dir_all(bare.join("hooks")).expect("a folder");
    let script = "#!/bin/sh\nset -e\n\
         test \"$GIT_PUSH_CERT_NONCE_STATUS\" = OK || { echo 'Sign your push.' >&2; exit 1; }\n\
         work=$(mktemp -d)\ntrap 'rm -rf \"$work\"' EXIT\n\
         git cat-file blob \"$GIT_PUSH_CERT\" | sed '/-----BEGIN SSH/,$d' >\"$work/payload\"\n\
         git cat-file blob \"$GIT_PUSH_CERT\" | sed -n '/-----BEGIN SSH/,$p' >\"$work/signature\"\n\
         ssh-keygen -q -Y verify -f allowed_signers -I anna -n git -s \"$work/signature\" <\"$work/payload\" >&2\n\
         echo \"signed by anna ($GIT_PUSH_CERT_STATUS)\" >&2\n";
    std::fs::write(&hook, script).expect("written");
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    song.write("more.txt", "la").commit("More");

    song.push("anna/song", &["main"]).assert_refused_with("Sign your push.");
    song.push("anna/song", &["--signed", "main"])
        .assert_ok()
        .assert_said("signed by anna (E)");
}

#[test]
fn without_the_setting_signed_pushes_are_not_offered() {
    let server = TestServer::start();
    let anna = server.user("anna");
    with_key(&anna);
    let song = anna.new_project("song");
    song.write("song.txt", "la").commit("First take");

    song.push("anna/song", &["--signed", "main"])
        .assert_refused_with("does not support --signed push");
    song.push("anna/song", &["--signed=if-asked", "main"]).assert_ok();
}
