//! Layers that are made here, in both forms.

use crate::scratch::{Scratch, archive, gzip, image, member, tree};
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use tare_spec::image::media_type;
use tare_spec::{DiffId, Digest};
use tare_store::tar::{Kind, Member, Time};
use tare_store::{Backend, Error, LayerWriter, Store, StoreOptions, Tree, sha256};
use tare_sys::directory::Directory;

fn members() -> Vec<Member> {
    vec![
        member("folder", Kind::Directory),
        Member { size: 3_000_000, ..member("folder/large", Kind::File) },
        Member { size: 4, ..member("file", Kind::File) },
    ]
}

fn append(writer: &mut LayerWriter, member: &Member) -> io::Result<()> {
    let contents: Vec<u8> = member.path.iter().copied().cycle().take(member.size as usize).collect();
    writer.append(member, &mut &contents[..])
}

fn write(writer: &mut LayerWriter) -> Result<usize, Error> {
    for member in members() {
        append(writer, &member).map_err(|source| Error::Output { source })?;
    }
    Ok(3)
}

/// Everything below these folders of a store.
fn everything(scratch: &Scratch) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut left = vec![scratch.root().join("blobs"), scratch.root().join("layers")];
    while let Some(folder) = left.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            all.insert(path.strip_prefix(scratch.root()).unwrap().display().to_string());
            if path.is_dir() {
                left.push(path);
            }
        }
    }
    all
}

fn blob(store: &Store, layer: &tare_spec::image::Descriptor) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.open_blob(layer).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_layer_is_its_members_and_its_blob_their_archive() {
    for scratch in Scratch::both() {
        let store = scratch.store();
        let _lease = store.lease().unwrap();
        let (layer, diff_id, count) = store.write_layer(false, write).unwrap();
        let expected = archive(&members());
        assert_eq!(count, 3);
        assert_eq!((&layer.digest, layer.size), (&sha256(&expected), expected.len() as u64));
        assert_eq!((&layer.digest, layer.media_type.as_str()), (&diff_id.0, media_type::OCI_LAYER));
        assert!(blob(&store, &layer) == expected);
        assert_eq!(fs::read(tree(&store, &diff_id).join("folder/large")).unwrap().len(), 3_000_000);
        assert_eq!(scratch.leftovers(), Vec::<std::path::PathBuf>::new());
        // Once more changes nothing.
        let before = everything(&scratch);
        let (again, ..) = store.write_layer(true, write).unwrap();
        assert_eq!((again.digest, again.media_type.as_str()), (layer.digest, media_type::DOCKER_LAYER));
        assert_eq!(everything(&scratch), before);
    }
}

#[test]
fn nothing_is_left_of_a_layer_that_was_given_up() {
    for scratch in Scratch::both() {
        let store = scratch.store();
        let _lease = store.lease().unwrap();
        let before = everything(&scratch);
        // Before anything, within a member, and after the last one.
        for (stage, bytes) in [(0, 0), (1, 1000), (2, 0)] {
            let failed = store.write_layer(false, |writer| -> Result<(), Error> {
                if stage > 0 {
                    write(writer)?;
                }
                if stage == 1 {
                    let short = Member { size: 10_000, ..member("short", Kind::File) };
                    let _ = writer.append(&short, &mut &vec![0; bytes][..]);
                }
                Err(Error::ImageNotFound { name: "the cause".to_owned() })
            });
            assert!(matches!(failed, Err(Error::ImageNotFound { .. })), "{stage}: {failed:?}");
            assert_eq!(everything(&scratch), before, "{stage}");
        }
    }
}

#[test]
fn a_panic_while_a_layer_is_made_does_not_hang_and_leaves_nothing() {
    for scratch in Scratch::both() {
        let store = scratch.store();
        let before = everything(&scratch);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = store.write_layer(false, |writer| -> Result<(), Error> {
                write(writer)?;
                panic!("in the middle of it");
            });
        }));
        assert!(panicked.is_err());
        assert_eq!(everything(&scratch), before);
    }
}

#[test]
fn what_cannot_be_taken_in_is_told_and_not_the_broken_pipe() {
    for scratch in Scratch::both() {
        let options = StoreOptions {
            limits: tare_store::Limits { entries: 10, ..tare_store::Limits::default() },
            ..scratch.options()
        };
        let store = Store::open(&options).unwrap();
        let before = everything(&scratch);
        let failed = store.write_layer(false, |writer| -> Result<(), Error> {
            for number in 0..100_000 {
                append(writer, &Member { size: 1000, ..member(&number.to_string(), Kind::File) })
                    .map_err(|source| Error::Output { source })?;
            }
            Ok(())
        });
        assert!(matches!(failed, Err(Error::Bomb { unit: "entries", .. })), "{failed:?}");
        assert_eq!(everything(&scratch), before);
    }
}

