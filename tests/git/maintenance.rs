//! Maintenance of repositories, judged by stock git.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use auxin::config::{GitSettings, MaintenanceSettings};
use auxin::git::ObjectId;
use auxin::git::maintenance::{self, MaintenanceOptions, MaintenanceReport, PackFile, PushGuard, Role, Survey};
use auxin::git::plan::{PackRequest, plan};
use auxin::git::snapshot::Repository;

use crate::check::{pack_files, scattered};
use crate::plan::{TestRepo, git_in};

/// How a test wants it.
#[derive(Clone, Default)]
struct Wish {
    settings: MaintenanceSettings,
    git: GitSettings,
    only_due: bool,
    with_deltas: bool,
    keep: Vec<ObjectId>,
    borrowers: Vec<String>,
}

impl Wish {
    fn grace_days(days: u32) -> Self {
        Self {
            settings: MaintenanceSettings {
                grace_days: days,
                min_free_bytes: 0,
                ..MaintenanceSettings::default()
            },
            ..Self::default()
        }
    }

    fn maintain(&self, path: &Path) -> MaintenanceReport {
        let repository = Repository::open(path, false).expect("opens");
        let options = MaintenanceOptions {
            settings: &self.settings,
            git: &self.git,
            is_full: !self.only_due,
            is_pushed_to: true,
            with_deltas: self.with_deltas,
            is_dry_run: false,
            wait: false,
            keep: &self.keep,
            borrowers: &self.borrowers,
        };
        maintenance::maintain(&repository, &options, &mut || Ok(())).expect("maintained")
    }
}

fn maintain(repo: &TestRepo) -> MaintenanceReport {
    Wish::grace_days(14).maintain(&repo.path)
}

fn survey(repo: &TestRepo) -> Survey {
    Survey::of(&repo.path).expect("a folder")
}

/// The ids in one pack.
fn ids_in(repo: &TestRepo, pack: &PackFile) -> BTreeSet<String> {
    let index = fs::read(pack.path.with_extension("idx")).expect("an index");
    let (ok, out) = git_in(&repo.path, &["show-index"], &index);
    assert!(ok);
    String::from_utf8(out)
        .expect("text")
        .lines()
        .map(|line| line.split(' ').nth(1).expect("an id").to_owned())
        .collect()
}

/// What these arguments of `git rev-list --objects` name.
fn reached(repo: &TestRepo, arguments: &[&str]) -> BTreeSet<String> {
    let mut all = vec!["rev-list", "--objects", "--no-object-names"];
    all.extend_from_slice(arguments);
    repo.git(&all).lines().map(str::to_owned).collect()
}

/// Everything that stock git can say against it.
fn assert_git_is_content(repo: &TestRepo) {
    repo.git(&["fsck", "--full", "--strict", "--no-dangling"]);
    if survey(repo).has_commit_graph {
        repo.git(&["commit-graph", "verify"]);
    }
    if survey(repo).has_multi_pack_index {
        repo.git(&["multi-pack-index", "verify"]);
    }
    for pack in pack_files(repo) {
        repo.git(&["verify-pack", &pack.with_extension("idx").display().to_string()]);
    }
    let left: Vec<PathBuf> = fs::read_dir(repo.path.join("objects"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().contains("incoming"))
        })
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Git finds the bitmap's answers right, and the bitmap is used.
fn assert_bitmap_is_right(repo: &TestRepo, tips: &[&str]) {
    let clone = survey(repo).clone_pack().cloned().expect("a clone pack");
    assert!(clone.has_bitmap);
    for tip in tips {
        repo.git(&["rev-list", "--use-bitmap-index", "--test-bitmap", tip]);
    }
    repo.git(&[
        "rev-list",
        "--count",
        "--objects",
        "--use-bitmap-index",
        "--branches",
        "--tags",
    ]);
}

