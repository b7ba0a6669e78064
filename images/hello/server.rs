//! The program of the image `hello`: answers each request with a page that says which container it runs in.
//!
//! `/server` serves on `$PORT` (default 80), `/server about` prints the same facts as text.
//! The standard library and two functions of libc only, so that it needs nothing but a compiler to be built.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A browser sends some hundred bytes.
const REQUEST_LIMIT: usize = 8 * 1024;
/// How long a client may take to send its request, and again to take the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests at a time; each has a thread.
const THREADS: usize = 64;
/// Deep enough for everything here; the default of 2 MiB would count against the container's memory limit.
const STACK: usize = 128 * 1024;

static BUSY: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the signatures are those of signal(2) and _exit(2); any handler of this type and any number may be given.
unsafe extern "C" {
    safe fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
    safe fn _exit(code: i32) -> !;
}
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// Ends the server at once: it keeps nothing that a sudden end could lose. `_exit` may be called in a handler.
extern "C" fn end(_: i32) {
    _exit(0)
}

fn main() -> ExitCode {
    // The kernel drops signals that the first process of a container has no handler for, also those of Ctrl-C and stop.
    for number in [SIGINT, SIGTERM] {
        signal(number, end);
    }
    match std::env::args().nth(1).as_deref() {
        None => match serve() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error.to_string()),
        },
        Some("about") => {
            say(&about(&Facts::collect()));
            ExitCode::SUCCESS
        }
        Some(other) => fail(&format!("unknown command {other:?}: expected \"about\" or nothing")),
    }
}

fn fail(text: &str) -> ExitCode {
    // Nobody reads standard error any more: the exit code still tells.
    let _ = writeln!(io::stderr(), "server: {text}");
    ExitCode::FAILURE
}

/// Prints a line. A closed log is no reason to stop serving.
fn say(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

fn serve() -> io::Result<()> {
    let wanted = std::env::var("PORT").unwrap_or_else(|_| "80".to_owned());
    let port: u16 = wanted
        .parse()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("PORT={wanted:?} is no port number")))?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on port {port}: {error}")))?;
    say(&format!("listening on port {}", listener.local_addr()?.port()));
    loop {
        match listener.accept() {
            Ok((stream, client)) => start(stream, client.ip().to_string()),
            // Out of descriptors or memory: wait for a request to end instead of spinning.
            Err(error) if error.kind() != io::ErrorKind::ConnectionAborted => {
                let _ = writeln!(io::stderr(), "server: cannot accept a connection: {error}");
                std::thread::sleep(Duration::from_millis(100));
            }
            Err(_) => {}
        }
    }
}

fn start(stream: TcpStream, client: String) {
    if BUSY.fetch_add(1, Ordering::AcqRel) >= THREADS {
        BUSY.fetch_sub(1, Ordering::AcqRel);
        say(&format!("{client} - 503 0"));
        return;
    }
    let work = move || {
        answer(stream, &client);
        BUSY.fetch_sub(1, Ordering::AcqRel);
    };
    if let Err(error) = std::thread::Builder::new().stack_size(STACK).spawn(work) {
        BUSY.fetch_sub(1, Ordering::AcqRel);
        let _ = writeln!(io::stderr(), "server: cannot start a thread: {error}");
    }
}

fn answer(mut stream: TcpStream, client: &str) {
    let (line, status, kind, body) = match request_line(&mut stream) {
        Ok(line) => {
            let (status, kind, body) = respond(&line);
            (line, status, kind, body)
        }
        Err(status) => (String::from("-"), status, "text/plain", format!("{status}\n")),
    };
    let code = status.split(' ').next().unwrap_or(status);
    say(&format!("{client} \"{line}\" {code} {}", body.len()));
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let body = if line.starts_with("HEAD ") { "" } else { &body };
    // A client that has gone away needs no answer.
    let _ = stream.set_write_timeout(Some(PATIENCE));
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
    let _ = stream.shutdown(Shutdown::Write);
}

/// Reads the whole head of a request within the limits of time and size, and returns its first line, printable.
fn request_line(stream: &mut TcpStream) -> Result<String, &'static str> {
    const TIMEOUT: &str = "408 Request Timeout";
    let deadline = Instant::now() + PATIENCE;
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && !head.windows(2).any(|end| end == b"\n\n") {
        if head.len() > REQUEST_LIMIT {
            return Err("431 Request Header Fields Too Large");
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return Err(TIMEOUT);
        }
        match stream.read(&mut buffer) {
            Ok(0) => return Err("400 Bad Request"),
            Ok(count) => head.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(TIMEOUT),
        }
    }
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(String::from_utf8_lossy(line).trim_end().escape_debug().take(200).collect())
}

/// Status, content type and body for a request.
fn respond(line: &str) -> (&'static str, &'static str, String) {
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    match (method, path) {
        ("GET" | "HEAD", "/") => ("200 OK", "text/html", page(&Facts::collect())),
        ("GET" | "HEAD", "/about") => ("200 OK", "text/plain", about(&Facts::collect()) + "\n"),
        ("GET" | "HEAD", _) => ("404 Not Found", "text/plain", "only / and /about are here\n".to_owned()),
        _ => ("405 Method Not Allowed", "text/plain", "GET / is all there is\n".to_owned()),
    }
}

/// What the page tells.
struct Facts {
    host: String,
    image: String,
    /// How the commands call this container.
    name: String,
}

