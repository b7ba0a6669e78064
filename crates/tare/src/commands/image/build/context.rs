//! Where a build's files and its Dockerfile are: PATH, URL or `-`, and `-f`.

use crate::failure::{Failure, errno_text};
use crate::flags::build::contexts::{Remote, is_url, remote};
use std::fs;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tare_engine::build::{ContextSource, DockerfileSource};

/// A larger one was not written by anybody.
const LARGEST_DOCKERFILE: u64 = 16 << 20;

/// So many bytes tell what standard input is: a header of a tar archive, and more than any compression's mark.
const BEGINNING: u64 = 1024;

/// The name that a Dockerfile has when none is said.
const DOCKERFILE: &str = "Dockerfile";

/// Reads the argument and `-f`.
pub(super) fn read(
    path: &str,
    file: Option<&str>,
    stdin: Box<dyn Read + Send>,
) -> Result<(ContextSource, DockerfileSource), Failure> {
    if path.is_empty() {
        return Err(Failure::new("please specify build context (e.g. \".\" for the current directory)"));
    }
    if file.is_some_and(is_url) {
        return Err(Failure::new("a Dockerfile at a URL is not supported yet: `curl -fsSL URL | tare build -f - .`"));
    }
    if path == "-" {
        return of_stdin(file, stdin);
    }
    if Path::new(path).is_dir() {
        return Ok((ContextSource::Folder(absolute(path)?), in_folder(path, file, stdin)?));
    }
    if let Some(remote) = remote(path) {
        let context = match remote.map_err(Failure::new)? {
            Remote::Url(url) => ContextSource::Url(url),
            Remote::Git(git) => ContextSource::Git(git),
        };
        let dockerfile = match file {
            Some("-") => DockerfileSource::Text(text(stdin)?),
            Some(file) if file.starts_with('/') => existing(file)?,
            file => DockerfileSource::InContext(file.unwrap_or(DOCKERFILE).to_owned()),
        };
        return Ok((context, dockerfile));
    }
    let failure = Failure::new(format!("unable to prepare context: path {path:?} not found"));
    let is_file = Path::new(path).is_file();
    let hint = format!(
        "the context is a folder: `tare build -f {path} .` builds the Dockerfile {path} with what is in this one"
    );
    Err(failure.with_hint(is_file.then_some(hint)))
}

/// `-`: an archive with all files, or a Dockerfile without any.
fn of_stdin(file: Option<&str>, mut stdin: Box<dyn Read + Send>) -> Result<(ContextSource, DockerfileSource), Failure> {
    if file == Some("-") {
        return Err(Failure::new("invalid argument: can't use stdin for both build context and dockerfile"));
    }
    let mut beginning = Vec::new();
    stdin.by_ref().take(BEGINNING).read_to_end(&mut beginning).map_err(|error| unreadable(&error))?;
    let is_archive = is_archive(&beginning);
    let all: Box<dyn Read + Send> = Box::new(Cursor::new(beginning).chain(stdin));
    if is_archive {
        let name = file.unwrap_or(DOCKERFILE).to_owned();
        return Ok((ContextSource::Archive(Mutex::new(all)), DockerfileSource::InContext(name)));
    }
    if file.is_some() {
        let text = "ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles";
        let hint =
            "standard input is no tar archive; `tare build -f - PATH` reads the Dockerfile there and the files in PATH";
        return Err(Failure::new(text).with_hint(Some(hint.to_owned())));
    }
    Ok((ContextSource::Empty, DockerfileSource::Text(text(all)?)))
}

fn unreadable(error: &io::Error) -> Failure {
    Failure::new(format!("failed to read from STDIN: {}", errno_text(error)))
}

fn text(from: impl Read) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    from.take(LARGEST_DOCKERFILE + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > LARGEST_DOCKERFILE {
        return Err(Failure::new(format!("the Dockerfile on STDIN is larger than {} MiB", LARGEST_DOCKERFILE >> 20)));
    }
    String::from_utf8(bytes).map_err(|_| Failure::new("the Dockerfile on STDIN is no UTF-8 text"))
}

