//! The same request to Auxin and to `git upload-pack --stateless-rpc`: same acknowledgements in
//! the same order, same boundary, same decision whether a pack follows.

use std::collections::BTreeSet;

use auxin::git::upload_pack::Protocol;

use crate::fetch_support::{Answer, Random, Repo, line, run_git, v2_in};

const HISTORIES: u64 = 12;
const REQUESTS: u64 = 14;

struct Shape {
    wants: Vec<String>,
    haves: Vec<String>,
    shallows: Vec<String>,
    deepen: Vec<String>,
}

/// One history in four has SHA-256 ids.
fn history(seed: u64) -> Repo {
    Repo::random_in(seed, if seed.is_multiple_of(4) { "sha256" } else { "sha1" })
}

/// Objects that nobody has.
fn unknown(repo: &Repo, random: &mut Random) -> String {
    let number = 0xdead_0000 + random.below(0xffff);
    match repo.format {
        "sha256" => format!("{number:064x}"),
        _ => format!("{number:040x}"),
    }
}

fn shape(repo: &Repo, random: &mut Random) -> Shape {
    let tips: Vec<String> = repo
        .git(&["for-each-ref", "--format=%(objectname)"])
        .lines()
        .map(str::to_owned)
        .collect();
    let reachable: Vec<String> = repo.git(&["rev-list", "--all"]).lines().map(str::to_owned).collect();
    let mut wants = Vec::new();
    for _ in 0..1 + random.below(3) {
        wants.push(tips[random.below(tips.len())].clone());
    }
    let mut haves = Vec::new();
    if !random.once_in(4) {
        for _ in 0..1 + random.below(12) {
            haves.push(match random.below(4) {
                0 => unknown(repo, random),
                1 => tips[random.below(tips.len())].clone(),
                _ => reachable[random.below(reachable.len())].clone(),
            });
        }
    }
    let mut shallows = Vec::new();
    if random.once_in(3) {
        for _ in 0..1 + random.below(3) {
            shallows.push(if random.once_in(4) {
                unknown(repo, random)
            } else {
                reachable[random.below(reachable.len())].clone()
            });
        }
    }
    let deepen = match random.below(8) {
        0 | 1 => vec![format!("deepen {}", 1 + random.below(6))],
        2 => vec!["deepen 2147483647".to_owned()],
        // Where dates lie, what stock git leaves out depends on how soon it stops looking.
        3 | 4 if repo.has_lying_dates => Vec::new(),
        3 => vec![format!("deepen-since {}", 1_700_000_000 + random.below(3000))],
        4 => {
            let refs = repo.git(&["for-each-ref", "--format=%(refname)"]);
            let refs: Vec<&str> = refs.lines().collect();
            vec![format!("deepen-not {}", refs[random.below(refs.len())])]
        }
        _ => Vec::new(),
    };
    Shape {
        wants,
        haves,
        shallows,
        deepen,
    }
}

fn v2_body(repo: &Repo, shape: &Shape, random: &mut Random) -> Vec<u8> {
    let mut arguments = Vec::new();
    for (flag, times) in [
        ("thin-pack", 2),
        ("ofs-delta", 2),
        ("include-tag", 2),
        ("no-progress", 2),
        ("wait-for-done", 6),
        ("done", 2),
    ] {
        if random.once_in(times) {
            arguments.push(flag.to_owned());
        }
    }
    arguments.extend(shape.wants.iter().map(|id| format!("want {id}")));
    arguments.extend(shape.shallows.iter().map(|id| format!("shallow {id}")));
    arguments.extend(shape.deepen.iter().cloned());
    arguments.extend(shape.haves.iter().map(|id| format!("have {id}")));
    v2_in(repo.format, "fetch", &arguments)
}

fn v0_body(repo: &Repo, shape: &Shape, random: &mut Random) -> Vec<u8> {
    let mut capabilities = format!("side-band-64k object-format={}", repo.format);
    match random.below(3) {
        0 => {}
        1 => capabilities += " multi_ack",
        _ => capabilities += " multi_ack_detailed",
    }
    for (name, times) in [
        ("no-done", 2),
        ("thin-pack", 2),
        ("ofs-delta", 2),
        ("include-tag", 2),
        ("no-progress", 2),
    ] {
        if random.once_in(times) {
            capabilities += " ";
            capabilities += name;
        }
    }
    let mut body = Vec::new();
    for (index, want) in shape.wants.iter().enumerate() {
        if index == 0 {
            body.extend(line(&format!("want {want} {capabilities}")));
        } else {
            body.extend(line(&format!("want {want}")));
        }
    }
    for id in &shape.shallows {
        body.extend(line(&format!("shallow {id}")));
    }
    for deepen in &shape.deepen {
        body.extend(line(deepen));
    }
    body.extend(b"0000");
    if random.once_in(12) {
        return body;
    }
    for id in &shape.haves {
        body.extend(line(&format!("have {id}")));
    }
    if random.once_in(2) || shape.haves.is_empty() {
        body.extend(line("done"));
    } else {
        body.extend(b"0000");
    }
    body
}

/// Ids of the objects in a pack that needs no others.
fn contents(repo: &Repo, pack: &[u8]) -> BTreeSet<String> {
    let place = repo.beside("one.pack");
    std::fs::write(&place, pack).expect("writes");
    let place = place.to_str().expect("text").to_owned();
    let (ok, _, errors) = run_git(&repo.path, &["index-pack", "--strict", &place], b"");
    assert!(ok, "{errors}");
    let index = std::fs::read(place.replace(".pack", ".idx")).expect("reads");
    let (ok, out, errors) = run_git(&repo.path, &["show-index"], &index);
    assert!(ok, "{errors}");
    let _ = std::fs::remove_file(place.replace(".pack", ".idx"));
    String::from_utf8(out)
        .expect("text")
        .lines()
        .map(|line| line.split(' ').nth(1).expect("an id").to_owned())
        .collect()
}

