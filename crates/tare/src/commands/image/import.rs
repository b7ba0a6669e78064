//! `import`

use crate::cli::Verb;
use crate::failure::{Exit, Failure, Outcome, errno_text};
use crate::flags::Flag;
use crate::flags::container::platform;
use crate::flags::parse::{Arity, Matches};
use crate::ui::Ui;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use tare_engine::image::{ImportRequest, ImportSource};

pub(crate) static VERB: Verb = Verb {
    name: "import",
    names: &["image import", "import"],
    usage: "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    about: "Import the contents from a tarball to create a filesystem image",
    flags: &[&[
        Flag::value("change", "list", "Apply Dockerfile instruction to the created image").short('c'),
        Flag::value("message", "string", "Set commit message for imported image").short('m'),
        Flag::value("platform", "string", "Set platform if server is multi-platform capable"),
    ]],
    arity: Arity::Between(1, 2),
    stops_at_first_argument: false,
    run,
};

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let source = match m.args[0].as_str() {
        "-" => ImportSource::File(crate::output::duplicate(io::stdin().as_fd())?, "-".to_owned()),
        url if url.starts_with("http://") || url.starts_with("https://") => ImportSource::Url(url.to_owned()),
        path => {
            let file =
                File::open(path).map_err(|error| Failure::new(format!("open {path}: {}", errno_text(&error))))?;
            ImportSource::File(file, path.to_owned())
        }
    };
    let request = ImportRequest {
        source,
        reference: m.args.get(1).filter(|name| !name.is_empty()).cloned(),
        message: m.one("message").map(str::to_owned),
        changes: m.all("change").cloned().collect(),
        platform: platform(m)?,
    };
    let id = ui.engine()?.import(request)?;
    ui.line(&id.to_string())?;
    Ok(Exit::SUCCESS)
}
