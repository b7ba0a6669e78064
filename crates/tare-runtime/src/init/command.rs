//! Finding the program, and explaining why it cannot be executed.

use crate::error::{Errno, Error, NotExecutable};
use rustix::fs::{Access, AtFlags, CWD, FileType, OFlags};
use rustix::io::Errno as Os;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The path to execute for `args[0]`: itself when it has a slash, else the first match in the environment's `PATH`.
pub(super) fn find(command: &CStr, env: &[CString]) -> Result<CString, Error> {
    let name = command.to_string_lossy();
    if command.to_bytes().contains(&b'/') {
        return match check(command) {
            Ok(()) => Ok(command.to_owned()),
            Err(Os::NOENT | Os::NOTDIR) => Err(Error::CommandNotFound { command: name.into_owned() }),
            Err(Os::ACCESS | Os::PERM) => Err(not_executable(&name, NotExecutable::Permission)),
            Err(error) => Err(not_executable(&name, NotExecutable::Other(error.into()))),
        };
    }
    let path = env.iter().rev().find_map(|variable| variable.to_bytes().strip_prefix(b"PATH="));
    // An empty entry would mean the working directory, where the image's author did not put programs on purpose.
    for folder in path.unwrap_or_default().split(|byte| *byte == b':').filter(|folder| !folder.is_empty()) {
        let candidate = [folder, b"/", command.to_bytes()].concat();
        if let Ok(candidate) = CString::new(candidate)
            && check(&candidate).is_ok()
        {
            return Ok(candidate);
        }
    }
    Err(Error::CommandNotFound { command: name.into_owned() })
}

fn not_executable(command: &str, reason: NotExecutable) -> Error {
    Error::NotExecutable { command: command.to_owned(), reason }
}

fn check(path: &CStr) -> Result<(), Os> {
    let status = rustix::fs::stat(path)?;
    match FileType::from_raw_mode(status.st_mode) {
        FileType::Directory => Err(Os::ISDIR),
        FileType::RegularFile => rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS),
        _ => Err(Os::ACCESS),
    }
}

/// The typed error for a failed execve.
pub(super) fn explain(path: &CStr, error: Errno) -> Error {
    let command = path.to_string_lossy();
    let reason = match Os::from_raw_os_error(error.0) {
        Os::ACCESS | Os::PERM => NotExecutable::Permission,
        Os::NOEXEC => NotExecutable::Format,
        // The file was there a moment ago, so it is its interpreter that is not.
        Os::NOENT => missing_interpreter(path).unwrap_or(NotExecutable::Other(error)),
        _ => NotExecutable::Other(error),
    };
    not_executable(&command, reason)
}

fn missing_interpreter(path: &CStr) -> Option<NotExecutable> {
    // NONBLOCK: the container may have put a FIFO there meanwhile.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, rustix::fs::Mode::empty()).ok()?);
    // A page holds any first line that the kernel reads, and the program headers of any linker's making.
    let mut head = vec![0; 4096];
    let length = file.read_at(&mut head, 0).ok()?;
    head.truncate(length);
    interpreter(&head, |offset, size| {
        let mut bytes = vec![0; size];
        file.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes)
    })
}

