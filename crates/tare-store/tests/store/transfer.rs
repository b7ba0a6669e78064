//! Layers on their way in: what is kept of them, and what of a way that broke.

use crate::scratch::{Scratch, archive, descriptor, gzip, member};
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use tare_spec::DiffId;
use tare_spec::image::{Descriptor, ImageConfig, Manifest};
use tare_store::tar::{Kind, Member};
use tare_store::{BlobSource, Collected, Error, Store, Taken, sha256};

/// Serves a blob up to a byte, and notes what it was asked for.
struct Server<'a> {
    blob: &'a [u8],
    until: usize,
    asked: AtomicU64,
}

impl<'a> Server<'a> {
    fn new(blob: &'a [u8], until: usize) -> Self {
        Self { blob, until, asked: AtomicU64::new(u64::MAX) }
    }
}

impl BlobSource for Server<'_> {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        self.asked.store(offset, Ordering::SeqCst);
        let rest = &self.blob[offset as usize..self.until];
        Ok(if self.until < self.blob.len() { Box::new(rest.chain(Broken)) } else { Box::new(rest) })
    }
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

fn layer() -> (Vec<u8>, Descriptor, DiffId) {
    let tar = archive(&[Member { size: 1 << 20, ..member("file", Kind::File) }]);
    let diff_id = DiffId(sha256(&tar));
    // Not compressible: so that half of the blob is half of the work.
    let blob = tar.clone();
    (blob.clone(), Descriptor::new("application/vnd.oci.image.layer.v1.tar", sha256(&blob), blob.len() as u64), diff_id)
}

fn take(store: &Store, layer: &Descriptor, diff_id: &DiffId, server: &Server<'_>) -> tare_store::Result<Taken> {
    store.take_layer(layer, diff_id, server, &|_| {})
}

fn partial(scratch: &Scratch) -> Vec<u64> {
    let folder = fs::read_dir(scratch.root().join("blobs/partial")).unwrap();
    folder.map(|entry| entry.unwrap().metadata().unwrap().len()).collect()
}

#[test]
fn the_exact_bytes_are_kept() {
    let Some(scratch) = Scratch::new() else { return };
    let store = scratch.store();
    let tar = archive(&[Member { size: 100_000, ..member("file", Kind::File) }]);
    let (blob, diff_id) = (gzip(&tar), DiffId(sha256(&tar)));
    let layer = descriptor(&blob);
    let passed = AtomicU64::new(0);
    let taken = store.take_layer(&layer, &diff_id, &Server::new(&blob, blob.len()), &|count| {
        passed.store(count, Ordering::SeqCst);
    });
    assert!(matches!(taken.unwrap(), Taken::New(_)));
    assert_eq!(passed.load(Ordering::SeqCst), blob.len() as u64);
    let mut kept = Vec::new();
    store.open_blob(&layer).unwrap().read_to_end(&mut kept).unwrap();
    assert!(kept == blob);
    let mut inflated = Vec::new();
    store.layer_tar(&diff_id, &layer).unwrap().read_to_end(&mut inflated).unwrap();
    assert!(inflated == tar);
    // A second time nobody is asked.
    let again = Server::new(&blob, 0);
    assert_eq!(take(&store, &layer, &diff_id, &again).unwrap(), Taken::Existing);
    assert_eq!(again.asked.load(Ordering::SeqCst), u64::MAX);
    // Nothing refers to either.
    let garbage = store.garbage(&Default::default(), &|_| false).unwrap();
    assert_eq!((garbage.blobs.len(), garbage.layers.len()), (1, 1));
    let usage = store.disk_usage().unwrap();
    assert_eq!(garbage.blobs, [(layer.digest.clone(), usage.blobs[&layer.digest])]);
    assert_eq!(garbage.layers, [(diff_id.clone(), usage.layers[&diff_id])]);
    let collected = store.collect(&|_| false).unwrap();
    assert_eq!(collected.disk, garbage.disk());
    assert_eq!(usage.total - store.disk_usage().unwrap().total, collected.disk);
}

#[test]
fn a_broken_way_is_gone_on_from() {
    let Some(scratch) = Scratch::new() else { return };
    let store = scratch.store();
    let (blob, layer, diff_id) = layer();
    let half = blob.len() / 2;
    let error = take(&store, &layer, &diff_id, &Server::new(&blob, half)).unwrap_err();
    assert!(matches!(error, Error::Read { .. }), "{error:?}");
    assert_eq!(partial(&scratch), [half as u64]);
    assert_eq!(scratch.leftovers(), Vec::<std::path::PathBuf>::new());
    // It is there for a day, unless everything is to go.
    store.collect(&|_| false).unwrap();
    assert_eq!(partial(&scratch), [half as u64]);
    let rest = Server::new(&blob, blob.len());
    take(&store, &layer, &diff_id, &rest).unwrap();
    assert_eq!(rest.asked.load(Ordering::SeqCst), half as u64);
    assert_eq!(partial(&scratch), [] as [u64; 0]);
    assert!(store.layers().contains(&diff_id).unwrap());

    let (other, descriptor) = (gzip(&blob), descriptor(&gzip(&blob)));
    let elsewhere = DiffId(sha256(b"other"));
    take(&store, &descriptor, &elsewhere, &Server::new(&other, 100)).unwrap_err();
    assert_eq!(partial(&scratch), [100]);
    store.collect_all(&|_| false).unwrap();
    assert_eq!(partial(&scratch), [] as [u64; 0]);
}

