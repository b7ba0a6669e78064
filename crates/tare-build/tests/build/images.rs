//! Whole builds, judged by the trees and documents they leave. Layers need root's rights.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tare_build::{BuildRequest, Context, Error, build};
use tare_spec::{ErrorKind, ImageId, Reference};
use tare_store::{ImageRecord, Store, StoreOptions};

pub(crate) fn store() -> Option<(tempfile::TempDir, Store)> {
    if !rustix::process::geteuid().is_root() {
        assert_ne!(std::env::var("TARE_REQUIRE_ROOT").as_deref(), Ok("1"), "this test needs root");
        eprintln!("skipped: needs root");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&StoreOptions::new(folder.path().join("root"), folder.path().join("mounts"))).unwrap();
    Some((folder, store))
}

fn try_build(store: &Store, dockerfile: &str, context: Context) -> tare_build::Result<ImageId> {
    let created = jiff::Timestamp::from_second(1_700_000_000).unwrap();
    build(store, &BuildRequest { dockerfile, context, reference: None, created })
}

fn built(store: &Store, dockerfile: &str, context: Context) -> ImageRecord {
    let id = try_build(store, dockerfile, context).unwrap();
    store.find(id.0.as_str()).unwrap()
}

fn memory(files: &[(&str, &str)]) -> Context {
    Context::Memory(files.iter().map(|(path, text)| ((*path).to_owned(), (0o644, text.as_bytes().to_vec()))).collect())
}

/// Paths of one layer with type, mode and owner, sorted.
fn layer(store: &Store, image: &ImageRecord, index: usize) -> Vec<String> {
    fn walk(root: &Path, path: &Path, lines: &mut Vec<String>) {
        let mut entries: Vec<PathBuf> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            let found = fs::symlink_metadata(&path).unwrap();
            let kind = if found.is_dir() {
                "/"
            } else if found.is_symlink() {
                "@"
            } else {
                ""
            };
            let shown = path.strip_prefix(root).unwrap().display();
            lines.push(format!("{shown}{kind} {:o} {}:{}", found.mode() & 0o7777, found.uid(), found.gid()));
            assert_eq!(found.mtime(), 1_700_000_000, "{shown}");
            if found.is_dir() {
                walk(root, &path, lines);
            }
        }
    }
    let mounted = store.layers().mount(&image.layers[index..=index]).unwrap();
    let root = mounted.layer(0).unwrap();
    let mut lines = Vec::new();
    walk(root, root, &mut lines);
    lines
}

#[test]
fn layers_hold_what_was_copied() {
    let Some((_folder, store)) = store() else { return };
    let dockerfile = "FROM scratch\nCOPY --chmod=755 a /bin/tool\nWORKDIR /srv/app\nCOPY d ./\nCOPY a d/b new\\ folder/\nENV X=1\nCOPY --chown=5:6 d /srv/app\nCOPY a /srv/app\nWORKDIR /srv\n";
    let files = memory(&[("a", "A"), ("d/b", "B"), ("d/e/f", "F")]);
    let image = built(&store, dockerfile, files);
    let app = "srv/app/ 755 0:0";
    let expected: [&[&str]; 6] = [
        &["bin/ 755 0:0", "bin/tool 755 0:0"],
        &["srv/ 755 0:0", app],
        &["srv/ 755 0:0", app, "srv/app/b 644 0:0", "srv/app/e/ 755 0:0", "srv/app/e/f 644 0:0"],
        &[
            "srv/ 755 0:0",
            app,
            "srv/app/new folder/ 755 0:0",
            "srv/app/new folder/a 644 0:0",
            "srv/app/new folder/b 644 0:0",
        ],
        // Directories that are there keep their owner, in whatever layer.
        &["srv/ 755 0:0", app, "srv/app/b 644 5:6", "srv/app/e/ 755 0:0", "srv/app/e/f 644 5:6"],
        &["srv/ 755 0:0", app, "srv/app/a 644 0:0"],
    ];
    for (index, expected) in expected.iter().enumerate() {
        assert_eq!(layer(&store, &image, index), *expected, "layer {index}");
    }
    // WORKDIR of a directory that is there makes no layer.
    assert_eq!(image.layers.len(), 6);
    let history = &image.config.history;
    assert_eq!(history.len(), 8);
    assert_eq!(history.iter().filter(|entry| entry.empty_layer).count(), 2);
    assert_eq!(history[0].created_by.as_deref(), Some("COPY --chmod=755 a /bin/tool"));
    assert_eq!(image.config.created.as_deref(), Some("2023-11-14T22:13:20Z"));
    let config = image.config.config.unwrap();
    assert_eq!((config.working_dir.as_str(), config.env.len()), ("/srv", 2));
}

