//! Spans of time as Go writes them: `1h30m`, `1.5s`, `300ms`.

use super::problem::Problem;

/// A span in nanoseconds, as Go's `time.ParseDuration` takes it.
///
/// # Errors
/// [`Problem::Duration`], in Go's words.
pub fn duration(text: &str) -> Result<i64, Problem> {
    let wrong = |what: String| Problem::Duration { what, text: text.to_owned() };
    let invalid = || wrong("invalid duration".to_owned());
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, after) = rest.split_at(digits(rest));
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(digits(after)),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = after.find(|character: char| character == '.' || character.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let scale: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "" => return Err(wrong("missing unit in duration".to_owned())),
            _ => return Err(wrong(format!("unknown unit {:?} in duration", super::problem::shortened(unit)))),
        };
        // 19 digits are more than a span can have; further ones of a fraction are less than a nanosecond.
        let significant = whole.trim_start_matches('0');
        if significant.len() > 19 {
            return Err(invalid());
        }
        let whole: i128 = if significant.is_empty() { 0 } else { significant.parse().map_err(|_| invalid())? };
        let fraction = &fraction[..fraction.len().min(18)];
        let parts: i128 = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| invalid())? };
        let of = 10_i128.pow(u32::try_from(fraction.len()).expect("18 at most"));
        total += whole * scale + parts * scale / of;
        if total > i128::from(i64::MAX) {
            return Err(invalid());
        }
        rest = after;
    }
    let total = i64::try_from(total).map_err(|_| invalid())?;
    Ok(if negative { -total } else { total })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("30s", Ok(30_000_000_000)),
            ("1h30m", Ok(5_400_000_000_000)),
            ("1.5s", Ok(1_500_000_000)),
            (".5ms", Ok(500_000)),
            ("1.s", Ok(1_000_000_000)),
            ("-2us", Ok(-2_000)),
            ("+2µs", Ok(2_000)),
            ("1.0000000000000000000000001ns", Ok(1)),
            ("", Err("time: invalid duration \"\"")),
            ("s", Err("time: invalid duration \"s\"")),
            (".s", Err("time: invalid duration \".s\"")),
            ("5", Err("time: missing unit in duration \"5\"")),
            ("5x", Err("time: unknown unit \"x\" in duration \"5x\"")),
            ("5 s", Err("time: unknown unit \" s\" in duration \"5 s\"")),
            ("9999999h", Err("time: invalid duration \"9999999h\"")),
            ("99999999999999999999s", Err("time: invalid duration \"99999999999999999999s\"")),
        ] {
            assert_eq!(
                duration(text).map_err(|problem| problem.to_string()),
                expected.map_err(str::to_owned),
                "{text}"
            );
        }
        assert!(duration(&"1h".repeat(1 << 22)).is_err());
    }
}
