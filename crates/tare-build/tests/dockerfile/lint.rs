//! What is allowed and probably not meant.

use tare_build::dockerfile::{Lines, lint, parse};

/// The warnings of a Dockerfile: their line, check and message.
fn warnings(text: &str) -> Vec<(usize, &'static str, String)> {
    let dockerfile = parse(text).unwrap();
    dockerfile.warnings.into_iter().map(|warning| (warning.lines.first, warning.check, warning.message)).collect()
}

fn expect(text: &str, expected: &[(usize, &str, &str)]) {
    let actual = warnings(text);
    let actual: Vec<_> = actual.iter().map(|(line, check, message)| (*line, *check, message.as_str())).collect();
    assert_eq!(actual, expected, "{text}");
}

#[test]
fn what_is_as_it_should_be() {
    expect(
        "# a comment\nARG V=1\nFROM debian:$V AS build\nWORKDIR /src\nWORKDIR sub\nENV A=b PUBLIC_KEY=x KEYBOARD=us\n\
         EXPOSE 80 53/udp\nHEALTHCHECK CMD true\nENTRYPOINT [\"a\"]\nCMD [\"b\"]\nFROM build\nWORKDIR more\nCMD [\"c\"]\n",
        &[],
    );
    expect("from scratch as a\nworkdir /x\n", &[]);
}

#[test]
fn casing() {
    expect(
        "FROM a as B\nfrom b AS c\nFROM c As d\nFrom d aS e\nrun x\nRUN y\n",
        &[
            (1, "StageNameCasing", "Stage name 'B' should be lowercase"),
            (1, "FromAsCasing", "'as' and 'FROM' keywords' casing do not match"),
            (2, "FromAsCasing", "'AS' and 'from' keywords' casing do not match"),
            (
                2,
                "ConsistentInstructionCasing",
                "Command 'from' should match the case of the command majority (uppercase)",
            ),
            (3, "FromAsCasing", "'As' and 'FROM' keywords' casing do not match"),
            (
                4,
                "ConsistentInstructionCasing",
                "Command 'From' should match the case of the command majority (uppercase)",
            ),
            (
                5,
                "ConsistentInstructionCasing",
                "Command 'run' should match the case of the command majority (uppercase)",
            ),
        ],
    );
    expect(
        "ARG A\nfrom a\nRUN x\nrun y\n",
        &[(
            3,
            "ConsistentInstructionCasing",
            "Command 'RUN' should match the case of the command majority (lowercase)",
        )],
    );
}

#[test]
fn stages() {
    expect(
        "FROM scratch AS context\nFROM scratch AS a\nFROM scratch AS a\n",
        &[
            (1, "ReservedStageName", "Stage name should not use the same name as reserved stage \"context\""),
            (3, "DuplicateStageName", "Duplicate stage name \"a\", stage names should be unique"),
        ],
    );
    expect(
        "FROM --platform=linux/amd64 a\nFROM --platform=linux/arm64 a AS build-arm64\nFROM --platform=$BUILDPLATFORM a\n\
         FROM --platform=\"linux/s390x\" a AS x\nFROM --platform=nothing/at/all/of a\n",
        &[
            (
                1,
                "FromPlatformFlagConstDisallowed",
                "FROM --platform flag should not use constant value \"linux/amd64\"",
            ),
            (
                4,
                "FromPlatformFlagConstDisallowed",
                "FROM --platform flag should not use constant value \"linux/s390x\"",
            ),
        ],
    );
}

#[test]
fn statements() {
    expect(
        "FROM a\nMAINTAINER me\nENV A b c\nLABEL A b\nRUN a \\\n\n b\nONBUILD ENV A b\n",
        &[
            (2, "MaintainerDeprecated", "Maintainer instruction is deprecated in favor of using label"),
            (3, "LegacyKeyValueFormat", "\"ENV key=value\" should be used instead of legacy \"ENV key value\" format"),
            (
                4,
                "LegacyKeyValueFormat",
                "\"LABEL key=value\" should be used instead of legacy \"LABEL key value\" format",
            ),
            (7, "NoEmptyContinuation", "Empty continuation line"),
        ],
    );
    expect(
        "FROM a\nWORKDIR a\nWORKDIR b\nFROM b\nWORKDIR $X/y\nWORKDIR z\nFROM c\nWORKDIR 'd e'\n",
        &[
            (2, "WorkdirRelativePath", "Relative workdir \"a\" can have unexpected results if the base image changes"),
            (
                8,
                "WorkdirRelativePath",
                "Relative workdir \"d e\" can have unexpected results if the base image changes",
            ),
        ],
    );
}

#[test]
fn commands() {
    let json = "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals";
    let twice = |name: &str| {
        format!(
            "Multiple {name} instructions should not be used in the same stage because only the last one will be used"
        )
    };
    let (cmd, entrypoint, healthcheck) = (twice("CMD"), twice("ENTRYPOINT"), twice("HEALTHCHECK"));
    expect(
        "FROM a AS a\nCMD x\nCMD [\"x\"]\nENTRYPOINT [\"y\"]\nENTRYPOINT [\"y\"]\nHEALTHCHECK NONE\nHEALTHCHECK CMD true\n\
         FROM a AS b\nCMD x\nFROM c AS s\nSHELL [\"/bin/bash\", \"-c\"]\nCMD x\nFROM s\nCMD x\n",
        &[
            (2, "JSONArgsRecommended", json),
            (2, "MultipleInstructionsDisallowed", &cmd),
            (4, "MultipleInstructionsDisallowed", &entrypoint),
            (6, "MultipleInstructionsDisallowed", &healthcheck),
            (9, "JSONArgsRecommended", json),
        ],
    );
}