#[test]
fn everything_is_put_in_order_and_a_second_time_finds_nothing_to_do() {
    let repo = scattered();
    let before = repo.all_objects();

    let report = maintain(&repo);

    assert_git_is_content(&repo);
    assert_eq!(repo.all_objects(), before);
    let after = survey(&repo);
    assert_eq!(
        (report.before.packs.len(), after.packs.len(), after.loose_objects),
        (4, 2, 0)
    );
    let clone = after.clone_pack().expect("a clone pack");
    assert_eq!(ids_in(&repo, clone), reached(&repo, &["--all"]));
    assert_bitmap_is_right(&repo, &["main", "side", "tagtag^{commit}"]);
    assert!(after.has_commit_graph && after.has_multi_pack_index);
    assert_eq!(
        after.packs.iter().filter(|pack| pack.role == Role::Unreachable).count(),
        1
    );

    let again = maintain(&repo);

    assert!(!again.is_changed(), "{:?}", again.steps);
}

#[test]
fn a_default_clone_is_the_clone_pack_as_it_lies() {
    let repo = scattered();
    maintain(&repo);
    let clone = survey(&repo).clone_pack().cloned().expect("a clone pack");
    let repository = Repository::open(&repo.path, false).expect("opens");
    let snapshot = repository.snapshot().expect("reads");
    let request = PackRequest {
        wants: snapshot.visible_tips(),
        ofs_delta: true,
        thin: true,
        include_tag: true,
        ..PackRequest::default()
    };

    let mut sent = Vec::new();
    plan(&snapshot, &request, &mut || Ok(()))
        .expect("plans")
        .write_to(&mut sent, &mut || Ok(()))
        .expect("sends");

    assert!(sent == fs::read(clone.path).expect("reads"));
}

#[test]
fn what_only_hidden_refs_reach_lies_in_a_pack_of_its_own() {
    let repo = scattered();
    repo.git(&["config", "transfer.hideRefs", "refs/pull"]);
    repo.git(&["update-ref", "refs/heads/kept", "main"]);
    push_takes(&repo, 2);
    repo.git(&["update-ref", "refs/pull/1/head", "main"]);
    repo.git(&["update-ref", "refs/heads/main", "kept"]);
    let before = repo.all_objects();

    maintain(&repo);

    assert_git_is_content(&repo);
    assert_eq!(repo.all_objects(), before);
    let after = survey(&repo);
    let visible = reached(&repo, &["--branches", "--tags"]);
    assert_eq!(ids_in(&repo, after.clone_pack().expect("a clone pack")), visible);
    let hidden: BTreeSet<String> = reached(&repo, &["--all"]).difference(&visible).cloned().collect();
    assert!(!hidden.is_empty());
    assert_eq!(
        ids_in(&repo, after.other_pack().expect("a pack of hidden refs")),
        hidden
    );
    assert!(!maintain(&repo).is_changed());
}

#[test]
fn unreachable_objects_stay_for_their_grace_time_and_then_go() {
    let repo = scattered();
    repo.git(&["update-ref", "-d", "refs/heads/side"]);
    let reachable = reached(&repo, &["--all"]);
    let before = repo.all_objects();
    assert!(before.len() > reachable.len());

    maintain(&repo);
    assert_eq!(repo.all_objects(), before);
    let cruft = survey(&repo);
    let cruft = cruft
        .packs
        .iter()
        .find(|pack| pack.role == Role::Unreachable)
        .expect("a pack")
        .clone();
    let unreachable: BTreeSet<String> = before.difference(&reachable).cloned().collect();
    assert_eq!(ids_in(&repo, &cruft), unreachable);

    Wish::grace_days(0).maintain(&repo.path);
    assert_git_is_content(&repo);
    assert_eq!(repo.all_objects(), reachable);
    assert!(!Wish::grace_days(0).maintain(&repo.path).is_changed());
}

