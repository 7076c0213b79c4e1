//! Files that are there whole or not at all, whenever the power fails.

use std::fs::{File, OpenOptions, rename};
use std::io::{Result, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Makes or replaces a file that only its owner may read, durably. It is written aside, synced and then named, so
/// that a loss of power leaves the whole new file or what was there before. Two must not do it at the same time.
pub(crate) fn write_whole(file: &Path, contents: &[u8]) -> Result<()> {
    let aside = file.with_extension("new");
    let mut options = OpenOptions::new();
    let mut opened = options.write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    opened.write_all(contents)?;
    opened.sync_all()?;
    rename(&aside, file)?;
    sync_parent(file)
}

/// Makes durable that a file or folder was made or renamed.
pub(crate) fn sync_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_whole_and_its_owners_only_and_nothing_stays_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("name");
        // What a loss of power may have left.
        std::fs::write(folder.path().join("name.new"), "half of something that is longer").unwrap();
        for contents in ["first", "2nd"] {
            write_whole(&file, contents.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&file).unwrap(), contents);
        }
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["name"]);
    }

    #[test]
    fn only_the_owner_reads_a_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("name");
        write_whole(&file, b"secret").unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
