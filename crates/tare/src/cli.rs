//! The tree of commands, the options before them, and help.

use crate::commands::{builder, container, image, registry, system};
use crate::failure::{Exit, Failure, Outcome};
use crate::flags::parse::{Arity, Matches};
use crate::flags::{Flag, help, suggest};
use crate::terminal;
use crate::ui::{Ui, note};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use tare_engine::{Backend, Options};

/// A command.
#[derive(Debug)]
pub(crate) struct Verb {
    /// Its name in lists: the last word.
    pub(crate) name: &'static str,
    /// All its spellings in Docker's order: `container ls`, `container list`, `container ps`, `ps`.
    pub(crate) names: &'static [&'static str],
    /// What follows the name.
    pub(crate) usage: &'static str,
    /// What it does, in a line.
    pub(crate) about: &'static str,
    /// Its flags, in parts that commands share.
    pub(crate) flags: &'static [&'static [Flag]],
    /// How many arguments it takes.
    pub(crate) arity: Arity,
    /// Whether what follows the first argument belongs to another program.
    pub(crate) stops_at_first_argument: bool,
    /// What it does.
    pub(crate) run: fn(&Matches, &mut Ui) -> Outcome,
}

static HELP: Flag = Flag::switch("help", "");
static HELP_WITH_LETTER: Flag = Flag::switch("help", "").short('h');

impl Verb {
    /// All flags, with `--help`.
    pub(crate) fn flags(&self) -> impl Iterator<Item = &'static Flag> + use<> {
        let own = self.flags.iter().copied().flatten();
        let help = if own.clone().any(|flag| flag.short == Some('h')) { &HELP } else { &HELP_WITH_LETTER };
        own.chain([help])
    }
}

/// Every command, in the order of Docker's help.
static VERBS: &[&Verb] = &[
    &container::run::VERB,
    &container::exec::VERB,
    &container::ls::VERB,
    &image::build::VERB,
    &image::pull::VERB,
    &image::push::VERB,
    &image::ls::VERB,
    &registry::login::VERB,
    &registry::logout::VERB,
    &registry::search::VERB,
    &system::version::VERB,
    &system::info::VERB,
    &container::attach::VERB,
    &builder::du::VERB,
    &builder::prune::VERB,
    &container::commit::VERB,
    &container::create::VERB,
    &container::diff::VERB,
    &container::export::VERB,
    &container::inspect::VERB,
    &image::history::VERB,
    &image::import::VERB,
    &image::inspect::VERB,
    &system::inspect::VERB,
    &container::kill::VERB,
    &image::load::VERB,
    &container::logs::VERB,
    &container::port::VERB,
    &container::prune::VERB,
    &container::restart::VERB,
    &container::rm::VERB,
    &image::prune::VERB,
    &image::rm::VERB,
    &image::save::VERB,
    &container::start::VERB,
    &container::stop::VERB,
    &system::check::VERB,
    &system::df::VERB,
    &system::prune::VERB,
    &image::tag::VERB,
    &container::wait::VERB,
    &registry::garbage_collect::VERB,
    &registry::serve::VERB,
];

/// How many of [`VERBS`] help shows as the common ones.
const COMMON: usize = 12;

/// Words before which commands are grouped.
static GROUPS: &[(&str, &str)] = &[
    ("builder", "Manage builds"),
    ("buildx", "Manage builds (Docker's newer word for builder)"),
    ("container", "Manage containers"),
    ("image", "Manage images"),
    ("registry", "Run a private registry"),
    ("system", "Manage tare"),
];

/// Docker's commands that do not exist here yet: the last word of each, or all of them.
static NOT_YET: &[&str] = &[
    "buildx bake",
    "buildx create",
    "buildx dap",
    "buildx dial-stdio",
    "buildx history",
    "buildx imagetools",
    "buildx inspect",
    "buildx ls",
    "buildx policy",
    "buildx rm",
    "buildx stop",
    "buildx use",
    "buildx version",
    "checkpoint",
    "compose",
    "config",
    "context",
    "cp",
    "events",
    "manifest",
    "network",
    "node",
    "pause",
    "plugin",
    "rename",
    "secret",
    "service",
    "stack",
    "stats",
    "swarm",
    "top",
    "trust",
    "unpause",
    "update",
    "volume",
];

