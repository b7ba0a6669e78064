//! Layers that copies make, judged by the trees that the kernel shows of them.

use crate::scratch::{Image, NOW, Tree, archive, context, destination, layer, member, members, mode, wish};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use tare_build::files::{Below, Copier, Destination, FilesError, Inline, InlineContents, Source, SourceKind, select};
use tare_spec::ErrorKind;
use tare_store::tar::{Kind, Time, Writer};

/// An image with folders, files and links to copy onto.
fn image() -> Option<Image> {
    let mut image = Image::new()?;
    let folder = |path: &str, mode: u32| {
        let (mut folder, text) = member(path, Kind::Directory, "");
        folder.mode = mode;
        (folder, text)
    };
    image.push(&archive(&[
        folder("srv", 0o750),
        folder("srv/sub", 0o700),
        member("srv/file", Kind::File, "old"),
        member("srv/sub/file", Kind::File, "old"),
        member("to-srv", Kind::Symlink, "/srv"),
        member("to-file", Kind::Symlink, "srv/file"),
        member("to-new", Kind::Symlink, "/made/later"),
        member("srv/link", Kind::Symlink, "sub"),
        folder("tmp", 0o1777),
    ]));
    Some(image)
}

#[test]
fn files_go_to_a_name_or_into_a_folder() {
    let Some(mut image) = image() else { return };
    let tree = Tree::new(&["a", "755 tool", "d/x", "700 d/sub/", "d/sub/y", "la -> a"]);
    let root = tree.directory();
    let source = context(&root, None);
    for (line, to) in [
        ("a", "/new/name"),
        ("a", "/new/folder/"),
        ("a tool", "/both/"),
        ("a", "/srv"),
        ("tool", "/to-srv/through"),
        ("a", "/to-new"),
        ("la", "/srv/"),
        ("d", "/copied"),
        ("d", "/srv/sub"),
        ("d/*", "/each/"),
        ("a", "/"),
        ("no*", "/nothing/"),
    ] {
        image.copy(&source, line, destination(to)).unwrap();
    }
    assert_eq!(
        image.tree(""),
        [
            "a 644 0:0 \"a\"",
            "both/ 755 0:0",
            "both/a 644 0:0 \"a\"",
            "both/tool 755 0:0 \"tool\"",
            "copied/ 755 0:0",
            "copied/sub/ 700 0:0",
            "copied/sub/y 644 0:0 \"d/sub/y\"",
            "copied/x 644 0:0 \"d/x\"",
            "dev/ 755 0:0",
            "dev/one 644 7:8 \"\"",
            "dev/two 644 7:8 \"\"",
            // A wildcard's folders stand for what is in them, as named ones do.
            "each/ 755 0:0",
            "each/x 644 0:0 \"d/x\"",
            "each/y 644 0:0 \"d/sub/y\"",
            "made/ 755 0:0",
            "made/later 644 0:0 \"a\"",
            "new/ 755 0:0",
            "new/folder/ 755 0:0",
            "new/folder/a 644 0:0 \"a\"",
            "new/name 644 0:0 \"a\"",
            // What was there stays as it was.
            "srv/ 750 7:8",
            "srv/a 644 0:0 \"a\"",
            "srv/file 644 7:8 \"old\"",
            "srv/la 644 0:0 \"a\"",
            "srv/link -> sub",
            "srv/sub/ 700 7:8",
            "srv/sub/file 644 7:8 \"old\"",
            "srv/sub/sub/ 700 0:0",
            "srv/sub/sub/y 644 0:0 \"d/sub/y\"",
            "srv/sub/x 644 0:0 \"d/x\"",
            "srv/through 755 0:0 \"tool\"",
            "tmp/ 1777 7:8",
            "to-file -> srv/file",
            "to-new -> /made/later",
            "to-srv -> /srv",
        ]
    );
}

#[test]
fn what_is_copied_replaces_what_is_there() {
    let Some(mut image) = image() else { return };
    let tree = Tree::new(&["file", "link", "755 d/sub/", "d/file -> elsewhere", "d/link", "d/sub/file"]);
    let root = tree.directory();
    let source = context(&root, None);
    image.copy(&source, "file", destination("/to-file")).unwrap();
    // In a folder a link is replaced, not followed.
    image.copy(&source, "link", destination("/srv/")).unwrap();
    assert_eq!(image.tree("srv")[..2], ["file 644 0:0 \"file\"", "link 644 0:0 \"link\""]);
    // Folders below the one that is copied become as those of the source; the top one stays.
    image.copy(&source, "d", destination("/srv")).unwrap();
    assert_eq!(
        image.tree("srv"),
        ["file -> elsewhere", "link 644 0:0 \"d/link\"", "sub/ 755 0:0", "sub/file 644 0:0 \"d/sub/file\""]
    );
    assert!(image.tree("").contains(&"srv/ 750 7:8".to_owned()));
}

