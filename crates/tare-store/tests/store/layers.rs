//! Layers from blobs to trees, judged by what is on the disk.

use crate::scratch::{
    Scratch, apply, archive, descriptor, gzip, image, link, member, options_from_environment, output, tree,
};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::{Condvar, Mutex};
use tare_spec::image::Descriptor;
use tare_spec::{DiffId, ErrorKind};
use tare_store::tar::{Kind, Member, Time};
use tare_store::{Error, Limits, Store, StoreOptions, sha256};

/// Everything that can be said of a tree without following links: type, mode, owner, links, time, target, size,
/// device number, contents and attributes.
fn listing(root: &Path) -> String {
    let format = "%P\\t%y %m %U:%G %n %T@ %l\\n";
    let mut lines = Vec::new();
    for line in output("find", &[root.to_str().unwrap(), "-printf", format]).lines() {
        let path = root.join(line.split('\t').next().unwrap());
        let found = fs::symlink_metadata(&path).unwrap();
        let contents = if found.is_file() { sha256(&fs::read(&path).unwrap()).to_string() } else { String::new() };
        lines.push(format!("{line} {} {contents} {:x?}", found.rdev(), attributes(&path)));
    }
    lines.sort();
    lines.join("\n")
}

pub(crate) fn attributes(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0_u8; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let names = String::from_utf8(names[..length].to_vec()).unwrap();
    let read = |name: &str| {
        let mut value = vec![0_u8; 4096];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        (name.to_owned(), value[..length].to_vec())
    };
    names.split_terminator('\0').map(read).collect()
}

/// A tree with all that a real layer has, written by GNU tar in its own formats, against the same tar's unpacking.
#[test]
fn a_layer_of_gnu_tar_unpacks_as_gnu_tar_unpacks_it() {
    for scratch in Scratch::both() {
        let source = scratch.path().join("source");
        let script = r#"
        set -e; umask 022; mkdir -p "$1"; cd "$1"
        mkdir -p usr/bin var/tmp "$(printf 'deep/%.0s' $(seq 60))" empty
        echo data > usr/bin/tool; chmod 4755 usr/bin/tool
        ln usr/bin/tool usr/bin/same; ln -s ../bin/tool usr/bin/link; ln -s /etc/passwd absolute; ln -s usr/bin bin
        ln usr/bin/link usr/bin/link2; chmod 1777 var/tmp; chown -h 1234:5678 usr/bin/link; chown 100000:70000 empty
        mkfifo var/fifo; mknod var/null c 1 3; mknod var/disk b 8 300; chown 3:4 var/null; chmod 2750 var
        head -c 3000000 /dev/urandom > usr/random; : > usr/zero; chmod 000 usr/zero
        l=$(printf 'n%.0s' $(seq 200)); echo long > "$l"; ln -s "$l$l" long-link; echo ü > 'übel name'
        touch -d '1969-12-31 23:00:00.25 UTC' usr/zero; touch -d '2031-02-03 04:05:06.789012345 UTC' usr/random
        touch -h -d '2001-01-01' usr/bin/link; find . -type d -exec touch -d '2010-10-10 10:10:10' {} +
    "#;
        output("sh", &["-c", script, "sh", source.to_str().unwrap()]);
        // Version 2 of a capability set, effective: net_raw; 0x0a is net_bind_service and dac_override, and a newline.
        let capability = b"\x01\0\0\x02\x0a\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        for (path, name, value) in [
            ("usr/bin/tool", "security.capability", &capability[..]),
            ("usr/random", "user.note", b"a b"),
            ("empty", "trusted.x", b"y\n=\0z"),
            ("usr/bin/link", "trusted.link", b"own"),
        ] {
            rustix::fs::lsetxattr(source.join(path), name, value, rustix::fs::XattrFlags::empty()).unwrap();
        }
        let store = scratch.store();
        for format in ["--format=pax", "--format=gnu"] {
            let attributes: &[&str] = if format == "--format=pax" { &["--xattrs", "--xattrs-include=*"] } else { &[] };
            let tar = scratch.path().join("layer.tar");
            let mut arguments = vec!["-C", source.to_str().unwrap(), "--numeric-owner", format];
            arguments.extend_from_slice(attributes);
            arguments.extend(["-cf", tar.to_str().unwrap(), "."]);
            output("tar", &arguments);
            let expected = scratch.path().join(format);
            fs::create_dir(&expected).unwrap();
            let mut arguments = vec!["-C", expected.to_str().unwrap(), "--numeric-owner", "-p"];
            arguments.extend_from_slice(attributes);
            arguments.extend(["-xf", tar.to_str().unwrap()]);
            output("tar", &arguments);
            let diff_id = apply(&store, &fs::read(&tar).unwrap()).unwrap();
            let (ours, theirs) = (listing(&tree(&store, &diff_id)), listing(&expected));
            for (our, their) in ours.lines().zip(theirs.lines()) {
                assert_eq!(our, their, "{format}");
            }
            assert_eq!(ours.lines().count(), theirs.lines().count(), "{format}");
            assert!(store.layers().usage(&diff_id).unwrap() > 3_000_000);
        }
        assert_eq!(scratch.leftovers(), Vec::<std::path::PathBuf>::new());
    }
}

