//! Rubbish into every entry point that strangers reach: nothing may panic, hang or swell.
//!
//! Without more, each target gets a fixed number of inputs from a fixed seed, the same on every
//! run. `./tests/run --fuzz SECONDS` lets each use that much processor time, with ever new inputs. An input that
//! fails is made smaller and kept under `target/fuzz/`; put it into `tests/fuzz/corpus/TARGET/`
//! with the fix.

#![allow(missing_docs, reason = "test names are the documentation")]

#[allow(dead_code, unused_imports, reason = "each test program uses a part of it")]
#[path = "../support/mod.rs"]
mod support;

#[path = "../../hooks/tests/support/audio_files.rs"]
#[allow(dead_code, reason = "made for the tests of the package, too")]
mod audio_files;
mod corpus;
mod large_files;
mod logic;
#[path = "../../hooks/tests/support/logic_files.rs"]
#[allow(dead_code, reason = "made for the tests of the package, too")]
mod logic_files;
mod mutate;
#[path = "../../hooks/tests/support/project_data_files.rs"]
#[allow(dead_code, reason = "made for the tests of the package, too")]
mod project_data_files;
mod targets;
#[path = "../../hooks/tests/support/tree.rs"]
#[allow(dead_code, reason = "made for the tests of the package, too")]
mod tree;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mutate::{Form, mutated};
use support::{MIB, Random, process};
use targets::Target;

/// What all inputs of a run together may make the process hold, in bytes.
const MEMORY_LIMIT: u64 = 700 * MIB as u64;

/// What this process has used so far.
fn processor_time() -> Duration {
    let ticks = process::cpu_ticks(std::process::id()).expect("the system tells");
    Duration::from_millis(ticks * 10)
}

/// Seconds of processor time for each target, if they are set.
fn seconds() -> Option<u64> {
    std::env::var("AUXIN_FUZZ_SECS").ok()?.parse().ok()
}

/// Feeds a target: first its corpus as it is, then changes of it.
fn feed(target: &Target, form: Form, inputs: u64) {
    let mut corpus = (target.corpus)();
    corpus.extend(kept_inputs(target.name));
    assert!(!corpus.is_empty(), "nothing to begin with");
    for input in &corpus {
        try_input(target, input);
    }
    let (seed, end) = match seconds() {
        None => (1, None),
        Some(seconds) => {
            let now = std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .expect("after 1970");
            (now.as_nanos() as u64, Some(Duration::from_secs(seconds)))
        }
    };
    let mut random = Random::new(seed);
    let mut count = 0_u64;
    loop {
        let over = match end {
            // Processor time: a busy machine must not make a run worth less.
            Some(end) => count.is_multiple_of(256) && processor_time() >= end,
            None => count >= inputs,
        };
        if over {
            break;
        }
        let input = mutated(&corpus, form, &mut random);
        try_input(target, &input);
        count += 1;
    }
    let held = process::rss_anon_bytes(std::process::id()).unwrap_or(0);
    println!("{}: {count} inputs, {} MiB held at the end", target.name, held >> 20);
    assert!(held < MEMORY_LIMIT, "{} MiB are held", held >> 20);
}

/// Gives one input to a target; if it fails, finds a smaller one that fails and keeps it.
fn try_input(target: &Target, input: &[u8]) {
    let fails = |input: &[u8]| catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err();
    if !fails(input) {
        return;
    }
    let small = smaller(input, &fails);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("fuzz");
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    let path = folder.join(format!("{}-{}", target.name, small.len()));
    std::fs::write(&path, &small).expect("a file can be written");
    panic!(
        "{} fails for {} bytes, kept in {}: {}",
        target.name,
        small.len(),
        path.display(),
        small.escape_ascii()
    );
}

/// Leaves out what is not needed to fail.
fn smaller(input: &[u8], fails: &dyn Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut best = input.to_vec();
    let mut piece = best.len() / 2;
    while piece > 0 {
        let mut at = 0;
        while at < best.len() {
            let mut shorter = best.clone();
            shorter.drain(at..(at + piece).min(best.len()));
            if fails(&shorter) {
                best = shorter;
            } else {
                at += piece;
            }
        }
        piece /= 2;
    }
    best
}

/// Inputs that failed once.
fn kept_inputs(name: &str) -> Vec<Vec<u8>> {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(name);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| std::fs::read(path).expect("a file can be read"))
        .collect()
}