#[test]
fn stock_git_understands_the_pack_of_unreachable_objects() {
    let repo = scattered();
    maintain(&repo);
    let reachable = reached(&repo, &["--all"]);
    let before = repo.all_objects();

    repo.git(&["gc", "-q", "--cruft", "--prune=1.week.ago"]);
    assert_eq!(repo.all_objects(), before, "none of them is a week old");
    maintain(&repo);
    repo.git(&["gc", "-q", "--cruft", "--prune=now"]);

    assert_eq!(repo.all_objects(), reachable);
    assert_git_is_content(&repo);
    maintain(&repo);
    assert_git_is_content(&repo);
}

#[test]
fn what_a_younger_unreachable_object_names_stays_with_it() {
    let repo = scattered();
    let side = repo.git(&["rev-parse", "side"]).trim().to_owned();
    repo.git(&["update-ref", "-d", "refs/heads/side"]);
    maintain(&repo);
    let before = repo.all_objects();
    age_unreachable(&repo, 100);
    // Comes anew, and names what is old.
    let (ok, _) = git_in(
        &repo.path,
        &["hash-object", "-w", "-t", "commit", "--stdin"],
        format!(
            "tree {}\nparent {side}\nauthor A <a@example.org> 1700000000 +0000\ncommitter A <a@example.org> 1700000000 +0000\n\nnew\n",
            repo.git(&["rev-parse", &format!("{side}^{{tree}}")]).trim()
        )
        .as_bytes(),
    );
    assert!(ok);

    maintain(&repo);

    let after = repo.all_objects();
    let lost: Vec<&String> = before.difference(&after).collect();
    // The loose blob that nothing names has had its time.
    assert_eq!(lost.len(), 1, "{lost:?}");
    repo.git(&["rev-list", "--objects", &side]);
}

#[test]
fn objects_go_when_their_time_is_over_and_not_before() {
    let repo = scattered();
    maintain(&repo);
    let before = repo.all_objects();
    age_unreachable(&repo, 13);
    maintain(&repo);
    assert_eq!(repo.all_objects(), before);

    age_unreachable(&repo, 2);
    maintain(&repo);

    assert_eq!(repo.all_objects(), reached(&repo, &["--all"]));
}

/// Makes every unreachable object so many days older.
fn age_unreachable(repo: &TestRepo, days: u32) {
    for pack in survey(repo).packs.iter().filter(|pack| pack.role == Role::Unreachable) {
        let path = pack.path.with_extension("mtimes");
        let mut content = fs::read(&path).expect("reads");
        for at in 0..pack.objects as usize {
            let field = &mut content[12 + 4 * at..][..4];
            let time = u32::from_be_bytes(field.try_into().expect("four bytes")) - days * 24 * 3600;
            field.copy_from_slice(&time.to_be_bytes());
        }
        let body = content.len() - 20;
        let checksum = sha1_of(&content[..body]);
        content[body..].copy_from_slice(&checksum);
        fs::remove_file(&path).expect("removes");
        fs::write(&path, content).expect("writes");
    }
}

fn sha1_of(bytes: &[u8]) -> [u8; 20] {
    use sha1::Digest;
    sha1::Sha1::digest(bytes).into()
}

#[test]
fn what_the_servers_records_keep_is_not_pruned() {
    let repo = scattered();
    let side = ObjectId::from_hex(repo.git(&["rev-parse", "side"]).trim().as_bytes()).expect("an id");
    repo.git(&["update-ref", "-d", "refs/heads/side"]);
    let mut wish = Wish::grace_days(0);
    wish.keep = vec![side];

    wish.maintain(&repo.path);

    repo.git(&["rev-list", "--objects", &side.to_string()]);
    assert_git_is_content(&repo);
}

#[test]
fn nothing_is_pruned_where_others_may_need_it() {
    let repo = scattered();
    repo.git(&["update-ref", "-d", "refs/heads/side"]);
    let before = repo.all_objects();
    let mut wish = Wish::grace_days(0);
    wish.borrowers = vec!["anna/fork".to_owned()];

    let report = wish.maintain(&repo.path);
    assert_eq!(repo.all_objects(), before);
    assert!(
        report.steps.iter().any(|step| step.what.contains("anna/fork borrows")),
        "{:?}",
        report.steps
    );

    repo.git(&["config", "extensions.preciousObjects", "true"]);
    Wish::grace_days(0).maintain(&repo.path);
    assert_eq!(repo.all_objects(), before);
}

