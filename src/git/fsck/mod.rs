//! Checks objects as `git fsck` does: its message ids, its severities, its config keys.
//!
//! By default an object is refused where git says *error*, and where a tree tries the path tricks
//! that made clients run foreign code (`.git` in all its spellings, `..`, slashes in names). What
//! git only warns of passes: old history is full of it. A repository whose own config sets
//! `receive.fsckObjects` gets git's strict form, where every warning is an error.

mod gitmodules;
mod headers;
mod names;
mod tree;

use std::collections::HashSet;
use std::sync::Arc;

use bstr::ByteSlice;
use gix::ObjectId;

use super::index_pack::Visitor;
use super::object_store::ObjectKind;

/// Problems that are kept to be shown; more are only counted.
const MAX_PROBLEMS_SHOWN: usize = 20;

/// Largest `.gitattributes`, in bytes, as git has it.
const GITATTRIBUTES_MAX_BYTES: usize = 100 << 20;

/// Longest line of a `.gitattributes`, in bytes, as git has it.
const GITATTRIBUTES_MAX_LINE_BYTES: usize = 2048;

/// Longest name in a tree, in bytes, before it is worth a warning.
const TREE_NAME_MAX_BYTES: usize = 4096;

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Not told.
    Ignore,
    /// Told as a warning, even in the strict form.
    Info,
    /// Told; an error in the strict form.
    Warn,
    /// The object is refused.
    Error,
    /// The object is refused, and no config can change that.
    Fatal,
}

/// Declares the messages with git's names and default severities.
macro_rules! messages {
    ($($variant:ident $name:literal $severity:ident,)*) => {
        /// What can be wrong with an object, by git's message ids.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Message {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl Message {
            const ALL: &'static [Message] = &[$(Message::$variant,)*];

            /// Git's name for it, as in its config keys.
            pub fn name(self) -> &'static str {
                match self { $(Message::$variant => $name,)* }
            }

            /// Git's default severity.
            fn default_severity(self) -> Severity {
                match self { $(Message::$variant => Severity::$severity,)* }
            }
        }
    };
}

messages! {
    NulInHeader "nulInHeader" Fatal,
    UnterminatedHeader "unterminatedHeader" Fatal,
    BadHeaderContinuation "badHeaderContinuation" Error,
    BadDate "badDate" Error,
    BadDateOverflow "badDateOverflow" Error,
    BadEmail "badEmail" Error,
    BadGpgsig "badGpgsig" Error,
    BadName "badName" Error,
    BadObjectSha1 "badObjectSha1" Error,
    BadParentSha1 "badParentSha1" Error,
    BadTimezone "badTimezone" Error,
    BadTree "badTree" Error,
    BadTreeSha1 "badTreeSha1" Error,
    BadType "badType" Error,
    DuplicateEntries "duplicateEntries" Error,
    GitattributesBlob "gitattributesBlob" Error,
    GitattributesLarge "gitattributesLarge" Error,
    GitattributesLineLength "gitattributesLineLength" Error,
    GitattributesMissing "gitattributesMissing" Error,
    GitmodulesBlob "gitmodulesBlob" Error,
    GitmodulesLarge "gitmodulesLarge" Error,
    GitmodulesMissing "gitmodulesMissing" Error,
    GitmodulesName "gitmodulesName" Error,
    GitmodulesPath "gitmodulesPath" Error,
    GitmodulesSymlink "gitmodulesSymlink" Error,
    GitmodulesUpdate "gitmodulesUpdate" Error,
    GitmodulesUrl "gitmodulesUrl" Error,
    MissingAuthor "missingAuthor" Error,
    MissingCommitter "missingCommitter" Error,
    MissingEmail "missingEmail" Error,
    MissingNameBeforeEmail "missingNameBeforeEmail" Error,
    MissingObject "missingObject" Error,
    MissingSpaceBeforeDate "missingSpaceBeforeDate" Error,
    MissingSpaceBeforeEmail "missingSpaceBeforeEmail" Error,
    MissingTag "missingTag" Error,
    MissingTagEntry "missingTagEntry" Error,
    MissingTree "missingTree" Error,
    MissingType "missingType" Error,
    MissingTypeEntry "missingTypeEntry" Error,
    MultipleAuthors "multipleAuthors" Error,
    TreeNotSorted "treeNotSorted" Error,
    ZeroPaddedDate "zeroPaddedDate" Error,
    EmptyName "emptyName" Warn,
    FullPathname "fullPathname" Warn,
    HasDot "hasDot" Warn,
    HasDotdot "hasDotdot" Warn,
    HasDotgit "hasDotgit" Warn,
    LargePathname "largePathname" Warn,
    NullSha1 "nullSha1" Warn,
    NulInCommit "nulInCommit" Warn,
    ZeroPaddedFilemode "zeroPaddedFilemode" Warn,
    BadFilemode "badFilemode" Info,
    BadTagName "badTagName" Info,
    GitattributesSymlink "gitattributesSymlink" Info,
    GitignoreSymlink "gitignoreSymlink" Info,
    GitmodulesParse "gitmodulesParse" Info,
    MailmapSymlink "mailmapSymlink" Info,
    MissingTaggerEntry "missingTaggerEntry" Info,
    ExtraHeaderEntry "extraHeaderEntry" Ignore,
}