#[test]
fn what_contradicts_the_image_is_refused() {
    let Some(mut image) = image() else { return };
    let tree = Tree::new(&["file", "d/file/x", "e/sub", "f/link/x"]);
    let root = tree.directory();
    let source = context(&root, None);
    for (line, to, expected) in [
        ("d", "/srv", "cannot copy to non-directory: /srv/file: \"/d/file\" is a folder"),
        ("f", "/srv", "cannot copy to non-directory: /srv/link: \"/f/link\" is a folder"),
        ("d", "/srv/file", "cannot copy to non-directory: /srv/file: \"/d\" is a folder"),
        ("e", "/srv", "cannot replace to directory /srv/sub with file: \"/e/sub\" is no folder"),
        ("d/file/x", "/srv/file/", "cannot copy to \"/srv/file\": \"/srv/file\" is not a directory"),
        ("file", "/srv/file/deeper/x", "cannot copy to \"/srv/file/deeper\": \"/srv/file\" is not a directory"),
        ("file", "/to-file/", "cannot copy to \"/srv/file\": \"/srv/file\" is not a directory"),
        (
            "file",
            "/.wh.file",
            "cannot copy to \"/.wh.file\": names that begin with \".wh.\" say in layers that a file is gone",
        ),
    ] {
        let error = image.copy(&source, line, destination(to)).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.kind()), (expected, ErrorKind::InvalidParameter));
    }
    // Two sources may contradict each other, too.
    let tree = Tree::new(&["one/x/y", "two/x"]);
    let root = tree.directory();
    let error = layer(&context(&root, None), None, "one two", destination("/")).unwrap_err();
    assert!(matches!(error, FilesError::FileOverFolder { .. }));
    let error = layer(&context(&root, None), None, "two one", destination("/")).unwrap_err();
    assert!(matches!(error, FilesError::FolderOverFile { .. }));
}

#[test]
fn linked_layers_know_nothing_of_the_image() {
    let Some(mut image) = image() else { return };
    let tree = Tree::new(&["file", "d/file/x"]);
    let root = tree.directory();
    let source = context(&root, None);
    let linked = |to| Destination { link: true, ..destination(to) };
    image.copy(&source, "d", linked("/srv")).unwrap();
    image.copy(&source, "file", linked("/to-srv/deep/")).unwrap();
    let tree = image.tree("");
    for line in [
        "srv/ 755 0:0",
        "srv/file/ 755 0:0",
        "srv/file/x 644 0:0 \"d/file/x\"",
        "to-srv/ 755 0:0",
        "to-srv/deep/file 644 0:0 \"file\"",
    ] {
        assert!(tree.contains(&line.to_owned()), "{line}: {tree:#?}");
    }
}

