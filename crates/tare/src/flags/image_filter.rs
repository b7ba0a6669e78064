//! `--filter` of commands for images.

use super::parse::Matches;
use super::{filter, words};
use crate::duration;
use crate::failure::Failure;
use jiff::Timestamp;
use tare_engine::image::ImageFilter;

/// Reads `--filter`; the command knows these names.
pub(crate) fn read(m: &Matches, known: &[&str]) -> Result<ImageFilter, Failure> {
    let mut images = ImageFilter::default();
    for (name, value) in m.read_all("filter", filter::parse)? {
        if !known.contains(&name.as_str()) {
            return Err(Failure::new(format!("invalid filter '{name}'")));
        }
        match name.as_str() {
            "reference" => images.references.push(value),
            "label" => images.labels.push(value),
            "label!" => images.without_labels.push(value),
            "before" => images.before.push(value),
            "since" => images.since.push(value),
            "dangling" => {
                let dangling =
                    words::boolean(&value).map_err(|_| Failure::new(format!("invalid filter 'dangling=[{value}]'")))?;
                images.dangling = Some(dangling);
            }
            _ => {
                let until = duration::moment(&value, Timestamp::now())
                    .map_err(|why| Failure::new(format!("invalid filter 'until=[{value}]': {why}")))?;
                images.until = Some(images.until.map_or(until, |other| other.min(until)));
            }
        }
    }
    Ok(images)
}
