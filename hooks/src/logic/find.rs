//! Finds projects in a list of paths.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Limits;

/// Marks the folder around a project that is saved as a folder.
const FOLDER_MARK: &str = ".musicapps-project-folder";

/// Which program a project is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Logic Pro, `.logicx`.
    Logic,
    /// GarageBand, `.band`.
    GarageBand,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Logic => "Logic Pro",
            Self::GarageBand => "GarageBand",
        })
    }
}

/// How a project is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// All in one bundle.
    Package,
    /// A folder with the bundle and, beside it, the audio files.
    Folder,
}

/// A project in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The path of the bundle; empty if the tree itself is one.
    pub path: String,
    /// By its ending; `None` if that does not tell.
    pub kind: Option<Kind>,
    /// By the mark in the folder around it; `ProjectInformation.plist` may know better.
    pub layout: Layout,
    /// Its alternatives, by number; none if it only looks like a project. 4294967295 was never saved.
    pub alternatives: Vec<u32>,
    /// There are more alternatives than the limit.
    pub is_cut: bool,
    /// The folder names of the alternatives, by number.
    folders: BTreeMap<u32, String>,
}

impl Found {
    /// The path of a file of the bundle, such as `Resources/ProjectInformation.plist`.
    pub fn file(&self, name: &str) -> String {
        joined(&self.path, name)
    }

    /// The path of a file of an alternative, such as `ProjectData`.
    pub fn alternative_file(&self, index: u32, name: &str) -> Option<String> {
        let folder = self.folders.get(&index)?;
        Some(self.file(&format!("Alternatives/{folder}/{name}")))
    }

    /// The folder that paths of media are relative to.
    pub fn media_folder(&self, layout: Layout) -> String {
        match (layout, self.path.rsplit_once('/')) {
            (Layout::Package, _) => self.file("Media"),
            (Layout::Folder, Some((parent, _))) => parent.to_owned(),
            (Layout::Folder, None) => String::new(),
        }
    }

    /// The folder whose content decides all that is read of the project: the bundle, or the folder around it.
    pub fn content_folder(&self) -> &str {
        match (self.layout, self.path.rsplit_once('/')) {
            (Layout::Package, _) => &self.path,
            (Layout::Folder, Some((parent, _))) => parent,
            (Layout::Folder, None) => "",
        }
    }

    /// The name of the bundle without its ending; `None` if the tree itself is the bundle.
    pub fn name(&self) -> Option<&str> {
        let name = self.path.rsplit('/').next().filter(|name| !name.is_empty())?;
        Some(kind_of(name).map_or(name, |(stem, _)| stem))
    }
}

/// A path below a folder; the empty path is the top.
pub(super) fn joined(folder: &str, name: &str) -> String {
    match folder {
        "" => name.to_owned(),
        folder => format!("{folder}/{name}"),
    }
}

/// The name before the ending of a bundle, and what it is.
fn kind_of(name: &str) -> Option<(&str, Kind)> {
    let (stem, ending) = name.rsplit_once('.')?;
    match ending.to_ascii_lowercase().as_str() {
        "logicx" => Some((stem, Kind::Logic)),
        "band" => Some((stem, Kind::GarageBand)),
        _ => None,
    }
}

/// The projects among these files, by path. A folder is one if it has `Alternatives/NNN/` with `ProjectData` or
/// `MetaData.plist`, or at least an ending of one. What lies within a project (backups, for one) is none.
pub fn find<'a>(paths: impl IntoIterator<Item = &'a str>, limits: &Limits) -> Vec<Found> {
    let mut bundles: BTreeMap<&str, BTreeMap<u32, &str>> = BTreeMap::new();
    let mut marked = BTreeSet::new();
    for path in paths {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name == FOLDER_MARK {
            marked.insert(folder);
        }
        if let Some((bundle, number, folder)) = alternative(folder, name) {
            bundles.entry(bundle).or_default().insert(number, folder);
        }
        // The outermost folder that ends like a bundle.
        let mut end = 0;
        for part in folder.split('/') {
            end += part.len();
            if kind_of(part).is_some_and(|(stem, _)| !stem.is_empty()) {
                bundles.entry(&folder[..end]).or_default();
                break;
            }
            end += 1;
        }
    }
    let mut found: Vec<Found> = Vec::new();
    for (path, alternatives) in bundles {
        // A folder comes before what lies in it, but not always right before.
        let is_within = |outer: &Found| match outer.path.as_str() {
            "" => true,
            outer => path.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/')),
        };
        if found.iter().any(is_within) {
            continue;
        }
        if found.len() == limits.projects {
            break;
        }
        let is_folder = path
            .rsplit_once('/')
            .map_or(!path.is_empty() && marked.contains(""), |(parent, _)| {
                marked.contains(parent)
            });
        let name = path.rsplit('/').next().unwrap_or(path);
        found.push(Found {
            path: path.to_owned(),
            kind: kind_of(name).map(|(_, kind)| kind),
            layout: if is_folder { Layout::Folder } else { Layout::Package },
            is_cut: alternatives.len() > limits.alternatives,
            alternatives: alternatives.keys().copied().take(limits.alternatives).collect(),
            folders: alternatives
                .into_iter()
                .take(limits.alternatives)
                .map(|(number, folder)| (number, folder.to_owned()))
                .collect(),
        });
    }
    found
}

/// The bundle, the number and the folder name of an alternative, if the file is one of its two main ones.
fn alternative<'a>(folder: &'a str, name: &str) -> Option<(&'a str, u32, &'a str)> {
    if !matches!(name, "ProjectData" | "MetaData.plist") {
        return None;
    }
    let (above, number) = folder.rsplit_once('/')?;
    let bundle = match above.strip_suffix("Alternatives")? {
        "" => "",
        bundle => bundle.strip_suffix('/')?,
    };
    let is_number = !number.is_empty() && number.len() <= 10 && number.bytes().all(|byte| byte.is_ascii_digit());
    Some((bundle, number.parse().ok().filter(|_| is_number)?, number))
}
