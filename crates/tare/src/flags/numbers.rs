//! Values that are numbers, with the refusals of Go's `strconv`.

/// A whole number.
pub(crate) fn integer(text: &str) -> Result<i64, String> {
    text.parse().map_err(|error: std::num::ParseIntError| {
        use std::num::IntErrorKind::{NegOverflow, PosOverflow};
        let why = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.ParseInt: parsing \"{text}\": {why}")
    })
}

/// CPUs as a decimal (`1.5`), in thousand-millionths.
pub(crate) fn nano_cpus(text: &str) -> Result<u64, String> {
    let unreadable = || format!("failed to parse {text} as a rational number");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || whole.len() + fraction.len() == 0 {
        return Err(unreadable());
    }
    if fraction.trim_end_matches('0').len() > 9 {
        return Err("value is too precise".to_owned());
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| unreadable())? };
    // Nine digits at most count, so this cannot fail.
    let fraction: u64 = format!("{fraction:0<9}")[..9].parse().map_err(|_| unreadable())?;
    whole.checked_mul(1_000_000_000).and_then(|nano| nano.checked_add(fraction)).ok_or_else(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_exact() {
        for (text, nano) in
            [("1", 1_000_000_000), ("0.1", 100_000_000), (".5", 500_000_000), ("1.", 1_000_000_000), ("0.000000001", 1)]
        {
            assert_eq!(nano_cpus(text), Ok(nano), "{text}");
        }
        for text in ["x", "", ".", "-1", "1e3", "99999999999999"] {
            assert_eq!(nano_cpus(text).unwrap_err(), format!("failed to parse {text} as a rational number"));
        }
        assert_eq!(nano_cpus("0.0000000001").unwrap_err(), "value is too precise");
    }

    #[test]
    fn whole_numbers() {
        assert_eq!(integer("-1"), Ok(-1));
        assert_eq!(integer("x").unwrap_err(), "strconv.ParseInt: parsing \"x\": invalid syntax");
        assert_eq!(
            integer("99999999999999999999").unwrap_err(),
            "strconv.ParseInt: parsing \"99999999999999999999\": value out of range"
        );
    }
}