#[test]
fn reflogs_keep_what_they_name() {
    let repo = scattered();
    repo.git(&["config", "core.logAllRefUpdates", "true"]);
    repo.git(&["update-ref", "refs/heads/mix", "side"]);
    repo.git(&["update-ref", "refs/heads/mix", "main"]);
    let side = repo.git(&["rev-parse", "side"]).trim().to_owned();
    repo.git(&["update-ref", "-d", "refs/heads/side"]);

    Wish::grace_days(0).maintain(&repo.path);

    repo.git(&["rev-list", "--objects", &side]);
    assert_git_is_content(&repo);
}

#[test]
fn a_push_under_way_holds_pruning_off_until_the_next_time() {
    let repo = scattered();
    let before = repo.all_objects();
    let push = PushGuard::take(&repo.path, &mut || Ok(())).expect("free");

    let report = Wish::grace_days(0).maintain(&repo.path);

    assert_eq!(repo.all_objects(), before);
    assert!(
        report
            .steps
            .iter()
            .any(|step| step.what.contains("until the next time")),
        "{:?}",
        report.steps
    );
    assert_git_is_content(&repo);
    drop(push);
    Wish::grace_days(0).maintain(&repo.path);
    assert_eq!(repo.all_objects(), reached(&repo, &["--all"]));
}

#[test]
fn a_pack_that_is_to_be_kept_stays_as_it_is() {
    let repo = scattered();
    let kept = pack_files(&repo).remove(1);
    fs::write(kept.with_extension("keep"), "").expect("writes");
    let content = fs::read(&kept).expect("reads");
    let before = repo.all_objects();

    maintain(&repo);

    assert_eq!(fs::read(&kept).expect("reads"), content);
    assert_eq!(repo.all_objects(), before);
    assert_git_is_content(&repo);
}

#[test]
fn a_partial_clone_is_left_alone() {
    let repo = scattered();
    let packs = pack_files(&repo);
    for pack in &packs {
        fs::write(pack.with_extension("promisor"), "").expect("writes");
    }

    let report = maintain(&repo);

    assert_eq!(pack_files(&repo), packs);
    assert!(
        report.steps.iter().any(|step| step.what.contains("partial clone")),
        "{:?}",
        report.steps
    );
}

#[test]
fn a_repository_that_borrows_keeps_what_is_its_own() {
    let lender = scattered();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("fork.git");
    let (ok, _) = git_in(
        folder.path(),
        &[
            "clone",
            "-q",
            "--bare",
            "--shared",
            &lender.path.display().to_string(),
            "fork.git",
        ],
        b"",
    );
    assert!(ok);
    let (ok, out) = git_in(&path, &["hash-object", "-w", "--stdin"], b"my own");
    assert!(ok);
    let id = String::from_utf8(out).expect("text");
    let (ok, _) = git_in(&path, &["update-ref", "refs/tags/mine", id.trim()], b"");
    assert!(ok);

    Wish::grace_days(0).maintain(&path);

    let after = Survey::of(&path).expect("a folder");
    assert_eq!(after.packs.iter().map(|pack| pack.objects).sum::<u64>(), 1);
    assert!(!after.packs[0].has_bitmap);
    let (ok, _) = git_in(&path, &["fsck", "--full", "--strict", "--no-dangling"], b"");
    assert!(ok);
}

#[test]
fn pushes_are_joined_while_the_clone_pack_stays() {
    let repo = TestRepo::with_history();
    maintain(&repo);
    let clone = survey(&repo).clone_pack().expect("a clone pack").path.clone();
    push_takes(&repo, 12);
    let before = repo.all_objects();
    let mut wish = Wish::grace_days(14);
    wish.only_due = true;
    wish.settings.min_packs = 10;

    let report = wish.maintain(&repo.path);

    assert!(
        report.steps.iter().any(|step| step.what.contains("joined")),
        "{:?}",
        report.steps
    );
    assert_eq!(repo.all_objects(), before);
    assert_git_is_content(&repo);
    assert!(clone.exists());
    assert_eq!(pack_files(&repo).len(), 2);
    let again = wish.maintain(&repo.path);
    assert!(!again.is_changed(), "{:?}", again.steps);
}

