//! `--chmod`: twelve bits, or what chmod(1) understands.

use super::Mode;
use super::error::FilesError;

const SET_ID: u32 = 0o6000;
const STICKY: u32 = 0o1000;
/// Execution by anybody.
const EXECUTE: u32 = 0o111;

/// A change of permissions that is ready to be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Chmod {
    Bits(u32),
    Clauses(Vec<Clause>),
}

/// `u+rw`: one operation of a clause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clause {
    /// The bits of those that it is for; none: everybody.
    who: u32,
    operation: Operation,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Add,
    Remove,
    Set,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// These bits, and those for execution where anybody had them before, or it is a folder.
    Bits { bits: u32, if_executable: bool },
    /// What these have: how far their bits are from the lowest.
    Copy(u32),
}

impl Chmod {
    pub(super) fn parse(mode: &Mode) -> Result<Self, FilesError> {
        let invalid = |mode: &str| FilesError::Mode { mode: mode.chars().take(100).collect() };
        match mode {
            Mode::Bits(bits) if *bits <= 0o7777 => Ok(Self::Bits(*bits)),
            Mode::Bits(bits) => Err(invalid(&format!("{bits:o}"))),
            Mode::Symbolic(text) => clauses(text).map(Self::Clauses).ok_or_else(|| invalid(text)),
        }
    }

    /// The mode of folders that are made on the way to the destination.
    pub(super) fn of_new_folders(&self) -> u32 {
        match self {
            Self::Bits(bits) => bits & 0o777,
            Self::Clauses(_) => 0o755,
        }
    }

    pub(super) fn apply(&self, mode: u32, is_folder: bool) -> u32 {
        match self {
            Self::Bits(bits) => *bits,
            Self::Clauses(clauses) => {
                let executable = is_folder || mode & EXECUTE != 0;
                clauses.iter().fold(mode, |mode, clause| clause.apply(mode, executable))
            }
        }
    }
}

impl Clause {
    fn apply(self, mode: u32, executable: bool) -> u32 {
        // Without anybody named: everybody, and all special bits.
        let who = if self.who == 0 { 0o7777 } else { self.who };
        let bits = match self.what {
            What::Bits { bits, if_executable } => bits | if if_executable && executable { EXECUTE } else { 0 },
            What::Copy(shift) => {
                let bits = mode >> shift & 0o7;
                bits << 6 | bits << 3 | bits
            }
        };
        match self.operation {
            Operation::Add => mode | (bits & who),
            Operation::Remove => mode & !(bits & who),
            // The sticky bit goes only where it is named.
            Operation::Set => (mode & !(who & !STICKY)) | (bits & who),
        }
    }
}

/// `[ugoa]*([-+=]([rwxXst]*|[ugo]))+` with commas between.
fn clauses(text: &str) -> Option<Vec<Clause>> {
    let mut clauses = Vec::new();
    for clause in text.split(',') {
        let operations = clause.find(['+', '-', '='])?;
        let mut who = 0;
        for letter in clause[..operations].chars() {
            who |= match letter {
                'u' => 0o4700,
                'g' => 0o2070,
                'o' => 0o0007,
                'a' => 0o6777,
                _ => return None,
            };
        }
        // The special bits are nothing to do with others.
        let only_others = who == 0o0007;
        let mut letters = clause[operations..].chars().peekable();
        while let Some(letter) = letters.next() {
            let operation = match letter {
                '+' => Operation::Add,
                '-' => Operation::Remove,
                '=' => Operation::Set,
                _ => return None,
            };
            let (mut bits, mut if_executable, mut named, mut copied) = (0, false, false, false);
            while let Some(letter) = letters.next_if(|letter| !matches!(letter, '+' | '-' | '=')) {
                if let Some(shift) = match letter {
                    'u' => Some(6),
                    'g' => Some(3),
                    'o' => Some(0),
                    _ => None,
                } {
                    let operation = if copied && operation == Operation::Set { Operation::Add } else { operation };
                    clauses.push(Clause { who, operation, what: What::Copy(shift) });
                    copied = true;
                    continue;
                }
                named = true;
                bits |= match letter {
                    'r' => 0o444,
                    'w' => 0o222,
                    'x' => EXECUTE,
                    'X' if operation == Operation::Remove => EXECUTE,
                    'X' => {
                        if_executable = true;
                        0
                    }
                    's' if only_others => 0,
                    's' => SET_ID,
                    't' if only_others => 0,
                    't' => STICKY,
                    _ => return None,
                };
            }
            if named || !copied {
                let who = if bits & STICKY != 0 && who != 0 { who | STICKY } else { who };
                let operation = if copied && operation == Operation::Set { Operation::Add } else { operation };
                clauses.push(Clause { who, operation, what: What::Bits { bits, if_executable } });
            }
        }
    }
    Some(clauses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(text: &str, mode: u32, is_folder: bool) -> Option<u32> {
        Chmod::parse(&Mode::Symbolic(text.to_owned())).ok().map(|chmod| chmod.apply(mode, is_folder))
    }

    #[test]
    fn symbols_are_those_of_chmod() {
        for (text, mode, is_folder, expected) in [
            ("+x", 0o644, false, 0o755),
            ("a+x", 0o644, false, 0o755),
            ("u+x", 0o644, false, 0o744),
            ("go-rwx", 0o777, false, 0o700),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("u=rwX,go=rX", 0o4777, true, 0o755),
            ("g=u", 0o640, false, 0o660),
            ("go=u-w", 0o700, false, 0o755),
            ("o=g", 0o751, false, 0o755),
            ("=r", 0o777, false, 0o444),
            ("=", 0o777, false, 0),
            ("go=", 0o777, false, 0o700),
            ("u+s", 0o755, false, 0o4755),
            ("g+s", 0o755, true, 0o2755),
            ("+s", 0o755, false, 0o6755),
            ("o+s", 0o755, false, 0o755),
            ("+t", 0o777, true, 0o1777),
            ("u-s", 0o6755, false, 0o2755),
            ("a=rx", 0o6755, false, 0o555),
            ("=rx", 0o1777, true, 0o1555),
            ("u+r-w+x", 0o200, false, 0o500),
            ("a-X", 0o755, true, 0o644),
            ("+X", 0o644, false, 0o644),
            ("+X", 0o654, false, 0o755),
            ("u=g,g=u", 0o640, false, 0o440),
        ] {
            assert_eq!(apply(text, mode, is_folder), Some(expected), "{text} {mode:o}");
        }
        for text in ["", ",", "u", "x", "u+q", "u+x,", "z+x", "644", "u+x g+x", "+rwx,o"] {
            assert_eq!(apply(text, 0o644, false), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_twelve_bits() {
        let chmod = Chmod::parse(&Mode::Bits(0o4750)).unwrap();
        assert_eq!((chmod.apply(0o644, false), chmod.of_new_folders()), (0o4750, 0o750));
        let error = Chmod::parse(&Mode::Bits(0o10000)).unwrap_err().to_string();
        assert_eq!(error, "invalid chmod parameter: '10000'. it should be octal string and between 0 and 07777");
    }
}
