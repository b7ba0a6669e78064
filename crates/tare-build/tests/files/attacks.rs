//! Contexts and images that try to lead out (rows 8, 12 and 16 of the security list have their counterparts here).

use crate::scratch::{Image, NOW, Tree, archive, context, destination, layer, member, wish};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use tare_build::files::{Below, Copier, FilesError, select};
use tare_store::tar::{Kind, Writer};

/// A folder `inside` whose links point to the file and the folder beside it.
fn trap() -> (Tree, Tree) {
    let outside = Tree::new(&["secret", "folder/secret"]);
    let inside = Tree::new(&["etc/passwd", "d/x"]);
    let climb = format!("../../../../../../../../..{}", outside.path().display());
    for (name, target) in [
        ("up", format!("{climb}/secret")),
        ("absolute", format!("{}/secret", outside.path().display())),
        ("folder", format!("{climb}/folder")),
        ("d/parent", "../../../../etc".to_owned()),
        ("magic", "/proc/self/root/etc".to_owned()),
        ("cwd", "/proc/self/cwd".to_owned()),
    ] {
        symlink(target, inside.path().join(name)).unwrap();
    }
    (outside, inside)
}

#[test]
fn no_source_leads_out_of_its_root() {
    let (_outside, inside) = trap();
    let root = inside.directory();
    let source = context(&root, None);
    for line in [
        "up",
        "absolute",
        "folder",
        "folder/secret",
        "folder/*",
        "magic/passwd",
        "cwd",
        "u*",
        "--parents folder/./secret",
    ] {
        match select(&source, &wish(line)) {
            Err(FilesError::NotFound { .. }) => {}
            Ok(selection) if line == "folder/*" && selection.items.is_empty() => {}
            other => panic!("{line}: {other:?}"),
        }
    }
    for (line, found) in [("../../../etc/passwd", "etc/passwd"), ("d/parent/passwd", "etc/passwd")] {
        let selection = select(&source, &wish(line)).unwrap();
        assert_eq!(selection.items[0].path, found.as_bytes(), "{line}");
    }
    // Links that are copied are text.
    let bytes = layer(&source, None, "--exclude=etc .", destination("/")).unwrap();
    assert!(crate::scratch::members(&bytes).iter().all(|line| !line.contains('"') || line.contains("d/x")));
}

#[test]
fn no_destination_leads_out_of_the_image() {
    let (outside, inside) = trap();
    let below = inside.directory();
    let tree = Tree::new(&["file", "many/a"]);
    let root = tree.directory();
    let source = context(&root, None);
    let before = fs::read_dir(outside.path()).unwrap().count();
    for (to, expected) in [
        ("/folder/", format!("{}/folder/file", &outside.path().display().to_string()[1..])),
        ("/d/parent/", "etc/file".to_owned()),
        ("/magic/", "proc/self/root/etc/file".to_owned()),
        ("/up", format!("{}/secret", &outside.path().display().to_string()[1..])),
    ] {
        let bytes = layer(&source, Some(&below), "file", destination(to)).unwrap();
        let last = crate::scratch::members(&bytes).pop().unwrap();
        assert_eq!(last, format!("{expected} 644 0:0 \"file\""), "{to}");
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), before);
    assert_eq!(fs::read_to_string(outside.path().join("secret")).unwrap(), "secret");
}

/// Ends a thread also when the test fails.
struct Stopper<'a>(&'a AtomicBool);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_file_swapped_for_a_link_is_never_followed() {
    let outside = Tree::new(&["secret"]);
    let tree = Tree::new(&["d/file"]);
    let root = tree.directory();
    let source = context(&root, None);
    let [file, link, folder, other] = ["d/file", "link", "d", "folder"].map(|name| tree.path().join(name));
    symlink(outside.path().join("secret"), &link).unwrap();
    symlink(outside.path(), &other).unwrap();
    let stop = AtomicBool::new(false);
    let swap = |one: &Path, two: &Path| {
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        rustix::fs::renameat_with(rustix::fs::CWD, one, rustix::fs::CWD, two, flags).unwrap();
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // Twice, so that in between everything is as it was.
                for (one, two) in [(&file, &link), (&folder, &other)] {
                    swap(one, two);
                    swap(one, two);
                }
            }
        });
        let _stopper = Stopper(&stop);
        let (mut copied, mut refused) = (0, 0);
        for _ in 0..300 {
            match layer(&source, None, "d", destination("/x/")) {
                Ok(bytes) => {
                    copied += 1;
                    let members = crate::scratch::members(&bytes);
                    assert!(members.iter().all(|line| !line.contains("\"secret\"")), "{members:?}");
                }
                Err(FilesError::NotFound { .. } | FilesError::Changed { .. }) => refused += 1,
                Err(error) => panic!("{error:?}"),
            }
        }
        // How often which of them happens is the scheduler's choice.
        assert_eq!(copied + refused, 300);
    });
}

