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

#[cfg(test)]
mod tests {
    use super::*;

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
