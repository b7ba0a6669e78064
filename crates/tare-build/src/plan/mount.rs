//! `RUN --mount`.

use super::copy::Origin;
use super::scope::Scope;
use super::stage::Draft;
use super::{Planner, at, clean};
use crate::dockerfile::{Lines, Problem};
use crate::error::Result;
use serde::Serialize;

/// What is mounted while a process runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum RunMount {
    /// Files of somewhere else; what is written there is thrown away.
    Bind {
        /// Absolute.
        target: String,
        /// Where from.
        from: Origin,
        /// Relative; empty: all of it.
        source: String,
        /// `rw`.
        writable: bool,
    },
    /// A folder that outlives the build.
    Cache {
        /// What it is known by.
        id: String,
        /// Absolute.
        target: String,
        /// `ro`.
        read_only: bool,
        /// What happens when several builds want it at once.
        sharing: Sharing,
        /// What it holds in the beginning.
        from: Option<Origin>,
        /// Relative: what of that.
        source: String,
        /// Permissions of the folder.
        mode: u32,
        /// User and group of the folder.
        owner: (u32, u32),
    },
    /// A file system in memory.
    Tmpfs {
        /// Absolute.
        target: String,
        /// Bytes at most.
        size: Option<u64>,
    },
    /// A secret, as a file, a variable, or both.
    Secret {
        /// What the person calls it.
        id: String,
        /// Absolute.
        target: Option<String>,
        /// A variable that holds it.
        env: Option<String>,
        /// Whether the step fails without it.
        required: bool,
        /// Permissions of the file.
        mode: u32,
        /// User and group of the file.
        owner: (u32, u32),
    },
    /// The socket of an SSH agent.
    Ssh {
        /// What the person calls it.
        id: String,
        /// Absolute.
        target: String,
        /// Whether the step fails without it.
        required: bool,
        /// Permissions of the socket.
        mode: u32,
        /// User and group of the socket.
        owner: (u32, u32),
    },
    /// The script of a here-document that names its interpreter.
    Script {
        /// Absolute.
        target: String,
        /// What is in it.
        contents: String,
    },
}

/// How several steps share the folder of a cache mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// All at once.
    #[default]
    Shared,
    /// Whoever comes second gets a folder of its own.
    Private,
    /// One after the other.
    Locked,
}

impl RunMount {
    /// Where its files come from.
    #[must_use]
    pub fn origin(&self) -> Option<&Origin> {
        match self {
            Self::Bind { from, .. } => Some(from),
            Self::Cache { from, .. } => from.as_ref(),
            _ => None,
        }
    }
}

/// The fields with their variables replaced; in `from` there are none, so that stages can be told apart before they are built.
pub(super) fn expanded(
    fields: &[(String, String)],
    scope: &mut Scope<'_>,
) -> std::result::Result<Vec<(String, String)>, Problem> {
    let expand = |(name, value): &(String, String)| match name.as_str() {
        "from" if value.contains('$') => Err(Problem::Unsupported {
            feature: format!("a variable in from={value} (give the image a name by FROM … AS name, and use that)"),
        }),
        _ => Ok((name.clone(), scope.expand(value)?)),
    };
    fields.iter().map(expand).collect()
}

#[derive(Default)]
struct Fields<'f> {
    kind: &'f str,
    target: Option<&'f str>,
    source: Option<&'f str>,
    from: Option<&'f str>,
    id: Option<&'f str>,
    env: Option<&'f str>,
    sharing: Option<&'f str>,
    read_only: Option<bool>,
    required: bool,
    mode: Option<u32>,
    size: Option<u64>,
    uid: u32,
    gid: u32,
}

