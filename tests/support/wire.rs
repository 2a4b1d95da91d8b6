//! The wire protocol by hand: pkt-lines, requests, and answers taken apart.

/// Forty zeros: "no object".
pub const NO_OBJECT: &str = "0000000000000000000000000000000000000000";

/// One pkt-line as it lies on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pkt {
    /// `0000`
    Flush,
    /// `0001`
    Delim,
    /// `0002`
    ResponseEnd,
    /// A line or a piece of data.
    Data(Vec<u8>),
}

impl Pkt {
    /// The text of a data line without its line end; empty for the others.
    pub fn text(&self) -> String {
        match self {
            Self::Data(data) => String::from_utf8_lossy(data).trim_end_matches('\n').to_owned(),
            _ => String::new(),
        }
    }
}

/// Writes one line as a pkt-line, with a line end.
pub fn line(text: &str) -> Vec<u8> {
    data(format!("{text}\n").as_bytes())
}

/// Writes bytes as one pkt-line.
pub fn data(bytes: &[u8]) -> Vec<u8> {
    let mut pkt = format!("{:04x}", bytes.len() + 4).into_bytes();
    pkt.extend_from_slice(bytes);
    pkt
}

/// Takes pkt-lines apart. `Err` tells what is wrong, and where.
pub fn parse(mut bytes: &[u8]) -> Result<Vec<Pkt>, String> {
    let mut found = Vec::new();
    let whole = bytes.len();
    while !bytes.is_empty() {
        let (pkt, rest) = next(bytes).map_err(|error| format!("{error} at byte {}", whole - bytes.len()))?;
        found.push(pkt);
        bytes = rest;
    }
    Ok(found)
}

/// Takes one pkt-line off the front.
pub fn next(bytes: &[u8]) -> Result<(Pkt, &[u8]), String> {
    let digits = bytes.get(..4).ok_or("a length is cut off")?;
    let digits = std::str::from_utf8(digits).map_err(|_| "a length is no number")?;
    let length = usize::from_str_radix(digits, 16).map_err(|_| format!("length {digits:?} is no number"))?;
    let pkt = match length {
        0 => Pkt::Flush,
        1 => Pkt::Delim,
        2 => Pkt::ResponseEnd,
        3 => return Err("length 3 is not allowed".into()),
        _ => Pkt::Data(
            bytes
                .get(4..length)
                .ok_or_else(|| format!("a line of {length} bytes is cut off"))?
                .to_vec(),
        ),
    };
    Ok((pkt, &bytes[length.max(4)..]))
}

/// A request of protocol v2.
#[derive(Clone, Default)]
pub struct V2 {
    command: String,
    capabilities: Vec<String>,
    arguments: Vec<String>,
}

impl V2 {
    /// `fetch`
    pub fn fetch() -> Self {
        Self::command("fetch")
    }

    /// `ls-refs`
    pub fn ls_refs() -> Self {
        Self::command("ls-refs")
    }

    /// Any command.
    pub fn command(name: &str) -> Self {
        Self {
            command: name.to_owned(),
            capabilities: vec!["agent=tests".into(), "object-format=sha1".into()],
            arguments: Vec::new(),
        }
    }

    /// Says another object format than SHA-1.
    pub fn object_format(mut self, format: &str) -> Self {
        self.capabilities.retain(|line| !line.starts_with("object-format="));
        self.capability(&format!("object-format={format}"))
    }

    /// Adds a capability line.
    pub fn capability(mut self, text: &str) -> Self {
        self.capabilities.push(text.to_owned());
        self
    }

    /// Adds an argument line.
    pub fn arg(mut self, text: impl Into<String>) -> Self {
        self.arguments.push(text.into());
        self
    }

    /// Adds one argument line for each id, such as `want <id>`.
    pub fn args<'a>(mut self, word: &str, ids: impl IntoIterator<Item = &'a String>) -> Self {
        for id in ids {
            self.arguments.push(format!("{word} {id}"));
        }
        self
    }

    /// The request as it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = line(&format!("command={}", self.command));
        for capability in &self.capabilities {
            bytes.extend(line(capability));
        }
        bytes.extend(b"0001");
        for argument in &self.arguments {
            bytes.extend(line(argument));
        }
        bytes.extend(b"0000");
        bytes
    }
}

/// A fetch of protocol v0 or v1.
#[derive(Clone, Default)]
pub struct V0 {
    /// Capabilities behind the first `want`.
    pub capabilities: String,
    /// Wanted ids.
    pub wants: Vec<String>,
    /// The client's boundary.
    pub shallows: Vec<String>,
    /// `deepen 3` and the like.
    pub deepen: Vec<String>,
    /// `filter blob:none`
    pub filter: Option<String>,
    /// What the client has.
    pub haves: Vec<String>,
    /// Whether it ends with `done`.
    pub done: bool,
}