impl Facts {
    fn collect() -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        let image = std::env::var("IMAGE").unwrap_or_else(|_| "hello".to_owned());
        // Unless it was given another host name, a container has the beginning of its id for one, and every
        // command takes that.
        let is_id = host.len() == 12 && host.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let name = if is_id { host.clone() } else { "NAME".to_owned() };
        Self { host, image, name }
    }

    /// What to try next, and what it does.
    fn commands(&self) -> [(String, &'static str); 6] {
        let name = &self.name;
        [
            ("tare ps".to_owned(), "the containers that run"),
            (format!("tare logs -f {name}"), "what this one prints: one line for each request"),
            (format!("tare exec {name} /server about"), "run another program inside it"),
            (format!("tare inspect {name}"), "everything there is to know about it"),
            (format!("tare stop {name}"), "end it"),
            ("tare run -it --rm debian bash".to_owned(), "a whole Debian, from a registry"),
        ]
    }
}

fn about(facts: &Facts) -> String {
    let mut text = format!("container {}, image {}", facts.host, facts.image);
    for (command, purpose) in facts.commands() {
        text.push_str(&format!("\n  {command:<40} {purpose}"));
    }
    text
}

fn page(facts: &Facts) -> String {
    let mut rows = String::new();
    for (command, purpose) in facts.commands() {
        rows.push_str(&format!("<li><code>{}</code><span>{}</span></li>\n", escape(&command), escape(purpose)));
    }
    PAGE.replace("{host}", &escape(&facts.host)).replace("{image}", &escape(&facts.image)).replace("{rows}", &rows)
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // Keeps a value from being taken for a place that is still to be filled in.
            '{' => escaped.push_str("&#123;"),
            other => escaped.push(other),
        }
    }
    escaped
}

const PAGE: &str = r##"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{host} · tare</title>
<link rel="icon" href="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect x='1' y='4' width='14' height='9' rx='2' fill='%230f766e'/%3E%3Cpath d='M5 6v5M8 6v5M11 6v5' stroke='%23fff'/%3E%3C/svg%3E">
<style>
:root { --ground: #f4f6f5; --card: #fff; --text: #14211f; --soft: #5a6b68; --line: #dde5e3; --mark: #0f766e; --code: #eef4f2 }
@media (prefers-color-scheme: dark) {
  :root { --ground: #0d1413; --card: #141e1c; --text: #e4eeec; --soft: #93a8a4; --line: #243431; --mark: #2dd4bf; --code: #0f1817 }
}
* { box-sizing: border-box }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1.5rem; background: var(--ground);
  color: var(--text); font: 16px/1.55 system-ui, sans-serif }
main { width: 100%; max-width: 44rem; background: var(--card); border: 1px solid var(--line); border-radius: 14px;
  padding: clamp(1.4rem, 5vw, 2.6rem); box-shadow: 0 12px 40px rgb(0 0 0 / .07) }
h1 { margin: 0; font-size: clamp(1.7rem, 6vw, 2.3rem); line-height: 1.15; letter-spacing: -.02em }
h1::after { content: ""; display: block; width: 3rem; height: 4px; margin-top: .9rem; border-radius: 2px; background: var(--mark) }
p { color: var(--soft) }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .35rem 1.4rem; margin: 1.4rem 0 2rem }
dt { color: var(--soft) }
dd { margin: 0; font-weight: 600; overflow-wrap: anywhere }
h2 { font-size: 1rem; margin: 0 0 .6rem }
ul { list-style: none; margin: 0; padding: 0 }
li { display: flex; flex-wrap: wrap; gap: .3rem 1rem; align-items: baseline; justify-content: space-between;
  padding: .55rem 0; border-top: 1px solid var(--line) }
code { font: .92em/1.4 ui-monospace, monospace; background: var(--code); border-radius: 6px; padding: .18em .5em; user-select: all }
li span { color: var(--soft); font-size: .92rem }
</style>
</head>
<body>
<main>
<h1>Hello from a container</h1>
<p>Your request went through a published port into a network of its own, to the only program in this file system.</p>
<dl>
<dt>Host name</dt><dd>{host}</dd>
<dt>Image</dt><dd>{image}</dd>
</dl>
<h2>Try next</h2>
<ul>
{rows}</ul>
</main>
</body>
</html>
"##;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_leave_their_place_in_the_page() {
        let facts = Facts { host: "<b>{rows}\"&".to_owned(), image: "{host}".to_owned(), name: "NAME".to_owned() };
        let page = page(&facts);
        assert!(page.contains("<dd>&lt;b&gt;&#123;rows}&quot;&amp;</dd>"), "{page}");
        assert!(page.contains("<dd>&#123;host}</dd>"), "{page}");
        assert_eq!(page.matches("tare ps").count(), 1);
    }

    #[test]
    fn requests_have_answers() {
        for (line, status) in [
            ("GET / HTTP/1.1", "200 OK"),
            ("HEAD /?a=b HTTP/1.1", "200 OK"),
            ("GET /about HTTP/1.0", "200 OK"),
            ("GET /../etc/passwd HTTP/1.1", "404 Not Found"),
            ("POST / HTTP/1.1", "405 Method Not Allowed"),
            ("", "405 Method Not Allowed"),
        ] {
            assert_eq!(respond(line).0, status, "{line}");
        }
    }
}
