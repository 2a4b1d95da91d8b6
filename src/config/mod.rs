//! Typed settings: what can be set, its default, its unit and what is allowed.
//!
//! One list below makes everything that speaks of a setting: the field with its documentation, its
//! default, the check of its value, the commented template and the table in `docs/operations.md`.
//! Values come from built-in defaults, then `auxin.toml`, then the environment, then flags, in
//! rising order; [`parse`] does that on plain text and never touches the disk, [`load`] reads the
//! file and the environment of a real process.

mod bucket_url;
mod key;
mod load;
mod parse;
#[cfg(test)]
mod parse_tests;
mod public_url;
mod template;
mod text;

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;

pub use key::{Key, Rule};
pub use load::{LoadError, load};
pub use parse::{FlagValue, Place, SettingError, parse};
pub use template::{markdown_table, template};

/// Makes the structs of all sections, their defaults, and the list of [`Key`]s from one list.
macro_rules! settings {
    ($(
        $(#[doc = $section_doc:literal])+
        $section:ident: $Section:ident {
            $(
                $(#[doc = $doc:literal])+
                $name:ident: $type:ty = $default:expr, $rule:expr;
            )+
        }
    )+) => {
        /// Every setting of a server. Each field can be set in `auxin.toml`, as
        /// `AUXIN_SECTION__KEY` in the environment, and some as flags, in rising order.
        #[derive(Clone, Debug, Default, PartialEq, Serialize)]
        pub struct Settings {
            $( $(#[doc = $section_doc])+ pub $section: $Section, )+
        }

        $(
            $(#[doc = $section_doc])+
            #[derive(Clone, Debug, PartialEq, Serialize)]
            pub struct $Section {
                $( $(#[doc = $doc])+ pub $name: $type, )+
            }

            impl Default for $Section {
                fn default() -> Self {
                    Self { $( $name: $default, )+ }
                }
            }
        )+

        /// Every section with its documentation, in the order of the template.
        pub static SECTIONS: &[(&str, &[&str])] = &[
            $( (stringify!($section), &[$($section_doc),+]), )+
        ];

        /// Every setting, in the order of the template.
        pub static KEYS: &[Key] = &[
            $($(
                Key {
                    section: stringify!($section),
                    name: stringify!($name),
                    doc: &[$($doc),+],
                    kind: <$type as key::SettingValue>::KIND,
                    rule: $rule,
                    set: |settings, raw| key::set(&mut settings.$section.$name, raw, &$rule),
                    show: |settings| key::SettingValue::to_toml(&settings.$section.$name),
                },
            )+)+
        ];
    };
}

const DAY_SECS: u64 = 24 * 60 * 60;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

settings! {
    /// Where the server listens and how it is reached.
    server: ServerSettings {
        /// Address and port to listen on. Port 0 takes any free port.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8420)), Rule::Any;
        /// The address people use, such as `https://git.example.org`; every link is made from it.
        /// Empty: `http://` (`https://` with a certificate) and the listening address.
        public_url: String = String::new(), Rule::Text {
            allowed: "empty, or an address such as \"https://git.example.org\": http or https, without user, query or fragment",
            holds: |text| text.is_empty() || public_url::is_public_url(text),
        };
        /// Networks whose `Forwarded` and `X-Forwarded-*` headers are believed, such as `10.0.0.0/8`.
        trusted_proxies: Vec<ipnet::IpNet> = Vec::new(), Rule::Any;
        /// Certificate chain (PEM); with `tls_key_file` the server speaks TLS itself.
        tls_cert_file: Option<PathBuf> = None, Rule::Any;
        /// Private key of the certificate (PEM).
        tls_key_file: Option<PathBuf> = None, Rule::Any;
        /// How long running transfers may go on after SIGTERM, in seconds.
        drain_secs: u64 = 30, Rule::Range(0, DAY_SECS);
        /// How long a client may take to send its request head, in seconds.
        header_timeout_secs: u64 = 30, Rule::Range(1, DAY_SECS);
        /// How long a transfer may stay silent, in seconds. There is no limit on its whole length.
        idle_timeout_secs: u64 = 120, Rule::Range(1, DAY_SECS);
        /// Connections open at once.
        max_connections: usize = 1024, Rule::Range(1, 1_000_000);
        /// Requests running at once for one caller (address or user).
        max_requests_per_caller: usize = 64, Rule::Range(1, 1_000_000);
        /// Transfers at once, slow and waiting ones included: each takes a thread when its turn comes. No caller may hold
        /// more of them than are free, so that a few slow ones leave room for everybody else.
        max_transfers: usize = 256, Rule::Range(4, 1024);
    }

    /// Sign-in.
    auth: AuthSettings {
        /// How long a verified password is remembered in memory, in seconds; 0 remembers none.
        password_cache_secs: u64 = 300, Rule::Range(0, DAY_SECS);
        /// Passwords hashed at once (each takes about 19 MiB and tens of milliseconds).
        hash_parallelism: usize = 2, Rule::Range(1, 256);
        /// Failed sign-ins of one account from one address before they are slowed.
        throttle_after_failures: u32 = 5, Rule::Range(1, 1_000_000);
        /// Longest wait between two failed sign-ins of one account from one address, in seconds.
        throttle_max_secs: u64 = 60, Rule::Range(1, DAY_SECS);
        /// A token's last use is written at most once in this time, in seconds.
        token_last_use_secs: u64 = 60, Rule::Range(1, DAY_SECS);
    }

    /// New repositories, and how many are kept open.
    repo: RepoSettings {
        /// A push to a repository that does not exist creates it, in one's own space.
        create_on_push: bool = true, Rule::Any;
        /// Visibility of a repository made by a push.
        default_visibility: String = "private".into(), Rule::OneOf(&["private", "internal", "public"]);
        /// The branch that HEAD of an empty repository names.
        default_branch: String = "main".into(), Rule::Text {
            allowed: "a branch name such as \"main\"",
            holds: is_branch_name,
        };
        /// Object format of a repository that `auxin repo create` makes. A push makes one of the format
        /// that it comes with, an import one of the format of its source.
        default_object_format: String = "sha1".into(), Rule::OneOf(&["sha1", "sha256"]);
        /// How long a repository stays that an upload of large files made and no push has filled, in seconds.
        empty_grace_secs: u64 = DAY_SECS, Rule::Range(60, 365 * DAY_SECS);
        /// Repositories kept open in memory.
        max_open: usize = 64, Rule::Range(1, 100_000);
    }

    /// The Git protocol where a repository's own config is silent, and its limits.
    git: GitSettings {
        /// Partial clones (`--filter`) are served.
        allow_filter: bool = true, Rule::Any;
        /// Objects may be asked for by id when an advertised ref reaches them.
        allow_reachable_wants: bool = true, Rule::Any;
        /// Refs may be asked for by name, so that one that moves between two requests breaks no fetch (`ref-in-want`).
        allow_ref_in_want: bool = false, Rule::Any;
        /// Progress and keep-alives may be sent within the whole answer to a fetch (`sideband-all`).
        allow_sideband_all: bool = false, Rule::Any;
        /// Clients are told an id of the session, which the log has too, and may tell theirs (`session-id`).
        advertise_session_id: bool = false, Rule::Any;
        /// Sizes of objects may be asked for without the objects (`object-info`).
        advertise_object_info: bool = false, Rule::Any;
        /// Clients that ask for it (`transfer.bundleURI`) are told of a repository's bundle, so that a clone downloads
        /// a file that lies ready and fetches only the rest.
        bundle_uri: bool = false, Rule::Any;
        /// For how long objects stay askable after the ref that reached them moved, in seconds.
        want_grace_secs: u64 = 3600, Rule::Range(0, 365 * DAY_SECS);
        /// Largest fetch request after decompression, in bytes.
        max_request_bytes: u64 = 64 << 20, Rule::Range(1024, 4 * GIB);
        /// Most `want` lines in a request.
        max_wants: usize = 1 << 20, Rule::Range(1, 1 << 30);
        /// Most `have` lines in a request.
        max_haves: usize = 1 << 18, Rule::Range(1, 1 << 30);
        /// Most `shallow` lines in a request.
        max_shallows: usize = 1 << 18, Rule::Range(1, 1 << 30);
        /// Most `ref-prefix` lines that are honoured; with more, all refs are listed.
        max_ref_prefixes: usize = 65_535, Rule::Range(1, 1 << 30);
        /// Nesting of `combine:` filters.
        max_filter_depth: usize = 16, Rule::Range(1, 64);
        /// Length of a filter, in bytes.
        max_filter_bytes: usize = 16 << 10, Rule::Range(16, 1 << 20);
        /// Filters that one `combine:` filter may have, in all its parts.
        max_filter_parts: usize = 64, Rule::Range(1, 1 << 20);
        /// Lists of patterns that a filter names (`sparse:oid=`), all together, in bytes.
        max_pattern_bytes: u64 = 1 << 20, Rule::Range(1, 64 << 20);
        /// Patterns in these lists; each takes about a hundred bytes of memory.
        max_patterns: usize = 1 << 16, Rule::Range(1, 1 << 22);
        /// Ref updates in one push.
        max_commands: usize = 200_000, Rule::Range(1, 1 << 30);
        /// Command list of one push, in bytes.
        max_command_bytes: usize = 64 << 20, Rule::Range(1024, 4 * GIB);
        /// Push options in one push.
        max_push_options: usize = 1000, Rule::Range(0, 1 << 20);
        /// Largest pack of a push, in bytes; 0 is no limit.
        max_push_bytes: u64 = 0, Rule::Range(0, 1024 * TIB);
        /// Most bytes that all objects of a push have when unpacked, those that deltas make included; 0 is no limit.
        max_push_inflated_bytes: u64 = 0, Rule::Range(0, 1024 * TIB);
        /// Largest push that comes compressed as a whole (some clients do that with short ones), after decompression, in
        /// bytes.
        max_compressed_push_bytes: u64 = GIB, Rule::Range(1024, 1024 * TIB);
        /// Most of a refused push that is read to its end, in bytes: clients hear why only when they have sent all.
        max_drain_bytes: u64 = 4 * GIB, Rule::Range(0, 1024 * TIB);
        /// Most objects in the pack of a push; while it arrives, each takes about 100 bytes of memory.
        max_push_objects: u32 = 12_000_000, Rule::Range(1, u32::MAX as u64);
        /// Largest single object in a push, in bytes.
        max_object_bytes: u64 = 16 << 30, Rule::Range(1, 1024 * TIB);
        /// Largest commit, folder listing or tag in a push, in bytes: these are held in memory.
        max_in_memory_bytes: u64 = 32 << 20, Rule::Range(1024, 256 << 20);
        /// Largest file that may be pushed as a delta or serve as the base of one, in bytes; larger ones must come
        /// whole. While deltas are worked out, such files lie on the disk a few times over.
        max_delta_object_bytes: u64 = GIB, Rule::Range(1024, TIB);
        /// Longest chain of deltas in a pushed pack.
        max_delta_depth: u32 = 4096, Rule::Range(0, 1_000_000);
        /// Longest ref name, in bytes.
        max_ref_name_bytes: usize = 1024, Rule::Range(16, 65_000);
        /// CPU time one request may spend on walking and planning, in seconds.
        cpu_budget_secs: u64 = 600, Rule::Range(1, DAY_SECS);
        /// Lists of refs made at once; further requests wait their turn.
        max_listings: usize = 8, Rule::Range(1, 10_000);
        /// Packs built for fetches at once; further requests wait their turn.
        max_packs_building: usize = 4, Rule::Range(1, 10_000);
        /// Pushes processed at once; further ones wait their turn.
        max_pushes: usize = 4, Rule::Range(1, 10_000);
        /// Requests that may wait for a turn of each kind before the server answers "too busy". No caller may have more
        /// of these places than are free.
        max_waiting: usize = 256, Rule::Range(0, 1_000_000);
        /// A keep-alive is sent after this silence, in seconds.
        keep_alive_secs: u64 = 5, Rule::Range(1, 3600);
        /// Pushed objects are checked as `git fsck` does.
        fsck_objects: bool = true, Rule::Any;
        /// Signed pushes (`git push --signed`) are offered. The certificate goes to the hooks, which must verify it.
        push_certificates: bool = false, Rule::Any;
        /// How old the nonce of a push certificate may be and still count as fresh, in seconds.
        cert_nonce_slop_secs: u64 = 300, Rule::Range(0, DAY_SECS);
        /// How long a hook may run, in seconds.
        hook_timeout_secs: u64 = 60, Rule::Range(1, DAY_SECS);
        /// Output of one hook that is passed on, in bytes.
        max_hook_output_bytes: usize = 1 << 20, Rule::Range(0, GIB);
        /// Memory for decoded delta bases of one request, in bytes.
        delta_cache_bytes: usize = 16 << 20, Rule::Range(0, 64 * GIB);
        /// Memory for answers that are likely to be asked for again (lists of refs, decided packs), in bytes.
        answer_cache_bytes: u64 = 64 << 20, Rule::Range(0, 64 * GIB);
        /// Disk space for packs that several clients ask for at the same time, in bytes; 0 keeps none.
        pack_cache_bytes: u64 = 1 << 30, Rule::Range(0, 1024 * TIB);
    }

    /// Large files (Git LFS).
    lfs: LfsSettings {
        /// Large files are kept.
        enabled: bool = true, Rule::Any;
        /// Largest file, in bytes.
        max_object_bytes: u64 = 32 * GIB, Rule::Range(1, 64 * GIB);
        /// A push is refused whose new commits hold pointers to large files that the repository does not have.
        require_objects: bool = true, Rule::Any;
        /// Objects that one request may ask about.
        max_batch_objects: usize = 20_000, Rule::Range(1, 1_000_000);
        /// Length of such a request, in bytes.
        max_batch_bytes: u64 = 8 << 20, Rule::Range(1024, GIB);
        /// How long an address for an upload or a download is good, in seconds.
        action_expiry_secs: u32 = 3600, Rule::Range(60, DAY_SECS);
        /// Days for which a large file is kept that no ref needs, after its upload or after anybody was told that it is here.
        unreferenced_grace_days: u32 = 14, Rule::Range(0, 36_500);
        /// What is found unneeded is removed by a later look, which is at least so much later, in seconds.
        second_mark_after_secs: u32 = 24 * 60 * 60, Rule::Range(0, 365 * DAY_SECS);
        /// Large files that are taken in or given at once; a client that is slow does not count while it is waited for.
        max_transfers: usize = 8, Rule::Range(1, 1024);
        /// Large files that may wait for their turn.
        max_waiting: usize = 256, Rule::Range(0, 1_000_000);
        /// Clients that know it are offered the chunked transfer (`git auxin install`): only chunks that one side lacks travel.
        chunked_transfer: bool = true, Rule::Any;
        /// Chunks that a client may ask about at once.
        max_missing_ids: usize = 262_144, Rule::Range(1, 4_194_304);
        /// Other repositories that a client may name in one request as having chunks.
        max_with_repos: usize = 16, Rule::Range(0, 1000);
        /// For how long chunks that a person brought count without an object that has them, in seconds.
        brought_grace_secs: u64 = DAY_SECS, Rule::Range(60, 365 * DAY_SECS);
        /// Files that are proven at once, from chunks that were brought.
        max_proofs: usize = 4, Rule::Range(1, 1024);
    }

    /// Locks on files and folders.
    locks: LocksSettings {
        /// Locks that one repository may have.
        max_per_repo: u32 = 10_000, Rule::Range(1, 1_000_000);
        /// Locks in one answer; more come in further ones.
        max_page: u32 = 100, Rule::Range(1, 10_000);
        /// While somebody else has locks: new commits of a push that are looked at, and commits that a branch loses.
        max_push_commits: usize = 100_000, Rule::Range(1, 1 << 30);
        /// While somebody else has locks: changed files and folders near locked ones that are looked at in a push.
        max_push_paths: u64 = 1_000_000, Rule::Range(1, 1 << 40);
    }

    /// Where large files are stored.
    store: StoreSettings {
        /// A bucket, such as `s3://studio/auxin`. Empty: the folder `store/` of the data folder. Keys come from the
        /// environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`) or the machine's role, never from here.
        url: String = String::new(), Rule::Text {
            allowed: "empty, or an address such as \"s3://studio/auxin\"",
            holds: |text| text.is_empty() || bucket_url::bucket_and_prefix(text).is_some(),
        };
        /// Address of the S3-compatible service. Empty: Amazon's.
        endpoint: String = String::new(), Rule::Text {
            allowed: "empty, or an address such as \"https://s3.example.org\"",
            holds: |text| text.is_empty() || public_url::is_public_url(text),
        };
        /// Region of the bucket. Empty: that of the environment (`AWS_REGION`), or `us-east-1`.
        region: String = String::new(), Rule::Any;
        /// The service may be reached without TLS.
        allow_http: bool = false, Rule::Any;
        /// How often a request to the service is sent again that failed.
        max_retries: usize = 8, Rule::Range(0, 1000);
        /// How long one request may take, and for how long it is sent again, in seconds.
        timeout_secs: u64 = 60, Rule::Range(1, 3600);
    }

    /// Care for repositories, done by the server itself: packs, bitmaps, unreachable objects.
    maintenance: MaintenanceSettings {
        /// The server cares for repositories by itself, after pushes and now and then.
        enabled: bool = true, Rule::Any;
        /// For how long an object is kept after maintenance first found that nothing reaches it, in days.
        grace_days: u32 = 14, Rule::Range(0, 36_500);
        /// Share of one processor that it uses at most while requests run, in percent.
        cpu_percent: u32 = 25, Rule::Range(1, 100);
        /// Packs beside those that maintenance made that are joined.
        min_packs: usize = 10, Rule::Range(2, 1_000_000);
        /// Loose objects that are packed.
        min_loose_objects: u64 = 1000, Rule::Range(1, 1_000_000_000);
        /// What it leaves free on the disk, in bytes. With less it does nothing and the log says so.
        min_free_bytes: u64 = 512 << 20, Rule::Range(0, 1024 * TIB);
        /// How often all repositories are looked at, in seconds.
        check_secs: u64 = 3600, Rule::Range(1, 30 * DAY_SECS);
        /// When new deltas are searched (`auxin repo maintain --deltas`): objects each one is compared with.
        delta_window: usize = 10, Rule::Range(1, 1000);
        /// When new deltas are searched: longest chain of them.
        delta_depth: u32 = 50, Rule::Range(1, 4095);
        /// When new deltas are searched: memory for the objects that are compared, in bytes.
        delta_window_bytes: u64 = 256 << 20, Rule::Range(1 << 20, TIB);
    }

    /// Notes of commits, made of what their Logic projects say.
    notes: NotesSettings {
        /// Each push writes notes of its commits.
        enabled: bool = true, Rule::Any;
    }

    /// The log. It goes to standard error.
    log: LogSettings {
        /// One line of text per event for people, or one JSON object per line for machines.
        format: String = "text".into(), Rule::OneOf(&["text", "json"]);
        /// `error`, `warn`, `info`, `debug` or `trace`, or a filter such as `info,auxin::git=debug`.
        level: String = "info".into(), Rule::Text {
            allowed: "error, warn, info, debug, trace, or a filter such as \"info,auxin::git=debug\"",
            holds: crate::telemetry::is_filter,
        };
    }
}

impl ServerSettings {
    /// The address that links are made from, without a slash at its end.
    ///
    /// `bound` is the address the server really listens on; it counts only while `public_url` is
    /// empty. An unspecified address (`0.0.0.0`, `[::]`) is shown as `localhost`, because nobody
    /// can type it into a clone command.
    pub fn base_url(&self, bound: SocketAddr) -> String {
        if !self.public_url.is_empty() {
            return self.public_url.trim_end_matches('/').to_owned();
        }
        let scheme = if self.tls_cert_file.is_some() { "https" } else { "http" };
        if bound.ip().is_unspecified() {
            format!("{scheme}://localhost:{}", bound.port())
        } else {
            format!("{scheme}://{bound}")
        }
    }
}

impl StoreSettings {
    /// The bucket and the prefix of keys in it; `None` if files lie in the data folder.
    pub fn bucket(&self) -> Option<(&str, &str)> {
        bucket_url::bucket_and_prefix(&self.url)
    }
}

/// Whether `refs/heads/<text>` is a name git accepts (git's `check-ref-format --branch` rules).
fn is_branch_name(text: &str) -> bool {
    let forbidden = |c: char| c.is_ascii_control() || " ~^:?*[\\".contains(c);
    !text.is_empty()
        && text.len() <= 250
        && text != "HEAD"
        && !text.starts_with('-')
        && !text.ends_with('.')
        && !text.contains(forbidden)
        && !text.contains("..")
        && !text.contains("@{")
        && text
            .split('/')
            .all(|part| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_name_is_what_git_accepts() {
        for good in ["main", "feature/mix-2", "größe", "a.b", "@"] {
            assert!(is_branch_name(good), "{good}");
        }
        for bad in [
            "",
            "HEAD",
            "-x",
            "a..b",
            "a b",
            "a~1",
            "x.lock",
            "a/x.lock/b",
            ".a",
            "a/.b",
            "a//b",
            "/a",
            "a/",
            "a.",
            "a@{1}",
            "a\\b",
            "a\u{7f}",
            "a\nb",
        ] {
            assert!(!is_branch_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn every_default_is_allowed_by_its_own_rule() {
        let mut settings = Settings::default();
        for key in KEYS {
            let shown = (key.show)(&settings);
            let line = format!("[{}]\n{} = {}", key.section, key.name, shown);
            let read = parse(&line, &[], &[]);
            assert_eq!(read.as_ref(), Ok(&Settings::default()), "{line}");
            settings = read.expect("checked in the line above");
        }
    }

    #[test]
    fn links_use_the_public_address_or_else_the_one_listened_on() {
        let bound: SocketAddr = "0.0.0.0:9000".parse().expect("an address");
        let mut server = ServerSettings::default();
        assert_eq!(server.base_url(bound), "http://localhost:9000");
        assert_eq!(
            server.base_url("[::1]:9000".parse().expect("an address")),
            "http://[::1]:9000"
        );
        server.tls_cert_file = Some("cert.pem".into());
        assert_eq!(server.base_url(bound), "https://localhost:9000");
        server.public_url = "https://git.example.org/".into();
        assert_eq!(server.base_url(bound), "https://git.example.org");
    }
}
