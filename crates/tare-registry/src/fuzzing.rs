//! The parsers of what servers put into headers, with what must be true of them whatever comes: for fuzzers.

use crate::challenge::{Challenge, parse_challenges};
use crate::fetch::{disposition_name, name_of_path};
use crate::link::next_link;
use crate::rate_limit::retry_after;
use crate::upload::stored_bytes;
use crate::url::Url;
use std::time::UNIX_EPOCH;

/// Reads one text as each of the headers that decide where we go and what we say there.
///
/// # Panics
/// If one of the parsers breaks its promise.
pub fn header(text: &str) {
    for challenge in parse_challenges(text) {
        if let Challenge::Bearer { realm, .. } = challenge {
            address(&realm);
        }
    }
    if let Some(target) = next_link(text) {
        assert!(text.contains(target) && !target.contains('>'), "{target:?} of {text:?}");
        address(target);
    }
    address(text);
    for name in [disposition_name(text), name_of_path(text)].into_iter().flatten() {
        assert!(!name.is_empty() && !name.contains(['/', '\0']) && !matches!(name.as_str(), "." | ".."), "{name:?}");
    }
    // Any number will do that is one.
    let (_, _) = (retry_after(text, UNIX_EPOCH), stored_bytes(Some(text)));
}

/// A place that a server sends us to has a host of its own, or the server's, and no user.
fn address(location: &str) {
    let base = Url::parse("https://r.io:5000/v2/a/blobs/x?y=1").expect("a constant URL");
    let Some(url) = base.join(location) else { return };
    assert!(!url.host().is_empty() && !url.uri().authority().is_some_and(|a| a.as_str().contains('@')), "{url}");
    assert!(Url::parse(&url.to_string()).is_some_and(|again| again.origin() == url.origin()), "{url}");
    assert!(!url.shown().contains('?'), "{url}");
    let names_host = location.contains("//");
    assert!(names_host || url.origin() == base.origin(), "{location:?} leads to {url}");
    let with_query = url.with_query("digest", location);
    assert_eq!(with_query.origin(), url.origin());
    let secured = url.clone().secured_like(&base);
    assert_eq!(secured.host().to_lowercase(), url.host().to_lowercase());
    assert!(secured.is_secure() || !url.is_secure());
}
