//! Layers that are small on the wire and large, deep or slow on the disk or in memory. The limits are those of
//! [`Limits`]; where a test sets lower ones, it is to be quick.

use crate::scratch::{Scratch, apply, archive, gzip, link, member, tree};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use tare_spec::ErrorKind;
use tare_store::tar::{Kind, Member};
use tare_store::{Error, Limits, Store, StoreOptions};

fn limited(scratch: &Scratch, limits: Limits) -> Store {
    Store::open(&StoreOptions { limits, ..scratch.options() }).unwrap()
}

fn with_memory(scratch: &Scratch, memory: u64) -> Store {
    limited(scratch, Limits { memory, ..Limits::default() })
}

fn assert_refused(what: &str, scratch: &Scratch, memory: u64, members: &[Member]) {
    let form = scratch.backend_name();
    let error = apply(&with_memory(scratch, memory), &archive(members)).expect_err(what);
    assert!(matches!(error, Error::Bomb { unit: "bytes of names and attributes", .. }), "{form}, {what}: {error:?}");
    assert_eq!(error.kind(), ErrorKind::InvalidParameter);
    assert_eq!(scratch.leftovers(), Vec::<PathBuf>::new(), "{form}, {what}");
}

/// gzip makes a thousand bytes of one, so does zstd and more: what a blob may become depends on what it is.
#[test]
fn ratios_are_bounded_for_every_compression() {
    let bytes = archive(&[Member { size: 64 << 20, ..member("z", Kind::File) }]);
    for scratch in Scratch::both() {
        let store = limited(&scratch, Limits { free: 1 << 20, ratio: 100, ..Limits::default() });
        for blob in [gzip(&bytes), zstd::encode_all(&bytes[..], 3).unwrap()] {
            assert!(blob.len() * 100 < bytes.len(), "it is no bomb");
            let layer = crate::scratch::descriptor(&blob);
            let diff_id = tare_spec::DiffId(tare_store::sha256(&bytes));
            let error = store.layers().apply(&layer, &diff_id, &mut &blob[..]).unwrap_err();
            assert!(matches!(error, Error::Bomb { unit: "bytes", .. }), "{error:?}");
            // Of unknown size and digest, too.
            let error = store.layers().ingest(&mut &blob[..]).unwrap_err();
            assert!(matches!(error, Error::Bomb { unit: "bytes", .. }), "{error:?}");
        }
        assert_eq!(scratch.leftovers(), Vec::<PathBuf>::new());
    }
}

/// Directories that only occur in paths count as entries: one entry would make 255 of them otherwise.
#[test]
fn implied_directories_count() {
    for scratch in Scratch::both() {
        let store = limited(&scratch, Limits { entries: 200, ..Limits::default() });
        let error = apply(&store, &archive(&[member(&"d/".repeat(250), Kind::Directory)])).unwrap_err();
        assert!(matches!(error, Error::Bomb { unit: "entries", limit: 200, .. }), "{error:?}");
        assert_eq!(scratch.leftovers(), Vec::<PathBuf>::new());
    }
}

/// Tiny attributes take much more memory than bytes.
#[test]
fn floods_of_attributes_are_bounded_by_the_memory_they_take() {
    let flood = |entry: u32| {
        let mut member = member(&format!("f{entry}"), Kind::File);
        member.attributes = (0..60).map(|n: u32| (format!("user.{n:x}").into_bytes(), Vec::new())).collect();
        member
    };
    let members: Vec<Member> = (0..200).map(flood).collect();
    for scratch in Scratch::both() {
        // 12,000 attributes of 7 bytes at most are 84 kB, but need fifteen times as much.
        assert_refused("tiny attributes", &scratch, 1 << 20, &members);
        apply(&with_memory(&scratch, 2 << 20), &archive(&members)).unwrap();
    }
    // Each of them as large as it can be.
    let giant = |entry: u32| {
        let mut member = member(&format!("f{entry}"), Kind::Directory);
        member.attributes = [(b"user.x".to_vec(), vec![b'x'; 60_000])].into();
        member
    };
    for scratch in Scratch::both().iter().filter(|scratch| scratch.backend_name() == "erofs") {
        assert_refused("large attributes", scratch, 1 << 20, &(0..20).map(giant).collect::<Vec<_>>());
    }
    // More than any file may have, whatever the layer.
    let mut most = member("f", Kind::File);
    most.attributes = (0..20_000).map(|n: u32| (format!("user.{n:06}").into_bytes(), Vec::new())).collect();
    for scratch in Scratch::both() {
        let error = apply(&scratch.store(), &archive(std::slice::from_ref(&most))).unwrap_err();
        assert!(matches!(error, Error::Entry { .. }), "{error:?}");
    }
}

