//! What is told of audio files, and the sound hash.

#[path = "support/audio_files.rs"]
mod audio_files;

use std::path::Path;

use audio_files::*;
use git_auxin::audio::{Container, Sound, SoundFacts, SoundHash, SoundReader, is_audio_path};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

fn read(file: &[u8]) -> Sound {
    let mut reader = SoundReader::new();
    reader.push(file);
    reader.finish().expect("an audio file")
}

fn hash(file: &[u8]) -> SoundHash {
    read(file).hash.expect("a sound hash")
}

#[test]
fn the_hash_is_the_one_that_the_documentation_defines() {
    let sound = samples(10);
    let definition = [
        &b"auxin-sound-1\0\x03int"[..],
        &48_000_f64.to_le_bytes(),
        &1_u32.to_le_bytes(),
        &3_u32.to_le_bytes(),
        &[0; 8],
        &30_u64.to_le_bytes(),
        &Sha256::digest(&sound),
        &[0; 64],
    ];

    let found = hash(&wav(&[&fmt(1), &little(b"data", &sound)]));

    assert_eq!(found.as_bytes()[..], Sha256::digest(definition.concat())[..]);
    let (packets, cookie) = (b"packets", b"cookie");
    let definition = [
        &b"auxin-sound-1\0\x04alac"[..],
        &48_000_f64.to_le_bytes(),
        &2_u32.to_le_bytes(),
        &[0; 8],
        &4096_u32.to_le_bytes(),
        &7_u64.to_le_bytes(),
        &Sha256::digest(packets),
        &Sha256::digest(cookie),
        &Sha256::digest(&pakt(9_000)[12..]),
    ];
    assert_eq!(hash(&all()[5]).as_bytes()[..], Sha256::digest(definition.concat())[..]);
}

#[test]
fn the_same_samples_in_every_container_are_one_sound() {
    let sound = samples(401);
    let (back, first) = (turned(&sound), hash(&wav(&[&fmt(1), &little(b"data", &sound)])));
    let frames = 401;

    for file in [
        long_wav(b"RF64", &[], &sound),
        long_wav(b"BW64", &[&little(b"LGWV", b"xyz")], &sound),
        aiff(b"AIFF", &[&comm(1, frames, None), &ssnd(&back, true)]),
        aiff(b"AIFC", &[&comm(1, frames, Some(b"sowt")), &ssnd(&sound, true)]),
        aiff(b"AIFC", &[&comm(1, frames, Some(b"in24")), &ssnd(&back, true)]),
        caf(&[&desc(b"lpcm", 2, (3, 1), 1, 24), &data(&sound)]),
        caf(&[&desc(b"lpcm", 0, (3, 1), 1, 24), &data(&back)]),
    ] {
        assert_eq!(hash(&file), first, "{:?}", read(&file).facts);
        assert_eq!(read(&file).facts.frames, Some(401));
    }
    let eight = |tag: u8| {
        let fmt = little(b"fmt ", &[tag, 0, 1, 0, 0x80, 0xbb, 0, 0, 0x80, 0xbb, 0, 0, 1, 0, 8, 0]);
        wav(&[&fmt, &little(b"data", &[0x80, 0, 0xff])])
    };
    let signed = caf(&[&desc(b"lpcm", 0, (1, 1), 1, 8), &data(&[0, 0x80, 0x7f])]);
    assert_eq!(hash(&eight(1)), hash(&signed));
    assert_ne!(hash(&eight(1)), hash(&eight(6)), "A-law is another sound");
}

#[test]
fn what_logic_writes_anew_is_not_sound_and_what_is_heard_is() {
    let sound = samples(400);
    let data = little(b"data", &sound);
    let first = hash(&wav(&[&fmt(2), &data, &little(b"LGWV", b"one")]));

    for same in [
        wav(&[&fmt(2), &data]),
        wav(&[&fmt(2), &data, &little(b"LGWV", b"another overview")]),
        wav(&[&bext(5), &fmt(2), &acid(0, 4, 120.0), &data, b"rubbish"]),
    ] {
        assert_eq!(hash(&same), first);
    }
    let mut changed = sound.clone();
    changed[700] ^= 1;
    for other in [
        wav(&[&fmt(2), &little(b"data", &changed)]),
        wav(&[&fmt(2), &little(b"data", &sound[..1194])]),
        wav(&[&fmt(1), &data]),
    ] {
        assert_ne!(hash(&other), first);
    }
    let aiff_of = |resu: &[u8], overview: &[u8], is_padded| {
        let (comm, ssnd) = (comm(1, 401, None), ssnd(&turned(&samples(401)), is_padded));
        aiff(b"AIFF", &[&comm, &ssnd, &big(b"ResU", resu), &big(b"LGWV", overview)])
    };
    let first = hash(&aiff_of(b"beats", b"peaks", false));
    assert_eq!(first, hash(&aiff_of(b"other", b"", false)));
    assert_eq!(first, hash(&aiff_of(b"", b"peak", true)));
}

