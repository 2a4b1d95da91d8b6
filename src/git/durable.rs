//! Making files and names survive a power cut.

use std::fs::File;
use std::io;
use std::path::Path;

use super::fault;

/// Brings a file's content to the disk.
///
/// # Errors
/// The disk's; what was written may then be lost and must not be acknowledged.
pub fn sync_file(file: &File) -> io::Result<()> {
    if fault::is_on("no-fsync") {
        return Ok(());
    }
    file.sync_all()
}

/// Brings the names in a folder to the disk: what was made, renamed and removed there.
///
/// # Errors
/// The disk's, or there is no such folder.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    if fault::is_on("no-fsync") {
        return Ok(());
    }
    File::open(folder)?.sync_all()
}
