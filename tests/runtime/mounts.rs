//! Bind mounts and read-only roots.

use crate::host::Host;
use std::fs;

#[test]
fn bind_mounts_read_write_and_read_only() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let shared = host.folder().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("from-host"), "hello\n").unwrap();
    let path = shared.display().to_string();
    let run = |volume: &str, script: &str| host.tare(&["run", "--rm", "-v", volume, &image, "sh", "-c", script]);

    run(&format!("{path}:/mnt/deep"), "cat /mnt/deep/from-host; echo back >/mnt/deep/from-container").ok();
    assert_eq!(fs::read_to_string(shared.join("from-container")).unwrap(), "back\n");
    let refused = run(&format!("{path}:/mnt:ro"), "cat /mnt/from-host && touch /mnt/no").fails(1);
    assert_eq!(refused.stdout, "hello\n");
    assert!(refused.stderr.contains("Read-only file system"), "{}", refused.stderr);
    // One file.
    let file = format!("{path}/from-host:/etc/one:ro");
    assert_eq!(run(&file, "cat /etc/one").ok(), "hello");
    // What is not there is made, as Docker's -v does.
    run(&format!("{path}/made:/mnt"), "echo x >/mnt/x").ok();
    assert_eq!(fs::read_to_string(shared.join("made/x")).unwrap(), "x\n");
    let relative = host.tare(&["run", "--rm", "-v", "a/b:/mnt", &image, "true"]).fails(125);
    assert!(relative.stderr.contains("a/b"), "{}", relative.stderr);
    host.assert_clean();
}

#[test]
fn a_read_only_root_stays_as_it_is() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let refused = host.tare(&["run", "--rm", "--read-only", &image, "touch", "/tmp/file"]).fails(1);
    assert!(refused.stderr.contains("Read-only file system"), "{}", refused.stderr);
    // Devices and shared memory still work.
    host.tare(&["run", "--rm", "--read-only", &image, "sh", "-c", "echo x >/dev/null && echo x >/dev/shm/x"]).ok();
    // The working directory is made all the same.
    assert_eq!(host.tare(&["run", "--rm", "--read-only", "-w", "/made", &image, "pwd"]).ok().trim(), "/made");
}

#[test]
fn each_container_writes_to_a_layer_of_its_own() {
    let Some(host) = Host::new() else { return };
    host.sleeper("one", &[]);
    host.sleeper("two", &[]);
    host.tare(&["exec", "one", "sh", "-c", "echo one >/etc/passwd; rm /data/plain"]).ok();
    assert!(host.tare(&["exec", "two", "cat", "/etc/passwd"]).ok().starts_with("root:"));
    host.tare(&["exec", "two", "test", "-e", "/data/plain"]).ok();
}

#[test]
fn whiteouts_opaque_folders_and_links_of_a_real_image() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("web");
    let script = "ls /etc/nginx/sites-enabled; ls /var/lib/apt/lists | wc -l; test ! -e /usr/sbin/policy-rc.d; \
                  readlink /var/log/nginx/access.log; stat -c %h /srv/site.conf; stat -c '%U %a' /tmp /usr/bin/passwd";
    let seen = host.tare(&["run", "--rm", &image, "sh", "-e", "-c", script]).ok();
    assert_eq!(seen, "web\n0\n/dev/stdout\n2\nroot 1777\nroot 4755");
}

#[test]
fn what_the_engine_mounts_over_is_no_change_of_a_container() {
    let Some(host) = Host::new() else { return };
    let id = host.sleeper("plain", &[]);
    let upper = host.root().join("containers").join(&id).join("upper");
    assert_eq!(fs::read_dir(&upper).unwrap().count(), 0);
    let script = "cat /etc/hostname; grep -c 127.0.0.1 /etc/hosts; grep -c ^root: /etc/passwd; stat -c %a / /etc";
    assert_eq!(host.tare(&["exec", "plain", "sh", "-c", script]).ok(), format!("{}\n1\n1\n755\n755", &id[..12]));
}
