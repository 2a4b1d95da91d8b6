//! Runs the programs in a repository's `hooks` folder, as git does.
//!
//! Only hooks that an administrator trusts ever run. They get git's environment and little else, a
//! time limit, and a process group of their own, so that nothing they start outlives the limit. What
//! they print goes to the person who pushes, in bounded amount and without control characters.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::work::{Stopped, Tick};

/// Variables of the server that hooks may see.
const PASSED_ON: [&str; 7] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER"];

/// How often a waiting server looks at the client and the clock.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Bytes read from a hook at once.
const READ_BYTES: usize = 8 << 10;

/// Pieces of output that may wait to be sent; a hook that prints faster waits.
const WAITING_PIECES: usize = 16;

/// How hooks of one push are run.
pub struct Hooks {
    /// Where they lie; `None` if they are not trusted, and none runs.
    pub folder: Option<PathBuf>,
    /// The bare repository, which they are started in.
    pub git_dir: PathBuf,
    /// Variables that all of them get.
    pub environment: Vec<(OsString, OsString)>,
    /// How long one may run.
    pub timeout: Duration,
    /// How much output of one is passed on, in bytes.
    pub max_output_bytes: usize,
}

/// How a hook ended.
#[derive(Debug, PartialEq, Eq)]
pub enum HookResult {
    /// There is none, or it is not trusted.
    Absent,
    /// It agreed.
    Accepted,
    /// It said no, or could not be run.
    Declined,
    /// It ran too long and was ended.
    TimedOut,
}

impl HookResult {
    /// Whether the push may go on.
    pub fn is_agreed(&self) -> bool {
        matches!(self, Self::Absent | Self::Accepted)
    }
}

/// What a hook is started with.
pub struct HookCall<'a> {
    /// Its name, such as `pre-receive`.
    pub name: &'a str,
    /// Its arguments.
    pub args: &'a [&'a OsStr],
    /// What it can read.
    pub input: Vec<u8>,
    /// The quarantine folder, while objects are there.
    pub quarantine: Option<&'a Path>,
}

