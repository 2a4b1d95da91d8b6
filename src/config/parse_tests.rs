//! How mistakes in settings are found and named.

use proptest::prelude::*;

use super::Settings;
use super::parse::*;

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn listen(value: &str) -> FlagValue {
    FlagValue {
        flag: "--listen",
        key: "server.listen",
        value: value.into(),
    }
}

fn lines(result: Result<Settings, Vec<SettingError>>) -> Vec<String> {
    result
        .expect_err("there are mistakes")
        .iter()
        .map(SettingError::to_string)
        .collect()
}

#[test]
fn file_environment_and_flags_win_over_each_other_in_rising_order() {
    let file = "[server]\nlisten = '127.0.0.1:1'\ndrain_secs = 1_0\n[log]\nlevel = 'warn'";
    let env = env(&[
        ("AUXIN_LISTEN", "127.0.0.1:2"),
        ("AUXIN_SERVER__DRAIN_SECS", "20"),
        ("AUXIN_SERVER__TRUSTED_PROXIES", "10.0.0.0/8, ::1"),
        ("AUXIN_REPO__CREATE_ON_PUSH", "false"),
        ("AUXIN_DATA", "/somewhere"),
        ("AUXIN_ADMIN_PASSWORD", "not a setting"),
        ("HOME", "/root"),
    ]);

    let settings = parse(file, &env, &[listen("127.0.0.1:3")]).expect("all allowed");

    assert_eq!(settings.server.listen.port(), 3);
    assert_eq!(settings.server.drain_secs, 20);
    assert_eq!(settings.server.trusted_proxies.len(), 2);
    assert!(!settings.repo.create_on_push);
    assert_eq!(settings.log.level, "warn");
    assert_eq!(settings.git, Settings::default().git);
}

#[test]
fn all_mistakes_are_named_at_once_with_place_key_and_what_is_allowed() {
    let file = "\
[server]
lisen = '0.0.0.0:80'
drain_secs = -1
create_on_push = true
public_url = 'https://x.example/?a'

[serve]
x = 1
[repo]
default_visibility = 'secret'
[git]
  fsck_objects = 'yes'
log = 3
";
    let env = env(&[
        ("AUXIN_SERVER__DRAIN", "1"),
        ("AUXIN_SERVER_LISTEN", "1"),
        ("AUXIN_GIT__MAX_WANTS", "many"),
    ]);

    let lines = lines(parse(file, &env, &[listen("here")]));

    assert_eq!(
        lines,
        [
            "auxin.toml:2:1: server.lisen: there is no such setting; the nearest is server.listen",
            "auxin.toml:3:1: server.drain_secs: -1 is not allowed; allowed: a whole number from 0 to 86400",
            "auxin.toml:4:1: server.create_on_push: there is no such setting; the nearest is repo.create_on_push",
            "auxin.toml:5:1: server.public_url: \"https://x.example/?a\" is not allowed; allowed: empty, or an address such as \"https://git.example.org\": http or https, without user, query or fragment",
            "auxin.toml:7:2: serve: there is no such section; the nearest is [server]",
            "auxin.toml:10:1: repo.default_visibility: \"secret\" is not allowed; allowed: \"private\", \"internal\" or \"public\"",
            "auxin.toml:12:3: git.fsck_objects: \"yes\" is not allowed; allowed: true or false",
            "auxin.toml:13:1: git.log: there is no such setting; the nearest is log.level",
            "AUXIN_GIT__MAX_WANTS: git.max_wants: \"many\" is not allowed; allowed: a whole number from 1 to 1073741824",
            "AUXIN_SERVER_LISTEN: there is no such setting; with two underscores it is AUXIN_SERVER__LISTEN",
            "AUXIN_SERVER__DRAIN: there is no such setting; the nearest is AUXIN_SERVER__DRAIN_SECS",
            "--listen: server.listen: \"here\" is not allowed; allowed: an address with a port, such as \"127.0.0.1:8420\", \"0.0.0.0:8420\" or \"[::1]:8420\"",
        ]
    );
}

#[test]
fn broken_toml_is_named_by_line_and_the_rest_is_still_checked() {
    let lines = lines(parse(
        "[server]\ndrain_secs = = 3\nlisten = 1\n[repo\nmax_open = 3\n",
        &[],
        &[],
    ));

    assert!(
        lines[0].starts_with("auxin.toml:2:14: this is not TOML: "),
        "{lines:#?}"
    );
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("auxin.toml:3:1: server.listen: 1 is not allowed")),
        "{lines:#?}"
    );
    assert!(lines.iter().any(|line| line.starts_with("auxin.toml:4:")), "{lines:#?}");
}

#[test]
fn a_key_set_twice_is_a_mistake() {
    let lines = lines(parse("[log]\nlevel = 'info'\nlevel = 'warn'\n", &[], &[]));

    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].starts_with("auxin.toml:3:1: "), "{lines:#?}");
}

