//! Records, names and removal.

use crate::scratch::{Scratch, apply, archive, image, member, tree};
use std::collections::BTreeSet;
use std::fs;
use tare_spec::image::media_type;
use tare_spec::{DiffId, ErrorKind, ImageId, Reference};
use tare_store::tar::{Kind, Member};
use tare_store::{Damaged, Error, Store, sha256};

fn reference(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

fn layer(store: &Store, name: &str) -> DiffId {
    apply(store, &archive(&[Member { size: 10, ..member(name, Kind::File) }])).unwrap()
}

fn unused(_: &DiffId) -> bool {
    false
}

#[test]
fn names_resolve_as_docker_resolves_them() {
    let Some(scratch) = Scratch::new() else { return };
    let store = scratch.store();
    let (web, manifest) = image(&store, &[layer(&store, "web")], "");
    store.tag(&reference("nginx"), &web, None).unwrap();
    store.tag(&reference("127.0.0.1:5000/team/web:1.0"), &web, None).unwrap();
    store.tag(&reference("nginx").at_digest(manifest.clone()), &web, None).unwrap();
    // Images until two ids begin with the same digit: seventeen of them at the most.
    let mut ids = vec![web.clone()];
    while ids.iter().filter(|id| id.0.hex()[..1] == ids.last().unwrap().0.hex()[..1]).count() < 2 {
        ids.push(image(&store, &[], &format!("{}", ids.len())).0);
    }
    let ambiguous = ids.last().unwrap().0.hex()[..1].to_owned();
    let hex = web.0.hex();
    let unique = (1..)
        .map(|len| &hex[..len])
        .find(|prefix| ids.iter().filter(|id| id.0.hex().starts_with(prefix)).count() == 1)
        .unwrap();
    // A tag that looks like the beginning of an id wins over the id.
    let other = ids[1].clone();
    store.tag(&reference(&hex[..12]), &other, None).unwrap();

    let at_digest = format!("nginx@{manifest}");
    let with_both = format!("nginx:ignored@{manifest}");
    for (name, expected) in [
        ("nginx", &web),
        ("nginx:latest", &web),
        ("docker.io/library/nginx", &web),
        ("library/nginx:latest", &web),
        ("127.0.0.1:5000/team/web:1.0", &web),
        (&at_digest, &web),
        (&with_both, &web),
        (hex, &web),
        (web.0.as_str(), &web),
        (&hex[..20], &web),
        (unique, &web),
        (&format!("sha256:{}", &hex[..20]), &web),
        (&hex[..12], &other),
    ] {
        let found = store.resolve(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(found.image.id, *expected, "{name}");
    }
    assert_eq!(store.resolve("nginx").unwrap().reference, Some(reference("nginx:latest")));
    assert_eq!(store.resolve(hex).unwrap().reference, None);
    for (name, text, kind) in [
        ("nginx:1", "No such image: nginx:1", ErrorKind::NotFound),
        ("redis", "No such image: redis:latest", ErrorKind::NotFound),
        ("127.0.0.1:5000/team/web", "No such image: 127.0.0.1:5000/team/web:latest", ErrorKind::NotFound),
        (&"f0".repeat(32), &format!("No such image: {}", "f0".repeat(32)), ErrorKind::NotFound),
        (
            "Nginx",
            "invalid reference format: repository name (library/Nginx) must be lowercase",
            ErrorKind::InvalidParameter,
        ),
        ("a b", "invalid reference format", ErrorKind::InvalidParameter),
        ("", "invalid reference format", ErrorKind::InvalidParameter),
        ("../../etc", "invalid reference format", ErrorKind::InvalidParameter),
    ] {
        let error = store.find(name).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.kind()), (text, kind), "{name}");
    }
    assert!(matches!(store.find(&ambiguous).unwrap_err(), Error::Ambiguous { .. }));

    let record = store.find("nginx").unwrap();
    assert_eq!(record.references, [reference("127.0.0.1:5000/team/web:1.0"), reference("nginx:latest")]);
    assert_eq!(record.repo_digests, [reference(&at_digest)]);
    assert_eq!((record.size, record.layers.len(), record.manifest), (10, 1, manifest));
    assert_eq!(record.config.architecture, "amd64");
    assert_eq!(store.images().unwrap().len(), ids.len());
}