#[test]
fn gzip_in_members_zstd_and_plain_are_inflated() {
    for scratch in Scratch::both() {
        for (number, compress) in [
            (|bytes: &[u8]| [gzip(&bytes[..700]), gzip(&bytes[700..])].concat()) as fn(&[u8]) -> Vec<u8>,
            |bytes| zstd::encode_all(bytes, 3).unwrap(),
            |bytes| bytes.to_vec(),
        ]
        .into_iter()
        .enumerate()
        {
            let store = scratch.store();
            let bytes = archive(&[Member { size: 5000, ..member(&format!("file{number}"), Kind::File) }]);
            let blob = compress(&bytes);
            let diff_id = DiffId(sha256(&bytes));
            let info = store.layers().apply(&descriptor(&blob), &diff_id, &mut &blob[..]).unwrap();
            assert_eq!((info.size, info.entries), (5000, 1));
            assert_eq!(fs::metadata(tree(&store, &diff_id).join(format!("file{number}"))).unwrap().len(), 5000);
        }
    }
}

/// umoci writes neither the last padding nor the blocks of zeros; one block of zeros is what others write.
#[test]
fn an_archive_may_lack_its_end() {
    for scratch in Scratch::both() {
        let store = scratch.store();
        let whole = archive(&[Member { size: 700, ..member("file", Kind::File) }]);
        for length in [512 + 700, 512 + 1000, 512 + 1024, 512 + 1024 + 512] {
            let diff_id = apply(&store, &whole[..length]).unwrap_or_else(|error| panic!("{length}: {error:?}"));
            assert_eq!(fs::metadata(tree(&store, &diff_id).join("file")).unwrap().len(), 700, "{length}");
        }
    }
}

#[test]
fn whiteouts_become_what_overlayfs_reads() {
    for scratch in Scratch::both() {
        let store = scratch.store();
        let diff_id = apply(
            &store,
            &archive(&[
                member("etc/.wh.gone", Kind::File),
                member("opaque/.wh..wh..opq", Kind::File),
                member("opaque/new", Kind::File),
                // Both in one layer: the whiteout is for what is below.
                member("fresh", Kind::Directory),
                member(".wh.fresh", Kind::File),
                member(".wh.later", Kind::File),
                member("later", Kind::Directory),
                member(".wh.implied", Kind::File),
                member("implied/file", Kind::File),
                member("kept", Kind::File),
                member(".wh.kept", Kind::File),
                member(".wh.new", Kind::File),
                member("new", Kind::File),
                member(".wh..wh.plnk/1.2", Kind::File),
            ]),
        )
        .unwrap();
        let root = tree(&store, &diff_id);
        let gone = fs::symlink_metadata(root.join("etc/gone")).unwrap();
        assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
        for folder in ["opaque", "fresh", "later", "implied"] {
            assert_eq!(attributes(&root.join(folder))["trusted.overlay.opaque"], b"y", "{folder}");
        }
        for file in ["kept", "new", "opaque/new", "implied/file"] {
            assert!(fs::symlink_metadata(root.join(file)).unwrap().is_file(), "{file}");
        }
        let mut names: Vec<_> = fs::read_dir(&*root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["etc", "fresh", "implied", "kept", "later", "new", "opaque"]);
    }
}

