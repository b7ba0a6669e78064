//! Archives of images: what is taken, and what strangers may try.

use crate::scratch::{Scratch, archive, gzip, member};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::sync::Mutex;
use tare_spec::image::{Descriptor, media_type};
use tare_spec::{Digest, Platform};
use tare_store::tar::{Kind, Member, Writer};
use tare_store::{ArchiveError, ArchiveInput, Error, LoadProgress, Loaded, Result, Store, sha256};

/// An archive in the making.
#[derive(Default)]
struct Layout {
    files: RefCell<Vec<(String, Vec<u8>)>>,
}

impl Layout {
    fn file(&self, path: &str, bytes: impl AsRef<[u8]>) -> &Self {
        self.files.borrow_mut().push((path.to_owned(), bytes.as_ref().to_vec()));
        self
    }

    fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = sha256(bytes);
        self.file(&format!("blobs/sha256/{}", digest.hex()), bytes);
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// An image of one layer for a platform; its note tells it from others.
    fn image(&self, architecture: &str, note: &str) -> Value {
        let tar = layer(note);
        let layer = self.blob(media_type::OCI_LAYER_GZIP, &gzip(&tar));
        self.image_of(architecture, note, layer, &sha256(&tar))
    }

    fn image_of(&self, architecture: &str, note: &str, layer: Value, diff_id: &Digest) -> Value {
        let config = config(architecture, note, diff_id);
        let config = self.blob(media_type::OCI_CONFIG, config.to_string().as_bytes());
        let manifest =
            json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": [layer]});
        let mut manifest = self.blob(media_type::OCI_MANIFEST, manifest.to_string().as_bytes());
        manifest["platform"] = json!({"os": "linux", "architecture": architecture});
        manifest
    }

    fn index(&self, entries: &[Value]) -> Value {
        self.blob(media_type::OCI_INDEX, index(entries).as_bytes())
    }

    fn bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (path, bytes) in self.files.borrow().iter() {
            let member = Member { size: bytes.len() as u64, ..member(path, Kind::File) };
            writer.append(&member, &mut &bytes[..]).unwrap();
        }
        writer.finish().unwrap()
    }
}

fn layer(note: &str) -> Vec<u8> {
    archive(&[Member { size: 10, ..member(note, Kind::File) }])
}

fn config(architecture: &str, note: &str, diff_id: &Digest) -> Value {
    json!({"os": "linux", "architecture": architecture, "author": note, "rootfs": {"type": "layers", "diff_ids": [diff_id]}})
}

fn index(entries: &[Value]) -> String {
    json!({"schemaVersion": 2, "manifests": entries}).to_string()
}

fn named(mut entry: Value, name: &str) -> Value {
    entry["annotations"] = json!({"io.containerd.image.name": name});
    entry
}

#[derive(Default)]
struct Collected(Mutex<Vec<Loaded>>);

impl LoadProgress for Collected {
    fn layer(&self, _: &Descriptor, _: u64) {}

    fn image(&self, image: &Loaded) {
        self.0.lock().unwrap().push(image.clone());
    }
}

fn load(store: &Store, mut archive: &[u8], platform: Option<&str>) -> Result<Vec<Loaded>> {
    let _lease = store.lease()?;
    let archive = store.open_archive(ArchiveInput::Stream(&mut archive))?;
    let platform = platform.map(|platform| Platform::parse(platform).unwrap());
    let collected = Collected::default();
    store.load_archive(&archive, platform.as_ref(), &collected)?;
    Ok(collected.0.into_inner().unwrap())
}

/// The authors of what was loaded: which images they are.
fn authors(store: &Store, loaded: &[Loaded]) -> Vec<String> {
    loaded.iter().map(|image| store.find(image.id.0.as_str()).unwrap().config.author.unwrap()).collect()
}

