//! `git auxin textconv`: what a file of a Logic project says, one fact a line, so that `git diff` and `git log -p` show
//! what changed in music. Lists are sorted, since Logic changes their order from save to save.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use lfs_protocol::{MAX_POINTER_BYTES, Pointer};

use crate::logic::{Information, Limits, MetaData, Placement, ProjectData, Reference, Status};
use crate::transfer::local::Storage;

/// The text of a file that Git hands out; a pointer of Git LFS stands for the file behind it.
///
/// # Errors
/// The file cannot be read. What is wrong with its content is a line.
pub fn textconv(path: &Path) -> io::Result<String> {
    let limits = Limits::default();
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some(mut bytes) = read(path, limits.project_data_bytes)? else {
        return Ok("This file is too large to be read.\n".to_owned());
    };
    if let (1..MAX_POINTER_BYTES, Ok(parsed)) = (bytes.len(), Pointer::parse(&bytes)) {
        let Pointer { oid, size_bytes, .. } = parsed.pointer;
        let behind = Storage::here()
            .ok()
            .filter(|storage| storage.has_object(oid, size_bytes));
        let absent =
            format!("This large file is not here: {oid}, {size_bytes} bytes. `git lfs fetch --all` may get it.\n");
        let Some(storage) = behind else { return Ok(absent) };
        match read(&storage.object_path(oid), limits.project_data_bytes)? {
            Some(whole) => bytes = whole,
            None => {
                return Ok(format!(
                    "This large file is too large to be read: {oid}, {size_bytes} bytes.\n"
                ));
            }
        }
    }
    let lines = lines_of(&name, &bytes, &limits);
    Ok(match lines {
        Some(lines) => lines.join("\n") + "\n",
        None => format!("This is no file of Logic that can be read: {} bytes.\n", bytes.len()),
    })
}

fn read(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= most).then_some(bytes))
}

/// The lines of a file with this name; `None` if it is none of those that are read.
fn lines_of(name: &str, bytes: &[u8], limits: &Limits) -> Option<Vec<String>> {
    if let Ok(song) = ProjectData::read(bytes, limits) {
        return Some(song_lines(&song));
    }
    if bytes.len() as u64 > limits.plist_bytes {
        return None;
    }
    match name.ends_with("ProjectInformation.plist") {
        true => Information::read(bytes, limits)
            .ok()
            .map(|read| information_lines(&read)),
        false => MetaData::read(bytes, limits).ok().map(|read| metadata_lines(&read)),
    }
}

/// Adds a line for a value that is told.
fn tell(lines: &mut Vec<String>, name: &str, value: Option<impl std::fmt::Display>) {
    if let Some(value) = value {
        lines.push(format!("{name}: {value}"));
    }
}

fn information_lines(read: &Information) -> Vec<String> {
    let mut lines = Vec::new();
    tell(
        &mut lines,
        "saved with",
        read.saved_with.as_ref().map(|saved| &saved.text),
    );
    tell(&mut lines, "bundle version", read.bundle_version);
    tell(&mut lines, "active alternative", read.active_alternative);
    tell(&mut lines, "saved as a folder", read.has_project_folder);
    tell(&mut lines, "asset flags", read.asset_flags);
    for (index, name) in read.names() {
        lines.push(format!("alternative {index}: {name}"));
    }
    lines
}

fn metadata_lines(read: &MetaData) -> Vec<String> {
    let mut lines = Vec::new();
    tell(&mut lines, "tempo", read.bpm.map(|bpm| format!("{bpm} BPM")));
    let default = |is_default| if is_default { " (default)" } else { "" };
    let key = read.key.as_ref();
    tell(&mut lines, "key", key.map(|key| key.name() + default(key.is_default)));
    tell(
        &mut lines,
        "meter",
        read.time_signature.map(|(upper, lower)| format!("{upper}/{lower}")),
    );
    tell(
        &mut lines,
        "sample rate",
        read.sample_rate_hz.map(|rate| format!("{rate} Hz")),
    );
    tell(&mut lines, "tracks", read.tracks);
    tell(&mut lines, "frame rate index", read.frame_rate_index);
    tell(&mut lines, "ruler in time", read.is_timecode_based);
    tell(&mut lines, "surround format index", read.surround_format_index);
    tell(&mut lines, "surround mode index", read.surround_mode_index);
    tell(&mut lines, "ARA plug-ins", read.has_ara);
    tell(&mut lines, "Live Loops", read.has_live_loops);
    tell(&mut lines, "list version", read.version);
    let audio = [("audio", &read.audio_used), ("unused audio", &read.audio_unused)];
    for (group, references) in audio.into_iter().chain(read.external.groups()) {
        for reference in references {
            lines.push(match reference {
                Reference::Inside(path) => format!("{group} file: {path}"),
                Reference::Outside { place, name } => format!("{group} file: {name} in {place}"),
            });
        }
    }
    if read.is_cut {
        lines.push("Lists are cut: they are too long.".to_owned());
    }
    lines
}

fn song_lines(song: &ProjectData) -> Vec<String> {
    let mut lines = Vec::new();
    match song.status {
        Status::Ok => {}
        _ => lines.push("Only a part of this file could be read.".to_owned()),
    }
    lines.push(format!("format version: {:04x}", song.version));
    let place = |tick: i64| song.place(tick);
    for tempo in &song.tempo {
        lines.push(format!("tempo at {}: {} BPM", place(tempo.tick), tempo.bpm));
    }
    for meter in &song.meter {
        let (upper, lower) = meter.signature;
        lines.push(format!("meter at {}: {upper}/{lower}", place(meter.tick)));
    }
    for marker in &song.markers {
        let name = marker.name.as_deref().unwrap_or("without a known name");
        lines.push(format!("marker at {}: {name}", place(marker.tick)));
    }
    let names = |id: u32| song.region(id).map(|region| region.name.as_str());
    let mut placed: Vec<(&Placement, &str)> = Vec::new();
    for placement in &song.placements {
        let name = placement.region.and_then(names).unwrap_or("audio region");
        placed.push((placement, name));
    }
    placed.extend(
        song.sequences
            .iter()
            .map(|placement| (placement, "MIDI region or folder")),
    );
    placed.sort();
    for (placement, name) in placed {
        lines.push(format!(
            "track {} at {}: {name}",
            placement.track,
            place(placement.tick)
        ));
    }
    let mut sorted: Vec<String> = song
        .regions
        .iter()
        .map(|region| format!("audio region: {}, {} frames", region.name, region.frames))
        .collect();
    sorted.extend(song.files.iter().map(|file| match &file.format {
        Some(format) => format!(
            "audio file: {}, {} frames, {} Hz, channels: {}, bits: {}",
            file.name, format.frames, format.sample_rate_hz, format.channels, format.bits
        ),
        None => format!("audio file: {}", file.name),
    }));
    sorted.sort();
    lines.extend(sorted);
    lines.extend(
        song.plugins
            .iter()
            .map(|(name, number)| format!("plug-in: {name} ×{number}")),
    );
    lines.extend(song.audio_units.iter().map(|unit| format!("audio unit: {unit}")));
    if song.is_cut {
        lines.push("Lists are cut: they are too long.".to_owned());
    }
    lines
}
