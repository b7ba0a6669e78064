//! `version`

use crate::cli::Verb;
use crate::failure::{Exit, Failure, Outcome};
use crate::flags::FORMAT;
use crate::flags::parse::{Arity, Matches};
use crate::template::{self, Template};
use crate::ui::Ui;
use std::io::Write;

pub(crate) static VERB: Verb = Verb {
    name: "version",
    names: &["version"],
    usage: "[OPTIONS]",
    about: "Show the tare version information",
    flags: &[&[FORMAT]],
    arity: Arity::None,
    stops_at_first_argument: false,
    run,
};

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let version = tare_api::system::Version::current(env!("CARGO_PKG_VERSION"));
    let Some(format) = m.one("format").filter(|format| !format.is_empty()) else {
        let client = &version.client;
        // Docker shows two programs here. There is one, which is both.
        write!(
            ui.out,
            "Client:\n Version:           {}\n API version:       {}\n OS/Arch:           {}/{}\n\nEngine: built into the client (no daemon)\n Version:           {}\n Kernel:            {}\n",
            client.version,
            client.api_version,
            client.os,
            client.arch,
            version.server.version,
            version.server.kernel_version
        )?;
        return Ok(Exit::SUCCESS);
    };
    let json = serde_json::to_value(&version).map_err(|error| Failure::new(format!("write JSON: {error}")))?;
    let text = match format {
        "json" => json.to_string(),
        format => Template::parse(format)
            .and_then(|template| template.render(&template::value(&json)))
            .map_err(|error| Failure::new(format!("template parsing error: {error}")).with_code(64))?,
    };
    ui.line(&text)?;
    Ok(Exit::SUCCESS)
}
