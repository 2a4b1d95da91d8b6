//! HTTP by hand, for what no Git client would say.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine;

/// No answer of the server may take longer than this.
const ANSWER_DEADLINE: Duration = Duration::from_secs(120);

/// A request to be sent over a connection of its own.
#[derive(Clone)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Body,
}

#[derive(Clone)]
enum Body {
    None,
    Length(Vec<u8>),
    Chunked(Vec<u8>, usize),
}

impl Request {
    /// `GET` of a path with its query.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// `POST` of a body with its length in front.
    pub fn post(target: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let mut request = Self::new("POST", target).header("Content-Type", content_type);
        request.body = Body::Length(body.into());
        request
    }

    /// A request of a program: any method, and JSON.
    pub fn json(method: &str, target: &str, body: &serde_json::Value) -> Self {
        let mut request = Self::post(target, "application/json", body.to_string());
        request.method = method.to_owned();
        request
    }

    /// Any method.
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Body::None,
        }
    }

    /// What a fetching client asks first. `version` is 0, 1 or 2.
    pub fn upload_refs(address: &str, version: u8) -> Self {
        Self::get(&format!("/{address}.git/info/refs?service=git-upload-pack")).protocol(version)
    }

    /// What a pushing client asks first.
    pub fn receive_refs(address: &str) -> Self {
        Self::get(&format!("/{address}.git/info/refs?service=git-receive-pack"))
    }

    /// A fetch.
    pub fn upload_pack(address: &str, version: u8, body: impl Into<Vec<u8>>) -> Self {
        Self::post(
            &format!("/{address}.git/git-upload-pack"),
            "application/x-git-upload-pack-request",
            body,
        )
        .protocol(version)
    }

    /// A push.
    pub fn receive_pack(address: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::post(
            &format!("/{address}.git/git-receive-pack"),
            "application/x-git-receive-pack-request",
            body,
        )
    }

    fn protocol(self, version: u8) -> Self {
        match version {
            0 => self,
            _ => self.header("Git-Protocol", &format!("version={version}")),
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Signs in with name and password.
    pub fn basic(self, user: &str, password: &str) -> Self {
        let coded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        self.header("Authorization", &format!("Basic {coded}"))
    }

    /// Signs in as this person.
    pub fn by(self, person: &super::Person) -> Self {
        if person.name.is_empty() {
            return self;
        }
        self.basic(&person.name, &person.password)
    }

    /// Sends the body in pieces of `piece` bytes, without its length.
    pub fn chunked(mut self, piece: usize) -> Self {
        if let Body::Length(bytes) = self.body {
            self.body = Body::Chunked(bytes, piece);
        }
        self
    }

    /// Compresses the body as git does.
    pub fn gzip(self) -> Self {
        self.gzip_as("gzip")
    }

    /// Compresses the body and calls it `coding`.
    pub fn gzip_as(mut self, coding: &str) -> Self {
        let bytes = match &mut self.body {
            Body::Length(bytes) | Body::Chunked(bytes, _) => bytes,
            Body::None => return self,
        };
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).expect("writing to memory");
        *bytes = encoder.finish().expect("writing to memory");
        self.header("Content-Encoding", coding)
    }

    fn head(&self, host: &str) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {host}\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match &self.body {
            Body::None => {}
            Body::Length(bytes) => head.push_str(&format!("Content-Length: {}\r\n", bytes.len())),
            Body::Chunked(..) => head.push_str("Transfer-Encoding: chunked\r\n"),
        }
        head.push_str("Connection: close\r\n\r\n");
        head
    }

    /// Sends the request to `url` (`http://HOST:PORT`) and reads the whole answer.
    #[track_caller]
    pub fn send(self, url: &str) -> Answer {
        let host = url.strip_prefix("http://").expect("a plain HTTP address");
        let stream = connect(host);
        let mut writer = stream.try_clone().expect("a socket can be cloned");
        std::thread::scope(|scope| {
            // The server may answer before it has read all; so write and read at once.
            scope.spawn(move || {
                let mut send = || -> std::io::Result<()> {
                    writer.write_all(self.head(host).as_bytes())?;
                    match &self.body {
                        Body::None => {}
                        Body::Length(bytes) => writer.write_all(bytes)?,
                        Body::Chunked(bytes, piece) => {
                            for part in bytes.chunks((*piece).max(1)) {
                                write!(writer, "{:x}\r\n", part.len())?;
                                writer.write_all(part)?;
                                writer.write_all(b"\r\n")?;
                            }
                            writer.write_all(b"0\r\n\r\n")?;
                        }
                    }
                    writer.flush()
                };
                drop(send());
            });
            read_answer(stream)
        })
    }

    /// Opens a connection, sends the head (and whatever is there of the body) and keeps it open.
    pub fn open(self, url: &str) -> TcpStream {
        let host = url.strip_prefix("http://").expect("a plain HTTP address");
        let mut stream = connect(host);
        stream.write_all(self.head(host).as_bytes()).expect("the server reads");
        if let Body::Length(bytes) = &self.body {
            drop(stream.write_all(bytes));
        }
        stream
    }
}

