//! DNS messages, as far as finding the addresses of a host needs them (RFC 1035, RFC 3596).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const TYPE_CNAME: u16 = 5;
const CLASS_IN: u16 = 1;
const HEADER_LENGTH: usize = 12;
/// Longest chain of aliases that is followed.
const ALIAS_LIMIT: usize = 16;

/// The types of address records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordType {
    A = 1,
    Aaaa = 28,
}

/// One question.
#[derive(Debug)]
pub(crate) struct Query<'a> {
    /// Unpredictable: with the port, it is what an off-path attacker has to guess (RFC 5452).
    pub(crate) id: u16,
    pub(crate) name: &'a str,
    pub(crate) record: RecordType,
}

/// What a server said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The addresses; none when the name exists without any of this type.
    Addresses(Vec<IpAddr>),
    /// There is no such name.
    NoSuchName,
    /// The answer did not fit into a datagram: ask again by TCP.
    Truncated,
    /// The server cannot or will not answer.
    Failure,
}

impl Query<'_> {
    /// The message to send; `None` if the name is none.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let mut message = Vec::with_capacity(HEADER_LENGTH + self.name.len() + 6);
        message.extend(self.id.to_be_bytes());
        // Recursion desired; one question, no records.
        message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        let name = self.name.strip_suffix('.').unwrap_or(self.name);
        // 255 bytes with the length bytes of the first label and of the root.
        if name.len() > 253 {
            return None;
        }
        for label in name.split('.') {
            let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
            if !label.bytes().all(|b| b.is_ascii_graphic()) {
                return None;
            }
            message.push(length);
            message.extend(label.as_bytes());
        }
        message.push(0);
        message.extend((self.record as u16).to_be_bytes());
        message.extend(CLASS_IN.to_be_bytes());
        Some(message)
    }

    /// Reads an answer; `None` if the message is no answer to this question and should be ignored.
    pub(crate) fn decode(&self, message: &[u8]) -> Option<Answer> {
        let mut reader = Reader { message, at: 0 };
        let (id, flags) = (reader.number()?, reader.number()?);
        let (questions, answers) = (reader.number()?, reader.number()?);
        reader.at = HEADER_LENGTH;
        // A response to a standard query.
        if id != self.id || flags & 0xf800 != 0x8000 || questions != 1 {
            return None;
        }
        let asked = self.name.strip_suffix('.').unwrap_or(self.name).to_ascii_lowercase();
        let question = (reader.name()?, reader.number()?, reader.number()?);
        if question != (asked.clone(), self.record as u16, CLASS_IN) {
            return None;
        }
        Some(match flags & 0xf {
            _ if flags & 0x0200 != 0 => Answer::Truncated,
            0 => reader.addresses(answers, asked, self.record).map_or(Answer::Failure, Answer::Addresses),
            3 => Answer::NoSuchName,
            _ => Answer::Failure,
        })
    }
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let bytes = self.message.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(bytes)
    }

    fn number(&mut self) -> Option<u16> {
        self.bytes(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A name in lower case. Compression pointers may only point backwards, so it always ends.
    fn name(&mut self) -> Option<String> {
        let mut name = String::new();
        let mut at = self.at;
        let mut lowest = self.at;
        let mut jumped = false;
        loop {
            let length = usize::from(*self.message.get(at)?);
            match length & 0xc0 {
                0 if length == 0 => {
                    if !jumped {
                        self.at = at + 1;
                    }
                    return Some(name);
                }
                0 => {
                    let label = self.message.get(at + 1..at + 1 + length)?;
                    if !name.is_empty() {
                        name.push('.');
                    }
                    name.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
                    if name.len() > 1024 {
                        return None;
                    }
                    at += 1 + length;
                }
                0xc0 => {
                    let target = (length & 0x3f) << 8 | usize::from(*self.message.get(at + 1)?);
                    if !jumped {
                        self.at = at + 2;
                    }
                    if target >= lowest {
                        return None;
                    }
                    (at, lowest, jumped) = (target, target, true);
                }
                _ => return None,
            }
        }
    }

    /// The addresses of `name`, its aliases followed. Records of other names do not count, whoever added them.
    fn addresses(&mut self, count: u16, mut name: String, record: RecordType) -> Option<Vec<IpAddr>> {
        let mut addresses = Vec::new();
        let mut aliases = Vec::new();
        for _ in 0..count {
            let owner = self.name()?;
            let (kind, class) = (self.number()?, self.number()?);
            self.bytes(4)?;
            let length = usize::from(self.number()?);
            let end = self.at + length;
            if class == CLASS_IN && kind == TYPE_CNAME {
                aliases.push((owner, self.name()?));
            } else if class == CLASS_IN && kind == record as u16 {
                let data = self.bytes(length)?;
                let address = match record {
                    RecordType::A => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?)),
                    RecordType::Aaaa => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?)),
                };
                addresses.push((owner, address));
            }
            self.at = end;
        }
        for _ in 0..ALIAS_LIMIT {
            match aliases.iter().find(|(owner, _)| *owner == name) {
                Some((_, target)) => name.clone_from(target),
                None => break,
            }
        }
        addresses.retain(|(owner, _)| *owner == name);
        Some(addresses.into_iter().map(|(_, address)| address).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: Query<'_> = Query { id: 0x1234, name: "Reg.example.com", record: RecordType::A };

    /// The query turned into an answer with this code and these records.
    fn answer(flags: [u8; 2], records: &[&[u8]]) -> Vec<u8> {
        let mut message = QUERY.encode().unwrap();
        message[2..4].copy_from_slice(&flags);
        message[7] = u8::try_from(records.len()).unwrap();
        message.extend(records.concat());
        message
    }

    // The question's name stands at 12, "example.com" in it at 16.
    const ADDRESS: &[u8] = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\x01\x02\x03";
    const FOREIGN: &[u8] = b"\x04evil\xc0\x10\0\x01\0\x01\0\0\0\x3c\0\x04\x06\x06\x06\x06";
    const ALIAS: &[u8] = b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x06\x03cdn\xc0\x10";
    const OF_ALIAS: &[u8] = b"\x03cdn\xc0\x10\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\x01\x02\x04";

    fn addresses(list: &[&str]) -> Option<Answer> {
        Some(Answer::Addresses(list.iter().map(|address| address.parse().unwrap()).collect()))
    }

    #[test]
    fn answers_are_read() {
        const OK: [u8; 2] = [0x81, 0x80];
        assert_eq!(QUERY.decode(&answer(OK, &[ADDRESS])), addresses(&["10.1.2.3"]));
        assert_eq!(QUERY.decode(&answer(OK, &[OF_ALIAS, ALIAS])), addresses(&["10.1.2.4"]));
        assert_eq!(QUERY.decode(&answer(OK, &[ADDRESS, FOREIGN])), addresses(&["10.1.2.3"]));
        assert_eq!(QUERY.decode(&answer(OK, &[])), addresses(&[]));
        assert_eq!(QUERY.decode(&answer([0x81, 0x83], &[])), Some(Answer::NoSuchName));
        assert_eq!(QUERY.decode(&answer([0x81, 0x82], &[])), Some(Answer::Failure));
        assert_eq!(QUERY.decode(&answer([0x83, 0x80], &[])), Some(Answer::Truncated));
    }

    #[test]
    fn answers_to_other_questions_are_ignored() {
        let good = answer([0x81, 0x80], &[ADDRESS]);
        let with = |at: usize, value: u8| {
            let mut message = good.clone();
            message[at] = value;
            QUERY.decode(&message)
        };
        assert_eq!(with(0, 0), None, "another id");
        assert_eq!(with(2, 0x01), None, "a question");
        assert_eq!(with(13, b'x'), None, "another name");
        assert_eq!(QUERY.decode(&QUERY.encode().unwrap()), None, "our own question");
        let other = Query { record: RecordType::Aaaa, ..QUERY };
        assert_eq!(other.decode(&good), None, "another type");
    }

    #[test]
    fn damaged_answers_end() {
        let good = answer([0x81, 0x80], &[ALIAS, OF_ALIAS]);
        for length in 0..good.len() {
            assert_ne!(QUERY.decode(&good[..length]), addresses(&["10.1.2.4"]), "{length}");
        }
        for at in 12..good.len() {
            for value in [0, 0x3f, 0x40, 0xc0, 0xff] {
                let mut message = good.clone();
                message[at] = value;
                // Any answer will do, as long as there is one.
                let _ = QUERY.decode(&message);
            }
        }
        let own_pointer: &[u8] = b"\xc0\x21\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\x01\x02\x03";
        assert_eq!(QUERY.decode(&answer([0x81, 0x80], &[own_pointer])), Some(Answer::Failure));
        let circle: &[u8] = b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x02\xc0\x0c";
        assert_eq!(QUERY.decode(&answer([0x81, 0x80], &[circle])), addresses(&[]));
    }

    #[test]
    fn what_is_no_name_is_not_asked() {
        for name in ["", ".", "a..b", "a b", "ü.com", &"a".repeat(64), &"a.".repeat(127)] {
            let encoded = Query { id: 0, name, record: RecordType::A }.encode();
            assert_eq!(encoded.is_some(), name == "a.".repeat(127), "{name}");
        }
    }
}
