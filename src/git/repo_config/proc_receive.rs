//! Which ref updates are for the hook `proc-receive`.

use bstr::{BStr, BString, ByteSlice};

use super::RepoConfig;

/// One `receive.procReceiveRefs`: `[adm!]*:<prefix>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcReceiveRule {
    adds: bool,
    deletes: bool,
    modifies: bool,
    /// `!`: what does not match the prefix is meant.
    negated: bool,
    /// A ref name, or the front of one up to a `/`.
    prefix: BString,
}

impl ProcReceiveRule {
    pub(super) fn parse(value: &BStr) -> Self {
        let (modifiers, prefix) = match value.split_once_str(b":") {
            Some((modifiers, prefix)) => (modifiers, prefix),
            None => (b"adm".as_slice(), value.as_bytes()),
        };
        Self {
            adds: modifiers.contains(&b'a'),
            deletes: modifiers.contains(&b'd'),
            modifies: modifiers.contains(&b'm'),
            negated: modifiers.contains(&b'!'),
            prefix: prefix.trim_end_with(|character| character == '/').into(),
        }
    }

    fn matches(&self, name: &[u8], is_add: bool, is_delete: bool) -> bool {
        // In git's order: a deletion of what does not exist counts as an addition.
        let is_meant = match (is_add, is_delete) {
            (true, _) if !self.adds => false,
            (_, true) if !self.deletes => false,
            (false, false) if !self.modifies => false,
            _ => true,
        };
        let is_below = name
            .strip_prefix(self.prefix.as_slice())
            .is_some_and(|rest| rest.is_empty() || rest[0] == b'/');
        is_meant && is_below != self.negated
    }
}

impl RepoConfig {
    /// Whether the update of the ref `name` is for the hook `proc-receive` instead of the server.
    pub fn is_for_proc_receive(&self, name: &[u8], is_add: bool, is_delete: bool) -> bool {
        self.proc_receive_rules
            .iter()
            .any(|rule| rule.matches(name, is_add, is_delete))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(values: &[&str]) -> RepoConfig {
        let lines: String = values
            .iter()
            .map(|value| format!(" procReceiveRefs = \"{value}\"\n"))
            .collect();
        RepoConfig::parse(format!("[receive]\n{lines}").as_bytes(), false).expect("read")
    }

    #[test]
    fn a_prefix_alone_means_every_change_below_it() {
        for value in ["refs/for", "refs/for/"] {
            let config = config(&[value]);
            for (is_add, is_delete) in [(true, false), (false, true), (false, false)] {
                assert!(config.is_for_proc_receive(b"refs/for/main", is_add, is_delete));
                assert!(config.is_for_proc_receive(b"refs/for", is_add, is_delete));
                assert!(!config.is_for_proc_receive(b"refs/fork", is_add, is_delete));
                assert!(!config.is_for_proc_receive(b"refs/heads/main", is_add, is_delete));
            }
        }
        assert!(!config(&[]).is_for_proc_receive(b"refs/for/main", true, false));
    }

    #[test]
    fn modifiers_choose_among_additions_deletions_and_changes() {
        let config = config(&["ad:refs/heads", "m:refs/tags/"]);
        assert!(config.is_for_proc_receive(b"refs/heads/main", true, false));
        assert!(config.is_for_proc_receive(b"refs/heads/main", false, true));
        assert!(!config.is_for_proc_receive(b"refs/heads/main", false, false));
        assert!(config.is_for_proc_receive(b"refs/tags/v1", false, false));
        assert!(!config.is_for_proc_receive(b"refs/tags/v1", true, false));
    }

    #[test]
    fn an_exclamation_mark_means_all_other_refs() {
        let config = config(&["adm!:refs/heads"]);
        assert!(!config.is_for_proc_receive(b"refs/heads/main", true, false));
        assert!(config.is_for_proc_receive(b"refs/for/main", true, false));
    }
}