/// The options before the command.
static ROOT: Verb = Verb {
    name: "tare",
    names: &[],
    usage: "[OPTIONS] COMMAND",
    about: "Containers at the weight of a process",
    flags: &[&[
        Flag::value("root", "path", "Where images and containers are kept (TARE_ROOT) (default \"/var/lib/tare\")"),
        Flag::value("run-root", "path", "Where the state of this boot is kept (TARE_RUN_ROOT) (default \"/run/tare\")"),
        Flag::value(
            "storage-driver",
            "string",
            "How new layers are kept (\"erofs\"|\"dir\") (TARE_STORAGE_DRIVER) (default: what the kernel can)",
        ),
        Flag::switch("version", "Print version information and quit").short('v'),
        Flag::value("host", "list", "").short('H'),
        Flag::value("context", "string", "").short('c'),
        Flag::no_value("config"),
        Flag::no_switch("debug").short('D'),
        Flag::no_value("log-level").short('l'),
        Flag::no_switch("tls"),
        Flag::no_value("tlscacert"),
        Flag::no_value("tlscert"),
        Flag::no_value("tlskey"),
        Flag::no_switch("tlsverify"),
    ]],
    arity: Arity::AtLeast(0),
    stops_at_first_argument: true,
    run: |_, _| Ok(Exit::SUCCESS),
};

/// Runs the command that the words name.
pub(crate) fn main(words: impl Iterator<Item = OsString>) -> ExitCode {
    let outcome = words
        .map(|word| word.into_string().map_err(|word| Failure::new(format!("argument {word:?} is no UTF-8"))))
        .collect::<Result<Vec<String>, Failure>>()
        .and_then(|words| dispatch(&words));
    match outcome {
        Ok(Exit(code)) => ExitCode::from(code),
        Err(failure) => {
            note(&failure.message());
            ExitCode::from(failure.code)
        }
    }
}

fn dispatch(words: &[String]) -> Outcome {
    let global = Matches::parse(&ROOT, ROOT.name.to_owned(), words)?;
    for flag in ["host", "context"] {
        if global.has(flag) {
            return Err(Failure::new(format!("--{flag} is not supported: there is no daemon to talk to"))
                .with_code(125)
                .with_hint(Some("to work on another set of containers, use --root and --run-root".to_owned())));
        }
    }
    if global.switch("version")? {
        return print(&format!("tare version {}\n", env!("CARGO_PKG_VERSION")));
    }
    let (first, rest) = match global.args.split_first() {
        None => return print(&root_help(terminal::width())),
        Some(_) if global.switch("help")? => return print(&root_help(terminal::width())),
        Some((first, rest)) if first == "help" => return print_help_of(rest),
        Some(split) => split,
    };
    let (verb, path, rest) = match find(first, rest)? {
        Found::Group(name, about) => return print(&group_help(name, about)),
        Found::Verb(verb, path, rest) => (verb, path, rest),
    };
    let matches = Matches::parse(verb, path, rest)?;
    if matches.switch("help")? {
        return print(&help::command(verb, &matches.path, terminal::width()));
    }
    matches.check_arity()?;
    let mut ui = Ui::new(options(&global)?);
    let outcome = (verb.run)(&matches, &mut ui);
    // What was written before an error counts, too; the first thing that went wrong is the one to tell.
    match (outcome, ui.out.flush()) {
        (Ok(_), Err(error)) => Err(error.into()),
        (outcome, _) => outcome.map_err(|failure| ui.advise(failure)),
    }
}

enum Found<'a> {
    Group(&'static str, &'static str),
    Verb(&'static Verb, String, &'a [String]),
}

fn find<'a>(first: &str, rest: &'a [String]) -> Result<Found<'a>, Failure> {
    let group = GROUPS.iter().find(|(name, _)| *name == first);
    let (parent, spelling, rest) = match (group, rest.split_first()) {
        (Some((name, about)), None) => return Ok(Found::Group(name, about)),
        (Some((name, about)), Some((word, _))) if word == "--help" || word == "-h" => {
            return Ok(Found::Group(name, about));
        }
        (Some((name, _)), Some((word, rest))) => (format!("tare {name}"), format!("{name} {word}"), rest),
        (None, _) => ("tare".to_owned(), first.to_owned(), rest),
    };
    if let Some(verb) = VERBS.iter().find(|verb| verb.names.contains(&spelling.as_str())) {
        return Ok(Found::Verb(verb, format!("tare {spelling}"), rest));
    }
    let word = spelling.rsplit(' ').next().unwrap_or_default();
    if NOT_YET.contains(&word) || NOT_YET.contains(&spelling.as_str()) {
        return Err(Failure::new(format!("'tare {spelling}' is not supported yet")));
    }
    let prefix = parent.strip_prefix("tare").unwrap_or_default().trim_start();
    let siblings = VERBS.iter().flat_map(|verb| verb.names).filter_map(|name| match name.rsplit_once(' ') {
        Some((group, name)) => (group == prefix).then_some(name),
        None => prefix.is_empty().then_some(*name),
    });
    let groups = GROUPS.iter().map(|(name, _)| *name).filter(|_| prefix.is_empty());
    Err(Failure::unknown_command(&parent, word, suggest::nearest(word, siblings.chain(groups))))
}

