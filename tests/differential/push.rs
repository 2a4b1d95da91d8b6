//! Pushes: every shape of command list and pack, over generated histories.

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;

use super::history::{self, Layout, Step};
use super::reference::{self, Objects, Place};
use crate::support::Request;
use crate::support::repositories::{self, on_disk, on_disk_with_input};
use crate::support::wire::{self, PushReport};

/// One push from a repository that has the whole history to one that has its first part.
#[derive(Clone, Debug)]
struct Shape {
    commands: Vec<Command>,
    atomic: bool,
    version_2_report: bool,
    side_band: bool,
    thin: bool,
    ofs_delta: bool,
    pack: Pack,
    deny_deletes: bool,
    deny_non_fast_forwards: bool,
    hide: bool,
}

/// One ref update. Numbers mean "the n-th of what there is, counted round".
#[derive(Clone, Debug)]
enum Command {
    /// A ref of the client, to the same name.
    Mirror { of: u16 },
    /// A new ref at any commit, under a name that may be in the way of others.
    Create { name: u8, at: u16 },
    /// A ref of the server to any commit.
    Move { of: u16, to: u16 },
    /// A ref of the server goes.
    Delete { of: u16 },
    /// A command that believes in a wrong old id.
    Stale { of: u16, to: u16 },
    /// A ref that is not there goes.
    DeleteMissing { name: u8 },
}

/// What kind of pack comes along.
#[derive(Clone, Debug)]
enum Pack {
    Right,
    /// Everything, although the server has some of it.
    Everything,
    /// The commits alone.
    CommitsOnly,
    /// The end is missing.
    CutOff(u16),
    /// One byte is another.
    Damaged(u16),
}

const NAMES: [&str; 10] = [
    "refs/heads/new",
    "refs/heads/main/under",
    "refs/heads/feature",
    "refs/heads/feature/a/under",
    "refs/tags/new",
    "refs/notes/new",
    "refs/heads/bad..name",
    "refs/heads/bad.lock",
    "refs/heads/sp ace",
    "refs/hidden/new",
];

fn shape() -> impl Strategy<Value = Shape> {
    let command = prop_oneof![
        5 => any::<u16>().prop_map(|of| Command::Mirror { of }),
        3 => (0_u8..10, any::<u16>()).prop_map(|(name, at)| Command::Create { name, at }),
        2 => (any::<u16>(), any::<u16>()).prop_map(|(of, to)| Command::Move { of, to }),
        1 => any::<u16>().prop_map(|of| Command::Delete { of }),
        1 => (any::<u16>(), any::<u16>()).prop_map(|(of, to)| Command::Stale { of, to }),
        1 => (0_u8..10).prop_map(|name| Command::DeleteMissing { name }),
    ];
    let pack = prop_oneof![
        8 => Just(Pack::Right),
        2 => Just(Pack::Everything),
        1 => Just(Pack::CommitsOnly),
        1 => any::<u16>().prop_map(Pack::CutOff),
        1 => any::<u16>().prop_map(Pack::Damaged),
    ];
    (
        vec(command, 1..6),
        prop::bool::weighted(0.25),
        (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()),
        pack,
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.15),
    )
        .prop_map(
            |(
                commands,
                atomic,
                (version_2_report, side_band, thin, ofs_delta),
                pack,
                deny_deletes,
                deny_non_fast_forwards,
                hide,
            )| Shape {
                commands,
                atomic,
                version_2_report,
                side_band,
                thin,
                ofs_delta,
                pack,
                deny_deletes,
                deny_non_fast_forwards,
                hide,
            },
        )
}

/// Reasons that tests and scripts look for; others are free text.
const REASONS: [&str; 9] = [
    "non-fast-forward",
    "deletion prohibited",
    "funny refname",
    "unpacker error",
    "missing necessary objects",
    "atomic transaction failed",
    "shallow update not allowed",
    "deny updating a hidden ref",
    "deletion of the current branch prohibited",
];

fn check_history(
    (steps, layout, cut, shapes): (Vec<Step>, Layout, u8, Vec<Shape>),
    place: &Place,
) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let client = folder.path().join("client.git");
    let format = history::format(&steps);
    repositories::init_as(&client, format);
    history::write(&steps, Layout::OnePack, &client);
    let part = steps.len() * usize::from(cut) / 256;
    for (number, shape) in shapes.iter().enumerate() {
        let (address, ours) = place.repo(format);
        history::write(&steps[..part], layout, &ours);
        let gits = folder.path().join(format!("git-{number}.git"));
        for (key, value) in [
            ("receive.fsckObjects", "true"),
            ("receive.unpackLimit", "1"),
            ("receive.denyDeletes", if shape.deny_deletes { "true" } else { "false" }),
            (
                "receive.denyNonFastForwards",
                if shape.deny_non_fast_forwards { "true" } else { "false" },
            ),
        ] {
            on_disk(&ours, &["config", key, value]).assert_ok();
        }
        if shape.hide {
            on_disk(&ours, &["config", "receive.hideRefs", "refs/hidden"]).assert_ok();
        }
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .arg(&ours)
            .arg(&gits)
            .status();
        copied.map_err(|error| error.to_string())?;
        let done = check_push(place, &address, &ours, &gits, &client, shape);
        drop(std::fs::remove_dir_all(&ours));
        drop(std::fs::remove_dir_all(&gits));
        done.map_err(|error| format!("push {number}: {error}"))?;
    }
    Ok(())
}

