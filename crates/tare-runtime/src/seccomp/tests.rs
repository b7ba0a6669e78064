use super::*;
use tare_spec::runtime::{SeccompAction, SeccompArgument, SeccompOperator, SeccompRule};
use tare_sys::seccomp::Instruction;

#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xc000_00b7;
const I386: u32 = 0x4000_0003;
const X32: u32 = 0x4000_0000;
const ALLOW: u32 = 0x7fff_0000;
const KILL: u32 = 0x8000_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;

/// Runs a filter as the kernel would; also counts the instructions.
fn run(program: &[Instruction], architecture: u32, number: u32, args: [u64; 6]) -> (u32, usize) {
    let mut data = vec![number, architecture, 0, 0];
    data.extend(args.iter().flat_map(|arg| [*arg as u32, (*arg >> 32) as u32]));
    let (mut accumulator, mut at, mut steps) = (0u32, 0usize, 0usize);
    loop {
        let Instruction { code, jump_true, jump_false, value } = program[at];
        at += 1;
        steps += 1;
        let holds = match code {
            0x20 => {
                accumulator = data[value as usize / 4];
                continue;
            }
            0x54 => {
                accumulator &= value;
                continue;
            }
            0x05 => {
                at += value as usize;
                continue;
            }
            0x06 => return (value, steps),
            0x15 => accumulator == value,
            0x25 => accumulator > value,
            0x35 => accumulator >= value,
            other => panic!("unknown operation {other:#x}"),
        };
        at += usize::from(if holds { jump_true } else { jump_false });
    }
}

fn result(program: &[Instruction], number: i64, args: [u64; 6]) -> u32 {
    run(program, NATIVE, number as u32, args).0
}

fn defaults() -> Vec<Instruction> {
    compile(&default_profile(&crate::capabilities::DEFAULT.map(str::to_owned))).unwrap()
}

const NONE: [u64; 6] = [0; 6];

fn first(value: u64) -> [u64; 6] {
    [value, 0, 0, 0, 0, 0]
}

#[test]
fn the_default_profile_lets_programs_run_and_keeps_the_host() {
    let program = defaults();
    for number in
        [libc::SYS_read, libc::SYS_execve, libc::SYS_openat, libc::SYS_mknodat, libc::SYS_ptrace, libc::SYS_chroot]
    {
        assert_eq!(result(&program, number, NONE), ALLOW, "{number}");
    }
    for number in [
        libc::SYS_mount,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_bpf,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_reboot,
        libc::SYS_init_module,
        libc::SYS_kexec_load,
        libc::SYS_open_by_handle_at,
        libc::SYS_pivot_root,
        libc::SYS_io_uring_setup,
    ] {
        assert_eq!(result(&program, number, NONE), EPERM, "{number}");
    }
    assert_eq!(result(&program, libc::SYS_clone3, NONE), ENOSYS);
    assert_eq!(result(&program, libc::SYS_clone, first(0x11)), ALLOW);
    assert_eq!(result(&program, libc::SYS_clone, first(0x1000_0000)), EPERM);
    assert_eq!(result(&program, libc::SYS_personality, first(0)), ALLOW);
    assert_eq!(result(&program, libc::SYS_personality, first(0x0004_0000)), EPERM);
    assert_eq!(result(&program, 600, NONE), ENOSYS);
    assert_eq!(run(&program, 0xdead, 0, NONE).0, KILL);
}

#[test]
fn junk_in_the_upper_half_opens_no_forbidden_socket() {
    let program = defaults();
    for family in [38, 40, 1 << 32 | 38, 1 << 32 | 40, u64::MAX << 32 | 40] {
        assert_eq!(result(&program, libc::SYS_socket, first(family)), EPERM, "{family:#x}");
    }
    for family in [1, 2, 10, 16, 39, 41] {
        assert_eq!(result(&program, libc::SYS_socket, first(family)), ALLOW, "{family}");
    }
}