/// The Dockerfile of a build whose files are in a folder.
fn in_folder(folder: &str, file: Option<&str>, stdin: Box<dyn Read + Send>) -> Result<DockerfileSource, Failure> {
    match file {
        Some("-") => return Ok(DockerfileSource::Text(text(stdin)?)),
        // Its folder is the shell's, as for every other path.
        Some(file) => {
            return existing(file).map_err(|failure| {
                let there = Path::new(folder).join(file);
                let path = there.display();
                let hint = format!("{path} is there: `-f {path}`, for paths of -f begin here and not in {folder}");
                let meant = !Path::new(file).exists() && there.exists();
                let hint = if meant { Some(hint) } else { failure.hint.clone() };
                failure.with_hint(hint)
            });
        }
        None => {}
    }
    for name in [DOCKERFILE, "dockerfile"] {
        if fs::metadata(Path::new(folder).join(name)).is_ok() {
            return Ok(DockerfileSource::InContext(name.to_owned()));
        }
    }
    Err(missing(DOCKERFILE, folder))
}

fn existing(file: &str) -> Result<DockerfileSource, Failure> {
    match fs::metadata(file) {
        Ok(found) if found.is_dir() => {
            let text = format!("failed to solve: failed to read dockerfile: read {file}: is a directory");
            Err(Failure::new(text))
        }
        Ok(_) => Ok(DockerfileSource::Path(absolute(file)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = Path::new(file).parent().filter(|folder| !folder.as_os_str().is_empty());
            Err(missing(file, folder.and_then(Path::to_str).unwrap_or(".")))
        }
        Err(error) => {
            let why = errno_text(&error);
            Err(Failure::new(format!("failed to solve: failed to read dockerfile: open {file}: {why}")))
        }
    }
}

fn missing(name: &str, folder: &str) -> Failure {
    let text = format!("failed to solve: failed to read dockerfile: open {name}: no such file or directory");
    Failure::new(text).with_hint(others(folder).map(|others| {
        let path = |name: &String| {
            if folder == "." { name.clone() } else { format!("{}/{name}", folder.trim_end_matches('/')) }
        };
        let flags: Vec<String> = others.iter().map(|name| format!("`-f {}`", path(name))).collect();
        format!("{folder} has {}: {} names it", others.join(", "), flags.join(" or "))
    }))
}

/// Files of a folder that look like Dockerfiles by another name.
fn others(folder: &str) -> Option<Vec<String>> {
    let looks = |name: &String| {
        let small = name.to_ascii_lowercase();
        (small.contains("dockerfile") || small.contains("containerfile")) && !small.ends_with(".dockerignore")
    };
    let names = fs::read_dir(folder).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(looks).collect();
    names.sort();
    // More help nobody.
    names.truncate(3);
    (!names.is_empty()).then_some(names)
}

fn absolute(path: &str) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::new(format!("unable to prepare context: {}", errno_text(&error))))
}

