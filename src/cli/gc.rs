//! `auxin gc`: removes large files that nothing needs.

use super::output::{Output, counted};
use crate::app::App;
use crate::service::Collect;

pub(super) async fn run(app: &App, out: &Output, how: Collect) -> anyhow::Result<()> {
    let done = app.keeping.collect(how).await?;
    let mut lines: Vec<String> = done
        .removed
        .iter()
        .map(|file| format!("{}: {} ({} bytes)", file.repository, file.oid, file.size_bytes))
        .collect();
    let number = |count: u64, noun: &str| counted(usize::try_from(count).unwrap_or(usize::MAX), noun);
    lines.push(format!(
        "{}: {} of repositories, {} altogether, {} with {} bytes, {} with {} bytes.",
        if done.dry_run { "Would remove" } else { "Removed" },
        counted(done.removed.len(), "large file"),
        number(done.removed_objects, "object"),
        number(done.removed_chunks, "chunk"),
        done.removed_chunk_bytes,
        number(done.removed_packs, "chunk pack"),
        done.removed_pack_bytes
    ));
    lines.push(format!(
        "{} and {} {} found unneeded for the first time; {} {} some time before removal.",
        number(done.first_marked_files, "large file"),
        number(done.first_marked_chunks, "chunk"),
        if done.dry_run { "would be" } else { "were" },
        number(done.condemned_packs, "chunk pack"),
        if done.dry_run { "would wait" } else { "wait" },
    ));
    Ok(out.say(&lines.join("\n"), &done)?)
}