#[test]
fn spoilt_bytes_of_an_earlier_try_are_fetched_again() {
    let Some(scratch) = Scratch::new() else { return };
    let store = scratch.store();
    let (blob, layer, diff_id) = layer();
    let name = format!("sha256-{}", layer.digest.hex());
    let path = scratch.root().join("blobs/partial").join(name);
    // As a power cut may leave them: the length is there, the bytes are not. The second is longer than the blob.
    for length in [4096, blob.len() + 1] {
        fs::write(&path, vec![0; length]).unwrap();
        let server = Server::new(&blob, blob.len());
        take(&store, &layer, &diff_id, &server).unwrap();
        assert_eq!(server.asked.load(Ordering::SeqCst), 0);
        assert!(store.layers().contains(&diff_id).unwrap());
        assert_eq!(partial(&scratch), [] as [u64; 0]);
        store.collect(&|_| false).unwrap();
    }
    // Bytes that are wrong at their source leave nothing.
    let mut wrong = blob.clone();
    wrong[600] ^= 1;
    let error = take(&store, &layer, &diff_id, &Server::new(&wrong, wrong.len())).unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error:?}");
    assert_eq!(partial(&scratch), [] as [u64; 0]);
}

#[test]
fn two_that_want_a_layer_fetch_it_once() {
    let Some(scratch) = Scratch::new() else { return };
    let (blob, layer, diff_id) = layer();
    let server = Counting { blob: &blob, opened: AtomicU64::new(0) };
    let stores = [(); 4].map(|()| scratch.store());
    std::thread::scope(|scope| {
        for store in &stores {
            scope.spawn(|| store.take_layer(&layer, &diff_id, &server, &|_| {}).unwrap());
        }
    });
    assert_eq!(server.opened.load(Ordering::SeqCst), 1);
    assert_eq!(partial(&scratch), [] as [u64; 0]);
}

struct Counting<'a> {
    blob: &'a [u8],
    opened: AtomicU64,
}

impl BlobSource for Counting<'_> {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(&self.blob[offset as usize..]))
    }
}

#[test]
fn layers_made_here_are_compressed_for_their_way() {
    let Some(scratch) = Scratch::new() else { return };
    let store = scratch.store();
    let (blob, layer, diff_id) = layer();
    take(&store, &layer, &diff_id, &Server::new(&blob, blob.len())).unwrap();
    let compressed = store.compress(&diff_id, &layer).unwrap();
    assert_eq!(store.compress(&diff_id, &layer).unwrap(), compressed);
    assert!(compressed.size < layer.size / 10);
    let mut back = Vec::new();
    store.layer_tar(&diff_id, &compressed).unwrap().read_to_end(&mut back).unwrap();
    assert!(back == blob);
    // What the disk has changed is not given a digest of its own.
    if scratch.backend_name() == "erofs" {
        let archive = scratch.root().join("layers/sha256").join(diff_id.0.hex()).join("data.tar");
        std::fs::File::options().write(true).open(archive).unwrap().write_all_at(b"x", 600).unwrap();
        assert!(matches!(store.compress(&diff_id, &layer).unwrap_err(), Error::Damaged { .. }));
    }
}

#[test]
fn a_broken_pull_keeps_what_it_has() {
    let Some(scratch) = Scratch::new() else { return };
    let store = scratch.store();
    let (blob, layer, diff_id) = layer();
    let config = format!(r#"{{"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#);
    let config_blob = store.put_bytes("application/vnd.oci.image.config.v1+json", config.as_bytes()).unwrap();
    let manifest = serde_json::json!({"schemaVersion": 2, "config": config_blob, "layers": [layer]}).to_string();
    let parsed = Manifest::parse(manifest.as_bytes(), None).unwrap();
    let digest = sha256(manifest.as_bytes());
    let described =
        Descriptor::new("application/vnd.oci.image.manifest.v1+json", digest.clone(), manifest.len() as u64);
    let intend = || store.intend(&described, &[], &parsed, &ImageConfig::parse(config.as_bytes()).unwrap()).unwrap();
    // While it lives nothing can take it away.
    let intention = intend();
    take(&store, &layer, &diff_id, &Server::new(&blob, blob.len())).unwrap();
    assert_eq!(store.collect_all(&|_| false).unwrap(), Collected::default());
    assert!(store.layers().contains(&diff_id).unwrap());
    drop(intention);
    let collected = store.collect(&|_| false).unwrap();
    assert_eq!((collected.blobs, collected.layers), (vec![], vec![]));
    // Two take the same image in: what they need stays until the last of them is done.
    let (first, second) = (intend(), intend());
    store.put_bytes("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes()).unwrap();
    let id = store.put_image(&digest, None).unwrap();
    store.settle(first).unwrap();
    store.remove_image(&id, &Default::default(), &|_| false).unwrap().unwrap();
    assert!(store.layers().contains(&diff_id).unwrap());
    assert_eq!(store.put_image(&digest, None).unwrap(), id);
    store.settle(second).unwrap();
    assert_eq!(fs::read_dir(scratch.root().join("images/pending")).unwrap().count(), 0);
    // A note that somebody left who was killed goes with the image.
    drop(intend());
    assert_eq!(store.remove_image(&id, &Default::default(), &|_| false).unwrap().unwrap().deleted, [id.0, diff_id.0]);
    assert_eq!(fs::read_dir(scratch.root().join("images/pending")).unwrap().count(), 0);
}
