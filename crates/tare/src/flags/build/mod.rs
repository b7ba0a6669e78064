//! The flags of `build`, and the wish for a build that they spell.

mod cache;
pub(crate) mod contexts;
pub(crate) mod outputs;
mod secrets;
mod steps;
mod times;

use super::fields::fields;
use super::parse::Matches;
use super::{Flag, bytes, words};
use crate::failure::Failure;
use crate::progress::build::Mode;
use outputs::Outputs;
use std::collections::BTreeMap;
use tare_engine::build::{BuildRequest, CacheTo, Entitlement, Network, NoCache};
use tare_spec::{Platform, Reference};
use times::EPOCH;

/// The flags.
pub(crate) const FLAGS: &[Flag] = &[
    Flag::value("add-host", "strings", "Add a custom host-to-IP mapping (format: \"host:ip\")"),
    Flag::value(
        "allow",
        "stringArray",
        "Allow extra privileged entitlement (e.g., \"network.host\", \"security.insecure\")",
    ),
    Flag::value("build-arg", "stringArray", "Set build-time variables"),
    Flag::value("build-context", "stringArray", "Additional build contexts (e.g., name=path)"),
    Flag::value(
        "cache-from",
        "stringArray",
        "External cache sources (e.g., \"user/app:cache\", \"type=local,src=path/to/dir\")",
    ),
    Flag::value(
        "cache-to",
        "stringArray",
        "Cache export destinations (e.g., \"user/app:cache\", \"type=local,dest=path/to/dir\")",
    ),
    Flag::value("call", "string", "Set method for evaluating build (\"check\", \"targets\") (default \"build\")"),
    Flag::switch("check", "Shorthand for \"--call=check\""),
    Flag::switch("explain", "Say of each step whether it was cached, and why not"),
    Flag::switch(
        "explain-context",
        "Show the files of the context by size, and which rule leaves out which, and build nothing",
    ),
    Flag::value("file", "string", "Name of the Dockerfile (default: \"PATH/Dockerfile\")").short('f'),
    Flag::value("iidfile", "string", "Write the image ID to a file"),
    Flag::value("label", "stringArray", "Set metadata for an image"),
    Flag::switch("load", "Shorthand for \"--output=type=docker\""),
    Flag::value("metadata-file", "string", "Write build result metadata to a file"),
    Flag::value(
        "network",
        "string",
        "Set the networking mode for the \"RUN\" instructions during build (default \"default\")",
    ),
    Flag::switch("no-cache", "Do not use cache when building the image"),
    Flag::value("no-cache-filter", "stringArray", "Do not cache specified stages"),
    Flag::value("output", "stringArray", "Output destination (format: \"type=local,dest=path\")").short('o'),
    Flag::value("platform", "stringArray", "Set target platform for build"),
    Flag::value(
        "progress",
        "string",
        "Set type of progress output (\"auto\", \"none\", \"plain\", \"quiet\", \"rawjson\", \"tty\"). Use plain to show container output (default \"auto\")",
    ),
    Flag::switch("pull", "Always attempt to pull all referenced images"),
    Flag::switch("push", "Shorthand for \"--output=type=registry\""),
    Flag::switch("quiet", "Suppress the build output and print image ID on success").short('q'),
    Flag::value("secret", "stringArray", "Secret to expose to the build (format: \"id=mysecret[,src=/local/secret]\")"),
    Flag::value("shm-size", "bytes", "Shared memory size for build containers"),
    Flag::switch("squash", "Squash newly built layers into a single new layer"),
    Flag::value("ssh", "stringArray", "SSH agent socket to expose to the build (format: \"default|<id>[=<socket>]\")"),
    Flag::value("tag", "stringArray", "Image identifier (format: \"[registry/]repository[:tag]\")").short('t'),
    Flag::value("target", "string", "Set the target build stage to build"),
    Flag::value(
        "timestamp",
        "string",
        "Times in the image: \"now\" as Docker has them, or seconds since 1970 (SOURCE_DATE_EPOCH) (default: the same for each build)",
    ),
    Flag::value("ulimit", "ulimit", "Ulimit options"),
    Flag::switch("verify", "Build twice without cache, and show which files of which step differ"),
    // What they ask for is so anyway, or is asked for by nobody: see `refuse`.
    Flag::value("attest", "stringArray", ""),
    Flag::switch("compress", ""),
    Flag::switch("force-rm", ""),
    Flag::value("provenance", "string", ""),
    Flag::switch("rm", ""),
    Flag::value("sbom", "string", ""),
    Flag::no_value("annotation"),
    Flag::no_value("builder"),
    Flag::no_value("cgroup-parent"),
    Flag::no_value("cpu-period"),
    Flag::no_value("cpu-quota"),
    Flag::no_value("cpu-shares").short('c'),
    Flag::no_value("cpuset-cpus"),
    Flag::no_value("cpuset-mems"),
    Flag::no_switch("disable-content-trust"),
    Flag::no_value("isolation"),
    Flag::no_value("memory").short('m'),
    Flag::no_value("memory-swap"),
    Flag::no_value("policy"),
    Flag::no_value("print"),
    Flag::no_value("resource"),
    Flag::no_value("security-opt"),
];

