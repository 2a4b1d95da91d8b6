//! Commits and annotated tags: their header lines.

use bstr::ByteSlice;
use gix::ObjectId;

use super::{Checker, Message, Refused};

/// A date beyond what 64 bits of signed seconds hold overflows somewhere.
const DATE_MAX: u64 = i64::MAX as u64;

/// Most digits of a date that are read, as git reads them.
const DATE_MAX_DIGITS: usize = 23;

/// Checks that the header lines end as they should: at an empty line, or with the object.
fn check_headers_end(checker: &mut Checker, id: &ObjectId, data: &[u8]) -> Result<(), Refused> {
    for (at, &byte) in data.iter().enumerate() {
        match byte {
            0 => {
                let text = format!("unterminated header: NUL at offset {at}");
                return checker.report(id, Message::NulInHeader, &text);
            }
            b'\n' if data.get(at + 1) == Some(&b'\n') => return Ok(()),
            _ => {}
        }
    }
    if data.last() == Some(&b'\n') {
        return Ok(());
    }
    checker.report(id, Message::UnterminatedHeader, "unterminated header")
}

/// Takes a line that begins with `word` off `rest`, without its line feed.
///
/// Headers end in a line feed: [`check_headers_end`] comes first and cannot be silenced.
fn take_line<'a>(rest: &mut &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let after = rest.strip_prefix(word)?;
    let end = after.find_byte(b'\n')?;
    *rest = &after[end + 1..];
    Some(&after[..end])
}

/// Whether a line is just an id.
fn is_id(line: &[u8], id_len: usize) -> bool {
    line.len() == 2 * id_len && line.iter().all(u8::is_ascii_hexdigit)
}

/// Checks one commit.
pub(super) fn check_commit(checker: &mut Checker, id: &ObjectId, data: &[u8]) -> Result<(), Refused> {
    check_headers_end(checker, id, data)?;
    let id_len = id.as_slice().len();
    let mut rest = data;
    let Some(tree) = take_line(&mut rest, b"tree ") else {
        return checker.report(id, Message::MissingTree, "invalid format - expected 'tree' line");
    };
    if !is_id(tree, id_len) {
        checker.report(id, Message::BadTreeSha1, "invalid 'tree' line format - bad sha1")?;
    }
    while let Some(parent) = take_line(&mut rest, b"parent ") {
        if !is_id(parent, id_len) {
            checker.report(id, Message::BadParentSha1, "invalid 'parent' line format - bad sha1")?;
        }
    }
    let mut authors = 0;
    while let Some(author) = take_line(&mut rest, b"author ") {
        authors += 1;
        check_person(checker, id, author)?;
    }
    if authors < 1 {
        checker.report(id, Message::MissingAuthor, "invalid format - expected 'author' line")?;
    } else if authors > 1 {
        checker.report(id, Message::MultipleAuthors, "invalid format - multiple 'author' lines")?;
    }
    let Some(committer) = take_line(&mut rest, b"committer ") else {
        return checker.report(
            id,
            Message::MissingCommitter,
            "invalid format - expected 'committer' line",
        );
    };
    check_person(checker, id, committer)?;
    if data.contains(&0) {
        checker.report(id, Message::NulInCommit, "NUL byte in the commit object body")?;
    }
    Ok(())
}