#[test]
fn a_file_that_changes_before_it_is_written_fails_the_step() {
    let tree = Tree::new(&["file"]);
    let root = tree.directory();
    let source = context(&root, None);
    for contents in ["FILE", "longer", "f"] {
        fs::write(tree.path().join("file"), "file").unwrap();
        let selection = select(&source, &wish("file")).unwrap();
        let fingerprint = selection.fingerprint(&source).unwrap();
        fs::write(tree.path().join("file"), contents).unwrap();
        let below = Below { root: None, time: NOW };
        let mut copier = Copier::new(below, destination("/"), Writer::new(Vec::new())).unwrap();
        let outcome = copier.tree(&source, &selection, &fingerprint).and_then(|()| copier.finish().map(drop));
        assert_eq!(outcome.unwrap_err().to_string(), "\"/file\" changed during the build", "{contents}");
    }
    // An archive is noticed as well.
    let contents = archive(&[member("x", Kind::File, "text"), member("y", Kind::Directory, "")]);
    fs::write(tree.path().join("file"), &contents).unwrap();
    let selection = select(&source, &wish("--unpack file")).unwrap();
    let fingerprint = selection.fingerprint(&source).unwrap();
    // In its contents; in its first header, so that it is none any more; in its last one, so that it is damaged.
    for at in [1536, 3, contents.len() - 1500] {
        let mut other = contents.clone();
        other[at] ^= 1;
        fs::write(tree.path().join("file"), &other).unwrap();
        let below = Below { root: None, time: NOW };
        let mut copier = Copier::new(below, destination("/"), Writer::new(Vec::new())).unwrap();
        let outcome = copier.tree(&source, &selection, &fingerprint).and_then(|()| copier.finish().map(drop));
        assert!(matches!(outcome, Err(FilesError::Changed { .. })), "{at}: {outcome:?}");
    }
}

#[test]
fn trees_deeper_than_layers_are_refused() {
    let tree = Tree::new(&["ok/file"]);
    let mut folder = tree.path().join("deep");
    fs::create_dir(&folder).unwrap();
    let top = folder.clone();
    for _ in 0..300 {
        folder.push("d");
        fs::create_dir(&folder).unwrap();
    }
    let root = tree.directory();
    let source = context(&root, None);
    assert!(matches!(select(&source, &wish("deep")), Err(FilesError::TooDeep { .. })));
    assert!(select(&source, &wish("ok")).is_ok());
    // A source may lie deep, if what is copied does not.
    let inner = format!("deep/{}", "d/".repeat(200));
    assert!(select(&source, &wish(&inner)).is_ok());
    let destination = destination(&format!("/{}", "x/".repeat(200)));
    let error = layer(&source, None, &inner, destination).unwrap_err();
    assert!(matches!(error, FilesError::TooDeep { .. }), "{error:?}");
    fs::remove_dir_all(top).unwrap();
}

#[test]
fn names_with_a_meaning_in_layers_are_refused() {
    for name in [".wh.x", ".wh..wh..opq", "d/.wh.x", ".wh.d/x"] {
        let tree = Tree::new(&[name]);
        let root = tree.directory();
        let error = layer(&context(&root, None), None, ".", destination("/")).unwrap_err();
        assert!(matches!(error, FilesError::Reserved { .. }), "{name}: {error:?}");
    }
    let Some(image) = Image::new() else { return };
    drop(image);
    let tree = Tree::new(&["d/"]);
    let path = tree.path().join("d/gone");
    let device = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, &path, device, 0o600.into(), 0).unwrap();
    let root = tree.directory();
    let error = select(&context(&root, None), &wish("d")).unwrap_err();
    assert!(matches!(error, FilesError::Special { .. }), "{error:?}");
}
