//! What a selection's identity depends on.

use crate::scratch::{Tree, context, set_time, wish};
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use tare_build::files::{FileStamp, FilesError, Fingerprint, KnownContents, Source, SourceKind, select};

fn fingerprint(tree: &Tree, kind: SourceKind, line: &str) -> Fingerprint {
    let root = tree.directory();
    let source = Source { root: &root, kind, ignore: None };
    select(&source, &wish(line)).unwrap().fingerprint(&source).unwrap()
}

#[test]
fn contents_names_and_modes_count_everywhere_and_times_in_images() {
    let tree = Tree::new(&["a/x", "a/y", "b/x", "b/y", "c/x"]);
    let of = |kind, line: &str| fingerprint(&tree, kind, line).digest;
    let changed = |kind, change: &dyn Fn()| {
        let before = of(kind, "a");
        change();
        before != of(kind, "a")
    };
    use SourceKind::{Context, Image};
    let x = tree.path().join("a/x");
    assert!(!changed(Context, &|| set_time(&x, 1000)) && changed(Image, &|| set_time(&x, 2000)));
    for kind in [Context, Image] {
        assert!(!changed(kind, &|| {}));
        assert!(!changed(kind, &|| tree.add("b/z")));
        assert!(changed(kind, &|| fs::write(&x, format!("{kind:?}")).unwrap()));
        assert!(changed(kind, &|| {
            let mode = if kind == Context { 0o755 } else { 0o700 };
            fs::set_permissions(&x, fs::Permissions::from_mode(mode)).unwrap();
        }));
        assert!(changed(kind, &|| tree.add(&format!("a/new-{kind:?}"))));
        assert!(changed(kind, &|| tree.add(&format!("a/folder-{kind:?}/"))));
        assert!(changed(kind, &|| tree.add(&format!("a/link-{kind:?} -> x"))));
        assert!(changed(kind, &|| fs::remove_file(tree.path().join(format!("a/new-{kind:?}"))).unwrap()));
    }
    if rustix::process::geteuid().is_root() {
        assert!(!changed(Context, &|| chown(&x, Some(5), Some(6)).unwrap()));
        assert!(changed(Image, &|| chown(&x, Some(7), Some(8)).unwrap()));
    }
}

#[test]
fn a_folders_name_goes_nowhere_and_a_files_does() {
    let tree = Tree::new(&["a/f", "b/f", "g"]);
    for file in ["a/f", "b/f", "g"] {
        fs::write(tree.path().join(file), "same").unwrap();
    }
    let of = |line| fingerprint(&tree, SourceKind::Context, line).digest;
    assert_eq!(of("a"), of("b"));
    assert_eq!(of("a/f"), of("b/f"));
    assert_ne!(of("a/f"), of("g"));
    assert_ne!(of("a/f"), of("a"));
    assert_ne!(of("a b"), of("a"));
}

#[test]
fn each_file_has_a_digest_of_its_own() {
    let tree = Tree::new(&["a/x", "a/y", "755 z"]);
    let before = fingerprint(&tree, SourceKind::Context, "a z").files;
    assert_eq!(before.keys().collect::<Vec<_>>(), ["/a/x", "/a/y", "/z"]);
    fs::write(tree.path().join("a/y"), "other").unwrap();
    let after = fingerprint(&tree, SourceKind::Context, "a z").files;
    let changed: Vec<_> = before.iter().filter(|(path, digest)| after[*path] != **digest).collect();
    assert_eq!(changed.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), ["/a/y"]);
}

#[test]
fn hard_links_count_as_what_they_are() {
    let tree = Tree::new(&["a/x", "b/x"]);
    fs::hard_link(tree.path().join("a/x"), tree.path().join("a/y")).unwrap();
    fs::copy(tree.path().join("a/x"), tree.path().join("b/x")).unwrap();
    fs::copy(tree.path().join("a/x"), tree.path().join("b/y")).unwrap();
    let of = |line| fingerprint(&tree, SourceKind::Context, line);
    let (linked, copied) = (of("a"), of("b"));
    assert_ne!(linked.digest, copied.digest);
    assert_eq!(linked.files["/a/y"], copied.files["/b/y"]);
}

#[derive(Default)]
struct Memory(HashMap<FileStamp, [u8; 32]>, usize);

impl KnownContents for Memory {
    fn get(&mut self, stamp: &FileStamp) -> Option<[u8; 32]> {
        let known = self.0.get(stamp).copied();
        self.1 += usize::from(known.is_some());
        known
    }

    fn put(&mut self, stamp: &FileStamp, digest: [u8; 32]) {
        self.0.insert(*stamp, digest);
    }
}

#[test]
fn known_contents_are_not_read_again() {
    let tree = Tree::new(&["a/x", "a/y"]);
    let root = tree.directory();
    let source = context(&root, None);
    let mut memory = Memory::default();
    let mut go = || {
        let before = memory.1;
        let selection = select(&source, &wish("a")).unwrap();
        let fingerprint = selection.fingerprint_knowing(&source, &mut memory).unwrap();
        (fingerprint, memory.1 - before)
    };
    let (first, known) = go();
    assert_eq!(known, 0);
    assert_eq!(go(), (first.clone(), 2));
    fs::write(tree.path().join("a/y"), "longer than before").unwrap();
    let (second, known) = go();
    assert_eq!(known, 1);
    assert_eq!(second, fingerprint(&tree, SourceKind::Context, "a"));
    assert_ne!(first, second);
}

#[test]
fn what_changes_after_it_was_selected_is_told() {
    let tree = Tree::new(&["a/x", "a/y"]);
    let root = tree.directory();
    let source = context(&root, None);
    let selection = select(&source, &wish("a")).unwrap();
    let x = tree.path().join("a/x");
    for change in [
        &|| fs::write(&x, "longer").unwrap() as (),
        &|| fs::remove_file(&x).unwrap(),
        &|| tree.add("a/x -> y"),
        &|| fs::rename(tree.path().join("a"), tree.path().join("moved")).unwrap(),
        &|| tree.add("a -> moved"),
    ] as [&dyn Fn(); 5]
    {
        change();
        let error = selection.fingerprint(&source).unwrap_err();
        assert!(matches!(&error, FilesError::Changed { path } if path == "/a/x"), "{error:?}");
        assert_eq!(error.to_string(), "\"/a/x\" changed during the build");
    }
}
