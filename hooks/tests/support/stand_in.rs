//! A stand-in for the server's side of the chunked transfer, for what a real one does not do on demand: cut
//! connections, odd statuses, lost chunks. It keeps everything in memory and checks what it is sent.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use lfs_protocol::codec::{Codec, Decoder, Encoder};
use lfs_protocol::pack::{self, Kind, Trailer};
use lfs_protocol::recipe::Recipe;
use lfs_protocol::{Chunk, ChunkId, Cutter, Oid};

/// What happens to one request.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// An answer with this status, `Retry-After: 0` and a sentence.
    Status(u16),
    /// The connection ends after so many bytes of the request's body.
    CutRequest(usize),
    /// The connection ends after so many bytes of the answer's body.
    CutAnswer(usize),
    /// The request is done, but its answer is lost.
    LoseAnswer,
}

#[derive(Default)]
pub struct State {
    pub chunks: HashMap<[u8; 32], Vec<u8>>,
    pub objects: HashMap<String, Recipe>,
    /// Method, target without the query, and length of the body of each request.
    pub requests: Vec<(String, String, usize)>,
    /// Of the next request whose target contains the word.
    pub faults: VecDeque<(&'static str, Fault)>,
    /// So many answers say that the proof goes on.
    pub proving: u64,
    /// So many answers say that no chunk is missing.
    pub forgets: u64,
    /// Tokens given out.
    pub tokens: usize,
    /// The lifetime of new tokens, in seconds.
    pub token_secs: u64,
    /// The only token that is taken, if there is one.
    pub token: Option<String>,
    /// Chunks that were sent whole.
    pub served_chunks: usize,
    /// Queries of requests that had one.
    pub queries: Vec<String>,
}

pub struct StandIn {
    pub url: String,
    state: Arc<Mutex<State>>,
}

impl StandIn {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!(
            "http://{}/anna/song.git/info/lfs/auxin",
            listener.local_addr().expect("an address")
        );
        let state = Arc::new(Mutex::new(State {
            token_secs: 3600,
            ..State::default()
        }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                // A connection that a fault or the client ends is nobody's error.
                std::thread::spawn(move || while serve(&stream, &state).is_some() {});
            }
        });
        Self { url, state }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panicked")
    }

    pub fn fail(&self, word: &'static str, fault: Fault) {
        self.state().faults.push_back((word, fault));
    }

    /// Takes a file as if somebody had brought it.
    pub fn keep(&self, bytes: &[u8]) -> Oid {
        let mut state = self.state();
        let mut cutter = Cutter::new(bytes.len() as u64);
        let mut chunks = Vec::new();
        let mut take = |chunk: Chunk<'_>| -> Result<(), std::convert::Infallible> {
            chunks.push((chunk.id, chunk.bytes.len() as u32));
            state.chunks.insert(*chunk.id.as_bytes(), chunk.bytes.to_vec());
            Ok(())
        };
        cutter.push(bytes, &mut take).expect("fits");
        let (oid, chunking) = cutter.finish(&mut take).expect("whole");
        let recipe = Recipe {
            oid,
            size_bytes: bytes.len() as u64,
            chunking,
            chunks,
        };
        state.objects.insert(oid.to_string(), recipe);
        oid
    }

    /// The bytes of an object that was brought.
    pub fn object(&self, oid: &str) -> Option<Vec<u8>> {
        let state = self.state();
        let recipe = state.objects.get(oid)?;
        Some(
            recipe
                .chunks
                .iter()
                .flat_map(|(id, _)| state.chunks[id.as_bytes()].clone())
                .collect(),
        )
    }

    /// Bytes of the bodies of all requests so far whose target contains `word`.
    pub fn sent_bytes(&self, word: &str) -> usize {
        let state = self.state();
        let requests = state.requests.iter().filter(|(_, target, _)| target.contains(word));
        requests.map(|(.., bytes)| bytes).sum()
    }

    pub fn count(&self, word: &str) -> usize {
        self.state()
            .requests
            .iter()
            .filter(|(_, target, _)| target.contains(word))
            .count()
    }
}

