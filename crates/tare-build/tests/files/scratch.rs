//! Trees to copy from, and images to copy into.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tare_build::files::{
    Below, Copier, Destination, FilesError, Ignore, Mode, Selection, Source, SourceKind, Wish, select,
};
use tare_spec::DiffId;
use tare_store::tar::{Kind, Member, Reader, Time, Writer};
use tare_store::{Mounted, Store, StoreOptions};
use tare_sys::directory::Directory;

/// The time of every build here.
pub(crate) const NOW: Time = Time { seconds: 1_700_000_000, nanoseconds: 0 };

/// A folder with files.
pub(crate) struct Tree(tempfile::TempDir);

impl Tree {
    /// Files hold their own path: `a/b` is one of mode 0644, `a/` a folder of mode 0755, `a -> b` a link; a mode may come first.
    pub(crate) fn new(entries: &[&str]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        fs::set_permissions(tree.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for entry in entries {
            tree.add(entry);
        }
        tree
    }

    pub(crate) fn add(&self, entry: &str) {
        let (mode, entry) = match entry.split_once(' ') {
            Some((mode, rest)) if u32::from_str_radix(mode, 8).is_ok() => {
                (Some(u32::from_str_radix(mode, 8).unwrap()), rest)
            }
            _ => (None, entry),
        };
        let name = entry.split(" -> ").next().unwrap();
        let path = self.path().join(name);
        for parent in path.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
            if !parent.exists() {
                fs::create_dir(parent).unwrap();
                fs::set_permissions(parent, fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        if let Some((_, target)) = entry.split_once(" -> ") {
            return symlink(target, path).unwrap();
        }
        let mode = if name.ends_with('/') {
            if !path.exists() {
                fs::create_dir(&path).unwrap();
            }
            mode.unwrap_or(0o755)
        } else {
            fs::write(&path, name).unwrap();
            mode.unwrap_or(0o644)
        };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn directory(&self) -> Directory {
        Directory::open(self.path()).unwrap()
    }
}

pub(crate) fn context<'a>(root: &'a Directory, ignore: Option<&'a Ignore>) -> Source<'a> {
    Source { root, kind: SourceKind::Context, ignore }
}

/// `COPY` with options and sources as they are written.
pub(crate) fn wish(line: &str) -> Wish {
    let mut wish = Wish::default();
    for word in line.split_whitespace() {
        match word.strip_prefix("--") {
            Some("parents") => wish.parents = true,
            Some("unpack") => wish.unpack = true,
            Some(option) => wish.exclude.push(option.strip_prefix("exclude=").unwrap().to_owned()),
            None => wish.sources.push(word.to_owned()),
        }
    }
    wish
}

pub(crate) fn destination(path: &str) -> Destination {
    let into = path.ends_with('/');
    let path = if path == "/" { path } else { path.trim_end_matches('/') };
    Destination { path: path.to_owned(), into, owner: None, mode: None, link: false }
}

/// `--chmod`.
pub(crate) fn mode(text: &str) -> Option<Mode> {
    Some(u32::from_str_radix(text, 8).map_or_else(|_| Mode::Symbolic(text.to_owned()), Mode::Bits))
}

/// What a selection has, an item a line, with what is below it behind.
pub(crate) fn listed(selection: &Selection) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let items = selection.items.iter().map(|item| {
        if !item.is_folder {
            return format!("{} = {}", text(&item.name), text(&item.path));
        }
        let entries = item.entries.iter().map(|entry| {
            let end = match entry.kind {
                Kind::Directory if entry.is_implied => "/?",
                Kind::Directory => "/",
                Kind::Symlink => "@",
                _ => "",
            };
            text(&entry.path) + end
        });
        format!("/{}: {}", text(&item.path), entries.collect::<Vec<_>>().join(" "))
    });
    items.collect()
}

/// The members of an archive: path, what it is, mode, owner, and what is in it.
pub(crate) fn members(archive: &[u8]) -> Vec<String> {
    let mut reader = Reader::new(archive);
    let mut lines = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let end = if entry.kind == Kind::Directory { "/" } else { "" };
        let path = String::from_utf8(entry.path.clone()).unwrap() + end;
        let mut contents = Vec::new();
        MemberContents(&mut reader).read_to_end(&mut contents).unwrap();
        let link = String::from_utf8(entry.link).unwrap();
        let what = match entry.kind {
            Kind::File => format!(" {:?}", String::from_utf8_lossy(&contents)),
            Kind::HardLink => format!(" = {link}"),
            Kind::Symlink => format!(" -> {link}"),
            _ => String::new(),
        };
        lines.push(format!("{path} {:o} {}:{}{what}", entry.mode, entry.uid, entry.gid));
    }
    lines
}

struct MemberContents<'r, 'a>(&'r mut Reader<&'a [u8]>);

impl Read for MemberContents<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer).map_err(std::io::Error::other)
    }
}

