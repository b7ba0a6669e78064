//! The key sequence that leaves a container running.

/// What `--detach-keys` holds when it is not given.
pub(crate) const DEFAULT: &str = "ctrl-p,ctrl-q";

/// Looks for the sequence in what is typed. Keys that begin it are held back until the next one decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DetachKeys {
    sequence: Vec<u8>,
    /// How many keys of the sequence have been typed.
    held: usize,
}

impl DetachKeys {
    /// Reads `ctrl-p,ctrl-q`, `ctrl-@,a`…; empty means the default.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = if text.is_empty() { DEFAULT } else { text };
        let sequence = text.split(',').map(|key| code(key).ok_or_else(|| format!("Unknown character: '{key}'")));
        Ok(Self { sequence: sequence.collect::<Result<_, _>>()?, held: 0 })
    }

    /// Appends to `out` what the container is to get, and tells whether the sequence is complete; then the rest of
    /// the input belongs to nobody.
    pub(crate) fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> bool {
        for &byte in input {
            loop {
                if self.sequence[self.held] == byte {
                    self.held += 1;
                    break;
                }
                if self.held == 0 {
                    out.push(byte);
                    break;
                }
                // The first held key does not begin the sequence; those after it may.
                let typed = self.sequence[..self.held].to_vec();
                out.push(typed[0]);
                let shorter = (1..self.held).find(|&from| self.sequence.starts_with(&typed[from..]));
                let from = shorter.unwrap_or(self.held);
                out.extend_from_slice(&typed[1..from]);
                self.held -= from;
            }
            if self.held == self.sequence.len() {
                return true;
            }
        }
        false
    }
}

/// The byte that a terminal sends for a key.
fn code(key: &str) -> Option<u8> {
    match key.as_bytes() {
        [byte] if byte.is_ascii() => Some(*byte),
        [b'c', b't', b'r', b'l', b'-', letter] => match letter {
            b'a'..=b'z' => Some(letter - b'a' + 1),
            b'@' => Some(0),
            b'['..=b'_' => Some(letter - b'[' + 27),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &str, inputs: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut keys = DetachKeys::parse(keys).unwrap();
        let mut out = Vec::new();
        let detached = inputs.iter().any(|input| keys.feed(input, &mut out));
        (out, detached)
    }

    #[test]
    fn the_default_sequence_detaches() {
        assert_eq!(typed("", &[b"ab\x10\x11cd"]), (b"ab".to_vec(), true));
        assert_eq!(typed("", &[b"\x10", b"\x11"]), (Vec::new(), true));
    }

    #[test]
    fn a_lone_beginning_is_passed_on() {
        assert_eq!(typed("", &[b"\x10x"]), (b"\x10x".to_vec(), false));
        assert_eq!(typed("", &[b"\x10\x10\x11"]), (b"\x10".to_vec(), true));
        assert_eq!(typed("", &[b"\x10", b"\x10", b"\x10"]), (b"\x10\x10".to_vec(), false));
        assert_eq!(typed("a,a,b", &[b"aaab"]), (b"a".to_vec(), true));
        assert_eq!(typed("a,b,a,c", &[b"ababac"]), (b"ab".to_vec(), true));
        assert_eq!(typed("a,b,a,c", &[b"abad"]), (b"abad".to_vec(), false));
    }

    #[test]
    fn keys_have_names() {
        for (text, sequence) in
            [("ctrl-a", vec![1]), ("ctrl-@,x", vec![0, b'x']), ("ctrl-[", vec![27]), ("ctrl-_", vec![31])]
        {
            assert_eq!(DetachKeys::parse(text).unwrap().sequence, sequence);
        }
        for (text, key) in [("shift-a", "shift-a"), ("a,,b", ""), ("ctrl-A", "ctrl-A")] {
            assert_eq!(DetachKeys::parse(text).unwrap_err(), format!("Unknown character: '{key}'"));
        }
    }
}
