//! `Resources/ProjectInformation.plist`: what Logic says of a whole bundle.

use std::collections::BTreeMap;

use super::names::told;
use super::plist::{self, Value};
use super::{Limits, Status};

/// In `VariantNamesV2`: the name of the bundle.
const PROJECT_NAME: &str = "{PROJECT_NAME}";

/// What a `ProjectInformation.plist` says; every value may be absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Information {
    /// The program of the last save.
    pub saved_with: Option<SavedWith>,
    /// Version of the bundle: 1 up to Logic 10.4, 2 from 10.6 on.
    pub bundle_version: Option<f64>,
    /// The alternative that was open last; absent where there is one.
    pub active_alternative: Option<u32>,
    /// Audio files lie beside the bundle.
    pub has_project_folder: Option<bool>,
    /// Bits without a known meaning.
    pub asset_flags: Option<i64>,
    names: BTreeMap<u32, String>,
}

/// A program and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedWith {
    /// `Logic Pro 11.2.2 (6387)`.
    pub text: String,
    /// `Logic Pro`.
    pub app: Option<String>,
    /// `11.2.2`.
    pub version: Option<String>,
    /// `6387`.
    pub build: Option<String>,
}

impl SavedWith {
    fn parse(text: &str) -> Self {
        let text = told(text);
        let parts = text.strip_suffix(')').and_then(|rest| {
            let (rest, build) = rest.rsplit_once(" (")?;
            let (app, version) = rest.rsplit_once(' ')?;
            let is_version = version.starts_with(|first: char| first.is_ascii_digit());
            is_version.then(|| (app.to_owned(), version.to_owned(), build.to_owned()))
        });
        let (app, version, build) = match parts {
            Some((app, version, build)) => (Some(app), Some(version), Some(build)),
            None => (None, None, None),
        };
        Self {
            text,
            app,
            version,
            build,
        }
    }
}

impl Information {
    /// Reads the list, binary or XML.
    ///
    /// # Errors
    /// [`Status::NotLogic`] if it is no property list with names and values.
    pub fn read(bytes: &[u8], limits: &Limits) -> Result<Self, Status> {
        let list = plist::read(bytes);
        let dict = list.as_ref().and_then(Value::dict).ok_or(Status::NotLogic)?;
        let integer = |key: &str| dict.get(key).and_then(Value::integer);
        let mut names = BTreeMap::new();
        // The second list wins.
        for key in ["VariantNames", "VariantNamesV2"] {
            let entries = dict.get(key).and_then(Value::dict).into_iter().flatten();
            for (index, name) in entries.take(limits.alternatives) {
                if let (Ok(index), Some(name)) = (index.parse(), name.text()) {
                    names.insert(index, told(name));
                }
            }
        }
        Ok(Self {
            saved_with: dict.get("LastSavedFrom").and_then(Value::text).map(SavedWith::parse),
            bundle_version: dict.get("BundleVersion").and_then(Value::real),
            active_alternative: integer("ActiveVariant").and_then(|index| u32::try_from(index).ok()),
            has_project_folder: dict.get("HasProjectFolder").and_then(Value::bool),
            asset_flags: integer("projectAssetFlags"),
            names,
        })
    }

    /// The names of alternatives by number, as they stand there: `{PROJECT_NAME}` is the name of the bundle.
    pub fn names(&self) -> impl Iterator<Item = (u32, &str)> {
        self.names.iter().map(|(&index, name)| (index, name.as_str()))
    }

    /// The name of an alternative; `bundle` is the name of the bundle, where it has one.
    pub fn alternative_name(&self, index: u32, bundle: Option<&str>) -> Option<String> {
        let name = self.names.get(&index)?;
        match (name.contains(PROJECT_NAME), bundle) {
            (true, Some(bundle)) => Some(told(&name.replace(PROJECT_NAME, bundle))),
            (true, None) => None,
            (false, _) => Some(name.clone()),
        }
    }
}
