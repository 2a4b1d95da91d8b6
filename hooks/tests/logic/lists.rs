//! `MetaData.plist` and `ProjectInformation.plist`.

use git_auxin::logic::{Information, Limits, MetaData, Mode, Place, Reference, Status};
use proptest::prelude::*;

use crate::logic_files::*;

fn both(value: &Plist) -> MetaData {
    let (a, b) = (binary(value), xml(value));
    let [a, b] = [a, b].map(|bytes| MetaData::read(&bytes, &Limits::default()).expect("a list"));
    assert_eq!(a, b, "both forms say the same");
    a
}

fn outside(place: Place, name: &str) -> Reference {
    Reference::Outside {
        place,
        name: name.to_owned(),
    }
}

#[test]
fn numbers_may_be_whole_or_real_and_every_key_may_be_absent() {
    let found = both(&dict(&[
        ("BeatsPerMinute", Plist::Int(120)),
        ("SampleRate", Plist::Real(48_000.0)),
        ("isTimeCodeBased", Plist::Bool(true)),
        ("SongSignatureNumerator", Plist::Int(6)),
        ("SongSignatureDenominator", Plist::Int(8)),
        ("FrameRateIndex", Plist::Int(77)),
        ("Unheard", Plist::Data(vec![1; 20])),
    ]));

    assert_eq!((found.bpm, found.sample_rate_hz), (Some(120.0), Some(48_000)));
    assert_eq!(
        (found.time_signature, found.is_timecode_based),
        (Some((6, 8)), Some(true))
    );
    assert_eq!(found.frame_rate_index, Some(77), "told as it is");
    assert_eq!((found.key, found.tracks), (None, None));
    assert_eq!(both(&dict(&[])), MetaData::default());
}

#[test]
fn what_music_cannot_have_is_absent() {
    let found = both(&dict(&[
        ("BeatsPerMinute", Plist::Real(-3.0)),
        ("SampleRate", Plist::Int(-1)),
        ("SongKey", text("H")),
        ("NumberOfTracks", Plist::Real(2.5)),
        ("SongSignatureNumerator", Plist::Int(4)),
        ("SongSignatureDenominator", Plist::Int(0)),
    ]));
    assert_eq!(found, MetaData::default());
}

#[test]
fn keys_are_read_from_name_mode_and_signature() {
    for (tonic, mode, signature, name, fifths, is_default) in [
        ("C", "major", 7, "C major", Some(0), true),
        ("D", "major", 9, "D major", Some(2), false),
        ("F#", "minor", 26, "F# minor", Some(3), false),
        ("B", "minor", 25, "B minor", Some(2), false),
        ("Eb", "minor", 17, "Eb minor", Some(-6), false),
        ("C", "minor", 7, "C minor", None, false),
        ("A", "odd", 99, "A", None, false),
    ] {
        let key = both(&dict(&[
            ("SongKey", text(tonic)),
            ("SongGenderKey", text(mode)),
            ("SignatureKey", Plist::Int(signature)),
        ]));
        assert_eq!(key.signature_key, Some(signature));
        let key = key.key.expect("a key");
        assert_eq!(
            (key.name().as_str(), key.fifths, key.is_default),
            (name, fifths, is_default)
        );
        assert_eq!(key.mode.is_none(), mode == "odd");
        assert!(mode != "minor" || key.mode == Some(Mode::Minor));
    }
}

#[test]
fn lists_of_files_are_sets_whatever_their_order_and_spelling() {
    let one = both(&dict(&[(
        "AudioFiles",
        texts(&["Audio Files/Gitarre \u{e9}.aif", "Audio Files/b & <c>.wav"]),
    )]));
    let other = both(&dict(&[(
        "AudioFiles",
        texts(&[
            "Audio Files/b & <c>.wav",
            "Audio Files/Gitarre e\u{301}.aif",
            "./Audio Files//b & <c>.wav",
        ]),
    )]));
    assert_eq!(one, other);
    assert_eq!(one.audio_used.len(), 2);
}

#[test]
fn files_outside_are_told_by_name_and_kind_of_place_alone() {
    for (path, reference) in [
        (
            "/Library/Audio/Impulse Responses/Hall.sdir",
            outside(Place::Library, "Hall.sdir"),
        ),
        ("/Users/ann/Desktop/kick.wav", outside(Place::Home, "kick.wav")),
        ("/Users/ann", outside(Place::Home, "")),
        ("/Users/ann/", outside(Place::Home, "")),
        ("file:///Users/ann/kick.wav", outside(Place::Home, "kick.wav")),
        ("/Volumes/Disk/Users/ann", outside(Place::Home, "")),
        ("~/kick.wav", outside(Place::Home, "kick.wav")),
        ("Macintosh HD:Users:ann:kick.wav", outside(Place::Home, "kick.wav")),
        (":Users:ann/", outside(Place::Home, "")),
        ("/Volumes/Samples/kick.wav", outside(Place::Volume, "kick.wav")),
        ("/opt/kick.wav", outside(Place::Elsewhere, "kick.wav")),
        ("Audio Files/../../kick.wav", outside(Place::Elsewhere, "kick.wav")),
        (
            "Audio Files/kick: 2.wav",
            Reference::Inside("Audio Files/kick: 2.wav".to_owned()),
        ),
    ] {
        assert_eq!(Reference::parse(path), reference, "{path}");
    }
}

