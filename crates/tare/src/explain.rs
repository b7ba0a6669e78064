//! What an exit code means, for a person who watches a container end.

use crate::flags::bytes;
use tare_engine::Engine;
use tare_spec::ContainerId;

/// Why the container ended with this code, when the code is one that is often misunderstood. `gone` says that the
/// container may be removed already.
pub(crate) fn exit(engine: &Engine, id: &ContainerId, code: u8, gone: bool) -> Option<String> {
    if !matches!(code, 126 | 127 | 129..) {
        return None;
    }
    let details = if gone { None } else { engine.inspect(id.as_str()).ok() };
    let (oom, memory) = details.map_or((false, None), |details| (details.state.oom_killed, details.record.spec.memory));
    text(code, oom, memory)
}

fn text(code: u8, oom: bool, memory: Option<u64>) -> Option<String> {
    if oom {
        let limit = memory.map(|bytes| format!(" of {} (-m)", bytes::show_binary(bytes))).unwrap_or_default();
        return Some(format!(
            "exit code {code}: the kernel ended it because it needed more memory than its limit{limit}"
        ));
    }
    match code {
        126 => Some("exit code 126: its shell found a command that cannot be executed".to_owned()),
        127 => Some("exit code 127: its shell found no such command".to_owned()),
        // What a person did with Ctrl-C needs no explanation, nor does a stop.
        130 | 143 => None,
        137 => Some(
            "exit code 137: killed by SIGKILL, by a person, a stop that took too long, or for want of memory"
                .to_owned(),
        ),
        129.. => {
            tare_spec::signal::name(i32::from(code) - 128).map(|name| format!("exit code {code}: ended by SIG{name}"))
        }
        _ => None,
    }
}

/// What the exit code of a step of a build means, when it is one that is often misunderstood.
pub(crate) fn step(code: u8, out_of_memory: bool) -> Option<String> {
    if out_of_memory {
        return Some(format!(
            "exit code {code}: the kernel ended a process of this step because memory ran out; fewer jobs at once (`make -j2`) need less"
        ));
    }
    let means = match code {
        // apt-get's only one.
        100 => {
            "apt-get says so when it finds a package not; `RUN apt-get update && apt-get install -y …` in one statement has fresh lists"
        }
        126 => {
            "the shell found the command and may not execute it; `RUN chmod +x` makes a file executable, and a script needs Unix line ends"
        }
        127 => "the image has no such command; install it in an earlier RUN, or start from an image that has it",
        130 => "ended by SIGINT",
        137 => "killed by SIGKILL, most often for want of memory: `dmesg` says so then",
        143 => "ended by SIGTERM",
        129.. => return text(code, false, None),
        _ => return None,
    };
    Some(format!("exit code {code}: {means}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_are_those_of_steps() {
        assert_eq!(step(1, false), None);
        assert_eq!(step(139, false).unwrap(), "exit code 139: ended by SIGSEGV");
        assert!(step(100, false).unwrap().contains("apt-get update"));
        assert!(step(137, false).unwrap().contains("for want of memory"));
        // The one that ended may be another one.
        assert!(step(2, true).unwrap().starts_with("exit code 2: the kernel ended a process"));
    }

    #[test]
    fn codes_that_puzzle_are_explained() {
        assert_eq!(text(0, false, None), None);
        assert_eq!(text(130, false, None), None);
        assert_eq!(text(139, false, None).unwrap(), "exit code 139: ended by SIGSEGV");
        assert_eq!(text(255, false, None), None);
        assert_eq!(
            text(137, true, Some(64 << 20)).unwrap(),
            "exit code 137: the kernel ended it because it needed more memory than its limit of 64MiB (-m)"
        );
    }
}
