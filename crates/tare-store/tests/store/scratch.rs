//! A store of its own for a test, and layers to put into it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use tare_spec::image::{Descriptor, media_type};
use tare_spec::{DiffId, Digest, ImageId};
use tare_store::tar::{Kind, Member, Time, Writer};
use tare_store::{Backend, Mounted, Result, Store, StoreOptions, sha256};

/// A folder that holds a store's root and something outside of it.
pub(crate) struct Scratch {
    folder: tempfile::TempDir,
    backend: Backend,
}

impl Scratch {
    /// For layers in directories. `None` without root rights, which devices, owners and attributes need; CI insists on
    /// them.
    pub(crate) fn new() -> Option<Self> {
        Self::with(Backend::Directory)
    }

    fn with(backend: Backend) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            assert_ne!(std::env::var("TARE_REQUIRE_ROOT").as_deref(), Ok("1"), "this test needs root");
            eprintln!("skipped: needs root");
            return None;
        }
        Some(Self { folder: tempfile::tempdir().unwrap(), backend })
    }

    /// One for each form of layers; none without root rights.
    pub(crate) fn both() -> Vec<Self> {
        [Backend::Directory, Backend::Erofs].into_iter().filter_map(Self::with).collect()
    }

    /// For a process that opens the same store.
    pub(crate) fn backend_name(&self) -> &'static str {
        match self.backend {
            Backend::Directory => "dir",
            Backend::Erofs => "erofs",
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub(crate) fn options(&self) -> StoreOptions {
        StoreOptions { backend: Some(self.backend), ..options(&self.root()) }
    }

    /// Where layers are mounted.
    pub(crate) fn mounts(&self) -> PathBuf {
        self.options().mounts
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(&self.options()).unwrap()
    }

    /// What temporary files there are: none, unless somebody is at work.
    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        ["blobs", "layers", "images"]
            .iter()
            .flat_map(|folder| std::fs::read_dir(self.root().join(folder).join("temporary")).unwrap())
            .map(|entry| entry.unwrap().path())
            .collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Whatever a failed test left; the folder could not be removed otherwise.
        let Ok(entries) = std::fs::read_dir(self.mounts()) else { return };
        for entry in entries.flatten() {
            let _ = rustix::mount::unmount(entry.path(), rustix::mount::UnmountFlags::DETACH);
        }
    }
}

/// As [`Scratch::options`], in another process.
pub(crate) fn options_from_environment(root: &Path) -> StoreOptions {
    let backend = match std::env::var("TARE_BACKEND").as_deref() {
        Ok("dir") => Backend::Directory,
        Ok("erofs") => Backend::Erofs,
        other => panic!("TARE_BACKEND is {other:?}"),
    };
    StoreOptions { backend: Some(backend), ..options(root) }
}

/// A store at this root, its layers mounted beside it.
fn options(root: &Path) -> StoreOptions {
    StoreOptions::new(root, root.with_file_name("mounts"))
}

/// A member with the given path and kind, and nothing remarkable about the rest.
pub(crate) fn member(path: &str, kind: Kind) -> Member {
    Member {
        path: path.into(),
        kind,
        link: Vec::new(),
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: Time { seconds: 1_600_000_000, nanoseconds: 0 },
        size: 0,
        device: (0, 0),
        attributes: Default::default(),
    }
}

pub(crate) fn link(path: &str, kind: Kind, target: &str) -> Member {
    Member { link: target.into(), ..member(path, kind) }
}

/// An uncompressed layer; files hold their own path, cut or repeated to their size.
pub(crate) fn archive(members: &[Member]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for member in members {
        let contents: Vec<u8> = member.path.iter().copied().cycle().take(member.size as usize).collect();
        writer.append(member, &mut &contents[..]).unwrap();
    }
    writer.finish().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn descriptor(blob: &[u8]) -> Descriptor {
    Descriptor::new(media_type::OCI_LAYER_GZIP, sha256(blob), blob.len() as u64)
}

/// Applies an uncompressed archive as a gzip layer.
pub(crate) fn apply(store: &Store, archive: &[u8]) -> Result<DiffId> {
    let diff_id = DiffId(sha256(archive));
    let blob = gzip(archive);
    store.layers().apply(&descriptor(&blob), &diff_id, &mut &blob[..]).map(|info| info.diff_id)
}

/// A layer's files while this lives.
pub(crate) struct Tree(Mounted);

impl std::ops::Deref for Tree {
    type Target = Path;

    fn deref(&self) -> &Path {
        self.0.layer(0).unwrap()
    }
}

pub(crate) fn tree(store: &Store, diff_id: &DiffId) -> Tree {
    Tree(store.layers().mount(std::slice::from_ref(diff_id)).unwrap())
}

/// Stores an image of these layers; `note` makes its configuration differ from others'.
pub(crate) fn image(store: &Store, layers: &[DiffId], note: &str) -> (ImageId, Digest) {
    let _lease = store.lease().unwrap();
    let diff_ids: Vec<String> = layers.iter().map(|layer| format!("\"{layer}\"")).collect();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","author":"{note}","rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        diff_ids.join(",")
    );
    let config = store.put_bytes(media_type::OCI_CONFIG, config.as_bytes()).unwrap();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": config,
        "layers": layers.iter().map(|layer| Descriptor::new(media_type::OCI_LAYER, layer.0.clone(), 1)).collect::<Vec<_>>(),
    });
    let manifest = store.put_bytes(media_type::OCI_MANIFEST, manifest.to_string().as_bytes()).unwrap();
    (store.put_image(&manifest.digest, None).unwrap(), manifest.digest)
}

/// A program's standard output; it must succeed.
pub(crate) fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
