//! Before a commit: Logic draws the overviews of all sound anew at a save, and then every file differs. Those whose
//! sound is as it was may stay out of the commit.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};

use super::sounds::Sounds;
use super::{Change, HookError, changes, is_null};
use crate::audio::is_audio_path;
use crate::git;
use crate::status::pointers;

/// The setting: `ask` (also if it is not set), `always` or `never`.
const SETTING: &str = "auxin.leaveOutOverviews";
/// Most files that are named.
const SHOWN: usize = 10;

pub(super) fn leave_out() -> Result<Vec<String>, HookError> {
    let wish = git::settings(&["--get", SETTING])?.pop().map(|(value, _)| value);
    let wish = wish.unwrap_or_else(|| "ask".to_owned()).to_ascii_lowercase();
    if wish == "never"
        || !git::run(&["rev-parse", "--verify", "--quiet", "HEAD"])?
            .status
            .success()
    {
        return Ok(Vec::new());
    }
    let staged = staged()?;
    let same = unchanged_sound(&staged)?;
    if same.is_empty() {
        return Ok(Vec::new());
    }
    let files = if same.len() == 1 { "file" } else { "files" };
    let mut lines = vec![format!(
        "The sound of {} {files} is as it was; only its overview or notes differ:",
        same.len()
    )];
    lines.extend(same.iter().take(SHOWN).map(|path| format!("  {}", shown(path))));
    if same.len() > SHOWN {
        lines.push(format!("  and {} more", same.len() - SHOWN));
    }
    let is_left_out = match wish.as_str() {
        "always" => true,
        _ => match ask(&lines) {
            Some(answer) => {
                lines.clear();
                answer
            }
            None => {
                lines.push(format!(
                    "They are in the commit. To leave such files out by themselves: git config {SETTING} always"
                ));
                return Ok(lines);
            }
        },
    };
    if !is_left_out {
        return Ok(Vec::new());
    }
    if same.len() == staged.len() {
        lines.push(format!(
            "Nothing else was changed, so there is nothing to commit. To commit them all the same: git commit --no-verify, or git config {SETTING} never"
        ));
        return Err(HookError::Stop(lines.join("\n")));
    }
    let list: String = same.iter().flat_map(|path| [*path, "\0"]).collect();
    let top = git::ask(&["rev-parse", "--show-toplevel"])?;
    let args = [
        "-C",
        &top,
        "--literal-pathspecs",
        "reset",
        "-q",
        "--pathspec-from-file=-",
        "--pathspec-file-nul",
    ];
    let output = git::run_quietly(&args, list.as_bytes())?;
    if !output.status.success() {
        return Err(git::failed(&args, &output).into());
    }
    lines.push("They stay out of this commit, and as they are in the folder.".to_owned());
    Ok(lines)
}

/// What is about to be committed.
fn staged() -> Result<Vec<Change>, HookError> {
    let args = [
        "diff-index",
        "--cached",
        "-r",
        "-z",
        "--raw",
        "--no-renames",
        "--no-abbrev",
        "HEAD",
    ];
    let output = git::run_quietly(&args, b"")?;
    if !output.status.success() {
        return Err(git::failed(&args, &output).into());
    }
    Ok(changes(&String::from_utf8_lossy(&output.stdout)))
}

/// Paths of sound that is as it was.
fn unchanged_sound(staged: &[Change]) -> Result<Vec<&str>, HookError> {
    let is_changed =
        |change: &&Change| is_audio_path(&change.path) && !is_null(&change.before) && !is_null(&change.after);
    let changed: Vec<&Change> = staged.iter().filter(is_changed).collect();
    let blobs = changed
        .iter()
        .flat_map(|change| [change.before.as_str(), change.after.as_str()]);
    let pointers = pointers(blobs)?;
    if pointers.is_empty() {
        return Ok(Vec::new());
    }
    let mut sounds = Sounds::open()?;
    let mut same = Vec::new();
    for change in changed {
        if let (Some(&before), Some(&after)) = (pointers.get(&change.before), pointers.get(&change.after))
            && sounds.are_equal(before, after)
        {
            same.push(change.path.as_str());
        }
    }
    Ok(same)
}

/// Asks at the terminal; `None` if there is none, as with programs that have windows.
fn ask(lines: &[String]) -> Option<bool> {
    if cfg!(windows) || std::env::var_os("GIT_TERMINAL_PROMPT").is_some_and(|value| value == "0") {
        return None;
    }
    let mut terminal = OpenOptions::new().read(true).write(true).open("/dev/tty").ok()?;
    let question = format!("{}\nLeave them out of this commit? [Y/n] ", lines.join("\n"));
    terminal.write_all(question.as_bytes()).ok()?;
    let mut answer = String::new();
    BufReader::new(terminal).take(100).read_line(&mut answer).ok()?;
    Some(!answer.trim().to_ascii_lowercase().starts_with('n'))
}

fn shown(path: &str) -> String {
    path.chars().filter(|char| !char.is_control()).collect()
}
