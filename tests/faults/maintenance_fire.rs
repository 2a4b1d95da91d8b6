//! Maintenance under fire: pushes, forced pushes, deletions, clones, stock `git repack -adb`,
//! maintenance stopped at its points and kills of the server, all at once on one repository.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::maintenance::{leftovers, maintain, maintain_tidily};
use crate::support::repositories::{self, on_disk};
use crate::support::{Person, Random, TestServer, WorkTree, large, noise};

/// How long one round lasts until the server is killed.
const ROUND: Duration = Duration::from_secs(6);
const ROUNDS: usize = 5;
const LARGE_ROUNDS: usize = 50;
/// Points at which maintenance is stopped, each in its turn; the empty one lets it through.
const FAULTS: [&str; 9] = [
    "",
    "maintenance-pack-written",
    "",
    "maintenance-packs-moved",
    "maintenance-index-removed",
    "",
    "maintenance-refs-packed",
    "maintenance-loose-removed",
    "maintenance-multi-pack-index-written",
];

/// What one person's refs may name: `None` is a ref that is not there.
#[derive(Default)]
struct Expected {
    /// Last acknowledged value of each ref.
    acknowledged: BTreeMap<String, Option<String>>,
    /// Values that were asked for since and not acknowledged.
    possible: BTreeMap<String, Vec<Option<String>>>,
}

impl Expected {
    fn note(&mut self, name: &str, value: Option<String>, is_acknowledged: bool) {
        if is_acknowledged {
            self.acknowledged.insert(name.to_owned(), value);
            self.possible.remove(name);
        } else {
            self.possible.entry(name.to_owned()).or_default().push(value);
        }
    }

    /// Every ref names what it was acknowledged to name, or what was asked for later.
    fn check(&self, now: &BTreeMap<String, String>) {
        for (name, value) in &self.acknowledged {
            let found = now.get(name).cloned();
            let may_be = self.possible.get(name).is_some_and(|values| values.contains(&found));
            assert!(
                found == *value || may_be,
                "{name} was acknowledged to be {value:?} and is {found:?}; asked for since: {:?}",
                self.possible.get(name)
            );
        }
    }
}

fn push_until(end: &AtomicBool, tree: &WorkTree, name: &str, seed: u64, expected: &Mutex<Expected>) {
    let mut random = Random::new(seed);
    let mut number = 0;
    while !end.load(Ordering::Relaxed) {
        number += 1;
        let length = 500 + random.below(30_000);
        tree.write("take.wav", noise(seed * 10_000 + number, length));
        if random.one_in(3) {
            tree.git(&["commit", "--quiet", "--all", "--amend", "-m", "Another"])
                .assert_ok();
        } else {
            tree.commit("Take");
        }
        let tip = tree.id("HEAD");
        let line = format!("refs/heads/{name}/line");
        let pushed = tree.push("anna/song", &["--force", &format!("HEAD:{line}")]).ok();
        expected
            .lock()
            .expect("not poisoned")
            .note(&line, Some(tip.clone()), pushed);
        let branch = format!("refs/heads/{name}/{}", random.below(30));
        let (what, value) = if random.one_in(2) {
            (format!("HEAD:{branch}"), Some(tip))
        } else {
            (format!(":{branch}"), None)
        };
        let pushed = tree.push("anna/song", &["--force", &what]).ok();
        expected.lock().expect("not poisoned").note(&branch, value, pushed);
    }
}

fn refs(bare: &std::path::Path) -> BTreeMap<String, String> {
    repositories::refs(bare)
        .iter()
        .filter_map(|line| line.split_once(' '))
        .map(|(id, name)| (name.to_owned(), id.to_owned()))
        .collect()
}

#[test]
fn under_fire_every_acknowledged_ref_is_there_with_all_it_reaches() {
    let mut server = TestServer::prepare()
        .setting("maintenance.grace_days", 0)
        .setting("maintenance.min_packs", 4)
        .setting("maintenance.check_secs", 1)
        .setting("maintenance.min_free_bytes", 0)
        .start();
    let anna = server.user("anna");
    let bare = server.repo("anna/song");
    repositories::straight_history(&bare, 50);
    let people: Vec<(String, WorkTree)> = (0..2)
        .map(|number| {
            let name = format!("p{number}");
            let tree = anna.clone_repo("anna/song", &name, &[]);
            (name, tree)
        })
        .collect();
    let expected: Vec<Mutex<Expected>> = people.iter().map(|_| Mutex::default()).collect();
    let clones = Mutex::new(0);
    for round in 0..if large() { LARGE_ROUNDS } else { ROUNDS } {
        let end = AtomicBool::new(false);
        let running = &server;
        std::thread::scope(|scope| {
            for (number, (name, tree)) in people.iter().enumerate() {
                let (end, expected) = (&end, &expected[number]);
                scope.spawn(move || push_until(end, tree, name, (round * 10 + number) as u64, expected));
            }
            scope.spawn(|| clone_until(&end, &anna, &clones));
            scope.spawn(|| {
                for number in round.. {
                    if end.load(Ordering::Relaxed) {
                        break;
                    }
                    // Stopped, busy or done: what counts is what is there in the end.
                    maintain(running, FAULTS[number % FAULTS.len()], 0);
                }
            });
            scope.spawn(|| {
                while !end.load(Ordering::Relaxed) {
                    on_disk(&bare, &["repack", "-adbq"]);
                }
            });
            let started = Instant::now();
            while started.elapsed() < ROUND {
                std::thread::sleep(Duration::from_millis(50));
            }
            // In the midst of it all.
            crate::support::server::signal(running.pid(), "KILL");
            std::thread::sleep(Duration::from_millis(200));
            end.store(true, Ordering::Relaxed);
        });
        server.kill();
        server.start_again();
        let now = refs(&bare);
        for expected in &expected {
            let expected = &mut *expected.lock().expect("not poisoned");
            expected.check(&now);
            // What was asked for and not acknowledged is settled now.
            for name in std::mem::take(&mut expected.possible).into_keys() {
                let value = now.get(&name).cloned();
                expected.acknowledged.insert(name, value);
            }
        }
        // Stock git drops commits and packs, and leaves a commit-graph and a multi-pack-index that name them;
        // the next maintenance puts that right.
        let check = [
            "-c",
            "core.commitGraph=false",
            "-c",
            "core.multiPackIndex=false",
            "fsck",
            "--strict",
            "--full",
            "--no-dangling",
        ];
        on_disk(&bare, &check).assert_ok();
    }
    server.stop();
    server.start_again();
    maintain_tidily(&server, &bare);
    server.stop();
    assert_eq!(leftovers(&bare), Vec::<std::path::PathBuf>::new());
    repositories::assert_sound(&bare);
    assert!(*clones.lock().expect("not poisoned") > 0, "nobody could clone");
}

/// Clones again and again; what was cloned must be sound, though stock git may drop what a client was just
/// promised.
fn clone_until(end: &AtomicBool, anna: &Person, clones: &Mutex<usize>) {
    let mut number = 0;
    while !end.load(Ordering::Relaxed) {
        number += 1;
        let folder = format!("copy-{}-{number}", std::thread::current().name().unwrap_or("c"));
        let path = anna.home().join(&folder);
        if anna.try_clone("anna/song", &folder, &["--no-checkout"]).ok() {
            anna.project(&folder).assert_sound();
            *clones.lock().expect("not poisoned") += 1;
        }
        drop(std::fs::remove_dir_all(path));
    }
}