impl V0 {
    /// The request as it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (number, want) in self.wants.iter().enumerate() {
            if number == 0 {
                bytes.extend(line(&format!("want {want} {}", self.capabilities)));
            } else {
                bytes.extend(line(&format!("want {want}")));
            }
        }
        for shallow in &self.shallows {
            bytes.extend(line(&format!("shallow {shallow}")));
        }
        for deepen in &self.deepen {
            bytes.extend(line(deepen));
        }
        if let Some(filter) = &self.filter {
            bytes.extend(line(&format!("filter {filter}")));
        }
        bytes.extend(b"0000");
        for have in &self.haves {
            bytes.extend(line(&format!("have {have}")));
        }
        if self.done {
            bytes.extend(line("done"));
        } else if !self.haves.is_empty() {
            bytes.extend(b"0000");
        }
        bytes
    }
}

/// A fetch answer taken apart, of any protocol version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchAnswer {
    /// ACK and NAK lines in order.
    pub acknowledgments: Vec<String>,
    /// `shallow` and `unshallow` lines, sorted, each once.
    pub shallow: Vec<String>,
    /// `wanted-refs` lines, sorted.
    pub wanted_refs: Vec<String>,
    /// The pack, if one came.
    pub pack: Option<Vec<u8>>,
    /// What was said on band 2.
    pub progress: Vec<u8>,
    /// A refusal: band 3 or an `ERR` line.
    pub error: Option<String>,
}

/// Takes the answer to a v2 `fetch` apart.
pub fn parse_v2_fetch(body: &[u8]) -> Result<FetchAnswer, String> {
    let mut answer = FetchAnswer::default();
    let mut section = String::new();
    for pkt in parse(body)? {
        match pkt {
            Pkt::Flush | Pkt::Delim => section.clear(),
            Pkt::ResponseEnd => return Err("a response-end packet over HTTP".into()),
            Pkt::Data(bytes) => {
                let text = Pkt::Data(bytes.clone()).text();
                if let Some(error) = text.strip_prefix("ERR ") {
                    answer.error = Some(error.to_owned());
                } else if section.is_empty() {
                    section = text;
                } else {
                    match section.as_str() {
                        "acknowledgments" => answer.acknowledgments.push(text),
                        "shallow-info" => answer.shallow.push(text),
                        "wanted-refs" => answer.wanted_refs.push(text),
                        "packfile" => answer.band(&bytes)?,
                        other => return Err(format!("unknown section {other:?}")),
                    }
                }
            }
        }
    }
    answer.shallow.sort();
    answer.shallow.dedup();
    answer.wanted_refs.sort();
    Ok(answer)
}

/// The same with `sideband-all`: before the pack, every line is on band 1, and progress may come at any time.
pub fn parse_v2_fetch_on_bands(body: &[u8]) -> Result<FetchAnswer, String> {
    let mut plain = Vec::new();
    let mut is_pack = false;
    for pkt in parse(body)? {
        match pkt {
            Pkt::Flush => plain.extend(b"0000"),
            Pkt::Delim => plain.extend(b"0001"),
            Pkt::ResponseEnd => plain.extend(b"0002"),
            Pkt::Data(bytes) => match (is_pack, bytes.split_first()) {
                (false, Some((1, text))) => {
                    is_pack = text == b"packfile\n";
                    plain.extend(data(text));
                }
                (false, Some((2, _))) => {}
                (false, Some((3, text))) => plain.extend(data(&[b"ERR ", text].concat())),
                (false, _) if bytes.starts_with(b"ERR ") => plain.extend(data(&bytes)),
                (false, _) => return Err(format!("a line on no band: {:?}", String::from_utf8_lossy(&bytes))),
                (true, _) => plain.extend(data(&bytes)),
            },
        }
    }
    parse_v2_fetch(&plain)
}

/// Takes the answer to a v0 or v1 fetch apart; `side_band` tells how the pack comes.
pub fn parse_v0_fetch(body: &[u8], side_band: bool) -> Result<FetchAnswer, String> {
    let mut answer = FetchAnswer::default();
    let mut rest = body;
    while !rest.is_empty() {
        if rest.starts_with(b"PACK") && !side_band {
            answer.pack = Some(rest.to_vec());
            break;
        }
        let (pkt, after) = next(rest)?;
        rest = after;
        let text = pkt.text();
        match &pkt {
            Pkt::Data(_) if text.starts_with("ACK ") || text == "NAK" => {
                answer.acknowledgments.push(text);
            }
            Pkt::Data(_) if text.starts_with("shallow ") || text.starts_with("unshallow ") => {
                answer.shallow.push(text);
            }
            Pkt::Data(_) if text.starts_with("ERR ") => answer.error = Some(text[4..].to_owned()),
            Pkt::Data(bytes) if side_band => answer.band(bytes)?,
            Pkt::Data(_) => return Err(format!("unexpected line {text:?}")),
            _ => {}
        }
    }
    answer.shallow.sort();
    answer.shallow.dedup();
    Ok(answer)
}