/// What the file's beginning says about its interpreter; `read` gives bytes from elsewhere in the file.
fn interpreter(head: &[u8], read: impl Fn(u64, usize) -> Option<Vec<u8>>) -> Option<NotExecutable> {
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next()?;
        let carriage_return = line.ends_with(b"\r");
        let name = line.trim_ascii().split(u8::is_ascii_whitespace).next()?;
        let interpreter = String::from_utf8_lossy(name).into_owned();
        // With an argument in between, the carriage return belongs to that and not to the interpreter's name.
        let carriage_return = carriage_return && line.trim_ascii() == name;
        return Some(NotExecutable::MissingInterpreter { interpreter, carriage_return });
    }
    // ELF, little-endian (elf(5)): class at 4; program headers by offset, size and number.
    if !head.starts_with(b"\x7fELF") || head.get(5) != Some(&1) {
        return None;
    }
    let wide = head.get(4) == Some(&2);
    let number = |at: usize, size: usize| -> Option<u64> {
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(head.get(at..at + size)?);
        Some(u64::from_le_bytes(bytes))
    };
    let (table, entry_size, count) = if wide {
        (number(32, 8)?, number(54, 2)?, number(56, 2)?)
    } else {
        (number(28, 4)?, number(42, 2)?, number(44, 2)?)
    };
    const PT_INTERP: u64 = 3;
    for index in 0..count.min(64) {
        let at = usize::try_from(table.checked_add(index * entry_size)?).ok()?;
        if number(at, 4)? != PT_INTERP {
            continue;
        }
        let (offset, size) =
            if wide { (number(at + 8, 8)?, number(at + 32, 8)?) } else { (number(at + 4, 4)?, number(at + 16, 4)?) };
        // PATH_MAX: the kernel takes no longer one either.
        let bytes = read(offset, usize::try_from(size).ok().filter(|size| *size <= 4096)?)?;
        let name = bytes.split(|byte| *byte == 0).next()?;
        let interpreter = String::from_utf8_lossy(name).into_owned();
        return Some(NotExecutable::MissingInterpreter { interpreter, carriage_return: false });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(interpreter: &str, carriage_return: bool) -> Option<NotExecutable> {
        Some(NotExecutable::MissingInterpreter { interpreter: interpreter.into(), carriage_return })
    }

    #[test]
    fn first_lines_name_their_interpreter() {
        assert_eq!(interpreter(b"#!/bin/bash\necho", |_, _| None), missing("/bin/bash", false));
        assert_eq!(interpreter(b"#! /bin/sh -e\r\n", |_, _| None), missing("/bin/sh", false));
        assert_eq!(interpreter(b"#!/bin/sh\r\necho\r\n", |_, _| None), missing("/bin/sh", true));
        assert_eq!(interpreter(b"hello", |_, _| None), None);
    }

    #[test]
    fn a_fifo_in_the_programs_place_does_not_block() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        rustix::fs::mkfifoat(CWD, &path, rustix::fs::Mode::RUSR).unwrap();
        let (done, waited) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let path = CString::new(path.into_os_string().into_encoded_bytes()).unwrap();
            done.send(missing_interpreter(&path)).unwrap();
        });
        assert_eq!(waited.recv_timeout(std::time::Duration::from_secs(10)).unwrap(), None);
    }

    #[test]
    fn programs_name_their_loader() {
        let mut head = vec![0; 64 + 56];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (head[32], head[54], head[56]) = (64, 56, 1);
        (head[64], head[64 + 8], head[64 + 32]) = (3, 200, 12);
        let read = |offset, size| {
            assert_eq!((offset, size), (200, 12));
            Some(b"/lib/ld.so\0\0".to_vec())
        };
        assert_eq!(interpreter(&head, read), missing("/lib/ld.so", false));
        head[56] = 9;
        head[64] = 1;
        assert_eq!(interpreter(&head, |_, _| None), None);
    }

    #[test]
    fn commands_are_found_in_the_containers_path_only() {
        let env = |path: &str| vec![CString::new(format!("PATH={path}")).unwrap()];
        assert_eq!(find(c"sh", &env("/nowhere::/bin")).unwrap().as_c_str(), c"/bin/sh");
        let missing = |command: &CStr, path: &str| find(command, &env(path)).unwrap_err();
        assert_eq!(missing(c"sh", "").exit_code(), 127);
        assert_eq!(missing(c"/nowhere", "").exit_code(), 127);
        assert_eq!(missing(c"/etc", "").to_string(), r#"exec: "/etc": is a directory"#);
        assert_eq!(missing(c"/etc/passwd", "").to_string(), r#"exec: "/etc/passwd": permission denied"#);
    }
}
