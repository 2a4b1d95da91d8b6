//! Updates that are handed to the hook `proc-receive`.

use crate::push_support::{Place, Pushed};

/// A hook that speaks the protocol. What it does with a ref is in the ref's name; what it hears goes to a
/// log.
const HOOK: &str = r#"
import os, subprocess, sys

def read():
    lines = []
    while True:
        digits = sys.stdin.buffer.read(4)
        if not digits or int(digits, 16) == 0:
            return lines
        lines.append(sys.stdin.buffer.read(int(digits, 16) - 4))

def say(*lines):
    for line in lines:
        line = line.encode()
        sys.stdout.buffer.write(b"%04x" % (len(line) + 4) + line)
    sys.stdout.buffer.write(b"0000")
    sys.stdout.buffer.flush()

log = open(os.environ["LOG"], "a")
greeting = read()[0].strip().split(b"\0")
log.write("greeting %s\n" % " ".join(part.decode() for part in greeting))
say("version=1\0push-options\n")
commands = [line.decode().strip().split(" ") for line in read()]
options = [line.decode() for line in read()] if len(greeting) > 1 and b"push-options" in greeting[1] else []
log.write("options %s\n" % " ".join(options))
answer = []
for old, new, name in commands:
    log.write("command %s\n" % name)
    what = name.split("/")[2]
    if what == "main":
        before = subprocess.run(["git", "rev-parse", "-q", "--verify", "refs/heads/main"],
                                capture_output=True).stdout.decode().strip() or "0" * 40
        subprocess.check_call(["git", "update-ref", "refs/heads/main", new, before])
        print("took it", file=sys.stderr)
        answer += ["ok " + name, "option refname refs/heads/main", "option old-oid " + before]
        if before != "0" * 40:
            answer.append("option forced-update")
    elif what == "virtual":
        answer += ["ok " + name, "option refname refs/pull/1/head"]
    elif what == "no":
        answer.append("ng %s not today" % name)
    elif what == "back":
        answer += ["ok " + name, "option fall-through"]
    elif what == "silent":
        pass
    elif what == "slow":
        import time
        time.sleep(1000)
    elif what == "crash":
        sys.exit(3)
say(*answer)
"#;

fn place() -> Place {
    let mut place = Place::new();
    place.trust_hooks = true;
    let file = place.beside("hook.py");
    std::fs::write(&file, HOOK).expect("written");
    let log = place.beside("log");
    place.hook(
        "proc-receive",
        &format!("LOG='{}' exec python3 '{}'", log.display(), file.display()),
    );
    place.on_server(&["config", "receive.procReceiveRefs", "refs/for"]);
    place.commit("a", "a");
    place
}