impl Hooks {
    /// Whether a hook of this name would run.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn find(&self, name: &str) -> Option<PathBuf> {
        let path = self.folder.as_ref()?.join(name);
        let metadata = path.metadata().ok()?;
        (metadata.is_file() && metadata.permissions().mode() & 0o111 != 0).then_some(path)
    }

    /// Runs a hook to its end and passes on what it prints.
    ///
    /// # Errors
    /// [`Stopped`] from the tick, or when the output cannot be sent; the hook is ended then.
    pub fn run(
        &self,
        call: HookCall<'_>,
        output: &mut dyn FnMut(&[u8]) -> io::Result<()>,
        tick: Tick<'_>,
    ) -> Result<HookResult, Stopped> {
        let Some(path) = self.find(call.name) else {
            return Ok(HookResult::Absent);
        };
        let name = call.name;
        let mut say = |text: String| output(text.as_bytes()).map_err(Stopped::Output);
        let (child, printed) = match self.start(&path, call) {
            Ok(started) => started,
            Err(error) => {
                tracing::error!(hook = %path.display(), %error, "a hook could not be started");
                say(format!(
                    "error: the hook {name} of this repository could not be started\n"
                ))?;
                return Ok(HookResult::Declined);
            }
        };
        let mut running = Running(child);
        let ended = self.attend(&mut running.0, &printed, output, tick)?;
        let mut say = |text: String| output(text.as_bytes()).map_err(Stopped::Output);
        match ended {
            Some(status) if status.success() => {
                running.let_go();
                Ok(HookResult::Accepted)
            }
            Some(_) => {
                running.let_go();
                Ok(HookResult::Declined)
            }
            None => {
                say(format!(
                    "error: the hook {name} of this repository ran longer than {} s and was ended\n",
                    self.timeout.as_secs()
                ))?;
                Ok(HookResult::TimedOut)
            }
        }
    }

    /// Runs a hook that answers on its standard output: `talk` has that and its input, on a thread of its
    /// own, while what the hook prints as an error is passed on. `None` of the talk: it was not over
    /// when the hook's time was up.
    ///
    /// # Errors
    /// [`Stopped`] from the tick, or when the output cannot be sent; the hook is ended then.
    pub fn converse<T: Send + 'static>(
        &self,
        name: &str,
        talk: impl FnOnce(&mut ChildStdin, &mut ChildStdout) -> T + Send + 'static,
        output: &mut dyn FnMut(&[u8]) -> io::Result<()>,
        tick: Tick<'_>,
    ) -> Result<(HookResult, Option<T>), Stopped> {
        let Some(path) = self.find(name) else {
            return Ok((HookResult::Absent, None));
        };
        let call = HookCall {
            name,
            args: &[],
            input: Vec::new(),
            quarantine: None,
        };
        let started = Instant::now();
        let (mut child, printed) = match self.start_talking(&path, &call) {
            Ok(started) => started,
            Err(error) => {
                tracing::error!(hook = %path.display(), %error, "a hook could not be started");
                return Ok((HookResult::Declined, None));
            }
        };
        let (told, heard) = mpsc::channel();
        if let (Some(mut to), Some(mut from)) = (child.stdin.take(), child.stdout.take()) {
            // Not joined: what the hook left in the background may hold its output open for ever.
            std::thread::spawn(move || {
                let said = talk(&mut to, &mut from);
                // The hook sees the end of its input before it is waited for.
                drop((to, from));
                let _ = told.send(said);
            });
        }
        let mut running = Running(child);
        let ended = self.attend(&mut running.0, &printed, output, tick)?;
        let said = loop {
            match heard.recv_timeout(LOOK_EVERY) {
                Ok(said) => break Some(said),
                Err(mpsc::RecvTimeoutError::Disconnected) => break None,
                Err(mpsc::RecvTimeoutError::Timeout) if started.elapsed() > self.timeout => break None,
                Err(mpsc::RecvTimeoutError::Timeout) => tick()?,
            }
        };
        let result = match ended {
            None => HookResult::TimedOut,
            Some(status) if status.success() => HookResult::Accepted,
            Some(_) => HookResult::Declined,
        };
        if result != HookResult::TimedOut {
            running.let_go();
        }
        Ok((result, said))
    }

    fn start(&self, path: &Path, call: HookCall<'_>) -> io::Result<(Child, mpsc::Receiver<Vec<u8>>)> {
        let (reader, writer) = io::pipe()?;
        let mut command = self.command(path, &call);
        command.stdin(Stdio::piped()).stdout(writer.try_clone()?).stderr(writer);
        let mut child = command.spawn()?;
        // The command holds the other end of the pipe open as long as it lives.
        drop(command);
        if let Some(mut stdin) = child.stdin.take() {
            let input = call.input;
            // A hook need not read its input.
            std::thread::spawn(move || drop(stdin.write_all(&input)));
        }
        Ok((child, pieces(reader)))
    }

    fn start_talking(&self, path: &Path, call: &HookCall<'_>) -> io::Result<(Child, mpsc::Receiver<Vec<u8>>)> {
        let (reader, writer) = io::pipe()?;
        let mut command = self.command(path, call);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(writer);
        let child = command.spawn()?;
        drop(command);
        Ok((child, pieces(reader)))
    }

    fn command(&self, path: &Path, call: &HookCall<'_>) -> Command {
        let mut command = Command::new(path);
        command.args(call.args).current_dir(&self.git_dir).process_group(0);
        command.env_clear();
        for name in PASSED_ON {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.env("GIT_DIR", ".");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(quarantine) = call.quarantine {
            command.env("GIT_QUARANTINE_PATH", quarantine);
            command.env("GIT_OBJECT_DIRECTORY", quarantine);
            command.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", self.git_dir.join("objects"));
        }
        command
    }

    /// Passes output on until the hook has ended; `None` if its time was up first.
    fn attend(
        &self,
        child: &mut Child,
        printed: &mpsc::Receiver<Vec<u8>>,
        output: &mut dyn FnMut(&[u8]) -> io::Result<()>,
        tick: Tick<'_>,
    ) -> Result<Option<ExitStatus>, Stopped> {
        let started = Instant::now();
        let mut cleaner = Cleaner::new(self.max_output_bytes);
        let mut is_open = true;
        let mut status = None;
        loop {
            tick()?;
            if is_open {
                match printed.recv_timeout(LOOK_EVERY) {
                    Ok(piece) => {
                        let clean = cleaner.clean(&piece);
                        if !clean.is_empty() {
                            output(&clean).map_err(Stopped::Output)?;
                        }
                    }
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                    Err(mpsc::RecvTimeoutError::Disconnected) => is_open = false,
                }
            } else if status.is_none() {
                // It closed its output and goes on; there is nothing to wait on but time.
                std::thread::sleep(LOOK_EVERY.min(self.timeout.saturating_sub(started.elapsed())));
            }
            if status.is_none() {
                status = child.try_wait().map_err(Stopped::Output)?;
            }
            if status.is_some() && !is_open {
                return Ok(status);
            }
            if started.elapsed() > self.timeout {
                // What it left running in the background keeps its output open: not its own fault.
                return Ok(status);
            }
        }
    }
}

