//! `git auxin lock`, `locks`, `unlock`, `ask`, `hand-over`, `steal` and `keep`: who works on what.

mod server;

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

pub(crate) use self::server::Server;
use self::server::escape;
use crate::git::{self, GitError};

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Git did not help.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The address is not that of a repository on a server that speaks HTTP.
    #[error("{0} is no http:// or https:// address of a repository; locks are kept by an Auxin server.")]
    Remote(String),
    /// Git knows no name and password.
    #[error("Git knows no name and password for {0}. Run git fetch once, then try again.")]
    NoCredentials(String),
    /// The server cannot be reached.
    #[error("{0}")]
    Http(String),
    /// The server refused.
    #[error("{said}")]
    Refused {
        /// Its status.
        status: u16,
        /// Its sentence.
        said: String,
    },
    /// Nobody has locked it.
    #[error("{0} is not locked.")]
    NotLocked(String),
    /// There is no such word.
    #[error("{0}")]
    Usage(String),
}

/// What the commands about locks are called with.
pub const USAGE: &str = "\
  lock PATH [--reason TEXT] [--keep]   tell everybody that you work on a file or folder
  locks [PATH]                         who works on what
  unlock PATH [--force]                you are done
  ask PATH [NOTE]                      ask its holder for it
  hand-over PATH USER                  give it to somebody else
  steal PATH [--reason TEXT]           take it from its holder
  keep PATH [--no]                     it stays yours after you push (or no longer)
";

/// Runs one command; what to tell the person, line by line. `None`: it is no command about locks.
///
/// # Errors
/// [`LockError`]
pub fn run(words: &[&str]) -> Option<Result<Vec<String>, LockError>> {
    let (command, rest) = words.split_first()?;
    let run = match *command {
        "lock" => lock,
        "locks" => locks,
        "unlock" => unlock,
        "ask" => ask,
        "hand-over" => hand_over,
        "steal" => steal,
        "keep" => keep,
        _ => return None,
    };
    Some(run(rest))
}

/// Takes an option and its value out of the words.
fn option(words: &mut Vec<&str>, name: &str) -> Result<Option<String>, LockError> {
    let Some(at) = words.iter().position(|word| *word == name) else {
        return Ok(None);
    };
    if at + 1 == words.len() {
        return Err(usage());
    }
    let value = words.remove(at + 1).to_owned();
    words.remove(at);
    Ok(Some(value))
}

/// Takes a flag out of the words.
fn flag(words: &mut Vec<&str>, name: &str) -> bool {
    let before = words.len();
    words.retain(|word| *word != name);
    words.len() < before
}

fn usage() -> LockError {
    LockError::Usage(format!("Usage: git auxin …\n{USAGE}"))
}

fn one<'w>(words: &[&'w str]) -> Result<&'w str, LockError> {
    match words {
        [word] if !word.starts_with("--") => Ok(word),
        _ => Err(usage()),
    }
}

/// A path as the server knows it: from the root of the repository.
fn from_root(path: &str) -> Result<String, LockError> {
    let prefix = git::ask(&["rev-parse", "--show-prefix"])?;
    let path = if cfg!(windows) {
        path.replace('\\', "/")
    } else {
        path.to_owned()
    };
    let mut names: Vec<&str> = prefix.split('/').filter(|name| !name.is_empty()).collect();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    Ok(names.join("/"))
}

fn machine() -> Option<String> {
    let named = Command::new("hostname").stdin(Stdio::null()).output().ok()?;
    let name = String::from_utf8_lossy(&named.stdout).trim().to_owned();
    (named.status.success() && !name.is_empty()).then_some(name)
}

fn lock(words: &[&str]) -> Result<Vec<String>, LockError> {
    let mut words = words.to_vec();
    let reason = option(&mut words, "--reason")?;
    let is_kept = flag(&mut words, "--keep");
    let given = one(&words)?;
    let path = from_root(given)?;
    let mut wish = json!({ "path": path, "reason": reason, "keep": is_kept, "machine": machine() });
    // The version at hand, if the server knows it: what was last fetched.
    let base = git::run(&["merge-base", "HEAD", "@{upstream}"])?;
    if base.status.success() {
        wish["commit"] = json!(String::from_utf8_lossy(&base.stdout).trim());
    }
    let head = git::run(&["symbolic-ref", "--quiet", "HEAD"])?;
    if head.status.success() {
        wish["branch"] = json!(String::from_utf8_lossy(&head.stdout).trim());
    }
    let (_, answer) = Server::of_repository()?.send("POST", "locks", Some(&wish))?;
    make_writable(Path::new(given));
    let mut lines = vec![format!("Locked {}.", shown(&answer["lock"]["path"]))];
    lines.extend(answer["warning"].as_str().map(|warning| format!("Note: {warning}")));
    Ok(lines)
}