/// Path tricks: refused though plain `git fsck` only warns of them.
const PATH_TRICKS: [Message; 5] = [
    Message::EmptyName,
    Message::FullPathname,
    Message::HasDot,
    Message::HasDotdot,
    Message::HasDotgit,
];

/// How bad each message is, and which objects are not looked at.
#[derive(Clone, Debug)]
pub struct Rules {
    severities: [Severity; Message::ALL.len()],
    skipped: HashSet<ObjectId>,
    is_strict: bool,
    tree_name_max_bytes: usize,
}

impl Default for Rules {
    /// Git's severities, with path tricks refused.
    fn default() -> Self {
        let mut rules = Self {
            severities: std::array::from_fn(|n| Message::ALL[n].default_severity()),
            skipped: HashSet::new(),
            is_strict: false,
            tree_name_max_bytes: TREE_NAME_MAX_BYTES,
        };
        for message in PATH_TRICKS {
            rules.severities[message as usize] = Severity::Error;
        }
        rules
    }
}

impl Rules {
    /// Git's strict form, which `receive.fsckObjects` means: every warning is an error.
    pub fn strict() -> Self {
        let mut rules = Self {
            is_strict: true,
            ..Self::default()
        };
        for severity in &mut rules.severities {
            if *severity == Severity::Warn {
                *severity = Severity::Error;
            }
        }
        rules
    }

    /// Sets one severity as `receive.fsck.<message> = error|warn|ignore` does.
    ///
    /// Unknown messages and values are passed over and said so by `false`, as are attempts to
    /// demote what is always refused.
    pub fn set(&mut self, message: &str, severity: &str) -> bool {
        let Some(message) = Message::ALL
            .iter()
            .find(|known| known.name().eq_ignore_ascii_case(message))
        else {
            return false;
        };
        let (severity, limit) = match severity.split_once(':') {
            Some((severity, limit)) if *message == Message::LargePathname => (severity, Some(limit)),
            _ => (severity, None),
        };
        let severity = match severity {
            "error" => Severity::Error,
            "warn" => Severity::Warn,
            "ignore" => Severity::Ignore,
            _ => return false,
        };
        if severity != Severity::Error && message.default_severity() == Severity::Fatal {
            return false;
        }
        if let Some(limit) = limit {
            let Ok(limit) = limit.parse() else { return false };
            self.tree_name_max_bytes = limit;
        }
        self.severities[*message as usize] = severity;
        true
    }

    /// Passes over these objects, as `receive.fsck.skipList` does. `list` is the file's content: one
    /// id a line, `#` begins a comment.
    pub fn skip(&mut self, list: &[u8]) {
        for line in list.lines() {
            let id = line.split(|&byte| byte == b'#').next().unwrap_or_default().trim();
            if let Ok(id) = ObjectId::from_hex(id) {
                self.skipped.insert(id);
            }
        }
    }

    fn severity(&self, message: Message) -> Severity {
        self.severities[message as usize]
    }
}

/// One thing wrong with one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The object.
    pub id: ObjectId,
    /// What is wrong, by git's id.
    pub message: Message,
    /// Whether the object is refused for it.
    pub is_error: bool,
    /// Git's words.
    pub text: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let grade = if self.is_error { "error" } else { "warning" };
        write!(f, "{grade}: object {}: {}: {}", self.id, self.message.name(), self.text)
    }
}

/// What the look-up of a blob gave, for [`Checker::finish`].
pub enum FoundBlob {
    /// Not there.
    Missing,
    /// An object of another kind.
    NotABlob,
    /// Larger than is read into memory.
    TooLarge,
    /// The blob's content.
    Content(Vec<u8>),
}

/// Checks objects one after the other and gathers what is wrong with them.
///
/// As a [`Visitor`] it sees all commits, trees and tags of a pack; `.gitmodules` and
/// `.gitattributes` blobs are noted by the trees that name them and read in [`Checker::finish`].
#[derive(Clone, Debug)]
pub struct Checker {
    rules: Arc<Rules>,
    problems: Vec<Problem>,
    errors: usize,
    warnings: usize,
    gitmodules: HashSet<ObjectId>,
    gitattributes: HashSet<ObjectId>,
}

impl Checker {
    /// A checker by these rules.
    pub fn new(rules: Arc<Rules>) -> Self {
        Self {
            rules,
            problems: Vec::new(),
            errors: 0,
            warnings: 0,
            gitmodules: HashSet::new(),
            gitattributes: HashSet::new(),
        }
    }

