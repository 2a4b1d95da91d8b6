//! Fetches: every shape of request, over generated histories.

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;

use super::history::{self, Layout, Step};
use super::reference::{self, Client, Objects, Place};
use crate::support::Request;
use crate::support::repositories::{self, on_disk};
use crate::support::wire::{self, FetchAnswer, V0, V2};

/// One fetch. Numbers mean "the n-th of what there is, counted round".
#[derive(Clone, Debug)]
struct Shape {
    version: u8,
    wants: Vec<u16>,
    /// Commits of history instead of refs.
    any_commit: bool,
    /// Folders and files instead of refs, as partial clones ask for them; by v2 only.
    any_object: bool,
    /// What the client has; nothing is a clone.
    has: Vec<u16>,
    /// How deep the client's own clone is; 0 is all.
    client_depth: u8,
    /// How many `have` lines are sent.
    haves: u8,
    unknown_haves: u8,
    done: bool,
    thin: bool,
    ofs_delta: bool,
    include_tag: bool,
    deepen: Deepen,
    filter: u8,
    acks: u8,
    no_done: bool,
    side_band: u8,
    wait_for_done: bool,
    want_ref: bool,
    /// Every line of the answer on a side band; by v2 only.
    sideband_all: bool,
}

#[derive(Clone, Debug)]
enum Deepen {
    No,
    Depth(u8),
    Relative(u8),
    Since(u16),
    Not(u16),
    SinceAndNot(u16, u16),
}

const FILTERS: [&str; 12] = [
    SPARSE,
    "blob:none",
    "blob:limit=100",
    "blob:limit=1k",
    "tree:0",
    "tree:1",
    "tree:2",
    "object:type=commit",
    "object:type=tree",
    "object:type=blob",
    "object:type=tag",
    "combine:blob:limit=1k+tree:3",
];

/// Stands for `sparse:oid=` and the id of [`PATTERNS`] in the repository.
const SPARSE: &str = "sparse:oid";
/// What a sparse checkout holds: some folders of the histories, without one that lies deep, and texts.
const PATTERNS: &str = "# Takes\n/*\n!/*/\n/a/\n!/a/b/\nb/**/a*\n*.txt\n!deep/\n";

fn shape() -> impl Strategy<Value = Shape> {
    let deepen = prop_oneof![
        6 => Just(Deepen::No),
        2 => (1_u8..8).prop_map(Deepen::Depth),
        1 => (1_u8..5).prop_map(Deepen::Relative),
        1 => any::<u16>().prop_map(Deepen::Since),
        1 => any::<u16>().prop_map(Deepen::Not),
        1 => (any::<u16>(), any::<u16>()).prop_map(|(since, not)| Deepen::SinceAndNot(since, not)),
    ];
    (
        (
            0_u8..3,
            vec(any::<u16>(), 1..5),
            (prop::bool::weighted(0.2), prop::bool::weighted(0.1)),
            prop_oneof![1 => Just(Vec::new()), 2 => vec(any::<u16>(), 1..4)],
            prop_oneof![3 => Just(0_u8), 1 => 1_u8..5],
            prop_oneof![Just(1_u8), 1_u8..32],
            0_u8..3,
        ),
        (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()),
        (
            deepen,
            prop_oneof![3 => Just(u8::MAX), 1 => 0_u8..FILTERS.len() as u8],
            0_u8..3,
            any::<bool>(),
            0_u8..3,
            prop::bool::weighted(0.1),
            prop::bool::weighted(0.1),
            prop::bool::weighted(0.1),
        ),
    )
        .prop_map(
            |(
                (version, wants, (any_commit, any_object), has, client_depth, haves, unknown_haves),
                (done, thin, ofs_delta, include_tag),
                (deepen, filter, acks, no_done, side_band, wait_for_done, want_ref, sideband_all),
            )| Shape {
                version,
                wants,
                any_commit,
                any_object,
                has,
                client_depth,
                haves,
                unknown_haves,
                // A clone without haves has nothing to negotiate.
                done,
                thin,
                ofs_delta,
                include_tag,
                deepen,
                filter,
                acks,
                no_done,
                side_band,
                wait_for_done,
                want_ref,
                sideband_all,
            },
        )
}

/// What there is to ask for.
struct Facts {
    refs: Vec<(String, String)>,
    commits: Vec<String>,
    /// Folders and files.
    objects: Vec<String>,
    times: Vec<u64>,
    /// Some commit is dated long before its parents: git then guesses, and so do we.
    is_skewed: bool,
    format: &'static str,
    id_digits: usize,
}