/// The layer that a copy makes over nothing, or over a folder that stands for an image.
pub(crate) fn layer(
    source: &Source<'_>,
    below: Option<&Directory>,
    line: &str,
    destination: Destination,
) -> Result<Vec<u8>, FilesError> {
    let selection = select(source, &wish(line))?;
    let fingerprint = selection.fingerprint(source)?;
    let mut copier = Copier::new(Below { root: below, time: NOW }, destination, Writer::new(Vec::new()))?;
    copier.tree(source, &selection, &fingerprint)?;
    let (writer, written) = copier.finish()?;
    let bytes = writer.finish().unwrap();
    assert_eq!(members(&bytes).len() as u64, written);
    Ok(bytes)
}

/// An image in the making, in a store of its own. Needs root's rights.
pub(crate) struct Image {
    folder: tempfile::TempDir,
    store: Store,
    pub(crate) layers: Vec<DiffId>,
}

/// An image as a process would see it.
pub(crate) struct Root {
    path: PathBuf,
    _layers: Mounted,
    pub(crate) directory: Directory,
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.path, rustix::mount::UnmountFlags::DETACH);
    }
}

impl Image {
    /// `None` without root's rights, on which CI insists. Below everything is a layer with nothing in it.
    pub(crate) fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            assert_ne!(std::env::var("TARE_REQUIRE_ROOT").as_deref(), Ok("1"), "this test needs root");
            eprintln!("skipped: needs root");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreOptions::new(folder.path().join("root"), folder.path().join("mounts"))).unwrap();
        let mut image = Self { folder, store, layers: Vec::new() };
        for name in ["one", "two"] {
            // overlayfs wants two directories, and they must differ.
            image.push(&archive(&[member(&format!("dev/{name}"), Kind::File, "")]));
        }
        Some(image)
    }

    pub(crate) fn push(&mut self, archive: &[u8]) {
        self.layers.push(self.store.layers().ingest(&mut &*archive).unwrap().diff_id);
    }

    pub(crate) fn root(&self) -> Root {
        let layers = self.store.layers().mount(&self.layers).unwrap();
        let path = self.folder.path().join(format!("merged-{}", self.layers.len()));
        fs::create_dir_all(&path).unwrap();
        let lower: Vec<&str> = layers.lower_dirs().iter().map(|path| path.to_str().unwrap()).collect();
        let options = std::ffi::CString::new(format!("lowerdir={}", lower.join(":"))).unwrap();
        let flags = rustix::mount::MountFlags::RDONLY;
        rustix::mount::mount("overlay", &path, "overlay", flags, options.as_c_str()).unwrap();
        Root { directory: Directory::open(&path).unwrap(), path, _layers: layers }
    }

    /// A step of a build.
    pub(crate) fn copy(&mut self, source: &Source<'_>, line: &str, destination: Destination) -> Result<(), FilesError> {
        let root = self.root();
        let layer = layer(source, Some(&root.directory), line, destination)?;
        drop(root);
        self.push(&layer);
        Ok(())
    }

    /// Everything that the image has below a path.
    pub(crate) fn tree(&self, below: &str) -> Vec<String> {
        let root = self.root();
        let mut lines = Vec::new();
        walk(&root.path.join(below), "", &mut lines);
        lines
    }
}

fn walk(folder: &Path, prefix: &str, lines: &mut Vec<String>) {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    for name in names {
        let path = folder.join(&name);
        let found = fs::symlink_metadata(&path).unwrap();
        let shown = format!("{prefix}{name}");
        let owner = format!("{:o} {}:{}", found.mode() & 0o7777, found.uid(), found.gid());
        if found.is_dir() {
            lines.push(format!("{shown}/ {owner}"));
            walk(&path, &format!("{shown}/"), lines);
        } else if found.is_symlink() {
            lines.push(format!("{shown} -> {}", fs::read_link(&path).unwrap().display()));
        } else if found.is_file() {
            lines.push(format!("{shown} {owner} {:?}", String::from_utf8_lossy(&fs::read(&path).unwrap())));
        } else {
            lines.push(format!("{shown} special"));
        }
    }
}

/// A member with nothing remarkable; of a link, `text` is what it leads to.
pub(crate) fn member(path: &str, kind: Kind, text: &str) -> (Member, String) {
    let is_link = matches!(kind, Kind::Symlink | Kind::HardLink);
    let member = Member {
        path: path.into(),
        kind,
        link: if is_link { text.into() } else { Vec::new() },
        mode: if kind == Kind::Directory { 0o755 } else { 0o644 },
        uid: 7,
        gid: 8,
        mtime: Time { seconds: 1_600_000_000, nanoseconds: 5 },
        size: if kind == Kind::File { text.len() as u64 } else { 0 },
        device: (0, 0),
        attributes: Default::default(),
    };
    (member, text.to_owned())
}

pub(crate) fn archive(members: &[(Member, String)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (member, text) in members {
        writer.append(member, &mut text.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}

pub(crate) fn fifo(path: &Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
}

pub(crate) fn set_time(path: &Path, seconds: u64) {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    File::open(path).unwrap().set_modified(time).unwrap();
}
