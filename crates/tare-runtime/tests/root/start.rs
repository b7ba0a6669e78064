//! How programs are found and started, and what is said when they are not.

use crate::bundle::{Bundle, executable};
use std::os::unix::fs::symlink;
use tare_runtime::{Error, Exit, Step};

crate::cases! {
    exit_codes_are_the_programs, missing_programs_are_127, unexecutable_programs_are_126,
    missing_interpreters_are_named, the_environment_is_only_what_was_given, working_directories_are_made,
    failures_of_set_up_name_their_step,
}

fn error(change: impl FnOnce(&mut Bundle)) -> Error {
    let mut bundle = Bundle::new(&["true"]);
    change(&mut bundle);
    bundle.run().unwrap_err()
}

fn command_error(command: &str, prepare: impl FnOnce(&Bundle)) -> (u8, String) {
    let error = error(|bundle| {
        bundle.process().args = vec![command.into()];
        prepare(bundle);
    });
    (error.exit_code(), error.to_string())
}

fn exit_codes_are_the_programs() {
    assert_eq!(Bundle::script("exit 42").run().unwrap().exit, Exit::Code(42));
    let killed = Bundle::script("sh -c 'kill -9 $$'; exit $?").run().unwrap().exit;
    assert_eq!(killed, Exit::Code(137));
    assert_eq!(Exit::Signal(9).code(), 137);
}

fn missing_programs_are_127() {
    let expected = (127, r#"exec: "foo": executable file not found in $PATH"#.to_owned());
    assert_eq!(command_error("foo", |_| {}), expected);
    let expected = (127, r#"exec: "/foo": stat /foo: no such file or directory"#.to_owned());
    assert_eq!(command_error("/foo", |_| {}), expected);
}

fn unexecutable_programs_are_126() {
    let expected = (126, r#"exec: "/etc/passwd": permission denied"#.to_owned());
    assert_eq!(command_error("/etc/passwd", |_| {}), expected);
    assert_eq!(command_error("/etc", |_| {}).0, 126);
    let odd = |bundle: &Bundle| executable(&bundle.rootfs().join("odd"), b"neither script nor program\n");
    assert_eq!(command_error("/odd", odd), (126, r#"exec: "/odd": exec format error"#.to_owned()));
}

fn missing_interpreters_are_named() {
    let script = |bundle: &Bundle| executable(&bundle.rootfs().join("script"), b"#!/usr/bin/python3\n");
    let (code, text) = command_error("/script", script);
    assert!(code == 127 && text.contains("/usr/bin/python3 does not exist"), "{code} {text}");
    let windows = |bundle: &Bundle| executable(&bundle.rootfs().join("script"), b"#!/bin/sh\r\necho\r\n");
    let (code, text) = command_error("/script", windows);
    assert!(code == 127 && text.contains("carriage return"), "{code} {text}");
    // A dynamic program in a root without its loader.
    let dynamic = |bundle: &Bundle| {
        std::fs::copy("/usr/bin/env", bundle.rootfs().join("dynamic")).unwrap();
    };
    let (code, text) = command_error("/dynamic", dynamic);
    assert!(code == 127 && text.contains("ld-linux"), "{code} {text}");
}

fn the_environment_is_only_what_was_given() {
    let mut bundle = Bundle::new(&["cat", "/proc/self/environ"]);
    bundle.process().env.push("WITHOUT_VALUE".into());
    assert_eq!(bundle.output(), "PATH=/bin\0TERM=xterm\0HOME=/root\0");
}

fn working_directories_are_made() {
    let mut bundle = Bundle::script("pwd");
    bundle.process().cwd = "/var/run/app".into();
    std::fs::create_dir(bundle.rootfs().join("var")).unwrap();
    // As in many images: a link to a folder that only exists once something runs.
    symlink("/run", bundle.rootfs().join("var/run")).unwrap();
    assert_eq!(bundle.output(), "/run/app\n");
}

fn failures_of_set_up_name_their_step() {
    let failed = error(|bundle| std::fs::remove_dir_all(bundle.folder.path().join("work")).unwrap());
    assert!(matches!(failed, Error::Step { step: Step::MountRoot, .. }), "{failed}");
    let failed = error(|bundle| bundle.user = Some("nobody".into()));
    assert_eq!(failed.to_string(), "unable to find user nobody: no matching entries in passwd file");
    let failed = error(|bundle| bundle.spec.mounts[3].fs_type = Some("nofs".into()));
    assert!(failed.to_string().starts_with("mount nofs on /sys"), "{failed}");
}
