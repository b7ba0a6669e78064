//! `--filter` of commands for the build cache.

use super::parse::Matches;
use super::{filter, words};
use crate::duration;
use crate::failure::Failure;
use jiff::Timestamp;
use tare_engine::build::CacheFilter;

/// Reads `--filter`.
pub(crate) fn read(m: &Matches) -> Result<CacheFilter, Failure> {
    let mut cache = CacheFilter::default();
    for (name, value) in m.read_all("filter", filter::parse)? {
        let switch = || words::boolean(&value).map_err(|_| Failure::new(format!("invalid filter '{name}=[{value}]'")));
        match name.as_str() {
            "until" | "unused-for" => {
                let until = duration::moment(&value, Timestamp::now())
                    .map_err(|_| Failure::new(format!("\"{name}\" filter expects a duration (e.g., '24h')")))?;
                if cache.unused_since.replace(until).is_some() {
                    return Err(Failure::new(format!("{name:?} filter expects only one value")));
                }
            }
            "id" => cache.ids.push(value),
            "type" => cache.kinds.push(value),
            "type!" => cache.other_kinds.push(value),
            "description" => cache.descriptions.push(value),
            "inuse" => cache.in_use = Some(switch()?),
            "shared" => cache.shared = Some(switch()?),
            "private" => cache.shared = Some(!switch()?),
            _ => return Err(Failure::new(format!("invalid filter '{name}'"))),
        }
    }
    Ok(cache)
}
