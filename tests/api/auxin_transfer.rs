//! The chunked transfer: what each side lacks travels, and a token or a hash gives nobody what is not theirs.

use auxin::db::{By, Visibility};
use auxin::service::{Scope, TokenRequest};
use lfs_protocol::chunked::{FrameHead, Run, runs_to_bytes};
use lfs_protocol::codec::Decoder;
use lfs_protocol::recipe::Recipe;
use lfs_protocol::{ChunkId, Oid};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::support::{Answer, PASSWORD, Server, basic, noise};

pub const SONG: &str = "anna/song";

pub fn with(change: impl FnOnce(&mut auxin::config::Settings)) -> Server {
    let server = Server::with(change);
    server.user("anna", false);
    server.user("ben", false);
    server.repo(SONG, Visibility::Private);
    server
}

pub fn server() -> Server {
    with(|_| {})
}

pub fn oid(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One request. `who` is an `Authorization` header, or empty.
pub fn ask(server: &Server, line: &str, who: &str, body: &[u8]) -> Answer {
    let mut head = format!("{line} HTTP/1.1\nContent-Length: {}", body.len());
    if !who.is_empty() {
        head.push('\n');
        head.push_str(who);
    }
    server.ask(&head, body)
}

pub fn api(repo: &str) -> String {
    format!("/{repo}.git/info/lfs")
}

/// The answer to a batch of one client that knows the chunked transfer.
pub fn batch(server: &Server, repo: &str, who: &str, operation: &str, bytes: &[u8]) -> Answer {
    let request = json!({"operation": operation, "transfers": ["auxin", "basic"],
                         "objects": [{"oid": oid(bytes), "size": bytes.len()}]});
    let line = format!("POST {}/objects/batch", api(repo));
    ask(server, &line, who, request.to_string().as_bytes())
}

pub fn json_of(answer: &Answer) -> Value {
    assert_eq!(
        answer.header("content-type"),
        Some("application/vnd.git-lfs+json"),
        "{answer:?}"
    );
    serde_json::from_slice(&answer.body).expect("JSON")
}

/// The token of a batch, as a header.
pub fn token(server: &Server, repo: &str, who: &str, operation: &str, bytes: &[u8]) -> String {
    let answer = json_of(&batch(server, repo, who, operation, bytes));
    assert_eq!(answer["transfer"], "auxin", "{answer}");
    let action = &answer["objects"][0]["actions"][operation];
    let text = action["header"]["Authorization"].as_str();
    format!(
        "Authorization: {}",
        text.unwrap_or_else(|| panic!("no token: {answer}"))
    )
}

pub fn anna() -> String {
    basic("anna", PASSWORD)
}

/// Brings bytes as stock Git LFS does.
pub fn put(server: &Server, repo: &str, bytes: &[u8]) {
    let line = format!("PUT {}/objects/{}/{}", api(repo), oid(bytes), bytes.len());
    assert_eq!(ask(server, &line, &anna(), bytes).status, 200);
}

pub fn recipe(server: &Server, repo: &str, who: &str, name: &str) -> Answer {
    ask(
        server,
        &format!("GET {}/auxin/objects/{name}/recipe", api(repo)),
        who,
        b"",
    )
}

fn chunks(server: &Server, repo: &str, who: &str, name: &str, body: &[u8]) -> Answer {
    ask(
        server,
        &format!("POST {}/auxin/objects/{name}/chunks", api(repo)),
        who,
        body,
    )
}

/// The chunks of an answer, decoded.
fn unpacked(mut body: &[u8]) -> Vec<Vec<u8>> {
    let mut decoder = Decoder::default();
    let mut all = Vec::new();
    while !body.is_empty() {
        let (head, rest) = body.split_first_chunk::<{ FrameHead::BYTES }>().expect("a head");
        let head = FrameHead::parse(head).expect("a known codec");
        let (payload, rest) = rest.split_at(head.stored_bytes as usize);
        let mut raw = Vec::new();
        decoder
            .decode(head.codec, payload, head.raw_bytes as usize, &mut raw)
            .expect("decodes");
        all.push(raw);
        body = rest;
    }
    all
}

#[test]
fn a_file_is_put_together_from_its_recipe_and_those_chunks_that_were_asked_for() {
    let server = server();
    // One whose recipe is a row, and one whose recipe lies in a pack.
    for bytes in [noise(200_000), noise(3 << 20), b"la la la ".repeat(40_000)] {
        put(&server, SONG, &bytes);
        let who = token(&server, SONG, &anna(), "download", &bytes);
        let answer = recipe(&server, SONG, &who, &oid(&bytes));
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
        assert_eq!(
            answer.header("content-length"),
            Some(answer.body.len().to_string().as_str())
        );
        let recipe = Recipe::parse(&answer.body).expect("a recipe");
        assert_eq!(recipe.oid, Oid::parse(&oid(&bytes)).expect("an oid"));

        let count = recipe.chunks.len() as u32;
        let all = runs_to_bytes(&[Run { first: 0, count }]);
        let answer = chunks(&server, SONG, &who, &oid(&bytes), &all);
        assert_eq!(answer.status, 200, "{answer:?}");
        let got = unpacked(&answer.body);
        assert!(got.concat() == bytes);
        assert!(
            got.iter()
                .zip(&recipe.chunks)
                .all(|(raw, (id, _))| ChunkId::of(raw) == *id)
        );

        let some = [
            Run {
                first: count - 1,
                count: 1,
            },
            Run { first: 1, count: 2 },
        ];
        let part = unpacked(&chunks(&server, SONG, &who, &oid(&bytes), &runs_to_bytes(&some)).body);
        let places = [count as usize - 1, 1, 2];
        assert!(part.iter().eq(places.iter().map(|&place| &got[place])));
        assert_eq!(chunks(&server, SONG, &who, &oid(&bytes), b"").body.len(), 0);
    }
}

#[test]
fn the_chunked_transfer_is_offered_to_those_who_know_it_and_only_where_it_is_on() {
    let server = server();
    let bytes = noise(5000);
    put(&server, SONG, &bytes);
    let of = |server: &Server, transfers: Value| {
        let request = json!({"operation": "download", "transfers": transfers,
                             "objects": [{"oid": oid(&bytes), "size": bytes.len()}]});
        let line = format!("POST {}/objects/batch", api(SONG));
        ask(server, &line, &anna(), request.to_string().as_bytes())
    };
    let offered = json_of(&of(&server, json!(["lfs-standalone-file", "auxin"])));
    assert_eq!(offered["transfer"], "auxin");
    let action = &offered["objects"][0]["actions"]["download"];
    let href = action["href"].as_str().expect("an address");
    assert!(
        href.ends_with(&format!("/anna/song.git/info/lfs/auxin/objects/{}", oid(&bytes))),
        "{href}"
    );
    assert_eq!(action["expires_in"], 3600);
    for plain in [json!(["basic"]), json!([]), json!(null)] {
        let answer = json_of(&of(&server, plain));
        assert_eq!(answer["transfer"], "basic");
        assert_eq!(answer["objects"][0]["actions"]["download"].get("header"), None);
    }

    let off = with(|settings| settings.lfs.chunked_transfer = false);
    put(&off, SONG, &bytes);
    assert_eq!(json_of(&of(&off, json!(["auxin", "basic"])))["transfer"], "basic");
    assert_eq!(of(&off, json!(["auxin"])).status, 422);
}

#[test]
fn a_token_is_good_for_one_repository_while_the_right_lasts_and_can_be_renewed() {
    let server = server();
    server.repo("anna/other", Visibility::Private);
    let bytes = noise(5000);
    put(&server, SONG, &bytes);
    put(&server, "anna/other", &bytes);
    let who = token(&server, SONG, &anna(), "download", &bytes);
    let status = |repo: &str, who: &str| recipe(&server, repo, who, &oid(&bytes)).status;
    assert_eq!(status(SONG, &who), 200);
    assert_eq!(status("anna/other", &who), 401);
    assert_eq!(status(SONG, ""), 401);
    assert_eq!(status(SONG, &anna()), 401, "a password is no token");
    assert_eq!(status(SONG, &format!("{who}x")), 401);

    let renewed = ask(&server, &format!("POST {}/auxin/token", api(SONG)), &who, b"");
    let renewed = json_of(&renewed);
    assert_eq!(renewed["expires_in"], 3600);
    let again = format!("Authorization: Bearer {}", renewed["token"].as_str().expect("a token"));
    assert_eq!(status(SONG, &again), 200);
    for bad in ["", "Authorization: Bearer x", &anna()] {
        let refused = ask(&server, &format!("POST {}/auxin/token", api(SONG)), bad, b"");
        assert_eq!(refused.status, 401, "{bad}");
    }

    // A token is worth no more than the access token it stems from.
    let name = "anna".parse().expect("a name");
    let request = TokenRequest {
        owner: "anna".parse().expect("a name"),
        label: "ci".into(),
        scope: Scope::Read,
        repo: None,
        lifetime_days: None,
    };
    let made = server.run(server.app.tokens.create(request, By::Command));
    let made = made.expect("a token");
    let by_token = basic("x", made.secret.expose());
    let of_token = token(&server, SONG, &by_token, "download", &bytes);
    assert_eq!(status(SONG, &of_token), 200);
    server
        .run(server.app.tokens.revoke(made.info.id, By::Command))
        .expect("revoked");
    assert_eq!(status(SONG, &of_token), 401);
    assert_eq!(status(SONG, &who), 200);

    server
        .run(server.app.accounts.disable(&name, By::Command))
        .expect("disabled");
    assert_eq!((status(SONG, &who), status(SONG, &again)), (401, 401));
}

#[test]
fn everybody_gets_what_is_public_and_nobody_what_another_repository_has() {
    let server = server();
    server.repo("anna/open", Visibility::Public);
    let (public, secret) = (noise(5000), noise(6000));
    put(&server, "anna/open", &public);
    put(&server, SONG, &secret);

    let answer = json_of(&batch(&server, "anna/open", "", "download", &public));
    assert_eq!(answer["transfer"], "auxin");
    assert_eq!(answer["objects"][0]["actions"]["download"].get("header"), None);
    assert_eq!(recipe(&server, "anna/open", "", &oid(&public)).status, 200);

    let ben = token(&server, "anna/open", &basic("ben", PASSWORD), "download", &public);
    for who in ["", ben.as_str()] {
        let hidden = recipe(&server, "anna/open", who, &oid(&secret));
        let unknown = recipe(&server, "anna/open", who, &oid(b"nothing"));
        assert_eq!((hidden.status, unknown.status), (404, 404));
        assert_eq!(
            chunks(
                &server,
                "anna/open",
                who,
                &oid(&secret),
                &runs_to_bytes(&[Run { first: 0, count: 1 }])
            )
            .status,
            404
        );
    }
    // Ben may not see the other repository at all: as if it were not there.
    assert_eq!(recipe(&server, SONG, &ben, &oid(&secret)).status, 404);
    assert_eq!(recipe(&server, "anna/nothing", &ben, &oid(&secret)).status, 404);
}

#[test]
fn requests_that_make_no_sense_are_refused_with_a_sentence() {
    let server = server();
    let bytes = noise(50_000);
    put(&server, SONG, &bytes);
    let who = token(&server, SONG, &anna(), "download", &bytes);
    let name = oid(&bytes);
    let count = Recipe::parse(&recipe(&server, SONG, &who, &name).body)
        .expect("a recipe")
        .chunks
        .len() as u32;
    let run = |first, count| Run { first, count };
    for (body, status) in [
        (vec![0; 7], 422),
        (runs_to_bytes(&[run(0, 0)]), 422),
        (runs_to_bytes(&[run(0, count + 1)]), 422),
        (runs_to_bytes(&[run(u32::MAX, 1)]), 422),
        (runs_to_bytes(&[run(0, count), run(0, 1)]), 422),
        (vec![0; (1 << 19) + 1], 413),
    ] {
        let refused = chunks(&server, SONG, &who, &name, &body);
        assert_eq!(refused.status, status, "{refused:?}");
        assert!(
            json_of(&refused)["message"]
                .as_str()
                .is_some_and(|message| message.ends_with('.'))
        );
    }
    let line = |line: &str| {
        ask(
            &server,
            &line.replace("A/", &format!("{}/auxin/", api(SONG))),
            &who,
            b"",
        )
        .status
    };
    assert_eq!(line(&format!("POST A/objects/{name}/recipe")), 405);
    assert_eq!(line(&format!("GET A/objects/{name}/chunks")), 405);
    assert_eq!(line("GET A/token"), 405);
    assert_eq!(line("GET A/objects/x/recipe"), 422);
    assert_eq!(
        line("GET A/nothing"),
        401,
        "this part of the API takes what git-lfs signs in with"
    );
}