/// What is read from a pipe, piece by piece.
fn pieces(mut reader: io::PipeReader) -> mpsc::Receiver<Vec<u8>> {
    let (sender, printed) = mpsc::sync_channel(WAITING_PIECES);
    std::thread::spawn(move || {
        let mut buffer = vec![0; READ_BYTES];
        while let Ok(read @ 1..) = reader.read(&mut buffer) {
            if sender.send(buffer[..read].to_vec()).is_err() {
                break;
            }
        }
    });
    printed
}

/// A hook that is ended with all it started when this is dropped.
struct Running(Child);

impl Running {
    /// It ended by itself: what it left in the background may live.
    fn let_go(self) {
        std::mem::forget(self);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            // Fails only if all of them are gone.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.0.wait();
    }
}

/// Takes control characters out of what a hook prints, and ends it at the limit.
struct Cleaner {
    left_bytes: usize,
    /// The last byte was 0xc2, which with what follows may be a control character of its own.
    is_after_c2: bool,
}

impl Cleaner {
    fn new(limit_bytes: usize) -> Self {
        Self {
            left_bytes: limit_bytes,
            is_after_c2: false,
        }
    }

    fn clean(&mut self, piece: &[u8]) -> Vec<u8> {
        if self.left_bytes == 0 {
            return Vec::new();
        }
        let mut clean = Vec::with_capacity(piece.len() + 1);
        for &byte in piece.iter().take(self.left_bytes) {
            if std::mem::take(&mut self.is_after_c2) {
                if (0x80..0xa0).contains(&byte) {
                    clean.push(b'?');
                    continue;
                }
                clean.push(0xc2);
            }
            match byte {
                b'\n' | b'\r' | b'\t' | 0x20..=0x7e | 0x80..=0xc1 | 0xc3..=0xff => clean.push(byte),
                0xc2 => self.is_after_c2 = true,
                _ => clean.push(b'?'),
            }
        }
        if piece.len() >= self.left_bytes {
            self.left_bytes = 0;
            clean.extend_from_slice(b"\n[the rest of this hook's output is left out]\n");
        } else {
            self.left_bytes -= piece.len();
        }
        clean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sandbox {
        folder: tempfile::TempDir,
        hooks: Hooks,
    }

    impl Sandbox {
        fn new(script: &str) -> Self {
            let folder = tempfile::tempdir().expect("temporary folder");
            let path = folder.path().join("pre-receive");
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("writes");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("sets the mode");
            let hooks = Hooks {
                folder: Some(folder.path().to_owned()),
                git_dir: folder.path().to_owned(),
                environment: vec![("GIT_PUSH_OPTION_COUNT".into(), "0".into())],
                timeout: Duration::from_secs(60),
                max_output_bytes: 1 << 20,
            };
            Self { folder, hooks }
        }

        fn run(&self, input: &[u8]) -> (Result<HookResult, Stopped>, String) {
            self.run_with_tick(input, &mut || Ok(()))
        }

        fn run_with_tick(&self, input: &[u8], tick: Tick<'_>) -> (Result<HookResult, Stopped>, String) {
            let mut printed = Vec::new();
            let args = [OsStr::new("one"), OsStr::new("two words")];
            let quarantine = self.folder.path().join("incoming");
            let call = HookCall {
                name: "pre-receive",
                args: &args,
                input: input.to_vec(),
                quarantine: Some(&quarantine),
            };
            let result = self.hooks.run(
                call,
                &mut |piece| {
                    printed.extend_from_slice(piece);
                    Ok(())
                },
                tick,
            );
            (result, String::from_utf8_lossy(&printed).into_owned())
        }
    }

    #[test]
    fn a_hook_gets_its_input_arguments_and_environment_and_nothing_else_of_ours() {
        let sandbox = Sandbox::new(
            "cat; printf '%s|' \"$@\"; echo \"$GIT_DIR $GIT_PUSH_OPTION_COUNT ${CARGO_MANIFEST_DIR-none}\"; \
             echo ${GIT_QUARANTINE_PATH##*/} ${GIT_OBJECT_DIRECTORY##*/} ${GIT_ALTERNATE_OBJECT_DIRECTORIES##*/} >&2",
        );

        let (result, printed) = sandbox.run(b"old new ref\n");

        assert_eq!(result.expect("not stopped"), HookResult::Accepted);
        assert_eq!(
            printed,
            "old new ref\none|two words|. 0 none\nincoming incoming objects\n"
        );
    }

    #[test]
    fn a_hook_that_fails_declines() {
        let (result, printed) = Sandbox::new("echo no >&2; exit 3").run(b"");

        assert_eq!(result.expect("not stopped"), HookResult::Declined);
        assert_eq!(printed, "no\n");
    }

    #[test]
    fn a_hook_that_is_missing_not_executable_or_not_trusted_does_not_run() {
        let mut sandbox = Sandbox::new("exit 1");
        let path = sandbox.folder.path().join("pre-receive");
        sandbox.hooks.folder = None;
        assert_eq!(sandbox.run(b"").0.expect("not stopped"), HookResult::Absent);

        sandbox.hooks.folder = Some(sandbox.folder.path().to_owned());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("sets the mode");
        assert_eq!(sandbox.run(b"").0.expect("not stopped"), HookResult::Absent);

        std::fs::remove_file(&path).expect("removes");
        assert_eq!(sandbox.run(b"").0.expect("not stopped"), HookResult::Absent);
    }

    #[test]
    fn a_hook_that_cannot_be_started_declines_and_says_so() {
        let sandbox = Sandbox::new("");
        std::fs::write(sandbox.folder.path().join("pre-receive"), "#!/no/such/program\n").expect("writes");

        let (result, printed) = sandbox.run(b"");

        assert_eq!(result.expect("not stopped"), HookResult::Declined);
        assert!(printed.contains("could not be started"), "{printed}");
    }

    #[test]
    fn a_hook_that_reads_nothing_of_a_large_input_is_no_error() {
        let (result, _) = Sandbox::new("exit 0").run(&vec![b'x'; 1 << 20]);

        assert_eq!(result.expect("not stopped"), HookResult::Accepted);
    }

    #[test]
    fn a_hook_that_runs_too_long_is_ended_with_all_it_started() {
        let mut sandbox = Sandbox::new("echo start; (sleep 1000; touch late) & echo $! > child; sleep 1000");
        sandbox.hooks.timeout = Duration::from_millis(300);

        let (result, printed) = sandbox.run(b"");

        assert_eq!(result.expect("not stopped"), HookResult::TimedOut);
        assert!(printed.contains("was ended"), "{printed}");
        let child = std::fs::read_to_string(sandbox.folder.path().join("child")).expect("the hook wrote it");
        // What was killed is gone once it had its turn, which takes a while on a busy machine.
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        let is_gone = |state: &str| state.is_empty() || state.contains(") Z ");
        let until = Instant::now() + Duration::from_secs(20);
        while !is_gone(&state()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(is_gone(&state()), "{}", state());
    }

    #[test]
    fn a_client_that_goes_away_ends_the_hook() {
        let sandbox = Sandbox::new("sleep 1000");

        let (result, _) = sandbox.run_with_tick(b"", &mut || Err(Stopped::Cancelled));

        assert!(matches!(result, Err(Stopped::Cancelled)));
    }

    #[test]
    fn output_is_cleaned_and_bounded() {
        let mut sandbox = Sandbox::new("printf 'a\\033[31mb\\302\\233c\\303\\251\\007\\n'; yes | head -c 100000");
        sandbox.hooks.max_output_bytes = 1000;

        let (result, printed) = sandbox.run(b"");

        assert_eq!(result.expect("not stopped"), HookResult::Accepted);
        assert!(printed.starts_with("a?[31mb?cé?\n"), "{printed}");
        assert!(printed.len() < 1100 && printed.contains("left out"));
    }
}
