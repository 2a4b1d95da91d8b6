//! Uploads by the chunked transfer: only what is missing travels, nothing counts before it is proven, and a hash
//! gives nobody anything.

use auxin::db::Visibility;
use lfs_protocol::codec::Encoder;
use lfs_protocol::pack::{Kind, PackWriter};
use lfs_protocol::recipe::Recipe;
use lfs_protocol::{ChunkId, Cutter, Oid};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::auxin_transfer::{SONG, anna, api, ask, batch, json_of, oid, put, recipe, server, token, with};
use super::support::{Answer, PASSWORD, Server, basic, noise};

/// A file as a client sees it.
struct File {
    bytes: Vec<u8>,
    recipe: Recipe,
    chunks: Vec<(ChunkId, Vec<u8>)>,
}

impl File {
    fn new(bytes: Vec<u8>) -> Self {
        let mut cutter = Cutter::new(bytes.len() as u64);
        let mut chunks = Vec::new();
        let mut take = |chunk: lfs_protocol::Chunk<'_>| {
            chunks.push((chunk.id, chunk.bytes.to_vec()));
            Ok::<(), ()>(())
        };
        cutter.push(&bytes, &mut take).expect("cut");
        let (oid, chunking) = cutter.finish(&mut take).expect("cut");
        let recipe = Recipe {
            oid,
            size_bytes: bytes.len() as u64,
            chunking,
            chunks: chunks.iter().map(|(id, raw)| (*id, raw.len() as u32)).collect(),
        };
        Self { bytes, recipe, chunks }
    }

    fn name(&self) -> String {
        self.recipe.oid.to_string()
    }

    fn ids(&self) -> Vec<u8> {
        self.chunks.iter().flat_map(|(id, _)| *id.as_bytes()).collect()
    }
}

/// A sealed chunk pack, and its name.
fn pack(chunks: &[(ChunkId, Vec<u8>)], recipe: Option<&Recipe>) -> (String, Vec<u8>) {
    let mut writer = PackWriter::new(Vec::new()).expect("memory");
    let mut encoder = Encoder::default();
    let mut seen = std::collections::HashSet::new();
    for (id, raw) in chunks.iter().filter(|(id, _)| seen.insert(*id)) {
        let mut payload = Vec::new();
        let codec = encoder.encode(raw, None, &mut payload);
        writer
            .add(*id.as_bytes(), Kind::Chunk, codec, raw.len(), &payload)
            .expect("fits");
    }
    if let Some(recipe) = recipe {
        let bytes = recipe.to_bytes();
        let name = *recipe.oid.as_bytes();
        writer
            .add(name, Kind::Recipe, lfs_protocol::codec::Codec::Raw, bytes.len(), &bytes)
            .expect("fits");
    }
    let (bytes, _) = writer.seal().expect("memory");
    (oid(&bytes), bytes)
}

/// Somebody's client with the token of an upload.
struct Client<'s> {
    server: &'s Server,
    repo: String,
    who: String,
    with: String,
}

impl<'s> Client<'s> {
    fn new(server: &'s Server, user: &str, repo: &str) -> Self {
        let who = token(
            server,
            repo,
            &basic(user, PASSWORD),
            "upload",
            b"something that is nowhere",
        );
        Self {
            server,
            repo: repo.into(),
            who,
            with: String::new(),
        }
    }

    fn ask(&self, method: &str, rest: &str, more: &str, body: &[u8]) -> Answer {
        let line = format!("{method} {}/auxin/{rest}", api(&self.repo));
        ask(self.server, &line, &format!("{}{more}", self.who), body)
    }

