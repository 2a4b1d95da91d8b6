//! Attacks: each gets a clear refusal, costs little memory and leaves the server unharmed.

use std::io::Write;
use std::time::Duration;

use crate::support::wire::{self, NO_OBJECT, V0, V2};
use crate::support::{Answer, KIB, MIB, Person, Prepare, Request, TestServer, noise};
use crate::support::{process, repositories};

/// No attack may make the server hold more than this, in bytes.
const MEMORY_FOR_AN_ATTACK: u64 = 96 * MIB as u64;

/// A server under attack, with a repository that must stay as it is.
pub struct Target {
    pub server: TestServer,
    pub anna: Person,
    pub tip: String,
}

impl Target {
    pub fn start() -> Self {
        Self::with(TestServer::prepare())
    }

    pub fn with(prepare: Prepare) -> Self {
        let server = prepare.start();
        let anna = server.user("anna");
        let bare = server.repo("anna/song");
        repositories::straight_history(&bare, 10);
        let tip = repositories::id(&bare, "main");
        let target = Self { server, anna, tip };
        target.assert_unharmed();
        target
    }

    /// Sends an attack; it must cost little memory.
    #[track_caller]
    pub fn attack(&self, request: Request) -> Answer {
        let before = self.server.rss_anon_bytes();
        let request = request.by(&self.anna);
        let (answer, peak) = process::peak_rss_anon_during(self.server.pid(), || self.server.send(request));
        let grown = peak.saturating_sub(before);
        assert!(
            grown < MEMORY_FOR_AN_ATTACK,
            "the attack cost {} MiB",
            grown / MIB as u64
        );
        answer
    }

    /// Sends a fetch that must be refused with `words`.
    #[track_caller]
    fn assert_fetch_refused(&self, version: u8, body: Vec<u8>, words: &str) {
        let answer = self.attack(Request::upload_pack("anna/song", version, body));
        assert_refused(&answer, words);
        self.assert_unharmed();
    }

    /// Pushes a pack as a new branch; must be refused with `words`, leaving nothing behind.
    #[track_caller]
    pub fn assert_pack_refused(&self, tip: &str, pack: &[u8], words: &str) {
        let body = wire::push(
            &[wire::command(NO_OBJECT, tip, "refs/heads/evil")],
            "report-status side-band-64k",
            &[],
            pack,
        );
        let answer = self.attack(Request::receive_pack("anna/song", body));
        answer.assert_status(200);
        let report = wire::parse_push(&answer.body, true).expect("pkt-lines");
        let whole = format!("{report:?}").to_lowercase();
        assert!(!report.refs.iter().any(|line| line.starts_with("ok ")), "{report:?}");
        assert!(whole.contains(&words.to_lowercase()), "no {words:?} in {report:?}");
        self.assert_unharmed();
    }

    /// The repository is what it was, and everybody is served.
    #[track_caller]
    pub fn assert_unharmed(&self) {
        let bare = self.server.folder_of("anna/song");
        assert_eq!(repositories::refs(&bare), [format!("{} refs/heads/main", self.tip)]);
        process::wait_until("the quarantine is gone", Duration::from_secs(20), || {
            self.server.quarantines("anna/song").is_empty()
        });
        let body = V2::fetch().arg(format!("want {}", self.tip)).arg("done").bytes();
        let answer = self
            .server
            .send(Request::upload_pack("anna/song", 2, body).by(&self.anna));
        assert!(
            wire::parse_v2_fetch(&answer.body).is_ok_and(|answer| answer.pack.is_some()),
            "{answer:?}"
        );
    }
}

/// A refusal is a 4xx with a sentence or an `ERR` line, and says `words`.
#[track_caller]
fn assert_refused(answer: &Answer, words: &str) {
    let text = answer.text();
    let refused = (400..500).contains(&answer.status)
        || (answer.status == 200 && (text.contains("ERR ") || text.contains('\u{3}')));
    assert!(refused, "not refused: {answer:?}");
    assert!(
        text.to_lowercase().contains(&words.to_lowercase()),
        "no {words:?} in {answer:?}"
    );
}

#[test]
fn a_client_that_never_finishes_its_request_head_is_shown_the_door() {
    let target = Target::with(TestServer::prepare().setting("server.header_timeout_secs", 1));
    let mut stream = crate::support::http::connect(&target.server.address());
    stream
        .write_all(b"GET /anna/song.git/info/refs HTT")
        .expect("the server reads");

    let answer = crate::support::http::read_answer(stream);

    assert!([0, 408].contains(&answer.status), "{answer:?}");
    target.assert_unharmed();
}