/// Version of the git that is compared with.
fn reference_version() -> (u32, u32) {
    let (_, text, _) = run_git(std::path::Path::new("."), &["version"], b"");
    let text = String::from_utf8(text).expect("text");
    let mut numbers = text
        .split(|character: char| !character.is_ascii_digit())
        .filter_map(|number| number.parse().ok());
    (numbers.next().expect("a number"), numbers.next().expect("another"))
}

fn compare(repo: &Repo, protocol: Protocol, body: &[u8], what: &str) {
    let (ours, result) = repo.try_serve(protocol, body);
    let theirs = repo.reference(protocol, body);
    if theirs.is_empty() && !ours.is_empty() {
        // Where stock git dies without a word, a sentence is sent.
        let text = String::from_utf8_lossy(&ours);
        assert!(text.contains("ERR "), "{what}: {text}");
        return;
    }
    let split = |bytes: &[u8]| match protocol {
        Protocol::V2 => Answer::of_v2(bytes),
        Protocol::V0 | Protocol::V1 => Answer::of_v0(bytes),
    };
    let died = theirs.ends_with(b"packfile\n");
    let (mut ours, mut theirs) = (split(&ours), split(&theirs));
    if protocol == Protocol::V2 && reference_version() < (2, 45) {
        // Until then also those were acknowledged that an earlier one implies.
        let acknowledged: BTreeSet<String> = ours.lines.iter().cloned().collect();
        for lines in [&mut ours.lines, &mut theirs.lines] {
            let mut seen = BTreeSet::new();
            lines
                .retain(|line| !line.starts_with("ACK ") || (acknowledged.contains(line) && seen.insert(line.clone())));
        }
    }
    if ours.lines.iter().any(|line| line.starts_with("ERR ")) {
        let same = ours
            .lines
            .iter()
            .take_while(|line| !line.starts_with("ERR "))
            .zip(&theirs.lines)
            .all(|(ours, theirs)| ours == theirs);
        assert!(same, "{what}: {ours:?} {theirs:?}");
        assert!(theirs.pack.is_none() || died, "{what}: {ours:?}");
        return;
    }
    assert_eq!(ours.sorted_lines(), theirs.sorted_lines(), "{what}");
    assert_eq!(ours.pack.is_some(), theirs.pack.is_some(), "{what}");
    assert_eq!(ours.fatal, "", "{what}: {result:?}");
}

#[test]
fn v2_answers_are_those_of_stock_git() {
    for seed in 1..=HISTORIES {
        let repo = history(seed);
        for number in 0..REQUESTS {
            let mut random = Random::new(seed * 1000 + number);
            let shape = shape(&repo, &mut random);
            let body = v2_body(&repo, &shape, &mut random);
            let what = format!("seed {seed} request {number}: {}", String::from_utf8_lossy(&body));
            compare(&repo, Protocol::V2, &body, &what);
        }
    }
}

#[test]
fn v0_answers_are_those_of_stock_git() {
    for seed in 101..=100 + HISTORIES {
        let repo = history(seed);
        for number in 0..REQUESTS {
            let mut random = Random::new(seed * 1000 + number);
            let shape = shape(&repo, &mut random);
            let body = v0_body(&repo, &shape, &mut random);
            let what = format!("seed {seed} request {number}: {}", String::from_utf8_lossy(&body));
            compare(&repo, Protocol::V0, &body, &what);
        }
    }
}

#[test]
fn packs_hold_all_that_the_client_lacks_and_nothing_else_of_the_wanted() {
    for seed in 201..=200 + HISTORIES {
        let repo = history(seed);
        for number in 0..4 {
            let mut random = Random::new(seed * 1000 + number);
            let shape = shape(&repo, &mut random);
            let mut arguments = vec!["done".to_owned(), "ofs-delta".to_owned()];
            arguments.extend(shape.wants.iter().map(|id| format!("want {id}")));
            arguments.extend(shape.haves.iter().map(|id| format!("have {id}")));
            let body = v2_in(repo.format, "fetch", &arguments);
            let what = format!("seed {seed} request {number}: {arguments:?}");

            let pack = Answer::of_v2(&repo.serve(Protocol::V2, &body)).pack.expect("a pack");
            let sent = contents(&repo, &pack);

            let closure = |ids: &[String]| -> BTreeSet<String> {
                let known = ids.iter().filter(|id| !id.starts_with("00000000"));
                let arguments = ["rev-list", "--objects", "--no-object-names", "--stdin"];
                let input: String = known.map(|id| format!("{id}\n")).collect();
                let (ok, out, errors) = run_git(&repo.path, &arguments, input.as_bytes());
                assert!(ok || input.is_empty(), "{errors}");
                String::from_utf8(out)
                    .expect("text")
                    .lines()
                    .map(str::to_owned)
                    .collect()
            };
            let all = closure(&shape.wants);
            let needed: BTreeSet<String> = all.difference(&closure(&shape.haves)).cloned().collect();
            assert!(needed.is_subset(&sent), "{what}");
            assert!(sent.is_subset(&all), "{what}");
        }
    }
}