#[test]
fn images_are_chosen_by_name_and_platform() {
    let Some(scratch) = Scratch::new() else { return };
    let store = scratch.store();
    let layout = Layout::default();
    let (arm, s390x) = (layout.image("arm64", "arm"), layout.image("s390x", "s390x"));
    let absent = json!({"mediaType": media_type::OCI_MANIFEST, "digest": sha256(b"absent"), "size": 6,
        "platform": {"os": "linux", "architecture": "amd64"}});
    let inner = layout.index(&[arm.clone(), s390x.clone(), absent]);
    let outer = layout.index(std::slice::from_ref(&inner));
    let only = layout.index(&[layout.image("riscv64", "only")]);
    let bare = layout.image("amd64", "bare");
    layout.file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    let entries = [
        named(outer, "docker.io/library/many:1"),
        named(arm, "docker.io/library/variant:1"),
        named(s390x, "docker.io/library/variant:1"),
        bare,
    ];
    layout.file("index.json", index(&entries));
    let loaded = load(&store, &layout.bytes(), Some("linux/arm64"));
    // The one without a name is for another platform than asked for.
    assert!(matches!(loaded, Err(Error::ImageArchive(ArchiveError::Platform { .. }))), "{loaded:?}");
    let many = store.find("many:1").unwrap();
    assert_eq!(many.config.author.as_deref(), Some("arm"));
    assert!(many.index.is_some());
    assert_eq!(store.find("variant:1").unwrap().id, many.id);

    let layout = Layout {
        files: RefCell::new(layout.files.into_inner().into_iter().filter(|(path, _)| path != "index.json").collect()),
    };
    layout.file("index.json", index(&[named(only, "one.example/only:1")]));
    let loaded = load(&store, &layout.bytes(), None).unwrap();
    assert_eq!(authors(&store, &loaded), ["only"]);
    assert_eq!(loaded[0].names[0].to_string(), "one.example/only:1");
    let other = load(&store, &layout.bytes(), Some("linux/amd64")).unwrap_err();
    assert_eq!(text(&other), "cannot load the archive: no matching manifest for linux/amd64 in it");
}

