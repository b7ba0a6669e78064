//! What a registry says of its limits when it has had enough of us.

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use ureq::http::HeaderMap;

/// A limit that was reached; registries tell more or less of it.
///
/// From `Retry-After` (RFC 9110, section 10.2.3), Docker Hub's `RateLimit-Limit: 100;w=21600` and
/// `RateLimit-Remaining`, the drafts' `RateLimit-Reset`, and the older `X-RateLimit-…` of the same meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests (at Docker Hub: pulls) in a window.
    pub limit: Option<u64>,
    /// How many of them are left.
    pub remaining: Option<u64>,
    /// How long a window is.
    pub window: Option<Duration>,
    /// How long until asking again has sense.
    pub resets: Option<Duration>,
}

/// Longer than any window of a registry; what is beyond it is nonsense.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

impl RateLimit {
    pub(crate) fn of(headers: &HeaderMap, retry_after: Option<Duration>) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let either = |name: &str| text(name).or_else(|| text(&format!("x-{name}")));
        let number = |value: &str| value.split([';', ',']).next().and_then(|number| number.trim().parse::<u64>().ok());
        let limit = either("ratelimit-limit");
        let window = limit.and_then(|limit| limit.split(';').find_map(|part| part.trim().strip_prefix("w=")));
        let resets = either("ratelimit-reset").and_then(number).and_then(|seconds| {
            // Seconds from now, or, where that would be decades, seconds since 1970.
            let reset = Duration::from_secs(seconds);
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            if reset > LONGEST { reset.checked_sub(now) } else { Some(reset) }
        });
        let sane = |duration: &Duration| *duration <= LONGEST;
        Self {
            limit: limit.and_then(number),
            remaining: either("ratelimit-remaining").and_then(number),
            window: window.and_then(number).map(Duration::from_secs).filter(sane),
            resets: retry_after.or(resets).filter(sane),
        }
    }
}

/// The wait that a `Retry-After` asks for: seconds, or a date.
pub(crate) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let now = now.duration_since(UNIX_EPOCH).ok()?;
            Some(http_date(value)?.saturating_sub(now))
        }
    }
}

/// Time since 1970 of an `IMF-fixdate` (RFC 9110, section 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(crate) fn http_date(text: &str) -> Option<Duration> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.strip_suffix(" GMT")?.split([' ', ':']);
    let number = |words: &mut dyn Iterator<Item = &str>, limit: u64| -> Option<u64> {
        words.next()?.parse().ok().filter(|number| *number < limit)
    };
    let day = number(&mut words, 32)?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let year = number(&mut words, 10_000)?.checked_sub(1970)? + 1970;
    let (hour, minute, second) = (number(&mut words, 24)?, number(&mut words, 60)?, number(&mut words, 61)?);
    // Days of the civil calendar, counted in years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    let days = days.checked_sub(719_469)?;
    Some(Duration::from_secs(days * 86_400 + hour * 3600 + minute * 60 + second))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ureq::http::{HeaderName, HeaderValue};

    #[test]
    fn waits_are_seconds_or_dates() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_770);
        for (value, seconds) in [
            ("120", Some(120)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("Thu, 29 Feb 2096 00:00:00 GMT", Some(3_981_312_000 - 784_111_770)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Thu, 01 Jan 1960 00:00:00 GMT", None),
            ("Sun, 06 Nov 99999999999999999999 08:49:37 GMT", None),
            ("Sun, 99 Nov 1994 08:49:37 GMT", None),
            ("soon", None),
            ("-1", None),
        ] {
            assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn limits_are_read_in_their_spellings() {
        let of = |headers: &[(&'static str, &'static str)]| {
            let pair = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
            RateLimit::of(&headers.iter().map(pair).collect(), None)
        };
        let hub = of(&[("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "0;w=21600")]);
        let window = Some(Duration::from_secs(21_600));
        assert_eq!(hub, RateLimit { limit: Some(100), remaining: Some(0), window, resets: None });
        let draft = of(&[("x-ratelimit-limit", "60"), ("x-ratelimit-reset", "30")]);
        assert_eq!((draft.limit, draft.resets), (Some(60), Some(Duration::from_secs(30))));
        assert_eq!(
            of(&[("ratelimit-limit", "x;w=y"), ("ratelimit-reset", "18446744073709551615")]),
            RateLimit::default()
        );
    }
}