/// Refs as pairs of id and name.
fn refs(bare: &Path) -> Vec<(String, String)> {
    repositories::refs(bare)
        .iter()
        .map(|line| {
            let (id, name) = line.split_once(' ').expect("id and name");
            (id.to_owned(), name.to_owned())
        })
        .collect()
}

fn check_push(
    place: &Place,
    address: &str,
    ours: &Path,
    gits: &Path,
    client: &Path,
    shape: &Shape,
) -> Result<(), String> {
    let digits = repositories::id_digits(ours);
    let no_object = "0".repeat(digits);
    let server_refs = refs(ours);
    let client_refs = refs(client);
    let commits: Vec<String> = repositories::ask(client, &["rev-list", "--all"])
        .lines()
        .map(str::to_owned)
        .collect();
    let Some(commands) = commands_of(shape, &server_refs, &client_refs, &commits, &no_object) else {
        return Ok(());
    };
    let wanted: Vec<&str> = commands
        .iter()
        .map(|(_, new, _)| new.as_str())
        .filter(|new| *new != no_object)
        .collect();
    let pack = if wanted.is_empty() {
        Vec::new()
    } else {
        pack_of(shape, client, &wanted, &server_refs)
    };
    let format = format!("object-format={}", repositories::object_format(ours));
    let mut words = vec!["agent=tests", "delete-refs", &format];
    words.push(if shape.version_2_report {
        "report-status-v2"
    } else {
        "report-status"
    });
    if shape.side_band {
        words.push("side-band-64k");
    }
    if shape.atomic {
        words.push("atomic");
    }
    let lines: Vec<String> = commands
        .iter()
        .map(|(old, new, name)| wire::command(old, new, name))
        .collect();
    let body = wire::push(&lines, &words.join(" "), &[], &pack);

    let before = objects(ours);
    let our_answer = place.send(Request::receive_pack(address, body.clone()));
    let git_answer = reference::receive_pack(gits, &body);
    let told = format!("{}\n{}", lines.join("\n"), words.join(" "));
    let our_report = wire::parse_push(&our_answer.body, shape.side_band)
        .map_err(|error| format!("our answer: {error}: {our_answer:?}\n{told}"))?;
    let git_report =
        wire::parse_push(&git_answer, shape.side_band).map_err(|error| format!("git's answer: {error}\n{told}"))?;
    compare(&our_report, &git_report, &before, &commands, ours, gits)
        .map_err(|error| format!("{error}\n{told}\nours {our_report:?}\ngits {git_report:?}"))
}

/// The commands with their old and new ids; `None` if nothing sensible comes out.
fn commands_of(
    shape: &Shape,
    server: &[(String, String)],
    client: &[(String, String)],
    commits: &[String],
    no_object: &str,
) -> Option<Vec<(String, String, String)>> {
    if commits.is_empty() {
        return None;
    }
    let old = |name: &str| {
        server
            .iter()
            .find(|(_, known)| known == name)
            .map_or(no_object.to_owned(), |(id, _)| id.clone())
    };
    let commit = |number: u16| commits[number as usize % commits.len()].clone();
    let of_server = |number: u16| (!server.is_empty()).then(|| &server[number as usize % server.len()]);
    let stale = "12".repeat(no_object.len() / 2);
    let mut found: Vec<(String, String, String)> = Vec::new();
    for command in &shape.commands {
        let next = match command {
            Command::Mirror { of } => {
                let (id, name) = &client[*of as usize % client.len()];
                Some((old(name), id.clone(), name.clone()))
            }
            Command::Create { name, at } => {
                let name = NAMES[*name as usize];
                Some((old(name), commit(*at), name.to_owned()))
            }
            Command::Move { of, to } => of_server(*of)
                .filter(|(_, name)| name.starts_with("refs/heads/"))
                .map(|(id, name)| (id.clone(), commit(*to), name.clone())),
            Command::Delete { of } => of_server(*of).map(|(id, name)| (id.clone(), no_object.to_owned(), name.clone())),
            Command::Stale { of, to } => of_server(*of)
                .filter(|(_, name)| name.starts_with("refs/heads/"))
                .map(|(_, name)| (stale.clone(), commit(*to), name.clone())),
            Command::DeleteMissing { name } => {
                Some((stale.clone(), no_object.to_owned(), NAMES[*name as usize].to_owned()))
            }
        };
        if let Some(next) = next
            && next.0 != next.1
            && !found.iter().any(|(_, _, known)| *known == next.2)
        {
            found.push(next);
        }
    }
    (!found.is_empty()).then_some(found)
}

