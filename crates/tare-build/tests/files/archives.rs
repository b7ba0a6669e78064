//! ADD's archives, judged by the trees that the kernel shows.

use crate::scratch::{Image, Tree, archive, context, destination, layer, member, members};
use std::fs;
use std::process::{Command, Stdio};
use tare_build::files::{ArchiveError, Destination, FilesError};
use tare_store::tar::{Kind, Member};

/// A context with an archive of this name.
fn with(name: &str, bytes: &[u8]) -> Tree {
    let tree = Tree::new(&[]);
    fs::write(tree.path().join(name), bytes).unwrap();
    tree
}

fn add(image: &mut Image, members: &[(Member, String)], to: &str) -> Result<(), FilesError> {
    let tree = with("a.tar", &archive(members));
    let root = tree.directory();
    image.copy(&context(&root, None), "--unpack a.tar", destination(to))
}

/// What a program makes of its input.
fn compressed(program: &str, bytes: &[u8]) -> Vec<u8> {
    let mut input = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut input, bytes).unwrap();
    std::io::Seek::rewind(&mut input).unwrap();
    let output = Command::new(program).arg("-c").stdin(input).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{program}");
    output.stdout
}

#[test]
fn archives_are_unpacked_into_a_folder() {
    let contents = archive(&[member("x/y", Kind::File, "text"), member("l", Kind::Symlink, "/x/y")]);
    let expected = ["to/ 755 0:0", "to/x/ 755 0:0", "to/x/y 644 7:8 \"text\"", "to/l 644 7:8 -> /x/y"];
    for program in ["cat", "gzip", "bzip2", "xz"] {
        let bytes = if program == "cat" { contents.clone() } else { compressed(program, &contents) };
        let tree = with("anything", &bytes);
        let root = tree.directory();
        let source = context(&root, None);
        let made = |line, to| members(&layer(&source, None, line, to).unwrap());
        assert_eq!(made("--unpack anything", destination("/to")), expected, "{program}");
        // By name, or by a wildcard; not in a folder, and not without being asked for.
        assert_eq!(made("--unpack any*", destination("/to/")), expected, "{program}");
        for line in ["anything", "--unpack ."] {
            assert_eq!(made(line, destination("/to/")).len(), 2, "{program} {line}");
        }
        let owned = Destination { owner: Some((1, 2)), mode: crate::scratch::mode("700"), ..destination("/to") };
        assert_eq!(
            made("--unpack anything", owned),
            ["to/ 755 1:2", "to/x/ 755 0:0", "to/x/y 644 1:2 \"text\"", "to/l 644 1:2 -> /x/y"]
        );
    }
}

#[test]
fn what_is_no_archive_is_copied() {
    let empty = archive(&[]);
    for bytes in [
        &b""[..],
        b"text",
        &[0x1f, 0x8b, 8, 0],
        &compressed("gzip", b"text"),
        &compressed("xz", b"text"),
        b"BZh9text",
        &empty,
    ] {
        let tree = with("a.tar.gz", bytes);
        let root = tree.directory();
        let made = layer(&context(&root, None), None, "--unpack a.tar.gz", destination("/x")).unwrap();
        assert!(made[512..].starts_with(bytes));
        assert!(members(&made)[0].starts_with("x 644 0:0 "));
    }
}

