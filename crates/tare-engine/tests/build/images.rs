//! The images that builds start from.

use crate::host::{Host, loopback_up};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Barrier, Mutex};
use tare_build::executor::{BaseImage, Executor, ExecutorError, WantedImage};
use tare_engine::build::{EngineExecutor, ExecutorOptions};
use tare_engine::registry::{self, Event, Limits, ServerOptions};
use tare_spec::{Digest, ErrorKind, Platform};
use tare_store::sha256;

crate::cases! {
    the_built_in_image_is_found, an_image_is_pulled_once, each_platform_has_its_own,
    a_pull_ends_with_the_build, a_name_stays_what_it_was, an_image_of_another_platform_is_refused, ids_are_names_too,
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A registry in this process, which ends with it.
struct Registry {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Registry {
    fn start(host: &Host) -> Self {
        loopback_up();
        let options = ServerOptions {
            address: "127.0.0.1:0".parse().unwrap(),
            tls: None,
            htpasswd: None,
            read_only: false,
            proxy: None,
            limits: Limits::default(),
        };
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&asked);
        let told = move |event| {
            if let Event::Access(access) = event {
                log.lock().unwrap().push(format!("{} {}", access.method, access.target));
            }
        };
        let server = registry::open(&host.path("registry"), options, Arc::new(told)).unwrap();
        let address = server.address();
        std::thread::spawn(move || server.run().unwrap());
        Self { address, asked }
    }

    fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    fn send(&self, method: &str, path: &str, kind: &str, body: &[u8]) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    }

    fn blob(&self, bytes: &[u8]) -> Digest {
        let digest = sha256(bytes);
        self.send("POST", &format!("/v2/a/blobs/uploads/?digest={digest}"), "application/octet-stream", bytes);
        digest
    }

    /// Pushes an image of one layer; its manifest's digest and size.
    fn image(&self, platform: &str, tag: &str) -> (Digest, usize) {
        let mut layer = tare_store::tar::Writer::new(Vec::new());
        let member = tare_store::tar::Member {
            path: platform.replace('/', "-").into_bytes(),
            kind: tare_store::tar::Kind::Directory,
            link: Vec::new(),
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: Default::default(),
            size: 0,
            device: (0, 0),
            attributes: Default::default(),
        };
        layer.append(&member, &mut std::io::empty()).unwrap();
        let layer = layer.finish().unwrap();
        let diff_id = self.blob(&layer);
        let (os, architecture) = platform.split_once('/').unwrap();
        let config = format!(
            r#"{{"os":"{os}","architecture":"{architecture}","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
        );
        let config_digest = self.blob(config.as_bytes());
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config_digest}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{diff_id}","size":{}}}]}}"#,
            config.len(),
            layer.len()
        );
        self.send("PUT", &format!("/v2/a/manifests/{tag}"), MANIFEST, manifest.as_bytes());
        (sha256(manifest.as_bytes()), manifest.len())
    }

    /// Pushes an index of images for these platforms.
    fn index(&self, platforms: &[&str], tag: &str) -> Digest {
        let entries: Vec<String> = platforms
            .iter()
            .map(|platform| {
                let (digest, size) = self.image(platform, &format!("{tag}-{}", platform.replace('/', "-")));
                let (os, architecture) = platform.split_once('/').unwrap();
                format!(
                    r#"{{"mediaType":"{MANIFEST}","digest":"{digest}","size":{size},"platform":{{"os":"{os}","architecture":"{architecture}"}}}}"#
                )
            })
            .collect();
        let index = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#, entries.join(","));
        self.send("PUT", &format!("/v2/a/manifests/{tag}"), INDEX, index.as_bytes());
        sha256(index.as_bytes())
    }

    /// What was asked for since the last time.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn platform(text: &str) -> Platform {
    Platform::parse(text).unwrap()
}

fn image(executor: &EngineExecutor<'_>, name: &str, platform: &str) -> Result<BaseImage, ExecutorError> {
    executor.image(&WantedImage { name, platform: &self::platform(platform), step: 7 })
}

/// The host's platform and another one.
fn two() -> [String; 2] {
    let host = Platform::host().to_string();
    let other = if host == "linux/arm64" { "linux/amd64" } else { "linux/arm64" };
    [host, other.to_owned()]
}

fn the_built_in_image_is_found() {
    let host = Host::new();
    let executor = host.executor();
    let found = image(&executor, "hello", &two()[0]).unwrap();
    assert!(found.resolved.starts_with("docker.io/library/hello:latest@sha256:"), "{}", found.resolved);
    assert_eq!(found.layers.len(), found.config.rootfs.diff_ids.len());
    assert!(image(&executor, "hello", "linux/s390x").is_err());
}

