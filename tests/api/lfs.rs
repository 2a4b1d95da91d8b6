//! The Git LFS API, with everything that other servers get wrong.

use auxin::db::Visibility;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::support::{Answer, PASSWORD, Server, basic};

const API: &str = "/anna/song.git/info/lfs";

fn server() -> Server {
    with(|_| {})
}

fn with(change: impl FnOnce(&mut auxin::config::Settings)) -> Server {
    let server = Server::with(change);
    server.user("anna", false);
    server.repo("anna/song", Visibility::Private);
    server
}

fn oid(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A request of anna.
fn ask(server: &Server, line: &str, more: &str, body: &[u8]) -> Answer {
    let mut head = format!(
        "{line} HTTP/1.1\n{}\nContent-Length: {}",
        basic("anna", PASSWORD),
        body.len()
    );
    if !more.is_empty() {
        head.push('\n');
        head.push_str(more);
    }
    server.ask(&head, body)
}

fn batch(server: &Server, request: &Value) -> Answer {
    ask(
        server,
        &format!("POST {API}/objects/batch"),
        "Content-Type: application/vnd.git-lfs+json; charset=utf-8",
        request.to_string().as_bytes(),
    )
}

fn json_of(answer: &Answer) -> Value {
    assert_eq!(
        answer.header("content-type"),
        Some("application/vnd.git-lfs+json"),
        "{answer:?}"
    );
    serde_json::from_slice(&answer.body).expect("JSON")
}

/// The one object of the answer to a batch about these bytes.
fn offered(server: &Server, operation: &str, bytes: &[u8]) -> Value {
    let request = json!({"operation": operation, "transfers": ["basic"], "ref": {}, "hash_algo": "sha256",
                         "objects": [{"oid": oid(bytes), "size": bytes.len()}]});
    let answer = batch(server, &request);
    assert_eq!(answer.status, 200, "{answer:?}");
    let all = json_of(&answer);
    assert_eq!(
        (&all["transfer"], &all["hash_algo"]),
        (&json!("basic"), &json!("sha256"))
    );
    all["objects"][0].clone()
}

fn put(server: &Server, oid: &str, size: usize, more: &str, body: &[u8]) -> Answer {
    ask(server, &format!("PUT {API}/objects/{oid}/{size}"), more, body)
}

fn verify(server: &Server, oid: &str, size: usize) -> u16 {
    let body = json!({"oid": oid, "size": size}).to_string();
    ask(server, &format!("POST {API}/verify"), "", body.as_bytes()).status
}

fn download(server: &Server, oid: &str, more: &str) -> Answer {
    ask(server, &format!("GET {API}/objects/{oid}"), more, b"")
}

fn packs(server: &Server) -> usize {
    fn below(folder: &std::path::Path) -> usize {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .map(|entry| if entry.path().is_dir() { below(&entry.path()) } else { 1 })
            .sum()
    }
    below(&server.app.data.store())
}

#[test]
fn an_object_goes_up_is_verified_and_comes_down_whole_or_in_parts() {
    let server = server();
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
    let name = oid(&bytes);
    let object = offered(&server, "upload", &bytes);
    let upload = object["actions"]["upload"].clone();
    assert!(
        upload["href"]
            .as_str()
            .expect("an address")
            .ends_with(&format!("{API}/objects/{name}/300000")),
        "{object}"
    );
    assert_eq!(
        (&upload["expires_in"], &object["actions"]["verify"]["expires_in"]),
        (&json!(3600), &json!(3600))
    );
    assert_eq!(verify(&server, &name, bytes.len()), 404);

    assert_eq!(put(&server, &name, bytes.len(), "", &bytes).status, 200);

    assert_eq!(verify(&server, &name, bytes.len()), 200);
    assert_eq!(verify(&server, &name, 5), 422);
    assert_eq!(
        offered(&server, "upload", &bytes).get("actions"),
        None,
        "it is here already"
    );
    let object = offered(&server, "download", &bytes);
    assert!(
        object["actions"]["download"]["href"]
            .as_str()
            .expect("an address")
            .ends_with(&name)
    );
    let whole = download(&server, &name, "");
    assert!(whole.status == 200 && whole.body == bytes);
    assert_eq!(whole.header("content-length"), Some("300000"));
    let rest = download(&server, &name, "Range: bytes=123456-299999");
    assert!(rest.status == 206 && rest.body == bytes[123_456..]);
    assert_eq!(rest.header("content-range"), Some("bytes 123456-299999/300000"));
    let beyond = download(&server, &name, "Range: bytes=300000-");
    assert_eq!((beyond.status, beyond.body.len()), (416, 0));
    let head = ask(&server, &format!("HEAD {API}/objects/{name}"), "", b"");
    assert_eq!(
        (head.status, head.body.len(), head.header("content-length")),
        (200, 0, Some("300000"))
    );
}

#[test]
fn an_empty_object_is_one_too() {
    let server = server();
    assert_eq!(put(&server, &oid(b""), 0, "", b"").status, 200);
    assert_eq!(verify(&server, &oid(b""), 0), 200);
    let got = download(&server, &oid(b""), "");
    assert_eq!((got.status, got.body.len()), (200, 0));
}

#[test]
fn wrong_bytes_are_refused_and_leave_nothing() {
    let server = server();
    let (good, bad) = (b"a good take".repeat(1000), b"a bad take!".repeat(1000));
    let name = oid(&good);

    for (size, body, words) in [
        (good.len(), &bad[..], "the bytes that came are those of"),
        (good.len(), &good[..5000], "has 5000 bytes, not the 11000"),
        (good.len() - 1, &good[..], "has more than the 10999 bytes"),
    ] {
        let refused = put(&server, &name, size, "", body);
        assert_eq!(refused.status, 422, "{refused:?}");
        let told = json_of(&refused);
        assert!(told["message"].as_str().expect("a sentence").contains(words), "{told}");
    }
    assert_eq!(packs(&server), 0);
    assert_eq!(verify(&server, &name, good.len()), 404);
    assert!(
        offered(&server, "upload", &good)["actions"]["upload"].is_object(),
        "offered again"
    );
    assert_eq!(offered(&server, "download", &good)["error"]["code"], 404);

    assert_eq!(put(&server, &name, good.len(), "", &good).status, 200);
    // A good object survives whatever comes under its name later.
    assert_eq!(put(&server, &name, good.len(), "", &good[..77]).status, 422);
    assert_eq!(put(&server, &name, good.len(), "", &bad).status, 422);
    assert!(download(&server, &name, "").body == good);
    assert_eq!(put(&server, &name, good.len(), "", &good).status, 200);
    assert_eq!(packs(&server), 1, "it is kept once");
}

#[test]
fn a_client_that_goes_away_in_mid_upload_leaves_nothing() {
    let server = server();
    let bytes = vec![7; 200_000];
    let head = format!(
        "PUT {API}/objects/{}/200000 HTTP/1.1\n{}\nContent-Length: 200000",
        oid(&bytes),
        basic("anna", PASSWORD)
    );

    let head = format!("{}\r\nHost: x\r\n\r\n", head.replace('\n', "\r\n"));
    let raw = server.send(&[head.as_bytes(), &bytes[..100_000]].concat());
    std::thread::sleep(std::time::Duration::from_millis(200));
    drop(raw);

    server.until("the store is empty", || packs(&server) == 0);
    assert_eq!(verify(&server, &oid(&bytes), bytes.len()), 404);
}

#[test]
fn compressed_and_chunked_bodies_are_undone() {
    let server = server();
    let bytes = b"la la la ".repeat(10_000);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &bytes).expect("memory");
    let gzip = gzip.finish().expect("memory");
    assert_eq!(
        put(&server, &oid(&bytes), bytes.len(), "Content-Encoding: gzip", &gzip).status,
        200
    );
    assert!(download(&server, &oid(&bytes), "").body == bytes);

    let other = b"lo lo lo ".repeat(9_000);
    let mut chunked = Vec::new();
    for piece in other.chunks(7_777) {
        chunked.extend(format!("{:x}\r\n", piece.len()).into_bytes());
        chunked.extend(piece);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    let head = format!(
        "PUT {API}/objects/{}/{} HTTP/1.1\n{}\nTransfer-Encoding: chunked",
        oid(&other),
        other.len(),
        basic("anna", PASSWORD)
    );
    assert_eq!(server.ask(&head, &chunked).status, 200);
    assert!(download(&server, &oid(&other), "").body == other);
}

#[test]
fn every_object_of_a_batch_is_answered_for_itself() {
    let server = server();
    let here = b"here".to_vec();
    assert_eq!(put(&server, &oid(&here), 4, "", &here).status, 200);
    let request = json!({"operation": "download", "objects": [
        {"oid": oid(&here), "size": 4},
        {"oid": oid(&here), "size": 5},
        {"oid": oid(b"elsewhere"), "size": 9},
        {"oid": "nonsense", "size": 1},
        {"oid": oid(&here).to_uppercase(), "size": 4},
        {"oid": oid(&here), "size": -4},
    ]});
    let answer = json_of(&batch(&server, &request));
    let objects = answer["objects"].as_array().expect("objects");
    let codes: Vec<_> = objects
        .iter()
        .map(|object| object["error"]["code"].as_u64().unwrap_or(200))
        .collect();
    assert_eq!(codes, [200, 422, 404, 422, 422, 422], "{answer}");
    assert_eq!(objects[5]["size"], -4);
    let hash = json!({"operation": "upload", "hash_algo": "sha512", "objects": [{"oid": oid(&here), "size": 4}]});
    assert_eq!(json_of(&batch(&server, &hash))["objects"][0]["error"]["code"], 409);
    let huge = json!({"operation": "upload", "objects": [{"oid": oid(b"x"), "size": 1_u64 << 50}]});
    assert_eq!(json_of(&batch(&server, &huge))["objects"][0]["error"]["code"], 422);
    for reference in [json!(null), json!({}), json!({"name": "refs/heads/main"})] {
        let request = json!({"operation": "download", "ref": reference, "objects": []});
        assert_eq!(batch(&server, &request).status, 200);
    }
}

#[test]
fn a_batch_that_makes_no_sense_is_refused_with_a_sentence() {
    let server = with(|settings| settings.lfs.max_batch_objects = 3);
    let object = json!({"oid": oid(b"x"), "size": 1});
    let all_bad = json!({"operation": "upload", "objects": [{"oid": "x", "size": 1}]});
    let unknown = json!({"operation": "upload", "transfers": ["tus"], "objects": [object]});
    let many = json!({"operation": "upload", "objects": [object, object, object, object]});
    for (body, status) in [
        ("{".to_owned(), 422),
        ("[]".to_owned(), 422),
        (json!({"operation": "sing", "objects": []}).to_string(), 422),
        (json!({"operation": "upload"}).to_string(), 422),
        (all_bad.to_string(), 422),
        (unknown.to_string(), 422),
        (many.to_string(), 413),
        (" ".repeat(9 << 20), 413),
    ] {
        let answer = ask(&server, &format!("POST {API}/objects/batch"), "", body.as_bytes());
        assert_eq!(answer.status, status, "{} {answer:?}", &body[..body.len().min(80)]);
        assert!(
            json_of(&answer)["message"]
                .as_str()
                .is_some_and(|message| message.ends_with(['.', ')'])),
            "{answer:?}"
        );
    }
}

#[test]
fn twenty_thousand_objects_are_answered_at_once_and_shortly() {
    let server = server();
    let objects: Vec<_> = (0..20_000)
        .map(|number: u32| json!({"oid": oid(&number.to_le_bytes()), "size": 4}))
        .collect();
    let answer = batch(&server, &json!({"operation": "upload", "objects": objects}));
    assert_eq!(answer.status, 200);
    assert_eq!(json_of(&answer)["objects"].as_array().map(Vec::len), Some(20_000));
    assert!(answer.body.len() < 12 << 20, "{} bytes", answer.body.len());
}

#[test]
fn who_may_do_what_is_told_as_git_lfs_wants_it() {
    let server = server();
    server.user("ben", false);
    let bytes = b"secret".to_vec();
    assert_eq!(put(&server, &oid(&bytes), 6, "", &bytes).status, 200);
    let request = json!({"operation": "download", "objects": [{"oid": oid(&bytes), "size": 6}]}).to_string();
    let of = |user: Option<&str>, address: &str, body: &str| {
        let who = user.map_or_else(|| "X-None: 1".to_owned(), |user| basic(user, PASSWORD));
        server.ask(
            &format!(
                "POST /{address}.git/info/lfs/objects/batch HTTP/1.1\n{who}\nContent-Length: {}",
                body.len()
            ),
            body.as_bytes(),
        )
    };
    for address in ["anna/song", "anna/nothing", "nobody/song"] {
        let stranger = of(None, address, &request);
        assert_eq!(stranger.status, 401, "{address}");
        assert_eq!(stranger.header("lfs-authenticate"), Some("Basic realm=\"Auxin\""));
        let other = of(Some("ben"), address, &request);
        assert_eq!(other.status, 404, "{address}: never 401 for want of a right");
    }
    let get = |user: &str, name: &str| {
        server.ask(
            &format!("GET {API}/objects/{name} HTTP/1.1\n{}", basic(user, PASSWORD)),
            b"",
        )
    };
    assert_eq!(
        (get("ben", &oid(&bytes)).status, get("ben", &oid(b"?")).status),
        (404, 404)
    );
    assert_eq!((get("anna", &oid(b"?")).status, get("anna", "x").status), (404, 422));

    // Ben may read, and therefore hears 403 when he brings something.
    server.repo("anna/open", Visibility::Public);
    let upload = json!({"operation": "upload", "objects": [{"oid": oid(&bytes), "size": 6}]}).to_string();
    assert_eq!(of(Some("ben"), "anna/open", &upload).status, 403);
    assert_eq!(of(None, "anna/open", &upload).status, 401);
    let open = of(None, "anna/open", &request);
    assert_eq!(
        json_of(&open)["objects"][0]["error"]["code"],
        404,
        "what another repository has is not here"
    );
    let locks = ask(&server, &format!("POST {API}/locks/verify"), "", b"{}");
    assert_eq!(locks.status, 200);
    assert_eq!(json_of(&locks)["ours"], json!([]));
    assert_eq!(ask(&server, &format!("GET {API}/objects/batch"), "", b"").status, 405);
}

#[test]
fn a_damaged_chunk_is_never_sent_as_if_it_were_good() {
    let server = server();
    let bytes: Vec<u8> = (0..50_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8)
        .collect();
    assert_eq!(put(&server, &oid(&bytes), bytes.len(), "", &bytes).status, 200);
    let mut left = vec![server.app.data.store()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(
                std::fs::read_dir(&path)
                    .expect("a folder")
                    .map(|entry| entry.expect("an entry").path()),
            );
        } else {
            let mut pack = std::fs::read(&path).expect("a pack");
            let middle = pack.len() / 4;
            pack[middle] ^= 1;
            std::fs::write(&path, pack).expect("written");
        }
    }
    let got = download(&server, &oid(&bytes), "");
    assert!(got.status == 500 || got.body.len() < bytes.len(), "{}", got.status);
    assert!(
        bytes.starts_with(&got.body) || got.status == 500,
        "wrong bytes went out"
    );
}