#[test]
fn facts_of_wave_files() {
    let file = wav(&[
        &fmt(2),
        &bext(7 << 32),
        &acid(2, 8, 96.5),
        &little(b"data", &samples(96_000)),
    ]);
    let facts = read(&file).facts;

    assert_eq!(facts.container, Container::Wav);
    assert_eq!(facts.codec.as_deref(), Some("int"));
    assert_eq!(
        (facts.sample_rate_hz, facts.channels, facts.bits),
        (Some(48_000.0), Some(2), Some(24))
    );
    assert_eq!((facts.frames, facts.seconds), (Some(48_000), Some(1.0)));
    assert_eq!(facts.sound_bytes, 288_000);
    let recording = facts.recording.expect("bext");
    assert_eq!(
        (recording.originator.as_str(), recording.time_reference_frames),
        ("Logic Pro", 7 << 32)
    );
    assert_eq!(
        (recording.date.as_str(), recording.time.as_str()),
        ("2026-11-27", "14:05:31")
    );
    let looped = facts.looped.expect("acid");
    assert_eq!((looped.beats, looped.time_signature), (Some(8), Some((3, 4))));
    assert_eq!((facts.tempo_bpm, facts.key.as_deref()), (Some(96.5), Some("A")));
    let one_shot = read(&wav(&[&fmt(1), &acid(1, 0, 120.0), &little(b"data", b"abc")])).facts;
    assert_eq!((one_shot.tempo_bpm, one_shot.key), (None, None));
    assert!(one_shot.looped.expect("acid").is_one_shot);
}

#[test]
fn facts_of_aiff_files_with_the_pad_byte_that_logic_leaves_out() {
    for is_padded in [true, false] {
        let marks = marks(&[(0, "Tempo: 115.0"), (164, "Timestamp: 164834296"), (9, "End")]);
        let file = aiff(
            b"AIFF",
            &[
                &comm(1, 401, None),
                &ssnd(&samples(401), is_padded),
                &big(b"ResU", b"odd"),
                &marks,
            ],
        );
        let facts = read(&file).facts;

        assert_eq!(facts.container, Container::Aiff);
        assert_eq!(
            (facts.sample_rate_hz, facts.channels, facts.bits),
            (Some(48_000.0), Some(1), Some(24))
        );
        assert_eq!((facts.frames, facts.tempo_bpm), (Some(401), Some(115.0)));
        assert_eq!(facts.markers.len(), 3);
        assert_eq!(
            (facts.markers[1].frame, facts.markers[1].name.as_str()),
            (164, "Timestamp: 164834296")
        );
    }
    let mut basc = vec![0, 0, 0, 1, 0, 0, 0, 8, 0, 57, 0, 1, 0, 4, 0, 4, 0, 0];
    basc.resize(84, 0);
    let looped = aiff(
        b"AIFC",
        &[
            &comm(1, 192_000, Some(b"sowt")),
            &big(b"basc", &basc),
            &ssnd(&samples(192_000), true),
        ],
    );
    let facts = read(&looped).facts;
    assert_eq!((facts.tempo_bpm, facts.key.as_deref()), (Some(120.0), Some("A minor")));
    assert_eq!(facts.looped.expect("a loop").time_signature, Some((4, 4)));
}

#[test]
fn facts_of_core_audio_files() {
    let tags = [
        ("category", "Bass"),
        ("beat count", "8"),
        ("time signature", "3/4"),
        ("key signature", "Bb"),
        ("key type", "minor"),
    ];
    let file = caf(&[
        &desc(b"alac", 0, (0, 4096), 2, 0),
        &long(b"kuki", b"cookie"),
        &pakt(192_000),
        &apple_loop(&tags),
        &data(b"packets"),
    ]);
    let facts = read(&file).facts;

    assert_eq!(
        (facts.container, facts.codec.as_deref()),
        (Container::Caf, Some("alac"))
    );
    assert_eq!(
        (facts.bits, facts.frames, facts.seconds),
        (None, Some(192_000), Some(4.0))
    );
    assert_eq!((facts.tempo_bpm, facts.key.as_deref()), (Some(120.0), Some("Bb minor")));
    assert_eq!(facts.looped.expect("a loop").time_signature, Some((3, 4)));
    let to_the_end = caf(&[
        &desc(b"lpcm", 3, (8, 1), 2, 32),
        b"data\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",
        &[1; 80],
    ]);
    let facts = read(&to_the_end).facts;
    assert_eq!(
        (facts.codec.as_deref(), facts.frames, facts.is_cut_short),
        (Some("float"), Some(10), false)
    );
}