#[test]
fn a_transfer_that_falls_silent_is_ended() {
    let target = Target::with(TestServer::prepare().setting("server.idle_timeout_secs", 1));
    for (route, body) in [("upload-pack", &b"ffff"[..]), ("receive-pack", b"00a0")] {
        let mut stream = Request::new("POST", &format!("/anna/song.git/git-{route}"))
            .header("Content-Type", &format!("application/x-git-{route}-request"))
            .header("Content-Length", "200000")
            .by(&target.anna)
            .open(target.server.url());
        stream.write_all(body).expect("the server reads");

        let answer = crate::support::http::read_answer(stream);

        assert!(
            answer.status != 200 || answer.text().contains("ERR "),
            "{route}: {answer:?}"
        );
    }
    target.assert_unharmed();
}

#[test]
fn a_request_with_both_a_length_and_chunks_is_refused() {
    let target = Target::start();
    let answer = target.attack(Request::upload_pack("anna/song", 2, *b"0000").header("Transfer-Encoding", "chunked"));
    answer.assert_status(400);
    target.assert_unharmed();
}

#[test]
fn a_compressed_bomb_is_refused_before_it_unfolds() {
    let target = Target::with(TestServer::prepare().setting("git.max_request_bytes", 4 * MIB));
    let mut lines = V2::command("fetch").bytes();
    lines.truncate(lines.len() - 4);
    let line = wire::line(&format!("have {}", "1".repeat(40)));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&lines).expect("memory");
    for _ in 0..256 * MIB / line.len() {
        encoder.write_all(&line).expect("memory");
    }
    let bomb = encoder.finish().expect("memory");
    let request = Request::upload_pack("anna/song", 2, bomb).header("Content-Encoding", "gzip");

    let answer = target.attack(request);

    assert_refused(&answer, "large");
    target.assert_unharmed();
}

#[test]
fn the_lines_of_a_fetch_are_counted() {
    let target = Target::with(
        TestServer::prepare()
            .setting("git.max_wants", 10)
            .setting("git.max_haves", 10)
            .setting("git.max_shallows", 10),
    );
    let ids: Vec<String> = (0..11).map(|number| format!("{number:040x}")).collect();
    let want = vec![target.tip.clone()];
    for word in ["want", "have", "shallow"] {
        let body = V2::fetch().args("want", &want).args(word, &ids).arg("done").bytes();
        target.assert_fetch_refused(2, body, word);
    }
    let mut v0 = V0 {
        wants: want,
        capabilities: "side-band-64k".into(),
        done: true,
        ..V0::default()
    };
    v0.haves.clone_from(&ids);
    target.assert_fetch_refused(0, v0.bytes(), "have");
    v0.haves.clear();
    v0.shallows.clone_from(&ids);
    target.assert_fetch_refused(0, v0.bytes(), "shallow");
    v0.shallows.clear();
    v0.wants.extend(ids);
    target.assert_fetch_refused(0, v0.bytes(), "want");
}

#[test]
fn too_many_ref_prefixes_list_everything_instead() {
    let target = Target::with(TestServer::prepare().setting("git.max_ref_prefixes", 10));
    let mut request = V2::ls_refs();
    for number in 0..11 {
        request = request.arg(format!("ref-prefix refs/none/{number}"));
    }

    let answer = target.attack(Request::upload_pack("anna/song", 2, request.bytes()));

    assert!(answer.text().contains("refs/heads/main"), "{answer:?}");
}

#[test]
fn filters_within_filters_have_an_end() {
    let target = Target::start();
    let mut nested = "blob:none".to_owned();
    for _ in 0..40 {
        nested = format!("combine:{}+tree:1", nested.replace('%', "%25").replace('+', "%2b"));
        if nested.len() > 60_000 {
            break;
        }
    }
    let flat = format!("combine:{}", vec!["tree:1"; 9_000].join("+"));
    let recursive = "combine:".repeat(7_000);
    for filter in [nested, flat, recursive] {
        let body = V2::fetch()
            .arg(format!("want {}", target.tip))
            .arg(format!("filter {filter}"))
            .arg("done")
            .bytes();
        target.assert_fetch_refused(2, body, "filter");
    }
}