/// So many commits on `main`, each in a pack of its own, as pushes leave them.
fn push_takes(repo: &TestRepo, count: usize) {
    for number in 0..count {
        let (ok, out) = git_in(
            &repo.path,
            &["hash-object", "-w", "--stdin"],
            format!("take {number}").as_bytes(),
        );
        assert!(ok);
        let blob = String::from_utf8(out).expect("text").trim().to_owned();
        let tree = {
            let (ok, out) = git_in(
                &repo.path,
                &["mktree"],
                format!("100644 blob {blob}\ttake.txt\n").as_bytes(),
            );
            assert!(ok);
            String::from_utf8(out).expect("text").trim().to_owned()
        };
        let commit = repo
            .git(&[
                "-c",
                "user.name=a",
                "-c",
                "user.email=a@example.org",
                "commit-tree",
                "-p",
                "main",
                "-m",
                "take",
                &tree,
            ])
            .trim()
            .to_owned();
        let (ok, _) = git_in(
            &repo.path,
            &["pack-objects", "-q", "objects/pack/pack"],
            format!("{blob}\n{tree}\n{commit}\n").as_bytes(),
        );
        assert!(ok);
        repo.git(&["update-ref", "refs/heads/main", &commit]);
        repo.git(&["prune-packed", "-q"]);
    }
}

#[test]
fn many_loose_refs_go_into_packed_refs_and_say_what_they_said() {
    let repo = TestRepo::with_history();
    for number in 0..200 {
        repo.git(&["update-ref", &format!("refs/heads/take/{number}"), "main"]);
    }
    repo.git(&["symbolic-ref", "refs/heads/current", "refs/heads/main"]);
    let before = repo.git(&["for-each-ref", "--format=%(objectname) %(refname) %(*objectname)"]);

    maintain(&repo);

    assert_eq!(
        repo.git(&["for-each-ref", "--format=%(objectname) %(refname) %(*objectname)"]),
        before
    );
    assert!(!repo.path.join("refs/heads/take").exists());
    assert!(repo.path.join("refs/heads/current").exists());
    assert_git_is_content(&repo);
}

#[test]
fn a_bitmap_follows_refs_that_moved_within_the_clone_pack() {
    let repo = TestRepo::with_history();
    maintain(&repo);
    repo.git(&["update-ref", "refs/heads/older", "main~13"]);

    let report = maintain(&repo);

    assert!(
        report.steps.iter().any(|step| step.step == "bitmap" && step.is_changed),
        "{:?}",
        report.steps
    );
    assert_bitmap_is_right(&repo, &["older", "main"]);
    assert_git_is_content(&repo);
}

#[test]
fn maintenance_and_stock_git_on_the_same_repository_lose_nothing() {
    let repo = scattered();
    let reachable = reached(&repo, &["--all"]);
    let path = repo.path.clone();
    std::thread::scope(|scope| {
        let ours = scope.spawn(|| {
            for _ in 0..12 {
                Wish::grace_days(14).maintain(&path);
            }
        });
        let commands: [&[&str]; 4] = [
            &["repack", "-adbq"],
            &["repack", "-Adq"],
            &["multi-pack-index", "write"],
            &["repack", "-dq", "--geometric=2", "--write-midx"],
        ];
        for command in commands.iter().cycle().take(16) {
            // Stock git may trip over packs that vanish; what counts is what is there in the end.
            let _ = git_in(&path, command, b"");
        }
        ours.join().expect("maintained");
    });

    maintain(&repo);

    assert_git_is_content(&repo);
    assert!(reachable.is_subset(&repo.all_objects()));
}

