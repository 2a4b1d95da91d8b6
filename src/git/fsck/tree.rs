//! Trees: modes, order, duplicates and the path tricks.

use gix::ObjectId;

use super::names::{self, Dotfile};
use super::{Checker, Message, Refused};

/// The file type bits of a mode, and the types git knows.
const TYPE_BITS: u16 = 0o170_000;
const SYMLINK: u16 = 0o120_000;
const FOLDER: u16 = 0o040_000;
const SUBMODULE: u16 = 0o160_000;

/// What was found in a tree; each is reported once.
#[derive(Default)]
struct Found {
    null_sha1: bool,
    full_path: bool,
    dot: bool,
    dotdot: bool,
    dotgit: bool,
    zero_padded: bool,
    bad_mode: bool,
    duplicates: bool,
    unsorted: bool,
    large_name: bool,
}

/// One entry as it lies in the tree.
struct Entry<'a> {
    mode: u16,
    is_zero_padded: bool,
    name: &'a [u8],
    id: &'a [u8],
}

/// Takes the next entry off `data`; `None` if it cannot be parsed.
fn next_entry<'a>(data: &mut &'a [u8], id_len: usize) -> Option<Entry<'a>> {
    let mut mode = 0u32;
    let mut at = 0;
    loop {
        match data.get(at)? {
            b' ' if at > 0 => break,
            digit @ b'0'..=b'7' => mode = (mode << 3).wrapping_add(u32::from(digit - b'0')),
            _ => return None,
        }
        at += 1;
    }
    let rest = &data[at + 1..];
    let name_len = bstr::ByteSlice::find_byte(rest, 0)?;
    let id = rest.get(name_len + 1..name_len + 1 + id_len)?;
    let entry = Entry {
        // Git keeps 16 bits of a mode.
        mode: mode as u16,
        is_zero_padded: data[0] == b'0',
        name: &rest[..name_len],
        id,
    };
    *data = &rest[name_len + 1 + id_len..];
    (!entry.name.is_empty()).then_some(entry)
}

/// Checks one tree.
pub(super) fn check(checker: &mut Checker, id: &ObjectId, data: &[u8]) -> Result<(), Refused> {
    let id_len = id.as_slice().len();
    let mut found = Found::default();
    let mut rest = data;
    let mut is_parsed = true;
    let mut last: Option<Entry<'_>> = None;
    let mut candidates = Vec::new();
    let mut result = Ok(());
    while !rest.is_empty() {
        let Some(entry) = next_entry(&mut rest, id_len) else {
            is_parsed = false;
            break;
        };
        found.null_sha1 |= entry.id.iter().all(|&byte| byte == 0);
        found.zero_padded |= entry.is_zero_padded;
        found.large_name |= entry.name.len() > checker.rules.tree_name_max_bytes;
        found.bad_mode |= match entry.mode {
            0o100_755 | 0o100_644 | SYMLINK | FOLDER | SUBMODULE => false,
            0o100_664 => checker.rules.is_strict,
            _ => true,
        };
        if names::is_suspicious(entry.name) {
            let checked = check_name(checker, id, &entry, &mut found);
            result = result.and(checked);
        }
        if let Some(last) = &last {
            match order(last, &entry, &mut candidates) {
                Order::Right => {}
                Order::Wrong => found.unsorted = true,
                Order::Twins => found.duplicates = true,
            }
        }
        last = Some(entry);
    }
    let reports = [
        (!is_parsed, Message::BadTree, "cannot be parsed as a tree"),
        (
            found.null_sha1,
            Message::NullSha1,
            "contains entries pointing to null sha1",
        ),
        (found.full_path, Message::FullPathname, "contains full pathnames"),
        (found.dot, Message::HasDot, "contains '.'"),
        (found.dotdot, Message::HasDotdot, "contains '..'"),
        (found.dotgit, Message::HasDotgit, "contains '.git'"),
        (
            found.zero_padded,
            Message::ZeroPaddedFilemode,
            "contains zero-padded file modes",
        ),
        (found.bad_mode, Message::BadFilemode, "contains bad file modes"),
        (
            found.duplicates,
            Message::DuplicateEntries,
            "contains duplicate file entries",
        ),
        (found.unsorted, Message::TreeNotSorted, "not properly sorted"),
        (
            found.large_name,
            Message::LargePathname,
            "contains excessively large pathname",
        ),
    ];
    for (is_found, message, text) in reports {
        if is_found {
            let reported = checker.report(id, message, text);
            result = result.and(reported);
        }
    }
    result
}