#[test]
fn the_commands_of_a_push_are_counted_in_number_and_bytes() {
    let target = Target::with(
        TestServer::prepare()
            .setting("git.max_commands", 100)
            .setting("git.max_command_bytes", 64 * KIB)
            .setting("git.max_push_options", 10),
    );
    let many: Vec<String> = (0..101)
        .map(|number| wire::command(NO_OBJECT, &target.tip, &format!("refs/heads/{number}")))
        .collect();
    let long: Vec<String> = (0..90)
        .map(|number| {
            let name = format!("refs/heads/{number}/{}", "x".repeat(900));
            wire::command(NO_OBJECT, &target.tip, &name)
        })
        .collect();
    for (commands, words) in [(many, "more than 100 ref updates"), (long, "larger than 65536 bytes")] {
        let body = wire::push(&commands, "report-status", &[], super::rights::EMPTY_PACK);
        let answer = target.attack(Request::receive_pack("anna/song", body));
        assert_refused(&answer, words);
        target.assert_unharmed();
    }
    let bare = target.server.folder_of("anna/song");
    repositories::on_disk(&bare, &["config", "receive.advertisePushOptions", "true"]).assert_ok();
    let options = vec!["mood=blue"; 11];
    let command = wire::command(NO_OBJECT, &target.tip, "refs/heads/evil");
    let body = wire::push(
        &[command],
        "report-status push-options",
        &options,
        super::rights::EMPTY_PACK,
    );
    let answer = target.attack(Request::receive_pack("anna/song", body));
    assert_refused(&answer, "option");
    target.assert_unharmed();
}

#[test]
fn an_endless_command_list_is_not_kept_and_is_refused_at_its_end() {
    let target = Target::with(TestServer::prepare().setting("git.max_command_bytes", 64 * KIB));
    let commands: Vec<String> = (0..150_000)
        .map(|number| wire::command(NO_OBJECT, &target.tip, &format!("refs/heads/{number}")))
        .collect();
    let body = wire::push(&commands, "report-status", &[], b"");
    drop(commands);

    let answer = target.attack(Request::receive_pack("anna/song", body).chunked(60_000));

    assert_refused(&answer, "limit");
    target.assert_unharmed();
}

#[test]
fn ref_names_that_mean_mischief_are_refused_each_by_itself() {
    let target = Target::start();
    let long = format!("refs/heads/{}", "x".repeat(4000));
    let names = [
        "refs/heads/../../x",
        "refs/heads/x.lock",
        "refs/heads/a@{b",
        "refs/heads/a\u{7}b",
        "refs/heads/\u{1b}[31mred",
        "HEAD",
        "main",
        "refs/",
        "refs/heads/",
        "refs/heads//x",
        "refs/heads/.x",
        "refs/heads/x.",
        "refs/heads/a b",
        "refs/heads/a~1",
        "refs/heads/a:b",
        "refs/heads/a\\b",
        "../../../x",
        "refs/heads/-x/../y",
        "refs/heads/@{",
        &long,
    ];
    let commands: Vec<String> = names
        .iter()
        .map(|name| wire::command(NO_OBJECT, &target.tip, name))
        .collect();
    for command in &commands {
        let body = wire::push(
            std::slice::from_ref(command),
            "report-status side-band-64k",
            &[],
            super::rights::EMPTY_PACK,
        );
        let answer = target.attack(Request::receive_pack("anna/song", body));
        assert!(!answer.text().contains("ok refs/"), "{command:?}: {answer:?}");
        // What a program reads may name the ref as it came; what a person reads may not.
        let report = wire::parse_push(&answer.body, true).expect("pkt-lines");
        let shown = format!("{}{}", report.messages, report.error.unwrap_or_default());
        assert!(!shown.contains(['\u{1b}', '\u{7}']), "an escape came back: {shown:?}");
        target.assert_unharmed();
    }
}

#[test]
fn a_branch_can_neither_be_under_another_nor_hold_something_else_than_a_commit() {
    let target = Target::start();
    let bare = target.server.folder_of("anna/song");
    let tree = repositories::id(&bare, "main^{tree}");
    let push = |commands: &[String]| {
        let body = wire::push(commands, "report-status", &[], super::rights::EMPTY_PACK);
        let answer = target.attack(Request::receive_pack("anna/song", body));
        wire::parse_push(&answer.body, false).expect("pkt-lines").refs
    };
    let create = |name: &str| wire::command(NO_OBJECT, &target.tip, name);

    let under = push(&[create("refs/heads/main/sub")]);
    assert!(under[0].starts_with("ng refs/heads/main/sub "), "{under:?}");
    let not_commit = push(&[wire::command(NO_OBJECT, &tree, "refs/heads/tree")]);
    assert!(not_commit[0].starts_with("ng refs/heads/tree "), "{not_commit:?}");
    let both = push(&[create("refs/heads/a"), create("refs/heads/a/b")]);
    assert_eq!(
        both.iter().filter(|line| line.starts_with("ng ")).count(),
        1,
        "{both:?}"
    );
    let twice = push(&[create("refs/heads/twice"), create("refs/heads/twice")]);
    assert!(twice.iter().any(|line| line.starts_with("ng ")), "{twice:?}");
    let dead = push(&[wire::command(&target.tip, NO_OBJECT, "refs/heads/none")]);
    assert!(dead.len() == 1, "{dead:?}");
    for name in ["refs/heads/a", "refs/heads/a/b", "refs/heads/twice"] {
        repositories::on_disk(&bare, &["update-ref", "-d", name]).assert_ok();
    }
    target.assert_unharmed();
}

