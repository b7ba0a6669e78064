//! Help, versions and messages about how a command was spelt.

use crate::host::Host;

const COMMANDS: [&str; 21] = [
    "pull",
    "images",
    "rmi",
    "tag",
    "run",
    "create",
    "start",
    "stop",
    "restart",
    "kill",
    "rm",
    "ps",
    "logs",
    "exec",
    "attach",
    "inspect",
    "wait",
    "version",
    "info",
    "help",
    "container",
];

#[test]
fn every_command_has_help() {
    let Some(host) = Host::new() else { return };
    let all = host.tare(&["help"]).ok();
    for command in COMMANDS {
        assert!(all.contains(command), "{command} is not in {all}");
        if command != "help" {
            let help = host.tare(&[command, "--help"]).ok();
            assert!(help.contains(&format!("Usage:  tare {command}")), "{help}");
        }
    }
    assert_eq!(host.tare(&["--help"]).ok(), all);
}

#[test]
fn both_spellings_are_one_command() {
    let Some(host) = Host::new() else { return };
    assert_eq!(host.tare(&["container", "ls"]).ok(), host.tare(&["ps"]).ok());
    assert_eq!(host.tare(&["image", "ls"]).ok(), host.tare(&["images"]).ok());
}

#[test]
fn bad_spelling_gets_a_suggestion() {
    let Some(host) = Host::new() else { return };
    let flag = host.tare(&["run", "-rm", "busybox"]).fails(125);
    assert!(flag.stderr.contains("--rm"), "{}", flag.stderr);
    let long = host.tare(&["run", "--nmae", "x", "busybox"]).fails(125);
    assert!(long.stderr.contains("unknown flag: --nmae") && long.stderr.contains("--name"), "{}", long.stderr);
    let command = host.tare(&["pss"]).fails(1);
    assert!(command.stderr.contains("pss") && command.stderr.contains("ps"), "{}", command.stderr);
    let missing = host.tare(&["run"]).output();
    assert!(missing.code != 0 && missing.stderr.contains("requires at least 1 argument"), "{missing:?}");
    let port = host.tare(&["run", "-p", "nonsense", "busybox"]).fails(125);
    assert!(port.stderr.contains("nonsense"), "{}", port.stderr);
    let memory = host.tare(&["run", "-m", "lots", "busybox"]).fails(125);
    assert!(memory.stderr.contains("lots"), "{}", memory.stderr);
}

#[test]
fn version_and_info() {
    let Some(host) = Host::new() else { return };
    let version = host.tare(&["version"]).ok();
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    assert!(host.tare(&["--version"]).ok().contains(env!("CARGO_PKG_VERSION")));
    let info = host.tare(&["info"]).ok();
    for part in ["Containers: 0", "Images: 0", "Storage Driver: erofs", "Cgroup Version:", "Kernel Version:"] {
        assert!(info.contains(part), "{part:?} is not in {info}");
    }
}