#[test]
fn a_certificate_without_its_key_is_refused_where_it_was_given() {
    let half = "[server]\ntls_cert_file = 'cert.pem'";

    assert_eq!(
        lines(parse(half, &[], &[])),
        ["auxin.toml:2:1: server.tls_cert_file: server.tls_key_file is not set; set both for TLS, or neither"]
    );
    let whole = env(&[("AUXIN_SERVER__TLS_KEY_FILE", "key.pem")]);
    assert!(parse(half, &whole, &[]).is_ok());
    assert_eq!(
        lines(parse("", &whole, &[])),
        [
            "AUXIN_SERVER__TLS_KEY_FILE: server.tls_key_file: server.tls_cert_file is not set; set both for TLS, or neither"
        ]
    );
}

#[test]
fn a_list_in_a_variable_is_written_with_commas_or_as_in_the_file() {
    let proxies = |text: &str| {
        let settings = parse("", &env(&[("AUXIN_SERVER__TRUSTED_PROXIES", text)]), &[]);
        settings.map(|settings| settings.server.trusted_proxies.len()).ok()
    };

    assert_eq!(proxies("10.0.0.0/8, ::1"), Some(2));
    assert_eq!(proxies("[\"10.0.0.0/8\", '::1']"), Some(2));
    assert_eq!(proxies(""), Some(0));
    assert_eq!(proxies("[\"10.0.0.0/8\""), None);
    assert_eq!(proxies("[1]"), None);
    assert_eq!(proxies("10.0.0.0/33"), None);
}

#[test]
fn two_variables_for_one_setting_must_agree() {
    let same = env(&[("AUXIN_LISTEN", "[::]:80"), ("AUXIN_SERVER__LISTEN", "[::]:80")]);
    let different = env(&[("AUXIN_LISTEN", "[::]:81"), ("AUXIN_SERVER__LISTEN", "[::]:80")]);

    assert!(parse("", &same, &[]).is_ok());
    assert_eq!(
        lines(parse("", &different, &[])),
        ["AUXIN_LISTEN: server.listen: AUXIN_SERVER__LISTEN says something else; set one of the two"]
    );
}

#[test]
fn a_section_given_as_a_value_or_as_a_list_is_named() {
    assert_eq!(
        lines(parse("server = 3", &[], &[])),
        ["auxin.toml:1:1: server: this is a section, not a value; write [server] and its keys below"]
    );
    assert_eq!(lines(parse("[[server]]\nlisten = '[::]:1'", &[], &[])).len(), 1);
    assert_eq!(
        lines(parse("listen = '[::]:1'", &[], &[])),
        ["auxin.toml:1:1: listen: there is no such section; it belongs into [server]"]
    );
}

#[test]
fn a_file_of_nonsense_is_answered_in_bounded_length() {
    let many: String = (0..5000).map(|n| format!("k{n} = 1\n")).collect();
    assert_eq!(lines(parse(&many, &[], &[])).len(), MAX_ERRORS);

    let long_key = format!("[git]\n{} = 1", "k".repeat(100_000));
    assert!(lines(parse(&long_key, &[], &[]))[0].len() < 400);

    let large = "#".repeat(MAX_FILE_BYTES + 1);
    assert_eq!(lines(parse(&large, &[], &[])).len(), 1);
}

#[test]
fn deeply_nested_text_is_a_mistake_and_not_a_crash() {
    let deep = format!("[server]\ntrusted_proxies = {}", "[".repeat(200_000));
    assert!(parse(&deep, &[], &[]).is_err());
    let deep = format!("{} = 1", vec!["a"; 100_000].join("."));
    assert!(parse(&deep, &[], &[]).is_err());
}

fn fragments() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "[",
        "]",
        "[[",
        "=",
        "\n",
        ".",
        "\"",
        "'",
        "\"\"\"",
        "{",
        "}",
        ",",
        "#",
        "0x",
        "1e9",
        "-",
        "inf",
        "1979-05-27",
        "server",
        "git",
        "listen",
        "drain_secs",
        "trusted_proxies",
        "true",
        "\\u",
        "é",
        "\u{feff}",
        "\r",
        "\0",
    ]);
    prop::collection::vec(prop_oneof![words.prop_map(str::to_owned), any::<String>()], 0..40)
        .prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in fragments(), name in "AUXIN_[A-Z_]{0,20}", value in any::<String>()) {
        let _ = parse(&text, &[(name, value.clone())], &[listen(&value)]);
    }

    #[test]
    fn an_allowed_value_reads_the_same_from_file_and_environment(secs in 0u64..=86_400, level in "(error|warn|info|debug)") {
        let from_file = parse(&format!("[server]\ndrain_secs = {secs}\n[log]\nlevel = '{level}'"), &[], &[]);
        let from_env = parse("", &env(&[("AUXIN_SERVER__DRAIN_SECS", &secs.to_string()), ("AUXIN_LOG__LEVEL", &level)]), &[]);
        prop_assert_eq!(from_file.as_ref().map(|s| s.server.drain_secs), Ok(secs));
        prop_assert_eq!(from_file, from_env);
    }
}
