//! Tables, filters and formats of `ps` and `images`.

use crate::host::Host;

#[test]
fn ps_shows_what_docker_shows() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let empty = host.tare(&["ps"]).ok();
    assert_eq!(empty, "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES");
    let running = host.sleeper("running", &[]);
    host.tare(&["run", "--name", "ended", &image, "sh", "-c", "exit 3"]).fails(3);
    host.tare(&["create", "--name", "created", &image, "true"]).ok();

    let names = |arguments: &[&str]| host.tare(&[&["ps", "--format", "{{.Names}}"], arguments].concat()).ok();
    assert_eq!(names(&[]), "running");
    assert_eq!(names(&["-a"]), "created\nended\nrunning", "the newest first");
    assert_eq!(names(&["-a", "--filter", "status=exited"]), "ended");
    assert_eq!(names(&["-a", "--filter", "status=created", "--filter", "status=running"]), "created\nrunning");
    assert_eq!(names(&["-a", "--filter", "name=end"]), "ended");
    assert_eq!(names(&["-a", "--filter", &format!("id={}", &running[..6])]), "running");
    assert_eq!(host.tare(&["ps", "-q"]).ok(), &running[..12]);
    assert_eq!(host.tare(&["ps", "-q", "--no-trunc"]).ok(), running);
    assert_eq!(host.tare(&["ps", "-a", "-q"]).ok().lines().count(), 3);

    let status = host.tare(&["ps", "-a", "--format", "{{.Names}}: {{.Status}}"]).ok();
    assert!(status.contains("created: Created"), "{status}");
    assert!(status.contains("ended: Exited (3) "), "{status}");
    assert!(status.contains("running: Up "), "{status}");
    let json = host.tare(&["ps", "--format", "json"]).ok();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((value["Names"].as_str(), value["State"].as_str()), (Some("running"), Some("running")), "{json}");
    let table = host.tare(&["ps", "-a", "--format", "table {{.Names}}\t{{.Image}}"]).ok();
    assert_eq!(table.lines().next().unwrap().split_whitespace().collect::<Vec<_>>(), ["NAMES", "IMAGE"]);
    assert!(host.tare(&["ps"]).ok().contains("\"sleep 1000000\""));
    let bad = host.tare(&["ps", "--filter", "colour=red"]).fails(1);
    assert!(bad.stderr.contains("invalid filter 'colour'"), "{}", bad.stderr);
}

#[test]
fn images_tag_and_rmi() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let id = host.tare(&["images", "-q", "--no-trunc"]).ok();
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    host.tare(&["tag", &image, "mine:v1"]).ok();
    let listed = host.tare(&["images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"]).ok();
    let mut lines: Vec<&str> = listed.lines().collect();
    lines.sort_unstable();
    let short = &id["sha256:".len()..][..12];
    assert_eq!(lines, [format!("127.0.0.1:5000/busybox:latest {short}"), format!("mine:v1 {short}")]);
    assert_eq!(host.tare(&["run", "--rm", "mine:v1", "echo", "by another name"]).ok(), "by another name");
    assert_eq!(host.tare(&["run", "--rm", short, "echo", "by id"]).ok(), "by id");

    assert_eq!(host.tare(&["rmi", &image]).ok().lines().next().unwrap(), "Untagged: 127.0.0.1:5000/busybox:latest");
    host.tare(&["create", "--name", "user", "mine:v1"]).ok();
    let used = host.tare(&["rmi", "mine:v1"]).fails(1);
    assert!(
        used.stderr.contains("conflict: unable to remove repository reference \"mine:v1\" (must force)"),
        "{}",
        used.stderr
    );
    host.tare(&["rm", "user"]).ok();
    let removed = host.tare(&["rmi", "mine:v1"]).ok();
    assert!(removed.contains("Untagged: mine:v1") && removed.contains(&format!("Deleted: {id}")), "{removed}");
    assert_eq!(host.tare(&["images", "-q"]).ok(), "");
    let unknown = host.tare(&["rmi", "mine:v1"]).fails(1);
    assert!(unknown.stderr.contains("No such image: mine:v1"), "{}", unknown.stderr);
}

#[test]
fn images_in_all_forms() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    host.tare(&["tag", &image, "mine:v1"]).ok();
    let listed = host.tare(&["images"]).ok();
    let lines: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["IMAGE", "ID", "DISK", "USAGE", "CONTENT", "SIZE", "EXTRA"]);
    assert_eq!((lines[1][0], lines[2][0], lines.len()), (format!("{image}:latest").as_str(), "mine:v1", 3), "{listed}");
    assert!(host.tare(&["images", "--tree"]).ok().contains("└─ linux/amd64"));
    let table = host.tare(&["images", "--format", "table"]).ok();
    assert!(table.starts_with("REPOSITORY "), "{table}");
    let digest = host.tare(&["images", "--digests", "--format", "{{.Tag}} {{.Digest}}"]).ok();
    assert!(digest.starts_with("latest sha256:") && digest.ends_with("v1 <none>"), "{digest}");
    let count = |filter: &str| host.tare(&["images", "-q", "--filter", filter]).ok().lines().count();
    assert_eq!((count("reference=mine"), count("reference=min?:*"), count("reference=other")), (1, 1, 0));
    assert_eq!((count("dangling=true"), count("until=1ms"), count("label=none")), (0, 2, 0));
    assert_eq!((count("before=mine:v1"), count("since=mine:v1")), (0, 0));
    let bad = host.tare(&["images", "--filter", "dangling=maybe"]).fails(1);
    assert_eq!(bad.stderr, "Error: invalid filter 'dangling=[maybe]'\n");
    host.tare(&["create", "mine:v1"]).ok();
    assert_eq!(host.tare(&["images", "--format", "{{.Containers}}", "mine"]).ok(), "1");

    let steps = host.tare(&["history", &image]).ok();
    assert!(steps.starts_with("IMAGE          CREATED"), "{steps}");
    assert_eq!(
        host.tare(&["history", "-q", &image]).ok().lines().next(),
        Some(&host.tare(&["images", "-q", "mine"]).ok()[..])
    );
    assert_eq!(host.inspect(&image, "/Os"), "linux");
    assert!(host.inspect(&image, "/Descriptor/mediaType").as_str().unwrap().contains("manifest"));
    let other = host.tare(&["image", "inspect", "--platform", "linux/arm64", &image]).fails(1);
    assert!(other.stderr.contains("does not match the specified platform (linux/arm64)"), "{}", other.stderr);
}

#[test]
fn inspect_and_format() {
    let Some(host) = Host::new() else { return };
    let id = host.sleeper("looked-at", &["-e", "A=1", "-p", "127.0.0.1:3000:80"]);
    assert_eq!(host.inspect("looked-at", "/Name"), "/looked-at");
    assert_eq!(host.inspect("looked-at", "/State/Status"), "running");
    assert_eq!(host.inspect("looked-at", "/Path"), "sleep");
    assert_eq!(host.inspect("looked-at", "/NetworkSettings/Ports/80~1tcp/0/HostPort"), "3000");
    assert_eq!(host.tare(&["inspect", "-f", "{{.Id}} {{.State.Running}}", "looked-at"]).ok(), format!("{id} true"));
    let image = host.inspect(&host.image("busybox"), "/Config/Env");
    assert!(image.as_array().unwrap().iter().any(|entry| entry == "IMAGE=busybox"), "{image}");
    let unknown = host.tare(&["inspect", "nothing"]).fails(1);
    assert_eq!(unknown.stdout.trim(), "[]");
    assert!(unknown.stderr.contains("No such object: nothing"), "{}", unknown.stderr);
}