#[test]
fn members_replace_what_the_image_has() {
    let Some(mut image) = Image::new() else { return };
    image.push(&archive(&[
        member("usr/lib", Kind::Directory, ""),
        member("usr/lib/old", Kind::File, "old"),
        member("lib", Kind::Symlink, "usr/lib"),
        member("run", Kind::Directory, ""),
        member("var/run", Kind::Symlink, "/run"),
        member("folder/inner", Kind::File, "old"),
        member("file", Kind::File, "old"),
        member("link", Kind::Symlink, "folder"),
        member("again/old", Kind::File, "old"),
    ]));
    add(
        &mut image,
        &[
            // Through links of the image and of the archive.
            member("lib/new", Kind::File, "1"),
            member("var/run/deep/pid", Kind::File, "2"),
            member("own", Kind::Symlink, "made"),
            member("made", Kind::Directory, ""),
            member("own/x", Kind::File, "3"),
            // A file where a folder was.
            member("folder", Kind::File, "4"),
        ],
        "/",
    )
    .unwrap();
    add(
        &mut image,
        &[
            member("file", Kind::Directory, ""),
            member("file/x", Kind::File, "5"),
            member("link", Kind::Directory, ""),
            member("link/x", Kind::File, "6"),
            // For a moment it is a file.
            member("again", Kind::File, "gone"),
            member("again", Kind::Directory, ""),
            member("again/new", Kind::File, "7"),
            // Later ones replace earlier ones.
            member("twice", Kind::File, "gone"),
            member("twice", Kind::File, "8"),
        ],
        "/",
    )
    .unwrap();
    let tree: Vec<String> = image.tree("").into_iter().filter(|line| !line.starts_with("dev")).collect();
    assert_eq!(
        tree,
        [
            "again/ 755 7:8",
            "again/new 644 7:8 \"7\"",
            "file/ 755 7:8",
            "file/x 644 7:8 \"5\"",
            "folder 644 7:8 \"4\"",
            "lib -> usr/lib",
            "link/ 755 7:8",
            "link/x 644 7:8 \"6\"",
            "made/ 755 7:8",
            "made/x 644 7:8 \"3\"",
            "own -> made",
            "run/ 755 7:8",
            "run/deep/ 755 0:0",
            "run/deep/pid 644 7:8 \"2\"",
            "twice 644 7:8 \"8\"",
            "usr/ 755 0:0",
            "usr/lib/ 755 7:8",
            "usr/lib/new 644 7:8 \"1\"",
            "usr/lib/old 644 7:8 \"old\"",
            "var/ 755 0:0",
            "var/run -> /run",
        ]
    );
}

#[test]
fn hard_links_are_to_files_of_the_archive_or_the_image() {
    let Some(mut image) = Image::new() else { return };
    image.push(&archive(&[member("opt/old", Kind::File, "old"), member("opt/l", Kind::Symlink, "old")]));
    add(
        &mut image,
        &[
            member("d/file", Kind::File, "text"),
            member("to-d", Kind::Symlink, "/d"),
            member("a", Kind::HardLink, "d/file"),
            member("b", Kind::HardLink, "./to-d/file"),
            member("c", Kind::HardLink, "/old"),
            member("old", Kind::HardLink, "old"),
        ],
        "/opt",
    )
    .unwrap();
    assert_eq!(
        image.tree("opt"),
        [
            "a 644 7:8 \"text\"",
            "b 644 7:8 \"text\"",
            "c 644 7:8 \"old\"",
            "d/ 755 0:0",
            "d/file 644 7:8 \"text\"",
            "l -> old",
            "old 644 7:8 \"old\"",
            "to-d -> /d",
        ]
    );
    for target in ["nothing", "d", "", ".", "l", "../outside"] {
        let error = add(&mut image, &[member("x", Kind::HardLink, target)], "/opt").unwrap_err();
        assert!(matches!(error, FilesError::Archive { .. }), "{target}: {error:?}");
    }
}

#[test]
fn several_sources_come_in_their_order() {
    let tree = Tree::new(&["file"]);
    fs::write(
        tree.path().join("a.tar"),
        archive(&[member("file", Kind::File, "archive"), member("x", Kind::File, "")]),
    )
    .unwrap();
    let root = tree.directory();
    let source = context(&root, None);
    let made = |line| members(&layer(&source, None, line, destination("/to/")).unwrap());
    // The later one wins: layers are read in order.
    assert_eq!(
        made("--unpack file a.tar"),
        ["to/ 755 0:0", "to/file 644 0:0 \"file\"", "to/file 644 7:8 \"archive\"", "to/x 644 7:8 \"\""]
    );
    assert_eq!(
        made("--unpack a.tar file"),
        ["to/ 755 0:0", "to/file 644 7:8 \"archive\"", "to/x 644 7:8 \"\"", "to/file 644 0:0 \"file\""]
    );
}

