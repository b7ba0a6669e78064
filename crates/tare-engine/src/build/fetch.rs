//! Files of the web.

use super::EngineExecutor;
use crate::error::{Error, Result};
use crate::state::file;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};
use tare_build::executor::{Fetched, Folders};
use tare_registry::{Client, ClientOptions};

/// The most bytes of a file: more than images are made of, less than fills a disk by mistake.
const LIMIT: u64 = 64 << 30;

/// Bytes moved at once.
const PIECE: usize = 256 << 10;

impl EngineExecutor<'_> {
    /// Fetches a file into one that has no name. It is as old as the server says, or as old as Unix, as BuildKit has it.
    pub(super) fn fetch_file(&self, url: &str) -> Result<Fetched> {
        self.steps.check()?;
        let mut web = self.client()?.fetch(url)?;
        let too_large = || Error::FileLimit { url: url.chars().take(300).collect(), limit: LIMIT };
        if web.length.is_some_and(|length| length > LIMIT) {
            return Err(too_large());
        }
        let folder = Folders::new(&self.engine.paths.root).work();
        file::make_directory(&folder)?;
        let mut file = nameless(&folder)?;
        let (mut buffer, mut total) = (vec![0; PIECE], 0_u64);
        loop {
            let count = match web.reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(match error.downcast::<tare_registry::Error>() {
                        Ok(error) => error.into(),
                        Err(source) => Error::System { action: "read what comes from the web", source },
                    });
                }
            };
            total += count as u64;
            if total > LIMIT {
                return Err(too_large());
            }
            file.write_all(&buffer[..count]).map_err(|source| Error::file("write a file in", &folder, source))?;
            self.steps.check()?;
        }
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(web.modified.unwrap_or(0));
        file.set_modified(modified)
            .and_then(|()| file.rewind())
            .map_err(|source| Error::file("end a file in", &folder, source))?;
        Ok(Fetched { file, name: web.name })
    }

    pub(super) fn client(&self) -> Result<&Client> {
        if self.client.get().is_none() {
            // Two threads may make one at once; either serves.
            let _ = self.client.set(Client::new(ClientOptions::of_host()?));
        }
        Ok(self.client.get().expect("it was set above"))
    }
}

/// A file that is gone when nobody has it open.
fn nameless(folder: &Path) -> Result<File> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let failed = |errno: Errno| Error::file("create a file in", folder, errno.into());
    let (flags, mode) = (OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR);
    match rustix::fs::open(folder, flags | OFlags::TMPFILE, mode) {
        // File systems that have no such files (open(2)).
        Err(Errno::OPNOTSUPP | Errno::ISDIR) => {}
        file => return Ok(file.map_err(failed)?.into()),
    }
    let name = format!("fetch.{}.{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let path = folder.join(name);
    let file = rustix::fs::open(&path, flags | OFlags::CREATE | OFlags::EXCL, mode).map_err(failed)?;
    std::fs::remove_file(&path).map_err(|source| Error::file("remove", &path, source))?;
    Ok(file.into())
}
