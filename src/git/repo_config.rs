//! What one repository's own git config asks of the server.
//!
//! Read from the repository's `config` alone: no system, user or environment config. The settings
//! mean what git documents. They can narrow what this server offers, never widen what a person may
//! do; where the file is silent the `[git]` settings decide, hence the many `Option`s.

mod elsewhere;
mod proc_receive;

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bstr::{BStr, BString, ByteSlice};
use gix::config::file::{Metadata, SectionRef};
use gix::config::{Boolean, File, Integer};
use gix::hash::Kind;

pub use self::elsewhere::PackfileUri;
pub use self::proc_receive::ProcReceiveRule;

/// Largest config that is read, in bytes.
const MAX_CONFIG_BYTES: u64 = 4 << 20;
/// Extensions of repository format 1 that change nothing for a server, in lower case.
const HARMLESS_EXTENSIONS: &[&str] = &[
    "noop",
    "noop-v1",
    "partialclone",
    "preciousobjects",
    "relativeworktrees",
    "submodulepathconfig",
    "worktreeconfig",
];

/// Why a repository's config cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadConfig {
    /// The file could not be read.
    #[error("could not read {path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not git config.
    #[error("{path} is not a valid git config: {reason}", path = path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// A value does not fit its key.
    #[error("{path}: {key} cannot be '{value}'; expected {expected}", path = path.display())]
    BadValue {
        /// The file.
        path: PathBuf,
        /// The key, with its section.
        key: String,
        /// What the file says.
        value: BString,
        /// What it may say.
        expected: &'static str,
    },
    /// The repository is of a form this version cannot serve.
    #[error("the repository uses {0}, which this version of Auxin cannot serve")]
    Unsupported(String),
}

/// What `lsrefs.unborn` says about a HEAD whose branch does not exist yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unborn {
    /// Offered, and told to whoever asks.
    #[default]
    Advertise,
    /// Told to whoever asks, not offered.
    Allow,
    /// Never told.
    Ignore,
}

/// What a `receive.deny…` key with several values says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deny {
    /// Allowed.
    Ignore,
    /// Allowed with a warning.
    Warn,
    /// Refused.
    Refuse,
}

/// Whether stock git keeps reflogs of a bare repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogRefUpdates {
    /// None.
    No,
    /// Of branches and a few others.
    Yes,
    /// Of every ref.
    Always,
}

/// One `hideRefs` rule.
#[derive(Clone, Debug, PartialEq, Eq)]
struct HideRule {
    /// `!`: what matches is shown.
    negated: bool,
    /// A ref name, or the front of one up to a `/`.
    prefix: BString,
}