/// What the options before the command, or else the environment, say of the engine.
fn options(global: &Matches) -> Result<Options, Failure> {
    let given = |flag: &str, variable: &str| {
        let word = global.one(flag).map(str::to_owned).or_else(|| std::env::var(variable).ok());
        word.filter(|word| !word.is_empty())
    };
    // The path is handed on to monitors, whose working directory is another.
    let absolute = |path: String| std::path::absolute(&path).unwrap_or_else(|_| path.into());
    let mut options = Options::default();
    if let Some(path) = given("root", "TARE_ROOT") {
        options.root = absolute(path);
    }
    if let Some(path) = given("run-root", "TARE_RUN_ROOT") {
        options.run_root = absolute(path);
    }
    options.layers = match given("storage-driver", "TARE_STORAGE_DRIVER").as_deref() {
        None => None,
        Some("erofs") => Some(Backend::Erofs),
        Some("dir") => Some(Backend::Directory),
        Some(other) => {
            return Err(Failure::new(format!("storage driver {other:?} is not supported"))
                .with_code(125)
                .with_hint(Some("`erofs` and `dir` are; without one the kernel decides".to_owned())));
        }
    };
    Ok(options)
}

fn print(text: &str) -> Outcome {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(Exit::SUCCESS)
}

fn print_help_of(words: &[String]) -> Outcome {
    let Some((first, rest)) = words.split_first() else { return print(&root_help(terminal::width())) };
    match find(first, rest) {
        Ok(Found::Group(name, about)) => print(&group_help(name, about)),
        Ok(Found::Verb(verb, path, _)) => print(&help::command(verb, &path, terminal::width())),
        Err(_) => Err(Failure::new(format!("unknown help topic: {}", words.join(" ")))),
    }
}

fn root_help(width: usize) -> String {
    let mut text = format!("Usage:  tare {}\n\n{}\n\nCommon Commands:\n", ROOT.usage, ROOT.about);
    let (common, others) = VERBS.split_at(COMMON);
    let top = |verb: &&&'static Verb| verb.names.iter().copied().find(|name| !name.contains(' '));
    list(&mut text, common.iter().filter_map(|verb| Some((top(&verb)?, verb.about))));
    text.push_str("\nManagement Commands:\n");
    list(&mut text, GROUPS.iter().copied());
    text.push_str("\nCommands:\n");
    list(&mut text, others.iter().filter_map(|verb| Some((top(&verb)?, verb.about))));
    text.push_str("\nGlobal Options:\n");
    text.push_str(&help::options(ROOT.flags(), width));
    text.push_str("\nRun 'tare COMMAND --help' for more information on a command.\n");
    text
}

fn group_help(group: &str, about: &str) -> String {
    let mut verbs: Vec<(&str, &str)> = VERBS
        .iter()
        .filter_map(|verb| {
            let name = verb.names.iter().find_map(|name| name.strip_prefix(group)?.strip_prefix(' '))?;
            Some((name, verb.about))
        })
        .collect();
    verbs.sort_unstable();
    let mut text = format!("Usage:  tare {group} COMMAND\n\n{about}\n\nCommands:\n");
    list(&mut text, verbs.into_iter());
    let _ = write!(text, "\nRun 'tare {group} COMMAND --help' for more information on a command.\n");
    text
}

