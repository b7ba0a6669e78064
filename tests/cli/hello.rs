//! The image inside the program: README's first command.

use crate::host::Host;

#[test]
fn hello_serves_a_page_without_any_registry() {
    let Some(host) = Host::new() else { return };
    let mut run = host.tare(&["run", "-p", "3000:80", "--rm", "--name", "first", "hello"]).spawn();
    let page = host.get("http://127.0.0.1:3000");
    let id = host.tare(&["ps", "-q", "--no-trunc"]).ok();
    for part in [&id[..12], "hello", "tare "] {
        assert!(page.contains(part), "{part:?} is not in {page}");
    }
    // Ctrl-C reaches the server through the attached client.
    run.signal(rustix::process::Signal::INT);
    run.wait();
    host.assert_clean();
}
