//! Which times a result carries: `--timestamp`, `SOURCE_DATE_EPOCH`.

use crate::flags::numbers;
use jiff::Timestamp;
use tare_engine::build::Times;

/// The variable that makes builds reproducible (reproducible-builds.org/specs/source-date-epoch).
pub(super) const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// What was asked for by the flag, or else by the variable.
pub(super) fn read(flag: Option<&str>, epoch: Option<&str>) -> Result<Times, String> {
    match flag {
        Some("now") => Ok(Times::Kept),
        Some(text) => moment(text).map(Times::At).map_err(|why| {
            format!("invalid argument {text:?} for \"--timestamp\" flag: {why}: expected now, or seconds since 1970")
        }),
        None => match epoch.filter(|text| !text.is_empty()) {
            Some(text) => moment(text).map(Times::At).map_err(|why| format!("invalid {EPOCH}: {text}: {why}")),
            None => Ok(Times::OfBase),
        },
    }
}

fn moment(text: &str) -> Result<Timestamp, String> {
    let seconds = numbers::integer(text)?;
    // Earlier ones do not fit into an archive's headers.
    if seconds < 0 {
        return Err("before 1970".to_owned());
    }
    Timestamp::from_second(seconds).map_err(|_| "too late".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_goes_before_the_variable() {
        let at = |second| Times::At(Timestamp::from_second(second).unwrap());
        assert_eq!(read(None, None), Ok(Times::OfBase));
        assert_eq!(read(None, Some("")), Ok(Times::OfBase));
        assert_eq!(read(None, Some("5")), Ok(at(5)));
        assert_eq!(read(Some("0"), Some("5")), Ok(at(0)));
        assert_eq!(read(Some("now"), Some("5")), Ok(Times::Kept));
        assert_eq!(
            read(None, Some("x")).unwrap_err(),
            "invalid SOURCE_DATE_EPOCH: x: strconv.ParseInt: parsing \"x\": invalid syntax"
        );
        assert!(read(Some("-1"), None).unwrap_err().ends_with("before 1970: expected now, or seconds since 1970"));
        assert!(read(Some("99999999999999"), None).unwrap_err().contains("too late"));
    }
}