/// What is to be done with the Dockerfile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// It is built.
    Build,
    /// It is checked.
    Check {
        /// As JSON.
        json: bool,
        /// Warnings do not make the command fail.
        ignore_status: bool,
    },
    /// Its stages are shown.
    Targets {
        /// As JSON.
        json: bool,
    },
    /// The files of the context are shown.
    ExplainContext,
}

/// What the flags say.
#[derive(Debug)]
pub(crate) struct Wish {
    /// The build, still without context and Dockerfile.
    pub(crate) request: BuildRequest,
    /// `--file`.
    pub(crate) file: Option<String>,
    /// Where the result goes.
    pub(crate) outputs: Outputs,
    /// `--cache-to`.
    pub(crate) cache_to: Vec<CacheTo>,
    /// How it is shown.
    pub(crate) mode: Mode,
    /// Whether the id is all that is told.
    pub(crate) quiet: bool,
    /// `--iidfile`.
    pub(crate) iidfile: Option<String>,
    /// `--metadata-file`.
    pub(crate) metadata_file: Option<String>,
    /// What is to be done.
    pub(crate) action: Action,
    /// `--explain`.
    pub(crate) explain: bool,
    /// `--verify`.
    pub(crate) verify: bool,
    /// Whether the `.git` of a context from git stays in it.
    pub(crate) keep_git_dir: bool,
    /// What the person should know.
    pub(crate) notes: Vec<String>,
}

/// Build arguments that change how BuildKit builds, in ways that there are not here.
const REFUSED_ARGUMENTS: [&str; 4] =
    ["BUILDKIT_CACHE_MOUNT_NS", "BUILDKIT_DOCKERFILE_CHECK", "BUILDKIT_MULTI_PLATFORM", "BUILDKIT_SANDBOX_HOSTNAME"];