/// Whether bytes begin a tar archive, compressed or not.
fn is_archive(beginning: &[u8]) -> bool {
    let marks: [&[u8]; 4] = [b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    marks.iter().any(|mark| beginning.starts_with(mark)) || is_tar_header(beginning)
}

/// A header's sum is that of its bytes with spaces in its own place (POSIX, "ustar Interchange Format"); some have summed signed bytes.
fn is_tar_header(beginning: &[u8]) -> bool {
    let Some(header) = beginning.first_chunk::<512>() else { return false };
    let field = &header[148..156];
    let digits = field.iter().copied().skip_while(|&byte| byte == b' ').take_while(|byte| (b'0'..=b'7').contains(byte));
    let Some(said) = digits.map(|digit| i64::from(digit - b'0')).reduce(|sum, digit| sum * 8 + digit) else {
        return false;
    };
    let sum = |value: fn(u8) -> i64| -> i64 {
        let byte = |(at, &byte): (usize, &u8)| if (148..156).contains(&at) { value(b' ') } else { value(byte) };
        header.iter().enumerate().map(byte).sum()
    };
    said == sum(i64::from) || said == sum(|byte| i64::from(byte.cast_signed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str, file: Option<&str>, stdin: &'static [u8]) -> Result<(ContextSource, DockerfileSource), String> {
        super::read(path, file, Box::new(stdin)).map_err(|failure| failure.message())
    }

    fn header() -> [u8; 512] {
        let mut header = [0; 512];
        header[..4].copy_from_slice(b"file");
        header[148..156].copy_from_slice(b"        ");
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        header
    }

    #[test]
    fn archives_are_known_by_their_beginning() {
        assert!(
            is_archive(&header())
                && is_archive(b"\x1f\x8b\x08\0")
                && is_archive(b"BZh9")
                && is_archive(b"\x28\xb5\x2f\xfd")
        );
        let mut wrong = header();
        wrong[0] ^= 1;
        for other in [&wrong[..], &header()[..511], &[0; 512], b"FROM scratch\n", b"", &[b'7'; 512]] {
            assert!(!is_archive(other));
        }
    }

    #[test]
    fn standard_input_is_an_archive_or_a_dockerfile() {
        let (context, dockerfile) = read("-", None, b"FROM scratch\n").unwrap();
        assert!(matches!(context, ContextSource::Empty));
        assert_eq!(dockerfile, DockerfileSource::Text("FROM scratch\n".to_owned()));

        let archive: &'static [u8] = [header().to_vec(), vec![7; 3000]].concat().leak();
        let (context, dockerfile) = read("-", Some("sub/Dockerfile"), archive).unwrap();
        let ContextSource::Archive(from) = context else { panic!("{context:?}") };
        let mut bytes = Vec::new();
        from.into_inner().unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, archive);
        assert_eq!(dockerfile, DockerfileSource::InContext("sub/Dockerfile".to_owned()));

        for (file, stdin, expected) in [
            (
                Some("-"),
                &b"FROM x"[..],
                "Error: invalid argument: can't use stdin for both build context and dockerfile\n",
            ),
            (
                Some("x"),
                b"FROM x",
                "Error: ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles\n",
            ),
            (None, b"\xff\xfe", "Error: the Dockerfile on STDIN is no UTF-8 text\n"),
        ] {
            let message = read("-", file, stdin).unwrap_err();
            assert!(message.starts_with(expected), "{message}");
        }
    }

    #[test]
    fn folders_have_dockerfiles() {
        let folder = std::env::temp_dir().join(format!("tare-context-{}", std::process::id()));
        fs::create_dir_all(folder.join("sub")).unwrap();
        let path = folder.to_str().unwrap();
        let message = read(path, None, b"").unwrap_err();
        assert_eq!(
            message,
            "Error: failed to solve: failed to read dockerfile: open Dockerfile: no such file or directory\n"
        );
        fs::write(folder.join("Containerfile"), "FROM scratch").unwrap();
        let message = read(path, None, b"").unwrap_err();
        assert!(
            message.ends_with(&format!("hint: {path} has Containerfile: `-f {path}/Containerfile` names it\n")),
            "{message}"
        );
        let message = read(path, Some(&format!("{path}/sub/x")), b"").unwrap_err();
        assert!(
            message.contains(&format!("open {path}/sub/x: no such file or directory")) && !message.contains("hint"),
            "{message}"
        );

        let message = read(path, Some("Containerfile"), b"").unwrap_err();
        assert!(
            message.contains(&format!("hint: {path}/Containerfile is there: `-f {path}/Containerfile`")),
            "{message}"
        );

        fs::write(folder.join("dockerfile"), "FROM scratch").unwrap();
        assert_eq!(read(path, None, b"").unwrap().1, DockerfileSource::InContext("dockerfile".to_owned()));
        fs::write(folder.join("Dockerfile"), "FROM scratch").unwrap();
        let (context, dockerfile) = read(path, None, b"").unwrap();
        assert!(matches!(context, ContextSource::Folder(of) if of == folder));
        assert_eq!(dockerfile, DockerfileSource::InContext("Dockerfile".to_owned()));
        let outside = format!("{path}/sub/../Containerfile");
        assert_eq!(
            read(&format!("{path}/sub"), Some(&outside), b"").unwrap().1,
            DockerfileSource::Path(outside.into())
        );
        assert_eq!(read(path, Some("-"), b"FROM x").unwrap().1, DockerfileSource::Text("FROM x".to_owned()));

        let message = read(&format!("{path}/Dockerfile"), None, b"").unwrap_err();
        assert!(
            message.contains(&format!(
                "unable to prepare context: path \"{path}/Dockerfile\" not found\nhint: the context is a folder"
            )),
            "{message}"
        );
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn neither_folder_nor_url() {
        assert_eq!(
            read("/nonexistent", None, b"").unwrap_err(),
            "Error: unable to prepare context: path \"/nonexistent\" not found\n"
        );
        assert!(read("", None, b"").unwrap_err().starts_with("Error: please specify build context"));
        assert!(read(".", Some("https://x.example/Dockerfile"), b"").unwrap_err().contains("not supported yet"));
        let (context, dockerfile) = read("https://x.example/y.git#v1:sub", None, b"").unwrap();
        assert!(matches!(context, ContextSource::Git(git) if git.folder == "sub"));
        assert_eq!(dockerfile, DockerfileSource::InContext("Dockerfile".to_owned()));
        let (context, dockerfile) = read("https://x.example/y.tar", Some("sub/x"), b"").unwrap();
        assert!(matches!(context, ContextSource::Url(url) if url == "https://x.example/y.tar"));
        assert_eq!(dockerfile, DockerfileSource::InContext("sub/x".to_owned()));
    }
}
