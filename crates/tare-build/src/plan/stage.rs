//! From a stage's statements to steps and a configuration.

use super::history::{EntryText, entry};
use super::scope::{Arguments, Scope, proxies, set_variable, variable};
use super::{Action, EARLIEST, Planner, RunAction, Step, at, clean, command, mount};
use crate::dockerfile::{Instruction, Lines, Problem, Run, Statement, lint, parse_statements};
use crate::error::{Error, Result};
use crate::executor::Network;
use crate::progress::{StepId, StepTitle};
use crate::request::{Entitlement, NamedContext, Times};
use jiff::Timestamp;
use std::collections::BTreeSet;
use tare_spec::Platform;
use tare_spec::image::{self, Config, Empty, History};
use tare_spec::port::ExposedPort;

/// The most layers that overlayfs takes (`OVL_MAX_STACK`), but for those that a container adds.
const MOST_STEPS: usize = 490;

/// The search path of images that start from nothing, as BuildKit sets it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a stage has come to.
#[derive(Clone, Debug)]
pub(super) struct StageState {
    pub(super) step: Option<StepId>,
    pub(super) platform: Platform,
    pub(super) config: Config,
    pub(super) author: Option<String>,
    pub(super) history: Vec<History>,
    pub(super) inherited: usize,
    /// The time of the image it starts from.
    pub(super) time: Timestamp,
    /// A stage from this one sees them, too.
    arguments: Arguments,
}

/// What a stage starts from.
pub(super) enum Base {
    Scratch,
    /// An earlier stage.
    Stage(usize),
    /// By name.
    Image(String),
    /// A folder of `--build-context`, by that name.
    Folder(String),
}

/// A stage in the making.
pub(super) struct Draft {
    pub(super) index: usize,
    /// How steps are shown: the stage's name or number, and how many steps there will be.
    label: String,
    total: usize,
    number: usize,
    pub(super) state: StageState,
    /// Whether this stage has said what is run.
    has_command: bool,
}

