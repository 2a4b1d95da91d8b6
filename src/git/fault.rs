//! Faults on purpose, for the crash tests: nothing here does anything unless `AUXIN_FAULT` is set.
//!
//! The variable is read once, at the first use after the process started. It holds names separated
//! by commas: a point such as `after-pack-rename`, where the process then aborts as if the power
//! had failed, or a switch that turns one safeguard off, so that a test can show that it would
//! notice: `no-fsync`, `no-quarantine`, `no-cas`, `no-settle`, `no-sweep`, `no-lock-order`,
//! `no-release-row`.

use std::sync::OnceLock;

/// The variable.
const VARIABLE: &str = "AUXIN_FAULT";

/// Aborts the process here if the variable names this point.
pub fn point(name: &str) {
    if is_named(name) {
        std::process::abort();
    }
}

/// Whether the variable names this switch.
pub fn is_on(switch: &str) -> bool {
    is_named(switch)
}

fn is_named(name: &str) -> bool {
    static NAMES: OnceLock<Vec<String>> = OnceLock::new();
    let names = NAMES.get_or_init(|| {
        let names = std::env::var(VARIABLE).unwrap_or_default();
        names
            .split(',')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect()
    });
    names.iter().any(|known| known == name)
}
