//! Which variables there are at a place in a Dockerfile (its reference, "ARG", "Scope").

use super::{PlanOptions, at};
use crate::dockerfile::{Dockerfile, Expanded, Instruction, Lines, Problem, Warning, WordProblem, expand, lint};
use crate::error::Result;
use std::collections::{BTreeMap, BTreeSet};
use tare_spec::Platform;
use tare_spec::image::Config;

/// Bytes that all words of a build together may come to: far above what any image says of itself.
pub(super) const ALL_EXPANDED: usize = 16 << 20;

/// Arguments that everyone may give without ARG. They are no part of history and of what a result depends on.
const PROXIES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// What is known before the first FROM.
pub(super) struct Globals {
    /// The arguments declared there; without a value where none was given.
    declared: BTreeMap<String, Option<String>>,
    /// BUILDPLATFORM, TARGETARCH and their like.
    platform: BTreeMap<&'static str, String>,
}

impl Globals {
    pub(super) fn new(dockerfile: &Dockerfile, options: &PlanOptions<'_>, warnings: &mut Vec<Warning>) -> Result<Self> {
        let mut globals = Self { declared: BTreeMap::new(), platform: platform_arguments(options) };
        for statement in &dockerfile.arguments {
            let Instruction::Arg(arguments) = &statement.instruction else { continue };
            for (name, default) in arguments {
                let value = match (options.arguments.get(name), default) {
                    (Some(given), _) => Some(given.clone()),
                    (None, Some(default)) => {
                        let expanded = globals.expand(default, dockerfile.escape).map_err(at(statement.lines))?;
                        let undefined = expanded.missing.iter().filter(|name| !globals.declared.contains_key(*name));
                        warnings.extend(undefined.map(|name| lint::undefined_var(name, statement.lines, None)));
                        Some(expanded.text)
                    }
                    (None, None) => globals.platform.get(name.as_str()).cloned(),
                };
                globals.declared.insert(name.clone(), value);
            }
        }
        Ok(globals)
    }

    /// Whether an argument is declared, with or without a value.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.declared.contains_key(name) || self.platform.contains_key(name)
    }

    /// Replaces variables in FROM.
    pub(super) fn expand(&self, word: &str, escape: char) -> std::result::Result<Expanded, Problem> {
        expand(word, escape, &|name| match self.declared.get(name) {
            Some(value) => value.clone(),
            None => self.platform.get(name).cloned(),
        })
    }
}

fn platform_arguments(options: &PlanOptions<'_>) -> BTreeMap<&'static str, String> {
    let mut arguments = BTreeMap::new();
    let mut describe = |names: [&'static str; 4], platform: &Platform| {
        let Platform { os, architecture, variant } = platform;
        let values = [platform.to_string(), os.clone(), architecture.clone(), variant.clone().unwrap_or_default()];
        arguments.extend(names.into_iter().zip(values));
    };
    describe(["BUILDPLATFORM", "BUILDOS", "BUILDARCH", "BUILDVARIANT"], &Platform::host());
    describe(["TARGETPLATFORM", "TARGETOS", "TARGETARCH", "TARGETVARIANT"], &options.platform);
    arguments.insert("TARGETSTAGE", options.target.unwrap_or("default").to_owned());
    for (name, value) in &mut arguments {
        // Whoever names one on the command line means it.
        if let Some(given) = options.arguments.get(*name) {
            value.clone_from(given);
        }
    }
    arguments
}

/// The arguments of a stage in the order of their declaration, as far as it has been planned.
#[derive(Clone, Debug, Default)]
pub(super) struct Arguments(Vec<(String, Option<String>)>);

impl Arguments {
    /// `ARG name` or `ARG name=default`; the default has its variables replaced. Returns the value.
    pub(super) fn declare(
        &mut self,
        name: &str,
        default: Option<String>,
        globals: &Globals,
        options: &PlanOptions<'_>,
    ) -> Option<String> {
        let of_build = options.arguments.get(name).cloned();
        let global = || globals.declared.get(name).cloned().flatten();
        let value = of_build
            .or(default)
            .or_else(global)
            .or_else(|| globals.platform.get(name).cloned())
            .or_else(|| self.get(name));
        self.0.retain(|(other, _)| other != name);
        self.0.push((name.to_owned(), value.clone()));
        value
    }

    fn knows(&self, name: &str) -> bool {
        self.0.iter().any(|(other, _)| other == name)
    }

    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(other, _)| other == name).and_then(|(_, value)| value.clone())
    }

    /// All of them as history has them: what a variable of the image hides has that one's value.
    pub(super) fn declared(&self, config: &Config) -> Vec<String> {
        let value =
            |name: &str, own: &Option<String>| variable(config, name).or_else(|| own.clone()).unwrap_or_default();
        self.0.iter().map(|(name, own)| format!("{name}={}", value(name, own))).collect()
    }

    /// Those with a value that no variable of the image hides: what RUN sees besides the image's own.
    pub(super) fn visible(&self, config: &Config) -> Vec<String> {
        let hidden = |name: &str| variable(config, name).is_some();
        let valued = self.0.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let visible = valued.filter(|(name, _)| !hidden(name) && !is_proxy(name));
        visible.map(|(name, value)| format!("{name}={value}")).collect()
    }
}