impl Planner<'_> {
    /// What FROM of a stage means.
    pub(super) fn base_of(&self, index: usize) -> Result<(Base, Platform)> {
        let stage = &self.dockerfile.stages[index];
        let escape = self.dockerfile.escape;
        let expand = |word: &str| Ok::<_, Error>(self.globals.expand(word, escape).map_err(at(stage.lines))?.text);
        let platform = match &stage.platform {
            None => self.options.platform.clone(),
            Some(word) => {
                let word = expand(word)?;
                let invalid = |_| Problem::Value { what: "platform", value: word.clone() };
                Platform::parse(&word).map_err(invalid).map_err(at(stage.lines))?
            }
        };
        let name = expand(&stage.image)?;
        if name.trim().is_empty() {
            let what = "base name: it is empty after its variables were replaced,";
            return Err(at(stage.lines)(Problem::Value { what, value: stage.image.clone() }));
        }
        let base = match self.options.contexts.get(&name) {
            Some(NamedContext::Image(image)) => Base::Image(image.clone()),
            Some(NamedContext::Folder(_) | NamedContext::Git(_)) => Base::Folder(name),
            None if name == "scratch" => Base::Scratch,
            None => match self.dockerfile.stages[..index]
                .iter()
                .rposition(|earlier| earlier.name.as_deref() == Some(name.to_lowercase().as_str()))
            {
                Some(earlier) => Base::Stage(earlier),
                None => Base::Image(name),
            },
        };
        Ok((base, platform))
    }

    /// Plans a stage and what it needs, once.
    pub(super) fn stage(&mut self, index: usize) -> Result<StageState> {
        if let Some(state) = &self.states[index] {
            return Ok(state.clone());
        }
        let mut draft = self.begin(index)?;
        let dockerfile = self.dockerfile;
        for statement in &dockerfile.stages[index].statements {
            self.statement(&mut draft, statement)?;
        }
        self.states[index] = Some(draft.state.clone());
        Ok(draft.state)
    }

    /// What is probably not meant in FROM.
    fn warn_of_from(&mut self, index: usize) {
        let stage = &self.dockerfile.stages[index];
        for word in [Some(&stage.image), stage.platform.as_ref()].into_iter().flatten() {
            // What cannot be expanded has been refused.
            let Ok(expanded) = self.globals.expand(word, self.dockerfile.escape) else { continue };
            let unknown = expanded.missing.iter().filter(|name| !self.globals.knows(name));
            self.warnings.extend(unknown.map(|name| lint::undefined_arg_in_from(name, stage.lines, None)));
        }
        if matches!(stage.platform.as_deref(), Some("$TARGETPLATFORM" | "${TARGETPLATFORM}")) {
            let platform = stage.platform.as_deref().unwrap_or_default();
            self.warnings.push(lint::redundant_target_platform(platform, stage.lines));
        }
    }

    fn begin(&mut self, index: usize) -> Result<Draft> {
        let stage = &self.dockerfile.stages[index];
        let (base, platform) = self.base_of(index)?;
        self.warn_of_from(index);
        let several = self.dockerfile.stages.len() > 1;
        let label = match &stage.name {
            Some(name) => name.clone(),
            None if several => format!("stage-{index}"),
            None => String::new(),
        };
        let own = stage.statements.iter().filter(|statement| command::makes_files(&statement.instruction)).count();
        let fresh = |config| StageState {
            step: None,
            platform: platform.clone(),
            config,
            author: None,
            history: Vec::new(),
            inherited: 0,
            time: EARLIEST,
            arguments: Arguments::default(),
        };
        let empty = || {
            let mut config = Config { working_dir: "/".to_owned(), ..Config::default() };
            set_variable(&mut config, "PATH", DEFAULT_PATH);
            config
        };
        let mut triggers = Vec::new();
        let mut of_image = None;
        let mut state = match base {
            Base::Scratch => fresh(empty()),
            Base::Folder(name) => {
                let what = "base: FROM takes images and stages, not the folder of --build-context";
                return Err(at(stage.lines)(Problem::Value { what, value: name }));
            }
            Base::Stage(earlier) => {
                let mut state = self.stage(earlier)?;
                triggers = state.config.on_build.take().unwrap_or_default();
                if stage.platform.is_some() && state.platform != platform {
                    let what = "platform: it is not that of the stage it starts from,";
                    return Err(at(stage.lines)(Problem::Value { what, value: platform.to_string() }));
                }
                state
            }
            Base::Image(name) => {
                let known = (self.images)(&name, &platform).map_err(|error| error.of_image(&name, stage.lines))?;
                let image = known.config;
                let mut config = image.config.unwrap_or_else(empty);
                // BuildKit gives every stage a search path.
                if variable(&config, "PATH").is_none() {
                    set_variable(&mut config, "PATH", DEFAULT_PATH);
                }
                triggers = config.on_build.take().unwrap_or_default();
                let created = image.created.and_then(|text| text.parse::<Timestamp>().ok());
                // A clock that was wrong must not give files times that nobody can write down.
                let time = created.filter(|time| *time > EARLIEST).unwrap_or(EARLIEST);
                let mut state = fresh(config);
                state.author = image.author;
                state.inherited = image.history.len();
                state.history = image.history;
                state.time = time;
                of_image = Some((name, known.resolved));
                state
            }
        };
        let statements = triggers
            .iter()
            .map(|trigger| {
                parse_statements(trigger).map_err(|error| Error::Trigger { trigger: trigger.clone(), error })
            })
            .collect::<Result<Vec<_>>>()?;
        let added =
            statements.iter().flatten().filter(|statement| command::makes_files(&statement.instruction)).count();
        let total = own + added + 1;
        if total > MOST_STEPS {
            let feature =
                format!("a stage of {total} steps: more than {MOST_STEPS} layers cannot be mounted over each other");
            return Err(at(stage.lines)(Problem::Unsupported { feature }));
        }
        if let Some((name, resolved)) = of_image {
            let title = StepTitle {
                name: format!("[{}1/{total}] FROM {resolved}", self.prefix(&label)),
                lines: Some(stage.lines),
            };
            let step = Step {
                title,
                stage: stage_name(&label, index),
                parent: None,
                platform: platform.clone(),
                time: self.time(state.time),
                action: Action::Image { name },
            };
            state.step = Some(self.push(step));
        }
        let mut draft = Draft { index, label, total, number: 1, state, has_command: false };
        for mut statement in statements.into_iter().flatten() {
            // They stand in no file; FROM brings them.
            statement.lines = stage.lines;
            self.statement(&mut draft, &statement)?;
        }
        Ok(draft)
    }

    /// The time of what a stage makes, whose base has this one.
    fn time(&self, of_base: Timestamp) -> Option<Timestamp> {
        match self.options.times {
            Times::Kept => None,
            Times::At(time) => Some(time),
            Times::OfBase => Some(of_base),
        }
    }

    fn statement(&mut self, draft: &mut Draft, statement: &Statement) -> Result<()> {
        let problem = at(statement.lines);
        match &statement.instruction {
            Instruction::Run(run) => self.run(draft, statement, run),
            Instruction::Copy(copy) => self.copy(draft, statement, copy, false),
            Instruction::Add(copy) => self.copy(draft, statement, copy, true),
            Instruction::Workdir(path) => {
                let path = self.scope(draft, statement.lines).expand(path).map_err(&problem)?;
                if path.is_empty() {
                    return Err(problem(Problem::Value { what: "folder to work in: it is", value: path }));
                }
                let path = clean(&draft.state.config.working_dir, &path);
                draft.state.config.working_dir.clone_from(&path);
                let makes = path != "/";
                if makes {
                    let title = format!("WORKDIR {path}");
                    let owner = draft.state.config.user.clone();
                    self.step(draft, statement.lines, title, Action::Directory { path: path.clone(), owner });
                }
                // BuildKit marks what makes a layer, but not this.
                let history = entry(EntryText::Plain(format!("WORKDIR {path}")), false);
                draft.state.history.push(History { empty_layer: !makes, ..history });
                Ok(())
            }
            Instruction::Arg(arguments) => {
                let mut words = Vec::new();
                for (name, default) in arguments {
                    let default = match default {
                        Some(default) => Some(self.scope(draft, statement.lines).expand(default).map_err(&problem)?),
                        None => None,
                    };
                    let value = draft.state.arguments.declare(name, default, &self.globals, self.options);
                    words.push(value.map_or_else(|| name.clone(), |value| format!("{name}={value}")));
                }
                draft.state.history.push(entry(EntryText::Plain(format!("ARG {}", words.join(" "))), false));
                Ok(())
            }
            other => {
                let text = self.configure(draft, statement.lines, other).map_err(problem)?;
                draft.state.history.push(entry(EntryText::Plain(text), false));
                Ok(())
            }
        }
    }

    /// What changes the configuration only. Returns the text for the history.
    fn configure(
        &mut self,
        draft: &mut Draft,
        lines: Lines,
        instruction: &Instruction,
    ) -> std::result::Result<String, Problem> {
        let (warnings, left) = (&mut self.warnings, &mut self.left);
        configure(&mut draft.state, &mut draft.has_command, instruction, |state, word| {
            let (config, arguments) = (&state.config, &state.arguments);
            let escape = self.dockerfile.escape;
            Scope { escape, config, arguments, options: self.options, lines, warnings, left }.expand(word)
        })
    }

    pub(super) fn scope<'s>(&'s mut self, draft: &'s Draft, lines: Lines) -> Scope<'s> {
        Scope {
            escape: self.dockerfile.escape,
            config: &draft.state.config,
            arguments: &draft.state.arguments,
            options: self.options,
            lines,
            warnings: &mut self.warnings,
            left: &mut self.left,
        }
    }

    /// Adds a step to a stage.
    pub(super) fn step(&mut self, draft: &mut Draft, lines: Lines, text: String, action: Action) -> StepId {
        draft.number += 1;
        let name = format!("[{}{}/{}] {text}", self.prefix(&draft.label), draft.number, draft.total);
        let step = self.push(Step {
            title: StepTitle { name, lines: Some(lines) },
            stage: stage_name(&draft.label, draft.index),
            parent: draft.state.step,
            platform: draft.state.platform.clone(),
            time: self.time(draft.state.time),
            action,
        });
        draft.state.step = Some(step);
        step
    }

    /// What a step's title has before its number: the platform where there are several, and the stage.
    fn prefix(&self, label: &str) -> String {
        let platform = if self.options.several { format!("{} ", self.options.platform) } else { String::new() };
        if label.is_empty() { platform } else { format!("{platform}{label} ") }
    }

    fn run(&mut self, draft: &mut Draft, statement: &Statement, run: &Run) -> Result<()> {
        let lines = statement.lines;
        let problem = at(lines);
        if let Some(device) = run.devices.first() {
            return Err(problem(Problem::Unsupported { feature: format!("RUN --device={device}") }));
        }
        let network = match run.network.as_deref() {
            None | Some("default") => self.options.network,
            Some("none") => Network::None,
            Some("host") if self.options.allow.contains(&Entitlement::HostNetwork) => Network::Host,
            Some("host") => return Err(problem(Problem::NotAllowed { entitlement: "network.host" })),
            Some(other) => return Err(problem(Problem::Value { what: "network", value: other.to_owned() })),
        };
        let insecure = match run.security.as_deref() {
            None | Some("sandbox") => false,
            Some("insecure") if self.options.allow.contains(&Entitlement::Insecure) => true,
            Some("insecure") => return Err(problem(Problem::NotAllowed { entitlement: "security.insecure" })),
            Some(other) => return Err(problem(Problem::Value { what: "security", value: other.to_owned() })),
        };
        let mut mounts = Vec::new();
        for fields in &run.mounts {
            let fields = mount::expanded(fields, &mut self.scope(draft, lines)).map_err(&problem)?;
            mounts.push(self.mount(draft, lines, &fields, &mounts)?);
        }
        let config = draft.state.config.clone();
        let (args, script) = command::of_run(run, config.shell.as_deref()).map_err(&problem)?;
        mounts.extend(script);
        if args.is_empty() {
            return Err(problem(Problem::Arguments { instruction: "RUN", expected: "requires at least one argument" }));
        }
        let arguments = draft.state.arguments.visible(&config);
        let env = config.env.iter().cloned().chain(arguments.iter().cloned()).collect();
        let history = EntryText::Run { arguments: &draft.state.arguments.declared(&config), args: &args }.into_owned();
        let action = RunAction {
            args,
            env,
            proxies: proxies(self.options, &config),
            cwd: if config.working_dir.is_empty() { "/".to_owned() } else { config.working_dir.clone() },
            user: config.user.clone(),
            network,
            insecure,
            mounts,
            config,
        };
        let title = statement.text.clone();
        self.step(draft, lines, title, Action::Run(Box::new(action)));
        draft.state.history.push(entry(history, true));
        Ok(())
    }
}