/// The kernel's word on it: two layers under one overlay, in a mount namespace of the shell's own.
#[test]
fn overlayfs_sees_what_the_layers_say() {
    for scratch in Scratch::both() {
        let store = scratch.store();
        let file = |path: &str| Member { size: 1, ..member(path, Kind::File) };
        let below = archive(&[
            Member { mode: 0o711, ..member("kept", Kind::Directory) },
            file("kept/old"),
            file("kept/gone"),
            file("opaque/old"),
            file("replaced/old"),
            file("turned"),
        ]);
        let above = archive(&[
            Member { mode: 0o711, ..member("kept", Kind::Directory) },
            member("kept/.wh.gone", Kind::File),
            file("kept/new"),
            member("opaque/.wh..wh..opq", Kind::File),
            file("opaque/new"),
            member(".wh.replaced", Kind::File),
            file("replaced/new"),
            file("turned/new"),
        ]);
        let layers = [apply(&store, &below).unwrap(), apply(&store, &above).unwrap()];
        let mounted = store.layers().mount(&layers).unwrap();
        let lower = mounted.lower_dirs();
        assert_eq!(lower[0], *tree(&store, &layers[1]), "the top layer comes first");
        let lower = lower.iter().map(|path| path.to_str().unwrap()).collect::<Vec<_>>().join(":");
        let merged = scratch.path().join("merged");
        fs::create_dir(&merged).unwrap();
        let script = "mount -t overlay overlay -o lowerdir=\"$1\" \"$2\" && find \"$2\" -printf '%P %y %m\\n' | sort";
        let seen = output(
            "unshare",
            &["--mount", "--propagation", "private", "sh", "-c", script, "sh", &lower, merged.to_str().unwrap()],
        );
        let names: Vec<&str> =
            seen.lines().filter(|line| line.contains(" f ")).map(|l| l.split(' ').next().unwrap()).collect();
        assert_eq!(names, ["kept/new", "kept/old", "opaque/new", "replaced/new", "turned/new"]);
        assert!(seen.contains("kept d 711\n"), "{seen}");
    }
}

#[test]
fn later_entries_replace_earlier_ones_and_attributes_of_overlayfs_stay_out() {
    for scratch in Scratch::both() {
        let store = scratch.store();
        let mut poisoned = member("folder", Kind::Directory);
        poisoned.attributes.insert(b"trusted.overlay.redirect".to_vec(), b"/etc".to_vec());
        poisoned.attributes.insert(b"user.kept".to_vec(), b"yes".to_vec());
        poisoned.mode = 0o2711;
        poisoned.mtime = Time { seconds: 7, nanoseconds: 8 };
        let diff_id = apply(
            &store,
            &archive(&[
                member("./", Kind::Directory),
                member("folder/file", Kind::File),
                Member { size: 3, ..member("folder/file", Kind::File) },
                link("swap", Kind::Symlink, "/etc"),
                member("swap", Kind::Directory),
                member("swap/inside", Kind::File),
                member("tree/below/file", Kind::File),
                member("tree", Kind::File),
                poisoned,
                member("/absolute//./file", Kind::File),
            ]),
        )
        .unwrap();
        let root = tree(&store, &diff_id);
        assert_eq!(fs::metadata(root.join("folder/file")).unwrap().len(), 3);
        assert!(fs::symlink_metadata(root.join("swap/inside")).unwrap().is_file());
        assert!(fs::symlink_metadata(root.join("tree")).unwrap().is_file());
        assert!(root.join("absolute/file").is_file());
        let folder = fs::metadata(root.join("folder")).unwrap();
        assert_eq!((folder.mode() & 0o7777, folder.mtime(), folder.mtime_nsec()), (0o2711, 7, 8));
        assert_eq!(attributes(&root.join("folder")).into_keys().collect::<Vec<_>>(), ["user.kept"]);
    }
}