/// Reads the flags; `variable` is the environment.
pub(crate) fn read(m: &Matches, variable: impl Fn(&str) -> Option<String>) -> Result<Wish, Failure> {
    let fail = |text: String| Failure::new(text);
    refuse(m)?;
    let text = |name: &str| m.one(name).filter(|text| !text.is_empty()).map(str::to_owned);
    let (mode, quiet) = mode(m, &variable)?;
    let mut arguments = arguments(m, &variable).map_err(fail)?;
    if let (false, Some(epoch)) = (arguments.contains_key(EPOCH), variable(EPOCH).filter(|text| !text.is_empty())) {
        arguments.insert(EPOCH.to_owned(), epoch);
    }
    let tags = names(m.all("tag").map(String::as_str)).map_err(fail)?;
    let outputs = Outputs::read(m.all("output"), m.switch("push")?, m.switch("load")?, &tags).map_err(fail)?;
    let iidfile = text("iidfile");
    if iidfile.is_some() && outputs.are_files() {
        return Err(Failure::new("local and tar exporters are incompatible with image ID file"));
    }
    let (secrets, unset) = secrets::secrets(m.all("secret"), &variable).map_err(fail)?;
    let network = m.one("network").map_or(Ok(Network::Default), steps::network).map_err(fail)?;
    let mut allow = steps::allowed(m.all("allow")).map_err(fail)?;
    if network == Network::Host {
        // Who names it allows it.
        allow.insert(Entitlement::HostNetwork);
    }
    let cache_to = cache::to(m.all("cache-to")).map_err(fail)?;
    let is_set = |name: &str| arguments.get(name).is_some_and(|value| words::boolean(value) == Ok(true));
    let inline_cache = is_set("BUILDKIT_INLINE_CACHE") || cache_to.contains(&None);
    let squash = m.switch("squash")?;
    if squash && inline_cache {
        return Err(Failure::new(
            "--squash cannot be used with an inline cache: no layer of the result is that of a step; use --cache-to type=registry or type=local",
        ));
    }
    let keep_git_dir = is_set("BUILDKIT_CONTEXT_KEEP_GIT_DIR");
    let request = BuildRequest {
        target: text("target"),
        times: times::read(m.one("timestamp"), arguments.get(EPOCH).map(String::as_str)).map_err(fail)?,
        arguments,
        labels: labels(m).map_err(fail)?,
        names: if outputs.names.is_empty() { tags } else { outputs.names.clone() },
        platforms: platforms(m, &variable).map_err(fail)?,
        no_cache: no_cache(m)?,
        pull: m.switch("pull")?,
        network,
        secrets,
        agents: secrets::agents(m.all("ssh"), &variable).map_err(fail)?,
        contexts: contexts::named(m.all("build-context")).map_err(fail)?,
        hosts: steps::hosts(m.all("add-host")).map_err(fail)?,
        ulimits: steps::limits(m.read_all("ulimit", steps::limit)?),
        shm_size: m.read("shm-size", bytes::parse)?.filter(|&bytes| bytes > 0),
        allow,
        squash,
        cache_from: cache::from(m.all("cache-from")).map_err(fail)?,
        inline_cache,
        ..BuildRequest::default()
    };
    let wish = Wish {
        request,
        file: text("file"),
        outputs,
        cache_to: cache_to.into_iter().flatten().collect(),
        mode,
        quiet,
        iidfile,
        metadata_file: text("metadata-file"),
        action: action(m)?,
        explain: m.switch("explain")?,
        verify: m.switch("verify")?,
        keep_git_dir,
        notes: unset
            .iter()
            .map(|name| format!("the environment has no {name}: the secret that it is for is empty"))
            .collect(),
    };
    if wish.explain && (wish.quiet || wish.outputs.use_stdout()) {
        return Err(Failure::new(
            "--explain writes to standard output: it cannot be used together with --quiet or an archive there",
        ));
    }
    Ok(wish)
}

/// Refuses what asks for something that there is not.
fn refuse(m: &Matches) -> Result<(), Failure> {
    let not_yet = |flag: &str| Err(Failure::new(format!("{flag} is not supported yet")).with_code(125));
    m.switch("compress")?;
    m.switch("force-rm")?;
    if !m.switch_or("rm", true)? {
        return not_yet("--rm=false");
    }
    for name in ["provenance", "sbom"] {
        if let Some(value) = m.all(name).find(|value| words::boolean(value) != Ok(false)) {
            return not_yet(&format!("--{name}={value}"));
        }
    }
    for attestation in m.all("attest") {
        let disabled = super::fields::pairs(attestation, |field| format!("invalid value {field}"))
            .map_err(Failure::new)?
            .iter()
            .any(|(name, value)| name == "disabled" && words::boolean(value) == Ok(true));
        if !disabled {
            return not_yet(&format!("--attest {attestation}"));
        }
    }
    Ok(())
}

fn mode(m: &Matches, variable: impl Fn(&str) -> Option<String>) -> Result<(Mode, bool), Failure> {
    let quiet = m.switch("quiet")?;
    let given = m.one("progress").filter(|text| !text.is_empty());
    let of_environment = variable("BUILDKIT_PROGRESS").unwrap_or_default();
    let mode = Mode::parse(given.unwrap_or(&of_environment)).map_err(Failure::new)?;
    match (quiet, mode, given) {
        (_, Mode::Quiet, _) | (true, Mode::Auto, _) | (true, _, None) => Ok((Mode::Quiet, true)),
        (true, _, Some(given)) => Err(Failure::new(format!("progress={given} and quiet cannot be used together"))),
        (false, mode, _) => Ok((mode, false)),
    }
}

/// `--build-arg`: a name without a value takes the environment's, and is not given when that has none.
fn arguments(m: &Matches, variable: impl Fn(&str) -> Option<String>) -> Result<BTreeMap<String, String>, String> {
    let mut arguments = BTreeMap::new();
    for text in m.all("build-arg") {
        let (name, value) = pair(text)?;
        if REFUSED_ARGUMENTS.contains(&name) {
            return Err(format!("--build-arg {name} is not supported yet"));
        }
        if let Some(value) = value.map(str::to_owned).or_else(|| variable(name)) {
            arguments.insert(name.to_owned(), value);
        }
    }
    Ok(arguments)
}