impl Facts {
    fn of(bare: &Path, is_skewed: bool) -> Self {
        let refs = repositories::refs(bare)
            .iter()
            .map(|line| {
                let (id, name) = line.split_once(' ').expect("id and name");
                (id.to_owned(), name.to_owned())
            })
            .collect();
        let log = repositories::ask(bare, &["log", "--all", "--format=%H %ct"]);
        let (commits, times): (Vec<String>, Vec<u64>) = log
            .lines()
            .map(|line| {
                let (id, time) = line.split_once(' ').expect("id and time");
                (id.to_owned(), time.parse::<u64>().expect("a number"))
            })
            .unzip();
        let objects = repositories::ask(bare, &["rev-list", "--all", "--objects", "--filter=object:type=blob"]);
        let trees = repositories::ask(bare, &["rev-list", "--all", "--objects", "--filter=object:type=tree"]);
        let id = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
        let objects: Vec<String> = objects
            .lines()
            .chain(trees.lines())
            .map(id)
            .filter(|id| !commits.contains(id))
            .collect();
        Self {
            refs,
            commits,
            objects,
            times,
            is_skewed,
            format: repositories::object_format(bare),
            id_digits: repositories::id_digits(bare),
        }
    }
}

fn nth<T>(of: &[T], number: u16) -> &T {
    &of[number as usize % of.len()]
}

fn check_history((steps, layout, shapes): (Vec<Step>, Layout, Vec<Shape>), place: &Place) -> Result<(), String> {
    let (address, bare) = place.repo(history::format(&steps));
    history::write(&steps, layout, &bare);
    for (key, value) in [
        ("uploadpack.allowFilter", "true"),
        ("uploadpack.allowReachableSHA1InWant", "true"),
        ("uploadpack.allowRefInWant", "true"),
        ("uploadpack.allowSidebandAll", "true"),
    ] {
        on_disk(&bare, &["config", key, value]).assert_ok();
    }
    let patterns = repositories::on_disk_with_input(&bare, &["hash-object", "-w", "--stdin"], PATTERNS.as_bytes());
    on_disk(&bare, &["update-ref", "refs/patterns/own", &patterns.out()]).assert_ok();
    let is_skewed = steps.iter().any(|step| matches!(step, Step::Commit { late: true, .. }));
    let facts = Facts::of(&bare, is_skewed);
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    check_refs(place, &address, &bare)?;
    if !facts.commits.is_empty() {
        for (number, shape) in shapes.iter().enumerate() {
            check_fetch(place, &address, &bare, &facts, shape, folder.path(), number)
                .map_err(|error| format!("request {number}: {error}"))?;
        }
    }
    drop(std::fs::remove_dir_all(&bare));
    Ok(())
}

/// The lists of refs are the same, byte for byte where git's order and words count.
fn check_refs(place: &Place, address: &str, bare: &Path) -> Result<(), String> {
    let ours = place.send(Request::upload_refs(address, 0));
    let gits = reference::upload_refs(bare);
    let (ours, gits) = (wire::parse_refs(&ours.body)?, wire::parse_refs(&gits)?);
    if ours != gits {
        return Err(format!("v0 refs: {ours:?} instead of {gits:?}"));
    }
    for arguments in [
        vec![],
        vec!["peel", "symrefs", "unborn"],
        vec!["symrefs", "ref-prefix refs/heads/"],
        vec!["peel", "ref-prefix refs/tags/mix", "ref-prefix HEAD"],
        vec![
            "peel",
            "symrefs",
            "ref-prefix refs/heads/feature/a",
            "ref-prefix refs/none",
        ],
    ] {
        let mut request = V2::ls_refs().object_format(repositories::object_format(bare));
        for argument in &arguments {
            request = request.arg(*argument);
        }
        let ours = place.send(Request::upload_pack(address, 2, request.bytes()));
        let gits = reference::upload_pack(bare, 2, &request.bytes());
        if ours.body != gits {
            return Err(format!(
                "ls-refs {arguments:?}: {} instead of {}",
                ours.text(),
                String::from_utf8_lossy(&gits)
            ));
        }
    }
    Ok(())
}