#[test]
fn fifty_clones_cut_off_midway_leave_an_idle_server() {
    let target = Target::start();
    let bare = target.server.repo("anna/big");
    let mut import = repositories::Import::default();
    for number in 0..16 {
        let take = noise(number, MIB);
        import.commit(&format!("refs/heads/take-{number}"), &[], &[("take.wav", &take)]);
    }
    import.write_to(&bare);
    let mut request = V2::fetch();
    for line in repositories::refs(&bare) {
        request = request.arg(format!("want {}", &line[..40]));
    }
    let body = request.arg("done").bytes();
    for _ in 0..50 {
        let mut stream = Request::upload_pack("anna/big", 2, body.clone())
            .by(&target.anna)
            .open(target.server.url());
        let mut some = [0; 20_000];
        std::io::Read::read_exact(&mut stream, &mut some).expect("the answer begins");
        drop(stream);
    }

    let pid = target.server.pid();
    process::wait_until("the server is idle", Duration::from_secs(30), || {
        let before = process::cpu_ticks(pid);
        std::thread::sleep(Duration::from_millis(500));
        // Five hundredths of a second in half a second.
        process::cpu_ticks(pid)
            .zip(before)
            .is_some_and(|(now, before)| now - before <= 5)
    });
    target.assert_unharmed();
}

#[test]
fn one_caller_cannot_take_all_places() {
    let target = Target::with(TestServer::prepare().setting("server.max_requests_per_caller", 3));
    // A place is taken for as long as a push has not sent its commands. More than there are: an
    // earlier request may just be leaving its own.
    let mut stuck = Vec::new();
    let mut take_one = || {
        let mut stream = Request::new("POST", "/anna/song.git/git-receive-pack")
            .header("Content-Type", "application/x-git-receive-pack-request")
            .header("Content-Length", "100000")
            .by(&target.anna)
            .open(target.server.url());
        stream.write_all(b"00").expect("the server reads");
        stuck.push(stream);
    };

    let mut refused = None;
    process::wait_until("the caller is told to wait", Duration::from_secs(20), || {
        take_one();
        let answer = target
            .server
            .send(Request::upload_refs("anna/song", 2).by(&target.anna));
        refused = (answer.status == 429).then_some(answer);
        refused.is_some()
    });

    let refused = refused.expect("just seen");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    drop(stuck);
    process::wait_until("the places are free again", Duration::from_secs(20), || {
        target
            .server
            .send(Request::upload_refs("anna/song", 2).by(&target.anna))
            .status
            == 200
    });
}

#[test]
fn a_walk_that_costs_too_much_is_ended_with_a_reason() {
    let target = Target::with(TestServer::prepare().setting("git.cpu_budget_secs", 1));
    let bare = target.server.repo("anna/deep");
    // Sixty thousand commits on a debug build: more than a second of walking.
    let mut stream = String::new();
    for number in 0..60_000 {
        stream.push_str(&format!(
            "commit refs/heads/main\ncommitter Ada <a@example.org> {} +0000\ndata 1\nx\n\
             M 100644 inline {}/{}\ndata {}\n{number}\n\n",
            1_600_000_000 + number,
            number % 97,
            number % 89,
            number.to_string().len(),
        ));
    }
    let mut import = repositories::Import::default();
    import.text(&stream).write_to(&bare);
    let tip = repositories::id(&bare, "main");
    let body = V2::fetch().arg(format!("want {tip}")).arg("done").bytes();

    let answer = target
        .server
        .send(Request::upload_pack("anna/deep", 2, body).by(&target.anna));

    let parsed = wire::parse_v2_fetch(&answer.body).expect("pkt-lines");
    let error = parsed.error.unwrap_or_default();
    assert!(
        error.contains("processor time"),
        "no reason: {error:?} {:?}",
        parsed.pack.map(|pack| pack.len())
    );
    target.assert_unharmed();
}