fn list(text: &mut String, rows: impl Iterator<Item = (&'static str, &'static str)>) {
    for (name, about) in rows {
        let about = about.lines().next().unwrap_or_default().trim_end_matches('.');
        let _ = writeln!(text, "  {name:<11} {about}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    /// What stderr says and the exit code for a refused command line.
    fn refusal(line: &str) -> (String, u8) {
        let failure = dispatch(&words(line)).unwrap_err();
        (failure.message(), failure.code)
    }

    #[test]
    fn refusals_are_in_dockers_words() {
        for (line, first, code) in [
            ("--foo", "unknown flag: --foo", 125),
            ("rn", "tare: unknown command: tare rn", 1),
            ("container foo", "tare: unknown command: tare container foo", 1),
            ("run", "tare: 'tare run' requires at least 1 argument", 1),
            ("run --foo", "unknown flag: --foo", 125),
            ("run -z x", "unknown shorthand flag: 'z' in -z", 125),
            ("run -itz x", "unknown shorthand flag: 'z' in -z", 125),
            ("run -rm x", "unknown shorthand flag: 'r' in -rm", 125),
            ("run --name", "flag needs an argument: --name", 125),
            ("run -e", "flag needs an argument: 'e' in -e", 125),
            (
                "run -it --rm=zzz i",
                "invalid argument \"zzz\" for \"--rm\" flag: strconv.ParseBool: parsing \"zzz\": invalid syntax",
                125,
            ),
            ("run -m x i", "invalid argument \"x\" for \"-m, --memory\" flag: invalid size: 'x'", 125),
            ("run -m 5m i", "Error: Minimum memory limit allowed is 6MB", 125),
            (
                "run --cpus x i",
                "invalid argument \"x\" for \"--cpus\" flag: failed to parse x as a rational number",
                125,
            ),
            (
                "run --mount x i",
                "invalid argument \"x\" for \"--mount\" flag: invalid field 'x' must be a key=value pair",
                125,
            ),
            (
                "run -a foo i",
                "invalid argument \"foo\" for \"-a, --attach\" flag: valid streams are STDIN, STDOUT and STDERR",
                125,
            ),
            ("run -d -a stdin i", "Error: conflicting options: cannot specify both --attach and --detach", 1),
            ("run -p a:b i", "Error: invalid containerPort: b", 125),
            (
                "run --pull foo i",
                "Error: invalid pull option: 'foo': must be one of \"always\", \"missing\" or \"never\"",
                125,
            ),
            ("run -e =x i", "invalid argument \"=x\" for \"-e, --env\" flag: invalid environment variable: =x", 125),
            ("run --gpus all i", "Error: --gpus is not supported yet", 125),
            ("run --init i", "Error: --init is not supported yet", 125),
            ("run --network foo i", "Error: network foo not found: only bridge, host and none exist", 125),
            ("run --env-file /nonexist i", "Error: open /nonexist: no such file or directory", 125),
            ("run --name a i", "Error: Invalid container name (a), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", 125),
            ("exec a", "tare: 'tare exec' requires at least 2 arguments", 1),
            ("ps a", "tare: 'tare ps' accepts no arguments", 1),
            (
                "ps -f foo",
                "invalid argument \"foo\" for \"-f, --filter\" flag: bad format of filter (expected name=value)",
                125,
            ),
            (
                "ps -n x",
                "invalid argument \"x\" for \"-n, --last\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
                125,
            ),
            ("tag a", "tare: 'tare tag' requires 2 arguments", 1),
            ("-H tcp://x ps", "Error: --host is not supported: there is no daemon to talk to", 125),
            ("build", "tare: 'tare build' requires 1 argument", 1),
            ("build a b", "tare: 'tare build' requires 1 argument", 1),
            ("build --foo .", "unknown flag: --foo", 125),
            ("build --builder x .", "Error: --builder is not supported yet", 125),
            (
                "build /nonexistent",
                "ERROR: failed to build: unable to prepare context: path \"/nonexistent\" not found",
                1,
            ),
            (
                "build -f /nonexistent .",
                "ERROR: failed to build: failed to solve: failed to read dockerfile: open /nonexistent: no such file or directory",
                1,
            ),
            ("buildx build --secret x .", "ERROR: invalid field 'x' must be a key=value pair", 1),
            ("buildx bake", "Error: 'tare buildx bake' is not supported yet", 1),
            ("builder prune --filter x=y -f", "Error: invalid filter 'x'", 1),
            ("volume ls", "Error: 'tare volume' is not supported yet", 1),
            ("--storage-driver zfs ps", "Error: storage driver \"zfs\" is not supported", 125),
            ("help foo", "Error: unknown help topic: foo", 1),
        ] {
            let (text, exit) = refusal(line);
            assert_eq!((text.lines().next().unwrap(), exit), (first, code), "tare {line}");
        }
    }

    #[test]
    fn slips_get_a_suggestion() {
        for (line, hint) in [
            ("rn", "hint: did you mean `tare run`?"),
            ("container lst", "hint: did you mean `tare container ls`?"),
            ("run -rm x", "hint: did you mean `--rm`?"),
            ("run --naem=x i", "hint: did you mean `--name`?"),
            ("logs --folow web", "hint: did you mean `--follow`?"),
            ("build", "hint: `tare build .` builds from what is in this folder"),
            ("bild .", "hint: did you mean `tare build`?"),
        ] {
            let text = refusal(line).0;
            assert!(text.lines().any(|line| line == hint), "tare {line}: {text}");
        }
    }

    #[test]
    fn a_refused_command_line_shows_the_usage() {
        assert_eq!(
            refusal("run --foo").0,
            "unknown flag: --foo\n\nUsage:  tare run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\nRun 'tare run --help' for more information\n"
        );
    }

    fn parsed(line: &str) -> Matches {
        let words = words(line);
        let Found::Verb(verb, path, rest) = find(&words[0], &words[1..]).unwrap() else { panic!("{line}") };
        Matches::parse(verb, path, rest).unwrap()
    }

    #[test]
    fn flags_follow_dockers_rules() {
        let m =
            parsed("run -it -p=3000:80 -p 1:2 --rm=false --name=web -e A=1 -e=B=2 --pids-limit -1 img -x --rm -- y");
        assert_eq!(m.args, ["img", "-x", "--rm", "--", "y"]);
        assert!(m.switch("interactive").unwrap() && m.switch("tty").unwrap() && !m.switch("rm").unwrap());
        assert_eq!(m.all("publish").collect::<Vec<_>>(), ["3000:80", "1:2"]);
        assert_eq!(m.all("env").collect::<Vec<_>>(), ["A=1", "B=2"]);
        assert_eq!((m.one("name"), m.one("pids-limit")), (Some("web"), Some("-1")));
        assert_eq!(parsed("run --name= img").one("name"), Some(""));
        assert_eq!(parsed("run --name -x img").one("name"), Some("-x"));
        assert_eq!(parsed("run -ePATH img").one("env"), Some("PATH"));
        assert_eq!(parsed("run -- img -x").args, ["img", "-x"]);
        // Elsewhere flags may follow arguments.
        let m = parsed("rm a -f b");
        assert_eq!(
            (m.args.as_slice(), m.switch("force").unwrap()),
            (["a".to_owned(), "b".to_owned()].as_slice(), true)
        );
        assert_eq!(parsed("stop -t -1 a").one("timeout"), Some("-1"));
        assert_eq!(parsed("rm -- -f").args, ["-f"]);
    }

    #[test]
    fn every_command_builds_and_has_unique_flags() {
        for verb in VERBS {
            let mut names: Vec<&str> = verb.flags().map(|flag| flag.name).collect();
            let mut letters: Vec<char> = verb.flags().filter_map(|flag| flag.short).collect();
            let counts = (names.len(), letters.len());
            names.sort_unstable();
            names.dedup();
            letters.sort_unstable();
            letters.dedup();
            assert_eq!((names.len(), letters.len()), counts, "{}", verb.names[0]);
        }
    }

    /// Compares every help text with its golden file; `TARE_GOLDEN=1` writes them anew.
    #[test]
    fn help_texts() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/help");
        let mut texts = vec![("tare".to_owned(), root_help(80))];
        texts.extend(GROUPS.iter().map(|(name, about)| (format!("tare {name}"), group_help(name, about))));
        for verb in VERBS {
            let path = format!("tare {}", verb.names[0]);
            texts.push((path.clone(), help::command(verb, &path, 80)));
        }
        for (path, text) in texts {
            let file = folder.join(format!("{}.txt", path.replace(' ', "-")));
            if std::env::var_os("TARE_GOLDEN").is_some() {
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(&file, &text).unwrap();
            }
            let golden = std::fs::read_to_string(&file).unwrap_or_default();
            assert_eq!(text, golden, "{} differs; TARE_GOLDEN=1 rewrites it", file.display());
        }
    }
}