#[test]
fn long_names_and_targets_are_bounded_by_the_memory_they_take() {
    let path = |n: u32| format!("{}{n:05}", format!("{}/", "n".repeat(250)).repeat(15));
    let paths: Vec<Member> = (0..400).map(|n| member(&path(n), Kind::Directory)).collect();
    let targets: Vec<Member> =
        (0..400).map(|n| link(&format!("l{n}"), Kind::Symlink, &format!("{n}{}", "t".repeat(4000)))).collect();
    let names: Vec<Member> = (0..6000).map(|n| member(&format!("{n}{}", "n".repeat(240)), Kind::File)).collect();
    let whiteouts: Vec<Member> = (0..6000).map(|n| member(&format!("{n}/.wh..wh..opq"), Kind::File)).collect();
    for scratch in Scratch::both() {
        for (what, members) in
            [("paths", &paths), ("targets", &targets), ("names", &names), ("opaque directories", &whiteouts)]
        {
            assert_refused(what, &scratch, 1 << 20, members);
        }
        apply(&with_memory(&scratch, 8 << 20), &archive(&paths)).unwrap();
    }
}

/// A header may claim a terabyte without a byte of it.
#[test]
fn claims_of_sparse_files_cost_nothing() {
    for scratch in Scratch::both() {
        let store = scratch.store();
        let claim = |size: u64| {
            let record = |key: &str, value: &str| {
                let bare = key.len() + value.len() + 3;
                let length = (bare..).find(|length| bare + length.to_string().len() == *length).unwrap();
                format!("{length} {key}={value}\n")
            };
            let mut file = archive(&[Member { size: 512, ..member("vast", Kind::File) }]);
            let text = record("GNU.sparse.size", &size.to_string()) + &record("GNU.sparse.map", "0,512");
            let mut records = archive(&[Member { size: text.len() as u64, ..member("records", Kind::File) }]);
            records.truncate(1024);
            records[156] = b'x';
            records[512..512 + text.len()].copy_from_slice(text.as_bytes());
            let header = &mut records[..512];
            header[148..156].fill(b' ');
            let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            records.append(&mut file);
            records
        };
        let vast = apply(&store, &claim(1 << 30)).unwrap();
        let root = tree(&store, &vast);
        let file = fs::metadata(root.join("vast")).unwrap();
        assert_eq!(file.len(), 1 << 30);
        drop(root);
        // An index says of each 512 bytes in eight whether they are a hole.
        assert!(store.layers().disk(&vast).unwrap() < 20 << 20, "{}", scratch.backend_name());
        let error = apply(&store, &claim(1 << 34)).unwrap_err();
        assert!(matches!(error, Error::Entry { .. }), "{error:?}");
        for size in [(1 << 40) + 1, u64::MAX, 511] {
            let error = apply(&store, &claim(size)).unwrap_err();
            assert!(matches!(error, Error::Archive { .. }), "{size}: {error:?}");
        }
        assert_eq!(scratch.leftovers(), Vec::<PathBuf>::new());
    }
}

/// No path of an entry is deep, but parents that are links make a tree of three thousand levels: deeper than paths are
/// long, and than a program has descriptors or stack for.
#[test]
fn trees_that_grow_deep_through_links_can_be_had_and_removed() {
    let down = "d/".repeat(250);
    let mut members = vec![member(&down, Kind::Directory)];
    for level in 1..12 {
        let before = if level == 1 { "/".to_owned() } else { format!("/l{}/", level - 1) };
        members.push(link(&format!("l{level}"), Kind::Symlink, &format!("{before}{down}")));
        members.push(member(&format!("l{level}/{down}"), Kind::Directory));
    }
    members.push(Member { size: 7, ..member("l11/d/bottom", Kind::File) });
    for scratch in Scratch::both() {
        let store = scratch.store();
        let deep = apply(&store, &archive(&members)).unwrap();
        let root = tree(&store, &deep);
        assert!(fs::metadata(root.join("d")).unwrap().nlink() == 3);
        drop(root);
        assert!(store.layers().disk(&deep).unwrap() > 0);
        assert_eq!(store.layers().usage(&deep).unwrap(), 7);
        assert_eq!(store.layers().verify(&deep).unwrap(), None);
        store.collect_all(&|_| false).unwrap();
        assert!(!store.layers().contains(&deep).unwrap());
        assert_eq!(scratch.leftovers(), Vec::<PathBuf>::new());
    }
}