fn log(place: &Place) -> Vec<String> {
    let text = std::fs::read_to_string(place.beside("log")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// What the server said of each ref.
fn report(pushed: &Pushed) -> String {
    let outcomes = pushed.served.as_ref().expect("served").as_ref().expect("no error");
    let said = outcomes.outcomes.iter().map(|outcome| {
        let name = outcome.update.name.to_string();
        let verdict = outcome.refused.clone().unwrap_or_else(|| "ok".into());
        format!("{} {verdict}", name.strip_prefix("refs/").expect("a ref"))
    });
    said.collect::<Vec<_>>().join("; ")
}

#[test]
fn what_the_hook_takes_is_not_touched_by_the_server_and_gets_a_row() {
    let place = place();
    let id = place.git(&["rev-parse", "main"]);
    let post = place.beside("post");
    place.hook("post-receive", &format!("cat >> {}", post.display()));
    place.hook(
        "update",
        &format!("echo \"$1\" >> {}", place.beside("update").display()),
    );

    let pushed = place
        .push(&["--push-option=topic=x", "main:refs/for/main", "main:refs/heads/other"])
        .ok();

    assert_eq!(report(&pushed), "for/main ok; heads/other ok");
    assert!(pushed.text.contains("remote: took it"), "{}", pushed.text);
    assert_eq!(place.refs(), ["refs/heads/main", "refs/heads/other"]);
    assert_eq!(place.server_id("main"), id);
    assert_eq!(
        log(&place),
        [
            "greeting version=1 push-options",
            "options topic=x",
            "command refs/for/main"
        ]
    );
    assert_eq!(
        place.calls(),
        [
            "check refs/for/main refs/heads/other [topic=x]",
            "begin 1 false",
            "finish 1 of 1",
            "begin 1 false",
            "finish 1 of 1"
        ]
    );
    let null = "0".repeat(40);
    assert_eq!(
        std::fs::read_to_string(post).expect("the hook ran"),
        format!("{null} {id} refs/heads/main\n{null} {id} refs/heads/other\n")
    );
    let updated = std::fs::read_to_string(place.beside("update")).expect("the hook ran");
    assert_eq!(updated, "refs/heads/other\n");
}

#[test]
fn the_client_hears_what_the_hook_made_of_its_update() {
    let place = place();
    place.push(&["main:refs/for/main"]).ok();
    place.commit("b", "b");

    let pushed = place.push(&["main:refs/for/main"]).ok();

    let request = pushed.request.clone();
    assert!(String::from_utf8_lossy(&request).contains("report-status-v2"));
    // The same request once more, to see the bytes.
    let (answer, _) = place.serve(&request);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    for expected in [
        "ok refs/for/main\n",
        "option refname refs/heads/main\n",
        "option old-oid ",
        "option forced-update\n",
    ] {
        assert!(answer.contains(expected), "{expected}: {answer}");
    }
}

#[test]
fn what_the_hook_refuses_forgets_or_hands_back_is_dealt_with_as_in_git() {
    let place = place();

    let pushed = place.push(&[
        "main:refs/for/no",
        "main:refs/for/silent",
        "main:refs/for/back",
        "main:refs/for/virtual",
        "main:refs/heads/other",
    ]);

    assert_eq!(
        report(&pushed),
        "for/no not today; for/silent proc-receive failed to report status; for/back ok; for/virtual ok; heads/other ok"
    );
    assert_eq!(place.refs(), ["refs/for/back", "refs/heads/other"]);
    // A row for the ref that exists nowhere, as one that did not move.
    let calls = place.calls();
    assert!(calls.contains(&"finish 0 of 1".to_owned()), "{calls:?}");
    assert!(calls.contains(&"finish 2 of 2".to_owned()), "{calls:?}");
}

#[test]
fn an_atomic_push_fails_as_a_whole_when_the_hook_says_no() {
    let place = place();

    let pushed = place.push(&["--atomic", "main:refs/for/no", "main:refs/heads/other"]);

    assert_eq!(
        report(&pushed),
        "for/no not today; heads/other fail to run proc-receive hook"
    );
    assert!(place.refs().is_empty());
    assert_eq!(log(&place)[0], "greeting version=1 atomic");
}

#[test]
fn a_hook_that_is_missing_crashes_or_does_not_end_fails_what_it_was_to_take() {
    let mut place = place();
    place.settings.hook_timeout_secs = 1;
    for name in ["crash", "slow"] {
        let pushed = place.push(&[&format!("main:refs/for/{name}"), &format!("main:refs/heads/{name}")]);
        assert_eq!(
            report(&pushed),
            format!("for/{name} fail to run proc-receive hook; heads/{name} ok")
        );
    }
    place.trust_hooks = false;
    let pushed = place.push(&["main:refs/for/main", "main:refs/heads/more"]);
    assert_eq!(report(&pushed), "for/main fail to run proc-receive hook; heads/more ok");
    assert!(
        pushed.text.contains("cannot find hook 'proc-receive'"),
        "{}",
        pushed.text
    );
    assert_eq!(place.refs(), ["refs/heads/crash", "refs/heads/more", "refs/heads/slow"]);
}