#[test]
fn names_of_alternatives_and_the_program_are_read_and_bookmarks_are_not() {
    let value = dict(&[
        ("LastSavedFrom", text("GarageBand 10.4.6 (5602)")),
        ("VariantNames", dict(&[("0", text("Old")), ("1", text("Live"))])),
        (
            "VariantNamesV2",
            dict(&[
                ("0", text("{PROJECT_NAME} dub")),
                ("3", text("/Users/…/Users/secretive")),
            ]),
        ),
        ("ActiveVariant", Plist::Int(1)),
        ("HasProjectFolder", Plist::Bool(true)),
        ("projectAssetFlags", Plist::Int(8265)),
        (
            "ExternalRecordPath",
            Plist::Data(b"book\0\0/Users/secretive/Music".to_vec()),
        ),
        ("Other", text("/Users/secretive/Music")),
    ]);
    for bytes in [binary(&value), xml(&value)] {
        let found = Information::read(&bytes, &Limits::default()).expect("a list");
        assert_eq!(found.alternative_name(0, Some("Song")).as_deref(), Some("Song dub"));
        assert_eq!(found.alternative_name(0, None), None);
        assert_eq!(found.alternative_name(1, None).as_deref(), Some("Live"));
        assert_eq!(found.active_alternative, Some(1));
        assert_eq!(found.asset_flags, Some(8265));
        let saved = found.saved_with.clone().expect("told");
        assert_eq!(
            (saved.app.as_deref(), saved.build.as_deref()),
            (Some("GarageBand"), Some("5602"))
        );
        assert!(!format!("{found:?}").contains("secretive"));
    }
}

#[test]
fn what_unfolds_into_too_much_or_is_damaged_is_refused() {
    // 16 lists, each of 200 times the next one.
    let mut objects: Vec<Vec<u8>> = (1..16_u16)
        .map(|next| [head(10, 200), next.to_be_bytes().repeat(200)].concat())
        .collect();
    objects.push(vec![9]);
    // A list that holds itself.
    let circle = vec![[head(10, 1), vec![0, 0]].concat()];
    // A list that is the name of its own value.
    let named = vec![[head(13, 1), vec![0, 0, 0, 1]].concat(), head(5, 0)];
    // A list of more items than the file has bytes.
    let long = vec![head(10, 0x7fff_ffff)];
    // A text that is named 60,000 times.
    let mut repeated = vec![[head(10, 60_000), 1_u16.to_be_bytes().repeat(60_000)].concat()];
    repeated.push([head(5, 60_000), vec![b'a'; 60_000]].concat());
    let deep = format!("<plist>{}", "<array>".repeat(100_000));
    for bytes in [
        packed(&objects),
        packed(&circle),
        packed(&named),
        packed(&long),
        packed(&repeated),
        deep.into_bytes(),
    ] {
        let refused = MetaData::read(&bytes, &Limits::default());
        assert_eq!(refused, Err(Status::NotLogic));
    }
    let limits = Limits {
        list_entries: 2,
        ..Limits::default()
    };
    let many = binary(&dict(&[("AudioFiles", texts(&["a", "b", "c"]))]));
    let cut = MetaData::read(&many, &limits).expect("a list");
    assert_eq!((cut.audio_used.len(), cut.is_cut), (2, true));
}

fn plists() -> impl Strategy<Value = Plist> {
    let keys = prop::sample::select(vec![
        "BeatsPerMinute",
        "SongKey",
        "AudioFiles",
        "UnusedAudioFiles",
        "LastSavedFrom",
        "VariantNames",
        "0",
    ]);
    let texts = prop_oneof![
        any::<String>(),
        "(/Users/|file:///Users/|:Users:|/home/|Audio Files/|/Library/)?secretive(/[a-z é]{0,3}){0,2}",
    ];
    let leaf = prop_oneof![
        any::<bool>().prop_map(Plist::Bool),
        any::<i64>().prop_map(Plist::Int),
        any::<f64>().prop_map(Plist::Real),
        texts.prop_map(Plist::Text),
        any::<Vec<u8>>().prop_map(Plist::Data),
    ];
    leaf.prop_recursive(3, 40, 6, move |inner| {
        let pairs = prop::collection::vec((keys.clone().prop_map(str::to_owned), inner.clone()), 0..6);
        prop_oneof![
            prop::collection::vec(inner, 0..6).prop_map(Plist::Array),
            pairs.prop_map(Plist::Dict)
        ]
    })
}

proptest! {
    #[test]
    fn any_list_is_read_or_refused_and_home_folders_stay_inside(value in plists(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = binary(&value);
        for _ in 0..2 {
            let told = format!(
                "{:?} {:?}",
                MetaData::read(&bytes, &Limits::default()),
                Information::read(&bytes, &Limits::default())
            );
            for before in ["/Users/", ":Users:", "/home/"] {
                prop_assert!(!told.contains(&format!("{before}secretive")), "{}", told);
            }
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut bytes = xml(&value);
        let at = at.index(bytes.len());
        bytes[at] = byte & 0x7f;
        let _ = MetaData::read(&bytes, &Limits::default());
    }

    #[test]
    fn a_path_in_a_home_folder_never_tells_whose(
        before in "(/|file:///|/Volumes/X/|a/|)",
        users in "(Users|users|USERS|home)",
        after in "(/[a-z]{0,3}){0,3}/?",
    ) {
        let path = format!("{before}{users}/secretive{after}");
        prop_assert!(!format!("{:?}", Reference::parse(&path)).contains("secretive"), "{}", path);
    }
}