#[test]
fn an_archive_of_which_nothing_is_known_is_kept_as_it_is() {
    for scratch in Scratch::both() {
        let store = scratch.store();
        let _lease = store.lease().unwrap();
        let plain = archive(&members());
        let (packed, zstd) = (gzip(&plain), zstd::encode_all(&plain[..], 1).unwrap());
        for (bytes, media_type) in [
            (&packed, media_type::OCI_LAYER_GZIP),
            (&zstd, media_type::OCI_LAYER_ZSTD),
            (&plain, media_type::OCI_LAYER),
        ] {
            let (layer, diff_id) = store.ingest_layer(&mut &bytes[..], false).unwrap();
            assert_eq!((layer.digest.clone(), layer.size), (sha256(bytes), bytes.len() as u64));
            assert_eq!((diff_id, layer.media_type.as_str()), (DiffId(sha256(&plain)), media_type));
            assert!(blob(&store, &layer) == **bytes);
        }
        assert_eq!(scratch.leftovers(), Vec::<std::path::PathBuf>::new());
        let before = everything(&scratch);
        for damaged in [&b"BZh91AY&SY"[..], b"no archive at all, but long enough to be looked at", &packed[..1000]] {
            assert!(store.ingest_layer(&mut &*damaged, false).is_err());
        }
        assert_eq!(everything(&scratch), before);
    }
}

#[test]
fn a_layer_that_was_unpacked_before_gets_its_archive() {
    let Some(scratch) = Scratch::new() else { return };
    let old = scratch.store();
    let _lease = old.lease().unwrap();
    let plain = archive(&members());
    // It came compressed: its own archive was nowhere.
    old.ingest_layer(&mut &gzip(&plain)[..], false).unwrap();
    let new = Store::open(&StoreOptions { backend: Some(Backend::Erofs), ..scratch.options() }).unwrap();
    let (layer, ..) = new.write_layer(false, write).unwrap();
    assert!(blob(&new, &layer) == plain);
    assert!(tree(&new, &DiffId(layer.digest)).ends_with("fs"));
    assert_eq!(scratch.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn the_blob_of_a_layer_that_is_in_use_stays() {
    for scratch in Scratch::both() {
        let store = scratch.store();
        let lease = store.lease().unwrap();
        let (layer, diff_id, _) = store.write_layer(false, write).unwrap();
        let other = |writer: &mut LayerWriter| {
            append(writer, &member("other", Kind::Directory)).map_err(|source| Error::Output { source })
        };
        let (unused, ..) = store.write_layer(false, other).unwrap();
        image(&store, &[], "keeps nothing of it");
        drop(lease);
        let collected = store.collect(&|layer| *layer == diff_id).unwrap();
        assert_eq!(collected.layers, [DiffId(unused.digest.clone())]);
        assert!(blob(&store, &layer) == archive(&members()));
        assert!(matches!(store.open_blob(&unused), Err(Error::BlobMissing { .. })));
        store.collect(&|_| false).unwrap();
        assert!(matches!(store.open_blob(&layer), Err(Error::BlobMissing { .. })));
        assert_eq!(store.layers().list().unwrap(), Vec::<DiffId>::new());
    }
}

#[test]
fn times_end_where_they_are_told_to() {
    let Some(scratch) = Scratch::new() else { return };
    let store = scratch.store();
    let folder = scratch.path().join("tree");
    fs::create_dir_all(folder.join("sub")).unwrap();
    fs::write(folder.join("sub/new"), "n").unwrap();
    fs::write(folder.join("old"), "o").unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 5);
    fs::File::options().write(true).open(folder.join("old")).unwrap().set_modified(old).unwrap();
    let digest = || -> Digest {
        let upper = Directory::open(&folder).unwrap();
        let latest = Some(Time { seconds: 1_500_000_000, nanoseconds: 0 });
        let tree = Tree { upper: &upper, lower: None, skip: &|_| false, latest };
        store.write_layer(false, |writer| tree.write(writer)).unwrap().0.digest
    };
    let first = digest();
    fs::write(folder.join("sub/new"), "n").unwrap();
    assert_eq!(digest(), first);
    let layer = tree(&store, &DiffId(first));
    let time = |path: &str| {
        let found = fs::metadata(layer.join(path)).unwrap();
        (std::os::unix::fs::MetadataExt::mtime(&found), std::os::unix::fs::MetadataExt::mtime_nsec(&found))
    };
    assert_eq!(
        [time("sub"), time("sub/new"), time("old")],
        [(1_500_000_000, 0), (1_500_000_000, 0), (1_000_000_000, 5)]
    );
}
