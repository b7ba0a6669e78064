//! The built-in image and its server, run as it is stored.

use crate::fake::World;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

struct Server {
    child: Child,
    log: BufReader<std::process::ChildStdout>,
    port: u16,
}

impl Server {
    fn start(program: PathBuf) -> Self {
        let mut command = Command::new(program);
        command.env_clear().env("PORT", "0").env("IMAGE", "a<b").stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        let port = line.trim().strip_prefix("listening on port ").unwrap().parse().unwrap();
        Self { child, log, port }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).unwrap()
    }

    fn ask(&mut self, request: &str) -> (String, String) {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let mut line = String::new();
        self.log.read_line(&mut line).unwrap();
        (answer, line)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn the_image_is_the_same_each_time_and_serves_its_page() {
    let Some(World { store, folders, .. }) = &World::new() else { return };
    let id = tare_build::hello::install(store, folders).unwrap();
    assert_eq!(tare_build::hello::install(store, folders).unwrap(), id);
    let image = store.find("hello").unwrap();
    assert_eq!((&image.id, image.references[0].familiar()), (&id, "hello:latest".to_owned()));
    let config = image.config.config.clone().unwrap();
    assert_eq!(config.cmd.unwrap(), ["/server"]);
    assert_eq!(config.stop_signal, None);
    assert!(config.exposed_ports.contains_key("80/tcp") && config.env.contains(&"IMAGE=hello".to_owned()));

    let mounted = store.layers().mount(&image.layers).unwrap();
    let root = mounted.layer(0).unwrap();
    let mut server = Server::start(root.join("server"));
    // One that sends nothing keeps nobody waiting.
    let silent = server.connect();
    let (answer, line) = server.ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("<dd>a&lt;b</dd>") && answer.contains("tare ps"), "{answer}");
    assert!(line.starts_with("127.0.0.1 \"GET / HTTP/1.1\" 200 "), "{line}");
    let (answer, line) = server.ask("HEAD /about HTTP/1.1\r\n\r\n");
    assert!(answer.ends_with("\r\n\r\n") && line.contains("\"HEAD /about HTTP/1.1\" 200"), "{answer}{line}");
    let (answer, line) = server.ask("GET /\x1b[31m HTTP/1.1\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 404") && !line.contains('\x1b'), "{line}");
    // Exactly what is read before the limit strikes, so that nothing unread resets the connection.
    let (answer, line) = server.ask(&"x".repeat(9 * 1024));
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert!(line.starts_with("127.0.0.1 \"-\" 431"), "{line}");
    drop(silent);

    let about = Command::new(root.join("server")).arg("about").output().unwrap();
    assert!(about.status.success() && String::from_utf8(about.stdout).unwrap().contains("tare stop"));
    let wrong = Command::new(root.join("server")).env("PORT", "http").output().unwrap();
    assert_eq!(wrong.status.code(), Some(1));
}