impl<'f> Fields<'f> {
    fn read(fields: &'f [(String, String)]) -> std::result::Result<Self, Problem> {
        let mut all = Self { kind: "bind", ..Self::default() };
        for (name, value) in fields {
            let invalid = |what| move || Problem::Value { what, value: value.clone() };
            let truth = || match value.to_ascii_lowercase().as_str() {
                "" | "true" | "1" => Ok(true),
                "false" | "0" => Ok(false),
                _ => Err(Problem::Value { what: "value of a switch of --mount", value: value.clone() }),
            };
            match name.as_str() {
                "type" => all.kind = value,
                "target" | "dst" | "destination" => all.target = Some(value),
                "source" | "src" => all.source = Some(value),
                "from" => all.from = Some(value),
                "id" => all.id = Some(value),
                "env" => all.env = Some(value),
                "sharing" => all.sharing = Some(value),
                "ro" | "readonly" => all.read_only = Some(truth()?),
                "rw" | "readwrite" => all.read_only = Some(!truth()?),
                "required" => all.required = truth()?,
                "mode" => {
                    let mode = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777);
                    all.mode = Some(mode.ok_or_else(invalid("octal mode"))?);
                }
                "size" => all.size = Some(size(value).ok_or_else(invalid("size"))?),
                "uid" => all.uid = id(value).ok_or_else(invalid("user number"))?,
                "gid" => all.gid = id(value).ok_or_else(invalid("group number"))?,
                _ => return Err(Problem::Value { what: "field of --mount: there is no", value: name.clone() }),
            }
        }
        Ok(all)
    }

    /// Refuses fields that this kind of mount does not have: they would do nothing.
    fn only(&self, allowed: &[&str]) -> std::result::Result<(), Problem> {
        let given = [
            ("source", self.source.is_some()),
            ("from", self.from.is_some()),
            ("id", self.id.is_some()),
            ("env", self.env.is_some()),
            ("sharing", self.sharing.is_some()),
            ("readonly", self.read_only.is_some()),
            ("required", self.required),
            ("mode", self.mode.is_some()),
            ("size", self.size.is_some()),
            ("uid", self.uid != 0),
            ("gid", self.gid != 0),
        ];
        match given.iter().find(|(name, given)| *given && !allowed.contains(name)) {
            None => Ok(()),
            Some((name, _)) => Err(Problem::Value {
                what: "field of this type of --mount: it has no",
                value: format!("{name} (type={})", self.kind),
            }),
        }
    }
}