/// A repository's own settings. A field that is `None` leaves the decision to the `[git]` settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepoConfig {
    /// `http.uploadpack`: fetching over HTTP.
    pub http_upload_pack: Option<bool>,
    /// `http.receivepack`: pushing over HTTP.
    pub http_receive_pack: Option<bool>,
    /// `core.bare`.
    pub bare: Option<bool>,
    /// `core.logAllRefUpdates`.
    pub log_ref_updates: Option<LogRefUpdates>,
    /// `core.hooksPath`, only when the repository's hooks are trusted.
    pub hooks_path: Option<PathBuf>,
    /// `uploadpack.allowFilter`.
    pub allow_filter: Option<bool>,
    /// `uploadpack.allowReachableSHA1InWant`, or `…allowAnySHA1InWant`, whichever comes last.
    /// `Some(true)` allows no more than the `[git]` settings do.
    pub allow_reachable_wants: Option<bool>,
    /// `uploadpack.allowRefInWant`: `want-ref` is offered.
    pub allow_ref_in_want: Option<bool>,
    /// `uploadpack.allowSidebandAll`: `sideband-all` is offered.
    pub allow_sideband_all: Option<bool>,
    /// `uploadpack.keepAlive`, in seconds; `Some(0)` sends none.
    pub upload_keep_alive_secs: Option<u64>,
    /// `uploadpackfilter.tree.maxDepth`.
    pub tree_filter_max_depth: Option<u64>,
    /// `lsrefs.unborn`.
    pub unborn: Unborn,
    /// `transfer.advertiseSID`.
    pub advertise_session_id: Option<bool>,
    /// `transfer.advertiseObjectInfo`.
    pub advertise_object_info: Option<bool>,
    /// `uploadpack.advertiseBundleURIs`.
    pub advertise_bundle_uris: Option<bool>,
    /// All `bundle.*` keys as `bundle-uri` tells them: `bundle.version=1`.
    pub bundle_lines: Vec<BString>,
    /// `uploadpack.blobPackfileUri`.
    pub packfile_uris: Vec<PackfileUri>,
    /// `receive.certNonceSeed`.
    pub cert_nonce_seed: Option<BString>,
    /// `receive.certNonceSlop`, in seconds.
    pub cert_nonce_slop_secs: Option<u64>,
    /// `receive.procReceiveRefs`.
    pub proc_receive_rules: Vec<ProcReceiveRule>,
    /// `receive.denyNonFastForwards`.
    pub deny_non_fast_forwards: Option<bool>,
    /// `receive.denyDeletes`.
    pub deny_deletes: Option<bool>,
    /// `receive.denyDeleteCurrent`.
    pub deny_delete_current: Option<Deny>,
    /// `receive.fsckObjects`, else `transfer.fsckObjects`.
    pub fsck_objects: Option<bool>,
    /// `receive.fsck.<message>` in the order of the file: message id in lower case and severity; of
    /// `skiplist` the path.
    pub fsck_severities: Vec<(String, String)>,
    /// `receive.maxInputSize`, in bytes; 0 is no limit.
    pub max_input_bytes: Option<u64>,
    /// `receive.advertiseAtomic`.
    pub advertise_atomic: Option<bool>,
    /// `receive.advertisePushOptions`.
    pub advertise_push_options: Option<bool>,
    /// `receive.shallowUpdate`.
    pub shallow_update: Option<bool>,
    /// `receive.keepAlive`, in seconds; `Some(0)` sends none.
    pub receive_keep_alive_secs: Option<u64>,
    /// `extensions.preciousObjects`: no object may be removed, others may need it.
    pub precious_objects: bool,

    object_hash: Kind,
    filters_by_default: Option<bool>,
    filters: Vec<(String, bool)>,
    hidden_from_upload: Vec<HideRule>,
    hidden_from_receive: Vec<HideRule>,
    receive_fsck_objects: Option<bool>,
    transfer_fsck_objects: Option<bool>,
}

impl RepoConfig {
    /// Reads the config file at `path`; a file that does not exist is an empty one, as for git.
    ///
    /// `include` and `core.hooksPath` are followed only with `trusted`: an adopted repository must
    /// not name files or programs of the server's machine before an administrator says so.
    ///
    /// # Errors
    /// Any [`BadConfig`].
    pub fn read(path: &Path, trusted: bool) -> Result<Self, BadConfig> {
        let mut config = Self::default();
        let Some(file) = load(path, trusted)? else {
            return Ok(config);
        };
        config.object_hash = check_format(path, &file)?;
        config.apply(path, &file, trusted)?;
        if worktree_config(&file) {
            let path = path.with_file_name("config.worktree");
            if let Some(file) = load(&path, trusted)? {
                config.apply(&path, &file, trusted)?;
            }
        }
        config.fsck_objects = config.receive_fsck_objects.or(config.transfer_fsck_objects);
        Ok(config)
    }

    /// Reads config from memory: what [`RepoConfig::read`] does with a file's content. No include
    /// is followed.
    ///
    /// # Errors
    /// Any [`BadConfig`] except `Io`.
    pub fn parse(content: &[u8], trusted: bool) -> Result<Self, BadConfig> {
        let path = Path::new("config");
        let mut config = Self::default();
        let file = parse_file(path, content)?;
        config.object_hash = check_format(path, &file)?;
        config.apply(path, &file, trusted)?;
        config.fsck_objects = config.receive_fsck_objects.or(config.transfer_fsck_objects);
        Ok(config)
    }

    /// The hash function of the repository's ids. Reading refuses those that cannot be served.
    pub fn object_hash(&self) -> Kind {
        self.object_hash
    }