    /// What is missing, one byte for each chunk.
    fn missing(&self, ids: &[u8]) -> Vec<u8> {
        let answer = self.ask("POST", &format!("missing{}", self.with.replacen('&', "?", 1)), "", ids);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.body.len(), (ids.len() / 32).div_ceil(8));
        (0..ids.len() / 32)
            .map(|place| answer.body[place / 8] >> (place % 8) & 1)
            .collect()
    }

    fn put_pack(&self, (name, bytes): &(String, Vec<u8>)) -> Answer {
        self.ask("PUT", &format!("packs/{name}"), "", bytes)
    }

    fn post_recipe(&self, recipe: &Recipe) -> Answer {
        let rest = format!("objects/{}?size={}{}", recipe.oid, recipe.size_bytes, self.with);
        self.ask("POST", &rest, "", &recipe.to_bytes())
    }

    fn post_small(&self, file: &File, pack: &[u8]) -> Answer {
        let rest = format!("objects/{}?size={}{}", file.name(), file.bytes.len(), self.with);
        self.ask("POST", &rest, "\nContent-Type: application/vnd.auxin.chunk-pack", pack)
    }

    /// Waits for the end of a proof.
    fn proven(&self, mut answer: Answer, name: &str) -> Answer {
        while answer.status == 202 {
            assert_eq!(json_of(&answer)["state"], "proving");
            answer = self.ask("GET", &format!("objects/{name}/proof"), "", b"");
        }
        answer
    }

    /// Sends a file as a client does; the chunks that travelled.
    fn push(&self, file: &File) -> usize {
        let missing = self.missing(&file.ids());
        let new = file
            .chunks
            .iter()
            .zip(&missing)
            .filter(|(_, is_missing)| **is_missing == 1);
        let new: Vec<_> = new.map(|(chunk, _)| chunk.clone()).collect();
        if !new.is_empty() {
            let answer = self.put_pack(&pack(&new, None));
            assert_eq!((answer.status, answer.text().as_str()), (200, "{}"), "{answer:?}");
        }
        let answer = self.proven(self.post_recipe(&file.recipe), &file.name());
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(json_of(&answer), json!({"state": "proven"}));
        new.len()
    }
}

fn verify(server: &Server, user: &str, repo: &str, file: &File) -> u16 {
    let body = json!({"oid": file.name(), "size": file.bytes.len()}).to_string();
    let line = format!("POST {}/verify", api(repo));
    ask(server, &line, &basic(user, PASSWORD), body.as_bytes()).status
}

fn download(server: &Server, user: &str, repo: &str, file: &File) -> Answer {
    let line = format!("GET {}/objects/{}", api(repo), file.name());
    ask(server, &line, &basic(user, PASSWORD), b"")
}

/// All files below a folder of the server's.
fn files(folder: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 })
        .sum()
}

fn packs(server: &Server) -> usize {
    files(&server.app.data.store())
}

#[test]
fn a_file_goes_up_in_chunks_and_its_next_version_costs_what_is_new() {
    let server = server();
    let first = File::new(noise(3 << 20));
    let offered = json_of(&batch(&server, SONG, &anna(), "upload", &first.bytes));
    let actions = &offered["objects"][0]["actions"];
    let href = actions["upload"]["href"].as_str().expect("an address");
    assert!(
        href.ends_with(&format!("/info/lfs/auxin/objects/{}?size=3145728", first.name())),
        "{href}"
    );
    assert_eq!(actions["upload"]["header"]["Auxin-Chunking"], "1,2");
    assert!(
        actions["verify"]["href"]
            .as_str()
            .is_some_and(|href| href.ends_with("/info/lfs/verify"))
    );

    let anna = Client::new(&server, "anna", SONG);
    let total = first.chunks.len();
    assert_eq!(anna.push(&first), total);
    assert_eq!(verify(&server, "anna", SONG, &first), 200);
    assert!(download(&server, "anna", SONG, &first).body == first.bytes);

    let mut bytes = first.bytes.clone();
    bytes.splice(1_000_000..1_000_000, *b"an insertion");
    let second = File::new(bytes);
    let sent = anna.push(&second);
    assert!(sent <= 8, "{sent} of {total}");
    assert!(download(&server, "anna", SONG, &second).body == second.bytes);
    assert_eq!(anna.push(&second), 0);
    // What came by stock Git LFS counts, too.
    let basic = File::new(noise(400_000).into_iter().map(|byte| byte ^ 0x55).collect());
    put(&server, SONG, &basic.bytes);
    assert!(anna.missing(&basic.ids()).iter().all(|bit| *bit == 0));
    // And an empty file is one.
    assert_eq!(anna.push(&File::new(Vec::new())), 0);
}

