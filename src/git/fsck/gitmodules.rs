//! `.gitmodules`: what a clone with submodules would obey.
//!
//! The parser follows git's own, quirk by quirk: where the two differ, a client would read something
//! that was never checked.

use bstr::ByteSlice;
use gix::ObjectId;
use percent_encoding::percent_decode;

use super::{Checker, Message, Refused};

/// Checks one `.gitmodules`.
pub(super) fn check(checker: &mut Checker, id: &ObjectId, content: &[u8]) -> Result<(), Refused> {
    let mut result = Ok(());
    let parsed = parse(content, &mut |key, value| {
        let checked = check_value(checker, id, key, value);
        result = std::mem::replace(&mut result, Ok(())).and(checked);
    });
    if parsed.is_err() {
        let reported = checker.report(id, Message::GitmodulesParse, "could not parse gitmodules blob");
        result = result.and(reported);
    }
    result
}

/// Checks one setting; `key` is `section.subsection.name`, `value` what follows the equals sign.
fn check_value(checker: &mut Checker, id: &ObjectId, key: &[u8], value: Option<&[u8]>) -> Result<(), Refused> {
    let (key, value) = (until_nul(key), value.map(until_nul));
    let Some(rest) = key.strip_prefix(b"submodule.") else {
        return Ok(());
    };
    let Some(dot) = rest.rfind_byte(b'.') else {
        return Ok(());
    };
    let (name, key) = (&rest[..dot], &rest[dot + 1..]);
    let mut result = Ok(());
    if !is_name_allowed(name) {
        let text = format!("disallowed submodule name: {}", name.as_bstr());
        let reported = checker.report(id, Message::GitmodulesName, &text);
        result = result.and(reported);
    }
    let Some(value) = value else { return result };
    let refused = match key {
        b"url" if !is_url_allowed(value) => Some((Message::GitmodulesUrl, "disallowed submodule url")),
        b"path" if value.starts_with(b"-") => Some((Message::GitmodulesPath, "disallowed submodule path")),
        b"update" if value.starts_with(b"!") => {
            Some((Message::GitmodulesUpdate, "disallowed submodule update setting"))
        }
        _ => None,
    };
    if let Some((message, text)) = refused {
        let reported = checker.report(id, message, &format!("{text}: {}", value.as_bstr()));
        result = result.and(reported);
    }
    result
}

/// C strings end here.
fn until_nul(text: &[u8]) -> &[u8] {
    text.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// A submodule's name becomes a folder below `.git/modules`: it must not lead out of it.
fn is_name_allowed(name: &[u8]) -> bool {
    !name.is_empty()
        && name
            .split(|byte| matches!(byte, b'/' | b'\\'))
            .all(|part| part != b"..")
}

/// Whether git passes this URL: no option in disguise, no line feed that splits a credential
/// request, no way out of the URL it is relative to.
fn is_url_allowed(url: &[u8]) -> bool {
    if url.starts_with(b"-") {
        return false;
    }
    let is_separator = |byte: Option<&u8>| matches!(byte, Some(b'/' | b'\\'));
    let is_relative = url.first() == Some(&b'.')
        && (is_separator(url.get(1)) || (url.get(1) == Some(&b'.') && is_separator(url.get(2))));
    if is_relative || url.starts_with(b"git://") {
        if has_encoded_line_feed(url) {
            return false;
        }
        let (mut rest, mut levels) = (url, 0);
        loop {
            if rest.starts_with(b"..") && is_separator(rest.get(2)) {
                levels += 1;
                rest = &rest[3..];
            } else if rest.first() == Some(&b'.') && is_separator(rest.get(1)) {
                rest = &rest[2..];
            } else {
                break;
            }
        }
        return levels == 0 || !matches!(rest.first(), Some(b':' | b'/'));
    }
    for scheme in ["http", "https", "ftp", "ftps"] {
        let Some(after) = url.strip_prefix(scheme.as_bytes()) else {
            continue;
        };
        if let Some(inner) = after.strip_prefix(b"::") {
            return is_web_url(inner);
        }
        if after.starts_with(b"://") {
            return is_web_url(url);
        }
    }
    true
}

fn has_encoded_line_feed(url: &[u8]) -> bool {
    percent_decode(url).any(|byte| byte == b'\n')
}

/// Whether git can bring the URL into its normal form, and no line feed is hidden in it.
fn is_web_url(url: &[u8]) -> bool {
    is_normal(url).is_some() && !has_encoded_line_feed(url)
}

/// Walks through a URL as git's normalisation does; `None` where that fails.
fn is_normal(url: &[u8]) -> Option<()> {
    let scheme = url
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || b"+.-".contains(byte))
        .count();
    if !url.first()?.is_ascii_alphabetic() {
        return None;
    }
    let is_file = url[..scheme].eq_ignore_ascii_case(b"file");
    let mut rest = url[scheme..].strip_prefix(b"://")?;
    let mut authority_len = rest.find_byteset(b"/?#").unwrap_or(rest.len());
    if let Some(at) = rest[..authority_len].find_byte(b'@') {
        has_whole_escapes(&rest[..at])?;
        rest = &rest[at + 1..];
        authority_len -= at + 1;
    }
    let authority = &rest[..authority_len];
    let has_host = !matches!(authority.first(), None | Some(b':'));
    if !has_host && !is_file {
        return None;
    }
    // An IPv6 address has colons, too, but only within brackets.
    let colon = authority.iter().rposition(|byte| matches!(byte, b':' | b']'));
    let colon = colon.filter(|&at| authority[at] == b':');
    let host = &authority[..colon.unwrap_or(authority_len)];
    if !host
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b".-_[:]".contains(byte))
    {
        return None;
    }
    if let Some(colon) = colon {
        let port = &authority[colon + 1..];
        if !has_host && !port.is_empty() {
            return None;
        }
        is_port(port)?;
    }
    is_path(&rest[authority_len..])
}

