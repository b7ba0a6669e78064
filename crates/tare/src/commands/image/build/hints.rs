//! A failed build: the place in the Dockerfile, Docker's error, and what the person can do.

use super::{FAILED, report};
use crate::failure::Failure;
use crate::{excerpt, explain};
use tare_engine::Error;
use tare_engine::build::{BuildFailure, IgnoreRule, Reason, Warning};

/// The failure of an error of the engine; with what was warned of before when `tells`.
pub(super) fn failed(error: Error, warnings: &[Warning], tells: bool) -> Failure {
    let known = error.build_failure().cloned();
    let failure = Failure::from(error).with_code(1).prefixed("failed to solve: ").prefixed(FAILED);
    let before = if tells {
        let source = known.as_ref().and_then(|known| known.place.as_ref()).map(|(source, _)| source);
        report::warnings(warnings, source)
    } else {
        String::new()
    };
    match known {
        Some(known) => of(failure, &known, before),
        None => failure.below(before),
    }
}

fn of(failure: Failure, known: &BuildFailure, before: String) -> Failure {
    let place = known.place.as_ref().map(|(source, lines)| excerpt::show(source, *lines)).unwrap_or_default();
    let hint = hint(&known.reason).or_else(|| failure.hint.clone());
    failure.with_hint(hint).below(before + &place)
}

fn hint(reason: &Reason) -> Option<String> {
    match reason {
        Reason::Exit { code, out_of_memory } => explain::step(*code, *out_of_memory),
        Reason::NoProgram { program } => Some(format!(
            "the image has no program {program:?}: install it in an earlier RUN, or start from an image that has it"
        )),
        Reason::NoSource { path, ignored_by: Some(IgnoreRule { file, line, rule }), .. } => {
            // As it would be written there.
            let path = path.trim_start_matches('/');
            Some(format!(
                "{path} is there, but line {line} of {file} leaves it out: {rule}\n`!{path}` in a line below puts it back"
            ))
        }
        Reason::NoSource { path, near: Some(near), .. } => Some(format!("did you mean {near:?} instead of {path:?}?")),
        Reason::NoSource { .. } => Some(
            "sources are looked for in the context only, the folder that PATH names; `tare build --explain-context PATH` shows what is in it"
                .to_owned(),
        ),
        Reason::NotFoundIn { path, place } => {
            Some(format!("{path} was looked for in {place}, not in the context: `from` says so"))
        }
        Reason::NoDockerfile { others } if !others.is_empty() => {
            Some(format!("there is {}: `-f` names another Dockerfile", others.join(", ")))
        }
        Reason::NoStage { name, names } => {
            let near = crate::flags::suggest::nearest(name, names.iter().map(String::as_str));
            match near {
                Some(near) => Some(format!("did you mean `--target {near}`?")),
                None if names.is_empty() => Some("no stage has a name: `FROM … AS NAME` gives it one".to_owned()),
                None => Some(format!("there is {}", names.join(", "))),
            }
        }
        Reason::NoEmulation { platform } => Some(format!(
            "this machine cannot execute programs for {platform}: as root, `apt-get install qemu-user-static binfmt-support` teaches it to"
        )),
        Reason::NoSecret { id } => Some(format!("`--secret id={id},src=FILE` or `--secret id={id},env=VARIABLE` gives it")),
        Reason::NoAgent { id } => {
            Some(format!("`--ssh {id}` lends the agent that SSH_AUTH_SOCK names, `--ssh {id}=SOCKET` another one"))
        }
        Reason::NoDockerfile { .. } | Reason::Other => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tare_engine::build::{Lines, Source};

    #[test]
    fn the_place_the_error_and_the_hint() {
        let failure = Failure::new("process \"/bin/sh -c mak\" did not complete successfully: exit code: 127")
            .prefixed("failed to solve: ")
            .prefixed(FAILED)
            .labelled("ERROR");
        let source = Source { name: "Dockerfile".to_owned(), text: "FROM busybox\nRUN mak\n".to_owned() };
        let reason = Reason::Exit { code: 127, out_of_memory: false };
        let known = BuildFailure { place: Some((source, Lines { first: 2, last: 2 })), reason };
        assert_eq!(
            of(failure, &known, String::new()).message(),
            "Dockerfile:2\n\
             --------------------\n   \
                1 |     FROM busybox\n   \
                2 | >>> RUN mak\n\
             --------------------\n\
             ERROR: failed to build: failed to solve: process \"/bin/sh -c mak\" did not complete successfully: exit code: 127\n\
             hint: exit code 127: the image has no such command; install it in an earlier RUN, or start from an image that has it\n"
        );
    }

    #[test]
    fn hints() {
        let rule = IgnoreRule { file: ".dockerignore".to_owned(), line: 3, rule: "*.log".to_owned() };
        let source = |ignored_by, near: Option<&str>| Reason::NoSource {
            path: "/a.log".to_owned(),
            ignored_by,
            near: near.map(str::to_owned),
        };
        for (reason, expected) in [
            (source(Some(rule), None), "a.log is there, but line 3 of .dockerignore leaves it out: *.log\n`!a.log` in"),
            (source(None, Some("b.log")), "did you mean \"b.log\" instead of \"/a.log\"?"),
            (source(None, None), "--explain-context"),
            (
                Reason::NotFoundIn { path: "/app".to_owned(), place: "stage build".to_owned() },
                "/app was looked for in stage build, not in the context",
            ),
            (
                Reason::NoStage { name: "buidl".to_owned(), names: vec!["build".to_owned()] },
                "did you mean `--target build`?",
            ),
            (Reason::NoSecret { id: "npm".to_owned() }, "`--secret id=npm,src=FILE`"),
            (Reason::NoAgent { id: "work".to_owned() }, "`--ssh work=SOCKET`"),
            (Reason::NoProgram { program: "make".to_owned() }, "no program \"make\""),
        ] {
            let hint = hint(&reason).unwrap();
            assert!(hint.contains(expected), "{hint}");
        }
        assert_eq!(hint(&Reason::Exit { code: 1, out_of_memory: false }), None);
        assert_eq!(hint(&Reason::Other), None);
    }

    #[test]
    fn an_error_without_details_is_told_as_it_is() {
        let error = Error::Unsupported { message: "not yet".to_owned() };
        let failure = failed(error, &[], true).labelled("ERROR");
        assert_eq!(
            (failure.message().as_str(), failure.code),
            ("ERROR: failed to build: failed to solve: not yet\n", 1)
        );
    }
}