#[test]
fn what_is_missing_is_said_and_nothing_is_made_up() {
    let whole = wav(&[&fmt(1), &little(b"data", &samples(300))]);
    let cut = read(&whole[..whole.len() - 100]);
    assert!(cut.facts.is_cut_short && !read(&whole).facts.is_cut_short);
    assert_ne!(cut.hash, read(&whole).hash);
    // Without a format before it, nobody knows what the bytes are.
    let late = read(&aiff(b"AIFF", &[&ssnd(&samples(4), true), &comm(1, 4, None)]));
    assert_eq!((late.hash, late.facts.frames), (None, Some(4)));
    assert_eq!(read(&wav(&[&fmt(1), &little(b"data", b"")])).hash, None);
    for other in [
        &b""[..],
        b"RIFF",
        b"RIFF\0\0\0\0AVI LIST",
        b"version https://git-lfs.github.com/spec/v1\n",
    ] {
        let mut reader = SoundReader::new();
        reader.push(other);
        assert!(reader.finish().is_none());
    }
}

#[test]
fn audio_is_known_by_its_ending() {
    assert!(is_audio_path("Song.logicx/Media/Audio Files/VOX#01.WAV") && is_audio_path("a.aif"));
    assert!(!is_audio_path("Song.wav/ProjectData") && !is_audio_path("wav"));
}

/// Files that may not be in the repository are read where they lie.
#[test]
fn samples_of_real_programs_are_what_their_sources_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/samples/audio");
    if !folder.is_dir() {
        eprintln!("SKIPPED: there is no {}: nothing real was read", folder.display());
        return;
    }
    let caf = std::fs::read(folder.join("control.caf")).expect("listed in SOURCES.md");
    let facts = read(&caf).facts;
    assert_eq!((facts.codec.as_deref(), facts.frames), (Some("alac"), Some(176_400)));
    let wav = read(&std::fs::read(folder.join("049.wav")).expect("listed in SOURCES.md"));
    assert!(wav.hash.is_some() && wav.facts.frames.is_some());
}

/// A number that a shortest decimal brings back only if JSON is read with all its digits.
#[test]
fn facts_come_back_from_json_to_the_last_bit() {
    let mut file = all()[0].clone();
    file[24..28].copy_from_slice(&0x7fff_ffff_u32.to_be_bytes());
    let facts = read(&file).facts;
    assert!(facts.seconds.is_some());
    let json = serde_json::to_string(&facts).expect("JSON");
    assert_eq!(serde_json::from_str::<SoundFacts>(&json).expect("JSON"), facts);
}

proptest! {
    #[test]
    fn any_split_of_the_stream_gives_the_same(
        which in 0_usize..6,
        cuts in prop::collection::vec(1_usize..90, 1..40),
    ) {
        let file = &all()[which];
        let mut reader = SoundReader::new();
        let mut rest = &file[..];
        for cut in cuts.iter().cycle() {
            let (piece, more) = rest.split_at((*cut).min(rest.len()));
            reader.push(piece);
            rest = more;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(reader.finish(), Some(read(file)));
    }

    #[test]
    fn hostile_lengths_are_survived(
        which in 0_usize..6,
        at in 4_usize..900,
        lie in prop::sample::select(vec![0_u32, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, u32::MAX]),
    ) {
        let mut file = all()[which].clone();
        let at = at.min(file.len() - 4);
        file[at..at + 4].copy_from_slice(&lie.to_be_bytes());
        let mut reader = SoundReader::new();
        file.chunks(7).for_each(|piece| reader.push(piece));
        if let Some(sound) = reader.finish() {
            prop_assert!(sound.facts.sound_bytes <= file.len() as u64);
            let json = serde_json::to_string(&sound.facts).expect("JSON");
            prop_assert!(json.len() < 64 << 10);
            let again = serde_json::from_str(&json).expect("JSON");
            prop_assert_eq!(sound.facts, again);
        }
    }
}