fn labels(m: &Matches) -> Result<Vec<(String, String)>, String> {
    let label = |text: &String| {
        let (name, value) = pair(text)?;
        Ok((name.to_owned(), value.unwrap_or_default().to_owned()))
    };
    m.all("label").map(label).collect()
}

fn pair(text: &str) -> Result<(&str, Option<&str>), String> {
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    if name.is_empty() { Err(format!("invalid key-value pair {text:?}: empty key")) } else { Ok((name, value)) }
}

/// Names that an image is to get, without repetition.
fn names<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Vec<Reference>, String> {
    let mut names: Vec<Reference> = Vec::new();
    for text in texts {
        let name = Reference::parse(text).map_err(|error| format!("invalid tag {text:?}: {error}"))?;
        if name.digest().is_some() {
            return Err(format!("invalid tag {text:?}: a digest is no name that one can give"));
        }
        let name = name.with_default_tag();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn platforms(m: &Matches, variable: impl Fn(&str) -> Option<String>) -> Result<Vec<Platform>, String> {
    let mut texts: Vec<String> = m.all("platform").cloned().collect();
    if texts.is_empty() {
        texts.extend(variable("DOCKER_DEFAULT_PLATFORM"));
    }
    let mut platforms: Vec<Platform> = Vec::new();
    for text in texts.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|text| !text.is_empty()) {
        let platform = match text {
            local if local.eq_ignore_ascii_case("local") => Platform::host(),
            text => Platform::parse(text).map_err(|error| error.to_string())?,
        };
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    Ok(platforms)
}

fn no_cache(m: &Matches) -> Result<NoCache, Failure> {
    let stages = m.all("no-cache-filter").flat_map(|text| text.split(',')).map(|name| name.trim().to_lowercase());
    let stages: std::collections::BTreeSet<String> = stages.filter(|name| !name.is_empty()).collect();
    match (m.switch("no-cache")?, stages.is_empty()) {
        (true, false) => Err(Failure::new("--no-cache and --no-cache-filter cannot currently be used together")),
        (true, true) => Ok(NoCache::All),
        (false, false) => Ok(NoCache::Stages(stages)),
        (false, true) => Ok(NoCache::Changed),
    }
}

fn action(m: &Matches) -> Result<Action, Failure> {
    if m.switch("explain-context")? {
        return Ok(Action::ExplainContext);
    }
    let text = if m.switch("check")? { "check" } else { m.one("call").unwrap_or("build") };
    let (mut method, mut json, mut ignore_status) = (None, false, false);
    for field in fields(text).map_err(Failure::new)? {
        match field.split_once('=') {
            Some(("format", "json")) => json = true,
            Some(("format", "text" | "")) => json = false,
            Some(("ignorestatus", value)) => {
                ignore_status = words::boolean(value)
                    .map_err(|why| Failure::new(format!("invalid ignorestatus print value: {value}: {why}")))?;
            }
            Some(_) => return Err(Failure::new(format!("invalid print field: {field}"))),
            None if method.is_some() => return Err(Failure::new(format!("invalid print value: {text}"))),
            None => method = Some(field),
        }
    }
    match method.as_deref().unwrap_or_default() {
        "" | "build" => Ok(Action::Build),
        "check" | "lint" => Ok(Action::Check { json, ignore_status }),
        "targets" => Ok(Action::Targets { json }),
        other => Err(Failure::new(format!("--call {other} is not supported yet"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::image::build::VERB;
    use tare_engine::build::{ContextSource, SecretSource, Times};

    fn variable(name: &str) -> Option<String> {
        let variables = [("USER", "me"), ("SOURCE_DATE_EPOCH", "1700000000"), ("TOKEN", "t0ken")];
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    fn wish(words: &[&str]) -> Result<Wish, String> {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let matches = Matches::parse(&VERB, "tare build".to_owned(), &words).map_err(|failure| failure.message())?;
        read(&matches, variable).map_err(|failure| failure.message())
    }

    #[test]
    fn nothing_said_is_dockers_default() {
        let words = ["."];
        let Wish { request, outputs, mode, quiet, action, .. } = wish(&words).unwrap();
        assert!(matches!(request.context, ContextSource::Empty));
        assert_eq!((request.names.len(), request.platforms.len(), request.no_cache), (0, 0, NoCache::Changed));
        assert_eq!((mode, quiet, action, request.pull), (Mode::Auto, false, Action::Build, false));
        assert!(outputs.have_image() && !outputs.push);
        let epoch = jiff::Timestamp::from_second(1_700_000_000).unwrap();
        assert_eq!(request.times, Times::At(epoch));
        assert_eq!(request.arguments["SOURCE_DATE_EPOCH"], "1700000000");
    }

    #[test]
    fn everything_said() {
        let words = [
            "-t",
            "web",
            "--tag=127.0.0.1:5000/web:2",
            "-t",
            "web:latest",
            "-f",
            "x/Dockerfile",
            "--target",
            "build",
            "--build-arg",
            "A=1",
            "--build-arg",
            "USER",
            "--build-arg",
            "NONE",
            "--build-arg",
            "B=",
            "--label",
            "a=b=c",
            "--label",
            "d",
            "--no-cache-filter",
            "One,two",
            "--pull",
            "--platform",
            "linux/arm64,linux/amd64",
            "--platform",
            "linux/arm64",
            "--secret",
            "id=t,env=TOKEN",
            "--network",
            "host",
            "--add-host",
            "db:10.0.0.1",
            "--ulimit",
            "nofile=5:6",
            "--shm-size",
            "64m",
            "--squash",
            "--allow",
            "security.insecure",
            "--timestamp",
            "now",
            "-q",
            "--iidfile",
            "i",
            "--metadata-file",
            "m",
            "--rm",
            "--force-rm",
            "--compress",
            "--provenance=false",
            "--sbom=0",
            "--attest",
            "type=sbom,disabled=true",
            ".",
        ];
        let wish = wish(&words).unwrap();
        let request = &wish.request;
        let names: Vec<String> = request.names.iter().map(Reference::familiar).collect();
        assert_eq!(names, ["web:latest", "127.0.0.1:5000/web:2"]);
        assert_eq!((wish.file.as_deref(), request.target.as_deref()), (Some("x/Dockerfile"), Some("build")));
        let mut arguments = request.arguments.clone();
        arguments.remove("SOURCE_DATE_EPOCH");
        let expected = [("A", "1"), ("USER", "me"), ("B", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(arguments, BTreeMap::from(expected));
        assert_eq!(request.labels, [("a", "b=c"), ("d", "")].map(|(name, value)| (name.to_owned(), value.to_owned())));
        let stages = ["one", "two"].map(str::to_owned).into();
        assert_eq!((&request.no_cache, request.pull), (&NoCache::Stages(stages), true));
        let platforms: Vec<String> = request.platforms.iter().map(ToString::to_string).collect();
        assert_eq!(platforms, ["linux/arm64", "linux/amd64"]);
        assert!(matches!(&request.secrets["t"], SecretSource::Value(value) if value == b"t0ken"));
        assert_eq!((request.network, request.shm_size, request.squash), (Network::Host, Some(64 << 20), true));
        assert_eq!(request.allow.len(), 2);
        assert_eq!(request.ulimits["nofile"], (Some(5), Some(6)));
        assert_eq!((request.times, wish.quiet, wish.mode), (Times::Kept, true, Mode::Quiet));
        assert_eq!((wish.iidfile.as_deref(), wish.metadata_file.as_deref()), (Some("i"), Some("m")));
    }

    #[test]
    fn methods() {
        let action = |words: &[&str]| wish(words).map(|wish| wish.action);
        let check = |json, ignore_status| Ok(Action::Check { json, ignore_status });
        assert_eq!(action(&["--check", "."]), check(false, false));
        assert_eq!(action(&["--call", "check,format=json,ignorestatus=true", "."]), check(true, true));
        assert_eq!(action(&["--call=targets", "."]), Ok(Action::Targets { json: false }));
        assert_eq!(action(&["--explain-context", "."]), Ok(Action::ExplainContext));
        assert_eq!(action(&["--call", "build", "."]), Ok(Action::Build));
    }

    #[test]
    fn progress_of_flags_and_of_the_environment() {
        let of = |words: &[&str], environment: &str| {
            let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            let matches = Matches::parse(&VERB, "tare build".to_owned(), &words).unwrap();
            super::mode(&matches, |_| Some(environment.to_owned())).map_err(|failure| failure.message())
        };
        assert_eq!(of(&["."], ""), Ok((Mode::Auto, false)));
        assert_eq!(of(&["."], "plain"), Ok((Mode::Plain, false)));
        assert_eq!(of(&["--progress", "rawjson", "."], "plain"), Ok((Mode::RawJson, false)));
        assert_eq!(of(&["-q", "."], "plain"), Ok((Mode::Quiet, true)));
        assert_eq!(of(&["-q", "--progress=auto", "."], ""), Ok((Mode::Quiet, true)));
        assert_eq!(of(&["--progress=quiet", "."], ""), Ok((Mode::Quiet, true)));
        assert_eq!(of(&["--progress=none", "."], ""), Ok((Mode::None, false)));
        assert_eq!(
            of(&["-q", "--progress=tty", "."], "").unwrap_err(),
            "Error: progress=tty and quiet cannot be used together\n"
        );
        assert_eq!(of(&["--progress=x", "."], "").unwrap_err(), "Error: invalid progress mode x\n");
    }

    #[test]
    fn refusals() {
        for (words, expected) in [
            (&["--builder", "x"][..], "Error: --builder is not supported yet"),
            (&["-m", "1g"], "Error: --memory is not supported yet"),
            (&["-c", "5"], "Error: --cpu-shares is not supported yet"),
            (&["--cgroup-parent", "x"], "Error: --cgroup-parent is not supported yet"),
            (&["--isolation", "hyperv"], "Error: --isolation is not supported yet"),
            (&["--annotation", "a=b"], "Error: --annotation is not supported yet"),
            (&["--provenance", "mode=max"], "Error: --provenance=mode=max is not supported yet"),
            (&["--sbom=true"], "Error: --sbom=true is not supported yet"),
            (&["--attest", "type=sbom"], "Error: --attest type=sbom is not supported yet"),
            (&["--rm=false"], "Error: --rm=false is not supported yet"),
            (&["--call", "outline"], "Error: --call outline is not supported yet"),
            (&["--call", "check,x=y"], "Error: invalid print field: x=y"),
            (&["-t", "UPPER"], "Error: invalid tag \"UPPER\": "),
            (&["--build-arg", "=x"], "Error: invalid key-value pair \"=x\": empty key"),
            (
                &["--build-arg", "BUILDKIT_MULTI_PLATFORM=1"],
                "Error: --build-arg BUILDKIT_MULTI_PLATFORM is not supported yet",
            ),
            (&["--platform", "linux/"], "Error: \"\" is an invalid component of \"linux/\""),
            (&["--network", "web"], "Error: network mode \"web\" not supported by builds"),
            (
                &["--no-cache", "--no-cache-filter", "a"],
                "Error: --no-cache and --no-cache-filter cannot currently be used together",
            ),
            (&["--iidfile", "i", "-o", "out"], "Error: local and tar exporters are incompatible with image ID file"),
            (&["--explain", "-q"], "Error: --explain writes to standard output"),
            (&["--ulimit", "x"], "invalid argument \"x\" for \"--ulimit\" flag: invalid ulimit argument: x"),
            (&["--shm-size", "x"], "invalid argument \"x\" for \"--shm-size\" flag: invalid size: 'x'"),
            (
                &["--pull=x"],
                "invalid argument \"x\" for \"--pull\" flag: strconv.ParseBool: parsing \"x\": invalid syntax",
            ),
            (&["--push"], "Error: tag is needed when pushing to registry"),
        ] {
            let message = wish(&[words, &["."]].concat()).unwrap_err();
            assert!(message.starts_with(expected), "{words:?}: {message}");
        }
    }

    #[test]
    fn an_inline_cache_is_asked_for_in_two_ways() {
        assert!(wish(&["--build-arg", "BUILDKIT_INLINE_CACHE=1", "."]).unwrap().request.inline_cache);
        assert!(wish(&["--cache-to", "type=inline", "."]).unwrap().request.inline_cache);
        assert!(!wish(&["--cache-to", "type=local,dest=/c", "."]).unwrap().request.inline_cache);
        assert!(wish(&["--squash", "--cache-to", "type=inline", "."]).is_err());
        assert!(wish(&["--squash", "--build-arg", "BUILDKIT_INLINE_CACHE=1", "."]).is_err());
        assert!(wish(&["--squash", "--cache-to", "type=local,dest=/c", "."]).is_ok());
    }
}