#[test]
fn secrets() {
    let secret =
        |kind: &str, name: &str| format!("Do not use ARG or ENV instructions for sensitive data ({kind} {name:?})");
    let found = [("ENV", "api_key"), ("ENV", "Auth"), ("ARG", "GITHUB_TOKEN"), ("ARG", "PASSWD")];
    let messages = found.map(|(kind, name)| secret(kind, name));
    expect(
        "ARG TOKEN\nFROM a\nENV api_key=x Auth=y KEY_FILE=z TOKEN_VERSION=1 MONKEY=a\nARG GITHUB_TOKEN PASSWD=1 PASSWORDS\n",
        &[
            (3, "SecretsUsedInArgOrEnv", &messages[0]),
            (3, "SecretsUsedInArgOrEnv", &messages[1]),
            (4, "SecretsUsedInArgOrEnv", &messages[2]),
            (4, "SecretsUsedInArgOrEnv", &messages[3]),
        ],
    );
}

#[test]
fn ports() {
    let mapped =
        |port: &str| format!("EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'");
    let (both, host, address) = (mapped("127.0.0.1:80:80/Tcp"), mapped("8080:80"), mapped("[::1]:80:80"));
    expect(
        "FROM a\nEXPOSE 80/TCP 127.0.0.1:80:80/Tcp 8080:80 [::1]:80:80 :80 80/udp $PORT/TCP \"443\"\n",
        &[
            (
                2,
                "ExposeProtoCasing",
                "Defined protocol '127.0.0.1:80:80/Tcp' in EXPOSE instruction should be lowercase",
            ),
            (2, "ExposeInvalidFormat", &both),
            (2, "ExposeProtoCasing", "Defined protocol '80/TCP' in EXPOSE instruction should be lowercase"),
            (2, "ExposeInvalidFormat", &host),
            (2, "ExposeInvalidFormat", &address),
        ],
    );
}

#[test]
fn checks_are_skipped_where_the_text_says_so() {
    expect("# check=skip=all\nFROM a as B\nCMD x\n", &[]);
    expect("# check=skip=FromAsCasing,StageNameCasing\nFROM a as B\n", &[]);
    expect(
        "# check=skip=FromAsCasing\n\n# check=skip=StageNameCasing\nFROM a as B\nFROM b as C\n# check=skip=all\nrun x\n",
        &[(5, "StageNameCasing", "Stage name 'C' should be lowercase")],
    );
    let dockerfile =
        parse("# check=skip=A;error=true\n# check=skip=B\nFROM a\n# check=skip=C why\nRUN x\nRUN y\n").unwrap_err();
    assert_eq!(dockerfile.problem.to_string(), "only one check parser directive can be used");
    let dockerfile =
        parse("# check=skip=A;error=true\n\n# check=skip=B\nFROM a\n# check=skip=C why\nRUN x\nRUN y\n").unwrap();
    assert!(dockerfile.check.error);
    for (check, line, expected) in
        [("A", 4, false), ("B", 4, false), ("C", 4, true), ("B", 6, true), ("C", 6, false), ("C", 7, true)]
    {
        assert_eq!(dockerfile.wants(check, Lines { first: line, last: line }), expected, "{check} on line {line}");
    }
}

#[test]
fn descriptions_are_checked_when_asked_for() {
    let text = "# check=experimental=InvalidDefinitionDescription;skip=all\n# v is a version\nARG v\n# build builds\nFROM a AS build\n\
                # what now\nARG a b\n# c not\n\nARG d\n# e not\n#\nARG f\n# for RUN\nRUN x\n# i\nARG j\n# k\nFROM b\n";
    expect(
        text,
        &[
            (
                7,
                "InvalidDefinitionDescription",
                "Comment for ARG should follow the format: `# <arg_key> <description>`",
            ),
            (17, "InvalidDefinitionDescription", "Comment for ARG should follow the format: `# j <description>`"),
        ],
    );
    expect(&text.replace("experimental=InvalidDefinitionDescription", "experimental=Other"), &[]);
    assert_eq!(warnings(&text.replace("=InvalidDefinitionDescription", "=all")).len(), 2);
}

#[test]
fn texts_for_the_planner() {
    let lines = Lines { first: 1, last: 1 };
    let amd64 = tare_spec::Platform::parse("linux/amd64").unwrap();
    let arm64 = tare_spec::Platform::parse("linux/arm64").unwrap();
    for (warning, expected) in [
        (lint::undefined_var("VERISON", lines, None), "Usage of undefined variable '$VERISON'"),
        (
            lint::undefined_var("VERISON", lines, Some("VERSION")),
            "Usage of undefined variable '$VERISON' (did you mean $VERSION?)",
        ),
        (
            lint::undefined_arg_in_from("VERISON", lines, Some("VERSION")),
            "FROM argument 'VERISON' is not declared (did you mean VERSION?)",
        ),
        (
            lint::invalid_default_arg_in_from("debian:$V", lines),
            "Default value for ARG debian:$V results in empty or invalid base image name",
        ),
        (
            lint::redundant_target_platform("$TARGETPLATFORM", lines),
            "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
        ),
        (
            lint::copy_ignored_file("Copy", "x.log", lines),
            "Attempting to Copy file \"x.log\" that is excluded by .dockerignore",
        ),
        (
            lint::invalid_base_image_platform("a", &amd64, &arm64, lines),
            "Base image a was pulled with platform \"linux/arm64\", expected \"linux/amd64\" for current build",
        ),
    ] {
        assert_eq!(warning.message, expected);
    }
}
