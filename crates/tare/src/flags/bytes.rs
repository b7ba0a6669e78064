//! Amounts of bytes, as people write them and as they are shown.

/// Bytes from `512m`, `1.5GiB`, `100kb`, `1024`: units are powers of 1024 for Docker, whatever their spelling.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let power = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit) {
        "" if unit != "ib" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(invalid()),
    };
    let number: f64 = number.parse().map_err(|_| invalid())?;
    let bytes = number * 1024_f64.powi(power);
    // Beyond this a float no longer holds every byte, and no machine has as much.
    if bytes > 9e15 { Err(invalid()) } else { Ok(bytes as u64) }
}

/// Shows bytes as Docker's tables do: decimal units, three significant digits (`12.3MB`).
pub(crate) fn show(bytes: u64) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB"], 3)
}

/// Shows bytes as Docker's sums do: decimal units, four significant digits (`12.35MB`).
pub(crate) fn show_sum(bytes: u64) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB"], 4)
}

/// Shows bytes in binary units with four significant digits (`15.59GiB`), as `info` does.
pub(crate) fn show_binary(bytes: u64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"], 4)
}

fn scaled(bytes: u64, base: f64, units: &[&str], digits: i32) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    // Go's %.3g: significant digits, without trailing zeros.
    let whole = if value < 1.0 { 1 } else { value.log10().floor() as i32 + 1 };
    let places = (digits - whole).max(0) as usize;
    let number = format!("{value:.places$}");
    let number = if places > 0 { number.trim_end_matches('0').trim_end_matches('.') } else { &number };
    format!("{number}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, expected) in [
            ("0", 0),
            ("1024", 1024),
            ("10b", 10),
            ("512m", 512 << 20),
            ("512M", 512 << 20),
            ("512mb", 512 << 20),
            ("512MiB", 512 << 20),
            ("1g", 1 << 30),
            ("1.5GiB", 3 << 29),
            ("2 gb", 2 << 30),
            ("1t", 1 << 40),
            (".5k", 512),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        for text in ["", "m", "x", "-1", "1x", "1mm", "1 2", "1.2.3", "ib", "1ib", "99999p"] {
            assert_eq!(parse(text), Err(format!("invalid size: '{text}'")), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_as_docker_shows_them() {
        for (bytes, expected) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (12_345_678, "12.3MB"),
            (123_456_789, "123MB"),
            (1_050_000_000, "1.05GB"),
        ] {
            assert_eq!(show(bytes), expected);
        }
        assert_eq!(show_sum(12_345_678), "12.35MB");
        assert_eq!(show_binary(16_742_000_000), "15.59GiB");
    }
}
