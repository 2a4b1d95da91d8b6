//! Signed pushes of stock git, with an SSH key.

use std::process::Command;

use crate::push_support::Place;

/// A place whose client signs and whose server offers it; its hooks write down what they are told.
fn place() -> Place {
    let mut place = Place::new();
    place.nonce_seed = Some(b"what only this server knows".to_vec());
    place.trust_hooks = true;
    let key = place.beside("key");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "anna@example.org", "-f"])
        .arg(&key)
        .status()
        .expect("ssh-keygen is installed");
    assert!(made.success());
    place.git(&["config", "gpg.format", "ssh"]);
    place.git(&["config", "user.signingKey", &format!("{}.pub", key.display())]);
    let log = place.beside("log");
    for name in ["pre-receive", "post-receive"] {
        let script = format!(
            "{{ echo \"{name} $GIT_PUSH_CERT_STATUS [$GIT_PUSH_CERT_SIGNER$GIT_PUSH_CERT_KEY] \
             $GIT_PUSH_CERT_NONCE_STATUS $GIT_PUSH_CERT_NONCE_SLOP\"; \
             test -z \"$GIT_PUSH_CERT\" || git cat-file blob $GIT_PUSH_CERT; }} >> {}",
            log.display()
        );
        place.hook(name, &script);
    }
    place
}

/// What the hooks wrote since the last time.
fn log(place: &Place) -> String {
    let path = place.beside("log");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let _ = std::fs::remove_file(path);
    text
}

#[test]
fn the_certificate_is_stored_and_told_to_the_hooks() {
    let place = place();
    let id = place.commit("a", "a");

    let pushed = place.push(&["--signed", "--push-option=mood=blue", "main"]).ok();

    let stored = pushed.served.expect("served").expect("no error").certificate;
    let stored = stored.expect("a certificate").to_string();
    let text = place.on_server(&["cat-file", "blob", &stored]);
    assert!(text.starts_with("certificate version 0.1\n"), "{text}");
    assert!(text.contains("\npush-option mood=blue\n"), "{text}");
    assert!(
        text.contains(&format!(" {id} refs/heads/main\n-----BEGIN SSH SIGNATURE-----\n")),
        "{text}"
    );
    let log = log(&place);
    for name in ["pre-receive", "post-receive"] {
        assert!(log.contains(&format!("{name} E [] OK \n{text}")), "{log}");
    }
    // The signature is one over all that stands before it, as git made it.
    let at = text.find("-----BEGIN SSH").expect("signed");
    let (payload, signature) = (place.beside("payload"), place.beside("payload.sig"));
    std::fs::write(&payload, &text[..at]).expect("written");
    std::fs::write(&signature, &text[at..]).expect("written");
    let checked = Command::new("ssh-keygen")
        .args(["-q", "-Y", "check-novalidate", "-n", "git", "-s"])
        .arg(&signature)
        .stdin(std::fs::File::open(&payload).expect("readable"))
        .status();
    assert!(checked.expect("ssh-keygen runs").success());
    assert_eq!(place.refs(), ["refs/heads/main"]);
}

#[test]
fn deletions_are_signed_too_and_what_is_refused_leaves_no_certificate() {
    let place = place();
    place.commit("a", "a");
    place.push(&["--signed", "main", "main:refs/heads/x"]).ok();
    let before = place.object_files();

    place.push(&["--signed", ":refs/heads/main"]).refused("prohibited");
    assert_eq!(place.object_files(), before);

    let pushed = place.push(&["--signed", ":refs/heads/x"]).ok();
    let stored = pushed.served.expect("served").expect("no error").certificate;
    place.on_server(&["cat-file", "-e", &stored.expect("a certificate").to_string()]);
    assert_eq!(place.refs(), ["refs/heads/main"]);
}

#[test]
fn a_nonce_that_was_not_given_out_here_is_seen() {
    let place = place();
    place.commit("a", "a");
    let pushed = place.push(&["--signed", "main"]).ok();
    log(&place);
    place.on_server(&["update-ref", "-d", "refs/heads/main"]);
    let request = String::from_utf8_lossy(&pushed.request).into_owned();
    let at = request.find("nonce ").expect("a nonce") + "nonce ".len();
    let mut forged = pushed.request.clone();
    forged[at] = b'9';

    let (answer, _) = place.serve(&forged);

    assert!(String::from_utf8_lossy(&answer).contains("ok refs/heads/main"));
    let log = log(&place);
    assert!(log.contains("pre-receive E [] BAD \n"), "{log}");
}

#[test]
fn an_old_nonce_is_told_with_its_age_unless_the_repository_allows_it() {
    let place = place();
    place.on_server(&["config", "receive.certNonceSeed", "its own"]);
    place.on_server(&["config", "receive.certNonceSlop", "0"]);
    place.commit("a", "a");
    let pushed = place.push(&["--signed", "main"]).ok();
    log(&place);
    place.on_server(&["update-ref", "-d", "refs/heads/main"]);
    // Until the clock shows another second.
    let now = || {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970")
    };
    let then = now().as_secs();
    while now().as_secs() == then {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }

    place.serve(&pushed.request).1.expect("served");
    let text = log(&place);
    assert!(text.contains("pre-receive E [] SLOP "), "{text}");
    place.on_server(&["update-ref", "-d", "refs/heads/main"]);
    place.on_server(&["config", "receive.certNonceSlop", "3600"]);
    place.serve(&pushed.request).1.expect("served");
    let text = log(&place);
    assert!(text.contains("pre-receive E [] OK \n"), "{text}");
}

#[test]
fn options_outside_the_certificate_must_be_those_inside() {
    let place = place();
    place.commit("a", "a");
    let pushed = place.push(&["--signed", "--push-option=mood=blue", "main"]).ok();
    place.on_server(&["update-ref", "-d", "refs/heads/main"]);
    let mut forged = pushed.request.clone();
    let word = b"mood=blue";
    let at = forged
        .windows(word.len())
        .rposition(|window| window == word)
        .expect("the options");
    forged[at + word.len() - 1] = b'!';

    let (answer, _) = place.serve(&forged);

    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(
        answer.contains("ng refs/heads/main inconsistent push options"),
        "{answer}"
    );
    assert!(place.refs().is_empty());
}

#[test]
fn signed_pushes_are_offered_only_with_a_seed() {
    let mut place = place();
    place.commit("a", "a");
    let signed = place.push(&["--signed", "main"]).ok();
    place.nonce_seed = None;
    let offered = |place: &Place| String::from_utf8_lossy(&place.advertise()).contains(" push-cert=");
    assert!(!offered(&place));

    place.commit("b", "b");
    place
        .push(&["--signed", "main"])
        .refused("does not support --signed push");
    place.push(&["--signed=if-asked", "main"]).ok();
    let (answer, served) = place.serve(&signed.request);
    assert!(served.is_err());
    assert!(String::from_utf8_lossy(&answer).contains("signed pushes are not supported"));

    place.on_server(&["config", "receive.certNonceSeed", "its own"]);
    assert!(offered(&place));
    place.commit("c", "c");
    place.push(&["--signed", "main"]).ok();
}