/// Each row would touch something outside in an engine that trusts archives.
#[test]
fn hostile_archives_touch_nothing_outside() {
    for scratch in Scratch::both() {
        let store = scratch.store();
        let outside = scratch.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("secret"), "secret").unwrap();
        let out = outside.to_str().unwrap();
        let up = "../../../../../../../../../../../../../../..";
        let climbing = format!("{up}{out}");
        let file = |path: &str| Member { size: 4, ..member(path, Kind::File) };
        // The second is whether the layer is refused; what is confined instead must not be refused.
        let rows: Vec<(&str, bool, Vec<Member>)> = vec![
            ("climbs", true, vec![file(&format!("{climbing}/new"))]),
            ("climbs in the middle", true, vec![file(&format!("a/{climbing}/new"))]),
            ("climbs to nowhere", true, vec![member("a/..", Kind::Directory)]),
            ("absolute", false, vec![file(&format!("{out}/new"))]),
            ("absolute, existing", false, vec![file(&format!("{out}/secret"))]),
            ("absolute symlink as parent", true, vec![link("s", Kind::Symlink, out), file("s/new")]),
            ("climbing symlink as parent", true, vec![link("s", Kind::Symlink, &climbing), file("s/new")]),
            (
                "symlink chain as parent",
                true,
                vec![link("a", Kind::Symlink, up), link("b", Kind::Symlink, &format!("a{out}")), file("b/new")],
            ),
            (
                "symlink as parent, confined",
                false,
                vec![
                    link("s", Kind::Symlink, out),
                    member(out.trim_start_matches('/'), Kind::Directory),
                    file("s/secret"),
                ],
            ),
            ("symlink to root as parent", false, vec![link("s", Kind::Symlink, "/"), file(&format!("s{out}/secret"))]),
            ("symlink loop as parent", true, vec![link("s", Kind::Symlink, "s"), file("s/new")]),
            (
                "magic link as parent",
                true,
                vec![link("s", Kind::Symlink, "/proc/self/root"), file(&format!("s{out}/new"))],
            ),
            ("writes through a symlink", false, vec![link("s", Kind::Symlink, &format!("{out}/secret")), file("s")]),
            (
                "directory over a symlink",
                false,
                vec![
                    link("s", Kind::Symlink, out),
                    Member { mode: 0o777, ..member("s", Kind::Directory) },
                    file("s/new"),
                ],
            ),
            ("hard link out", true, vec![link("h", Kind::HardLink, &format!("{out}/secret")), file("h")]),
            ("hard link that climbs", true, vec![link("h", Kind::HardLink, &format!("{climbing}/secret"))]),
            (
                "hard link through a symlink",
                true,
                vec![link("s", Kind::Symlink, out), link("h", Kind::HardLink, "s/secret"), file("h")],
            ),
            (
                "hard link to a symlink, then written",
                false,
                vec![link("s", Kind::Symlink, &format!("{out}/secret")), link("h", Kind::HardLink, "s"), file("h")],
            ),
            ("hard link to a directory", true, vec![member("d", Kind::Directory), link("h", Kind::HardLink, "d")]),
            ("hard link to a lower layer", true, vec![link("h", Kind::HardLink, "usr/bin/tool")]),
            ("hard link to the root", true, vec![link("h", Kind::HardLink, ".")]),
            (
                "whiteout through a symlink",
                true,
                vec![link("s", Kind::Symlink, out), member("s/.wh.secret", Kind::File)],
            ),
            (
                "opaque through a symlink",
                true,
                vec![link("s", Kind::Symlink, out), member("s/.wh..wh..opq", Kind::File)],
            ),
            ("whiteout of the parent", true, vec![member("a/.wh...", Kind::File)]),
            ("whiteout of nothing", true, vec![member("a/.wh.", Kind::File)]),
            ("whiteout that climbs", true, vec![member(&format!("{climbing}/.wh.secret"), Kind::File)]),
            ("a root that is a symlink", true, vec![link("./", Kind::Symlink, out), file("new")]),
            ("a root that is a file", true, vec![file(".")]),
            ("a file as parent", true, vec![file("f"), file("f/g")]),
            ("too deep", true, vec![file(&("d/".repeat(300) + "f"))]),
            ("too long", true, vec![file(&("long/".repeat(1000) + "f"))]),
            ("a name too long for any file system", true, vec![file(&"n".repeat(300))]),
            ("an owner that chown would ignore", true, vec![Member { uid: u32::MAX, ..file("f") }]),
            (
                "mode and times through a symlink",
                false,
                vec![Member { mode: 0o6777, uid: 99, ..link("s", Kind::Symlink, &format!("{out}/secret")) }],
            ),
        ];
        let before = listing(&outside);
        for (name, refused, members) in rows {
            let bytes = archive(&members);
            let outcome = apply(&store, &bytes);
            assert_eq!(listing(&outside), before, "{name}: something outside changed");
            match outcome {
                Ok(diff_id) => {
                    assert!(!refused, "{name}: accepted");
                    let root = tree(&store, &diff_id);
                    let same = output("find", &[root.to_str().unwrap(), "-samefile", &format!("{out}/secret")]);
                    assert_eq!(same, "", "{name}: a name for something outside");
                }
                Err(error) => {
                    assert!(refused, "{name}: {error:?}");
                    assert!(!store.layers().contains(&DiffId(sha256(&bytes))).unwrap(), "{name}");
                }
            }
            assert_eq!(scratch.leftovers(), Vec::<std::path::PathBuf>::new(), "{name}");
        }
    }
}