/// Applies an instruction that changes the configuration only. Returns the text for the history.
pub(super) fn configure(
    state: &mut StageState,
    has_command: &mut bool,
    instruction: &Instruction,
    mut expand: impl FnMut(&StageState, &str) -> std::result::Result<String, Problem>,
) -> std::result::Result<String, Problem> {
    Ok(match instruction {
        Instruction::Env(pairs) => {
            // A statement's own variables count from the next statement on.
            let pairs = expand_pairs(state, pairs, &mut expand)?;
            for (name, value) in &pairs {
                set_variable(&mut state.config, name, value);
            }
            format!("ENV {}", joined(&pairs))
        }
        Instruction::Label(pairs) => {
            let pairs = expand_pairs(state, pairs, &mut expand)?;
            state.config.labels.extend(pairs.iter().cloned());
            format!("LABEL {}", joined(&pairs))
        }
        Instruction::Expose(ports) => {
            let mut words = Vec::new();
            for port in ports {
                words.extend(expand(state, port)?.split_whitespace().map(str::to_owned));
            }
            let mut exposed = BTreeSet::new();
            for word in &words {
                let invalid = |_| Problem::Value { what: "port", value: word.clone() };
                exposed.extend(ExposedPort::parse(word).map_err(invalid)?.iter().map(ToString::to_string));
            }
            state.config.exposed_ports.extend(exposed.iter().map(|port| (port.clone(), Empty {})));
            // As Go prints a set.
            let ports: Vec<String> = exposed.into_iter().map(|port| format!("{port}:{{}}")).collect();
            format!("EXPOSE map[{}]", ports.join(" "))
        }
        Instruction::Cmd(words) => {
            state.config.cmd = command::with_shell(words, state.config.shell.as_deref());
            *has_command = true;
            format!("CMD {}", quoted(state.config.cmd.as_deref()))
        }
        Instruction::Entrypoint(words) => {
            state.config.entrypoint = command::with_shell(words, state.config.shell.as_deref());
            // It was meant for the program before.
            if !*has_command {
                state.config.cmd = None;
            }
            format!("ENTRYPOINT {}", quoted(state.config.entrypoint.as_deref()))
        }
        Instruction::Volume(paths) => {
            let paths: Vec<String> =
                paths.iter().map(|path| expand(state, path)).collect::<std::result::Result<_, _>>()?;
            if paths.iter().any(String::is_empty) {
                return Err(Problem::Value { what: "volume", value: String::new() });
            }
            state.config.volumes.extend(paths.iter().map(|path| (path.clone(), Empty {})));
            format!("VOLUME [{}]", paths.join(" "))
        }
        Instruction::OnBuild(statement) => {
            state.config.on_build.get_or_insert_default().push(statement.clone());
            format!("ONBUILD {statement}")
        }
        Instruction::User(user) => {
            state.config.user = expand(state, user)?;
            format!("USER {}", state.config.user)
        }
        Instruction::StopSignal(signal) => {
            let signal = expand(state, signal)?;
            if tare_spec::signal::parse(&signal).is_none() {
                return Err(Problem::Value { what: "signal", value: signal });
            }
            let text = format!("STOPSIGNAL {signal}");
            state.config.stop_signal = Some(signal);
            text
        }
        Instruction::Shell(words) => {
            state.config.shell = Some(words.clone());
            format!("SHELL [{}]", words.join(" "))
        }
        Instruction::Maintainer(author) => {
            state.author = Some(author.clone());
            format!("MAINTAINER {author}")
        }
        Instruction::Healthcheck(check) => {
            let health = command::healthcheck(check)?;
            let text = format!("HEALTHCHECK {}", healthcheck_text(&health));
            state.config.healthcheck = Some(health);
            text
        }
        Instruction::Workdir(path) => {
            let path = clean(&state.config.working_dir, &expand(state, path)?);
            state.config.working_dir.clone_from(&path);
            format!("WORKDIR {path}")
        }
        Instruction::Arg(_) | Instruction::Run(_) | Instruction::Copy(_) | Instruction::Add(_) => {
            return Err(Problem::Unsupported { feature: "a statement that makes files here".to_owned() });
        }
    })
}

