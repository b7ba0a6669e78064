//! `search`

use super::login::registry;
use crate::cli::Verb;
use crate::failure::{Exit, Failure, Outcome};
use crate::flags::parse::{Arity, Matches};
use crate::flags::{Flag, TABLE_FORMAT, filter, numbers, words};
use crate::table::{self, Column, Row, ellipsis};
use crate::ui::Ui;
use std::collections::BTreeMap;
use std::io::Write;
use tare_engine::login::SearchResult;
use tare_spec::reference::DEFAULT_REGISTRY;

pub(crate) static VERB: Verb = Verb {
    name: "search",
    names: &["search"],
    usage: "[OPTIONS] TERM",
    about: "Search Docker Hub for images.\nA TERM that begins with a registry's name is searched for there.",
    flags: &[&[
        Flag::value("filter", "filter", "Filter output based on conditions provided").short('f'),
        TABLE_FORMAT,
        Flag::value("limit", "int", "Max number of search results"),
        Flag::switch("no-trunc", "Don't truncate output"),
    ]],
    arity: Arity::Exactly(1),
    stops_at_first_argument: false,
    run,
};

const COLUMNS: &[Column] =
    &[("Name", "NAME"), ("Description", "DESCRIPTION"), ("StarCount", "STARS"), ("IsOfficial", "OFFICIAL")];

/// How many results Docker asks for.
const DEFAULT_LIMIT: u32 = 25;
/// The most that Docker Hub gives.
const MOST: u32 = 100;
/// Columns of a description, where it is cut.
const DESCRIPTION: usize = 45;

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let truncate = !m.switch("no-trunc")?;
    let limit = match m.read("limit", numbers::integer)?.unwrap_or(0) {
        0 => DEFAULT_LIMIT,
        limit => u32::try_from(limit)
            .ok()
            .filter(|limit| *limit <= MOST)
            .ok_or_else(|| Failure::new(format!("invalid limit: {limit}, must be between 1 and {MOST}")))?,
    };
    let wanted = Wanted::read(m)?;
    let (server, term) = split(&m.args[0]);
    let found = tare_engine::login::search(&server, term, limit)?;
    let json = m.one("format") == Some("json");
    let rows: Vec<Row> =
        found.iter().filter(|result| wanted.takes(result)).map(|result| row(result, truncate, json)).collect();
    ui.out.write_all(
        table::render(m.one("format"), COLUMNS, &["Name", "Description", "StarCount", "IsOfficial"], &rows)?.as_bytes(),
    )?;
    Ok(Exit::SUCCESS)
}

/// The registry that a term begins with, and what is searched for there.
fn split(term: &str) -> (String, &str) {
    match term.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (registry(host), rest),
        _ => (DEFAULT_REGISTRY.to_owned(), term),
    }
}

/// `--filter`.
#[derive(Default)]
struct Wanted {
    stars: u64,
    official: Option<bool>,
    automated: Option<bool>,
}

impl Wanted {
    fn read(m: &Matches) -> Result<Self, Failure> {
        let mut wanted = Self::default();
        for (name, value) in m.read_all("filter", filter::parse)? {
            let invalid = || Failure::new(format!("invalid filter '{name}=[{value}]'"));
            let boolean = || words::boolean(&value).map(Some).map_err(|_| invalid());
            match name.as_str() {
                "stars" => wanted.stars = value.parse().map_err(|_| invalid())?,
                "is-official" => wanted.official = boolean()?,
                "is-automated" => wanted.automated = boolean()?,
                _ => return Err(Failure::new(format!("invalid filter '{name}'"))),
            }
        }
        Ok(wanted)
    }

    fn takes(&self, result: &SearchResult) -> bool {
        result.star_count >= self.stars
            && self.official.is_none_or(|wanted| wanted == result.is_official)
            && self.automated.is_none_or(|wanted| wanted == result.is_automated)
    }
}

fn row(result: &SearchResult, truncate: bool, json: bool) -> Row {
    let description = result.description.replace(['\n', '\r'], " ");
    let official = match (result.is_official, json) {
        (official, true) => official.to_string(),
        (true, false) => "[OK]".to_owned(),
        (false, false) => String::new(),
    };
    Row {
        fields: BTreeMap::from([
            ("Name", result.name.clone()),
            ("Description", if truncate { ellipsis(&description, DESCRIPTION) } else { description }),
            ("StarCount", result.star_count.to_string()),
            ("IsOfficial", official),
        ]),
        labels: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_may_begin_with_a_registry() {
        for (term, server, rest) in [
            ("nginx", "docker.io", "nginx"),
            ("library/nginx", "docker.io", "library/nginx"),
            ("127.0.0.1:5000/web", "127.0.0.1:5000", "web"),
            ("docker.io/nginx", "docker.io", "nginx"),
        ] {
            assert_eq!(split(term), (server.to_owned(), rest), "{term}");
        }
    }
}