#[test]
fn the_same_files_make_the_same_image_wherever_they_are() {
    let Some((folder, store)) = store() else { return };
    let dockerfile = "FROM scratch\nCOPY . /\n";
    let mut ids = Vec::new();
    for name in ["one", "two"] {
        let context = folder.path().join(name);
        fs::create_dir_all(context.join("d/e")).unwrap();
        let mut files = ["d.txt", "d/a", "d/e/b", "c"];
        if name == "two" {
            files.reverse();
        }
        for file in files {
            fs::write(context.join(file), file).unwrap();
            fs::set_permissions(context.join(file), fs::Permissions::from_mode(0o640)).unwrap();
        }
        symlink("/etc/passwd", context.join("link")).unwrap();
        ids.push(built(&store, dockerfile, Context::Folder(context)));
    }
    assert_eq!(ids[0].id, ids[1].id);
    assert!(layer(&store, &ids[0], 0).contains(&"link@ 777 0:0".to_owned()));
}

#[test]
fn nothing_outside_of_the_context_is_read() {
    let Some((folder, store)) = store() else { return };
    let context = folder.path().join("context");
    fs::create_dir_all(context.join("etc")).unwrap();
    fs::write(folder.path().join("secret"), "secret").unwrap();
    fs::write(context.join("etc/passwd"), "inside").unwrap();
    symlink("../secret", context.join("up")).unwrap();
    symlink("/etc", context.join("absolute")).unwrap();
    symlink("/proc/self/root/etc", context.join("magic")).unwrap();
    let attempt = |source: &str| {
        try_build(&store, &format!("FROM scratch\nCOPY {source} /x\n"), Context::Folder(context.clone()))
    };
    for source in ["up", "../secret", "magic/passwd"] {
        assert!(matches!(attempt(source).unwrap_err(), Error::SourceMissing { line: 2, .. }), "{source}");
    }
    let image = store.find(attempt("absolute/passwd").unwrap().0.as_str()).unwrap();
    let mounted = store.layers().mount(&image.layers).unwrap();
    let root = mounted.layer(0).unwrap();
    assert_eq!(fs::read_to_string(root.join("x")).unwrap(), "inside");
    rustix::fs::mknodat(rustix::fs::CWD, context.join("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(matches!(attempt("fifo").unwrap_err(), Error::Context { .. }));
    fs::write(context.join(".dockerignore"), "secret").unwrap();
    let error = attempt("etc").unwrap_err();
    assert!(matches!(error, Error::Ignore) && error.kind() == ErrorKind::NotImplemented);
}

#[test]
fn what_contradicts_the_image_is_refused_and_nothing_is_named() {
    let Some((_folder, store)) = store() else { return };
    let files = memory(&[("a", "A"), ("d/b", "B")]);
    let reference = Reference::parse("app").unwrap();
    for (dockerfile, text) in [
        ("FROM scratch\nCOPY nothing /x\n", "line 2: \"/nothing\": not found"),
        ("FROM scratch\nCOPY a/b /x\n", "line 2: \"/a/b\": not found"),
        (
            "FROM scratch\nCOPY a /x\n\nCOPY a /x/y\n",
            "line 4: cannot copy to \"/x/y\": \"/x\" of the image is in the way",
        ),
        (
            "FROM scratch\nCOPY d /x/b\nCOPY d/b /x/\n",
            "line 3: cannot copy to \"/x/b\": \"/x/b\" of the image is in the way",
        ),
        ("FROM scratch\nRUN true\n", "dockerfile parse error on line 2: RUN is not supported by this builder yet"),
    ] {
        let created = jiff::Timestamp::UNIX_EPOCH;
        let request = BuildRequest { dockerfile, context: files.clone(), reference: Some(&reference), created };
        assert_eq!(build(&store, &request).unwrap_err().to_string(), text);
    }
    assert_eq!(store.images().unwrap(), []);
    store.collect(&|_| false).unwrap();
    assert_eq!(store.layers().list().unwrap(), []);
    let image = built(&store, "FROM scratch\n", Context::Memory(BTreeMap::new()));
    assert_eq!((image.layers.len(), image.size), (0, 0));
}