fn pack_of(shape: &Shape, client: &Path, wanted: &[&str], server: &[(String, String)]) -> Vec<u8> {
    let mut revs = wanted.join("\n");
    if !matches!(shape.pack, Pack::Everything) {
        // The server may have commits that nobody else has any more.
        let known: Objects = repositories::objects(client).into_iter().collect();
        revs.push_str("\n--not\n");
        for (id, _) in server.iter().filter(|(id, _)| known.contains(id)) {
            revs.push_str(id);
            revs.push('\n');
        }
    }
    revs.push('\n');
    let mut args = vec!["pack-objects", "--stdout", "-q", "--revs"];
    if shape.thin {
        args.push("--thin");
    }
    if shape.ofs_delta {
        args.push("--delta-base-offset");
    }
    if matches!(shape.pack, Pack::CommitsOnly) {
        args.extend(["--filter=tree:0"]);
    }
    let mut pack = on_disk_with_input(client, &args, revs.as_bytes())
        .assert_ok()
        .stdout
        .clone();
    match shape.pack {
        Pack::CutOff(at) => pack.truncate(at as usize % pack.len()),
        Pack::Damaged(at) => {
            let at = at as usize % pack.len();
            pack[at] ^= 0x41;
        }
        _ => {}
    }
    pack
}

/// Whether this ref is to be deleted though it is not there, while another command of the same push
/// makes one that cannot exist beside it. Nothing comes of it; git says no where we say yes.
fn is_missing_in_the_way(name: &str, commands: &[(String, String, String)]) -> bool {
    let is_below = |one: &str, other: &str| one.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'));
    commands
        .iter()
        .any(|(old, new, known)| known == name && is_nothing(new) && old.starts_with("1212"))
        && commands
            .iter()
            .any(|(_, _, other)| is_below(name, other) || is_below(other, name))
}

/// Whether one command deletes a ref that another one could not exist beside.
fn makes_room(commands: &[(String, String, String)]) -> bool {
    let is_below = |one: &str, other: &str| one.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'));
    let deleted = commands.iter().filter(|(_, new, _)| is_nothing(new));
    let mut pairs = deleted.flat_map(|gone| commands.iter().map(move |other| (&gone.2, other)));
    pairs.any(|(gone, (_, new, name))| !is_nothing(new) && (is_below(gone, name) || is_below(name, gone)))
}

/// Whether an id means "no object".
fn is_nothing(id: &str) -> bool {
    id.bytes().all(|digit| digit == b'0')
}

/// All objects but the empty folder, which git takes for granted and does not store.
fn objects(bare: &Path) -> Objects {
    const EMPTY_FOLDER: [&str; 2] = [
        "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
        "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
    ];
    let all = repositories::objects(bare).into_iter();
    all.filter(|id| !EMPTY_FOLDER.contains(&id.as_str())).collect()
}