    /// Whether fetches must not see the ref of this full name (`transfer.hideRefs`,
    /// `uploadpack.hideRefs`).
    pub fn hidden_from_upload(&self, name: &[u8]) -> bool {
        is_hidden(&self.hidden_from_upload, name)
    }

    /// Whether pushes must not see or touch the ref of this full name (`transfer.hideRefs`,
    /// `receive.hideRefs`).
    pub fn hidden_from_receive(&self, name: &[u8]) -> bool {
        is_hidden(&self.hidden_from_receive, name)
    }

    /// Whether any rule hides refs from fetches.
    pub fn hides_from_upload(&self) -> bool {
        !self.hidden_from_upload.is_empty()
    }

    /// Whether filters of this kind are allowed. `name` is what follows `uploadpackfilter.` in the
    /// config: `blob:none`, `blob:limit`, `tree`, `sparse:oid`, `object:type` or `combine`.
    pub fn allows_filter(&self, name: &str) -> bool {
        self.filters
            .iter()
            .rev()
            .find(|(filter, _)| filter == name)
            .map(|(_, allowed)| *allowed)
            .or(self.filters_by_default)
            .unwrap_or(true)
    }

    fn apply(&mut self, path: &Path, file: &File, trusted: bool) -> Result<(), BadConfig> {
        for section in file.sections() {
            let header = section.header();
            let name = header.name().to_str_lossy().to_ascii_lowercase();
            let subsection = header.subsection_name();
            for (key, value) in section.body() {
                let entry = Entry {
                    path,
                    section,
                    key: key.to_ascii_lowercase(),
                    value,
                };
                match subsection {
                    None => self.apply_plain(&name, &entry, trusted)?,
                    Some(subsection) => self.apply_nested(&name, subsection, &entry)?,
                }
            }
        }
        Ok(())
    }

    fn apply_plain(&mut self, section: &str, entry: &Entry<'_>, trusted: bool) -> Result<(), BadConfig> {
        match (section, entry.key.as_str()) {
            ("http", "uploadpack") => self.http_upload_pack = Some(entry.boolean()?),
            ("http", "receivepack") => self.http_receive_pack = Some(entry.boolean()?),
            ("core", "bare") => self.bare = Some(entry.boolean()?),
            ("extensions", "preciousobjects") => self.precious_objects = entry.boolean()?,
            ("core", "hookspath") if trusted => {
                self.hooks_path = Some(PathBuf::from(OsStr::from_bytes(&entry.value)));
            }
            ("core", "logallrefupdates") => {
                self.log_ref_updates = Some(if entry.value.eq_ignore_ascii_case(b"always") {
                    LogRefUpdates::Always
                } else if entry.boolean()? {
                    LogRefUpdates::Yes
                } else {
                    LogRefUpdates::No
                });
            }
            ("uploadpack", "allowfilter") => self.allow_filter = Some(entry.boolean()?),
            ("uploadpack", "allowreachablesha1inwant" | "allowanysha1inwant") => {
                self.allow_reachable_wants = Some(entry.boolean()?);
            }
            ("uploadpack", "allowrefinwant") => self.allow_ref_in_want = Some(entry.boolean()?),
            ("uploadpack", "allowsidebandall") => self.allow_sideband_all = Some(entry.boolean()?),
            ("uploadpack", "advertisebundleuris") => self.advertise_bundle_uris = Some(entry.boolean()?),
            ("uploadpack", "blobpackfileuri") => {
                let uri = PackfileUri::parse(entry.value.as_bstr())
                    .filter(|new| self.packfile_uris.iter().all(|known| known.object != new.object))
                    .ok_or_else(|| entry.bad_value("'<object> <pack> <uri>', each object once"))?;
                self.packfile_uris.push(uri);
            }
            ("bundle", key) => self
                .bundle_lines
                .push(elsewhere::bundle_line(None, key, entry.value.as_bstr())),
            ("uploadpack", "keepalive") => self.upload_keep_alive_secs = Some(entry.unsigned()?),
            ("uploadpackfilter", "allow") => self.filters_by_default = Some(entry.boolean()?),
            ("transfer", "hiderefs") => {
                self.hidden_from_upload.push(HideRule::parse(entry.value.as_bstr()));
                self.hidden_from_receive.push(HideRule::parse(entry.value.as_bstr()));
            }
            ("uploadpack", "hiderefs") => {
                self.hidden_from_upload.push(HideRule::parse(entry.value.as_bstr()));
            }
            ("receive", "hiderefs") => {
                self.hidden_from_receive.push(HideRule::parse(entry.value.as_bstr()));
            }
            ("transfer", "advertisesid") => self.advertise_session_id = Some(entry.boolean()?),
            ("transfer", "advertiseobjectinfo") => self.advertise_object_info = Some(entry.boolean()?),
            ("transfer", "fsckobjects") => self.transfer_fsck_objects = Some(entry.boolean()?),
            ("receive", "fsckobjects") => self.receive_fsck_objects = Some(entry.boolean()?),
            ("receive", "certnonceseed") => self.cert_nonce_seed = Some(entry.value.clone()),
            ("receive", "certnonceslop") => self.cert_nonce_slop_secs = Some(entry.unsigned()?),
            ("receive", "procreceiverefs") => {
                self.proc_receive_rules
                    .push(ProcReceiveRule::parse(entry.value.as_bstr()));
            }
            ("receive", "denynonfastforwards") => {
                self.deny_non_fast_forwards = Some(entry.boolean()?);
            }
            ("receive", "denydeletes") => self.deny_deletes = Some(entry.boolean()?),
            ("receive", "denydeletecurrent") => self.deny_delete_current = Some(entry.deny()?),
            ("receive", "maxinputsize") => self.max_input_bytes = Some(entry.unsigned()?),
            ("receive", "advertiseatomic") => self.advertise_atomic = Some(entry.boolean()?),
            ("receive", "advertisepushoptions") => {
                self.advertise_push_options = Some(entry.boolean()?);
            }
            ("receive", "shallowupdate") => self.shallow_update = Some(entry.boolean()?),
            ("receive", "keepalive") => self.receive_keep_alive_secs = Some(entry.unsigned()?),
            ("lsrefs", "unborn") => {
                self.unborn = match entry.value.as_slice() {
                    b"advertise" => Unborn::Advertise,
                    b"allow" => Unborn::Allow,
                    b"ignore" => Unborn::Ignore,
                    _ => return Err(entry.bad_value("advertise, allow or ignore")),
                };
            }
            _ => {}
        }
        Ok(())
    }