#[test]
fn capabilities_open_their_calls() {
    let all: Vec<String> = crate::capabilities::names().collect();
    let program = compile(&default_profile(&all)).unwrap();
    for number in [libc::SYS_mount, libc::SYS_bpf, libc::SYS_clone3, libc::SYS_reboot, libc::SYS_acct] {
        assert_eq!(result(&program, number, NONE), ALLOW, "{number}");
    }
    assert_eq!(result(&program, libc::SYS_clone, first(0x1000_0000)), ALLOW);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_other_architectures_have_their_own_numbers() {
    let program = defaults();
    // i386: 1 exit, 11 execve, 102 socketcall, 88 reboot, 90 mmap, 21 mount.
    for (number, expected) in
        [(1, ALLOW), (11, ALLOW), (102, ALLOW), (90, ALLOW), (88, EPERM), (21, EPERM), (700, ENOSYS)]
    {
        assert_eq!(run(&program, I386, number, NONE).0, expected, "i386 {number}");
    }
    // x32: 520 is execve, 59 was x86_64's; 165 mount; 0 read.
    for (number, expected) in [(520, ALLOW), (59, EPERM), (0, ALLOW), (165, EPERM), (900, ENOSYS)] {
        assert_eq!(run(&program, NATIVE, X32 | number, NONE).0, expected, "x32 {number}");
    }
    let mut profile = default_profile(&[]);
    profile.architectures.clear();
    let native_only = compile(&profile).unwrap();
    assert_eq!(run(&native_only, I386, 1, NONE).0, KILL);
    assert_eq!(run(&native_only, NATIVE, X32, NONE).0, KILL);
}

#[test]
fn decisions_are_short() {
    let program = defaults();
    assert!(program.len() < 1200, "{} instructions", program.len());
    let longest = (0..500).map(|number| run(&program, NATIVE, number, NONE).1).max().unwrap();
    assert!(longest <= 32, "{longest} instructions for one call");
}

/// Every operator against every boundary, with both halves of the argument.
#[test]
fn conditions_compare_64_bits() {
    use SeccompOperator::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, MaskedEqual, NotEqual};
    let points = [0, 1, 0xffff_ffff, 1 << 32, (1 << 32) + 1, 5 << 32 | 7, 5 << 32 | 8, 6 << 32 | 7, u64::MAX];
    for op in [Equal, NotEqual, Greater, GreaterOrEqual, Less, LessOrEqual, MaskedEqual] {
        for value in points {
            for value_two in [0, value] {
                let args = vec![SeccompArgument { index: 2, value, value_two, op }];
                let rule =
                    SeccompRule { names: vec!["read".into()], action: SeccompAction::Allow, errno_ret: None, args };
                let program = compile(&Seccomp { syscalls: vec![rule], ..Seccomp::default() }).unwrap();
                for actual in points {
                    let holds = match op {
                        Equal => actual == value,
                        NotEqual => actual != value,
                        Greater => actual > value,
                        GreaterOrEqual => actual >= value,
                        Less => actual < value,
                        LessOrEqual => actual <= value,
                        MaskedEqual => actual & value == value_two,
                    };
                    let expected = if holds { ALLOW } else { EPERM };
                    let args = [9, 9, actual, 9, 9, 9];
                    assert_eq!(result(&program, libc::SYS_read, args), expected, "{op:?} {value:#x} {actual:#x}");
                }
            }
        }
    }
}

#[test]
fn conditions_on_different_arguments_must_all_hold_and_on_one_any() {
    let condition = |index, value| SeccompArgument { index, value, value_two: 0, op: SeccompOperator::Equal };
    let compile_with = |args: Vec<SeccompArgument>| {
        let rule = SeccompRule { names: vec!["read".into()], action: SeccompAction::Allow, errno_ret: None, args };
        compile(&Seccomp { syscalls: vec![rule], ..Seccomp::default() }).unwrap()
    };
    let both = compile_with(vec![condition(0, 1), condition(1, 2)]);
    assert_eq!(result(&both, libc::SYS_read, [1, 2, 0, 0, 0, 0]), ALLOW);
    assert_eq!(result(&both, libc::SYS_read, [1, 3, 0, 0, 0, 0]), EPERM);
    let either = compile_with(vec![condition(0, 1), condition(0, 2)]);
    assert_eq!(result(&either, libc::SYS_read, first(2)), ALLOW);
    assert_eq!(result(&either, libc::SYS_read, first(3)), EPERM);
}

/// The compiled tree and a plain reading of the rules agree on every number.
#[test]
fn the_tree_is_the_list() {
    let profile = default_profile(&crate::capabilities::DEFAULT.map(str::to_owned));
    let program = compile(&profile).unwrap();
    #[cfg(target_arch = "x86_64")]
    let table = tables::X86_64;
    #[cfg(target_arch = "aarch64")]
    let table = tables::AARCH64;
    let unconditional = |name: &str, action| {
        profile
            .syscalls
            .iter()
            .any(|rule| rule.args.is_empty() && rule.action == action && rule.names.iter().any(|n| n == name))
    };
    let mut seen = 0;
    for (first_number, names) in table {
        for (number, name) in (*first_number..).zip(names.split(' ')) {
            let actual = result(&program, i64::from(number), NONE);
            if name == "clone" || name == "personality" {
                continue;
            }
            seen += 1;
            assert_eq!(actual == ALLOW, unconditional(name, SeccompAction::Allow), "{name} ({number}): {actual:#x}");
        }
    }
    assert!(seen > 300);
}

#[test]
fn what_cannot_be_compiled_is_refused_by_name() {
    let profile = Seccomp { listener_path: Some("/x".into()), ..Seccomp::default() };
    assert_eq!(compile(&profile).unwrap_err().to_string(), "linux.seccomp.listenerPath is not supported");
    assert!(flags(&Seccomp { flags: vec!["X".into()], ..Seccomp::default() }).is_err());
}