impl FetchAnswer {
    fn band(&mut self, bytes: &[u8]) -> Result<(), String> {
        match bytes.split_first() {
            Some((1, data)) => {
                self.pack.get_or_insert_default().extend_from_slice(data);
                Ok(())
            }
            Some((2, data)) => {
                self.progress.extend_from_slice(data);
                Ok(())
            }
            Some((3, data)) => {
                self.error = Some(String::from_utf8_lossy(data).trim_end().to_owned());
                Ok(())
            }
            Some((band, _)) => Err(format!("band {band} does not exist")),
            None => Err("an empty line where a band is due".into()),
        }
    }
}

/// One command of a push.
pub fn command(old: &str, new: &str, name: &str) -> String {
    format!("{old} {new} {name}")
}

/// A push as it goes over the wire.
pub fn push(commands: &[String], capabilities: &str, options: &[&str], pack: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, text) in commands.iter().enumerate() {
        if number == 0 {
            bytes.extend(data(format!("{text}\0 {capabilities}").as_bytes()));
        } else {
            bytes.extend(data(text.as_bytes()));
        }
    }
    bytes.extend(b"0000");
    if capabilities.split(' ').any(|word| word == "push-options") {
        for option in options {
            bytes.extend(data(option.as_bytes()));
        }
        bytes.extend(b"0000");
    }
    bytes.extend_from_slice(pack);
    bytes
}

/// What the server reported of a push.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushReport {
    /// `ok` or the reason.
    pub unpack: String,
    /// `ok REF`, `ng REF REASON` and `option …` lines in order.
    pub refs: Vec<String>,
    /// What was said on band 2.
    pub messages: String,
    /// Band 3 or an `ERR` line.
    pub error: Option<String>,
}

/// Takes the answer to a push apart.
pub fn parse_push(body: &[u8], side_band: bool) -> Result<PushReport, String> {
    let mut report = PushReport::default();
    let mut inner = Vec::new();
    if side_band {
        for pkt in parse(body)? {
            let Pkt::Data(bytes) = pkt else { continue };
            match bytes.split_first() {
                Some((1, data)) => inner.extend_from_slice(data),
                Some((2, data)) => report.messages.push_str(&String::from_utf8_lossy(data)),
                Some((3, data)) => {
                    report.error = Some(String::from_utf8_lossy(data).trim_end().to_owned());
                }
                _ if bytes.starts_with(b"ERR ") => {
                    report.error = Some(String::from_utf8_lossy(&bytes[4..]).trim_end().to_owned());
                }
                _ => return Err(format!("no band: {bytes:?}")),
            }
        }
    } else {
        inner = body.to_vec();
    }
    for pkt in parse(&inner)? {
        let text = pkt.text();
        if let Some(reason) = text.strip_prefix("unpack ") {
            report.unpack = reason.to_owned();
        } else if let Some(error) = text.strip_prefix("ERR ") {
            report.error = Some(error.to_owned());
        } else if !text.is_empty() {
            report.refs.push(text);
        }
    }
    Ok(report)
}

/// The refs of an advertisement or of `ls-refs`, without capabilities: `(id, name, rest)`.
pub fn parse_refs(body: &[u8]) -> Result<Vec<(String, String, String)>, String> {
    let mut refs = Vec::new();
    for pkt in parse(body)? {
        let text = pkt.text();
        let text = text.split('\0').next().unwrap_or_default();
        if text.is_empty() || text.starts_with("# ") || text.starts_with("version ") {
            continue;
        }
        let mut words = text.splitn(3, ' ');
        let id = words.next().unwrap_or_default().to_owned();
        let name = words.next().unwrap_or_default().to_owned();
        refs.push((id, name, words.next().unwrap_or_default().to_owned()));
    }
    Ok(refs)
}

/// The capabilities of a v0 advertisement.
pub fn v0_capabilities(body: &[u8]) -> Vec<String> {
    for pkt in parse(body).unwrap_or_default() {
        if let Some((_, capabilities)) = pkt.text().split_once('\0') {
            return capabilities.split_whitespace().map(str::to_owned).collect();
        }
    }
    Vec::new()
}
