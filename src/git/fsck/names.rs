//! Names that a file system takes for `.git`, `.gitmodules` and their kind.
//!
//! HFS+ ignores case and a handful of invisible characters; NTFS ignores case, dots and blanks at
//! the end and streams after a colon, and has short names with a tilde. Rules and constants are
//! those of git, which clients rely on.

/// Files that git itself reads.
#[derive(Clone, Copy)]
pub(super) enum Dotfile {
    Gitmodules,
    Gitattributes,
    Gitignore,
    Mailmap,
}

impl Dotfile {
    /// The name after the dot.
    fn name(self) -> &'static [u8] {
        match self {
            Self::Gitmodules => b"gitmodules",
            Self::Gitattributes => b"gitattributes",
            Self::Gitignore => b"gitignore",
            Self::Mailmap => b"mailmap",
        }
    }

    /// The start of the short name that NTFS falls back to.
    fn fallback_short_name(self) -> &'static [u8; 6] {
        match self {
            Self::Gitmodules => b"gi7eba",
            Self::Gitattributes => b"gi7d29",
            Self::Gitignore => b"gi250a",
            Self::Mailmap => b"maba30",
        }
    }
}

/// Whether a name needs a closer look at all. Nearly none does: this runs for every tree entry.
pub(super) fn is_suspicious(name: &[u8]) -> bool {
    name.first() == Some(&b'.')
        || name
            .iter()
            .any(|&byte| matches!(byte, b'/' | b'\\' | b'~') || byte >= 0x80)
}

/// Whether HFS+ takes `name` for `.git`.
pub(super) fn is_hfs_dotgit(name: &[u8]) -> bool {
    is_hfs_dot(name, b"git")
}

/// Whether HFS+ takes `name` for this file.
pub(super) fn is_hfs_dotfile(name: &[u8], dotfile: Dotfile) -> bool {
    is_hfs_dot(name, dotfile.name())
}

fn is_hfs_dot(name: &[u8], wanted: &[u8]) -> bool {
    let mut rest = name;
    if next_hfs_char(&mut rest) != Some('.') {
        return false;
    }
    for &letter in wanted {
        match next_hfs_char(&mut rest) {
            Some(c) if c.is_ascii() && c.to_ascii_lowercase() as u8 == letter => {}
            _ => return false,
        }
    }
    matches!(next_hfs_char(&mut rest), None | Some('/'))
}

/// The next character that HFS+ looks at; `None` at the end, and for what is no UTF-8.
fn next_hfs_char(rest: &mut &[u8]) -> Option<char> {
    loop {
        let (c, len) = bstr::decode_utf8(*rest);
        let c = c?;
        *rest = &rest[len..];
        match c {
            '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}' => {}
            c => return Some(c),
        }
    }
}

/// Whether NTFS takes `name`, or its first part up to a slash or backslash, for `.git`.
pub(super) fn is_ntfs_dotgit(name: &[u8]) -> bool {
    let rest = if starts_with_ignoring_case(name, b".git") {
        &name[4..]
    } else if starts_with_ignoring_case(name, b"git~1") {
        &name[5..]
    } else {
        return false;
    };
    for &byte in rest {
        match byte {
            b'/' | b'\\' | b':' => return true,
            b'.' | b' ' => {}
            _ => return false,
        }
    }
    true
}

/// Whether NTFS takes `name` for this file, by its long name or one of its short names.
pub(super) fn is_ntfs_dotfile(name: &[u8], dotfile: Dotfile) -> bool {
    let long = dotfile.name();
    if name.first() == Some(&b'.') && starts_with_ignoring_case(&name[1..], long) {
        return only_spaces_and_periods(&name[1 + long.len()..]);
    }
    if starts_with_ignoring_case(name, &long[..6])
        && name.get(6) == Some(&b'~')
        && matches!(name.get(7), Some(b'1'..=b'4'))
    {
        return only_spaces_and_periods(&name[8..]);
    }
    let prefix = dotfile.fallback_short_name();
    let mut saw_tilde = false;
    let mut at = 0;
    while at < 8 {
        let Some(&byte) = name.get(at) else { return false };
        if saw_tilde {
            if !byte.is_ascii_digit() {
                return false;
            }
        } else if byte == b'~' {
            at += 1;
            if !matches!(name.get(at), Some(b'1'..=b'9')) {
                return false;
            }
            saw_tilde = true;
        } else if at >= 6 || byte.to_ascii_lowercase() != prefix[at] {
            return false;
        }
        at += 1;
    }
    only_spaces_and_periods(name.get(at..).unwrap_or_default())
}

/// What NTFS ignores at the end of a name, up to a stream.
fn only_spaces_and_periods(rest: &[u8]) -> bool {
    for &byte in rest {
        match byte {
            b':' => return true,
            b' ' | b'.' => {}
            _ => return false,
        }
    }
    true
}

fn starts_with_ignoring_case(name: &[u8], prefix: &[u8]) -> bool {
    name.len() >= prefix.len() && name[..prefix.len()].eq_ignore_ascii_case(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_dotgit_is_known() {
        for name in [
            ".git",
            ".GIT",
            ".Git ",
            ".git...",
            ".git::$INDEX_ALLOCATION",
            "git~1",
            "GIT~1",
            ".git\\x",
        ] {
            assert!(is_suspicious(name.as_bytes()), "{name}");
            assert!(is_ntfs_dotgit(name.as_bytes()), "{name}");
        }
        for name in [".git", ".g\u{200c}it", "\u{feff}.GIT", ".gi\u{206f}t"] {
            assert!(is_suspicious(name.as_bytes()), "{name}");
            assert!(is_hfs_dotgit(name.as_bytes()), "{name}");
        }
        for name in [".gitx", "git~2", "git", ".gi", "git~10", "..git", ".git\u{ff}x"] {
            assert!(!is_ntfs_dotgit(name.as_bytes()), "{name}");
            assert!(!is_hfs_dotgit(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn every_spelling_of_dotgitmodules_is_known() {
        for name in [
            ".gitmodules",
            ".GITMODULES",
            ".gitmodules ",
            ".gitmodules.",
            ".gitmodules:stream",
            "gitmod~1",
            "GITMOD~4",
            "gi7eba~1",
            "gi7eb~10",
            "GI7E~123",
            "~1000000",
            "~9999999",
        ] {
            assert!(is_suspicious(name.as_bytes()), "{name}");
            assert!(is_ntfs_dotfile(name.as_bytes(), Dotfile::Gitmodules), "{name}");
        }
        for name in [".gitmodules\u{200d}", ".g\u{200c}itmodules"] {
            assert!(is_hfs_dotfile(name.as_bytes(), Dotfile::Gitmodules), "{name}");
        }
        for name in [
            ".gitmodule",
            ".gitmodulesx",
            "gitmod~5",
            "gitmod~",
            "gi7eba",
            "gi7eba~0",
            "gi7d29~1",
        ] {
            assert!(!is_ntfs_dotfile(name.as_bytes(), Dotfile::Gitmodules), "{name}");
            assert!(!is_hfs_dotfile(name.as_bytes(), Dotfile::Gitmodules), "{name}");
        }
    }
}