#[test]
fn a_small_file_goes_up_in_one_request() {
    let server = server();
    let anna = Client::new(&server, "anna", SONG);
    let file = File::new(noise(300_000));
    let (_, whole) = pack(&file.chunks, Some(&file.recipe));
    let answer = anna.post_small(&file, &whole);
    assert_eq!((answer.status, json_of(&answer)), (200, json!({"state": "proven"})));
    assert!(download(&server, "anna", SONG, &file).body == file.bytes);
    assert_eq!(packs(&server), 1);

    let mut bytes = file.bytes.clone();
    bytes[150_000] ^= 1;
    let next = File::new(bytes);
    let missing = anna.missing(&next.ids());
    let new = next.chunks.iter().zip(&missing).filter(|(_, bit)| **bit == 1);
    let new: Vec<_> = new.map(|(chunk, _)| chunk.clone()).collect();
    assert!(!new.is_empty() && new.len() <= 3, "{}", new.len());
    let answer = anna.post_small(&next, &pack(&[], Some(&next.recipe)).1);
    assert_eq!((answer.status, &json_of(&answer)["missing"]), (409, &json!(new.len())));
    assert_eq!(anna.post_small(&next, &pack(&new, None).1).status, 422, "no recipe");
    let foreign = [new.clone(), vec![(ChunkId::of(b"other"), b"other".to_vec())]].concat();
    assert_eq!(
        anna.post_small(&next, &pack(&foreign, Some(&next.recipe)).1).status,
        422
    );
    assert_eq!(verify(&server, "anna", SONG, &next), 404);
    assert_eq!(anna.post_small(&next, &pack(&new, Some(&next.recipe)).1).status, 200);
    assert!(download(&server, "anna", SONG, &next).body == next.bytes);
}

#[test]
fn a_damaged_pack_changes_nothing_and_the_right_one_is_taken_afterwards() {
    let server = server();
    let anna = Client::new(&server, "anna", SONG);
    let file = File::new(noise(200_000));
    let (name, good) = pack(&file.chunks, None);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        bytes
    };
    let mut renamed = file.chunks.clone();
    renamed[1].0 = ChunkId::of(b"another one");
    for (what, bytes) in [
        ("an inner byte", with(&|bytes| bytes[5000] ^= 1)),
        ("the magic", with(&|bytes| bytes[0] ^= 1)),
        (
            "the index",
            with(&|bytes| *bytes.iter_mut().rev().nth(60).expect("a byte") ^= 1),
        ),
        (
            "the checksum",
            with(&|bytes| *bytes.iter_mut().rev().nth(20).expect("a byte") ^= 1),
        ),
        ("the end", with(&|bytes| bytes.truncate(good.len() - 1))),
        ("almost all", with(&|bytes| bytes.truncate(10))),
        ("nothing", Vec::new()),
        ("a chunk under another name", pack(&renamed, None).1),
        ("a recipe", pack(&file.chunks, Some(&file.recipe)).1),
        ("bytes between frames", {
            let mut bytes = good.clone();
            // The index says that the first frame begins one byte later than it does.
            let index = bytes.len() - 40 - file.chunks.len() * 48;
            let first = (0..file.chunks.len()).map(|row| index + row * 48 + 32);
            let first = first.min_by_key(|&at| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four")));
            bytes[first.expect("a row")] += 1;
            let end = bytes.len() - 40;
            let sum = Sha256::digest(&bytes[..end]);
            bytes[end..end + 32].copy_from_slice(&sum);
            bytes
        }),
    ] {
        let refused = anna.put_pack(&(oid(&bytes), bytes.clone()));
        assert_eq!(refused.status, 422, "{what}: {refused:?}");
        assert!(json_of(&refused)["message"].is_string());
        if bytes.len() > 100 {
            assert_eq!(
                anna.put_pack(&(name.clone(), bytes)).status,
                422,
                "{what}, under the good name"
            );
        }
    }
    assert_eq!(anna.put_pack(&("x".into(), good.clone())).status, 422);
    assert_eq!(
        anna.ask("PUT", &format!("packs/{name}"), "\nContent-Encoding: gzip", &good)
            .status,
        422
    );
    assert_eq!(packs(&server), 0, "nothing is kept");
    assert!(anna.missing(&file.ids()).iter().all(|bit| *bit == 1));

    let good = (name, good);
    assert_eq!(
        (anna.put_pack(&good).status, anna.put_pack(&good).status),
        (200, 200),
        "twice is once"
    );
    assert_eq!(packs(&server), 1);
    assert!(anna.missing(&file.ids()).iter().all(|bit| *bit == 0));
    assert_eq!(anna.post_recipe(&file.recipe).status, 200);
}

