//! What both forms of layers must agree in, and what is special about mounts.

use crate::erofs_utils;
use crate::layers::attributes;
use crate::scratch::{Scratch, apply, archive, descriptor, gzip, link, member, options_from_environment, output, tree};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tare_spec::image::{Descriptor, media_type};
use tare_spec::{DiffId, Digest};
use tare_store::tar::{Kind, Member, Time};
use tare_store::{Backend, Error, Store, StoreOptions, sha256};

/// Everything that can be said of a tree, by the bytes of its paths. Of contents beyond a gigabyte only some.
fn described(root: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut all = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let found = fs::symlink_metadata(&path).unwrap();
        let size = if found.is_dir() { 0 } else { found.len() };
        let contents = if found.is_symlink() {
            format!("{:?}", fs::read_link(&path).unwrap().as_os_str().as_bytes())
        } else if found.is_file() && size > 1 << 30 {
            let file = File::open(&path).unwrap();
            let mut piece = vec![0; 100_000];
            let places = [0, 1 << 32, size - 100_000];
            format!("{:?}", places.map(|place| file.read_exact_at(&mut piece, place).map(|()| sha256(&piece)).unwrap()))
        } else if found.is_file() {
            sha256(&fs::read(&path).unwrap()).to_string()
        } else {
            String::new()
        };
        if found.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        all.insert(
            path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec(),
            format!(
                "{:o} {}:{} links {} device {:x} time {}.{:09} size {size} {:x?} {contents}",
                found.mode(),
                found.uid(),
                found.gid(),
                found.nlink(),
                found.rdev(),
                found.mtime(),
                found.mtime_nsec(),
                attributes(&path)
            ),
        );
    }
    all
}

fn assert_same(what: &str, left: &BTreeMap<Vec<u8>, String>, right: &BTreeMap<Vec<u8>, String>) {
    for (path, said) in left {
        assert_eq!(Some(said), right.get(path), "{what}: {:?}", String::from_utf8_lossy(path));
    }
    assert_eq!(left.len(), right.len(), "{what}");
}

/// Takes an archive in by both forms, compares the trees and asks fsck.erofs; the tree.
fn by_both(what: &str, archive: &[u8]) -> Option<BTreeMap<Vec<u8>, String>> {
    let mut trees = Vec::new();
    for scratch in Scratch::both() {
        let store = scratch.store();
        let info = store.layers().ingest(&mut &archive[..]).unwrap_or_else(|error| panic!("{what}: {error:?}"));
        assert_eq!(info.diff_id, DiffId(sha256(archive)), "{what}");
        assert_eq!(store.layers().verify(&info.diff_id).unwrap(), None, "{what}");
        let layer = tree(&store, &info.diff_id);
        let bytes: u64 = distinct_files(&layer);
        assert_eq!((store.layers().usage(&info.diff_id).unwrap(), info.size), (bytes, bytes), "{what}");
        trees.push(described(&layer));
        drop(layer);
        if scratch.backend_name() == "erofs" {
            check_image(&scratch, &info.diff_id);
        }
        assert_eq!(scratch.leftovers(), Vec::<std::path::PathBuf>::new(), "{what}");
    }
    let (first, second) = (trees.pop()?, trees.pop()?);
    assert_same(what, &second, &first);
    Some(first)
}

fn distinct_files(root: &Path) -> u64 {
    let mut files = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let found = fs::symlink_metadata(&path).unwrap();
        if found.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if found.is_file() {
            files.insert(found.ino(), found.len());
        }
    }
    files.values().sum()
}

fn folder(scratch: &Scratch, diff_id: &DiffId) -> std::path::PathBuf {
    scratch.root().join("layers/sha256").join(diff_id.0.hex())
}

fn check_image(scratch: &Scratch, diff_id: &DiffId) {
    let folder = folder(scratch, diff_id);
    let device = format!("--device={}", folder.join("data.tar").display());
    for program in [&["fsck.erofs"][..], &["fsck.erofs", "--extract"], &["dump.erofs", "-s", "-S"]] {
        let mut command = erofs_utils::command(program[0]);
        command.args(&program[1..]).arg(&device).arg(folder.join("index.erofs"));
        let outcome = command.output().unwrap();
        let said = String::from_utf8_lossy(&[&outcome.stdout[..], &outcome.stderr].concat()).into_owned();
        assert!(outcome.status.success() && !said.contains("<E>"), "{program:?}: {}: {said}", outcome.status);
    }
}

