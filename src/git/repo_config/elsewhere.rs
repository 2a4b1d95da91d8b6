//! What a repository's config says of objects that lie elsewhere: bundles and packs at an address.

use bstr::{BStr, BString, ByteSlice, ByteVec};
use gix::ObjectId;

/// One `uploadpack.blobPackfileUri`: an object that clients can also get as a pack from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackfileUri {
    /// The object that is left out of packs for clients that get it there.
    pub object: ObjectId,
    /// The checksum that the pack ends with, in hex, as git names packs.
    pub pack_hash: String,
    /// Where the pack is.
    pub uri: String,
}

impl PackfileUri {
    /// Reads `<object> <pack> <uri>`; `None` if it is anything else.
    pub(super) fn parse(value: &BStr) -> Option<Self> {
        let text = value.to_str().ok()?;
        let (object, rest) = text.split_once(' ')?;
        let (pack_hash, uri) = rest.split_once(' ')?;
        let object = ObjectId::from_hex(object.as_bytes()).ok()?;
        let is_of_one_kind = ObjectId::from_hex(pack_hash.as_bytes()).is_ok_and(|pack| pack.kind() == object.kind());
        // It becomes one line of an answer.
        let is_one_line = !uri.is_empty() && !uri.chars().any(|c| c.is_control() || c == ' ');
        (is_of_one_kind && is_one_line).then(|| Self {
            object,
            pack_hash: pack_hash.to_owned(),
            uri: uri.to_owned(),
        })
    }

    /// Whether a client that speaks these protocols can get it.
    pub fn is_reached_by(&self, protocols: &[String]) -> bool {
        self.uri
            .split_once(':')
            .is_some_and(|(scheme, _)| protocols.iter().any(|protocol| protocol == scheme))
    }
}

/// A key of the section `bundle` as the answer to `bundle-uri` has it, in one line.
pub(super) fn bundle_line(subsection: Option<&BStr>, key: &str, value: &BStr) -> BString {
    let mut line = BString::from("bundle.");
    if let Some(subsection) = subsection {
        line.push_str(subsection);
        line.push(b'.');
    }
    line.push_str(key);
    line.push(b'=');
    line.push_str(value);
    line.retain(|byte| !byte.is_ascii_control());
    line
}

#[cfg(test)]
mod tests {
    use super::super::RepoConfig;
    use super::*;

    const OBJECT: &str = "1111111111111111111111111111111111111111";
    const PACK: &str = "2222222222222222222222222222222222222222";

    #[test]
    fn a_packfile_uri_is_an_object_a_pack_and_an_address() {
        let text = format!("{OBJECT} {PACK} https://cdn.example.org/{PACK}.pack");
        let uri = PackfileUri::parse(text.as_str().into()).expect("well-formed");
        assert_eq!(uri.object.to_string(), OBJECT);
        assert_eq!(uri.pack_hash, PACK);
        assert!(uri.is_reached_by(&["http".into(), "https".into()]));
        assert!(!uri.is_reached_by(&["http".into()]));
        assert!(!uri.is_reached_by(&[]));
        for bad in [
            String::new(),
            OBJECT.into(),
            format!("{OBJECT} {PACK}"),
            format!("{OBJECT} {PACK} "),
            format!("{OBJECT} {} http://x", &PACK[1..]),
            format!("{OBJECT}  {PACK} http://x"),
            format!("{OBJECT} {PACK} http://x/\nPACK"),
        ] {
            assert!(PackfileUri::parse(bad.as_str().into()).is_none(), "{bad}");
        }
    }

    #[test]
    fn an_object_that_lies_at_two_addresses_is_refused_as_git_refuses_it() {
        let line = format!(" blobPackfileUri = {OBJECT} {PACK} http://x\n");
        let once = format!("[uploadpack]\n{line}");
        let twice = format!("[uploadpack]\n{line}{line}");
        assert_eq!(
            RepoConfig::parse(once.as_bytes(), false)
                .expect("read")
                .packfile_uris
                .len(),
            1
        );
        let error = RepoConfig::parse(twice.as_bytes(), false).expect_err("refused");
        assert!(error.to_string().contains("uploadpack.blobpackfileuri"), "{error}");
    }

    #[test]
    fn bundle_keys_become_lines_in_the_order_of_the_file() {
        let config =
            "[bundle]\n version = 1\n Mode = all\n[bundle \"Main\"]\n URI = https://x/a.bundle\n creationToken = 3\n";
        let config = RepoConfig::parse(config.as_bytes(), false).expect("read");
        assert_eq!(
            config.bundle_lines,
            [
                "bundle.version=1",
                "bundle.mode=all",
                "bundle.Main.uri=https://x/a.bundle",
                "bundle.Main.creationtoken=3"
            ]
        );
    }
}
