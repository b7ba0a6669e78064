//! What takes space, and giving it back: `system df`, the prunes, `system check`.

use crate::host::Host;
use std::fs;
use std::path::{Path, PathBuf};

/// Bytes that everything below the root directory occupies, as du counts.
fn du(host: &Host) -> u64 {
    let root = host.root().display().to_string();
    host.command("du", &["-s", "-B1", &root]).ok().split_whitespace().next().unwrap().parse().unwrap()
}

/// What `df` says everything takes.
fn df(host: &Host) -> u64 {
    let sizes = host.tare(&["system", "df", "--format", "{{.SizeBytes}}"]).ok();
    sizes.lines().map(|size| size.parse::<u64>().unwrap()).sum()
}

#[test]
fn df_agrees_with_du_to_the_block() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    assert_eq!(df(&host), du(&host));
    host.pull("web");
    host.tare(&["run", "--name", "writer", &image, "sh", "-c", "head -c 300000 /dev/zero > /data; echo said"]).ok();
    assert_eq!(df(&host), du(&host));
    let lines = host.tare(&["system", "df"]).ok();
    let words: Vec<Vec<&str>> = lines.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]);
    assert_eq!((words[1][0], words[1][1], words[1][2]), ("Images", "2", "1"), "{lines}");
    assert_eq!((words[2][0], words[2][1], words[2][2]), ("Containers", "1", "0"), "{lines}");
    let detail = host.tare(&["system", "df", "-v"]).ok();
    assert!(detail.starts_with("Images space usage:\n\nREPOSITORY") && detail.contains("writer"), "{detail}");
    assert!(!detail.contains("Unfinished downloads") && !detail.contains("Registry"), "{detail}");
    // A registry below the root is neither images nor containers.
    let containers = || host.tare(&["system", "df", "--format", "{{.Type}} {{.SizeBytes}}"]).ok();
    let before = containers().lines().nth(1).unwrap().to_owned();
    fs::create_dir_all(host.root().join("registry/blobs")).unwrap();
    fs::write(host.root().join("registry/blobs/one"), [1; 100_000]).unwrap();
    let after = containers();
    assert_eq!(after.lines().nth(1), Some(&*before));
    assert!(after.lines().nth(4).is_some_and(|line| line.starts_with("Registry 1")), "{after}");
    assert_eq!(df(&host), du(&host));
    assert!(host.tare(&["system", "df", "-v"]).ok().contains("\nRegistry space usage: 1"));
}

#[test]
fn a_dry_run_says_exactly_what_the_prune_then_does() {
    let Some(host) = Host::new() else { return };
    let (busybox, web) = (host.pull("busybox"), host.pull("web"));
    let old = host.inspect(&busybox, "/Id").as_str().unwrap().to_owned();
    // The name moves on and leaves the old image dangling.
    host.tare(&["tag", &web, &busybox]).ok();
    assert_eq!(host.tare(&["images", "-q", "--no-trunc", "--filter", "dangling=true"]).ok(), old);
    assert!(!host.tare(&["images", "-q", "--no-trunc"]).ok().contains(&old));

    let before = du(&host);
    let plan = host.tare(&["image", "prune", "--dry-run"]).ok();
    assert_eq!(du(&host), before, "{plan}");
    assert!(plan.contains(&old), "{plan}");
    let refused = host.tare(&["image", "prune"]).input("n\n").output();
    assert_eq!((refused.code, refused.stderr.as_str()), (0, ""));
    assert!(refused.stdout.ends_with("Are you sure you want to continue? [y/N] "), "{}", refused.stdout);
    let pruned = host.tare(&["image", "prune"]).input("y\n").output().stdout;
    assert!(pruned.contains(&format!("deleted: {old}")), "{pruned}");
    let total = |text: &str| text.lines().last().unwrap().split(": ").last().unwrap().to_owned();
    assert_eq!(total(&plan), total(&pruned));
    for line in plan.lines().filter(|line| line.starts_with("layer")) {
        assert!(pruned.contains(line.split_whitespace().nth(1).unwrap()), "{line}\n{pruned}");
    }
    assert!(host.tare(&["image", "prune", "-f"]).ok().ends_with("Total reclaimed space: 0B"));

    // What a container has stays, until the container goes.
    host.tare(&["create", "--name", "user", &web]).ok();
    host.tare(&["image", "prune", "-a", "-f"]).ok();
    assert_eq!(host.tare(&["images", "-q", &web]).ok().lines().count(), 1);
    host.tare(&["image", "prune", "-a", "-f", "--filter", "until=24h"]).ok();
    let plan = host.tare(&["system", "prune", "-a", "--dry-run"]).ok();
    assert!(plan.contains("(user)") && plan.contains("tag"), "{plan}");
    let kept = host.tare(&["system", "prune", "-f", "--filter", "label=none"]).ok();
    assert!(kept.ends_with("Total reclaimed space: 0B"), "{kept}");
    let pruned = host.tare(&["system", "prune", "-a", "-f"]).ok();
    assert!(pruned.contains("Deleted Containers:") && pruned.contains("Deleted Images:"), "{pruned}");
    assert_eq!(total(&plan), total(&pruned));
    assert_eq!(host.tare(&["ps", "-a", "-q"]).ok() + &host.tare(&["images", "-a", "-q"]).ok(), "");
    let volumes = host.tare(&["system", "prune", "--volumes"]).fails(125);
    assert!(volumes.stderr.contains("--volumes is not supported yet"), "{}", volumes.stderr);
}