fn compare(
    ours: &PushReport,
    gits: &PushReport,
    before: &Objects,
    commands: &[(String, String, String)],
    our_bare: &Path,
    git_bare: &Path,
) -> Result<(), String> {
    if gits.unpack != "ok" && ours.unpack == "ok" {
        // What git already misses while it takes the pack in, we miss when we look at each ref; a
        // deletion that came with it needs no pack.
        let kept = ours.refs.iter().filter_map(|line| line.strip_prefix("ok "));
        for name in kept {
            if !on_disk(our_bare, &["rev-list", "--objects", "--quiet", name]).ok()
                && on_disk(our_bare, &["rev-parse", "--verify", "--quiet", name]).ok()
            {
                return Err(format!("{name} lacks objects"));
            }
        }
        return sound(our_bare, git_bare);
    }
    if (ours.unpack == "ok") != (gits.unpack == "ok") {
        return Err(format!("unpack: {:?} instead of {:?}", ours.unpack, gits.unpack));
    }
    let lines = |report: &PushReport| -> Vec<(String, String, String)> {
        let mut lines: Vec<_> = report
            .refs
            .iter()
            .filter(|line| line.starts_with("ok ") || line.starts_with("ng "))
            .filter(|line| {
                !line
                    .split(' ')
                    .nth(1)
                    .is_some_and(|name| is_missing_in_the_way(name, commands))
            })
            .map(|line| {
                // A name may hold a blank; reasons are compared only where they are known.
                let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
                let reason = REASONS.iter().find(|reason| rest.ends_with(**reason)).unwrap_or(&"");
                let name = NAMES
                    .iter()
                    .find(|name| rest.starts_with(&format!("{name} ")) || rest == **name)
                    .copied()
                    .unwrap_or_else(|| rest.split(' ').next().unwrap_or(rest));
                // Of several reasons against deleting what is not there git tells another one.
                let is_missing = |(old, new, known): &(String, String, String)| {
                    known == name && is_nothing(new) && old.starts_with("1212")
                };
                let reason = match commands.iter().any(is_missing) {
                    true => "",
                    false => reason,
                };
                (word.to_owned(), name.to_owned(), reason.to_owned())
            })
            .collect();
        lines.sort();
        lines
    };
    let is_split = gits.refs.iter().any(|line| line.starts_with("ok "))
        && ours
            .refs
            .iter()
            .all(|line| line.ends_with(" atomic push failure") || line.starts_with("ng refs/hidden/"));
    if format!("{ours:?}").contains("refname conflict")
        || ours.messages.contains("at the same time")
        || is_split
        || makes_room(commands)
    {
        // Of names that cannot be together git takes the first, we the shorter one, and what is deleted makes room
        // for what comes before it, too. Of an atomic push git refuses a hidden ref alone, and we all of it.
        // Whatever was taken must be there, whatever was not must be as it was.
        for (old, new, name) in commands {
            let is_done = ours.refs.iter().any(|line| *line == format!("ok {name}"));
            let now = on_disk(our_bare, &["rev-parse", "--verify", "--quiet", name]).out();
            let due = if is_done { new } else { old };
            let is_so = now == *due || (now.is_empty() && is_nothing(due)) || old.starts_with("1212");
            if !is_so {
                return Err(format!("{name} is {now:?} and should be {due}"));
            }
        }
        return sound(our_bare, git_bare);
    }
    let (mut our_lines, mut git_lines) = (lines(ours), lines(gits));
    // Of an atomic push git stops at the first ref that it refuses; we tell of each its own reason.
    let cut_short: Vec<_> = gits
        .refs
        .iter()
        .filter_map(|line| line.strip_suffix(" atomic push failure"))
        .collect();
    for (word, name, reason) in &mut our_lines {
        if word == "ng" && cut_short.contains(&format!("ng {name}").as_str()) {
            reason.clear();
        }
    }
    // What we refuse because of another ref of an atomic push, git may have refused for its own reason.
    let follows: Vec<_> = ours
        .refs
        .iter()
        .filter_map(|line| line.strip_suffix(" atomic push failure"))
        .collect();
    for (word, name, reason) in &mut git_lines {
        if word == "ng" && follows.contains(&format!("ng {name}").as_str()) {
            reason.clear();
        }
    }
    our_lines.sort();
    git_lines.sort();
    if our_lines != git_lines {
        return Err(format!("reports: {our_lines:?} instead of {git_lines:?}"));
    }
    if repositories::refs(our_bare) != repositories::refs(git_bare) {
        return Err("refs".into());
    }
    let now = objects(our_bare);
    let brings_something = |(word, name, _): &(String, String, String)| {
        word == "ok" && commands.iter().any(|(_, new, known)| known == name && !is_nothing(new))
    };
    if our_lines.iter().any(brings_something) {
        reference::compare("objects", &now, &objects(git_bare), our_bare)?;
    } else if now != *before {
        // git has moved the objects in when it looks at names; here nothing may stay.
        return Err(format!(
            "a refused push left {} objects",
            now.difference(before).count()
        ));
    }
    sound(our_bare, git_bare)
}

/// git must find nothing wrong with our repository that it does not find with its own.
fn sound(our_bare: &Path, git_bare: &Path) -> Result<(), String> {
    let check = |bare: &Path| {
        let args = ["fsck", "--strict", "--full", "--no-dangling", "--no-progress"];
        on_disk(bare, &args)
    };
    let checked = check(our_bare);
    // git takes the empty folder for granted, and its own fsck then misses it.
    if !checked.ok() && check(git_bare).ok() {
        return Err(format!("git fsck: {checked:?}"));
    }
    Ok(())
}

fn share(number: u8) {
    let place = Place::start();
    let strategy = (history::steps(), history::layout(), any::<u8>(), vec(shape(), 3..5));
    super::for_histories(b'p', number, &strategy, |value| check_history(value, &place));
}

#[test]
fn pushes_into_the_first_quarter_of_histories_end_as_with_git() {
    share(0);
}

#[test]
fn pushes_into_the_second_quarter_of_histories_end_as_with_git() {
    share(1);
}

#[test]
fn pushes_into_the_third_quarter_of_histories_end_as_with_git() {
    share(2);
}

#[test]
fn pushes_into_the_last_quarter_of_histories_end_as_with_git() {
    share(3);
}