    fn apply_nested(&mut self, section: &str, subsection: &BStr, entry: &Entry<'_>) -> Result<(), BadConfig> {
        match (section, entry.key.as_str()) {
            ("bundle", key) => {
                let line = elsewhere::bundle_line(Some(subsection), key, entry.value.as_bstr());
                self.bundle_lines.push(line);
            }
            ("uploadpackfilter", "allow") => {
                let name = subsection.to_str_lossy().into_owned();
                self.filters.push((name, entry.boolean()?));
            }
            ("uploadpackfilter", "maxdepth") if subsection == "tree" => {
                self.filters.push(("tree".into(), true));
                self.tree_filter_max_depth = Some(entry.unsigned()?);
            }
            ("receive", key) if subsection.eq_ignore_ascii_case(b"fsck") => {
                // The value of `skipList` is a path.
                let mut severity = entry.value.to_str_lossy().into_owned();
                if key != "skiplist" {
                    severity.make_ascii_lowercase();
                }
                self.fsck_severities.push((key.to_owned(), severity));
            }
            _ => {}
        }
        Ok(())
    }
}

impl HideRule {
    fn parse(value: &BStr) -> Self {
        let value: &[u8] = value.trim_end_with(|character| character == '/');
        let (negated, value) = match value.strip_prefix(b"!") {
            Some(rest) => (true, rest),
            None => (false, value),
        };
        // `^` asks for the name with its namespace; without namespaces the two are the same.
        let value = value.strip_prefix(b"^").unwrap_or(value);
        Self {
            negated,
            prefix: value.into(),
        }
    }

    fn matches(&self, name: &[u8]) -> bool {
        match name.strip_prefix(self.prefix.as_slice()) {
            Some(rest) => rest.is_empty() || rest[0] == b'/',
            None => false,
        }
    }
}

