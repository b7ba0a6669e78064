//! Names of signals, as Docker takes them.

/// The number of a signal given by its name, in any case, with or without `SIG`; real-time signals as `RTMIN`,
/// `RTMIN+n`, `RTMAX-n` and `RTMAX` of the C library's range (34 to 64). Numbers are those of x86, ARM and RISC-V
/// (signal(7)).
#[must_use]
pub fn number(name: &str) -> Option<i32> {
    let upper = name.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        return real_time(offset, '+').map(|offset| 34 + offset);
    }
    if let Some(offset) = name.strip_prefix("RTMAX") {
        return real_time(offset, '-').map(|offset| 64 - offset);
    }
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// The number of a signal given by its name or by its number, 1 to 64.
#[must_use]
pub fn parse(text: &str) -> Option<i32> {
    let given = text.parse().ok().or_else(|| number(text))?;
    (1..=64).contains(&given).then_some(given)
}

/// The name of a signal without `SIG`, if it has one.
#[must_use]
pub fn name(number: i32) -> Option<&'static str> {
    NAMES.iter().find(|(_, known)| *known == number).map(|(name, _)| *name)
}

fn real_time(offset: &str, sign: char) -> Option<i32> {
    if offset.is_empty() {
        return Some(0);
    }
    offset.strip_prefix(sign)?.parse().ok().filter(|offset| (0..=30).contains(offset))
}

/// The first name of a number is the usual one.
const NAMES: [(&str, i32); 35] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("UNUSED", 31),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let cases =
            [("TERM", Some(15)), ("sigint", Some(2)), ("SIGRTMIN+3", Some(37)), ("RTMAX-30", Some(34)), ("FOO", None)];
        for (name, expected) in cases {
            assert_eq!(number(name), expected, "{name}");
        }
        assert_eq!((name(15), name(6), name(99)), (Some("TERM"), Some("ABRT"), None));
        assert_eq!(number("RTMIN-1"), None);
        for (text, expected) in
            [("9", Some(9)), ("term", Some(15)), ("64", Some(64)), ("0", None), ("65", None), ("-1", None)]
        {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
