//! Parts of blobs: `Range` of downloads (RFC 9110, section 14) and `Content-Range` of chunks (distribution
//! specification, "Pushing a blob in chunks").

/// What part of a blob to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// The bytes from `start` up to, not including, `end`.
    Range {
        /// First byte.
        start: u64,
        /// Behind the last byte.
        end: u64,
    },
    /// Nothing that the blob has.
    NotSatisfiable,
}

/// The part of a blob of `size` bytes that a `Range` header asks for. Other units, several ranges and what is no range at
/// all count as absent, as the RFC lets us.
pub(super) fn requested(header: Option<&str>, size: u64) -> Part {
    let Some(range) = header.and_then(|header| header.trim().strip_prefix("bytes=")) else { return Part::Whole };
    let Some((first, last)) = range.trim().split_once('-') else { return Part::Whole };
    if first.is_empty() {
        return match number(last) {
            None => Part::Whole,
            Some(0) => Part::NotSatisfiable,
            Some(_) if size == 0 => Part::NotSatisfiable,
            Some(count) => Part::Range { start: size.saturating_sub(count), end: size },
        };
    }
    let Some(start) = number(first) else { return Part::Whole };
    let end = match last {
        "" => size,
        last => match number(last) {
            Some(last) if last < start => return Part::NotSatisfiable,
            Some(last) => last.saturating_add(1).min(size),
            None => return Part::Whole,
        },
    };
    if start < size { Part::Range { start, end } } else { Part::NotSatisfiable }
}

/// The first and the last byte that a chunk's `Content-Range` names: `0-1023`, also as `bytes 0-1023/*`, which some
/// clients send.
pub(super) fn chunk(header: &str) -> Option<(u64, u64)> {
    let range = header.trim();
    let range = range.strip_prefix("bytes").map_or(range, |range| range.trim_start_matches([' ', '=']));
    let range = range.split('/').next().unwrap_or_default();
    let (first, last) = range.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    // A chunk of no bytes cannot be written this way; its length would be the end plus one.
    (first <= last && last < u64::MAX).then_some((first, last))
}

/// A decimal number: digits only, no sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_downloads() {
        let part = |header: &str| requested(Some(header), 2048);
        let range = |start, end| Part::Range { start, end };
        assert_eq!(requested(None, 10), Part::Whole);
        for (header, expected) in [
            ("bytes=500-1499", range(500, 1500)),
            ("bytes=500-", range(500, 2048)),
            ("bytes=-500", range(1548, 2048)),
            ("bytes=-5000", range(0, 2048)),
            ("bytes=2000-5000", range(2000, 2048)),
            ("bytes=0-0", range(0, 1)),
            ("bytes=0-18446744073709551615", range(0, 2048)),
            ("bytes=500-0", Part::NotSatisfiable),
            ("bytes=2048-", Part::NotSatisfiable),
            ("bytes=5000-10000", Part::NotSatisfiable),
            ("bytes=-0", Part::NotSatisfiable),
            ("bytes=", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("bytes=0-1,4-5", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("bytes=99999999999999999999-", Part::Whole),
        ] {
            assert_eq!(part(header), expected, "{header}");
        }
        assert_eq!(requested(Some("bytes=0-"), 0), Part::NotSatisfiable);
        assert_eq!(requested(Some("bytes=-1"), 0), Part::NotSatisfiable);
    }

    #[test]
    fn ranges_of_chunks() {
        for (header, expected) in [
            ("0-1023", Some((0, 1023))),
            ("1024-1024", Some((1024, 1024))),
            ("bytes 0-9/10", Some((0, 9))),
            ("bytes=0-9", Some((0, 9))),
            ("", None),
            ("5", None),
            ("9-5", None),
            ("-5", None),
            ("0--1", None),
            ("+0-1", None),
            ("0-18446744073709551615", None),
            ("0-99999999999999999999", None),
        ] {
            assert_eq!(chunk(header), expected, "{header}");
        }
    }
}