/// The last rule that matches decides, as git documents.
fn is_hidden(rules: &[HideRule], name: &[u8]) -> bool {
    rules
        .iter()
        .rev()
        .find(|rule| rule.matches(name))
        .is_some_and(|rule| !rule.negated)
}

/// One line of a config file.
struct Entry<'a> {
    path: &'a Path,
    section: SectionRef<'a>,
    key: String,
    value: BString,
}

impl Entry<'_> {
    fn boolean(&self) -> Result<bool, BadConfig> {
        // A key without `=` is true, a key with nothing behind the `=` is false.
        if self.value.is_empty() && self.section.value_implicit(&self.key) == Some(None) {
            return Ok(true);
        }
        Boolean::try_from(self.value.as_bstr())
            .map(Boolean::is_true)
            .map_err(|_| self.bad_value("true or false"))
    }

    fn unsigned(&self) -> Result<u64, BadConfig> {
        Integer::from_bytes::<u64>(self.value.as_bstr())
            .map_err(|_| self.bad_value("a number, with k, m or g if it is large"))
    }

    fn deny(&self) -> Result<Deny, BadConfig> {
        if self.value.eq_ignore_ascii_case(b"ignore") {
            Ok(Deny::Ignore)
        } else if self.value.eq_ignore_ascii_case(b"warn") {
            Ok(Deny::Warn)
        } else if self.value.eq_ignore_ascii_case(b"refuse") || self.boolean()? {
            Ok(Deny::Refuse)
        } else {
            Ok(Deny::Ignore)
        }
    }

    fn bad_value(&self, expected: &'static str) -> BadConfig {
        BadConfig::BadValue {
            path: self.path.to_owned(),
            key: format!("{}.{}", self.section.header().name(), self.key),
            value: self.value.clone(),
            expected,
        }
    }
}

/// The parsed file, includes resolved if `follow_includes`; `None` if there is none.
fn load(path: &Path, follow_includes: bool) -> Result<Option<File>, BadConfig> {
    let io_error = |source| BadConfig::Io {
        path: path.to_owned(),
        source,
    };
    let mut content = Vec::new();
    match std::fs::File::open(path) {
        Ok(file) => {
            file.take(MAX_CONFIG_BYTES + 1)
                .read_to_end(&mut content)
                .map_err(io_error)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(error)),
    }
    if content.len() as u64 > MAX_CONFIG_BYTES {
        return Err(BadConfig::Invalid {
            path: path.to_owned(),
            reason: format!("it is larger than {MAX_CONFIG_BYTES} bytes"),
        });
    }
    let mut file = parse_file(path, &content)?;
    if follow_includes {
        resolve_includes(path, &mut file)?;
    }
    Ok(Some(file))
}

fn parse_file(path: &Path, content: &[u8]) -> Result<File, BadConfig> {
    let meta = Metadata::from(gix::config::Source::Local).at(path);
    let options = gix::config::file::init::Options {
        lossy: true,
        ..Default::default()
    };
    File::from_bytes_no_includes(content, meta, options).map_err(|error| invalid(path, &error))
}

fn resolve_includes(path: &Path, file: &mut File) -> Result<(), BadConfig> {
    let git_dir = path.parent().unwrap_or(Path::new("."));
    let head = std::fs::read(git_dir.join("HEAD")).unwrap_or_default();
    let branch = head.strip_prefix(b"ref: ").unwrap_or(b"").trim_ascii_end();
    let branch = gix::refs::FullName::try_from(branch.as_bstr()).ok();
    let options = gix::config::file::init::Options {
        includes: gix::config::file::includes::Options::follow(
            Default::default(),
            gix::config::file::includes::conditional::Context {
                git_dir: Some(git_dir),
                branch_name: branch.as_ref().map(AsRef::as_ref),
            },
        ),
        lossy: true,
        ignore_io_errors: false,
    };
    file.resolve_includes(options).map_err(|error| invalid(path, &error))
}

