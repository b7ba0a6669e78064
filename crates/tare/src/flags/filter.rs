//! `--filter name=value`.

/// Splits a filter into its name, in lower case, and its value.
pub(crate) fn parse(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("bad format of filter (expected name=value)")?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}