/// Git LFS keeps lockable files read-only while they are not locked.
fn make_writable(path: &Path) {
    let Ok(data) = path.metadata() else { return };
    let mut permissions = data.permissions();
    if !data.is_file() || !permissions.readonly() {
        return;
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        permissions.set_mode(permissions.mode() | 0o200);
    }
    #[cfg(not(unix))]
    permissions.set_readonly(false);
    // The lock counts whether or not this works.
    let _ = std::fs::set_permissions(path, permissions);
}

fn locks(words: &[&str]) -> Result<Vec<String>, LockError> {
    let path = match words {
        [] => None,
        words => Some(from_root(one(words)?)?),
    };
    let mut server = Server::of_repository()?;
    let mut lines = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = path
            .as_ref()
            .map(|path| format!("path={}&", escape(path)))
            .unwrap_or_default();
        let (_, page) = server.send("GET", &format!("locks?{path}cursor={cursor}"), None)?;
        for lock in page["locks"].as_array().into_iter().flatten() {
            let mut line = format!(
                "{}\t{}\tsince {}",
                shown(&lock["path"]),
                shown(&lock["holder"]),
                shown(&lock["locked_at"])
            );
            for more in [&lock["machine"], &lock["reason"]] {
                line.extend(more.as_str().map(|more| format!("\t{}", clean(more))));
            }
            if lock["is_stale"] == true {
                line.push_str("\tstale");
            }
            lines.push(line);
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    if lines.is_empty() {
        lines.push("Nothing is locked.".into());
    }
    Ok(lines)
}

/// The lock on a path.
fn find(server: &mut Server, given: &str) -> Result<Value, LockError> {
    let path = from_root(given)?;
    let (_, page) = server.send("GET", &format!("locks?path={}", escape(&path)), None)?;
    match page["locks"].get(0) {
        Some(lock) => Ok(lock.clone()),
        None => Err(LockError::NotLocked(path)),
    }
}

fn act(given: &str, what: &str, body: &Value) -> Result<Value, LockError> {
    let mut server = Server::of_repository()?;
    let lock = find(&mut server, given)?;
    let id = escape(lock["id"].as_str().unwrap_or_default());
    let (_, answer) = server.send("POST", &format!("locks/{id}/{what}"), Some(body))?;
    Ok(answer["lock"].clone())
}

fn unlock(words: &[&str]) -> Result<Vec<String>, LockError> {
    let mut words = words.to_vec();
    let force = flag(&mut words, "--force");
    let given = one(&words)?;
    let mut server = Server::of_repository()?;
    let lock = find(&mut server, given)?;
    let id = escape(lock["id"].as_str().unwrap_or_default());
    let query = if force { "?force=true" } else { "" };
    server.send("DELETE", &format!("locks/{id}{query}"), None)?;
    Ok(vec![format!("Released {}.", shown(&lock["path"]))])
}

fn ask(words: &[&str]) -> Result<Vec<String>, LockError> {
    let (path, note) = match words {
        [path] => (path, None),
        [path, note] => (path, Some(note)),
        _ => return Err(usage()),
    };
    let lock = act(one(&[path])?, "ask", &json!({ "note": note }))?;
    Ok(vec![format!(
        "Asked {} for {}.",
        shown(&lock["holder"]),
        shown(&lock["path"])
    )])
}

fn hand_over(words: &[&str]) -> Result<Vec<String>, LockError> {
    let [path, to] = words else { return Err(usage()) };
    let lock = act(one(&[path])?, "hand-over", &json!({ "to": to }))?;
    Ok(vec![format!(
        "{} is {}'s now.",
        shown(&lock["path"]),
        shown(&lock["holder"])
    )])
}

fn steal(words: &[&str]) -> Result<Vec<String>, LockError> {
    let mut words = words.to_vec();
    let reason = option(&mut words, "--reason")?;
    let given = one(&words)?;
    let lock = act(given, "steal", &json!({ "reason": reason, "machine": machine() }))?;
    make_writable(Path::new(given));
    Ok(vec![format!("{} is yours now.", shown(&lock["path"]))])
}

fn keep(words: &[&str]) -> Result<Vec<String>, LockError> {
    let mut words = words.to_vec();
    let is_kept = !flag(&mut words, "--no");
    let lock = act(one(&words)?, "keep", &json!({ "keep": is_kept }))?;
    let path = shown(&lock["path"]);
    Ok(vec![match is_kept {
        true => format!("{path} stays yours after you push."),
        false => format!("{path} is released after you push it, where the repository's rules say so."),
    }])
}

/// Text of the server, safe for a terminal.
fn shown(value: &Value) -> String {
    clean(value.as_str().unwrap_or("?"))
}

fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}