fn time(seconds: i64, nanoseconds: u32) -> Time {
    Time { seconds, nanoseconds }
}

fn with(mut member: Member, attributes: &[(&str, &[u8])]) -> Member {
    for (name, value) in attributes {
        member.attributes.insert(name.as_bytes().to_vec(), value.to_vec());
    }
    member
}

#[test]
fn both_forms_show_the_same_tree() {
    let file = |path: &str, size: u64| Member { size, ..member(path, Kind::File) };
    let acl = |rights: &[(u16, u16, u32)]| {
        let entries = rights
            .iter()
            .flat_map(|(tag, rights, id)| [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat());
        2_u32.to_le_bytes().into_iter().chain(entries).collect::<Vec<u8>>()
    };
    const NONE: u32 = u32::MAX;
    let named = acl(&[(1, 6, NONE), (2, 7, 33), (4, 4, NONE), (0x10, 5, NONE), (0x20, 0, NONE)]);
    let minimal = acl(&[(1, 7, NONE), (4, 5, NONE), (0x20, 1, NONE)]);
    let mut members = vec![
        Member { mode: 0o1751, uid: 5, gid: 6, mtime: time(7, 8), ..member("./", Kind::Directory) },
        file("empty", 0),
        file("block", 512),
        file("blocks", 5 * 512 + 1),
        Member { mode: 0o6755, uid: 4_000_000_000, gid: 70_000, mtime: time(-5, 999_999_999), ..file("owner", 3) },
        Member { device: (4095, 1_048_575), mode: 0o640, ..member("device", Kind::CharacterDevice) },
        Member { device: (8, 300), ..member("disk", Kind::BlockDevice) },
        member("fifo", Kind::Fifo),
        Member { path: b"\xff\x01\n\\ name".to_vec(), ..file("", 10) },
        Member { link: b"\xfe\n\x7f".to_vec(), ..member("bytes", Kind::Symlink) },
        link("t400", Kind::Symlink, &"t".repeat(400)),
        link("t511", Kind::Symlink, &"t".repeat(511)),
        link("t512", Kind::Symlink, &"t".repeat(512)),
        link("t4095", Kind::Symlink, &"t".repeat(4095)),
        file(&"n".repeat(255), 1),
        // Names before and after those that every directory has.
        file("order/!", 1),
        file("order/-", 2),
        file("order/.a", 3),
        file("order/..a", 4),
        file("order/...", 5),
        file("order/0", 6),
        // Hard links, also to what is replaced later, and to a link.
        file("links/first", 100),
        link("links/second", Kind::HardLink, "links/first"),
        link("links/soft", Kind::Symlink, "first"),
        link("links/soft2", Kind::HardLink, "/links/./soft"),
        file("links/first", 200),
        link("third", Kind::HardLink, "links/second"),
        // What replaces what.
        file("was-file", 9),
        member("was-file/now-directory", Kind::Directory),
    ];
    members.retain(|member| member.path != b"was-file/now-directory");
    members.extend([
        member("was-file", Kind::Directory),
        file("was-file/inside", 1),
        file("was-directory/with/much/below", 1),
        file("was-directory", 2),
        member("was-directory", Kind::Directory),
        file("was-directory/new", 3),
        // Directories twice, and their attributes.
        with(member("twice", Kind::Directory), &[("user.first", b"1"), ("user.both", b"1")]),
        with(Member { mode: 0o700, ..member("twice", Kind::Directory) }, &[("user.both", b"2")]),
        // Parents that are links.
        link("to-usr", Kind::Symlink, "/usr"),
        file("usr/lib/a", 1),
        file("to-usr/lib/b", 1),
        link("usr/up", Kind::Symlink, "../../../usr/./lib/../lib"),
        file("usr/up/c", 1),
        // Whiteouts.
        member("gone/.wh.file", Kind::File),
        member("opaque/.wh..wh..opq", Kind::File),
        member(".wh.again", Kind::File),
        member("again/deep", Kind::Directory),
        link("white-link", Kind::HardLink, "gone/file"),
        // Attributes of all sizes and kinds.
        with(file("capable", 4), &[("security.capability", b"\x01\0\0\x02\x0a\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0")]),
        with(file("attributes", 4), &[("user.empty", b""), ("user.x", &[7; 1000]), ("trusted.\u{fc}", b"\0\n=")]),
        with(file("unknown", 4), &[("strange.x", b"1"), ("system.y", b"2"), ("user.overlay.z", b"3")]),
        with(link("attributed", Kind::Symlink, "x"), &[("trusted.l", b"link")]),
        with(file("acl", 4), &[("system.posix_acl_access", &named)]),
        with(file("small-acl", 4), &[("system.posix_acl_access", &minimal)]),
        with(member("inheriting", Kind::Directory), &[("system.posix_acl_default", &named)]),
        Member { mode: 0o666, ..file("inheriting/file", 4) },
        member("inheriting/folder", Kind::Directory),
        Member { mode: 0o2775, gid: 99, ..member("setgid", Kind::Directory) },
        file("setgid/implied/file", 1),
    ]);
    // Directories of many blocks, whose entries end at all places in them.
    for number in 0..2000_u32 {
        let name = "x".repeat(number as usize % 200);
        members.push(file(&format!("many/{number}{name}"), 0));
    }
    for entries in 1..60 {
        members.extend((0..entries).map(|entry| file(&format!("fit/{entries}/{entry:0entries$}"), 0)));
    }
    let Some(tree) = by_both("all kinds", &archive(&members)) else { return };
    let says =
        |path: &str, text: &str| assert!(tree[path.as_bytes()].contains(text), "{path}: {}", tree[path.as_bytes()]);
    says("", "41751 5:6 ");
    says("", "time 7.000000008");
    says("links/first", "links 1 ");
    says("third", "links 2 ");
    says("third", "size 100 ");
    says("acl", "100650 ");
    says("small-acl", "100751 ");
    says("owner", "106755 4000000000:70000 ");
    says("owner", "time -5.999999999");
    says("was-directory/new", "size 3");
    says("twice", "40700 ");
    says("usr/lib/c", "size 1");
    says("gone", "40755 0:0 ");
    says("gone", "time 0.000000000");
    for (path, expected) in [("unknown", "{}"), ("twice", r#""user.first""#), ("inheriting/file", "{}")] {
        says(path, expected);
    }
    assert!(!tree.contains_key(&b"was-directory/with"[..]));
}

/// Every format of sparse file that GNU tar writes, unpacked by the same tar, and one beyond 4 GiB.
#[test]
fn sparse_files_are_what_tar_makes_of_them() {
    let Some(scratch) = Scratch::new() else { return };
    let source = scratch.path().join("source");
    fs::create_dir(&source).unwrap();
    let pattern = |length: usize| (0..length).map(|index| (index * 7 % 251) as u8).collect::<Vec<u8>>();
    for (name, size, runs) in [
        ("hole", 10_000, &[][..]),
        ("start", 1 << 20, &[(0, 4096)]),
        ("end", (1 << 20) + 5000, &[((1 << 20) + 4096, 904)]),
        ("pieces", 40 << 20, &[(0, 100), (65_536, 70_000), (1 << 20, 4096), (1_060_864, 8192), (32 << 20, 300_000)]),
        ("many", 4 << 20, &[]),
        ("vast", 5 << 30, &[(4096, 10_000), ((4 << 30) - 4096, 200_000), ((5 << 30) - 8192, 8192)]),
    ] {
        let file = File::create(source.join(name)).unwrap();
        file.set_len(size).unwrap();
        for (offset, length) in runs {
            file.write_all_at(&pattern(*length), *offset).unwrap();
        }
        if name == "many" {
            (0..500).for_each(|index| file.write_all_at(&pattern(3000), index * 8192).unwrap());
        }
    }
    for (format, version) in [("gnu", None), ("pax", Some("0.0")), ("pax", Some("0.1")), ("pax", Some("1.0"))] {
        let (tar, expected) = (scratch.path().join("layer.tar"), scratch.path().join("expected"));
        let mut arguments = vec!["-C".to_owned(), source.display().to_string(), "-S".to_owned()];
        arguments.push(format!("--format={format}"));
        arguments.extend(version.map(|version| format!("--sparse-version={version}")));
        arguments.extend(["--numeric-owner", "-cf", tar.to_str().unwrap(), "."].map(str::to_owned));
        output("tar", &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        fs::create_dir(&expected).unwrap();
        output("tar", &["-C", expected.to_str().unwrap(), "-p", "-xf", tar.to_str().unwrap()]);
        let bytes = fs::read(&tar).unwrap();
        assert!(bytes.len() < 8 << 20, "{format} {version:?} is not sparse");
        let ours = by_both(&format!("{format} {version:?}"), &bytes).unwrap();
        assert_same(&format!("{format} {version:?}"), &ours, &described(&expected));
        fs::remove_dir_all(&expected).unwrap();
    }
}

/// Refused by both forms, for the same reason.
#[test]
fn both_forms_refuse_the_same() {
    let file = |path: &str| member(path, Kind::File);
    for (what, members) in [
        ("empty target", vec![link("l", Kind::Symlink, "")]),
        ("long target", vec![link("l", Kind::Symlink, &"t".repeat(4096))]),
        ("long name", vec![file(&"n".repeat(256))]),
        ("long name in a whiteout", vec![file(&format!(".wh.{}", "n".repeat(256)))]),
        ("long name of a parent", vec![file(&format!("{}/f", "n".repeat(256)))]),
        ("long name behind a link", vec![link("l", Kind::Symlink, &"n".repeat(256)), file("l/f")]),
        ("too many links", {
            let chain = (0..41).map(|index| link(&format!("l{index}"), Kind::Symlink, &format!("l{}", index + 1)));
            chain.chain([member("l41", Kind::Directory), file("l0/f")]).collect()
        }),
        ("attribute of a user on a link", vec![with(link("l", Kind::Symlink, "x"), &[("user.x", b"")])]),
        ("attribute without a name", vec![with(file("f"), &[("user.", b"x")])]),
        ("attribute with a long name", vec![with(file("f"), &[(&format!("user.{}", "n".repeat(251)), b"x")])]),
        ("a capability that is none", vec![with(file("f"), &[("security.capability", b"x")])]),
        ("an ACL that is none", vec![with(file("f"), &[("system.posix_acl_access", b"x")])]),
        ("a default ACL of a file", vec![with(file("f"), &[("system.posix_acl_default", &[2, 0, 0, 0])])]),
    ] {
        let errors: Vec<String> = Scratch::both()
            .iter()
            .map(|scratch| {
                let outcome = scratch.store().layers().ingest(&mut &archive(&members)[..]);
                assert_eq!(scratch.leftovers(), Vec::<std::path::PathBuf>::new(), "{what}");
                let error = outcome.expect_err(what);
                format!("{error}: {}", std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default())
            })
            .collect();
        assert!(errors.windows(2).all(|pair| pair[0] == pair[1]), "{what}: {errors:?}");
    }
    // As many links as the kernel follows.
    let chain = (0..40).map(|index| link(&format!("l{index}"), Kind::Symlink, &format!("l{}", index + 1)));
    by_both("forty links", &archive(&chain.chain([member("l40", Kind::Directory), file("l0/f")]).collect::<Vec<_>>()));
}

/// The mounts of this process's mount namespace below a folder.
fn mounts_below(folder: &Path) -> usize {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter(|line| line.split(' ').nth(4).is_some_and(|at| Path::new(at).starts_with(folder))).count()
}

fn erofs_scratch() -> Option<Scratch> {
    Scratch::both().into_iter().find(|scratch| scratch.backend_name() == "erofs")
}

#[test]
fn users_of_a_layer_share_its_mount() {
    let Some(scratch) = erofs_scratch() else { return };
    let (store, other) = (scratch.store(), scratch.store());
    let layers: Vec<DiffId> =
        ["a", "b"].iter().map(|name| apply(&store, &archive(&[member(name, Kind::File)])).unwrap()).collect();
    let first = store.layers().mount(&layers).unwrap();
    let second = other.layers().mount(&layers[..1]).unwrap();
    assert_eq!(mounts_below(&scratch.mounts()), 2);
    assert_eq!(second.lower_dirs(), &first.lower_dirs()[1..]);
    // Opening a store leaves what is in use.
    drop(scratch.store());
    assert_eq!(mounts_below(&scratch.mounts()), 2);
    first.release().unwrap();
    assert_eq!(mounts_below(&scratch.mounts()), 1);
    assert!(second.layer(0).unwrap().join("a").exists());
    second.release().unwrap();
    assert_eq!(mounts_below(&scratch.mounts()), 0);
    assert_eq!(fs::read_dir(scratch.mounts()).unwrap().count(), 0);
    // Many at once, from many stores: never more than one mount, none at the end.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let store = scratch.store();
                for _ in 0..50 {
                    let mounted = store.layers().mount(&layers).unwrap();
                    assert!(mounted.layer(0).unwrap().join("b").exists());
                    mounted.release().unwrap();
                }
            });
        }
    });
    assert_eq!(mounts_below(&scratch.mounts()), 0);
    assert_eq!(fs::read_dir(scratch.mounts()).unwrap().count(), 0);
}