#[test]
fn a_client_that_goes_away_in_mid_pack_leaves_nothing() {
    let server = server();
    let anna = Client::new(&server, "anna", SONG);
    let file = File::new(noise(200_000));
    let (name, bytes) = pack(&file.chunks, None);
    let head = format!(
        "PUT {}/auxin/packs/{name} HTTP/1.1\r\nHost: x\r\n{}\r\nContent-Length: {}\r\n\r\n",
        api(SONG),
        anna.who,
        bytes.len()
    );
    let tmp = files(&server.app.data.tmp());
    let raw = server.send(&[head.as_bytes(), &bytes[..100_000]].concat());
    server.until("it waits for the rest", || files(&server.app.data.tmp()) > tmp);
    drop(raw);
    server.until("the rest is gone", || files(&server.app.data.tmp()) == tmp);
    assert_eq!(packs(&server), 0);
    assert!(anna.missing(&file.ids()).iter().all(|bit| *bit == 1));
}

#[test]
fn a_recipe_that_does_not_make_its_file_is_refused() {
    let server = server();
    let anna = Client::new(&server, "anna", SONG);
    let file = File::new(noise(100_000));
    assert_eq!(anna.put_pack(&pack(&file.chunks, None)).status, 200);
    let mut swapped = file.recipe.clone();
    swapped.chunks.swap(0, 1);
    let mut other_name = file.recipe.clone();
    other_name.oid = Oid::from_sha256([7; 32]);
    let mut wrong_length = file.recipe.clone();
    wrong_length.chunks[0].1 -= 1;
    wrong_length.chunks[1].1 += 1;
    for (what, recipe) in [("swapped", &swapped), ("of another name", &other_name)] {
        let refused = anna.proven(anna.post_recipe(recipe), &recipe.oid.to_string());
        assert_eq!(refused.status, 422, "{what}: {refused:?}");
    }
    assert_eq!(anna.post_recipe(&wrong_length).status, 422);
    let rest = |size: usize| format!("objects/{}?size={size}", file.name());
    let bytes = file.recipe.to_bytes();
    assert_eq!(anna.ask("POST", &rest(99_999), "", &bytes).status, 422);
    assert_eq!(anna.ask("POST", &rest(100_000), "", &bytes[1..]).status, 422);
    assert_eq!(
        anna.ask("POST", &format!("objects/{}", file.name()), "", &bytes).status,
        422
    );
    assert_eq!(anna.ask("POST", &rest(1 << 50), "", &bytes).status, 422);
    assert_eq!(verify(&server, "anna", SONG, &file), 404);
    assert_eq!(
        anna.ask("GET", &format!("objects/{}/proof", file.name()), "", b"")
            .status,
        404
    );

    assert_eq!(anna.post_recipe(&file.recipe).status, 200);
    let proof = anna.ask("GET", &format!("objects/{}/proof", file.name()), "", b"");
    assert_eq!((proof.status, json_of(&proof)), (200, json!({"state": "proven"})));
}