#[test]
fn malformed_archives_are_refused_with_their_offset() {
    for scratch in Scratch::both() {
        let store = scratch.store();
        let good = archive(&[Member { size: 2000, ..member("file", Kind::File) }]);
        let patched = |patch: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            patch(&mut bytes);
            let sum: u32 = bytes[..512]
                .iter()
                .enumerate()
                .map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) })
                .sum();
            bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            bytes
        };
        for (name, bytes) in [
            ("cut in a file", good[..1024].to_vec()),
            ("cut in a header", good[..300].to_vec()),
            ("damaged header", {
                let mut bytes = good.clone();
                bytes[0] ^= 1;
                bytes
            }),
            ("negative size", patched(&|bytes| bytes[124..136].fill(0xff))),
            (
                "enormous size",
                patched(&|bytes| bytes[124..136].copy_from_slice(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff")),
            ),
            ("unreadable mode", patched(&|bytes| bytes[100..108].copy_from_slice(b"rwxr-xr-"))),
            ("sparse without a map", patched(&|bytes| bytes[156] = b'S')),
            ("multi-volume", patched(&|bytes| bytes[156] = b'M')),
            (
                "long name of gigabytes",
                patched(&|bytes| {
                    bytes[156] = b'L';
                    bytes[124..136].copy_from_slice(b"17777777777\0");
                }),
            ),
            (
                "records of gigabytes",
                patched(&|bytes| {
                    bytes[156] = b'x';
                    bytes[124..136].copy_from_slice(b"17777777777\0");
                }),
            ),
            ("records that are none", patched(&|bytes| bytes[156] = b'x')),
            ("no archive", vec![b'x'; 2048]),
        ] {
            let error = apply(&store, &bytes).unwrap_err();
            assert!(matches!(error, Error::Archive { .. }), "{name}: {error:?}");
            assert_eq!(error.kind(), ErrorKind::InvalidParameter, "{name}");
            assert_eq!(scratch.leftovers(), Vec::<std::path::PathBuf>::new(), "{name}");
        }
    }
}

#[test]
fn bombs_are_stopped() {
    for scratch in Scratch::both() {
        let limits = Limits { bytes: 1 << 30, ratio: 10, free: 1 << 20, entries: 5, ..Limits::default() };
        let store = Store::open(&StoreOptions { limits, ..scratch.options() }).unwrap();
        let error = apply(&store, &archive(&[Member { size: 2 << 20, ..member("zeros", Kind::File) }])).unwrap_err();
        assert!(matches!(error, Error::Bomb { unit: "bytes", limit, .. } if limit == 1 << 20), "{error:?}");
        let many: Vec<Member> = (0..6).map(|number| member(&format!("f{number}"), Kind::File)).collect();
        let error = apply(&store, &archive(&many)).unwrap_err();
        assert!(matches!(error, Error::Bomb { unit: "entries", limit: 5, .. }), "{error:?}");
        // What follows the end of an archive counts as well.
        let error = apply(&store, &[archive(&[]), vec![0; 2 << 20]].concat()).unwrap_err();
        assert!(matches!(error, Error::Bomb { unit: "bytes", .. }), "{error:?}");
        apply(&store, &archive(&many[..5])).unwrap();
        assert_eq!(scratch.leftovers(), Vec::<std::path::PathBuf>::new());
    }
}

