//! Instructions that change how containers of an image run, without a build.

use crate::dockerfile::{Instruction, Problem, parse_statements};
use crate::error::{Error, Result};
use crate::plan::Configuring;
use tare_spec::image::Config;

/// A configuration after `--change CMD …`, `ENTRYPOINT`, `ENV`, `EXPOSE`, `HEALTHCHECK`, `LABEL`, `ONBUILD`, `STOPSIGNAL`, `USER`, `VOLUME`
/// and `WORKDIR`. As in a Dockerfile a new entry point takes the command away.
///
/// # Errors
/// [`Error::Change`] for other instructions; [`Error::Dockerfile`] for wrong ones.
pub fn change(config: Config, changes: &[String]) -> Result<Config> {
    let mut configuring = Configuring::new(config);
    for text in changes {
        // Each by itself: the line of the last continuation is not the next change.
        let statements = parse_statements(text).map_err(|error| match error.problem {
            Problem::Unknown { name, .. } => Error::Change { instruction: name.to_ascii_lowercase() },
            Problem::Misplaced { instruction } => Error::Change { instruction: instruction.to_ascii_lowercase() },
            _ => error.into(),
        })?;
        for statement in statements {
            match statement.instruction {
                Instruction::Add(_)
                | Instruction::Arg(_)
                | Instruction::Copy(_)
                | Instruction::Maintainer(_)
                | Instruction::Run(_)
                | Instruction::Shell(_) => {
                    let name = statement.text.split_whitespace().next().unwrap_or_default();
                    return Err(Error::Change { instruction: name.to_ascii_lowercase() });
                }
                instruction => {
                    let lines = statement.lines;
                    configuring.apply(&instruction).map_err(|problem| Error::Dockerfile { lines, problem })?;
                }
            }
        }
    }
    Ok(configuring.into_config())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> Result<Config> {
        let config = Config {
            env: vec!["PATH=/bin".to_owned(), "A=1".to_owned()],
            cmd: Some(vec!["old".to_owned()]),
            ..Config::default()
        };
        change(config, &changes.iter().map(|change| (*change).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn changes_are_those_of_a_dockerfile() {
        let config = changed(&[
            "ENV A=2 B=$PATH",
            "entrypoint [\"/x\", \"y\"]",
            "EXPOSE 80 53/udp",
            "VOLUME /data /more",
            "VOLUME [\"/with space\"]",
            "ONBUILD run make  all",
            "LABEL a=\"b c\"",
            "WORKDIR srv",
            "USER 7:8",
            "STOPSIGNAL SIGINT",
        ])
        .unwrap();
        assert_eq!(config.env, ["PATH=/bin", "A=2", "B=/bin"]);
        assert_eq!((config.entrypoint.unwrap(), config.cmd), (vec!["/x".to_owned(), "y".to_owned()], None));
        assert_eq!(config.exposed_ports.keys().collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
        assert_eq!(config.volumes.keys().collect::<Vec<_>>(), ["/data", "/more", "/with space"]);
        assert_eq!(config.on_build.unwrap(), ["RUN make  all"]);
        assert_eq!((config.labels["a"].as_str(), config.user.as_str()), ("b c", "7:8"));
        assert_eq!((config.working_dir.as_str(), config.stop_signal.as_deref()), ("/srv", Some("SIGINT")));
    }

    #[test]
    fn a_command_beside_a_new_entry_point_stays() {
        let config = changed(&["CMD run this", "ENTRYPOINT /x"]).unwrap();
        assert_eq!(config.cmd.unwrap(), ["/bin/sh", "-c", "run this"]);
        assert_eq!(changed(&["CMD"]).unwrap().cmd, None);
        assert_eq!(changed(&[]).unwrap().cmd.unwrap(), ["old"]);
    }

    #[test]
    fn what_needs_a_build_is_refused_in_dockers_words() {
        for (text, expected) in [
            ("RUN x", "run is not a valid change command"),
            ("FOO x", "foo is not a valid change command"),
            ("COPY a b", "copy is not a valid change command"),
            ("FROM a", "from is not a valid change command"),
            ("USER", "dockerfile parse error on line 1: USER requires exactly one argument"),
            ("ONBUILD FROM x", "dockerfile parse error on line 1: FROM isn't allowed as an ONBUILD trigger"),
            ("SHELL [\"x\"]", "shell is not a valid change command"),
        ] {
            assert_eq!(changed(&[text]).unwrap_err().to_string(), expected);
        }
    }
}