#[test]
fn a_stranger_with_the_right_hashes_learns_nothing_and_gets_nothing() {
    let server = server();
    server.repo("ben/own", Visibility::Private);
    let secret = File::new(noise(300_000));
    Client::new(&server, "anna", SONG).push(&secret);
    let before = packs(&server);

    let mut ben = Client::new(&server, "ben", "ben/own");
    // Naming a repository that he may not read, or that is none, is no help.
    ben.with = "&with=anna/song&with=anna/none&with=x&with=%00".into();
    assert!(ben.missing(&secret.ids()).iter().all(|bit| *bit == 1));
    let (of_secret, of_nothing) = (
        ben.post_recipe(&secret.recipe),
        ben.post_recipe(&File::new(noise(299_999)).recipe),
    );
    assert_eq!((of_secret.status, of_nothing.status), (409, 409));
    assert_eq!(json_of(&of_secret)["missing"], secret.chunks.len());
    assert_eq!(ben.post_small(&secret, &pack(&[], Some(&secret.recipe)).1).status, 409);
    assert_eq!(verify(&server, "ben", "ben/own", &secret), 404);
    assert_eq!(download(&server, "ben", "ben/own", &secret).status, 404);
    let asked = json_of(&batch(
        &server,
        "ben/own",
        &basic("ben", PASSWORD),
        "upload",
        &secret.bytes,
    ));
    assert!(
        asked["objects"][0]["actions"]["upload"].is_object(),
        "he has to bring it"
    );

    // Bringing one chunk gives him that one, and no word about the rest.
    assert_eq!(ben.put_pack(&pack(&secret.chunks[..1], None)).status, 200);
    let missing = ben.missing(&secret.ids());
    assert_eq!((missing[0], missing[1..].iter().all(|bit| *bit == 1)), (0, true));
    assert_eq!(
        json_of(&ben.post_recipe(&secret.recipe))["missing"],
        secret.chunks.len() - 1
    );
    // Nor is it anybody else's: neither in another repository nor for another person.
    server.repo("ben/second", Visibility::Private);
    assert_eq!(
        Client::new(&server, "ben", "ben/second").missing(&secret.ids()),
        vec![1; missing.len()]
    );

    // Whoever has all of it may have it; the store holds one copy.
    assert_eq!(ben.push(&secret), secret.chunks.len() - 1);
    assert!(download(&server, "ben", "ben/own", &secret).body == secret.bytes);
    assert_eq!(packs(&server), before);

    // And it stays when the other repository goes.
    let address = SONG.parse().expect("an address");
    server
        .run(server.app.repos.delete(&address, auxin::db::By::Command))
        .expect("deleted");
    assert!(download(&server, "ben", "ben/own", &secret).body == secret.bytes);
    assert!(ben.missing(&secret.ids()).iter().all(|bit| *bit == 0));
}

#[test]
fn chunks_of_a_repository_that_one_may_read_count_when_it_is_named() {
    let server = server();
    server.repo("anna/open", Visibility::Public);
    server.repo("ben/own", Visibility::Private);
    let file = File::new(noise(300_000));
    Client::new(&server, "anna", "anna/open").push(&file);
    let mut bytes = file.bytes.clone();
    bytes.extend(b"an end of his own");
    let longer = File::new(bytes);

    let mut ben = Client::new(&server, "ben", "ben/own");
    assert!(ben.missing(&longer.ids()).iter().all(|bit| *bit == 1));
    ben.with = "&with=anna%2Fopen".into();
    assert!(ben.push(&longer) <= 2);
    assert!(download(&server, "ben", "ben/own", &longer).body == longer.bytes);
    ben.with = "&with=a/b".repeat(17);
    assert_eq!(ben.post_recipe(&longer.recipe).status, 422);
}