#[test]
fn what_does_not_match_is_refused() {
    for scratch in Scratch::both() {
        let store = scratch.store();
        let bytes = archive(&[Member { size: 3000, ..member("file", Kind::File) }]);
        let blob = gzip(&bytes);
        let (good, diff_id) = (descriptor(&blob), DiffId(sha256(&bytes)));
        let other = sha256(b"other");
        let mut broken = blob.clone();
        broken[20] ^= 0x55;
        let try_with = |layer: &Descriptor, diff_id: &DiffId, blob: &[u8]| {
            let error = store.layers().apply(layer, diff_id, &mut &*blob).unwrap_err();
            assert!(!store.layers().contains(diff_id).unwrap());
            assert_eq!(scratch.leftovers(), Vec::<std::path::PathBuf>::new());
            error
        };
        let short = try_with(&good, &diff_id, &blob[..blob.len() - 5]);
        assert!(matches!(&short, Error::Size { expected, actual, .. } if *expected == *actual + 5), "{short:?}");
        assert!(short.to_string().contains("stream ended at"), "{short}");
        let long = try_with(&good, &diff_id, &[&blob[..], b"more"].concat());
        assert!(matches!(long, Error::Size { .. }), "{long:?}");
        let damaged = try_with(&good, &diff_id, &broken);
        assert!(matches!(damaged, Error::Digest { .. }), "{damaged:?}");
        let wrong = try_with(&good, &DiffId(other), &blob);
        assert!(matches!(&wrong, Error::DiffId { actual, .. } if *actual == diff_id), "{wrong:?}");
        let xz = b"\xfd7zXZ\0 and so on";
        let wrong = try_with(&descriptor(xz), &diff_id, xz);
        assert!(matches!(wrong, Error::Compression { compression: "xz", .. }), "{wrong:?}");
        let mut foreign = good.clone();
        foreign.media_type = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip".to_owned();
        assert!(matches!(try_with(&foreign, &diff_id, &blob), Error::LayerType { .. }));

        struct Broken<'a>(&'a [u8]);
        impl Read for Broken<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                match self.0.read(buffer)? {
                    0 => Err(io::ErrorKind::ConnectionReset.into()),
                    count => Ok(count),
                }
            }
        }
        let reset = store.layers().apply(&good, &diff_id, &mut Broken(&blob[..30])).unwrap_err();
        assert!(
            matches!(&reset, Error::Read { offset: 30, source, .. } if source.kind() == io::ErrorKind::ConnectionReset)
        );
        assert_eq!(reset.kind(), ErrorKind::Unavailable);
        store.layers().apply(&good, &diff_id, &mut &blob[..]).unwrap();

        let blob = store.put_blob(&Descriptor::new("x", sha256(b"abc"), 3), &mut &b"abd"[..]).unwrap_err();
        assert!(matches!(blob, Error::Digest { .. }));
        let blob = store.put_blob(&Descriptor::new("x", sha256(b"abc"), 4), &mut &b"abc"[..]).unwrap_err();
        assert!(matches!(blob, Error::Size { expected: 4, actual: 3, .. }));
        assert!(matches!(store.blob(&sha256(b"abc"), 9).unwrap_err(), Error::BlobMissing { .. }));
        store.put_bytes("x", b"abc").unwrap();
        assert!(matches!(store.blob(&sha256(b"abc"), 2).unwrap_err(), Error::BlobLimit { .. }));
        assert_eq!(store.blob(&sha256(b"abc"), 3).unwrap(), b"abc");
        assert_eq!(scratch.leftovers(), Vec::<std::path::PathBuf>::new());
    }
}