/// Looks closer at a name that may be a trick.
fn check_name(checker: &mut Checker, id: &ObjectId, entry: &Entry<'_>, found: &mut Found) -> Result<(), Refused> {
    let name = entry.name;
    found.full_path |= name.contains(&b'/');
    found.dot |= name == b".";
    found.dotdot |= name == b"..";
    found.dotgit |= names::is_hfs_dotgit(name) || names::is_ntfs_dotgit(name);
    let is_symlink = entry.mode & TYPE_BITS == SYMLINK;
    let is = |dotfile| names::is_hfs_dotfile(name, dotfile) || names::is_ntfs_dotfile(name, dotfile);
    let blob = ObjectId::from_bytes_or_panic(entry.id);
    let mut result = Ok(());
    if is(Dotfile::Gitmodules) {
        result = note_gitmodules(checker, id, blob, is_symlink);
    }
    if is(Dotfile::Gitattributes) {
        if is_symlink {
            let reported = checker.report(id, Message::GitattributesSymlink, ".gitattributes is a symlink");
            result = result.and(reported);
        } else {
            checker.gitattributes.insert(blob);
        }
    }
    if is_symlink && is(Dotfile::Gitignore) {
        let reported = checker.report(id, Message::GitignoreSymlink, ".gitignore is a symlink");
        result = result.and(reported);
    }
    if is_symlink && is(Dotfile::Mailmap) {
        let reported = checker.report(id, Message::MailmapSymlink, ".mailmap is a symlink");
        result = result.and(reported);
    }
    // Windows clients take what follows a backslash for a name of its own.
    for (at, _) in name.iter().enumerate().filter(|(_, byte)| **byte == b'\\') {
        let after = &name[at + 1..];
        found.dotgit |= names::is_ntfs_dotgit(after);
        if names::is_ntfs_dotfile(after, Dotfile::Gitmodules) {
            let noted = note_gitmodules(checker, id, blob, is_symlink);
            result = result.and(noted);
        }
    }
    result
}

fn note_gitmodules(checker: &mut Checker, id: &ObjectId, blob: ObjectId, is_symlink: bool) -> Result<(), Refused> {
    if is_symlink {
        return checker.report(id, Message::GitmodulesSymlink, ".gitmodules is a symbolic link");
    }
    checker.gitmodules.insert(blob);
    Ok(())
}

/// How two entries that follow each other stand.
#[derive(Debug, PartialEq, Eq)]
enum Order {
    Right,
    Wrong,
    Twins,
}

/// Compares two neighbours in git's order, in which a folder's name ends in a slash.
///
/// A file and a folder of one name may lie apart (`a`, `a.b`, `a/`): `candidates` holds the names
/// that a later folder may still repeat.
fn order<'a>(first: &Entry<'a>, second: &Entry<'a>, candidates: &mut Vec<&'a [u8]>) -> Order {
    let len = first.name.len().min(second.name.len());
    match first.name[..len].cmp(&second.name[..len]) {
        std::cmp::Ordering::Less => return Order::Right,
        std::cmp::Ordering::Greater => return Order::Wrong,
        std::cmp::Ordering::Equal => {}
    }
    let next = |entry: &Entry<'_>| entry.name.get(len).copied().unwrap_or(0);
    let (mut c1, mut c2) = (next(first), next(second));
    if c1 == 0 && c2 == 0 {
        return Order::Twins;
    }
    let is_folder = |entry: &Entry<'_>| entry.mode & TYPE_BITS == FOLDER;
    if c1 == 0 && is_folder(first) {
        c1 = b'/';
    }
    if c2 == 0 && is_folder(second) {
        c2 = b'/';
    }
    let is_before_slash = |byte: u8| byte > 0 && byte < b'/';
    if c1 == 0 && is_before_slash(c2) {
        candidates.push(first.name);
    } else if c2 == b'/' && is_before_slash(c1) {
        while let Some(candidate) = candidates.pop() {
            let Some(after) = second.name.strip_prefix(candidate) else {
                continue;
            };
            match after.first() {
                None => return Order::Twins,
                Some(&byte) if is_before_slash(byte) => {
                    candidates.push(candidate);
                    break;
                }
                Some(_) => {}
            }
        }
    }
    if c1 < c2 { Order::Right } else { Order::Wrong }
}
