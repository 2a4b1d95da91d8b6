//! What can be typed: commands, arguments and flags.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use crate::data_folder::DEFAULT_DATA_FOLDER;
use crate::names::{BadName, OwnerName, RepoAddress, RepoName};
use crate::service::{ObjectFormat, Role, Scope, Subset, Visibility};

/// A self-hosted Git server for music projects.
#[derive(Debug, Parser)]
#[command(name = "auxin", version, about, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// The data folder.
    #[arg(
        long,
        global = true,
        env = "AUXIN_DATA",
        value_name = "DIR",
        default_value = DEFAULT_DATA_FOLDER,
        help_heading = "Common options"
    )]
    pub data: PathBuf,
    /// The settings file; usually auxin.toml in the data folder.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Common options")]
    pub config: Option<PathBuf>,
    /// Print JSON for programs instead of text for people.
    #[arg(long, global = true, help_heading = "Common options")]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Start the server; the first start makes the data folder and an administrator.
    Serve(Serve),
    /// People: add, list, change the password, disable, remove.
    #[command(subcommand)]
    User(UserCommand),
    /// Access tokens, used in place of a password.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Repositories.
    #[command(subcommand)]
    Repo(RepoCommand),
    /// Who else may use a repository.
    #[command(subcommand)]
    Member(MemberCommand),
    /// Protected branches.
    #[command(subcommand)]
    Branch(BranchCommand),
    /// Check database, disk, repositories and object store, and tell how much there is. Changes nothing.
    Doctor,
    /// Remove large files that nothing needs: two looks some time apart, then the bytes.
    Gc {
        /// Only say what would be removed.
        #[arg(long)]
        dry_run: bool,
        /// There is no backup by this program, and that is fine, now and from now on.
        #[arg(long)]
        without_backup: bool,
    },
    /// Read chunk packs and compare every chunk with its name; all of them, or one part of them.
    Scrub {
        /// Which part of how many, such as 3/30: another one each day reads all in 30 days.
        #[arg(long, value_name = "N/T", default_value = "1/1", value_parser = subset)]
        subset: Subset,
    },
    /// The settings: check them, or print a commented file.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a script that completes commands in a shell.
    Completions {
        /// Which shell.
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Address and port to listen on, such as 0.0.0.0:8420.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Add a person. Asks for a password.
    Add {
        /// Their name, and the name of the space of their repositories.
        #[arg(value_name = "NAME", value_parser = OwnerName::parse)]
        name: OwnerName,
        /// Make them a site administrator, who may do everything.
        #[arg(long)]
        admin: bool,
        #[command(flatten)]
        password: PasswordSource,
    },
    /// List all people.
    List,
    /// Set a new password. Asks for it.
    Passwd {
        /// Whose.
        #[arg(value_name = "NAME", value_parser = OwnerName::parse)]
        name: OwnerName,
        #[command(flatten)]
        password: PasswordSource,
    },
    /// Let someone do nothing any more, from the next request on.
    Disable {
        /// Whom.
        #[arg(value_name = "NAME", value_parser = OwnerName::parse)]
        name: OwnerName,
    },
    /// Let a disabled person in again.
    Enable {
        /// Whom.
        #[arg(value_name = "NAME", value_parser = OwnerName::parse)]
        name: OwnerName,
    },
    /// Remove a person. Refused while they own repositories.
    Remove {
        /// Whom.
        #[arg(value_name = "NAME", value_parser = OwnerName::parse)]
        name: OwnerName,
        /// Give their repositories to this person first.
        #[arg(long, value_name = "NAME", value_parser = OwnerName::parse)]
        transfer_to: Option<OwnerName>,
    },
}

