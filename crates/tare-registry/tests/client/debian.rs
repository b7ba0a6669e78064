//! The client against `docker-registry` of Debian's package, the reference implementation of the protocol.

use crate::fixture::{blob, descriptor, digest, options};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Cursor, Read};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use tare_registry::{Client, ClientOptions, Credential, Credentials, Error};
use tare_spec::Reference;
use tare_spec::image::media_type::OCI_MANIFEST;

/// A running registry, with its files.
struct Registry {
    process: Child,
    log: Option<JoinHandle<()>>,
    address: String,
    _folder: tempfile::TempDir,
}

impl Registry {
    /// Starts a registry at a port of the kernel's choice; `None` where the package is not installed and nobody
    /// insists.
    fn start(htpasswd: Option<&str>) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name).display().to_string();
        let mut config = format!(
            "version: 0.1\nlog: {{level: info, formatter: json}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n",
            file("data")
        );
        if let Some(htpasswd) = htpasswd {
            fs::write(file("htpasswd"), htpasswd).unwrap();
            config.push_str(&format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", file("htpasswd")));
        }
        fs::write(file("config.yml"), config).unwrap();
        let log = File::create(file("log")).unwrap();
        let started = Command::new("docker-registry")
            .args(["serve", &file("config.yml")])
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::piped())
            .spawn();
        let mut process = match started {
            Ok(process) => process,
            Err(error) => {
                assert!(std::env::var_os("TARE_REQUIRE_ROOT").is_none(), "docker-registry: {error}");
                eprintln!("skipped: docker-registry: {error}");
                return None;
            }
        };
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = lines.by_ref().map(Result::unwrap).find_map(|line| {
            let (_, address) = line.split_once("listening on ")?;
            Some(address.split(['"', ',']).next().unwrap().to_owned())
        });
        let log = std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Some(Self { process, log: Some(log), address: address.unwrap(), _folder: folder })
    }

    fn reference(&self, rest: &str) -> Reference {
        Reference::parse(&format!("{}/{rest}", self.address)).unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.log.take().unwrap().join().unwrap();
    }
}

fn upload(client: &Client, reference: &Reference, content: &[u8]) -> Result<u64, Error> {
    let sent = AtomicU64::new(0);
    let open = |offset: u64| {
        let mut reader = Cursor::new(content.to_vec());
        reader.set_position(offset);
        Ok(Box::new(reader) as Box<dyn Read + Send>)
    };
    client.upload_blob(reference, &descriptor(content), &open, &|bytes| sent.store(bytes, Ordering::Relaxed))?;
    Ok(sent.into_inner())
}

fn push_and_pull(client: &Client, registry: &Registry) {
    let reference = registry.reference("team/web:1");
    let layer: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    for content in [&layer[..], config, b""] {
        assert!(!client.has_blob(&reference, &descriptor(content)).unwrap());
        assert_eq!(upload(client, &reference, content).unwrap(), content.len() as u64);
        assert!(client.has_blob(&reference, &descriptor(content)).unwrap());
        assert_eq!(blob(client, &reference, content), content);
    }
    let mut rest = Vec::new();
    client.blob_from(&reference, &descriptor(&layer), 3_999_990).unwrap().read_to_end(&mut rest).unwrap();
    assert_eq!(rest, &layer[3_999_990..]);

    let (layer, config) = (descriptor(&layer), descriptor(config));
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{}","size":{}}}]}}"#,
        config.digest, config.size, layer.digest, layer.size
    );
    let put = client.put_manifest(&reference, OCI_MANIFEST, manifest.as_bytes()).unwrap();
    assert_eq!(put, digest(manifest.as_bytes()));
    let response = client.manifest(&reference).unwrap();
    assert_eq!((response.bytes, response.media_type.as_str()), (manifest.into_bytes(), OCI_MANIFEST));
    assert_eq!(client.tags(&reference).unwrap(), ["1"]);

    let copy = registry.reference("copy/web:2");
    assert!(client.mount_blob(&copy, &layer.digest, "team/web").unwrap());
    assert!(client.has_blob(&copy, &layer).unwrap());
    assert!(!client.mount_blob(&copy, &digest(b"missing"), "team/web").unwrap());
    assert_eq!(client.catalog(copy.registry()).unwrap(), ["copy/web", "team/web"]);
    assert!(client.referrers(&reference.at_digest(put), None).unwrap().is_empty());
}

#[test]
fn push_and_pull_without_credentials() {
    let Some(registry) = Registry::start(None) else { return };
    let client = Client::new(options());
    push_and_pull(&client, &registry);
    // What does not match its digest is refused, and the upload is taken back.
    let wrong = descriptor(b"other");
    let open = |_| Ok(Box::new(&b"wrong"[..]) as Box<dyn Read + Send>);
    let error = client.upload_blob(&registry.reference("bad"), &wrong, &open, &|_| {}).unwrap_err();
    assert!(matches!(error, Error::Status { status: 400, .. }), "{error:?}");
}

struct User(&'static str);

impl Credentials for User {
    fn for_registry(&self, _registry: &str) -> Result<Option<Credential>, Error> {
        Ok(Some(Credential::Password { username: "user".to_owned(), password: self.0.to_owned() }))
    }
}

#[test]
fn push_and_pull_with_a_password() {
    // htpasswd -Bbn user secret
    let Some(registry) = Registry::start(Some("user:$2y$05$/B/scfMGnjLetqmgX3/ujuRY9aK0r2Ko87aBDqLtGv9EBlVGHeuZ2\n"))
    else {
        return;
    };
    let with = |password| Client::new(ClientOptions { credentials: Box::new(User(password)), ..options() });
    push_and_pull(&with("secret"), &registry);
    let error = upload(&with("wrong"), &registry.reference("web"), b"x").unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error:?}");
    let client = Client::new(options());
    assert!(client.login(&registry.address, "user", "secret").unwrap().secure);
    let error = client.login(&registry.address, "user", "wrong").unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error:?}");
    assert!(matches!(upload(&client, &registry.reference("web"), b"x"), Err(Error::NoCredentials { .. })));
}

#[test]
fn several_threads_upload_at_once() {
    let Some(registry) = Registry::start(None) else { return };
    let client = Client::new(options());
    std::thread::scope(|scope| {
        for number in 0..6_u8 {
            let (client, reference) = (client.clone(), registry.reference("web"));
            scope.spawn(move || {
                let content = vec![number; 3 << 20];
                upload(&client, &reference, &content).unwrap();
                assert_eq!(blob(&client, &reference, &content), content);
            });
        }
    });
}
