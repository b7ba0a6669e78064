//! Layers kept as their archive, with an index over it that the kernel mounts.
//!
//! ```text
//! ROOT/layers/<algorithm>/<hex of the diff ID>/layer.json    see folder.rs
//!                                              data.tar      the uncompressed archive, byte for byte
//!                                              index.erofs   an EROFS image of metadata whose contents lie in data.tar
//! ```
//!
//! The formats are described in `docs/formats/layers.md` and `docs/formats/erofs.md`. Needs file-backed mounts (Linux 6.12).

use super::LayerInfo;
use super::folder::{Form, LayerRecord};
use super::mounts::Mounts;
use crate::check::digest_of;
use crate::erofs::Index;
use crate::error::{Context, Error, Result, is_full};
use crate::hash::Hasher;
use crate::layer::{self, Copy, Limits, Source};
use crate::tar::{Kind, Member, Time, Writer};
use crate::temporary;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
    move_mount,
};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use tare_spec::Digest;
use tare_spec::digest::Algorithm;
use tare_sys::writeback;

/// The archive in a layer's folder.
pub(super) const ARCHIVE: &str = "data.tar";
/// The image in a layer's folder.
pub(super) const INDEX: &str = "index.erofs";
/// The image while it is made again.
const NEW_INDEX: &str = "index.erofs.new";

/// How much is written before the kernel is asked to take it to the disk: enough for large requests, and little is left
/// for the end.
const EARLY: u64 = 8 << 20;

/// Keeps a layer in a folder, durably.
pub(super) fn fill(folder: &Path, source: Source<'_>, limits: &Limits) -> Result<LayerRecord> {
    let path = folder.join(ARCHIVE);
    let mut archive = Archive { file: File::create_new(&path).context("create", &path)?, written: 0, begun: 0 };
    let mut index = Index::new();
    let copy = Copy { writer: &mut archive, path: &path };
    let (filled, diff_id) = layer::take(source, &mut index, Some(copy), limits)?;
    let written = archive.written;
    writeback::start(&archive.file, archive.begun, written - archive.begun).context("write", &path)?;
    let digest = write_index(&folder.join(INDEX), index, written)?;
    archive.file.sync_all().context("sync", &path)?;
    let info = LayerInfo { diff_id, size: filled.size, entries: filled.entries };
    Ok(LayerRecord { info, form: Form::Erofs, index: Some(digest) })
}

/// Makes the index of an archive of so many bytes again, durably but for its name.
pub(super) fn reindex(folder: &Path, source: Source<'_>, archive: u64, limits: &Limits) -> Result<LayerRecord> {
    let mut index = Index::new();
    let (filled, diff_id) = layer::take(source, &mut index, None, limits)?;
    let (new, path) = (folder.join(NEW_INDEX), folder.join(INDEX));
    let digest = write_index(&new, index, archive)?;
    fs::rename(&new, &path).context("rename to", &path)?;
    let info = LayerInfo { diff_id, size: filled.size, entries: filled.entries };
    Ok(LayerRecord { info, form: Form::Erofs, index: Some(digest) })
}

fn write_index(path: &Path, index: Index, archive: u64) -> Result<Digest> {
    let file = File::create(path).context("create", path)?;
    let mut hashed = Hashed { file: &file, hasher: Hasher::new(Algorithm::Sha256) };
    match index.write(archive, &mut hashed) {
        Err(source) if is_full(&source) => {
            return Err(Error::NoSpace { what: INDEX.to_owned(), path: path.to_owned(), source });
        }
        result => result.context("write", path)?,
    }
    let digest = hashed.hasher.finish();
    file.sync_all().context("sync", path)?;
    Ok(digest)
}

/// What is wrong with a layer.
pub(super) fn verify(folder: &Path, record: &LayerRecord) -> Option<String> {
    let known = [(ARCHIVE, Some(&record.info.diff_id.0)), (INDEX, record.index.as_ref())];
    known.into_iter().find_map(|(name, expected)| {
        let Some(expected) = expected else { return Some(format!("its record has no digest of {name}")) };
        match digest_of(&folder.join(name), expected) {
            Ok(Some(actual)) if actual == *expected => None,
            Ok(Some(actual)) => Some(format!("{name} has {actual}, expected {expected}")),
            Ok(None) => Some(format!("{name} is not there")),
            Err(error) => Some(error.to_string()),
        }
    })
}

/// Mounts a layer's image at a path.
pub(super) fn mount(folder: &Path, target: &Path) -> Result<()> {
    let mount = image(&folder.join(INDEX), &folder.join(ARCHIVE)).context("mount", &folder.join(INDEX))?;
    move_mount(&mount, c"", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).context("mount at", target)
}

/// A mount of an image that is nowhere yet. Devices and set-user-id bits work through an overlay, which has its own
/// flags; whoever reads here needs neither.
fn image(index: &Path, archive: &Path) -> rustix::io::Result<OwnedFd> {
    let context = fsopen(c"erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"source", index)?;
    fsconfig_set_string(&context, c"device", archive)?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NOATIME;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// The archive while it comes in.
struct Archive {
    file: File,
    written: u64,
    /// Bytes whose way to the disk has begun.
    begun: u64,
}

impl Write for Archive {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.written += count as u64;
        if self.written - self.begun >= EARLY {
            writeback::start(&self.file, self.begun, self.written - self.begun)?;
            self.begun = self.written;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The image while it is written.
struct Hashed<'a> {
    file: &'a File,
    hasher: Hasher,
}

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A tiny layer, mounted and put below an overlay: what every container needs. The error says what the kernel or the
/// file system below the folder cannot do.
pub(super) fn probe(folder: &Path, mounts: &Mounts) -> Result<std::result::Result<(), String>> {
    let contents: Vec<u8> = (0..5000_u32).map(|index| index as u8).collect();
    let member = Member {
        path: b"probe".to_vec(),
        kind: Kind::File,
        link: Vec::new(),
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        size: contents.len() as u64,
        device: (0, 0),
        attributes: BTreeMap::new(),
    };
    let mut writer = Writer::new(Vec::new());
    let archive = writer.append(&member, &mut &contents[..]).and_then(|()| writer.finish());
    let archive = archive.context("write a probe for", folder)?;
    fill(folder, Source::Archive(&mut &archive[..]), &Limits::default())?;
    let other = folder.join("other");
    fs::create_dir(&other).context("create", &other)?;
    let mut cannot = None;
    let held = mounts.hold(&temporary::unique("probe"), |target| match mount(folder, target) {
        Err(Error::Io { source, .. }) => {
            cannot = Some(format!("cannot mount an image that is a file: {source}"));
            Ok(())
        }
        result => result,
    })?;
    if cannot.is_none() {
        match read_through_overlay(held.path(), &other) {
            Ok(read) if read == contents => {}
            Ok(_) => cannot = Some("what it reads from such an image is wrong".to_owned()),
            Err(source) => cannot = Some(format!("cannot read from such an image below an overlay: {source}")),
        }
    }
    held.release()?;
    Ok(cannot.map_or(Ok(()), Err))
}

fn read_through_overlay(lower: &Path, other: &Path) -> io::Result<Vec<u8>> {
    let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    // One more, because a single one needs an upper directory.
    for folder in [lower, other] {
        fsconfig_set_string(&context, c"lowerdir+", folder)?;
    }
    fsconfig_create(&context)?;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut read = Vec::new();
    File::from(rustix::fs::openat(&mount, c"probe", flags, Mode::empty())?).read_to_end(&mut read)?;
    Ok(read)
}