#[test]
fn a_check_finds_a_changed_bit_and_mends_it() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let sound = host.tare(&["system", "check"]).ok();
    assert!(sound.ends_with("Everything is as it should be."), "{sound}");
    let config = host.inspect(&image, "/Id").as_str().unwrap().replace("sha256:", "");
    let path: PathBuf = host.root().join(Path::new("blobs/sha256")).join(config);
    let mut bytes = fs::read(&path).unwrap();
    bytes[10] ^= 1;
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    let damaged = host.tare(&["system", "check"]).fails(1);
    assert!(damaged.stdout.contains("damaged: blob sha256:"), "{}", damaged.stdout);
    assert!(damaged.stderr.contains("hint: `tare system check --repair`"), "{}", damaged.stderr);
    let repaired = host.tare(&["system", "check", "--repair"]).ok();
    assert!(repaired.contains("fetched again"), "{repaired}");
    host.tare(&["system", "check", "-q"]).ok();
    assert_eq!(host.tare(&["run", "--rm", &image, "echo", "whole"]).ok(), "whole");
}

/// What is made here has no registry to come from again: damage of one part must not cost the others.
#[test]
fn damage_of_an_image_made_here_stays_where_it_is() {
    let Some(host) = Host::new() else { return };
    fs::create_dir(host.folder().join("files")).unwrap();
    fs::write(host.folder().join("files/word"), "whole").unwrap();
    let tar = host.folder().join("files.tar").display().to_string();
    host.command("tar", &["-C", &host.folder().join("files").display().to_string(), "-cf", &tar, "."]).ok();
    host.tare(&["import", &tar, "made:1"]).ok();
    host.tare(&["import", "-m", "another", &tar, "made:2"]).ok();
    let layer = host.inspect("made:1", "/RootFS/Layers/0").as_str().unwrap().replace("sha256:", "");
    let index = host.root().join("layers/sha256").join(layer).join("index.erofs");
    if index.exists() {
        fs::write(&index, "damaged").unwrap();
        let repaired = host.tare(&["system", "check", "--repair"]).ok();
        assert!(repaired.contains("made again from its archive"), "{repaired}");
    }
    let config = host.inspect("made:1", "/Id").as_str().unwrap().replace("sha256:", "");
    fs::write(host.root().join("blobs/sha256").join(config), "{}").unwrap();
    let lost = host.tare(&["system", "check", "--repair"]).fails(1);
    assert!(lost.stdout.contains("did not come from a registry"), "{}", lost.stdout);
    let inspected = host.tare(&["image", "inspect", "made:1"]).fails(1);
    assert!(inspected.stderr.contains("hint: `tare system check --repair`"), "{}", inspected.stderr);
    // Others are not bothered, and it can be removed.
    host.tare(&["save", "-o", &tar, "made:2"]).ok();
    host.tare(&["tag", "made:2", "made:3"]).ok();
    host.tare(&["rmi", "made:1"]).ok();
    host.tare(&["system", "check", "-q"]).ok();
}
