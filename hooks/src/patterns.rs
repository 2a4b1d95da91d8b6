//! What a Logic project needs in `.gitattributes` and `.gitignore`.
//!
//! A `.logicx` bundle is a folder, so a pattern such as `*.logicx filter=lfs` has no effect: the
//! patterns name files inside. `MetaData.plist` and `ProjectInformation.plist` stay out of LFS; they
//! are small, and tempo, key and number of tracks can be read from them without the large files. `diff=auxin` lets `git
//! diff` show what they say (`git auxin textconv`); without that setting Git tells that they differ, as of other files.

const LFS: &str = "filter=lfs diff=lfs merge=lfs -text";
const LFS_LOCKABLE: &str = "filter=lfs diff=auxin merge=lfs -text lockable";
const SMALL_LIST: &str = "-text diff=auxin -merge";
const SMALL_BINARY: &str = "-text -diff -merge";

/// A group of lines under one comment.
pub(crate) struct Group {
    /// The comment, without `#`.
    pub(crate) comment: &'static str,
    /// Patterns, and what follows each on its line.
    pub(crate) lines: &'static [(&'static str, &'static str)],
}

/// For `.gitattributes`. Recorders and other programs write endings in capitals, too.
pub(crate) const ATTRIBUTES: &[Group] = &[
    Group {
        comment: "The song itself: in LFS, locked while it is edited, never merged by lines.",
        lines: &[("ProjectData", LFS_LOCKABLE)],
    },
    Group {
        comment: "Audio and other large media.",
        lines: &[
            ("*.[wW][aA][vV]", LFS),
            ("*.[aA][iI][fF]", LFS),
            ("*.[aA][iI][fF][fF]", LFS),
            ("*.[aA][iI][fF][cC]", LFS),
            ("*.[cC][aA][fF]", LFS),
            ("*.[mM]4[aA]", LFS),
            ("*.[mM][pP]3", LFS),
            ("*.[fF][lL][aA][cC]", LFS),
            ("*.[sS][dD]2", LFS),
            ("*.SDIR", LFS),
            ("*.exs", LFS),
            ("*.[mM][oO][vV]", LFS),
            ("*.[mM][pP]4", LFS),
            ("WindowImage.jpg", LFS),
        ],
    },
    Group {
        comment: "Small binary files of every save.",
        lines: &[
            ("MetaData.plist", SMALL_LIST),
            ("ProjectInformation.plist", SMALL_LIST),
            ("DisplayState.plist", SMALL_BINARY),
            ("DisplayStateArchive", SMALL_BINARY),
        ],
    },
];

/// For `.gitignore`: what Logic and macOS make again by themselves.
pub(crate) const IGNORED: &[Group] = &[Group {
    comment: "What Logic and macOS make again by themselves: undo data, backups, frozen tracks.",
    lines: &[
        (".DS_Store", ""),
        ("._*", ""),
        ("*.nosync", ""),
        ("Autosave/", ""),
        ("Project File Backups/", ""),
        ("Freeze Files/", ""),
        ("*.rxdoc", ""),
    ],
}];

/// A pattern in the form in which two spellings of it are equal: `*.[wW][aA][vV]` and `*.WAV` both
/// become `*.wav`, `/Autosave/` becomes `autosave`.
pub(crate) fn folded(pattern: &str) -> String {
    let mut out = String::new();
    let mut rest = pattern;
    while let Some(open) = rest.find('[') {
        let (before, class) = rest.split_at(open);
        out.push_str(before);
        let mut inside = class[1..].chars();
        match (inside.next(), inside.next(), inside.next()) {
            (Some(a), Some(b), Some(']')) if a.eq_ignore_ascii_case(&b) => {
                out.push(a);
                rest = inside.as_str();
            }
            _ => {
                out.push('[');
                rest = &class[1..];
            }
        }
    }
    out.push_str(rest);
    out.trim_matches('/').to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_pattern_are_equal() {
        assert_eq!(folded("*.[wW][aA][vV]"), folded("*.WAV"));
        assert_eq!(folded("*.[mM]4[aA]"), "*.m4a");
        assert_eq!(folded("/Autosave/"), folded("autosave"));
        assert_ne!(folded("*.wav"), folded("*.wave"));
        for odd in ["[", "[a", "[ab", "[ab]", "[é", "x[wW"] {
            folded(odd);
        }
    }
}
