//! URLs in texts that people read.

/// A text without the user information of the URLs in it, which can have passwords.
#[must_use]
pub fn without_users(text: &str) -> String {
    const MARK: &str = "://";
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(MARK) {
        let (before, after) = rest.split_at(at + MARK.len());
        shown.push_str(before);
        let is_end = |character: char| character.is_whitespace() || matches!(character, '"' | '\'' | '<' | '>');
        let word = &after[..after.find(is_end).unwrap_or(after.len())];
        let authority = &word[..word.find(['/', '?', '#']).unwrap_or(word.len())];
        // A password with a slash or its like makes no URL, and is one all the same; `host:80/@x` has none.
        let has_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) || authority.starts_with('[');
        let is_cut = authority.rsplit_once(':').is_some_and(|(_, port)| !has_port(port));
        let user = if is_cut { word } else { authority }.rfind('@').map_or(0, |at| at + 1);
        rest = &after[user..];
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        for (text, expected) in [
            ("ADD https://u:p@host/x.git#b /x", "ADD https://host/x.git#b /x"),
            ("ADD --chown=a:b http://host/@x /y", "ADD --chown=a:b http://host/@x /y"),
            ("http://host:80/@x http://[::1]/@y", "http://host:80/@x http://[::1]/@y"),
            ("COPY a@b:c /d", "COPY a@b:c /d"),
            ("ADD\thttps://u:p@a/x\thttps://u:p@b/y\t/", "ADD\thttps://a/x\thttps://b/y\t/"),
            ("[\"https://u:p@host/x\", \"/y@z\"]", "[\"https://host/x\", \"/y@z\"]"),
            (
                "https://u:p@q@host/ https://u:p/q@host/x https://u:p#q@host",
                "https://host/ https://host/x https://host",
            ),
            ("https://ü:ß@host", "https://host"),
            ("://", "://"),
        ] {
            assert_eq!(without_users(text), expected);
        }
    }
}
