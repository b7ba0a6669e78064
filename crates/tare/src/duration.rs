//! Spans and moments of time, as people write them and as they are shown.

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};
use std::time::Duration;

/// A span in Docker's words: `About an hour`, `5 seconds`.
pub(crate) fn human(seconds: i64) -> String {
    let minutes = seconds / 60;
    // Docker rounds hours to the nearest and derives the longer units from them.
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", hours / 24 / 365),
    }
}

/// How long ago a moment was, in Docker's words without `ago`.
pub(crate) fn since(moment: Timestamp) -> String {
    human(Timestamp::now().as_second() - moment.as_second())
}

/// A moment as Go prints it: `2026-11-23 17:05:00 +0000 UTC`, in the person's time zone.
pub(crate) fn show(moment: Timestamp) -> String {
    moment.to_zoned_datetime(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
}

/// A moment of `--since` and `--until`: a span before now (`42m`, `1h30m`), seconds since 1970 with an optional
/// fraction, or a date with as much of a time as is given, in the person's time zone unless it names its own.
pub(crate) fn moment(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let invalid = || {
        format!("invalid value for \"{text}\": expected a timestamp such as 2013-01-02T13:23:37Z or a span such as 42m")
    };
    if let Some(nanoseconds) = go_duration(text) {
        return Timestamp::from_nanosecond(now.as_nanosecond() - nanoseconds).map_err(|_| invalid());
    }
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') && !text.contains("..") {
        let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
        let nanoseconds: i32 = format!("{fraction:0<9}")[..9].parse().map_err(|_| invalid())?;
        return Timestamp::new(seconds.parse().map_err(|_| invalid())?, nanoseconds).map_err(|_| invalid());
    }
    let utc = text.strip_suffix('Z');
    let plain = utc.unwrap_or(text);
    let date_time = match plain.len() {
        10 => plain.parse::<civil::Date>().map(civil::DateTime::from),
        13 => format!("{plain}:00").parse(),
        _ => plain.parse(),
    }
    .map_err(|_| invalid())?;
    let zone = if utc.is_some() { TimeZone::UTC } else { TimeZone::system() };
    Ok(date_time.to_zoned_datetime(zone).map_err(|_| invalid())?.timestamp())
}

/// A span that does not go back in time: `1h30m`, `0s`.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let nanoseconds = go_duration(text).and_then(|nanoseconds| u64::try_from(nanoseconds).ok());
    nanoseconds.map(Duration::from_nanos).ok_or_else(|| format!("invalid duration \"{text}\": expected 1h30m, 10s …"))
}

/// Nanoseconds of a span in Go's notation: `1h30m`, `1.5s`, `-300ms`.
fn go_duration(text: &str) -> Option<i128> {
    let (sign, mut rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0_f64;
    let mut any = false;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += number * unit;
        any = true;
        rest = &rest[letters..];
    }
    // A hundred thousand years fit; more is no span anybody means.
    (any && total < 3e21).then_some(total as i128 * sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_do_not_go_back() {
        assert_eq!(span("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(span("0"), Ok(Duration::ZERO));
        assert!(span("-1s").is_err() && span("5").is_err() && span("").is_err());
    }

    #[test]
    fn spans_in_dockers_words() {
        let (minute, hour, day) = (60, 3600, 86400);
        for (seconds, expected) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (minute, "About a minute"),
            (119, "About a minute"),
            (2 * minute, "2 minutes"),
            (59 * minute, "59 minutes"),
            (hour, "About an hour"),
            (89 * minute, "About an hour"),
            (90 * minute, "2 hours"),
            (47 * hour, "47 hours"),
            (2 * day, "2 days"),
            (13 * day, "13 days"),
            (14 * day, "2 weeks"),
            (60 * day, "2 months"),
            (729 * day, "24 months"),
            (730 * day, "2 years"),
        ] {
            assert_eq!(human(seconds), expected);
        }
    }

    #[test]
    fn moments_are_absolute_or_before_now() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        for (text, expected) in [
            ("42m", "2026-01-02T02:22:05Z"),
            ("1h30m", "2026-01-02T01:34:05Z"),
            ("1.5s", "2026-01-02T03:04:03.5Z"),
            ("0", "2026-01-02T03:04:05Z"),
            ("2013-01-02T13:23:37Z", "2013-01-02T13:23:37Z"),
            ("2013-01-02T13:23:37.5+01:00", "2013-01-02T12:23:37.5Z"),
            ("2013-01-02Z", "2013-01-02T00:00:00Z"),
            ("2013-01-02T13:23Z", "2013-01-02T13:23:00Z"),
            ("1136073845", "2006-01-01T00:04:05Z"),
            ("1136073845.25", "2006-01-01T00:04:05.25Z"),
        ] {
            assert_eq!(moment(text, now).map(|moment| moment.to_string()), Ok(expected.to_owned()), "{text}");
        }
        for text in ["", "yesterday", "5x", "1..2", "2013-13-01"] {
            assert!(moment(text, now).is_err(), "{text}");
        }
    }
}