/// A blob that is only given out once a second thread has begun to wait for the same layer.
struct Gate<'a> {
    open: &'a (Mutex<bool>, Condvar),
    blob: &'a [u8],
}

impl Read for Gate<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (open, changed) = self.open;
        drop(changed.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
        self.blob.read(buffer)
    }
}

/// Opens the gate at the latest when the test ends, even by a failure.
struct Opened<'a>(&'a (Mutex<bool>, Condvar));

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

struct Untouched;

impl Read for Untouched {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        panic!("the layer was read twice")
    }
}

#[test]
fn of_two_that_apply_a_layer_one_works() {
    for scratch in Scratch::both() {
        let (store, other) = (scratch.store(), scratch.store());
        let bytes = archive(&[Member { size: 3000, ..member("file", Kind::File) }]);
        let blob = gzip(&bytes);
        let (layer, diff_id) = (descriptor(&blob), DiffId(sha256(&bytes)));
        let gate = (Mutex::new(false), Condvar::new());
        std::thread::scope(|scope| {
            let opened = Opened(&gate);
            let first = scope.spawn(|| store.layers().apply(&layer, &diff_id, &mut Gate { open: &gate, blob: &blob }));
            // The claim exists from here on, and sweeping stores leave it alone.
            while scratch.leftovers().is_empty() {
                assert!(!first.is_finished(), "the first writer did not wait for its blob");
                std::thread::yield_now();
            }
            let claim = scratch.leftovers().remove(0);
            let held = fs::File::open(&claim).unwrap();
            while rustix::fs::flock(&held, rustix::fs::FlockOperation::NonBlockingLockShared).is_ok() {
                rustix::fs::flock(&held, rustix::fs::FlockOperation::Unlock).unwrap();
            }
            drop(held);
            drop(scratch.store());
            assert!(claim.exists());
            let second = scope.spawn(|| other.layers().apply(&layer, &diff_id, &mut Untouched));
            // The kernel lists who waits for a lock with an arrow, and the file by its inode.
            let inode = format!(":{} ", fs::metadata(&claim).unwrap().ino());
            let waits = |line: &str| line.contains("-> FLOCK") && line.contains(&inode);
            while !fs::read_to_string("/proc/locks").unwrap().lines().any(waits) {
                assert!(!second.is_finished(), "the second writer did not wait");
            }
            drop(opened);
            assert_eq!(first.join().unwrap().unwrap(), second.join().unwrap().unwrap());
        });
        assert_eq!(scratch.leftovers(), Vec::<std::path::PathBuf>::new());
    }
}

#[test]
fn a_crash_leaves_only_what_the_next_open_sweeps() {
    for scratch in Scratch::both() {
        let store = scratch.store();
        let kept = apply(&store, &archive(&[member("file", Kind::File)])).unwrap();
        image(&store, std::slice::from_ref(&kept), "");
        // What a writer that was killed leaves: its files, without its locks.
        let half = scratch.root().join("layers/temporary").join(format!("sha256-{}", "a".repeat(64)));
        fs::create_dir_all(half.join("fs/deep/er")).unwrap();
        fs::write(half.join("fs/file"), "half").unwrap();
        fs::write(scratch.root().join("blobs/temporary/blob.1.2"), "half").unwrap();
        fs::write(scratch.root().join("images/temporary/record.1.2"), "{").unwrap();
        assert_eq!(scratch.leftovers().len(), 3);
        let store = scratch.store();
        assert_eq!(scratch.leftovers(), Vec::<std::path::PathBuf>::new());
        assert!(store.layers().contains(&kept).unwrap());
        assert_eq!(store.images().unwrap().len(), 1);
    }
}