/// A connection to `host` (`HOST:PORT`) with a deadline on reading.
pub fn connect(host: &str) -> TcpStream {
    let stream = TcpStream::connect(host).expect("the server accepts connections");
    stream
        .set_read_timeout(Some(ANSWER_DEADLINE))
        .expect("a deadline can be set");
    stream.set_nodelay(true).expect("a socket option");
    stream
}

/// What the server answered.
#[derive(Clone)]
pub struct Answer {
    /// Status code; 0 if the server closed the connection without an answer.
    pub status: u16,
    /// Headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
    /// Whether the body came to its regular end.
    pub complete: bool,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = &self.body[..self.body.len().min(2000)];
        write!(
            f,
            "{} {:?}\n{} ({} bytes, complete: {})",
            self.status,
            self.headers,
            String::from_utf8_lossy(shown),
            self.body.len(),
            self.complete
        )
    }
}

impl Answer {
    /// The first header of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Fails the test unless the status is this.
    #[track_caller]
    pub fn assert_status(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

/// Reads one answer, to its end or to where the server closed the connection.
pub fn read_answer(stream: impl Read) -> Answer {
    let mut reader = BufReader::new(stream);
    let mut answer = Answer {
        status: 0,
        headers: Vec::new(),
        body: Vec::new(),
        complete: false,
    };
    loop {
        let Some(line) = read_line(&mut reader) else {
            return answer;
        };
        answer.status = line
            .split_whitespace()
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or(0);
        answer.headers.clear();
        loop {
            match read_line(&mut reader) {
                None => return answer,
                Some(line) if line.is_empty() => break,
                Some(line) => {
                    if let Some((name, value)) = line.split_once(':') {
                        answer
                            .headers
                            .push((name.to_ascii_lowercase(), value.trim().to_owned()));
                    }
                }
            }
        }
        if answer.status / 100 != 1 {
            break;
        }
    }
    let length = answer.header("content-length").map(str::to_owned);
    if answer
        .header("transfer-encoding")
        .is_some_and(|coding| coding.contains("chunked"))
    {
        answer.complete = read_chunks(&mut reader, &mut answer.body);
    } else if let Some(length) = length.and_then(|length| length.parse::<u64>().ok()) {
        let read = reader.take(length).read_to_end(&mut answer.body);
        answer.complete = read.is_ok() && answer.body.len() as u64 == length;
    } else {
        answer.complete = reader.read_to_end(&mut answer.body).is_ok();
    }
    answer
}

fn read_line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    match reader.read_until(b'\n', &mut line) {
        Ok(count) if count > 0 => Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned()),
        _ => None,
    }
}

fn read_chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> bool {
    loop {
        let Some(size) = read_line(reader).and_then(|line| u64::from_str_radix(&line, 16).ok()) else {
            return false;
        };
        let before = body.len() as u64;
        if reader.take(size).read_to_end(body).is_err() || body.len() as u64 != before + size {
            return false;
        }
        if read_line(reader).is_none() {
            return false;
        }
        if size == 0 {
            return true;
        }
    }
}