impl Planner<'_> {
    /// Plans one mount of a RUN; `before` are those that come before it.
    pub(super) fn mount(
        &mut self,
        draft: &Draft,
        lines: Lines,
        fields: &[(String, String)],
        before: &[RunMount],
    ) -> Result<RunMount> {
        let problem = at(lines);
        let fields = Fields::read(fields).map_err(&problem)?;
        let cwd = if draft.state.config.working_dir.is_empty() { "/" } else { &draft.state.config.working_dir };
        let target = fields.target.map(|target| clean(cwd, target));
        // As runc has it; what is below it the runtime refuses, but for a few files.
        if target.as_deref() == Some("/proc") {
            let what = "target of --mount: the isolation of steps relies on the kernel's own files there, not";
            return Err(problem(Problem::Value { what, value: "/proc".to_owned() }));
        }
        let missing = || problem(Problem::Value { what: "--mount: it has no target", value: fields.kind.to_owned() });
        let needed = || match target.as_deref() {
            None => Err(missing()),
            Some("/") => Err(problem(Problem::Value { what: "target of --mount", value: "/".to_owned() })),
            Some(target) => Ok(target.to_owned()),
        };
        let source = || clean("/", fields.source.unwrap_or_default())[1..].to_owned();
        let owner = (fields.uid, fields.gid);
        Ok(match fields.kind {
            "bind" => {
                fields.only(&["source", "from", "readonly"]).map_err(&problem)?;
                let from = match fields.from {
                    None => Origin::Context,
                    Some(name) => self.origin(draft, lines, name)?,
                };
                Bind { target: needed()?, from, source: source(), writable: fields.read_only == Some(false) }
            }
            "cache" => {
                let allowed = ["source", "from", "id", "sharing", "readonly", "mode", "uid", "gid"];
                fields.only(&allowed).map_err(&problem)?;
                let target = needed()?;
                let from = match fields.from {
                    None => None,
                    Some(name) => Some(self.origin(draft, lines, name)?),
                };
                let sharing = match fields.sharing {
                    None | Some("shared") => Sharing::Shared,
                    Some("private") => Sharing::Private,
                    Some("locked") => Sharing::Locked,
                    Some(other) => {
                        return Err(problem(Problem::Value { what: "sharing of --mount", value: other.to_owned() }));
                    }
                };
                RunMount::Cache {
                    id: fields.id.map_or_else(|| target.clone(), str::to_owned),
                    target,
                    read_only: fields.read_only == Some(true),
                    sharing,
                    from,
                    source: source(),
                    mode: fields.mode.unwrap_or(0o755),
                    owner,
                }
            }
            "tmpfs" => {
                fields.only(&["size"]).map_err(&problem)?;
                RunMount::Tmpfs { target: needed()?, size: fields.size }
            }
            "secret" => {
                fields.only(&["source", "id", "env", "required", "mode", "uid", "gid"]).map_err(&problem)?;
                let of_target = target.as_deref().and_then(|target| target.rsplit('/').next());
                let id = fields.id.or(fields.source).or(of_target).unwrap_or_default().to_owned();
                if id.is_empty() {
                    return Err(problem(Problem::Value {
                        what: "--mount: it has no id",
                        value: fields.kind.to_owned(),
                    }));
                }
                let name = id.rsplit('/').next().unwrap_or(&id);
                // As a variable only, unless a file is asked for, too.
                let target = target.or_else(|| fields.env.is_none().then(|| format!("/run/secrets/{name}")));
                let env = fields.env.map(str::to_owned);
                let (mode, required) = (fields.mode.unwrap_or(0o400), fields.required);
                RunMount::Secret { id, target, env, required, mode, owner }
            }
            "ssh" => {
                fields.only(&["id", "required", "mode", "uid", "gid"]).map_err(&problem)?;
                // Each agent has a place of its own, as in BuildKit.
                let number = before.iter().filter(|mount| matches!(mount, RunMount::Ssh { .. })).count();
                RunMount::Ssh {
                    id: fields.id.unwrap_or("default").to_owned(),
                    target: target.unwrap_or_else(|| format!("/run/buildkit/ssh_agent.{number}")),
                    required: fields.required,
                    mode: fields.mode.unwrap_or(0o600),
                    owner,
                }
            }
            other => return Err(problem(Problem::Value { what: "type of --mount", value: other.to_owned() })),
        })
    }
}

use RunMount::Bind;

/// A user or group, but not the number that system calls read as "leave it".
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id != u32::MAX)
}

/// Bytes, as Docker writes sizes: `64m`, `1.5g`, powers of 1024.
fn size(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let bare = lower.strip_suffix("ib").or_else(|| lower.strip_suffix('b')).unwrap_or(&lower);
    let (number, scale) = match bare.char_indices().last()? {
        (at, 'k') => (&bare[..at], 1_u64 << 10),
        (at, 'm') => (&bare[..at], 1 << 20),
        (at, 'g') => (&bare[..at], 1 << 30),
        (at, 't') => (&bare[..at], 1 << 40),
        _ => (bare, 1),
    };
    let value: f64 = number.trim().parse().ok()?;
    let bytes = value * scale as f64;
    (bytes >= 0.0 && bytes < u64::MAX as f64).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_dockers() {
        for (text, expected) in [
            ("0", Some(0)),
            ("64m", Some(64 << 20)),
            ("1.5GB", Some(3 << 29)),
            ("10KiB", Some(10 << 10)),
            ("", None),
            ("m", None),
            ("-1", None),
            ("1x", None),
        ] {
            assert_eq!(size(text), expected, "{text}");
        }
    }
}