/// Whether this is a port number, or nothing.
fn is_port(port: &[u8]) -> Option<()> {
    if port.is_empty() {
        return Some(());
    }
    if !port.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = port.trim_start_with(|c| c == '0');
    let number: u32 = digits.to_str().ok().filter(|text| text.len() <= 5)?.parse().ok()?;
    (1..=65_535).contains(&number).then_some(())
}

/// Whether the path stays below its root and all escapes in it and after it are whole.
fn is_path(rest: &[u8]) -> Option<()> {
    let path_len = rest.find_byteset(b"?#").unwrap_or(rest.len());
    let path = rest[..path_len].strip_prefix(b"/").unwrap_or(&rest[..path_len]);
    let mut depth = 0usize;
    let mut segments = path.split(|&byte| byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        has_whole_escapes(segment)?;
        let plain: Vec<u8> = percent_decode(segment).collect();
        match &plain[..] {
            b"." => {}
            b".." => depth = depth.checked_sub(1)?,
            // An empty segment at the very end is no level that a later `..` could take away.
            b"" if segments.peek().is_none() => {}
            _ => depth += 1,
        }
    }
    has_whole_escapes(&rest[path_len..])
}

/// Whether every `%` is followed by two hexadecimal digits.
fn has_whole_escapes(text: &[u8]) -> Option<()> {
    let mut rest = text;
    while let Some(at) = rest.find_byte(b'%') {
        let digits = rest.get(at + 1..at + 3)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        rest = &rest[at + 3..];
    }
    Some(())
}

/// Takes key and value of one setting; a key without an equals sign has no value.
type EachSetting<'a> = &'a mut dyn FnMut(&[u8], Option<&[u8]>);

/// The text is no git config from here on.
#[derive(Debug, PartialEq, Eq)]
struct BadSyntax;

/// Reads characters as git's config parser does: CR LF is a line feed, and so is the end.
struct Chars<'a> {
    rest: &'a [u8],
    is_at_end: bool,
}

impl Chars<'_> {
    fn next(&mut self) -> u8 {
        match self.rest {
            [b'\r', b'\n', rest @ ..] => {
                self.rest = rest;
                b'\n'
            }
            [byte, rest @ ..] => {
                self.rest = rest;
                *byte
            }
            [] => {
                self.is_at_end = true;
                b'\n'
            }
        }
    }
}

/// What C calls a space, for git: no vertical tab and no form feed.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn is_key_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

/// Calls `each` with key and value of every setting, up to the first syntax error.
fn parse(content: &[u8], each: EachSetting<'_>) -> Result<(), BadSyntax> {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let mut chars = Chars {
        rest: content,
        is_at_end: false,
    };
    let mut section = Vec::new();
    let mut is_comment = false;
    loop {
        let c = chars.next();
        if c == b'\n' {
            if chars.is_at_end {
                return Ok(());
            }
            is_comment = false;
        } else if is_comment || is_space(c) {
        } else if c == b'#' || c == b';' {
            is_comment = true;
        } else if c == b'[' {
            section = parse_section(&mut chars)?;
        } else if c.is_ascii_alphabetic() {
            parse_setting(&mut chars, &section, c, each)?;
        } else {
            return Err(BadSyntax);
        }
    }
}

/// `name]`, `name "sub"]` or the old `name.sub]`; the result ends in a dot.
fn parse_section(chars: &mut Chars<'_>) -> Result<Vec<u8>, BadSyntax> {
    let mut section = Vec::new();
    loop {
        let c = chars.next();
        if chars.is_at_end {
            return Err(BadSyntax);
        }
        if c == b']' {
            section.push(b'.');
            return Ok(section);
        }
        if is_space(c) {
            parse_subsection(chars, c, &mut section)?;
            section.push(b'.');
            return Ok(section);
        }
        if !is_key_char(c) && c != b'.' {
            return Err(BadSyntax);
        }
        section.push(c.to_ascii_lowercase());
    }
}