fn an_image_is_pulled_once() {
    let host = Host::new();
    let registry = Registry::start(&host);
    let index = registry.index(&[&two()[0], &two()[1]], "v1");
    registry.asked();
    let told = Mutex::new(BTreeSet::new());
    let options = ExecutorOptions {
        pull_progress: &|bytes| {
            assert!(bytes.current <= bytes.total);
            told.lock().unwrap().insert((bytes.step, bytes.layer.to_owned()));
        },
        ..ExecutorOptions::default()
    };
    let executor = host.engine.executor(options);
    let name = registry.name("a:v1");
    let resolved: BTreeSet<String> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| image(&executor, &name, &two()[0]).unwrap().resolved)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(resolved, BTreeSet::from([format!("{name}@{index}")]));
    let manifests = registry.asked().into_iter().filter(|asked| asked.contains("/manifests/v1")).count();
    assert_eq!(manifests, 1);
    let layer = image(&executor, &name, &two()[0]).unwrap().layers[0].digest.to_string();
    assert_eq!(told.lock().unwrap().clone(), BTreeSet::from([(7, layer)]));
    // Another build finds it in the store, and says the same of it.
    assert_eq!(image(&host.executor(), &name, &two()[0]).unwrap().resolved, format!("{name}@{index}"));
    assert_eq!(registry.asked(), Vec::<String>::new());
}

fn a_pull_ends_with_the_build() {
    let host = Host::new();
    let registry = Registry::start(&host);
    registry.image(&two()[0], "v1");
    let (began, cancelled) = (Barrier::new(2), Barrier::new(2));
    let options = ExecutorOptions {
        pull_progress: &|_| {
            began.wait();
            cancelled.wait();
        },
        ..ExecutorOptions::default()
    };
    let executor = host.engine.executor(options);
    let name = registry.name("a:v1");
    std::thread::scope(|scope| {
        let pull = scope.spawn(|| image(&executor, &name, &two()[0]));
        began.wait();
        executor.cancel();
        cancelled.wait();
        assert_eq!(pull.join().unwrap().err().unwrap().kind, ErrorKind::Cancelled);
    });
    assert_eq!(host.engine.images(&Default::default()).unwrap().len(), 0);
    // What has come serves the next try.
    image(&host.executor(), &name, &two()[0]).unwrap();
}

fn each_platform_has_its_own() {
    let host = Host::new();
    let registry = Registry::start(&host);
    let [own, other] = two();
    let index = registry.index(&[&own, &other], "v1");
    let name = registry.name("a:v1");
    let executor = host.executor();
    for wanted in [&own, &other, &own] {
        let found = image(&executor, &name, wanted).unwrap();
        assert_eq!((found.config.platform().to_string(), found.resolved), (wanted.clone(), format!("{name}@{index}")));
    }
    assert!(!registry.asked().is_empty());
    // Both are there now.
    for wanted in [&own, &other] {
        image(&host.executor(), &name, wanted).unwrap();
    }
    assert_eq!(registry.asked(), Vec::<String>::new());
    // The name still stands for what runs here.
    assert_eq!(host.engine.image(&name).unwrap().config.platform().to_string(), own);
    assert_eq!(image(&host.executor(), &name, "linux/s390x").err().unwrap().kind, ErrorKind::NotFound);
    // One that is wanted for another platform only gets no name that people use.
    registry.index(&[&own, &other], "v2");
    let name = registry.name("a:v2");
    image(&host.executor(), &name, &other).unwrap();
    assert!(host.engine.image(&name).is_err());
}

fn a_name_stays_what_it_was() {
    let host = Host::new();
    let registry = Registry::start(&host);
    let [own, other] = two();
    let first = registry.image(&own, "latest").0;
    let name = registry.name("a");
    let executor = host.executor();
    assert_eq!(image(&executor, &name, &own).unwrap().manifest, first);
    let second = registry.index(&[&own, &other], "latest");
    // As long as the executor lives, and without being told to look, also afterwards.
    assert_eq!(image(&executor, &name, &own).unwrap().manifest, first);
    assert_eq!(image(&host.executor(), &name, &own).unwrap().manifest, first);
    let pulling = host.engine.executor(ExecutorOptions { pull: true, ..ExecutorOptions::default() });
    assert_eq!(image(&pulling, &name, &own).unwrap().resolved, format!("{name}:latest@{second}"));
    // What a digest names is not looked for again.
    registry.asked();
    image(&pulling, &format!("{name}@{first}"), &own).unwrap();
    assert_eq!(registry.asked(), Vec::<String>::new());
}

fn an_image_of_another_platform_is_refused() {
    let host = Host::new();
    let registry = Registry::start(&host);
    let [own, other] = two();
    registry.image(&other, "only");
    let name = registry.name("a:only");
    let error = image(&host.executor(), &name, &own).err().unwrap();
    assert!(error.to_string().contains(&format!("({other}) does not match")), "{error}");
    // Also where it is there and its registry does not have it any more.
    let _ = host.engine.executor(ExecutorOptions::default());
    let host = Host::new();
    image(&host.executor(), "hello", &own).unwrap();
    host.engine.tag_image("hello", "127.0.0.1:1/mine").unwrap();
    assert!(image(&host.executor(), "127.0.0.1:1/mine", &other).is_err());
    assert!(image(&host.executor(), "127.0.0.1:1/mine", &own).is_ok());
}

fn ids_are_names_too() {
    let host = Host::new();
    let own = &two()[0];
    image(&host.executor(), "hello", own).unwrap();
    let id = host.engine.image("hello").unwrap().id.to_string();
    let found = image(&host.executor(), &id, own).unwrap();
    assert_eq!(found.resolved, id);
    let error = image(&host.executor(), &id, &two()[1]).err().unwrap();
    assert!(error.to_string().contains("does not match"), "{error}");
    for wrong in ["", "UPPER", "a b", "sha256:xyz"] {
        assert!(image(&host.executor(), wrong, own).is_err(), "{wrong}");
    }
}
