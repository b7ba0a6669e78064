//! `create`, and what `run` shares with it: an image that is there, and a container made from it.

use crate::cli::Verb;
use crate::commands::image::pull;
use crate::failure::{Exit, Failure, Outcome};
use crate::flags::container::{self, PullPolicy, Wish};
use crate::flags::parse::{Arity, Matches};
use crate::ui::{Ui, note, person_reads_errors};
use std::fs::{self, File};
use std::io::{self, Write};
use tare_engine::image::PullRequest;
use tare_engine::{Engine, Error};
use tare_spec::ContainerId;
use tare_spec::reference::Reference;

pub(crate) static VERB: Verb = Verb {
    name: "create",
    names: &["container create", "create"],
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    about: "Create a new container",
    flags: &[container::FLAGS],
    arity: Arity::AtLeast(1),
    stops_at_first_argument: true,
    run,
};

/// How often a missing image is pulled before one container gives up.
const MOST_PULLS: usize = 5;

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let wish = container::read(m, false)?;
    let engine = ui.engine()?;
    let id = create(&engine, ui, &wish)?;
    ui.line(id.as_str())?;
    Ok(Exit::SUCCESS)
}

/// Makes the container, and pulls its image before when the policy says so.
pub(crate) fn create(engine: &Engine, ui: &mut Ui, wish: &Wish) -> Result<ContainerId, Failure> {
    let id_file = wish.cidfile.as_deref().map(IdFile::create).transpose()?;
    if wish.pull == PullPolicy::Always {
        pull_image(engine, wish)?;
    }
    let mut pulls = 0;
    let made = loop {
        match engine.create(wish.name.as_deref(), wish.spec.clone()) {
            // Somebody may remove it again before it is used.
            Err(Error::NoSuchImage { .. } | Error::PlatformMismatch { .. })
                if wish.pull == PullPolicy::Missing && pulls < MOST_PULLS =>
            {
                let name = Reference::parse(&wish.spec.image).map_err(|error| Failure::new(error.to_string()))?;
                if !wish.quiet {
                    note(&format!("Unable to find image '{}' locally\n", name.with_default_tag().familiar()));
                }
                pull_image(engine, wish)?;
                pulls += 1;
            }
            made => break made?,
        }
    };
    for warning in &made.warnings {
        ui.warn(warning);
    }
    if let Some(file) = id_file {
        file.fill(&made.id)?;
    }
    Ok(made.id)
}

fn pull_image(engine: &Engine, wish: &Wish) -> Result<(), Failure> {
    let request = PullRequest { reference: wish.spec.image.clone(), platform: wish.spec.platform.clone() };
    pull::pull(engine, &request, wish.quiet, Box::new(io::stderr()), person_reads_errors())?;
    Ok(())
}

/// The file of `--cidfile`: made before the container, so that two of them never meet, and gone again when the
/// container was not made.
struct IdFile<'a> {
    path: &'a str,
    file: File,
    filled: bool,
}

impl<'a> IdFile<'a> {
    fn create(path: &'a str) -> Result<Self, Failure> {
        let file = File::create_new(path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Failure::new(format!(
                "container ID file found, make sure the other container isn't running or delete {path}"
            )),
            _ => Failure::new(format!(
                "failed to create the container ID file: open {path}: {}",
                crate::failure::errno_text(&error)
            )),
        })?;
        Ok(Self { path, file, filled: false })
    }

    fn fill(mut self, id: &ContainerId) -> Result<(), Failure> {
        self.file.write_all(id.as_str().as_bytes()).map_err(|error| {
            let why = crate::failure::errno_text(&error);
            Failure::new(format!("failed to write the container ID to the file: write {}: {why}", self.path))
        })?;
        self.filled = true;
        Ok(())
    }
}

impl Drop for IdFile<'_> {
    fn drop(&mut self) {
        if !self.filled {
            // The failure that led here is the one to tell.
            let _ = fs::remove_file(self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_file_stays_only_when_filled() {
        let path = std::env::temp_dir().join(format!("tare-cidfile-{}", std::process::id()));
        let path = path.to_str().unwrap();
        drop(IdFile::create(path).unwrap());
        assert!(!std::path::Path::new(path).exists());
        let id = ContainerId::from_random([7; 32]);
        IdFile::create(path).unwrap().fill(&id).unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), id.as_str());
        let failure = IdFile::create(path).err().unwrap();
        assert!(failure.message().contains("container ID file found"));
        fs::remove_file(path).unwrap();
    }
}