fn parse_subsection(chars: &mut Chars<'_>, mut c: u8, section: &mut Vec<u8>) -> Result<(), BadSyntax> {
    while is_space(c) {
        if c == b'\n' {
            return Err(BadSyntax);
        }
        c = chars.next();
    }
    if c != b'"' {
        return Err(BadSyntax);
    }
    section.push(b'.');
    loop {
        let mut c = chars.next();
        match c {
            b'\n' => return Err(BadSyntax),
            b'"' => break,
            b'\\' => {
                c = chars.next();
                if c == b'\n' {
                    return Err(BadSyntax);
                }
            }
            _ => {}
        }
        section.push(c);
    }
    if chars.next() == b']' { Ok(()) } else { Err(BadSyntax) }
}

fn parse_setting(chars: &mut Chars<'_>, section: &[u8], first: u8, each: EachSetting<'_>) -> Result<(), BadSyntax> {
    let mut key = section.to_vec();
    key.push(first.to_ascii_lowercase());
    let mut c;
    loop {
        c = chars.next();
        if chars.is_at_end || !is_key_char(c) {
            break;
        }
        key.push(c.to_ascii_lowercase());
    }
    while c == b' ' || c == b'\t' {
        c = chars.next();
    }
    match c {
        b'\n' => each(&key, None),
        b'=' => each(&key, Some(&parse_value(chars)?)),
        _ => return Err(BadSyntax),
    }
    Ok(())
}

fn parse_value(chars: &mut Chars<'_>) -> Result<Vec<u8>, BadSyntax> {
    let mut value = Vec::new();
    let (mut is_quoted, mut is_comment) = (false, false);
    // Where the blanks at the end begin, if there are any.
    let mut trimmed_len = 0;
    loop {
        let c = chars.next();
        if c == b'\n' {
            if is_quoted {
                return Err(BadSyntax);
            }
            if trimmed_len > 0 {
                value.truncate(trimmed_len);
            }
            return Ok(value);
        }
        if is_comment {
            continue;
        }
        if is_space(c) && !is_quoted {
            if trimmed_len == 0 {
                trimmed_len = value.len();
            }
            if !value.is_empty() {
                value.push(c);
            }
            continue;
        }
        if !is_quoted && (c == b';' || c == b'#') {
            is_comment = true;
            continue;
        }
        trimmed_len = 0;
        match c {
            b'\\' => match chars.next() {
                b'\n' => {}
                b't' => value.push(b'\t'),
                b'b' => value.push(8),
                b'n' => value.push(b'\n'),
                c @ (b'\\' | b'"') => value.push(c),
                _ => return Err(BadSyntax),
            },
            b'"' => is_quoted = !is_quoted,
            c => value.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(content: &str) -> (Vec<(String, Option<String>)>, bool) {
        let mut found = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let parsed = parse(content.as_bytes(), &mut |key, value| {
            found.push((text(key), value.map(text)))
        });
        (found, parsed.is_ok())
    }

    #[test]
    fn settings_are_read_as_git_reads_them() {
        let (found, is_whole) = settings(
            "\u{feff}# comment\r\n[Submodule \"A \\\"b\\\\\"]\r\n\tURL = \"../x ; y\" ; rest\n path=a\\\n b  \n\
             [submodule.Old]\nupdate\n[core] key = v # c\n",
        );

        assert!(is_whole);
        let expected = [
            ("submodule.A \"b\\.url", Some("../x ; y")),
            ("submodule.A \"b\\.path", Some("a b")),
            ("submodule.old.update", None),
            ("core.key", Some("v")),
        ];
        let found: Vec<_> = found
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_deref()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_comes_before_a_syntax_error_is_still_seen() {
        let (found, is_whole) = settings("[submodule \"a\"]\nurl = -x\n[broken\n");

        assert!(!is_whole);
        assert_eq!(found, [("submodule.a.url".to_owned(), Some("-x".to_owned()))]);
    }

    #[test]
    fn dangerous_urls_are_told_from_plain_ones() {
        for url in [
            "https://example.org/a.git",
            "http://user:pass@[::1]:8080/a",
            "../sibling.git",
            "./../../a",
            "git@host:path",
            "ssh://host/a%0ab",
            "https://example.org/a/../b",
            "git://host/a",
            "/local/path",
        ] {
            assert!(is_url_allowed(url.as_bytes()), "{url}");
        }
        for url in [
            "-u./payload",
            "https://host/a%0ahost=other",
            "http://one.example.com/x%0a",
            "git://host/a%0ab",
            "../../../../:localhost:8080/foo.git",
            "..//test/foo.git",
            "./../%0ahost=two",
            "https:///example.com/a.git",
            "http::https:///a",
            "https::example.com/a.git",
            "http://host:99999/",
            "http://ho st/",
            "https://host/../a",
            "https://host/%zz",
        ] {
            assert!(!is_url_allowed(url.as_bytes()), "{url}");
        }
    }

    #[test]
    fn names_that_lead_out_of_the_modules_folder_are_refused() {
        for name in ["", "..", "../a", "a/..", "a/../b", "a\\..\\b"] {
            assert!(!is_name_allowed(name.as_bytes()), "{name}");
        }
        for name in ["a", "a/b", "..a", "a..", "a/..b"] {
            assert!(is_name_allowed(name.as_bytes()), "{name}");
        }
    }
}
