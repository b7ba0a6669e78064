//! `info`

use crate::cli::Verb;
use crate::failure::{Exit, Failure, Outcome};
use crate::flags::parse::{Arity, Matches};
use crate::flags::{FORMAT, bytes};
use crate::template::{self, Template};
use crate::ui::Ui;
use std::io::Write;

pub(crate) static VERB: Verb = Verb {
    name: "info",
    names: &["system info", "info"],
    usage: "[OPTIONS]",
    about: "Display system-wide information",
    flags: &[&[FORMAT]],
    arity: Arity::None,
    stops_at_first_argument: false,
    run,
};

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let info = ui.engine()?.info()?;
    let version = env!("CARGO_PKG_VERSION");
    if let Some(format) = m.one("format").filter(|format| !format.is_empty()) {
        let json = serde_json::to_value(tare_api::system::Info::new(&info, version))
            .map_err(|error| Failure::new(format!("write JSON: {error}")))?;
        let text = match format {
            "json" => json.to_string(),
            format => Template::parse(format)
                .and_then(|template| template.render(&template::value(&json)))
                .map_err(|error| Failure::new(format!("template parsing error: {error}")).with_code(64))?,
        };
        ui.line(&text)?;
        return Ok(Exit::SUCCESS);
    }
    write!(
        ui.out,
        "Client:\n Version:    {version}\n\nEngine: built into the client (no daemon)\n Containers: {}\n  Running: {}\n  Stopped: {}\n Images: {}\n Server Version: {version}\n Storage Driver: {}\n Logging Driver: json-file\n Cgroup Version: {}\n Network: bridge host none\n Security Options:\n  seccomp\n   Profile: builtin\n Kernel Version: {}\n Operating System: {}\n OSType: linux\n Architecture: {}\n CPUs: {}\n Total Memory: {}\n Name: {}\n Tare Root Dir: {}\n",
        info.running + info.stopped,
        info.running,
        info.stopped,
        info.images,
        info.storage_driver,
        info.cgroup_version,
        info.kernel,
        info.operating_system,
        info.architecture,
        info.cpus,
        bytes::show_binary(info.memory),
        info.name,
        info.root.display(),
    )?;
    ui.out.flush()?;
    info.warnings.iter().for_each(|warning| ui.warn(warning));
    Ok(Exit::SUCCESS)
}