#[test]
fn what_cannot_be_taken_beside_an_image_is_left_in_the_archive() {
    let Some(scratch) = Scratch::new() else { return };
    let attestation = |layout: &Layout, host: &Value| {
        let proof = layout.blob("application/vnd.in-toto+json", b"{}");
        let mut entry = layout.image_of("unknown", "proof", proof, &sha256(b"{}"));
        entry["platform"] = json!({"os": "unknown", "architecture": "unknown"});
        entry["annotations"] = json!({
            "vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": host["digest"]
        });
        entry
    };
    let foreign = |layout: &Layout| {
        let layer = layout.blob("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", b"elsewhere");
        layout.image_of("s390x", "foreign", layer, &sha256(b"elsewhere"))
    };
    let absent = |layout: &Layout| {
        let layer = json!({"mediaType": media_type::OCI_LAYER, "digest": sha256(b"absent"), "size": 6});
        layout.image_of("riscv64", "absent", layer, &sha256(b"absent"))
    };
    let host = Platform::host().architecture;
    let other = if host == "arm64" { "amd64" } else { "arm64" };
    type Sibling<'a> = &'a dyn Fn(&Layout) -> Value;
    let cases: [(&str, Option<Sibling<'_>>, &[&str]); 3] =
        [("both", None, &["own", "other"]), ("foreign", Some(&foreign), &["own"]), ("absent", Some(&absent), &["own"])];
    for (note, sibling, expected) in cases {
        let store = scratch.store();
        let layout = Layout::default();
        let own = layout.image(&host, "own");
        let mut entries = vec![own.clone(), layout.image(other, "other"), attestation(&layout, &own)];
        entries.extend(sibling.map(|sibling| sibling(&layout)));
        let index = layout.index(&entries);
        layout.file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
        let names = ["docker.io/library/web:1", "docker.io/library/web:2"];
        layout.file("index.json", self::index(&names.map(|name| named(index.clone(), name))));
        let loaded = load(&store, &layout.bytes(), None).unwrap();
        assert_eq!(authors(&store, &loaded), expected, "{note}");
        assert_eq!(loaded[0].names.len(), 2);
    }
}

fn text(error: &Error) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    format!("{error}{source}")
}

#[test]
fn an_image_that_is_here_keeps_its_manifest() {
    let Some(scratch) = Scratch::new() else { return };
    let store = scratch.store();
    let layout = Layout::default();
    let entry = layout.image("amd64", "one");
    layout.file("index.json", index(&[named(entry, "one:1")]));
    let first = load(&store, &layout.bytes(), None).unwrap();
    let manifest = store.find("one:1").unwrap().manifest;
    let docker = Layout::default();
    let tar = layer("one");
    docker.file("config.json", config("amd64", "one", &sha256(&tar)).to_string()).file("layer.tar", &tar);
    docker.file(
        "manifest.json",
        json!([{"Config": "config.json", "RepoTags": ["two:2"], "Layers": ["layer.tar"]}]).to_string(),
    );
    let second = load(&store, &docker.bytes(), None).unwrap();
    assert_eq!(second[0].id, first[0].id);
    assert_eq!(store.find("two:2").unwrap().manifest, manifest);
}

/// Each archive is refused for its reason, and a collection finds nothing that would stay.
#[test]
fn what_strangers_try_is_refused_and_leaves_nothing() {
    let Some(scratch) = Scratch::new() else { return };
    let store = scratch.store();
    let check = |what: &str, layout: &Layout, is_expected: &dyn Fn(&Error) -> bool| {
        let error = load(&store, &layout.bytes(), None).unwrap_err();
        assert!(is_expected(&error), "{what}: {error:?}");
        assert_eq!(store.images().unwrap(), [], "{what}");
        store.collect_all(&|_| false).unwrap();
        assert_eq!(store.layers().list().unwrap(), [], "{what}");
        assert_eq!(scratch.leftovers(), Vec::<std::path::PathBuf>::new(), "{what}");
        let blobs = std::fs::read_dir(scratch.root().join("blobs/sha256")).unwrap().count();
        let partial = std::fs::read_dir(scratch.root().join("blobs/partial")).unwrap().count();
        assert_eq!((blobs, partial), (0, 0), "{what}");
    };
    macro_rules! refused {
        ($what:expr, $layout:expr, $pattern:pat) => {
            check($what, $layout, &|error| matches!(error, $pattern))
        };
    }
    let with = |make: &dyn Fn(&Layout) -> Value| {
        let layout = Layout::default();
        let entry = make(&layout);
        layout.file("index.json", index(&[named(entry, "x:1")]));
        layout
    };

    let layout = with(&|layout| {
        let mut at = layout.image("amd64", "deep");
        for _ in 0..5 {
            at = layout.index(&[at]);
        }
        at
    });
    refused!("nested indexes", &layout, Error::ImageArchive(ArchiveError::Depth { .. }));

    let layout = with(&|layout| {
        let both = json!({"schemaVersion": 2, "config": {}, "layers": [], "manifests": []}).to_string();
        layout.blob(media_type::OCI_MANIFEST, both.as_bytes())
    });
    refused!("a manifest that is an index", &layout, Error::ImageArchive(ArchiveError::Document { .. }));

    let layout = with(&|layout| {
        let mut entry = layout.image("amd64", "type");
        entry["mediaType"] = json!(media_type::DOCKER_MANIFEST);
        entry
    });
    refused!("a manifest of another type", &layout, Error::ImageArchive(ArchiveError::Document { .. }));

    let layout = with(&|layout| {
        let mut entry = layout.image("amd64", "size");
        entry["size"] = json!(1);
        entry
    });
    refused!("a size that lies", &layout, Error::ImageArchive(ArchiveError::BlobSize { expected: 1, .. }));

    let layout = with(&|layout| layout.image("amd64", "digest"));
    for (path, bytes) in layout.files.borrow_mut().iter_mut() {
        if path.starts_with("blobs/") && bytes.starts_with(b"{\"architecture\"") {
            let last = bytes.len() - 2;
            bytes[last] ^= 1;
        }
    }
    refused!("a configuration of another digest", &layout, Error::ImageArchive(ArchiveError::Digest { .. }));

    let layout = with(&|layout| layout.image("amd64", "layer"));
    for (_, bytes) in layout.files.borrow_mut().iter_mut().filter(|(_, bytes)| bytes.starts_with(&[0x1f, 0x8b])) {
        bytes[20] ^= 1;
    }
    refused!("a layer of another digest", &layout, Error::Digest { .. });

    let layout = with(&|layout| {
        let blob = layout.blob(media_type::OCI_LAYER_GZIP, &gzip(&layer("other")));
        layout.image_of("amd64", "diff", blob, &sha256(b"something else"))
    });
    refused!("a layer of another diff id", &layout, Error::DiffId { .. });

    let layout = with(&|layout| layout.image("amd64", "missing"));
    layout.files.borrow_mut().retain(|(_, bytes)| !bytes.starts_with(&[0x1f, 0x8b]));
    refused!("a layer that is not there", &layout, Error::ImageArchive(ArchiveError::Missing { .. }));

    let layout = Layout::default();
    layout.file("index.json", " ".repeat(5 << 20));
    refused!("a giant index", &layout, Error::ImageArchive(ArchiveError::Size { .. }));
    let layout = Layout::default();
    layout.file("index.json", "[".repeat(1 << 20));
    refused!("a deep index", &layout, Error::ImageArchive(ArchiveError::Document { .. }));
    let layout = Layout::default();
    layout.file("manifest.json", "[".repeat(1 << 20));
    refused!("a deep list", &layout, Error::ImageArchive(ArchiveError::Json { .. }));
    let layout = with(&|layout| layout.image("amd64", "layout"));
    layout.file("oci-layout", r#"{"imageLayoutVersion":"2.0.0"}"#);
    refused!("another layout", &layout, Error::ImageArchive(ArchiveError::Layout { .. }));
    let layout = Layout::default();
    layout.file("index.json", index(&[named(layout.image("amd64", "name"), "Not/A:Name!")]));
    refused!("a name that is none", &layout, Error::ImageArchive(ArchiveError::Name { .. }));
    let layout = Layout::default();
    layout.file("repositories", "{}");
    refused!("an ancient archive", &layout, Error::ImageArchive(ArchiveError::Ancient));

    let tar = layer("docker");
    let docker = |config_path: &str, layers: Value, tags: Value| {
        let layout = Layout::default();
        layout.file("config.json", config("amd64", "docker", &sha256(&tar)).to_string()).file("layer.tar", &tar);
        layout.file("manifest.json", json!([{"Config": config_path, "RepoTags": tags, "Layers": layers}]).to_string());
        layout
    };
    let one = json!(["layer.tar"]);
    let none = json!(null);
    let layout = docker("../../etc/passwd", one.clone(), none.clone());
    refused!("a path out of the archive", &layout, Error::ImageArchive(ArchiveError::Climbs { .. }));
    let layout = docker("/etc/passwd", one.clone(), none.clone());
    refused!("an absolute path", &layout, Error::ImageArchive(ArchiveError::Missing { .. }));
    let layout = docker("config.json", json!([]), none.clone());
    refused!("too few layers", &layout, Error::ImageArchive(ArchiveError::Document { .. }));
    let layout = docker("config.json", json!(["config.json"]), none.clone());
    refused!("a layer that is none", &layout, Error::Digest { .. } | Error::Archive { .. });
    let layout = docker("config.json", one.clone(), json!(["x:1", "x@sha256:00"]));
    refused!("a name by half a digest", &layout, Error::ImageArchive(ArchiveError::Name { .. }));
    let layout = docker("config.json", one.clone(), json!(["x"]));
    refused!("a name without a tag", &layout, Error::ImageArchive(ArchiveError::Tag { .. }));
    let wrong = format!("{}.json", "0".repeat(64));
    let layout = docker(&wrong, one, none);
    layout.file(&wrong, config("amd64", "docker", &sha256(&tar)).to_string());
    refused!("a configuration named by another digest", &layout, Error::ImageArchive(ArchiveError::Digest { .. }));
}