fn check_fetch(
    place: &Place,
    address: &str,
    bare: &Path,
    facts: &Facts,
    shape: &Shape,
    folder: &Path,
    number: usize,
) -> Result<(), String> {
    let tips: Vec<String> = shape.has.iter().map(|has| nth(&facts.commits, *has).clone()).collect();
    let depth = (shape.client_depth > 0).then_some(shape.client_depth);
    let client = Client::with(folder, &format!("client-{number}"), bare, &tips, depth);
    let mut haves: Vec<String> = Vec::new();
    if !tips.is_empty() {
        let mut args = vec!["rev-list", "--date-order"];
        args.extend(tips.iter().map(String::as_str));
        haves = repositories::ask(&client.bare, &args)
            .lines()
            .take(shape.haves as usize)
            .map(str::to_owned)
            .collect();
    }
    for unknown in 0..shape.unknown_haves {
        let id = format!("{unknown:02x}").repeat(facts.id_digits / 2).replace('0', "f");
        haves.insert(unknown as usize % (haves.len() + 1), id);
    }
    let wants: Vec<(String, String)> = shape
        .wants
        .iter()
        .map(|want| {
            if shape.any_object && shape.version == 2 && !facts.objects.is_empty() {
                (nth(&facts.objects, *want).clone(), String::new())
            } else if shape.any_commit || facts.refs.is_empty() {
                (nth(&facts.commits, *want).clone(), String::new())
            } else {
                nth(&facts.refs, *want).clone()
            }
        })
        .collect();
    let filter = FILTERS.get(shape.filter as usize).map(|&filter| match filter {
        SPARSE => format!("sparse:oid={}", repositories::id(bare, "refs/patterns/own")),
        filter => filter.to_owned(),
    });
    let filter = filter.as_deref();
    let (ours, gits, request) = if shape.version == 2 {
        let body = v2_request(shape, facts, &wants, &haves, &client, filter).bytes();
        let ours = place.send(Request::upload_pack(address, 2, body.clone()));
        let gits = reference::upload_pack(bare, 2, &body);
        let parse = if shape.sideband_all {
            wire::parse_v2_fetch_on_bands
        } else {
            wire::parse_v2_fetch
        };
        (parse(&ours.body), parse(&gits), body)
    } else {
        let body = v0_request(shape, facts, &wants, &haves, &client, filter).bytes();
        let ours = place.send(Request::upload_pack(address, shape.version, body.clone()));
        let gits = reference::upload_pack(bare, shape.version, &body);
        let banded = shape.side_band > 0;
        (
            wire::parse_v0_fetch(&ours.body, banded),
            wire::parse_v0_fetch(&gits, banded),
            body,
        )
    };
    let request = String::from_utf8_lossy(&request).into_owned();
    let gits = gits.map_err(|error| format!("git's answer: {error}\n{request}"))?;
    let ours = ours.map_err(|error| format!("our answer: {error}\n{request}"))?;
    let mut done = compare(&ours, &gits, &client, bare, &haves, &wants, shape);
    if done.is_err() && facts.is_skewed {
        // Whatever was guessed, what comes must be whole.
        done = match &ours.pack {
            Some(pack) => client.after(pack, &ours.shallow, filter.is_none()).map(drop),
            None => Ok(()),
        };
    }
    drop(std::fs::remove_dir_all(&client.bare));
    done.map_err(|error| format!("{error}\n{request}\nours {}\ngits {}", brief(&ours), brief(&gits)))
}

fn brief(answer: &FetchAnswer) -> String {
    format!(
        "{:?} {:?} {:?} pack {:?} error {:?}",
        answer.acknowledgments,
        answer.shallow,
        answer.wanted_refs,
        answer.pack.as_ref().map(Vec::len),
        answer.error
    )
}

fn v2_request(
    shape: &Shape,
    facts: &Facts,
    wants: &[(String, String)],
    haves: &[String],
    client: &Client,
    filter: Option<&str>,
) -> V2 {
    let mut request = V2::fetch().object_format(facts.format);
    let flags = [
        (shape.thin, "thin-pack"),
        (shape.ofs_delta, "ofs-delta"),
        (shape.include_tag, "include-tag"),
        (shape.wait_for_done, "wait-for-done"),
        (shape.sideband_all, "sideband-all"),
        (true, "no-progress"),
    ];
    for (set, word) in flags {
        if set {
            request = request.arg(word);
        }
    }
    for (number, (id, name)) in wants.iter().enumerate() {
        // A ref may be named once only.
        let first = wants.iter().position(|(_, known)| known == name) == Some(number);
        if shape.want_ref && !name.is_empty() {
            if first {
                request = request.arg(format!("want-ref {name}"));
            }
        } else {
            request = request.arg(format!("want {id}"));
        }
    }
    for id in &client.shallow {
        request = request.arg(format!("shallow {id}"));
    }
    for line in deepen_lines(shape, facts) {
        request = request.arg(line);
    }
    if let Deepen::Relative(_) = shape.deepen {
        request = request.arg("deepen-relative");
    }
    if let Some(filter) = filter {
        request = request.arg(format!("filter {filter}"));
    }
    for have in haves {
        request = request.arg(format!("have {have}"));
    }
    if shape.done || haves.is_empty() {
        request = request.arg("done");
    }
    request
}