/// Checks one annotated tag.
pub(super) fn check_tag(checker: &mut Checker, id: &ObjectId, data: &[u8]) -> Result<(), Refused> {
    check_headers_end(checker, id, data)?;
    let mut rest = data;
    let Some(object) = take_line(&mut rest, b"object ") else {
        return checker.report(id, Message::MissingObject, "invalid format - expected 'object' line");
    };
    if !is_id(object, id.as_slice().len()) {
        checker.report(id, Message::BadObjectSha1, "invalid 'object' line format - bad sha1")?;
    }
    if !rest.starts_with(b"type ") {
        return checker.report(id, Message::MissingTypeEntry, "invalid format - expected 'type' line");
    }
    let Some(kind) = take_line(&mut rest, b"type ") else {
        return checker.report(
            id,
            Message::MissingType,
            "invalid format - unexpected end after 'type' line",
        );
    };
    if !matches!(kind, b"commit" | b"tree" | b"blob" | b"tag") {
        checker.report(id, Message::BadType, "invalid 'type' value")?;
    }
    if !rest.starts_with(b"tag ") {
        return checker.report(id, Message::MissingTagEntry, "invalid format - expected 'tag' line");
    }
    let Some(name) = take_line(&mut rest, b"tag ") else {
        return checker.report(
            id,
            Message::MissingTag,
            "invalid format - unexpected end after 'type' line",
        );
    };
    let full_name = [b"refs/tags/", name].concat();
    if gix::validate::reference::name(full_name.as_bstr()).is_err() {
        let text = format!("invalid 'tag' name: {}", name.as_bstr());
        checker.report(id, Message::BadTagName, &text)?;
    }
    match take_line(&mut rest, b"tagger ") {
        Some(tagger) => check_person(checker, id, tagger)?,
        None => checker.report(
            id,
            Message::MissingTaggerEntry,
            "invalid format - expected 'tagger' line",
        )?,
    }
    if rest.starts_with(b"gpgsig ") || rest.starts_with(b"gpgsig-sha256 ") {
        if take_line(&mut rest, b"gpgsig").is_none() {
            let text = "invalid format - unexpected end after 'gpgsig' or 'gpgsig-sha256' line";
            return checker.report(id, Message::BadGpgsig, text);
        }
        while rest.starts_with(b" ") {
            if take_line(&mut rest, b" ").is_none() {
                let text = "invalid format - unexpected end in 'gpgsig' or 'gpgsig-sha256' continuation line";
                return checker.report(id, Message::BadHeaderContinuation, text);
            }
        }
    }
    if !rest.is_empty() && !rest.starts_with(b"\n") {
        checker.report(
            id,
            Message::ExtraHeaderEntry,
            "invalid format - extra header(s) after 'tagger'",
        )?;
    }
    Ok(())
}

/// Checks `Name <mail> seconds +zone`.
fn check_person(checker: &mut Checker, id: &ObjectId, line: &[u8]) -> Result<(), Refused> {
    match person_problem(line) {
        Some((message, text)) => checker.report(id, message, &format!("invalid author/committer line - {text}")),
        None => Ok(()),
    }
}

fn person_problem(line: &[u8]) -> Option<(Message, &'static str)> {
    if line.first() == Some(&b'<') {
        return Some((Message::MissingNameBeforeEmail, "missing space before email"));
    }
    let Some(mark) = line.find_byteset(b"<>") else {
        return Some((Message::MissingEmail, "missing email"));
    };
    if line[mark] == b'>' {
        return Some((Message::BadName, "bad name"));
    }
    if line[mark - 1] != b' ' {
        return Some((Message::MissingSpaceBeforeEmail, "missing space before email"));
    }
    let mail = &line[mark + 1..];
    let end = match mail.find_byteset(b"<>") {
        Some(end) if mail[end] == b'>' => end,
        _ => return Some((Message::BadEmail, "bad email")),
    };
    let Some(date) = mail[end + 1..].strip_prefix(b" ") else {
        return Some((Message::MissingSpaceBeforeDate, "missing space before date"));
    };
    let date = date.trim_start_with(|c| c == ' ' || c == '\t');
    let digits = date.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return Some((Message::BadDate, "bad date"));
    }
    if date[0] == b'0' && date.get(1) != Some(&b' ') {
        return Some((Message::ZeroPaddedDate, "zero-padded date"));
    }
    let seconds = date[..digits].to_str().ok().filter(|_| digits <= DATE_MAX_DIGITS);
    if seconds
        .and_then(|text| text.parse().ok())
        .is_none_or(|seconds: u64| seconds > DATE_MAX)
    {
        return Some((Message::BadDateOverflow, "date causes integer overflow"));
    }
    let Some(zone) = date[digits..].strip_prefix(b" ") else {
        return Some((Message::BadDate, "bad date"));
    };
    let is_zone = zone.len() == 5 && matches!(zone[0], b'+' | b'-') && zone[1..].iter().all(u8::is_ascii_digit);
    if is_zone {
        None
    } else {
        Some((Message::BadTimezone, "bad time zone"))
    }
}
