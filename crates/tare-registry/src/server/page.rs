//! Lists in pages: `n`, `last` and `Link` (distribution specification, "Listing Tags").

use super::refusal::{Code, Refusal};
use super::route::{Query, encode};

/// The longest page, whatever is asked for; the rest follows by its `Link`.
const LIMIT: usize = 10_000;

/// What a client asks to see of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// How many entries at most.
    count: usize,
    /// The entry before the first one.
    last: Option<String>,
}

impl Page {
    pub(super) fn parse(query: &Query) -> Result<Self, Refusal> {
        let count = match query.one("n") {
            None | Some("") => LIMIT,
            Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().unwrap_or(LIMIT).min(LIMIT),
            Some(text) => {
                let message = format!("invalid number of entries {}: expected n=0, n=1, …", super::route::cut(text));
                return Err(Refusal::new(Code::PaginationNumberInvalid, message));
            }
        };
        Ok(Self { count, last: query.one("last").filter(|last| !last.is_empty()).map(str::to_owned) })
    }

    /// The page of these names, in ASCII order, and the `Link` to the next one if there are more.
    pub(super) fn cut(&self, path: &str, mut names: Vec<String>) -> (Vec<String>, Option<String>) {
        names.sort_unstable();
        if let Some(last) = &self.last {
            names.drain(..names.partition_point(|name| name <= last));
        }
        let more = names.len() > self.count;
        names.truncate(self.count);
        // A page of nothing leads nowhere: the specification wants no link there.
        let link = names
            .last()
            .filter(|_| more)
            .map(|last| format!("<{path}?n={}&last={}>; rel=\"next\"", self.count, encode(last)));
        (names, link)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(query: &str, names: &[&str]) -> (Vec<String>, Option<String>) {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Page::parse(&Query::parse(Some(query))).unwrap().cut("/v2/a/tags/list", names)
    }

    #[test]
    fn pages_follow_each_other() {
        let tags = ["b", "a", "C", "d"];
        assert_eq!(page("", &tags), (vec!["C".into(), "a".into(), "b".into(), "d".into()], None));
        let link = |text: &str| Some(format!("</v2/a/tags/list?{text}>; rel=\"next\""));
        assert_eq!(page("n=2", &tags), (vec!["C".into(), "a".into()], link("n=2&last=a")));
        assert_eq!(page("n=2&last=a", &tags), (vec!["b".into(), "d".into()], None));
        assert_eq!(page("n=4", &tags).1, None);
        assert_eq!(page("last=b", &tags), (vec!["d".into()], None));
        assert_eq!(page("last=aa", &tags).0, ["b", "d"]);
        assert_eq!(page("n=0", &tags), (vec![], None));
        assert_eq!(page("n=1", &[]), (vec![], None));
        assert_eq!(page("n=1&last=x%2fy", &["x/z", "x/zz"]).1, link("n=1&last=x%2Fz"));
    }

    #[test]
    fn numbers_that_are_none() {
        for query in ["n=-1", "n=x", "n=+1", "n=1.5"] {
            let refusal = Page::parse(&Query::parse(Some(query))).unwrap_err();
            assert_eq!(refusal.code, Code::PaginationNumberInvalid, "{query}");
        }
        let all = Page::parse(&Query::parse(Some("n=99999999999999999999999"))).unwrap();
        assert_eq!(all.count, LIMIT);
    }
}