#[test]
fn hostile_archives_are_refused_or_confined() {
    let Some(mut image) = Image::new() else { return };
    image.push(&archive(&[member("etc/passwd", Kind::File, "image"), member("opt", Kind::Directory, "")]));
    let before = image.tree("");
    let device = |path: &str| member(path, Kind::CharacterDevice, "");
    for (members, expected) in [
        (vec![member("../x", Kind::File, "")], "\"/../x\" leads out of it"),
        (vec![member("a/../../x", Kind::File, "")], "\"/a/../../x\" leads out of it"),
        (vec![member("x", Kind::HardLink, "../etc/passwd")], "\"/../etc/passwd\" leads out of it"),
        (
            vec![member("x", Kind::HardLink, "/etc/passwd")],
            "\"/x\" is a hard link to \"//etc/passwd\", which is no file of it",
        ),
        (vec![member(".", Kind::Symlink, "/")], "its root is no folder"),
        (vec![device("dev/gone")], "\"/dev/gone\" is a device 0:0, which says in layers that a file is gone"),
    ] {
        let error = add(&mut image, &members, "/opt").unwrap_err();
        let FilesError::Archive { path, source } = &error else { panic!("{error:?}") };
        assert_eq!(
            (path.as_str(), source.to_string().replace("\"//", "\"/").as_str()),
            ("/a.tar", &*expected.replace("\"//", "\"/"))
        );
    }
    for name in [".wh.x", "a/.wh..wh..opq", ".wh..wh.plnk/x"] {
        let error = add(&mut image, &[member(name, Kind::File, "")], "/opt").unwrap_err();
        assert!(matches!(error, FilesError::Reserved { .. }), "{name}: {error:?}");
    }
    assert_eq!(image.tree(""), before);
    // Links lead nowhere outside of the destination while it is unpacked.
    add(
        &mut image,
        &[
            member("out", Kind::Symlink, "../../../etc"),
            member("out/passwd", Kind::File, "hostile"),
            member("abs", Kind::Symlink, "/etc"),
            member("abs/shadow", Kind::File, "hostile"),
            member("/../rooted", Kind::File, "inside"),
        ],
        "/opt",
    )
    .unwrap();
    assert!(image.tree("etc") == ["passwd 644 7:8 \"image\""]);
    assert_eq!(
        image.tree("opt"),
        [
            "abs -> /etc",
            "etc/ 755 0:0",
            "etc/passwd 644 7:8 \"hostile\"",
            "etc/shadow 644 7:8 \"hostile\"",
            "out -> ../../../etc",
            "rooted 644 7:8 \"inside\"",
        ]
    );
    // A link that leads to itself.
    let round = vec![member("round", Kind::Symlink, "round"), member("round/x", Kind::File, "")];
    assert!(matches!(add(&mut image, &round, "/opt").unwrap_err(), FilesError::Loop { .. }));
    // A file as a folder.
    let through = vec![member("f", Kind::File, ""), member("f/x", Kind::File, "")];
    assert!(matches!(add(&mut image, &through, "/opt").unwrap_err(), FilesError::Parent { .. }));
}

#[test]
fn damaged_archives_and_bombs_are_told() {
    let noise: String = (0..40_000_u32).map(|number| format!("{:x}", number.wrapping_mul(2_654_435_761))).collect();
    let contents = archive(&[member("x", Kind::File, "text"), member("y", Kind::File, &noise)]);
    // Each member has a header of its own for the nanoseconds of its time.
    let second = 4 * 512;
    let mut spoilt = contents.clone();
    spoilt[second + 3] ^= 1;
    let gzip = compressed("gzip", &contents);
    for bytes in [&contents[..second + 100], &contents[..second + 2000], &spoilt, &gzip[..gzip.len() / 2]] {
        let tree = with("a", bytes);
        let root = tree.directory();
        let error = layer(&context(&root, None), None, "--unpack a", destination("/")).unwrap_err();
        let FilesError::Archive { source: ArchiveError::Damaged(_), .. } = error else { panic!("{error:?}") };
    }
    // A sparse file of more bytes than anything real: 64 GiB of zeros in a header and a block.
    let mut header = archive(&[member("hole", Kind::File, "")]);
    header.truncate(512);
    header[156] = b'S';
    header[257..265].copy_from_slice(b"ustar  \0");
    header[124..136].copy_from_slice(b"00000000000\0");
    header[386..398].copy_from_slice(b"00000000000\0");
    header[398..410].copy_from_slice(b"00000000000\0");
    header[483..495].copy_from_slice(b"777777777777");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let tree = with("a", &header);
    let root = tree.directory();
    let error = layer(&context(&root, None), None, "--unpack a", destination("/")).unwrap_err();
    let FilesError::Archive { source: ArchiveError::Bomb { unit: "bytes", .. }, .. } = error else {
        panic!("{error:?}")
    };
}