#[test]
fn pkt_lines_of_any_content_are_read_or_refused() {
    feed(&targets::pkt_line(), Form::Lines, 60_000);
}

#[test]
fn fetch_requests_of_any_content_are_answered_or_refused() {
    feed(&targets::upload_pack(), Form::Lines, 60_000);
}

#[test]
fn push_commands_of_any_content_are_read_or_refused() {
    feed(&targets::commands(), Form::Lines, 200_000);
}

#[test]
fn packs_of_any_content_are_taken_in_or_refused() {
    feed(&targets::pack(), Form::Pack, 4_000);
}

#[test]
fn packs_of_sha256_repositories_of_any_content_are_taken_in_or_refused() {
    feed(&targets::pack_sha256(), Form::PackSha256, 2_000);
}

#[test]
fn commit_graphs_of_any_content_are_read_or_passed_over() {
    feed(&targets::commit_graph(), Form::Pack, 4_000);
}

#[test]
fn objects_of_any_content_are_checked() {
    feed(&targets::fsck(), Form::Bytes, 300_000);
}

#[test]
fn names_of_any_content_are_valid_or_refused() {
    feed(&targets::names(), Form::Bytes, 200_000);
}

#[test]
fn settings_of_any_content_are_read_or_refused() {
    feed(&targets::settings(), Form::Bytes, 4_000);
}

#[test]
fn configs_of_repositories_of_any_content_are_read_or_refused() {
    feed(&targets::repo_config(), Form::Bytes, 200_000);
}

#[test]
fn filters_of_any_content_are_read_or_refused() {
    feed(&targets::filter(), Form::Bytes, 300_000);
}

#[test]
fn bitmaps_of_any_content_are_read_or_refused() {
    feed(&targets::bitmap(), Form::Pack, 30_000);
}

#[test]
fn reverse_indexes_of_any_content_are_read_or_refused() {
    feed(&targets::rev(), Form::Pack, 30_000);
}

#[test]
fn multi_pack_indexes_of_any_content_are_read_or_refused() {
    feed(&targets::multi_pack(), Form::Pack, 10_000);
}

#[test]
fn chunk_packs_of_any_content_are_read_or_refused() {
    feed(&large_files::chunk_pack(), Form::Bytes, 100_000);
}

#[test]
fn runs_of_chunks_of_any_content_are_read_or_refused() {
    feed(&large_files::runs(), Form::Bytes, 100_000);
}

#[test]
fn recipes_of_any_content_are_read_or_refused() {
    feed(&large_files::recipe(), Form::Bytes, 100_000);
}

#[test]
fn stored_chunks_of_any_content_are_decoded_or_refused() {
    feed(&large_files::decoder(), Form::Bytes, 60_000);
}

#[test]
fn large_files_of_any_content_come_back_as_they_were() {
    feed(&large_files::file(), Form::Bytes, 6_000);
}

#[test]
fn audio_files_of_any_content_are_read_however_they_are_split() {
    feed(&large_files::sound(), Form::Bytes, 60_000);
}

#[test]
fn property_lists_of_any_content_are_read_or_refused() {
    feed(&logic::property_list(), Form::Bytes, 60_000);
}

#[test]
fn songs_of_any_content_are_read_or_refused() {
    feed(&logic::song(), Form::Bytes, 60_000);
}

#[test]
fn projects_with_files_of_any_content_are_told_and_compared() {
    feed(&logic::project(), Form::Bytes, 4_000);
}

#[test]
fn projects_are_found_among_any_paths() {
    feed(&logic::paths(), Form::Bytes, 60_000);
}

#[test]
fn batch_requests_of_any_content_are_read_or_refused() {
    feed(&large_files::batch(), Form::Bytes, 100_000);
}

#[test]
fn an_input_that_fails_is_made_small_and_kept() {
    let target = Target {
        name: "planted",
        corpus: || vec![b"some text that is long enough".to_vec()],
        run: Box::new(|input| assert!(!input.contains(&b'x'), "planted")),
    };
    let caught = catch_unwind(AssertUnwindSafe(|| feed(&target, Form::Bytes, 10)));
    assert!(caught.is_err());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("fuzz");
    assert_eq!(std::fs::read(folder.join("planted-1")).expect("it was kept"), b"x");
    std::fs::remove_file(folder.join("planted-1")).expect("it can go");
}