#[test]
fn a_commit_graph_that_names_what_stock_git_pruned_is_made_anew() {
    let repo = TestRepo::with_history();
    push_takes(&repo, 3);
    maintain(&repo);
    repo.git(&["update-ref", "refs/heads/main", "main~3"]);
    repo.git(&["repack", "-adbq"]);
    let (is_sound, _) = git_in(&repo.path, &["commit-graph", "verify"], b"");
    assert!(!is_sound, "stock git leaves it as it is");

    maintain(&repo);

    assert_git_is_content(&repo);
}

#[test]
fn nothing_is_written_where_the_disk_is_too_full() {
    let repo = scattered();
    let repository = Repository::open(&repo.path, false).expect("opens");
    let settings = MaintenanceSettings {
        min_free_bytes: 1 << 50,
        ..MaintenanceSettings::default()
    };
    let options = MaintenanceOptions {
        settings: &settings,
        git: &GitSettings::default(),
        is_full: true,
        is_pushed_to: false,
        with_deltas: false,
        is_dry_run: false,
        wait: false,
        keep: &[],
        borrowers: &[],
    };
    let packs = pack_files(&repo);

    let refused = maintenance::maintain(&repository, &options, &mut || Ok(()));

    assert!(
        refused
            .expect_err("too full")
            .to_string()
            .contains("maintenance.min_free_bytes")
    );
    assert_eq!(pack_files(&repo), packs);
    assert_git_is_content(&repo);
}

#[test]
fn a_damaged_pack_is_not_carried_into_a_new_one() {
    let repo = scattered();
    let pack = pack_files(&repo)
        .into_iter()
        .max_by_key(|path| fs::metadata(path).expect("there").len())
        .expect("a pack");
    let mut bytes = fs::read(&pack).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::remove_file(&pack).expect("removes");
    fs::write(&pack, &bytes).expect("writes");
    let packs = pack_files(&repo);
    let repository = Repository::open(&repo.path, false).expect("opens");
    let wish = Wish::grace_days(14);
    let options = MaintenanceOptions {
        settings: &wish.settings,
        git: &wish.git,
        is_full: true,
        is_pushed_to: false,
        with_deltas: false,
        is_dry_run: false,
        wait: false,
        keep: &[],
        borrowers: &[],
    };

    let refused = maintenance::maintain(&repository, &options, &mut || Ok(()));

    assert!(refused.is_err());
    assert_eq!(pack_files(&repo), packs, "nothing was removed");
}

#[test]
fn new_deltas_make_a_repository_small_whose_objects_were_stored_whole() {
    let repo = TestRepo::with_history();
    repo.git(&["repack", "-adfq", "--window=0"]);
    let before = repo.all_objects();
    let whole = survey(&repo).bytes();
    let mut wish = Wish::grace_days(14);
    wish.with_deltas = true;

    wish.maintain(&repo.path);

    assert_git_is_content(&repo);
    assert_eq!(repo.all_objects(), before);
    assert_bitmap_is_right(&repo, &["main", "side"]);
    let ours = survey(&repo).bytes();
    repo.git(&["repack", "-adfq"]);
    let git = survey(&repo).bytes();
    println!("{whole} bytes whole, {ours} with our deltas, {git} with git's");
    assert!(
        ours < whole && ours <= git + git / 5,
        "{whole} whole, {ours} ours, {git} git's"
    );
}

#[test]
fn a_delta_whose_base_goes_elsewhere_becomes_another_delta() {
    let repo = TestRepo::with_history();
    repo.git(&["repack", "-adfq"]);
    repo.git(&["config", "transfer.hideRefs", "refs/pull"]);
    repo.git(&["update-ref", "refs/pull/1/head", "main"]);
    repo.git(&["update-ref", "refs/heads/main", "main~12"]);
    repo.git(&["update-ref", "-d", "refs/heads/side"]);
    for tag in repo.git(&["tag"]).lines() {
        repo.git(&["tag", "-d", tag]);
    }
    let before = repo.all_objects();

    maintain(&repo);

    assert_git_is_content(&repo);
    assert_eq!(repo.all_objects(), before);
    assert!(survey(&repo).other_pack().is_some());
}