#[derive(Debug, Args)]
pub(super) struct PasswordSource {
    /// Read the password from the first line of standard input.
    #[arg(long)]
    pub password_stdin: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make an access token. It is shown once.
    Create {
        /// Whose token it is.
        #[arg(value_name = "NAME", value_parser = OwnerName::parse)]
        name: OwnerName,
        /// What it may be used for: clone and fetch, push too, or everything the person may do.
        #[arg(long, value_parser = words::<Scope>(&["read", "write", "admin"]))]
        scope: Scope,
        /// Only for this repository.
        #[arg(long, value_name = "OWNER/NAME", value_parser = RepoAddress::parse)]
        repo: Option<RepoAddress>,
        /// Days until it expires. Without it, it never does.
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
        expires: Option<u32>,
        /// A few words to know it by.
        #[arg(long, value_name = "TEXT", default_value = "")]
        label: String,
    },
    /// List access tokens, of one person or of all.
    List {
        /// Whose.
        #[arg(value_name = "NAME", value_parser = OwnerName::parse)]
        name: Option<OwnerName>,
    },
    /// Make an access token useless, from the next request on.
    Revoke {
        /// Its id, as `token list` shows it.
        #[arg(value_name = "ID")]
        id: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct Address {
    /// The repository.
    #[arg(value_name = "OWNER/NAME", value_parser = RepoAddress::parse)]
    pub repo: RepoAddress,
}

#[derive(Debug, Args)]
pub(super) struct FromPath {
    /// What it will be called here.
    #[arg(value_name = "OWNER/NAME", value_parser = RepoAddress::parse)]
    pub repo: RepoAddress,
    /// Where the repository lies now.
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Who may see it: its members, everyone who is signed in, or everyone.
    #[arg(long, default_value = "private", value_parser = words::<Visibility>(VISIBILITIES))]
    pub visibility: Visibility,
    /// Run the hooks in its folder here, and follow core.hooksPath and include in its config there. An
    /// import brings neither hooks nor config along.
    #[arg(long)]
    pub trust_hooks: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum RepoCommand {
    /// Make an empty repository.
    Create {
        #[command(flatten)]
        address: Address,
        /// Who may see it: its members, everyone who is signed in, or everyone.
        #[arg(long, default_value = "private", value_parser = words::<Visibility>(VISIBILITIES))]
        visibility: Visibility,
        /// The hash function of its object ids, for good; otherwise repo.default_object_format decides.
        #[arg(long, value_name = "FORMAT", value_parser = words::<ObjectFormat>(OBJECT_FORMATS))]
        object_format: Option<ObjectFormat>,
    },
    /// Move a bare repository into the data folder and serve it.
    Adopt(FromPath),
    /// Copy a repository into the data folder and serve the copy, its large files first.
    Import {
        #[command(flatten)]
        from: FromPath,
        /// Where its large files lie, as ab/cd/abcd…; otherwise where Git LFS keeps them in it.
        #[arg(long, value_name = "FOLDER")]
        large_files: Option<PathBuf>,
    },
    /// List repositories.
    List {
        /// Only those of this person.
        #[arg(value_name = "OWNER", value_parser = OwnerName::parse)]
        owner: Option<OwnerName>,
    },
    /// Show one repository.
    Show(Address),
    /// Give it another name. The old one goes on working until it is used again.
    Rename {
        #[command(flatten)]
        address: Address,
        /// The new name; with OWNER/ before it if you like, as long as that stays the same.
        #[arg(value_name = "NEW-NAME", value_parser = NewName::parse)]
        new_name: NewName,
    },
    /// Set the branch that a clone checks out.
    SetDefaultBranch {
        #[command(flatten)]
        address: Address,
        /// The branch.
        #[arg(value_name = "BRANCH")]
        branch: String,
    },
    /// Set who may see it.
    Visibility {
        #[command(flatten)]
        address: Address,
        /// Who may see it: its members, everyone who is signed in, or everyone.
        #[arg(value_parser = words::<Visibility>(VISIBILITIES))]
        visibility: Visibility,
    },
    /// Run the hooks in it, and follow core.hooksPath and include in its config.
    TrustHooks {
        #[command(flatten)]
        address: Address,
        /// No longer.
        #[arg(long)]
        off: bool,
    },
    /// Refuse every push until it is unarchived.
    Archive(Address),
    /// Accept pushes again.
    Unarchive(Address),
    /// Delete it with everything in it. Asks first.
    Delete {
        #[command(flatten)]
        address: Address,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Check every object and ref.
    Fsck(Address),
    /// Put everything in order: objects into few packs, bitmaps, indexes. Returns when done.
    Repack {
        #[command(flatten)]
        address: Address,
        /// Search for new deltas, which makes packs smaller and takes long.
        #[arg(long)]
        deltas: bool,
    },
    /// Do at once what the server does by itself: join packs, write bitmaps, prune. Returns when done.
    Maintain {
        /// The repository.
        #[arg(value_name = "OWNER/NAME", value_parser = RepoAddress::parse, required_unless_present = "all")]
        address: Option<RepoAddress>,
        /// All repositories.
        #[arg(long, conflicts_with = "address")]
        all: bool,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
        /// Only what is due, as the server would find it.
        #[arg(long)]
        due: bool,
        /// Search for new deltas, which makes packs smaller and takes long.
        #[arg(long, conflicts_with = "due")]
        deltas: bool,
    },
    /// Make a bundle for clones to begin with, where `git.bundle_uri` offers bundles.
    Bundle(Address),
    /// Writes what projects and people say of its commits into refs/notes/logic, where it is not there yet.
    Notes {
        /// The repository.
        #[command(flatten)]
        address: Address,
        /// Reads every commit anew; what people said stays.
        #[arg(long)]
        rebuild: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum MemberCommand {
    /// Give someone a role, or another role.
    Add {
        #[command(flatten)]
        address: Address,
        /// Whom.
        #[arg(value_name = "USER", value_parser = OwnerName::parse)]
        user: OwnerName,
        /// What they may do: clone and fetch, push too, or manage members and protection too.
        #[arg(value_parser = words::<Role>(&["read", "write", "admin"]))]
        role: Role,
    },
    /// Take someone's role away.
    Remove {
        #[command(flatten)]
        address: Address,
        /// Whom.
        #[arg(value_name = "USER", value_parser = OwnerName::parse)]
        user: OwnerName,
    },
    /// List who has which role.
    List(Address),
}

#[derive(Debug, Subcommand)]
pub(super) enum BranchCommand {
    /// Protect a branch, or all whose names match: no force push, no deletion.
    Protect {
        #[command(flatten)]
        address: Address,
        /// A branch name, or several with `*`, such as release/*.
        #[arg(value_name = "PATTERN")]
        pattern: String,
        /// Allow force pushes all the same.
        #[arg(long)]
        allow_force: bool,
        /// Allow deletion all the same.
        #[arg(long, conflicts_with = "allow_force")]
        allow_delete: bool,
    },
    /// Take the protection away.
    Unprotect {
        #[command(flatten)]
        address: Address,
        /// The pattern, as `branch list` shows it.
        #[arg(value_name = "PATTERN")]
        pattern: String,
    },
    /// List what is protected.
    List(Address),
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check the settings without starting anything; names every mistake.
    Check,
    /// Print a settings file with every key, commented.
    Template,
}

/// A new name for a repository, given alone or as a whole address.
#[derive(Clone, Debug)]
pub(super) struct NewName {
    pub owner: Option<OwnerName>,
    pub name: RepoName,
}

impl NewName {
    fn parse(text: &str) -> Result<Self, BadName> {
        if text.contains('/') {
            let RepoAddress { owner, name } = RepoAddress::parse(text)?;
            let owner = Some(owner);
            return Ok(Self { owner, name });
        }
        let name = RepoName::parse(text)?;
        Ok(Self { owner: None, name })
    }
}

const OBJECT_FORMATS: &[&str] = &["sha1", "sha256"];
const VISIBILITIES: &[&str] = &["private", "internal", "public"];

/// Reads a part of a whole.
fn subset(text: &str) -> Result<Subset, String> {
    let read = || {
        let (number, of) = text.split_once('/')?;
        Some(Subset {
            number: number.parse().ok()?,
            of: of.parse().ok()?,
        })
    };
    read()
        .filter(|subset| (1..=subset.of).contains(&subset.number))
        .ok_or_else(|| "a part is written N/T, with N from 1 to T".to_owned())
}

/// Reads one of a few words into the type that means them.
fn words<T>(allowed: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: std::str::FromStr + Clone + Send + Sync + 'static,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    PossibleValuesParser::new(allowed).try_map(|word| word.parse::<T>())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_of_the_commands_holds_together() {
        Cli::command().debug_assert();
    }
}
