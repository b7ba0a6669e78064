//! The main job, start to end, on a real image: the first thing that must work.

use crate::host::{self, Host, Registry, eventually};
use std::fs;

#[test]
fn a_web_server_from_pull_to_rmi() {
    let Some(host) = Host::new() else { return };
    // An empty registry, pushed to by somebody else's tool.
    let storage = host.folder().join("registry");
    let registry = Registry::start(&host, &storage, false);
    registry.push(&host.network_namespace(), &host::layout("web"), "web");
    let image = "127.0.0.1:5000/web";

    let pulled = host.tare(&["pull", image]).ok();
    assert!(pulled.contains("Status: Downloaded newer image for 127.0.0.1:5000/web:latest"), "{pulled}");
    assert!(pulled.contains("Digest: sha256:"), "{pulled}");
    let images = host.tare(&["images"]).ok();
    assert!(images.lines().any(|line| line.starts_with("127.0.0.1:5000/web") && line.contains("latest")), "{images}");

    let id = host.tare(&["run", "-p", "3000:80", "-d", "--rm", "--name", "web", image]).ok();
    assert_eq!(id.len(), 64, "{id}");
    let page = host.get("http://127.0.0.1:3000");
    assert!(page.contains("Welcome to nginx!"), "{page}");

    let table = host.tare(&["ps"]).ok();
    let line = table.lines().nth(1).unwrap_or_else(|| panic!("{table}"));
    assert!(line.starts_with(&id[..12]), "{table}");
    for part in [image, "\"nginx -g 'daemon of…\"", "Up ", "0.0.0.0:3000->80/tcp", "web"] {
        assert!(line.contains(part), "{part:?} is not in {table}");
    }

    let mut logs = host.tare(&["logs", "-f", "web"]).spawn();
    logs.stdout.expect("\"GET / HTTP/1.1\" 200");
    host.get("http://127.0.0.1:3000/?while-following");
    logs.stdout.expect("while-following");

    let mut shell = host.terminal(&["exec", "-it", "web", "sh"]);
    shell.expect("# ");
    shell.write("tty; stty size; cat /proc/1/comm; echo $((6 * 7))\n");
    shell.expect("/dev/pts/");
    shell.expect("40 100");
    shell.expect("nginx");
    shell.expect("42");
    shell.write("exit 4\n");
    assert_eq!(shell.wait(), 4);

    let pid = host.pid("web");
    assert_eq!(host.tare(&["stop", "web"]).ok(), "web");
    assert_eq!(logs.wait(), 0, "logs -f ends with its container");
    eventually("the process is gone", || !fs::exists(format!("/proc/{pid}")).unwrap());
    eventually("the container is gone", || host.tare(&["ps", "-a", "-q"]).ok().is_empty());
    host.assert_clean();
    host.command("curl", &["-sS", "--max-time", "5", "http://127.0.0.1:3000"]).fails(7);

    let removed = host.tare(&["rmi", image]).ok();
    assert!(removed.contains("Untagged: 127.0.0.1:5000/web:latest"), "{removed}");
    assert!(removed.contains("Deleted: sha256:"), "{removed}");
    assert_eq!(host.tare(&["images", "-q"]).ok(), "");
    let layers = fs::read_dir(host.root().join("layers/sha256")).unwrap().count();
    let blobs = fs::read_dir(host.root().join("blobs/sha256")).unwrap().count();
    assert_eq!((layers, blobs), (0, 0), "layers and blobs go with their image");
}