#[test]
fn the_set_of_a_repository_follows_its_objects() {
    let server = server();
    let (first, second) = (File::new(noise(100_000)), File::new(noise(120_000)));
    let anna = Client::new(&server, "anna", SONG);
    anna.push(&first);
    anna.push(&second);
    let shared = first
        .chunks
        .iter()
        .filter(|chunk| second.chunks.contains(chunk))
        .count();
    assert!(shared > 0 && shared < first.chunks.len(), "{shared}");
    let path = server.app.data.database();
    let unlink = |file: &File| {
        server.run(async {
            use sqlx::Connection as _;
            let mut conn = sqlx::SqliteConnection::connect(&format!("sqlite://{}", path.display()))
                .await
                .expect("opened");
            sqlx::query("DELETE FROM lfs_links WHERE oid = $1")
                .bind(file.recipe.oid.as_bytes().as_slice())
                .execute(&mut conn)
                .await
                .expect("deleted");
        });
    };
    // Those who brought them may still say so for a while; others hear what the set says.
    server.run(async {
        let (song, ben) = (SONG.parse().expect("an address"), "ben".parse().expect("a name"));
        let members = &server.app.members;
        members
            .add(&song, &ben, auxin::db::Role::Write, auxin::db::By::Command)
            .await
            .expect("added");
    });
    let ben = Client::new(&server, "ben", SONG);
    let missing = |file: &File| ben.missing(&file.ids()).iter().filter(|bit| **bit == 1).count();
    assert_eq!((missing(&first), missing(&second)), (0, 0));
    unlink(&second);
    assert_eq!((missing(&first), missing(&second)), (0, second.chunks.len() - shared));
    unlink(&first);
    assert_eq!(
        (missing(&first), missing(&second)),
        (first.chunks.len(), second.chunks.len())
    );
}

#[test]
fn requests_that_make_no_sense_or_have_no_right_are_refused() {
    let server = with(|settings| settings.lfs.max_missing_ids = 100);
    server.repo("anna/open", Visibility::Public);
    let bytes = noise(5000);
    put(&server, "anna/open", &bytes);
    let anna_open = Client::new(&server, "anna", "anna/open");
    let down = token(&server, "anna/open", &anna(), "download", &bytes);
    let line = |rest: &str| format!("POST {}/auxin/{rest}", api("anna/open"));
    assert_eq!(
        ask(&server, &line("missing"), &down, b"").status,
        401,
        "a token for downloads"
    );
    assert_eq!(ask(&server, &line("missing"), "", b"").status, 401);
    assert_eq!(recipe(&server, "anna/open", &anna_open.who, &oid(&bytes)).status, 401);
    let elsewhere = format!("POST {}/auxin/missing", api(SONG));
    assert_eq!(ask(&server, &elsewhere, &anna_open.who, b"").status, 401);

    assert_eq!(anna_open.missing(b"").len(), 0);
    assert_eq!(anna_open.missing(&[0; 3200]).len(), 100);
    assert_eq!(anna_open.ask("POST", "missing", "", &[0; 3201]).status, 413);
    assert_eq!(anna_open.ask("POST", "missing", "", &[0; 31]).status, 422);
    let huge = format!(
        "PUT {}/auxin/packs/{} HTTP/1.1\n{}\nContent-Length: 67108865",
        api("anna/open"),
        oid(b""),
        anna_open.who
    );
    assert_eq!(server.ask(&huge, b"").status, 413);
    for (method, rest) in [
        ("GET", "missing"),
        ("GET", "packs/x"),
        ("DELETE", "objects/x"),
        ("POST", "objects/x/proof"),
    ] {
        assert_eq!(anna_open.ask(method, rest, "", b"").status, 405, "{method} {rest}");
    }
    let value: Value = json_of(&anna_open.ask("POST", "missing", "", &[0; 31]));
    assert!(value["message"].as_str().is_some_and(|message| message.ends_with('.')));
}