/// A configuration that is changed by itself, without a build.
pub(crate) struct Configuring {
    state: StageState,
    has_command: bool,
}

impl Configuring {
    pub(crate) fn new(config: Config) -> Self {
        let state = StageState {
            step: None,
            platform: Platform::host(),
            config,
            author: None,
            history: Vec::new(),
            inherited: 0,
            time: EARLIEST,
            arguments: Arguments::default(),
        };
        Self { state, has_command: false }
    }

    /// Applies an instruction that makes no files.
    pub(crate) fn apply(&mut self, instruction: &Instruction) -> std::result::Result<(), Problem> {
        let expand = |state: &StageState, word: &str| {
            let lookup = |name: &str| variable(&state.config, name);
            Ok(crate::dockerfile::expand(word, '\\', &lookup)?.text)
        };
        configure(&mut self.state, &mut self.has_command, instruction, expand).map(drop)
    }

    pub(crate) fn into_config(self) -> Config {
        self.state.config
    }
}

fn expand_pairs(
    state: &StageState,
    pairs: &[(String, String)],
    expand: &mut impl FnMut(&StageState, &str) -> std::result::Result<String, Problem>,
) -> std::result::Result<Vec<(String, String)>, Problem> {
    pairs.iter().map(|(name, value)| Ok((expand(state, name)?, expand(state, value)?))).collect()
}

fn joined(pairs: &[(String, String)]) -> String {
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

/// As Go's `%q` prints a list.
fn quoted(words: Option<&[String]>) -> String {
    let words: Vec<String> = words.unwrap_or_default().iter().map(|word| format!("{word:?}")).collect();
    format!("[{}]", words.join(" "))
}

/// As Go's `%q` prints the structure.
fn healthcheck_text(check: &image::Healthcheck) -> String {
    let times = [check.interval, check.timeout, check.start_period, check.start_interval];
    let times: Vec<String> = times.iter().map(|time| format!("{:?}", command::go_duration(*time))).collect();
    // A number is a character to it.
    let retries = match check.retries {
        count @ 0..0x20 => format!("'\\x{count:02x}'"),
        count => {
            u32::try_from(count).ok().and_then(char::from_u32).map_or_else(|| count.to_string(), |c| format!("{c:?}"))
        }
    };
    format!("&{{{} {} {retries}}}", quoted(Some(&check.test)), times.join(" "))
}

fn stage_name(label: &str, index: usize) -> String {
    if label.is_empty() { index.to_string() } else { label.to_owned() }
}