/// Starts this test binary again for one function, which finds its root in the environment.
fn again(scratch: &Scratch, name: &str, diff_id: &Digest, prefix: &[&str]) -> Child {
    let program = std::env::current_exe().unwrap();
    let mut words = prefix.iter().copied().chain([program.to_str().unwrap(), "--exact", name, "--nocapture"]);
    Command::new(words.next().unwrap())
        .args(words)
        .env("TARE_BACKEND", "erofs")
        .env("TARE_AGAIN_ROOT", scratch.root())
        .env("TARE_AGAIN_LAYER", diff_id.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What [`again`] passes on, in the other process.
fn in_another_process() -> Option<(Store, DiffId)> {
    let root = std::env::var_os("TARE_AGAIN_ROOT")?;
    let layer = DiffId(Digest::parse(&std::env::var("TARE_AGAIN_LAYER").unwrap()).unwrap());
    Some((Store::open(&options_from_environment(Path::new(&root))).unwrap(), layer))
}

#[test]
fn a_killed_user_leaves_no_mount_for_long() {
    if let Some((store, layer)) = in_another_process() {
        let mounted = store.layers().mount(&[layer]).unwrap();
        println!("mounted {}", mounted.lower_dirs().len());
        // Until it is killed.
        io::stdin().read_line(&mut String::new()).unwrap();
        return;
    }
    let Some(scratch) = erofs_scratch() else { return };
    let store = scratch.store();
    let layer = apply(&store, &archive(&[member("file", Kind::File)])).unwrap();
    let mut child = again(&scratch, "backends::a_killed_user_leaves_no_mount_for_long", &layer.0, &[]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().any(|line| line.unwrap().contains("mounted 1")));
    assert_eq!(mounts_below(&scratch.mounts()), 1);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(mounts_below(&scratch.mounts()), 1);
    // A user that comes takes it over; without one it goes.
    let mounted = store.layers().mount(std::slice::from_ref(&layer)).unwrap();
    assert_eq!(mounts_below(&scratch.mounts()), 1);
    std::mem::forget(mounted);
    store.layers().unmount_unused().unwrap();
    assert_eq!(mounts_below(&scratch.mounts()), 1, "it is still held");
    let mut child = again(&scratch, "backends::a_killed_user_leaves_no_mount_for_long", &layer.0, &[]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().any(|line| line.unwrap().contains("mounted 1")));
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(mounts_below(&scratch.mounts()), 1, "somebody else's release took it away");
}

/// A process that may not mount stands for a kernel that cannot.
#[test]
fn a_layer_that_cannot_be_mounted_is_unpacked() {
    if let Some((store, layer)) = in_another_process() {
        let mounted = store.layers().mount(std::slice::from_ref(&layer)).unwrap();
        assert_eq!(fs::read(mounted.layer(0).unwrap().join("file")).unwrap(), b"file");
        assert!(mounted.layer(0).unwrap().ends_with("fs"));
        mounted.release().unwrap();
        return;
    }
    let Some(scratch) = erofs_scratch() else { return };
    let store = scratch.store();
    let bytes = archive(&[Member { size: 4, ..member("file", Kind::File) }]);
    let layer = apply(&store, &bytes).unwrap();
    let name = "backends::a_layer_that_cannot_be_mounted_is_unpacked";
    let mut child = again(&scratch, name, &layer.0, &["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]);
    assert!(child.wait().unwrap().success());
    // From now on it is a directory, for everybody; its archive is still there.
    let mounted = store.layers().mount(std::slice::from_ref(&layer)).unwrap();
    assert!(mounted.layer(0).unwrap().ends_with("fs"));
    assert_eq!(store.layers().verify(&layer).unwrap(), None);
    let mut kept = Vec::new();
    io::Read::read_to_end(&mut store.layers().archive(&layer).unwrap().unwrap(), &mut kept).unwrap();
    assert!(kept == bytes);
    // What one process may not do is not noted for the others.
    assert!(!scratch.mounts().join("erofs.probe").exists());
    let fresh = Store::open(&StoreOptions { backend: None, ..scratch.options() }).unwrap();
    assert_eq!(fresh.layers().name(), "erofs");
    assert!(fs::read_to_string(scratch.mounts().join("erofs.probe")).unwrap().ends_with(" yes\n"));
    assert_eq!(scratch.options().backend, Some(Backend::Erofs));
}

/// Set-user-id programs and devices of a layer work through an overlay although the layer's own mount forbids them.
#[test]
fn programs_and_devices_work_through_an_overlay() {
    let Some(scratch) = erofs_scratch() else { return };
    let store = scratch.store();
    let tar = scratch.path().join("layer.tar");
    let script =
        "mkdir \"$1/in\" && cp /usr/bin/id \"$1/in/id\" && chmod 4755 \"$1/in/id\" && mknod -m 666 \"$1/in/zero\" c 1 5
        chmod 755 \"$1\" && tar -C \"$1/in\" -cf \"$2\" .";
    output("sh", &["-ec", script, "sh", scratch.path().to_str().unwrap(), tar.to_str().unwrap()]);
    let layer = store.layers().ingest(&mut File::open(&tar).unwrap()).unwrap().diff_id;
    let mounted = store.layers().mount(&[layer]).unwrap();
    let folders = scratch.path().join("o");
    let script = "cd \"$2\" && mkdir upper work merged && chmod 755 . && mount -t overlay o -o \"lowerdir=$1,upperdir=upper,workdir=work\" merged
        setpriv --reuid 65534 --clear-groups merged/id -u; head -c 3 merged/zero | od -An -tx1; umount merged";
    fs::create_dir(&folders).unwrap();
    let lower = mounted.layer(0).unwrap().to_str().unwrap();
    let arguments =
        ["--mount", "--propagation", "private", "sh", "-ec", script, "sh", lower, folders.to_str().unwrap()];
    let said = output("unshare", &arguments);
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["0", "00", "00", "00"]);
    mounted.release().unwrap();
}

/// Trying to mend a layer never loses what is left of it.
#[test]
fn a_layer_is_made_again_from_what_is_sound() {
    let Some(scratch) = erofs_scratch() else { return };
    let store = scratch.store();
    let bytes = archive(&[Member { size: 4, ..member("file", Kind::File) }]);
    let layer = apply(&store, &bytes).unwrap();
    let folder = scratch.root().join("layers/sha256").join(layer.0.hex());
    let index = fs::read(folder.join("index.erofs")).unwrap();
    fs::write(folder.join("index.erofs"), b"damaged").unwrap();
    fs::remove_file(folder.join("layer.json")).unwrap();
    assert!(store.layers().rebuild(&layer).unwrap());
    assert_eq!(store.layers().verify(&layer).unwrap(), None);
    assert!(fs::read(folder.join("index.erofs")).unwrap() == index);
    assert_eq!(fs::read(tree(&store, &layer).join("file")).unwrap(), b"file");

    // A damaged archive makes nothing, nor does a blob that is damaged or missing.
    let blob = gzip(&bytes);
    let form = descriptor(&blob);
    let file = File::options().write(true).open(folder.join("data.tar")).unwrap();
    file.write_all_at(b"x", 600).unwrap();
    assert!(!store.layers().rebuild(&layer).unwrap());
    assert!(matches!(store.remake_layer(&form, &layer).unwrap_err(), Error::BlobMissing { .. }));
    let path = scratch.root().join("blobs/sha256").join(form.digest.hex());
    fs::write(&path, b"damaged").unwrap();
    assert!(matches!(store.remake_layer(&form, &layer).unwrap_err(), Error::Damaged { .. }));
    assert!(store.layers().contains(&layer).unwrap());
    fs::write(&path, &blob).unwrap();
    store.remake_layer(&form, &layer).unwrap();
    assert_eq!(store.layers().verify(&layer).unwrap(), None);
    // One that came without compression is kept once.
    store.put_blob(&descriptor_of_tar(&bytes), &mut &bytes[..]).unwrap();
    store.remake_layer(&descriptor_of_tar(&bytes), &layer).unwrap();
    assert!(!scratch.root().join("blobs/sha256").join(layer.0.hex()).exists());
    assert!(!store.layers().rebuild(&DiffId(sha256(b"none"))).unwrap());
}

fn descriptor_of_tar(bytes: &[u8]) -> Descriptor {
    Descriptor::new(media_type::OCI_LAYER, sha256(bytes), bytes.len() as u64)
}
