//! What an attached container holds, written before it is taken, so that it can be given back whatever happens.

use crate::{Error, Result, network::FormatVersion, port::PublishedPort};
use rustix::{
    fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    net::Ipv4Addr,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::PathBuf,
};
use tare_spec::ContainerId;

/// One attached container.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) version: FormatVersion,
    /// The network's name.
    pub(crate) network: String,
    /// The host's end of the veth pair.
    pub(crate) interface: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) ports: Vec<PublishedPort>,
}

/// The records of all attached containers, in `RUN_ROOT/net/containers/<id>.json`. They live as long as the boot
/// does, as does what they describe, so nothing is synchronised to a disk.
#[derive(Debug)]
pub(crate) struct Records(pub(crate) PathBuf);

/// A record that one process only takes back at a time.
pub(crate) struct Locked {
    pub(crate) record: Record,
    _file: File,
}

impl Records {
    /// Writes a container's record as a whole.
    ///
    /// # Errors
    /// [`Error::AlreadyAttached`] if it has one.
    pub(crate) fn create(&self, container: &ContainerId, record: &Record) -> Result<()> {
        let path = self.path(container);
        let temporary = self.0.join(format!(".{container}.{}", std::process::id()));
        let write = || {
            let json = serde_json::to_vec(record)?;
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?.write_all(&json)
        };
        write().map_err(Error::record("write", &temporary))?;
        renameat_with(CWD, &temporary, CWD, &path, RenameFlags::NOREPLACE).map_err(|error| {
            // Ignored: the name is made anew by whoever needs it next.
            let _ = fs::remove_file(&temporary);
            match error {
                Errno::EXIST => {
                    Error::AlreadyAttached { container: container.clone(), network: record.network.clone() }
                }
                error => Error::record("write", path)(error.into()),
            }
        })
    }

    /// A container's record, locked; none if it has none (any more).
    pub(crate) fn lock(&self, container: &ContainerId) -> Result<Option<Locked>> {
        let path = self.path(container);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::record("open", path)(error)),
        };
        let mut bytes = Vec::new();
        let mut read = || {
            flock(&file, FlockOperation::LockExclusive)?;
            // Whoever had the lock before has taken everything back and removed the file.
            let removed = file.metadata()?.nlink() == 0;
            file.read_to_end(&mut bytes)?;
            Ok(removed)
        };
        if read().map_err(Error::record("read", &path))? {
            return Ok(None);
        }
        let record = serde_json::from_slice(&bytes).map_err(|source| Error::CorruptRecord { path, source })?;
        Ok(Some(Locked { record, _file: file }))
    }

    pub(crate) fn remove(&self, container: &ContainerId) -> Result<()> {
        let path = self.path(container);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::record("remove", path)(error)),
            _ => Ok(()),
        }
    }

    /// All records. Those that cannot be read are left out: what they hold is unknown.
    pub(crate) fn all(&self) -> Result<Vec<(ContainerId, Record)>> {
        let failed = || Error::record("list", &self.0);
        let mut records = Vec::new();
        for entry in fs::read_dir(&self.0).map_err(failed())? {
            let name = entry.map_err(failed())?.file_name();
            let id = name.to_str().and_then(|name| ContainerId::parse(name.strip_suffix(".json")?).ok());
            if let Some(id) = id
                && let Ok(bytes) = fs::read(self.path(&id))
                && let Ok(record) = serde_json::from_slice(&bytes)
            {
                records.push((id, record));
            }
        }
        Ok(records)
    }

    fn path(&self, container: &ContainerId) -> PathBuf {
        self.0.join(format!("{container}.json"))
    }
}
