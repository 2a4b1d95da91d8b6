//! Notes: what people say beside what a project says, joined in any order.

use git_auxin::notes::{
    NOTE_BYTES_MAX, Note, NoteError, Said, canonical, from_message, from_push_options, inherited, said_by_push, summary,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const AT: &str = "2026-11-27T16:00:00Z";
const BEFORE: &str = "2026-11-20T10:02:11Z";

/// The note of a song that Logic saved with 120 BPM in C major, which nobody chose.
fn song() -> Note {
    Note {
        auto: Some(json!({
            "extractor": "1", "at": BEFORE, "status": "ok", "primary": "Songs/Hook.logicx",
            "projects": [
                {"path": "Songs/Intro.logicx", "active_alternative": 0, "alternatives": [{"index": 0, "bpm": 90.0}]},
                {"path": "Songs/Hook.logicx", "saved_with": "Logic Pro 11.2.2 (6387)", "active_alternative": 1,
                 "alternatives": [
                    {"index": 0, "bpm": 99.0},
                    {"index": 1, "bpm": 120.0, "sample_rate": 48000, "time_signature": [6, 8], "tracks": 24,
                     "key": {"tonic": "C", "mode": "major", "fifths": 0, "default": true}, "length_seconds": 214.6}
                 ]}
            ]
        })),
        ..Note::default()
    }
}

/// `current` after `by` has pushed `text` there.
fn pushed(current: &Note, text: &str, by: &str, at: &str) -> Note {
    Note {
        said: said_by_push(current, text.as_bytes(), by, at).unwrap_or_else(|error| panic!("{error}")),
        ..current.clone()
    }
}

fn json_of(note: &Note) -> Value {
    serde_json::from_str(&note.to_line()).expect("JSON")
}

/// The line with other values at its top level; `null` removes one.
fn edited(note: &Note, changes: &[(&str, Value)]) -> String {
    let mut line = json_of(note);
    for (name, value) in changes {
        let top = line.as_object_mut().expect("an object");
        match value {
            Value::Null => top.remove(*name),
            value => top.insert((*name).to_owned(), value.clone()),
        };
    }
    line.to_string()
}

#[test]
fn the_top_level_is_what_people_said_over_what_the_project_says() {
    let note = json_of(&song());
    assert_eq!(note["bpm"], json!(120.0));
    assert_eq!(note["time_signature"], "6/8");
    assert_eq!(note["sample_rate"], 48000);
    // Nobody chose C major.
    assert_eq!(note["key"], Value::Null);

    let said = pushed(
        &song(),
        r#"{"bpm":126,"key":"am","tags":["WIP","mix","mix"]}"#,
        "ann",
        AT,
    );

    let note = json_of(&said);
    assert_eq!(note["bpm"], json!(126.0));
    assert_eq!(note["key"], "A minor");
    assert_eq!(note["tags"], json!(["mix", "wip"]));
    assert_eq!(
        note["user"]["key"],
        json!({"value": "A minor", "by": "ann", "at": AT, "via": "note"})
    );
    assert_eq!(
        note["warnings"],
        json!([{"code": "differs_from_project", "field": "bpm", "project": 120.0}])
    );
    assert_eq!(Note::fold(said.to_line().as_bytes()), Ok(said));
}

#[test]
fn a_line_has_sorted_names_no_spaces_and_no_line_feed() {
    let line = song().to_line();
    assert!(
        line.starts_with(r#"{"auto":{"at":"2026-11-20T10:02:11Z","extractor":"1","primary":"#),
        "{line}"
    );
    assert!(
        line.ends_with(r#""schema":"logic-note/1","time_signature":"6/8"}"#),
        "{line}"
    );
    assert!(!line.contains(['\n', '\t']) && !line.contains(": "), "{line}");
}

#[test]
fn a_pushed_line_changes_what_was_edited_in_it_and_nothing_else() {
    let note = pushed(&song(), r#"{"key":"A minor","stage":"mixing"}"#, "ann", BEFORE);
    let line = edited(
        &note,
        &[
            ("stage", Value::Null),
            ("rating", json!(4)),
            ("auto", json!({"primary": "x", "projects": []})),
        ],
    );

    let after = pushed(&note, &line, "ben", AT);

    assert_eq!(
        after.auto, note.auto,
        "what the project says is not for people to change"
    );
    let after = json_of(&after);
    assert_eq!(after["stage"], Value::Null);
    assert_eq!(after["user"]["rating"]["by"], "ben");
    assert_eq!(after["user"]["key"]["by"], "ann");
    assert_eq!(after["key"], "A minor");
}

#[test]
fn a_value_with_no_schema_beside_it_takes_nothing_back_but_what_is_null() {
    let note = pushed(&song(), r#"{"key":"A minor","stage":"mixing"}"#, "ann", BEFORE);
    let after = json_of(&pushed(&note, r#"{"bpm":126,"stage":null}"#, "ben", AT));
    assert_eq!(after["key"], "A minor");
    assert_eq!(after["stage"], Value::Null);
}

#[test]
fn nobody_speaks_in_another_name_or_from_the_future() {
    let forged = json!({"schema": "logic-note/1", "key": "B minor",
        "user": {"key": {"value": "B minor", "by": "ann", "at": "2999-01-01T00:00:00Z", "via": "note"}}});

    let after = pushed(&song(), &forged.to_string(), "mallory", AT);

    let said = after.said.get("key").expect("said");
    assert_eq!((said.by.as_str(), said.at.as_str()), ("mallory", AT));
}

#[test]
fn two_lines_that_git_has_joined_are_one_note_again() {
    let base = pushed(&song(), r#"{"tags":["wip"]}"#, "ann", BEFORE);
    let of_ann = pushed(
        &base,
        r#"{"tags":["wip","mix"],"bpm":126}"#,
        "ann",
        "2026-11-21T00:00:00Z",
    );
    let of_ben = edited(&base, &[("rating", json!(5)), ("tags", json!(["loud", "wip"]))]);
    let mut lines = [of_ann.to_line(), of_ben];
    lines.sort();

    let after = pushed(&of_ann, &lines.join("\n"), "ben", AT);

    let after = json_of(&after);
    assert_eq!(after["tags"], json!(["loud", "mix", "wip"]));
    assert_eq!((&after["bpm"], &after["rating"]), (&json!(126.0), &json!(5)));
    assert_eq!(after["user"]["bpm"]["by"], "ann");
}

#[test]
fn what_is_not_known_is_kept_below_x() {
    let after = pushed(&song(), r#"{"mood":"dark","x":{"room":2}}"#, "ann", AT);
    let line = json_of(&after);
    assert_eq!(line["x"], json!({"mood": "dark", "room": 2}));
    let again = pushed(&after, &edited(&after, &[("x", json!({"room": 3}))]), "ben", AT);
    assert_eq!(json_of(&again)["x"], json!({"room": 3}));
}

#[test]
fn what_breaks_the_rules_is_refused_with_a_sentence() {
    let refused = |text: &[u8]| said_by_push(&song(), text, "ann", AT).expect_err("refused").to_string();
    assert!(refused(b"\xff").contains("UTF-8"));
    assert!(refused(b"{\"bpm\":126}\n\nhello").contains("line 3"));
    assert!(refused(b"[1]").contains("line 1"));
    assert!(matches!(
        said_by_push(&song(), &vec![b' '; NOTE_BYTES_MAX + 1], "ann", AT),
        Err(NoteError::TooLong { .. })
    ));
    for (field, bad) in [
        ("bpm", json!("fast")),
        ("bpm", json!(0)),
        ("sample_rate", json!(44100.5)),
        ("key", json!("H minor")),
        ("key", json!("")),
        ("key", json!("♯")),
        ("time_signature", json!("4/5")),
        ("tags", json!("mix")),
        ("tags", json!(["a".repeat(41)])),
        ("rating", json!(6)),
        ("comment", json!("\u{7}")),
        ("mood", json!("x".repeat(600))),
    ] {
        let sentence = refused(json!({field: bad}).to_string().as_bytes());
        assert!(sentence.contains(field), "{field}: {sentence}");
    }
}

#[test]
fn keys_are_understood_as_musicians_write_them() {
    for (written, meant) in [
        ("A minor", "A minor"),
        ("am", "A minor"),
        ("Bb", "Bb major"),
        ("bb min", "Bb minor"),
        ("B", "B major"),
        ("f#m", "F# minor"),
        ("C♯ Major", "C# major"),
        ("E♭maj", "Eb major"),
    ] {
        let after = pushed(&song(), &json!({"key": written}).to_string(), "ann", AT);
        assert_eq!(json_of(&after)["key"], meant, "{written}");
    }
}

#[test]
fn messages_and_push_options_say_something_too() {
    let message = "Bass again\n\nBPM: not this one\nis above\n\nbpm: 92.5 bpm\nKey: Gm\nsample rate: 44.1 kHz\nTags: Mix, wip\n\
                   Stage: mixing\nSigned-off-by: Ann\nRating: 9\n";
    let said = from_message(message, "Ann Other", AT);
    let mut note = song();
    note.said = said;
    let line = json_of(&note);
    assert_eq!(
        (&line["bpm"], &line["key"], &line["sample_rate"]),
        (&json!(92.5), &json!("G minor"), &json!(44100))
    );
    assert_eq!(
        (&line["tags"], &line["stage"]),
        (&json!(["mix", "wip"]), &json!("mixing"))
    );
    assert_eq!(line["user"]["bpm"]["via"], "trailer");
    assert_eq!(from_message("Only a title", "Ann", AT), Said::default());

    let options = ["ci.skip", "logic.tag=mix", "logic.tag=loud", "logic.rating=3"];
    let said = from_push_options(options.into_iter(), "ann", AT).expect("fine");
    assert_eq!(said.get("tags").expect("tags").value, json!(["loud", "mix"]));
    assert_eq!(said.get("rating").expect("rating").value, json!(3));
    let unknown = from_push_options(["logic.tempo=3"].into_iter(), "ann", AT).expect_err("unknown");
    assert!(unknown.to_string().contains("logic.bpm"), "{unknown}");
}

#[test]
fn tempo_and_key_stay_said_until_the_project_says_something_else() {
    let parent = pushed(&song(), r#"{"bpm":126,"key":"A minor","tags":["mix"]}"#, "ann", BEFORE);
    let mut child = song();
    child.auto.as_mut().expect("there")["projects"][1]["alternatives"][1]["bpm"] = json!(130.0);

    inherited(&mut child, &parent);

    let line = json_of(&child);
    assert_eq!(
        (&line["bpm"], &line["key"], &line["tags"]),
        (&json!(130.0), &json!("A minor"), &Value::Null)
    );
    assert_eq!(line["user"]["key"]["via"], "inherited");
    assert_eq!(line["user"]["key"]["by"], "ann");
}

#[test]
fn the_summary_is_for_people() {
    let mut note = pushed(
        &song(),
        r#"{"key":"A minor","tags":["wip","mix"],"stage":"mixing"}"#,
        "ann",
        AT,
    );
    note.warnings = vec![json!({"code": "audio_missing", "path": "Audio Files/Gtr.wav"})];
    assert_eq!(
        summary(&note),
        "120 BPM · A minor · 6/8 · 48 kHz · 24 tracks · 3:35\nStage: mixing · Tags: mix, wip\n\
         Songs/Hook.logicx, saved with Logic Pro 11.2.2 (6387)\nOther projects: Songs/Intro.logicx\n\
         1 of its audio files are not in this commit\n"
    );
    assert_eq!(summary(&Note::default()), "");
}

/// What one person may have said.
fn sayings() -> impl Strategy<Value = Said> {
    let field = prop_oneof![
        (60_u32..200).prop_map(|bpm| json!({ "bpm": bpm })),
        prop::collection::vec("[a-e]", 0..4).prop_map(|tags| json!({ "tags": tags })),
        "[a-c]".prop_map(|mood| json!({ "mood": mood })),
        (1_u32..6).prop_map(|rating| json!({ "rating": rating })),
    ];
    let one = (field, "[ab]", 10_u32..13).prop_map(|(text, by, day)| {
        let at = format!("2026-11-{day}T00:00:00Z");
        said_by_push(&Note::default(), text.to_string().as_bytes(), &by, &at).expect("valid")
    });
    prop::collection::vec(one, 1..5).prop_map(|all| {
        all.into_iter().fold(Said::default(), |mut said, more| {
            said.join(more);
            said
        })
    })
}

proptest! {
    #[test]
    fn any_order_of_arrival_ends_equal(all in prop::collection::vec(sayings(), 2..5), turn in 0_usize..5) {
        let lines: Vec<String> = all
            .iter()
            .map(|said| Note { said: said.clone(), ..song() }.to_line())
            .collect();
        let together = Note::fold(lines.join("\n").as_bytes()).expect("valid");
        let mut turned = lines.clone();
        turned.rotate_left(turn % lines.len());
        turned.reverse();
        prop_assert_eq!(&Note::fold(turned.join("\n").as_bytes()).expect("valid"), &together);
        // One after the other, each time with what the server had made of those before.
        let mut step = String::new();
        for line in &turned {
            step = Note::fold(format!("{step}\n{line}").as_bytes()).expect("valid").to_line();
        }
        prop_assert_eq!(Note::fold(step.as_bytes()).expect("valid"), together);
    }

    #[test]
    fn any_bytes_are_folded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Note::fold(&bytes);
        let _ = said_by_push(&song(), &bytes, "ann", AT);
    }

    #[test]
    fn any_line_of_json_is_folded_to_one_that_stays_as_it_is(
        names in prop::collection::vec("user|auto|bpm|key|tags|x|mood|warnings|schema|at|by|value|via|projects", 1..8),
        leaf in prop_oneof![Just(json!(1)), Just(json!("A minor")), Just(json!([{"path": 1}])), Just(json!({"bpm": {}}))],
    ) {
        let line = names.iter().rev().fold(leaf, |value, name| json!({name: value, "auto": {"projects": [value]}}));
        if let Ok(note) = Note::fold(line.to_string().as_bytes()) {
            let again = Note::fold(note.to_line().as_bytes()).expect("its own line");
            prop_assert_eq!(canonical(&json_of(&again)), canonical(&json_of(&note)));
        }
        let _ = said_by_push(&song(), line.to_string().as_bytes(), "ann", AT);
    }
}