fn invalid(path: &Path, error: &gix::Error) -> BadConfig {
    BadConfig::Invalid {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

/// The hash function of the ids. Refuses repositories whose format or extensions this version does not
/// know, as git does.
fn check_format(path: &Path, file: &File) -> Result<Kind, BadConfig> {
    let mut version = 0;
    let mut extensions = Vec::new();
    for section in file.sections() {
        let header = section.header();
        if header.subsection_name().is_some() {
            continue;
        }
        let is_core = header.name().eq_ignore_ascii_case(b"core");
        let is_extensions = header.name().eq_ignore_ascii_case(b"extensions");
        for (key, value) in section.body() {
            let key = key.to_ascii_lowercase();
            if is_core && key == "repositoryformatversion" {
                let entry = Entry {
                    path,
                    section,
                    key,
                    value,
                };
                version = entry.unsigned()?;
            } else if is_extensions {
                extensions.push((key, value));
            }
        }
    }
    if version > 1 {
        return Err(BadConfig::Unsupported(format!("repository format {version}")));
    }
    let mut hash = Kind::Sha1;
    for (key, value) in extensions {
        match key.as_str() {
            "objectformat" if value.eq_ignore_ascii_case(b"sha1") => hash = Kind::Sha1,
            "objectformat" if value.eq_ignore_ascii_case(b"sha256") && version == 1 => hash = Kind::Sha256,
            "objectformat" => {
                return Err(BadConfig::Unsupported(format!(
                    "the object format '{value}' in repository format {version}"
                )));
            }
            "refstorage" if value.eq_ignore_ascii_case(b"files") => {}
            "refstorage" => return Err(BadConfig::Unsupported(format!("the ref storage '{value}'"))),
            name if HARMLESS_EXTENSIONS.contains(&name) => continue,
            // Format 0 ignores extensions it does not know; format 1 must not.
            _ if version == 0 => continue,
            name => {
                return Err(BadConfig::Unsupported(format!("the extension '{name}'")));
            }
        }
    }
    Ok(hash)
}

fn worktree_config(file: &File) -> bool {
    matches!(file.boolean("extensions.worktreeConfig"), Ok(Some(true)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(content: &str) -> RepoConfig {
        RepoConfig::parse(content.as_bytes(), false).unwrap()
    }

    #[test]
    fn a_silent_config_leaves_every_decision_to_the_server() {
        assert_eq!(config("[core]\n\trepositoryformatversion = 0\n"), RepoConfig::default());
    }

    #[test]
    fn a_config_that_does_not_exist_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let read = RepoConfig::read(&folder.path().join("config"), false).unwrap();
        assert_eq!(read, RepoConfig::default());
    }

    #[test]
    fn the_last_matching_hide_rule_decides_across_sections() {
        let config = config(
            "[transfer]\n hideRefs = refs/pull/\n hideRefs = refs/secret\n\
             [uploadpack]\n hideRefs = !refs/pull/7\n\
             [receive]\n hideRefs = ^refs/tags\n",
        );
        assert!(config.hidden_from_upload(b"refs/pull/1/head"));
        assert!(config.hidden_from_upload(b"refs/secret"));
        assert!(!config.hidden_from_upload(b"refs/secrets/a"));
        assert!(!config.hidden_from_upload(b"refs/pull/7/head"));
        assert!(!config.hidden_from_upload(b"refs/tags/v1"));
        assert!(config.hidden_from_receive(b"refs/pull/7/head"));
        assert!(config.hidden_from_receive(b"refs/tags/v1"));
        assert!(!config.hidden_from_receive(b"refs/heads/main"));
    }

    #[test]
    fn a_negated_rule_may_carry_the_full_name_mark() {
        let config = config("[transfer]\n hideRefs = refs/x\n hideRefs = !^refs/x/y\n");
        assert!(config.hidden_from_upload(b"refs/x/z"));
        assert!(!config.hidden_from_upload(b"refs/x/y"));
    }

    #[test]
    fn booleans_are_read_as_git_reads_them() {
        for (text, expected) in [
            ("allowFilter", true),
            ("allowFilter =", false),
            ("allowfilter = yes", true),
            ("AllowFilter = off", false),
            ("allowFilter = 2", true),
        ] {
            let config = config(&format!("[uploadPack]\n {text}\n"));
            assert_eq!(config.allow_filter, Some(expected), "{text}");
        }
    }

    #[test]
    fn a_bad_value_is_named_with_its_file_and_key() {
        let error = RepoConfig::parse(b"[http]\n receivepack = maybe\n", false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "config: http.receivepack cannot be 'maybe'; expected true or false"
        );
    }

    #[test]
    fn filters_follow_their_own_key_and_then_the_general_one() {
        let config = config(
            "[uploadpackfilter]\n allow = false\n\
             [uploadpackfilter \"blob:none\"]\n allow = true\n\
             [uploadpackfilter \"tree\"]\n maxDepth = 3\n",
        );
        assert!(config.allows_filter("blob:none"));
        assert!(config.allows_filter("tree"));
        assert!(!config.allows_filter("blob:limit"));
        assert_eq!(config.tree_filter_max_depth, Some(3));
        assert!(RepoConfig::default().allows_filter("sparse:oid"));
    }

    #[test]
    fn sizes_may_have_a_unit() {
        let config = config("[receive]\n maxInputSize = 10m\n");
        assert_eq!(config.max_input_bytes, Some(10 << 20));
    }

    #[test]
    fn the_receive_key_wins_over_the_transfer_key() {
        let both = config("[receive]\n fsckObjects = false\n[transfer]\n fsckObjects = true\n");
        assert_eq!(both.fsck_objects, Some(false));
        let one = config("[transfer]\n fsckObjects = true\n");
        assert_eq!(one.fsck_objects, Some(true));
    }

    #[test]
    fn the_object_format_is_what_the_extension_says() {
        assert_eq!(config("").object_hash(), Kind::Sha1);
        let of = |format: &str| {
            config(&format!(
                "[core]\nrepositoryformatversion = 1\n[extensions]\nobjectFormat = {format}\n"
            ))
        };
        assert_eq!(of("sha1").object_hash(), Kind::Sha1);
        assert_eq!(of("sha256").object_hash(), Kind::Sha256);
    }

    #[test]
    fn unknown_formats_are_refused() {
        for (content, expected) in [
            ("[core]\nrepositoryformatversion = 2\n", "repository format 2"),
            (
                "[core]\nrepositoryformatversion = 1\n[extensions]\nobjectFormat = md5\n",
                "object format 'md5' in repository format 1",
            ),
            (
                "[extensions]\nobjectFormat = sha256\n",
                "object format 'sha256' in repository format 0",
            ),
            (
                "[core]\nrepositoryformatversion = 1\n[extensions]\nobjectFormat = sha256\ncompatObjectFormat = sha1\n",
                "extension 'compatobjectformat'",
            ),
            (
                "[core]\nrepositoryformatversion = 1\n[extensions]\nrefStorage = reftable\n",
                "ref storage 'reftable'",
            ),
            (
                "[core]\nrepositoryformatversion = 1\n[extensions]\nnewThing = yes\n",
                "extension 'newthing'",
            ),
        ] {
            let error = RepoConfig::parse(content.as_bytes(), false).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn hooks_paths_and_includes_are_followed_only_when_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        std::fs::write(&path, "[include]\n path = more\n[core]\n hooksPath = /elsewhere\n").unwrap();
        std::fs::write(folder.path().join("more"), "[http]\n receivepack = false\n").unwrap();

        let untrusted = RepoConfig::read(&path, false).unwrap();
        assert_eq!(untrusted, RepoConfig::default());

        let trusted = RepoConfig::read(&path, true).unwrap();
        assert_eq!(trusted.http_receive_pack, Some(false));
        assert_eq!(trusted.hooks_path, Some(PathBuf::from("/elsewhere")));
    }

    #[test]
    fn the_worktree_config_is_read_where_the_repository_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        let worktree = folder.path().join("config.worktree");
        std::fs::write(&worktree, "[transfer]\n hideRefs = refs/x\n").unwrap();

        std::fs::write(&path, "").unwrap();
        assert!(!RepoConfig::read(&path, false).unwrap().hides_from_upload());

        let on = "[core]\nrepositoryformatversion = 1\n[extensions]\nworktreeConfig = true\n";
        std::fs::write(&path, on).unwrap();
        assert!(RepoConfig::read(&path, false).unwrap().hides_from_upload());
    }

    #[test]
    fn text_that_is_no_config_is_refused() {
        assert!(matches!(
            RepoConfig::parse(b"[core\nbare", false),
            Err(BadConfig::Invalid { .. })
        ));
    }
}