fn v0_request(
    shape: &Shape,
    facts: &Facts,
    wants: &[(String, String)],
    haves: &[String],
    client: &Client,
    filter: Option<&str>,
) -> V0 {
    let format = format!("object-format={}", facts.format);
    let mut words = vec!["agent=tests", "no-progress", &format];
    words.extend(match shape.acks {
        0 => None,
        1 => Some("multi_ack"),
        _ => Some("multi_ack_detailed"),
    });
    words.extend(match shape.side_band {
        0 => None,
        1 => Some("side-band"),
        _ => Some("side-band-64k"),
    });
    let flags = [
        (shape.no_done && shape.acks == 2, "no-done"),
        (shape.thin, "thin-pack"),
        (shape.ofs_delta, "ofs-delta"),
        (shape.include_tag, "include-tag"),
        (matches!(shape.deepen, Deepen::Relative(_)), "deepen-relative"),
        (filter.is_some(), "filter"),
    ];
    words.extend(flags.iter().filter(|(set, _)| *set).map(|(_, word)| *word));
    V0 {
        capabilities: words.join(" "),
        wants: wants.iter().map(|(id, _)| id.clone()).collect(),
        shallows: client.shallow.clone(),
        deepen: deepen_lines(shape, facts),
        filter: filter.map(str::to_owned),
        haves: haves.to_vec(),
        done: shape.done || haves.is_empty(),
    }
}

fn deepen_lines(shape: &Shape, facts: &Facts) -> Vec<String> {
    let since = |number: &u16| format!("deepen-since {}", nth(&facts.times, *number));
    let not = |number: &u16| (!facts.refs.is_empty()).then(|| format!("deepen-not {}", nth(&facts.refs, *number).1));
    match &shape.deepen {
        Deepen::No => Vec::new(),
        Deepen::Depth(depth) | Deepen::Relative(depth) => vec![format!("deepen {depth}")],
        Deepen::Since(number) => vec![since(number)],
        Deepen::Not(number) => not(number).into_iter().collect(),
        Deepen::SinceAndNot(one, other) => [Some(since(one)), not(other)].into_iter().flatten().collect(),
    }
}

