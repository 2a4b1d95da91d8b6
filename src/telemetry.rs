//! The log: what happened, one event per line, on standard error.
//!
//! Whatever is written here may be kept for years and read by many, so secrets never are:
//! no passwords, no tokens, no `Authorization` headers, no query texts.

use std::io;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::LogSettings;

/// Longest filter, in bytes.
const MAX_FILTER_BYTES: usize = 4096;

/// How much of the message of a panic is logged, in characters.
const MAX_PANIC_CHARS: usize = 1000;

/// Whether `text` can be used as `log.level`.
pub fn is_filter(text: &str) -> bool {
    parse_filter(text).is_some()
}

fn parse_filter(text: &str) -> Option<EnvFilter> {
    // The parser takes any word for the name of a module, so `log.level = "inof"` would silence
    // everything; a bare word has to be a level.
    let every_part_means_something = text.split(',').all(|part| {
        let (target, level) = match part.rsplit_once('=') {
            Some((target, level)) => (target, level),
            None => ("auxin", part),
        };
        let known = ["off", "error", "warn", "info", "debug", "trace"];
        let is_path = !target.is_empty() && target.chars().all(|c| c.is_ascii_alphanumeric() || "_:".contains(c));
        is_path && known.contains(&level)
    });
    if text.len() > MAX_FILTER_BYTES || !every_part_means_something {
        return None;
    }
    EnvFilter::try_new(text).ok()
}

/// Starts the log of this process as `settings` says; panics go there, too. A second call changes
/// nothing.
pub fn init(settings: &LogSettings) {
    let filter = parse_filter(&settings.level).unwrap_or_else(|| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_span_events(FmtSpan::NONE);
    // An error means that a log is running already: that of the test beside this one.
    let started = if settings.format == "json" {
        builder.json().flatten_event(true).try_init()
    } else {
        let ansi = io::IsTerminal::is_terminal(&io::stderr());
        builder.with_ansi(ansi).with_target(false).try_init()
    };
    if started.is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map_or_else(String::new, ToString::to_string);
            let message: String = panic
                .payload_as_str()
                .unwrap_or("")
                .chars()
                .take(MAX_PANIC_CHARS)
                .collect();
            tracing::error!(panic.place = %place, "A part of the program failed unexpectedly: {message}");
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::is_filter;

    #[test]
    fn a_level_or_a_list_of_levels_by_module_is_a_filter() {
        for good in ["info", "off", "info,auxin::git=debug", "warn,auxin=trace,sqlx=error"] {
            assert!(is_filter(good), "{good}");
        }
    }

    #[test]
    fn a_word_that_would_silence_the_log_by_accident_is_no_filter() {
        for bad in [
            "",
            "inof",
            "INFO!",
            "info,",
            "auxin=loud",
            "=info",
            "[span]=info",
            "info debug",
        ] {
            assert!(!is_filter(bad), "{bad:?}");
        }
    }
}
