//! Moments as Go writes them into JSON.

use jiff::Timestamp;

/// RFC 3339 in UTC with as many digits of the second as it has (Go's `RFC3339Nano`); Go's zero time for none.
#[must_use]
pub fn rfc3339(moment: Option<Timestamp>) -> String {
    moment.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |moment| moment.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_gos() {
        assert_eq!(rfc3339(None), "0001-01-01T00:00:00Z");
        let moment = Timestamp::new(1_700_000_000, 120_000_000).unwrap();
        assert_eq!(rfc3339(Some(moment)), "2023-11-14T22:13:20.12Z");
    }
}