#[test]
fn a_tag_moves_and_the_image_stays() {
    let Some(scratch) = Scratch::new() else { return };
    let store = scratch.store();
    let (old, manifest) = image(&store, &[], "old");
    let (new, _) = image(&store, &[], "new");
    store.tag(&reference("web"), &old, None).unwrap();
    store.tag(&reference("web").at_digest(manifest.clone()), &old, None).unwrap();
    store.tag(&reference("web"), &new, None).unwrap();
    assert_eq!(store.find("web").unwrap().id, new);
    let record = store.find(old.0.as_str()).unwrap();
    assert_eq!((record.references.len(), record.repo_digests.len()), (0, 1));
    let missing = store.tag(&reference("x"), &tare_spec::ImageId(sha256(b"nothing")), None).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

#[test]
fn the_last_tag_takes_the_digests_of_its_repository_along() {
    let Some(scratch) = Scratch::new() else { return };
    let store = scratch.store();
    let (id, manifest) = image(&store, &[], "");
    for name in ["web:1", "web:2", "other:1"] {
        store.tag(&reference(name), &id, None).unwrap();
        store.tag(&reference(name).at_digest(manifest.clone()), &id, None).unwrap();
    }
    assert_eq!(store.untag(&reference("web:1")).unwrap(), [reference("web:1")]);
    let with_digest = [reference("web:2"), reference("web").at_digest(manifest.clone())];
    assert_eq!(store.untag(&reference("web:2")).unwrap(), with_digest);
    assert_eq!(store.untag(&reference("web:2")).unwrap_err().to_string(), "No such image: web:2");
    assert_eq!(store.find("other:1").unwrap().repo_digests, [reference("other").at_digest(manifest)]);
}

#[test]
fn removal_keeps_what_others_share() {
    let Some(scratch) = Scratch::new() else { return };
    let store = scratch.store();
    let [base, first_only, second_only] = ["base", "first", "second"].map(|name| layer(&store, name));
    let (first, first_manifest) = image(&store, &[base.clone(), first_only.clone()], "");
    let (second, _) = image(&store, &[base.clone(), second_only.clone()], "");
    store.tag(&reference("first"), &first, None).unwrap();
    store.tag(&reference("first").at_digest(first_manifest.clone()), &first, None).unwrap();
    store.tag(&reference("second"), &second, None).unwrap();

    let removal = remove(&store, &first, &unused);
    assert_eq!(removal.untagged, [reference("first:latest"), reference("first").at_digest(first_manifest.clone())]);
    assert_eq!(removal.deleted[0], first.0);
    assert!(removal.deleted.contains(&first_only.0) && store.blob(&first_manifest, 1 << 20).is_err());
    assert!(!removal.deleted.contains(&base.0));
    assert!(store.layers().contains(&base).unwrap() && !store.layers().contains(&first_only).unwrap());
    assert!(matches!(store.find("first").unwrap_err(), Error::ImageNotFound { .. }));
    assert_eq!(store.find("second").unwrap().layers, [base.clone(), second_only.clone()]);
    assert_eq!(store.layers().mount(&[base.clone(), second_only.clone()]).unwrap().lower_dirs().len(), 2);

    // A container still needs the lower one.
    remove(&store, &second, &|layer| *layer == base);
    assert!(store.layers().contains(&base).unwrap() && !store.layers().contains(&second_only).unwrap());
    assert!(matches!(store.layers().mount(&[second_only]).unwrap_err(), Error::LayerMissing { .. }));
    let collected = store.collect(&unused).unwrap();
    assert_eq!((collected.layers, collected.layer_bytes), (vec![base], 10));
    assert_eq!(store.remove_image(&second, &BTreeSet::new(), &unused).unwrap_err().kind(), ErrorKind::NotFound);
    for folder in ["blobs/sha256", "layers/sha256", "images/records", "images/references"] {
        assert_eq!(fs::read_dir(scratch.root().join(folder)).unwrap().count(), 0, "{folder}");
    }
    assert_eq!(scratch.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_lease_puts_the_collection_off() {
    let Some(scratch) = Scratch::new() else { return };
    let (store, other) = (scratch.store(), scratch.store());
    let only = layer(&store, "only");
    let (id, _) = image(&store, std::slice::from_ref(&only), "");
    let lease = other.lease().unwrap();
    let removal = remove(&store, &id, &unused);
    assert_eq!(removal.deleted, [id.0]);
    assert!(store.layers().contains(&only).unwrap());
    assert!(store.collect(&unused).unwrap().deferred);
    drop(lease);
    assert_eq!(store.collect(&unused).unwrap().layers, [only]);
}

#[test]
fn an_image_must_be_whole() {
    let Some(scratch) = Scratch::new() else { return };
    let store = scratch.store();
    let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let config = store.put_bytes(media_type::OCI_CONFIG, config).unwrap();
    let put = |document: serde_json::Value| {
        let manifest = store.put_bytes(media_type::OCI_MANIFEST, document.to_string().as_bytes()).unwrap();
        store.put_image(&manifest.digest, None)
    };
    let with = |layers: serde_json::Value| serde_json::json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": layers});
    let one = serde_json::json!([{"mediaType": media_type::OCI_LAYER, "digest": sha256(b""), "size": 0}]);
    assert!(matches!(put(with(one)).unwrap_err(), Error::Document { .. }));
    let mut both = with(serde_json::json!([]));
    both["manifests"] = serde_json::json!([]);
    assert!(matches!(put(both).unwrap_err(), Error::Document { .. }));
    assert!(matches!(store.put_image(&sha256(b"none"), None).unwrap_err(), Error::BlobMissing { .. }));
    let id = put(with(serde_json::json!([]))).unwrap();
    assert_eq!(put(with(serde_json::json!([]))).unwrap(), id);

    let layers = serde_json::json!([{"mediaType": media_type::OCI_LAYER, "digest": sha256(b"x"), "size": 1}]);
    let config = format!(r#"{{"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#, sha256(b"x"));
    let config = store.put_bytes(media_type::OCI_CONFIG, config.as_bytes()).unwrap();
    let mut missing = with(layers);
    missing["config"] = serde_json::to_value(&config).unwrap();
    assert!(matches!(put(missing).unwrap_err(), Error::LayerMissing { .. }));
    assert_eq!(store.images().unwrap().len(), 1);
}

#[test]
fn damaged_and_newer_records_are_named() {
    let Some(scratch) = Scratch::new() else { return };
    let store = scratch.store();
    let (id, manifest) = image(&store, &[], "");
    let path = scratch.root().join("images/records").join(format!("sha256-{}.json", id.0.hex()));
    let good = fs::read_to_string(&path).unwrap();
    fs::write(&path, good.replace("\"version\": 1", "\"version\": 2")).unwrap();
    assert!(matches!(store.images().unwrap_err(), Error::Version { version: 2, .. }));
    fs::write(&path, &good[..20]).unwrap();
    let error = store.images().unwrap_err();
    assert!(matches!(error, Error::Record { .. }) && error.to_string().contains(id.0.hex()), "{error}");
    fs::write(&path, good).unwrap();
    // A blob that the disk has changed is not taken for what it was.
    let blob = scratch.root().join("blobs/sha256").join(manifest.hex());
    fs::write(&blob, "{}").unwrap();
    assert!(matches!(store.manifest(&manifest).unwrap_err(), Error::Damaged { .. }));
}

#[test]
fn a_check_finds_what_is_damaged() {
    let Some(scratch) = Scratch::new() else { return };
    let store = scratch.store();
    let [good, spoilt, gone] = ["good", "spoilt", "gone"].map(|name| layer(&store, name));
    let (id, manifest) = image(&store, &[good.clone(), spoilt.clone(), gone.clone()], "");
    let (other, other_manifest) = image(&store, &[good], "other");
    store.tag(&reference("web"), &id, None).unwrap();
    store.tag(&reference("other"), &other, None).unwrap();
    let before = store.check(&|_| {}).unwrap();
    assert_eq!((before.damages, before.layers, before.images), (vec![], 3, 2));

    let path = tree(&store, &spoilt).join("spoilt");
    let length = fs::metadata(&path).unwrap().len();
    fs::File::options().write(true).open(&path).unwrap().set_len(length - 1).unwrap();
    store.layers().remove(&gone).unwrap();
    fs::write(scratch.root().join("blobs/sha256").join(other_manifest.hex()), "{}").unwrap();
    fs::remove_file(scratch.root().join("images/records").join(format!("sha256-{}.json", other.0.hex()))).unwrap();
    let record = scratch.root().join("images/records").join(format!("sha256-{}.json", sha256(b"x").hex()));
    fs::write(&record, "{").unwrap();
    let found = store.check(&|_| {}).unwrap().damages.into_iter().map(|damage| damage.object).collect::<Vec<_>>();
    let expected = [
        Damaged::Blob(other_manifest),
        Damaged::Layer(spoilt),
        Damaged::Record(record),
        Damaged::Layer(gone),
        Damaged::Reference(reference("other:latest")),
    ];
    assert_eq!(found, expected);
    assert!(store.manifest(&manifest).is_ok());
}

#[test]
fn an_image_that_got_a_name_meanwhile_stays() {
    let Some(scratch) = Scratch::new() else { return };
    let store = scratch.store();
    let (id, manifest) = image(&store, &[], "");
    let (known, late) = (reference("known:1"), reference("late:1"));
    let named = store.put_named_image(&manifest, None, std::slice::from_ref(&known)).unwrap();
    assert_eq!(named, (id.clone(), vec![]));
    store.tag(&late, &id, None).unwrap();
    let seen = BTreeSet::from([known.clone()]);
    assert_eq!(store.remove_image(&id, &seen, &unused).unwrap(), None);
    assert_eq!(store.find("known:1").unwrap().references, [known, late]);
    assert!(!remove(&store, &id, &unused).untagged.is_empty());
}

/// Removes an image with the names that it has.
fn remove(store: &Store, id: &ImageId, in_use: &dyn Fn(&DiffId) -> bool) -> tare_store::Removal {
    let image = store.find(&id.to_string()).unwrap();
    let known = image.references.into_iter().chain(image.repo_digests).collect();
    store.remove_image(id, &known, in_use).unwrap().unwrap()
}
