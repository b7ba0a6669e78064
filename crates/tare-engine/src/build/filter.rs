//! Which records of the build cache are meant.

use super::CacheRecord;
use jiff::Timestamp;

/// The digits of an id.
const ID_LENGTH: usize = 64;

/// What a record must be; all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheFilter {
    /// The last use was before this.
    pub unused_since: Option<Timestamp>,
    /// Its id is one of these, or begins with one that is shorter than ids are; any when empty.
    pub ids: Vec<String>,
    /// Its kind is one of these; any when empty.
    pub kinds: Vec<String>,
    /// Its kind is none of these.
    pub other_kinds: Vec<String>,
    /// Its description is one of these; any when empty.
    pub descriptions: Vec<String>,
    /// Whether it is in use.
    pub in_use: Option<bool>,
    /// Whether something else has its data, too.
    pub shared: Option<bool>,
}

impl CacheFilter {
    /// Whether the record is meant.
    #[must_use]
    pub fn matches(&self, record: &CacheRecord) -> bool {
        let one_of = |wanted: &[String], text: &str| wanted.is_empty() || wanted.iter().any(|wish| wish == text);
        // A whole one can be the beginning of another one: `<64 digits>` and `<64 digits>-1`.
        let is_meant = |id: &String, text: &str| id == text || (id.len() < ID_LENGTH && text.starts_with(id.as_str()));
        let begins = |wanted: &[String], text: &str| wanted.is_empty() || wanted.iter().any(|id| is_meant(id, text));
        self.unused_since.is_none_or(|moment| record.last_used < moment)
            && begins(&self.ids, &record.id)
            && one_of(&self.kinds, &record.kind)
            && !self.other_kinds.contains(&record.kind)
            && one_of(&self.descriptions, &record.description)
            && self.in_use.is_none_or(|wanted| record.in_use == wanted)
            && self.shared.is_none_or(|wanted| record.shared == wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_counts() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let record = CacheRecord {
            id: "0123456789abcdef".to_owned(),
            kind: "regular".to_owned(),
            description: "[2/3] RUN make".to_owned(),
            size: 1,
            disk: 1,
            created: at(1),
            last_used: at(100),
            used: 1,
            in_use: false,
            shared: true,
        };
        let all = CacheFilter::default();
        let strings = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        assert!(all.matches(&record));
        for (filter, expected) in [
            (CacheFilter { unused_since: Some(at(101)), ..all.clone() }, true),
            (CacheFilter { unused_since: Some(at(100)), ..all.clone() }, false),
            (CacheFilter { ids: strings(&["ff", "0123"]), ..all.clone() }, true),
            (CacheFilter { ids: strings(&["ff"]), ..all.clone() }, false),
            (CacheFilter { kinds: strings(&["regular"]), ..all.clone() }, true),
            (CacheFilter { kinds: strings(&["exec.cachemount"]), ..all.clone() }, false),
            (CacheFilter { other_kinds: strings(&["regular"]), ..all.clone() }, false),
            (CacheFilter { descriptions: strings(&["[2/3] RUN make"]), ..all.clone() }, true),
            (CacheFilter { descriptions: strings(&["RUN make"]), ..all.clone() }, false),
            (CacheFilter { in_use: Some(true), ..all.clone() }, false),
            (CacheFilter { shared: Some(true), ..all.clone() }, true),
            (CacheFilter { shared: Some(true), in_use: Some(true), ..all.clone() }, false),
        ] {
            assert_eq!(filter.matches(&record), expected, "{filter:?}");
        }
    }
}