/// A writer that is killed in the middle of a layer and of a blob.
#[test]
fn a_killed_writer_is_swept() {
    if let Some(root) = std::env::var_os("TARE_KILLED_ROOT") {
        return write_half_a_layer(Path::new(&root));
    }
    for scratch in Scratch::both() {
        drop(scratch.store());
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "layers::a_killed_writer_is_swept"])
            .env("TARE_KILLED_ROOT", scratch.root())
            .env("TARE_BACKEND", scratch.backend_name())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let has_file = |folder: &Path| {
            ["first", "data.tar"]
                .iter()
                .any(|name| !output("find", &[folder.to_str().unwrap(), "-name", name, "-size", "+0"]).is_empty())
        };
        while !has_file(&scratch.root().join("layers/temporary")) {
            assert_eq!(child.try_wait().unwrap(), None, "the writer ended by itself");
        }
        drop(scratch.store());
        assert_eq!(scratch.leftovers().len(), 1, "a living writer's folder was swept");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(scratch.leftovers().len(), 1);
        let store = scratch.store();
        assert_eq!(scratch.leftovers(), Vec::<std::path::PathBuf>::new());
        assert_eq!(store.layers().list().unwrap(), []);
    }
}

/// In a process of its own: waits to be killed.
fn write_half_a_layer(root: &Path) {
    let store = Store::open(&options_from_environment(root)).unwrap();
    let bytes = archive(&["first", "second"].map(|path| Member { size: 1 << 20, ..member(path, Kind::File) }));
    let layer = descriptor(&bytes);
    // The first half of the layer, then whatever standard input brings: nothing, for ever.
    let mut blob = bytes[..3 << 19].chain(io::stdin());
    store.layers().apply(&layer, &DiffId(sha256(&bytes)), &mut blob).unwrap();
}

/// Archives with a few bytes changed, from a fixed seed: an error or a result, never a panic, and never more
/// memory than the archive has bytes.
#[test]
fn damaged_archives_never_panic() {
    let mut attributes = member("a", Kind::File);
    attributes.attributes.insert(b"user.a".to_vec(), vec![b'v'; 300]);
    let good = archive(&[
        Member { size: 700, ..member(&("long/".repeat(60) + "file"), Kind::File) },
        attributes,
        link("link", Kind::Symlink, &"t".repeat(200)),
        member("node", Kind::BlockDevice),
    ]);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let (mut read, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..1 + random(4) {
            let at = random(bytes.len());
            bytes[at] = random(256) as u8;
        }
        // Most damage would stop at the checksum, so it is made right again in every block that could be a header.
        for block in bytes.chunks_mut(512).filter(|block| block[257..262] == *b"ustar") {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        bytes.truncate(bytes.len() - random(3) * random(bytes.len()) / 2);
        let mut reader = tare_store::tar::Reader::new(&bytes[..]);
        loop {
            match reader.next_entry() {
                Ok(Some(_)) => {}
                Ok(None) => break read += 1,
                Err(_) => break refused += 1,
            }
        }
    }
    assert!(read > 1000 && refused > 1000, "{read} read, {refused} refused: the damage is too harmless or too heavy");
}

/// A tmpfs of 2 MiB in a mount namespace of the test's own thread; unsharing needs no other thread to agree.
#[test]
fn a_full_disk_leaves_nothing() {
    if let Some(root) = std::env::var_os("TARE_SMALL_DISK") {
        return fill_a_small_disk(Path::new(&root));
    }
    for scratch in Scratch::both() {
        let status = std::process::Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg("mkdir -p \"$1\" && mount -t tmpfs -o size=2m tmpfs \"$1\" && exec \"$2\" --exact layers::a_full_disk_leaves_nothing --nocapture")
        .arg("sh")
        .arg(scratch.root())
        .arg(std::env::current_exe().unwrap())
        .env("TARE_SMALL_DISK", scratch.root())
        .env("TARE_BACKEND", scratch.backend_name())
        .status()
        .unwrap();
        assert!(status.success());
    }
}

/// In a process of its own, inside that mount namespace.
fn fill_a_small_disk(root: &Path) {
    let store = Store::open(&options_from_environment(root)).unwrap();
    let error = apply(&store, &archive(&[Member { size: 8 << 20, ..member("big", Kind::File) }])).unwrap_err();
    assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let blob = vec![7; 8 << 20];
    let error = store.put_bytes("x", &blob).unwrap_err();
    assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
    apply(&store, &archive(&[Member { size: 1 << 20, ..member("fits", Kind::File) }])).unwrap();
}