#[test]
fn owners_and_modes_can_be_chosen() {
    let tree = Tree::new(&["755 a", "640 d/x", "700 d/sub/", "d/link -> x"]);
    let root = tree.directory();
    let source = context(&root, None);
    let to = |path, text| Destination { owner: Some((5, 6)), mode: mode(text), ..destination(path) };
    let made = |line, destination| members(&layer(&source, None, line, destination).unwrap());
    assert_eq!(made("a", to("/x/y", "4750")), ["x/ 750 5:6", "x/y 4750 5:6 \"a\""]);
    assert_eq!(
        made("d", to("/x/y", "751")),
        ["x/ 751 5:6", "x/y/ 751 5:6", "x/y/link 777 5:6 -> x", "x/y/sub/ 751 5:6", "x/y/x 751 5:6 \"d/x\""]
    );
    assert_eq!(
        made("d", to("/y", "u=rwX,go=rX")),
        ["y/ 755 5:6", "y/link 777 5:6 -> x", "y/sub/ 755 5:6", "y/x 644 5:6 \"d/x\""]
    );
    for text in ["u=q", "10000"] {
        let error = layer(&source, None, "a", to("/x", text)).unwrap_err();
        let expected = format!("invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn parents_are_made_like_those_of_the_source() {
    let Some(mut image) = image() else { return };
    let tree = Tree::new(&["700 srv/", "711 srv/sub/", "srv/sub/new", "731 other/", "other/file"]);
    let root = tree.directory();
    let source = context(&root, None);
    image.copy(&source, "--parents srv/sub/new other/file", destination("/")).unwrap();
    let all = image.tree("");
    // Of folders that are there only the mode changes, as BuildKit has it.
    for line in ["srv/ 700 7:8", "srv/sub/ 711 7:8", "srv/sub/new 644 0:0 \"srv/sub/new\"", "other/ 731 0:0"] {
        assert!(all.contains(&line.to_owned()), "{line}: {all:#?}");
    }
}

#[test]
fn layers_are_the_same_wherever_the_files_are() {
    let entries = ["d/a", "d/a-b/x", "d/a/../a.b", "d/b/c", "750 d/e/", "d/l -> /etc/passwd", "f"];
    let mut layers = Vec::new();
    for reversed in [false, true] {
        let tree = Tree::new(&[]);
        let mut entries: Vec<&str> = entries.iter().copied().filter(|entry| !entry.contains("..")).collect();
        if reversed {
            entries.reverse();
        }
        entries.iter().for_each(|entry| tree.add(entry));
        fs::hard_link(tree.path().join("f"), tree.path().join("d/hard")).unwrap();
        let root = tree.directory();
        layers.push(layer(&context(&root, None), None, "d f", destination("/x/")).unwrap());
    }
    assert!(layers[0] == layers[1]);
    // A folder comes right before what is in it, whatever other names begin with its own.
    let tree = Tree::new(&["a/x", "a-b", "a.c/y", "a/b/z"]);
    let root = tree.directory();
    let made = members(&layer(&context(&root, None), None, ".", destination("/")).unwrap());
    let paths: Vec<&str> = made.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(paths, ["a/", "a/b/", "a/b/z", "a/x", "a-b", "a.c/", "a.c/y"]);
}

#[test]
fn hard_links_stay_within_what_is_copied() {
    let tree = Tree::new(&["d/b", "single"]);
    fs::hard_link(tree.path().join("d/b"), tree.path().join("d/a")).unwrap();
    fs::hard_link(tree.path().join("d/b"), tree.path().join("outside")).unwrap();
    let root = tree.directory();
    let source = context(&root, None);
    let made = |line| members(&layer(&source, None, line, destination("/x/")).unwrap());
    assert_eq!(made("d"), ["x/ 755 0:0", "x/a 644 0:0 \"d/b\"", "x/b 644 0:0 = x/a"]);
    assert_eq!(made("d/a outside"), ["x/ 755 0:0", "x/a 644 0:0 \"d/b\"", "x/outside 644 0:0 \"d/b\""]);
    // The first one is replaced by another file: the second one is the file then.
    let other = Tree::new(&["a"]);
    let (one, two) = (tree.directory(), other.directory());
    let mut copier = Copier::new(Below { root: None, time: NOW }, destination("/"), Writer::new(Vec::new())).unwrap();
    for (root, line) in [(&one, "d"), (&two, "a")] {
        let source = context(root, None);
        let selection = select(&source, &wish(line)).unwrap();
        copier.tree(&source, &selection, &selection.fingerprint(&source).unwrap()).unwrap();
    }
    let bytes = copier.finish().unwrap().0.finish().unwrap();
    assert_eq!(members(&bytes), ["a 644 0:0 \"a\"", "b 644 0:0 \"d/b\""]);
}

#[test]
fn files_of_images_keep_what_they_are() {
    let Some(mut image) = Image::new() else { return };
    let tree = Tree::new(&["4755 d/tool", "700 d/sub/", "d/new", "d/link -> tool"]);
    let path = |name: &str| tree.path().join(name);
    chown(path("d/tool"), Some(30), Some(40)).unwrap();
    fs::set_permissions(path("d/tool"), fs::Permissions::from_mode(0o4755)).unwrap();
    chown(path("d/sub"), Some(31), Some(41)).unwrap();
    crate::scratch::set_time(&path("d/tool"), 1_500_000_000);
    crate::scratch::set_time(&path("d/new"), 1_900_000_000);
    let (name, none) = ("user.note", rustix::fs::XattrFlags::empty());
    rustix::fs::lsetxattr(path("d/tool"), name, b"kept", none).unwrap();
    rustix::fs::lsetxattr(path("d/sub"), "trusted.overlay.opaque", b"y", none).unwrap();
    let root = tree.directory();
    let source = Source { root: &root, kind: SourceKind::Image, ignore: None };
    image.copy(&source, "d", destination("/x")).unwrap();
    assert_eq!(
        image.tree("x"),
        ["link -> tool", "new 644 0:0 \"d/new\"", "sub/ 700 31:41", "tool 4755 30:40 \"d/tool\""]
    );
    let merged = image.root();
    let copied = merged.directory.resolve("x".as_ref()).unwrap();
    let of = |name: &str| copied.metadata(name.as_ref()).unwrap().unwrap();
    // Nothing is newer than the build.
    assert_eq!((of("tool").mtime.0, of("new").mtime), (1_500_000_000, (NOW.seconds, 0)));
    let attributes = copied.attributes("tool".as_ref()).unwrap();
    assert!(attributes.contains(&("user.note".into(), b"kept".to_vec())), "{attributes:?}");
    assert_eq!(copied.attributes("sub".as_ref()).unwrap(), []);
}

#[test]
fn folders_of_the_image_keep_times_and_attributes() {
    let Some(mut image) = Image::new() else { return };
    let (mut folder, text) = member("srv", Kind::Directory, "");
    folder.attributes.insert(b"user.note".to_vec(), b"kept".to_vec());
    image.push(&archive(&[(folder, text)]));
    let (mut top, text) = member(".", Kind::Directory, "");
    (top.mode, top.uid, top.mtime) = (0o711, 3, Time { seconds: 5, nanoseconds: 0 });
    image.push(&archive(&[(top, text)]));
    let tree = Tree::new(&["file"]);
    let root = tree.directory();
    image.copy(&context(&root, None), "file", destination("/srv/new/")).unwrap();
    let merged = image.root();
    let srv = merged.directory.metadata("srv".as_ref()).unwrap().unwrap();
    assert_eq!((srv.uid, srv.gid, srv.mtime), (7, 8, (1_600_000_000, 5)));
    let attributes = merged.directory.attributes("srv".as_ref()).unwrap();
    assert!(attributes.contains(&("user.note".into(), b"kept".to_vec())), "{attributes:?}");
    let new = merged.directory.resolve("srv".as_ref()).unwrap().metadata("new".as_ref()).unwrap().unwrap();
    assert_eq!(new.mtime, (NOW.seconds, 0));
    // The root folder is one like others.
    let root = merged.directory.own_metadata().unwrap();
    assert_eq!((root.mode, root.uid, root.mtime.0), (0o711, 3, 5));
}

#[test]
fn inline_files_and_folders_become_members() {
    let Some(mut image) = image() else { return };
    let root = image.root();
    let below = || Below { root: Some(&root.directory), time: NOW };
    let bytes = |copier: Copier<'_, Vec<u8>>| copier.finish().unwrap().0.finish().unwrap();
    let document = |name: &str, text: &str| Inline {
        name: name.to_owned(),
        contents: InlineContents::Bytes(text.into()),
        mode: 0o644,
        unpack: false,
    };
    let mut copier = Copier::new(below(), destination("/to-srv/"), Writer::new(Vec::new())).unwrap();
    copier.inline(&document("one", "1")).unwrap();
    copier.inline(&document("one", "2")).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, b"fetched").unwrap();
    let fetched = InlineContents::File(file);
    copier.inline(&Inline { name: "two".to_owned(), contents: fetched, mode: 0o600, unpack: true }).unwrap();
    let made = bytes(copier);
    assert_eq!(members(&made), ["srv/ 750 7:8", "srv/one 644 0:0 \"2\"", "srv/two 600 0:0 \"fetched\""]);
    let mut copier = Copier::new(below(), destination("/srv"), Writer::new(Vec::new())).unwrap();
    let error = copier.inline(&document("sub", "")).unwrap_err();
    assert!(matches!(error, FilesError::FileOverFolder { .. }), "{error:?}");
    // WORKDIR: what is there makes no layer.
    let folder = |path: &str| {
        let mut copier = Copier::new(below(), destination("/"), Writer::new(Vec::new())).unwrap();
        copier.directory(path, (9, 9)).unwrap();
        let (writer, written) = copier.finish().unwrap();
        (members(&writer.finish().unwrap()), written)
    };
    assert_eq!(folder("/srv/sub"), (vec![], 0));
    assert_eq!(folder("/to-srv/sub/../link"), (vec![], 0));
    assert_eq!(folder("/"), (vec![], 0));
    assert_eq!(folder("/to-srv/a/b").0, ["srv/ 750 7:8", "srv/a/ 755 9:9", "srv/a/b/ 755 9:9"]);
    let mut copier = Copier::new(below(), destination("/"), Writer::new(Vec::new())).unwrap();
    let error = copier.directory("/srv/file/x", (0, 0)).unwrap_err();
    assert_eq!(error.to_string(), "cannot copy to \"/srv/file/x\": \"/srv/file\" is not a directory");
    drop(root);
    image.push(&made);
    assert!(image.tree("srv").contains(&"two 600 0:0 \"fetched\"".to_owned()));
}

#[test]
fn a_large_file_is_the_same_in_the_layer() {
    let tree = Tree::new(&[]);
    let contents: Vec<u8> = (0..3_000_000_u32).flat_map(|number| number.to_le_bytes()).collect();
    fs::write(tree.path().join("large"), &contents).unwrap();
    assert_eq!(fs::metadata(tree.path().join("large")).unwrap().size(), 12_000_000);
    let root = tree.directory();
    let made = layer(&context(&root, None), None, "large", destination("/")).unwrap();
    assert!(made[512..512 + contents.len()] == contents);
}