/// The bundles of a repository.
fn bundles(repo: &TestRepo) -> Vec<PathBuf> {
    let entries = fs::read_dir(repo.path.join("auxin-bundles"));
    let mut paths: Vec<PathBuf> = entries
        .into_iter()
        .flatten()
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "bundle"));
    paths.sort();
    paths
}

fn step<'a>(report: &'a MaintenanceReport, name: &str) -> Option<&'a maintenance::StepReport> {
    report.steps.iter().find(|step| step.step == name)
}

#[test]
fn a_bundle_is_made_with_the_clone_pack_where_bundles_are_offered() {
    let repo = scattered();
    let mut wish = Wish::grace_days(14);
    assert_eq!(step(&wish.maintain(&repo.path), "bundle"), None, "nobody asked for it");
    assert_eq!(bundles(&repo), Vec::<PathBuf>::new());

    wish.git.bundle_uri = true;
    wish.only_due = true;
    assert!(
        step(&wish.maintain(&repo.path), "bundle").expect("a step").is_changed,
        "there was none yet"
    );
    let first = bundles(&repo);
    push_takes(&repo, 3);
    assert!(
        !step(&wish.maintain(&repo.path), "bundle").expect("a step").is_changed,
        "it may fall behind a little"
    );
    assert_eq!(bundles(&repo), first);
    wish.only_due = false;
    assert!(
        step(&wish.maintain(&repo.path), "bundle").expect("a step").is_changed,
        "the clone pack is a new one"
    );

    let newest = bundles(&repo).pop().expect("a bundle");
    assert_ne!(newest, first[0]);
    let shown = repo.git(&["bundle", "list-heads", &newest.display().to_string()]);
    assert!(
        shown.contains(&format!("{} refs/heads/main", repo.id("main"))),
        "{shown}"
    );
    repo.git(&["bundle", "verify", "--quiet", &newest.display().to_string()]);
    assert!(
        !step(&wish.maintain(&repo.path), "bundle").expect("a step").is_changed,
        "nothing moved"
    );
    repo.git(&["config", "uploadpack.advertiseBundleURIs", "false"]);
    push_takes(&repo, 1);
    assert_eq!(
        step(&wish.maintain(&repo.path), "bundle"),
        None,
        "the repository says no"
    );
}

#[test]
fn sha256_repositories_are_put_in_order_too_and_get_bundles() {
    let repo = TestRepo::with_history_in("sha256");
    repo.git(&["repack", "-adfq"]);
    for tip in ["main~8", "side~3"] {
        assert!(
            git_in(
                &repo.path,
                &["pack-objects", "-q", "--revs", "objects/pack/pack"],
                tip.as_bytes()
            )
            .0
        );
    }
    push_takes(&repo, 2);
    let before = repo.all_objects();
    let mut wish = Wish::grace_days(14);
    wish.git.bundle_uri = true;

    let report = wish.maintain(&repo.path);

    assert!(
        step(&report, "bitmap").is_some_and(|step| step.is_changed),
        "{report:?}"
    );
    assert_git_is_content(&repo);
    assert_bitmap_is_right(&repo, &["main", "side"]);
    assert_eq!(repo.all_objects(), before);
    let bundle = bundles(&repo).pop().expect("a bundle").display().to_string();
    assert!(
        fs::read(&bundle)
            .expect("reads")
            .starts_with(b"# v3 git bundle\n@object-format=sha256\n")
    );
    repo.git(&["bundle", "verify", "--quiet", &bundle]);
    let copy = repo.path.with_file_name("copy.git");
    repo.git(&["clone", "--quiet", "--bare", &bundle, &copy.display().to_string()]);
    assert_eq!(
        git_in(&copy, &["rev-parse", "main"], b"").1,
        repo.git(&["rev-parse", "main"]).into_bytes()
    );
}