pub(super) fn is_proxy(name: &str) -> bool {
    PROXIES.contains(&name)
}

/// The proxies that were given to the build.
pub(super) fn proxies(options: &PlanOptions<'_>, config: &Config) -> Vec<String> {
    let given = options.arguments.iter().filter(|(name, _)| is_proxy(name) && variable(config, name).is_none());
    given.map(|(name, value)| format!("{name}={value}")).collect()
}

/// The value of a variable of the image.
pub(super) fn variable(config: &Config, name: &str) -> Option<String> {
    config.env.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
}

/// Sets a variable in its old place, or behind the others.
pub(super) fn set_variable(config: &mut Config, name: &str, value: &str) {
    let line = format!("{name}={value}");
    let prefix = format!("{name}=");
    match config.env.iter_mut().find(|old| old.starts_with(&prefix)) {
        Some(old) => *old = line,
        None => config.env.push(line),
    }
}

/// Replaces the variables that a statement of a stage sees.
pub(super) struct Scope<'s> {
    pub(super) escape: char,
    pub(super) config: &'s Config,
    pub(super) arguments: &'s Arguments,
    pub(super) options: &'s PlanOptions<'s>,
    pub(super) lines: Lines,
    pub(super) warnings: &'s mut Vec<Warning>,
    /// How many bytes all that is expanded may still come to.
    pub(super) left: &'s mut usize,
}

impl Scope<'_> {
    pub(super) fn expand(&mut self, word: &str) -> std::result::Result<String, Problem> {
        let Expanded { text, missing, .. } = expand(word, self.escape, &|name| self.lookup(name))?;
        self.check(text, &missing)
    }

    /// What is expanded must have its names, and no NUL, which no path and no variable can hold.
    pub(super) fn check(&mut self, text: String, missing: &BTreeSet<String>) -> std::result::Result<String, Problem> {
        if text.contains('\0') {
            return Err(Problem::Nul);
        }
        // Each word is bounded; a hostile Dockerfile has many.
        *self.left = self.left.checked_sub(text.len()).ok_or_else(|| Problem::Word {
            word: text.chars().take(100).collect(),
            cause: WordProblem::TooLarge { limit: ALL_EXPANDED },
        })?;
        let undefined = missing.iter().filter(|name| !self.arguments.knows(name) && !is_proxy(name));
        self.warnings.extend(undefined.map(|name| lint::undefined_var(name, self.lines, None)));
        Ok(text)
    }

    pub(super) fn lookup(&self, name: &str) -> Option<String> {
        variable(self.config, name)
            .or_else(|| self.arguments.get(name))
            .or_else(|| self.options.arguments.get(name).filter(|_| is_proxy(name)).cloned())
    }
}