fn compare(
    ours: &FetchAnswer,
    gits: &FetchAnswer,
    client: &Client,
    bare: &Path,
    haves: &[String],
    wants: &[(String, String)],
    shape: &Shape,
) -> Result<(), String> {
    let filtered = FILTERS.get(shape.filter as usize).is_some();
    let is_relative = matches!(shape.deepen, Deepen::Relative(_));
    // git dies without a word where Auxin gives a reason.
    if gits.pack.is_none() && gits.acknowledgments.is_empty() {
        return match &ours.pack {
            None => Ok(()),
            Some(_) => Err(format!("a pack where git refuses: {:?}", gits.error)),
        };
    }
    if ours.shallow != gits.shallow && is_relative {
        // Later versions of git count from the nearest boundary, as we do, older ones from each, and then
        // have other commits in common: what comes must be whole all the same.
        return match &ours.pack {
            Some(pack) => client.after(pack, &ours.shallow, !filtered).map(drop),
            None if gits.pack.is_none() => Ok(()),
            None => Err("no pack".into()),
        };
    }
    if ours.acknowledgments != gits.acknowledgments {
        // With a commit graph git looks behind the client's boundary when it says `ready`.
        let plain = |answer: &FetchAnswer| {
            let lines = answer.acknowledgments.iter();
            lines
                .filter(|line| !line.ends_with("ready"))
                .cloned()
                .collect::<Vec<_>>()
        };
        let is_same_but_ready = !client.shallow.is_empty() && plain(ours) == plain(gits);
        // Behind the boundary, too, it then finds what an earlier have implies, and says to a client that knows one
        // acknowledgment only that it has found the same once more.
        let has_boundary = !client.shallow.is_empty() || !matches!(shape.deepen, Deepen::No);
        let is_beginning = !ours.acknowledgments.is_empty() && gits.acknowledgments.starts_with(&ours.acknowledgments);
        let is_same_but_repeated = shape.version < 2 && shape.acks == 0 && has_boundary && is_beginning;
        if !is_same_but_ready && !is_same_but_repeated {
            return Err("acknowledgments".into());
        }
        return match &ours.pack {
            Some(pack) => client.after(pack, &ours.shallow, !filtered).map(drop),
            None => Ok(()),
        };
    }
    let is_ready = gits.acknowledgments.last().is_some_and(|line| line == "ready");
    if is_ready && gits.pack.is_none() && ours.pack.is_none() && ours.error.is_some() {
        // Git died after it had told more.
        return Ok(());
    }
    if ours.shallow != gits.shallow {
        return Err("shallow lines".into());
    }
    if ours.wanted_refs != gits.wanted_refs {
        return Err("wanted refs".into());
    }
    let (Some(our_pack), Some(git_pack)) = (&ours.pack, &gits.pack) else {
        return if ours.pack.is_none() && gits.pack.is_none() {
            Ok(())
        } else {
            Err("one answers with a pack and one does not".into())
        };
    };
    let ours_after = client.after(our_pack, &ours.shallow, !filtered)?;
    let gits_after = client
        .after(git_pack, &gits.shallow, !filtered)
        .map_err(|error| format!("(git's own pack) {error}"))?;
    // Where tags are to come along, git may send those of what the client has; with a filter it may
    // send again what the client's commits reach.
    let known = closure(bare, haves);
    let beyond = |objects: Objects| objects.difference(&known).cloned().collect::<Objects>();
    let (ours_beyond, gits_beyond) = match filtered {
        true => (beyond(ours_after), beyond(gits_after)),
        false => (ours_after, gits_after),
    };
    let is_combined = FILTERS
        .get(shape.filter as usize)
        .is_some_and(|filter| filter.starts_with("combine:"));
    if is_combined && gits_beyond.is_subset(&ours_beyond) {
        // Of a file that is too deep in one place and not in another, git's combined filters lose both.
        return Ok(());
    }
    // What is wanted outright comes whatever the filter says; git forgets that of what it also meets in a folder.
    let is_wanted = |id: &String| filtered && wants.iter().any(|(want, _)| want == id) && !gits_beyond.contains(id);
    let ours_beyond: Objects = ours_beyond.into_iter().filter(|id| !is_wanted(id)).collect();
    let tags = tags_of(bare, &known, gits_beyond.difference(&ours_beyond));
    let gits_beyond = gits_beyond.difference(&tags).cloned().collect();
    reference::compare("objects", &ours_beyond, &gits_beyond, bare)
}

/// Those of `ids` that are tags of what is `known`.
fn tags_of<'a>(bare: &Path, known: &Objects, ids: impl Iterator<Item = &'a String>) -> Objects {
    ids.filter(|id| {
        let peeled = on_disk(bare, &["rev-parse", &format!("{id}^{{}}")]).out();
        peeled != **id && known.contains(&peeled)
    })
    .cloned()
    .collect()
}

/// Everything that the known ones among `ids` reach.
fn closure(bare: &Path, ids: &[String]) -> Objects {
    if ids.is_empty() {
        return Objects::new();
    }
    let mut args = vec!["rev-list", "--objects", "--ignore-missing"];
    args.extend(ids.iter().map(String::as_str));
    on_disk(bare, &args)
        .out()
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}

fn share(number: u8) {
    let place = Place::start();
    let strategy = (history::steps(), history::layout(), vec(shape(), 8..12));
    super::for_histories(b'f', number, &strategy, |value| check_history(value, &place));
}

#[test]
fn fetches_from_the_first_quarter_of_histories_are_answered_as_git_answers() {
    share(0);
}

#[test]
fn fetches_from_the_second_quarter_of_histories_are_answered_as_git_answers() {
    share(1);
}

#[test]
fn fetches_from_the_third_quarter_of_histories_are_answered_as_git_answers() {
    share(2);
}

#[test]
fn fetches_from_the_last_quarter_of_histories_are_answered_as_git_answers() {
    share(3);
}