    /// Checks one object; blobs are passed over.
    pub fn check(&mut self, id: &ObjectId, kind: ObjectKind, data: &[u8]) {
        // A report that is an error ends the check of that object, as in git.
        let _ended = match kind {
            ObjectKind::Tree => tree::check(self, id, data),
            ObjectKind::Commit => headers::check_commit(self, id, data),
            ObjectKind::Tag => headers::check_tag(self, id, data),
            ObjectKind::Blob => Ok(()),
        };
    }

    /// Checks the `.gitmodules` and `.gitattributes` that trees named; `find` looks in the pack and
    /// in what the repository had.
    pub fn finish(&mut self, find: &mut dyn FnMut(&ObjectId) -> FoundBlob) {
        let mut gitmodules: Vec<_> = std::mem::take(&mut self.gitmodules).into_iter().collect();
        gitmodules.sort_unstable();
        for id in gitmodules {
            let _ended = match find(&id) {
                FoundBlob::Missing => self.report(&id, Message::GitmodulesMissing, "unable to read .gitmodules blob"),
                FoundBlob::NotABlob => self.report(&id, Message::GitmodulesBlob, "non-blob found at .gitmodules"),
                FoundBlob::TooLarge => self.report(&id, Message::GitmodulesLarge, ".gitmodules too large to parse"),
                FoundBlob::Content(content) => gitmodules::check(self, &id, &content),
            };
        }
        let mut gitattributes: Vec<_> = std::mem::take(&mut self.gitattributes).into_iter().collect();
        gitattributes.sort_unstable();
        for id in gitattributes {
            let _ended = match find(&id) {
                FoundBlob::Missing => {
                    self.report(&id, Message::GitattributesMissing, "unable to read .gitattributes blob")
                }
                FoundBlob::NotABlob => self.report(&id, Message::GitattributesBlob, "non-blob found at .gitattributes"),
                FoundBlob::TooLarge => self.report(&id, Message::GitattributesLarge, TOO_LARGE_GITATTRIBUTES),
                FoundBlob::Content(content) => check_gitattributes(self, &id, &content),
            };
        }
    }

    /// How many problems refuse their object.
    pub fn error_count(&self) -> usize {
        self.errors
    }

    /// How many problems are only told.
    pub fn warning_count(&self) -> usize {
        self.warnings
    }

    /// The first problems, errors before warnings.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Notes a problem. `Err` if the object is refused for it and need not be looked at further.
    fn report(&mut self, id: &ObjectId, message: Message, text: &str) -> Result<(), Refused> {
        let severity = self.rules.severity(message);
        if severity == Severity::Ignore || self.rules.skipped.contains(id) {
            return Ok(());
        }
        let is_error = severity >= Severity::Error;
        if is_error {
            self.errors += 1;
        } else {
            self.warnings += 1;
        }
        let problem = Problem {
            id: *id,
            message,
            is_error,
            text: text.to_owned(),
        };
        self.keep(problem);
        if is_error { Err(Refused) } else { Ok(()) }
    }

    /// Keeps a problem to be shown; errors push warnings out.
    fn keep(&mut self, problem: Problem) {
        let errors = self.problems.partition_point(|kept| kept.is_error);
        if problem.is_error {
            if errors < MAX_PROBLEMS_SHOWN {
                self.problems.insert(errors, problem);
                self.problems.truncate(MAX_PROBLEMS_SHOWN);
            }
        } else if self.problems.len() < MAX_PROBLEMS_SHOWN {
            self.problems.push(problem);
        }
    }
}

impl Visitor for Checker {
    fn visit(&mut self, id: &ObjectId, kind: ObjectKind, data: &[u8]) {
        self.check(id, kind, data);
    }

    fn split(&self) -> Self {
        Self::new(self.rules.clone())
    }

    fn join(&mut self, other: Self) {
        self.errors += other.errors;
        self.warnings += other.warnings;
        for problem in other.problems {
            self.keep(problem);
        }
        self.gitmodules.extend(other.gitmodules);
        self.gitattributes.extend(other.gitattributes);
    }
}

/// The object is refused; the rest of it is not looked at.
struct Refused;

const TOO_LARGE_GITATTRIBUTES: &str = ".gitattributes too large to parse";

/// Size and line length of a `.gitattributes`: beyond them clients did read out of bounds.
fn check_gitattributes(checker: &mut Checker, id: &ObjectId, content: &[u8]) -> Result<(), Refused> {
    if content.len() > GITATTRIBUTES_MAX_BYTES {
        return checker.report(id, Message::GitattributesLarge, TOO_LARGE_GITATTRIBUTES);
    }
    // Git reads up to the first NUL.
    let text = content.split(|&byte| byte == 0).next().unwrap_or_default();
    if text
        .split(|&byte| byte == b'\n')
        .any(|line| line.len() >= GITATTRIBUTES_MAX_LINE_BYTES)
    {
        let text = ".gitattributes has too long lines to parse";
        return checker.report(id, Message::GitattributesLineLength, text);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