fn answer(mut stream: &TcpStream, status: u16, body: &[u8], cut_after: Option<usize>) -> Option<()> {
    let head = format!(
        "HTTP/1.1 {status} Status\r\nContent-Length: {}\r\nRetry-After: 0\r\nContent-Type: application/vnd.git-lfs+json\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    match cut_after {
        Some(len) => {
            stream.write_all(&body[..len.min(body.len())]).ok()?;
            stream.shutdown(std::net::Shutdown::Both).ok()?;
            None
        }
        None => stream.write_all(body).ok(),
    }
}

fn serve(stream: &TcpStream, state: &Mutex<State>) -> Option<()> {
    let mut reader = BufReader::with_capacity(1, stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|&len| len > 0)?;
    let (mut length, mut media_type, mut expects, mut authorization) = (0, String::new(), false, String::new());
    let (method, target) = {
        let mut words = line.split_whitespace();
        (words.next()?.to_owned(), words.next()?.to_owned())
    };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "content-type" => media_type = value.trim().to_owned(),
            "expect" => expects = true,
            "authorization" => authorization = value.trim().to_owned(),
            _ => {}
        }
    }
    let fault = {
        let mut state = state.lock().ok()?;
        let at = state.faults.iter().position(|(word, _)| target.contains(word));
        at.and_then(|at| state.faults.remove(at)).map(|(_, fault)| fault)
    };
    if let Some(Fault::Status(status)) = fault {
        if !expects {
            std::io::copy(&mut stream.take(length as u64), &mut std::io::sink()).ok()?;
        }
        answer(stream, status, br#"{"message": "The drummer is late."}"#, None)?;
        return (!expects).then_some(());
    }
    if expects {
        let mut stream = stream;
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    if let Some(Fault::CutRequest(len)) = fault {
        std::io::copy(&mut stream.take(len as u64), &mut std::io::sink()).ok()?;
        stream.shutdown(std::net::Shutdown::Both).ok()?;
        return None;
    }
    let mut body = vec![0; length];
    let mut stream_in = stream;
    stream_in.read_exact(&mut body).ok()?;
    let mut state = state.lock().ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    state.requests.push((method.clone(), path.to_owned(), body.len()));
    if !query.is_empty() {
        state.queries.push(query.to_owned());
    }
    // Tokens overlap: an answer with a new one may be lost.
    let before = format!("Bearer token-{}", state.tokens.saturating_sub(1));
    let is_good = |token: &String| authorization == format!("Bearer {token}") || authorization == before;
    let (status, body) = if state.token.as_ref().is_some_and(|token| !is_good(token)) {
        (401, br#"{"message": "The token has expired."}"#.to_vec())
    } else {
        react(&mut state, &method, path.rsplit_once("/auxin")?.1, &media_type, &body)
    };
    drop(state);
    match fault {
        Some(Fault::CutAnswer(len)) => answer(stream, status, &body, Some(len)),
        Some(Fault::LoseAnswer) => {
            stream.shutdown(std::net::Shutdown::Both).ok()?;
            None
        }
        _ => answer(stream, status, &body, None),
    }
}

fn react(state: &mut State, method: &str, path: &str, media_type: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let refuse = |status, sentence: &str| (status, format!("{{\"message\": {sentence:?}}}").into_bytes());
    let words: Vec<&str> = path.split('/').skip(1).collect();
    match (method, words.as_slice()) {
        ("POST", ["token"]) => {
            state.tokens += 1;
            let token = format!("token-{}", state.tokens);
            if state.token.is_some() {
                state.token = Some(token.clone());
            }
            (
                200,
                format!("{{\"token\": \"{token}\", \"expires_in\": {}}}", state.token_secs).into_bytes(),
            )
        }
        ("POST", ["missing"]) => {
            let (ids, _) = body.as_chunks::<32>();
            let mut bits = vec![0; ids.len().div_ceil(8)];
            if state.forgets > 0 {
                state.forgets -= 1;
                return (200, bits);
            }
            for (number, id) in ids.iter().enumerate() {
                bits[number / 8] |= u8::from(!state.chunks.contains_key(id)) << (number % 8);
            }
            (200, bits)
        }
        ("PUT", ["packs", name]) => {
            if ChunkId::of(body).to_string() != *name {
                return refuse(422, "These are not the bytes of the name.");
            }
            take_pack(state, body);
            (200, b"{}".to_vec())
        }
        ("POST", ["objects", oid]) => {
            let recipe = match media_type {
                "application/vnd.auxin.chunk-pack" => take_pack(state, body).expect("a recipe in the pack"),
                _ => body.to_vec(),
            };
            let recipe = Recipe::parse(&recipe).expect("a recipe");
            assert_eq!(recipe.oid.to_string(), *oid);
            let missing = recipe
                .chunks
                .iter()
                .filter(|(id, _)| !state.chunks.contains_key(id.as_bytes()))
                .count();
            if missing > 0 {
                return (
                    409,
                    format!("{{\"message\": \"chunks are missing\", \"missing\": {missing}}}").into_bytes(),
                );
            }
            let bytes: Vec<u8> = recipe
                .chunks
                .iter()
                .flat_map(|(id, _)| state.chunks[id.as_bytes()].clone())
                .collect();
            if ChunkId::of(&bytes).as_bytes() != recipe.oid.as_bytes() {
                return refuse(422, "The recipe does not make this object.");
            }
            state.objects.insert((*oid).to_owned(), recipe);
            proof(state)
        }
        ("GET", ["objects", oid, "proof"]) if state.objects.contains_key(*oid) => proof(state),
        ("GET", ["objects", oid, "recipe"]) => match state.objects.get(*oid) {
            Some(recipe) => (200, recipe.to_bytes()),
            None => refuse(404, "There is no such object."),
        },
        ("POST", ["objects", oid, "chunks"]) => {
            let Some(recipe) = state.objects.get(*oid).cloned() else {
                return refuse(404, "There is no such object.");
            };
            let mut frames = Vec::new();
            let (mut encoder, mut payload) = (Encoder::default(), Vec::new());
            for run in body.as_chunks::<8>().0 {
                let number = |at: usize| u32::from_le_bytes(run[at..at + 4].try_into().expect("4 bytes")) as usize;
                for (id, raw_bytes) in &recipe.chunks[number(0)..number(0) + number(4)] {
                    let codec = encoder.encode(&state.chunks[id.as_bytes()], None, &mut payload);
                    frames.push(codec.tag());
                    frames.extend((payload.len() as u32).to_le_bytes());
                    frames.extend(raw_bytes.to_le_bytes());
                    frames.extend(&payload);
                    state.served_chunks += 1;
                }
            }
            (200, frames)
        }
        _ => refuse(404, "There is nothing."),
    }
}

fn proof(state: &mut State) -> (u16, Vec<u8>) {
    if state.proving == 0 {
        return (200, br#"{"state": "proven"}"#.to_vec());
    }
    state.proving -= 1;
    let proven = 1000 * (100 - state.proving.min(100));
    (
        202,
        format!("{{\"state\": \"proving\", \"proven_bytes\": {proven}}}").into_bytes(),
    )
}

/// Keeps the chunks of a pack, each checked; gives the recipe that is among them.
fn take_pack(state: &mut State, pack: &[u8]) -> Option<Vec<u8>> {
    let last = &pack[pack.len() - pack::TRAILER_BYTES..];
    let trailer = Trailer::parse(last, pack.len() as u64).expect("a pack");
    let index = &pack[trailer.index_offset as usize..][..trailer.index_bytes];
    let mut recipe = None;
    let (mut decoder, mut raw) = (Decoder::default(), Vec::new());
    for row in pack::parse_index(index, &trailer).expect("an index") {
        let payload = &pack[row.offset as usize..][..row.stored_bytes as usize];
        if row.kind == Kind::Recipe {
            assert_eq!(row.codec, Codec::Raw);
            recipe = Some(payload.to_vec());
            continue;
        }
        decoder
            .decode(row.codec, payload, row.raw_bytes as usize, &mut raw)
            .expect("it decodes");
        assert_eq!(ChunkId::of(&raw).as_bytes(), &row.name);
        state.chunks.insert(row.name, raw.clone());
    }
    recipe
}
