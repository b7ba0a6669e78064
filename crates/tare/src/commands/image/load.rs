//! `load`

use crate::cli::Verb;
use crate::failure::{Exit, Failure, Outcome, errno_text};
use crate::flags::Flag;
use crate::flags::container::platform;
use crate::flags::parse::{Arity, Matches};
use crate::ui::Ui;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use tare_engine::image::{ArchiveInput, LoadProgress, Loaded};
use tare_spec::image::Descriptor;

pub(crate) static VERB: Verb = Verb {
    name: "load",
    names: &["image load", "load"],
    usage: "[OPTIONS]",
    about: "Load an image from a tar archive or STDIN",
    flags: &[&[
        Flag::value("input", "string", "Read from tar archive file, instead of STDIN").short('i'),
        Flag::value(
            "platform",
            "string",
            "Load only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
        ),
        Flag::switch("quiet", "Suppress the load output").short('q'),
    ]],
    arity: Arity::Exactly(0),
    stops_at_first_argument: false,
    run,
};

/// Tells of each image when it is there.
struct Told {
    quiet: bool,
}

impl LoadProgress for Told {
    fn layer(&self, _: &Descriptor, _: u64) {}

    fn image(&self, image: &Loaded) {
        let mut text = String::new();
        for (name, old) in image.moved.iter().filter(|_| !self.quiet) {
            let name = name.familiar();
            text.push_str(&format!(
                "The image {name} already exists, renaming the old one with ID {old} to empty string\n"
            ));
        }
        for name in &image.names {
            text.push_str(&format!("Loaded image: {}\n", name.familiar()));
        }
        if image.names.is_empty() {
            text.push_str(&format!("Loaded image ID: {}\n", image.id));
        }
        let mut out = io::stdout().lock();
        // The image is what counts: a reader that went away does not end a load.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let platform = platform(m)?;
    let quiet = m.switch("quiet")?;
    let file = match m.one("input").filter(|path| !path.is_empty()) {
        Some(path) => File::open(path).map_err(|error| Failure::new(format!("open {path}: {}", errno_text(&error))))?,
        None if io::stdin().is_terminal() => {
            return Err(Failure::new("requested load from stdin, but stdin is empty"));
        }
        None => crate::output::duplicate(io::stdin().as_fd())?,
    };
    ui.engine()?.load_images(ArchiveInput::File(file), platform.as_ref(), &Told { quiet })?;
    Ok(Exit::SUCCESS)
}
