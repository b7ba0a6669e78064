//! The compiler.

use super::tables;
use crate::error::Error;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use tare_spec::runtime::{Seccomp, SeccompAction, SeccompArgument, SeccompOperator, SeccompRule};
use tare_sys::seccomp::Instruction;

// Operations of classic BPF (linux/bpf_common.h), all on 32-bit words.
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

// Offsets in `struct seccomp_data` (linux/seccomp.h).
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

// Results (linux/seccomp.h).
const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOG: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// The longest program that the kernel takes (BPF_MAXINSNS).
const LONGEST: usize = 4096;

/// Marks x32 calls in the number of a call on x86_64.
#[cfg(target_arch = "x86_64")]
const X32_BIT: u32 = 0x4000_0000;

#[cfg(target_arch = "x86_64")]
const NATIVE: (&str, u32) = ("SCMP_ARCH_X86_64", 0xc000_003e);
#[cfg(target_arch = "aarch64")]
const NATIVE: (&str, u32) = ("SCMP_ARCH_AARCH64", 0xc000_00b7);

#[cfg(target_arch = "x86_64")]
const I386: u32 = 0x4000_0003;

/// FNV-1a: the keys are short and come from the caller's own profile.
#[derive(Default)]
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

/// What happens to a call: conditions in order, and what if none holds.
#[derive(Clone, Debug, Default, PartialEq)]
struct Outcome<'a> {
    conditional: Vec<(&'a [SeccompArgument], u32)>,
    otherwise: Option<u32>,
}

type ByName<'a> = HashMap<&'a str, Outcome<'a>, BuildHasherDefault<Fnv>>;

/// Numbers from `first` up to the next range's first.
struct Range<'a> {
    first: u32,
    outcome: Leaf<'a>,
}

#[derive(Clone, Copy, PartialEq)]
enum Leaf<'a> {
    Return(u32),
    Conditions(&'a Outcome<'a>),
}

/// Compiles a profile for this machine's architectures.
pub(crate) fn compile(profile: &Seccomp) -> Result<Vec<Instruction>, Error> {
    if profile.listener_path.is_some() {
        return Err(Error::unsupported("linux.seccomp.listenerPath"));
    }
    let default = result(profile.default_action, profile.default_errno_ret)?;
    let mut by_name = ByName::default();
    for rule in &profile.syscalls {
        add(&mut by_name, rule)?;
    }
    let wanted = |architecture: &str| profile.architectures.iter().any(|name| name == architecture);
    if wanted("SCMP_ARCH_ARM") && NATIVE.0 == "SCMP_ARCH_AARCH64" {
        return Err(Error::unsupported("linux.seccomp.architectures: SCMP_ARCH_ARM"));
    }
    let tree = |calls: Vec<(u32, &'static str)>, base: u32| {
        let mut program = Vec::new();
        emit_tree(&ranges(&calls, base, &by_name, default), default, &mut program);
        program
    };

    let mut program = vec![load(ARCHITECTURE)];
    #[cfg(target_arch = "x86_64")]
    {
        let native = tree(calls(tables::X86_64), 0);
        let x32 = if wanted("SCMP_ARCH_X32") { tree(x32_calls(), X32_BIT) } else { vec![ret(KILL_PROCESS)] };
        let i386 = if wanted("SCMP_ARCH_X86") {
            std::iter::once(load(NUMBER)).chain(tree(calls(tables::X86), 0)).collect()
        } else {
            vec![ret(KILL_PROCESS)]
        };
        program.push(jump(JUMP_EQUAL, NATIVE.1, 1, 0));
        program.push(far(3 + native.len() + x32.len()));
        program.push(load(NUMBER));
        program.push(jump(JUMP_GREATER_OR_EQUAL, X32_BIT, 0, 1));
        program.push(far(native.len()));
        program.extend(native);
        program.extend(x32);
        program.push(jump(JUMP_EQUAL, I386, 1, 0));
        program.push(ret(KILL_PROCESS));
        program.extend(i386);
    }
    #[cfg(target_arch = "aarch64")]
    {
        program.push(jump(JUMP_EQUAL, NATIVE.1, 1, 0));
        program.push(ret(KILL_PROCESS));
        program.push(load(NUMBER));
        program.extend(tree(calls(tables::AARCH64), 0));
    }
    if program.len() > LONGEST {
        let reason = format!("compiles to {} instructions, the kernel takes {LONGEST}", program.len());
        return Err(Error::invalid("linux.seccomp", reason));
    }
    Ok(program)
}

fn add<'a>(by_name: &mut ByName<'a>, rule: &'a SeccompRule) -> Result<(), Error> {
    if rule.args.iter().any(|argument| argument.index > 5) {
        return Err(Error::invalid("linux.seccomp.syscalls.args", "an index is above 5"));
    }
    let action = result(rule.action, rule.errno_ret)?;
    // Several conditions on one argument are alternatives, as in runc, although all rules of a list must hold otherwise.
    let alternatives = rule
        .args
        .iter()
        .enumerate()
        .any(|(at, argument)| rule.args[..at].iter().any(|earlier| earlier.index == argument.index));
    for name in &rule.names {
        let outcome = by_name.entry(name).or_default();
        if rule.args.is_empty() {
            outcome.otherwise = Some(action);
        } else if alternatives {
            outcome.conditional.extend(rule.args.chunks(1).map(|condition| (condition, action)));
        } else {
            outcome.conditional.push((&rule.args, action));
        }
    }
    Ok(())
}

fn result(action: SeccompAction, errno: Option<u32>) -> Result<u32, Error> {
    let errno = errno.unwrap_or(EPERM);
    if errno > 0xffff {
        return Err(Error::invalid("linux.seccomp.syscalls.errnoRet", format!("{errno} is more than 65535")));
    }
    Ok(match action {
        SeccompAction::KillThread => KILL_THREAD,
        SeccompAction::KillProcess => KILL_PROCESS,
        SeccompAction::Trap => TRAP,
        SeccompAction::Errno => ERRNO | errno,
        SeccompAction::Trace => TRACE | errno,
        SeccompAction::Log => LOG,
        SeccompAction::Allow => ALLOW,
        SeccompAction::Notify => return Err(Error::unsupported("linux.seccomp action SCMP_ACT_NOTIFY")),
    })
}

/// The calls of a table, by number.
fn calls(table: &[(u32, &'static str)]) -> Vec<(u32, &'static str)> {
    let run = |(first, names): &(u32, &'static str)| (*first..).zip(names.split_ascii_whitespace());
    table.iter().flat_map(run).collect()
}

/// x32 has the numbers of x86_64 but for the calls whose arguments differ in size.
#[cfg(target_arch = "x86_64")]
fn x32_calls() -> Vec<(u32, &'static str)> {
    let own = calls(tables::X32);
    let mut all = calls(tables::X86_64);
    let names: HashSet<&str, BuildHasherDefault<Fnv>> = own.iter().map(|(_, name)| *name).collect();
    all.retain(|(_, name)| !names.contains(name));
    all.extend(own);
    all
}

fn ranges<'a>(calls: &[(u32, &'static str)], base: u32, by_name: &'a ByName<'a>, default: u32) -> Vec<Range<'a>> {
    let mut ranges = vec![Range { first: 0, outcome: Leaf::Return(default) }];
    let mut push = |first: u32, outcome: Leaf<'a>| {
        let last = ranges.last_mut().expect("starts with one range and only grows");
        if last.outcome == outcome {
            return;
        }
        if last.first == first {
            last.outcome = outcome;
        } else {
            ranges.push(Range { first, outcome });
        }
    };
    let (mut next, mut known) = (base, base);
    for (number, name) in calls {
        let number = base | number;
        if number > next {
            push(next, Leaf::Return(default));
        }
        let outcome = match by_name.get(name) {
            None => Leaf::Return(default),
            Some(outcome) if outcome.conditional.is_empty() => Leaf::Return(outcome.otherwise.unwrap_or(default)),
            Some(outcome) => Leaf::Conditions(outcome),
        };
        if by_name.contains_key(name) {
            known = number + 1;
        }
        push(number, outcome);
        next = number + 1;
    }
    // A default that lets calls pass, or kills, is what the profile's author wants for new calls too.
    if default & 0xffff_0000 == ERRNO {
        ranges.retain(|range| range.first < known || range.first == 0);
        ranges.push(Range { first: known, outcome: Leaf::Return(ERRNO | ENOSYS) });
    } else {
        push(next, Leaf::Return(default));
    }
    ranges
}

fn emit_tree(ranges: &[Range<'_>], default: u32, program: &mut Vec<Instruction>) {
    if let [only] = ranges {
        emit_leaf(only.outcome, default, program);
        return;
    }
    let (left, right) = ranges.split_at(ranges.len() / 2);
    let mut below = Vec::new();
    emit_tree(left, default, &mut below);
    if let Ok(distance) = u8::try_from(below.len()) {
        program.push(jump(JUMP_GREATER_OR_EQUAL, right[0].first, distance, 0));
    } else {
        program.push(jump(JUMP_GREATER_OR_EQUAL, right[0].first, 0, 1));
        program.push(far(below.len()));
    }
    program.extend(below);
    emit_tree(right, default, program);
}

fn emit_leaf(leaf: Leaf<'_>, default: u32, program: &mut Vec<Instruction>) {
    let outcome = match leaf {
        Leaf::Return(result) => return program.push(ret(result)),
        Leaf::Conditions(outcome) => outcome,
    };
    for (conditions, action) in &outcome.conditional {
        let tests: Vec<Test> = conditions.iter().flat_map(tests).collect();
        let length = tests.len();
        program.extend(tests.into_iter().enumerate().map(|(at, test)| test.resolve((length - at) as u8)));
        program.push(ret(*action));
    }
    program.push(ret(outcome.otherwise.unwrap_or(default)));
}

/// Where a test goes on.
#[derive(Clone, Copy)]
enum Go {
    /// This many instructions further.
    Skip(u8),
    /// To the next rule.
    Fail,
}

enum Test {
    Plain(Instruction),
    Compare { code: u16, value: u32, holds: Go, fails: Go },
}

impl Test {
    /// `fail` is the distance to the next rule: over the tests that follow and the rule's result.
    fn resolve(self, fail: u8) -> Instruction {
        let distance = |go| match go {
            Go::Skip(distance) => distance,
            Go::Fail => fail,
        };
        match self {
            Self::Plain(instruction) => instruction,
            Self::Compare { code, value, holds, fails } => jump(code, value, distance(holds), distance(fails)),
        }
    }
}

/// Tests of one condition on a 64-bit argument by its two halves.
fn tests(argument: &SeccompArgument) -> Vec<Test> {
    use Go::{Fail, Skip};
    let offset = ARGUMENTS + 8 * argument.index;
    // Both supported architectures are little-endian.
    let (low, high) = (Test::Plain(load(offset)), Test::Plain(load(offset + 4)));
    let halves = |value: u64| (value as u32, (value >> 32) as u32);
    let (value_low, value_high) = halves(argument.value);
    let compare = |code, value, holds, fails| Test::Compare { code, value, holds, fails };
    match argument.op {
        SeccompOperator::Equal => vec![
            high,
            compare(JUMP_EQUAL, value_high, Skip(0), Fail),
            low,
            compare(JUMP_EQUAL, value_low, Skip(0), Fail),
        ],
        SeccompOperator::NotEqual => vec![
            high,
            compare(JUMP_EQUAL, value_high, Skip(0), Skip(2)),
            low,
            compare(JUMP_EQUAL, value_low, Fail, Skip(0)),
        ],
        SeccompOperator::Greater | SeccompOperator::GreaterOrEqual => {
            let code = if argument.op == SeccompOperator::Greater { JUMP_GREATER } else { JUMP_GREATER_OR_EQUAL };
            vec![
                high,
                compare(JUMP_GREATER, value_high, Skip(3), Skip(0)),
                compare(JUMP_EQUAL, value_high, Skip(0), Fail),
                low,
                compare(code, value_low, Skip(0), Fail),
            ]
        }
        SeccompOperator::Less | SeccompOperator::LessOrEqual => {
            let code = if argument.op == SeccompOperator::Less { JUMP_GREATER_OR_EQUAL } else { JUMP_GREATER };
            vec![
                high,
                compare(JUMP_GREATER, value_high, Fail, Skip(0)),
                compare(JUMP_EQUAL, value_high, Skip(0), Skip(2)),
                low,
                compare(code, value_low, Fail, Skip(0)),
            ]
        }
        SeccompOperator::MaskedEqual => {
            let (wanted_low, wanted_high) = halves(argument.value_two);
            let mask = |value| Test::Plain(Instruction { code: AND, jump_true: 0, jump_false: 0, value });
            vec![
                high,
                mask(value_high),
                compare(JUMP_EQUAL, wanted_high, Skip(0), Fail),
                low,
                mask(value_low),
                compare(JUMP_EQUAL, wanted_low, Skip(0), Fail),
            ]
        }
    }
}

fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD, jump_true: 0, jump_false: 0, value: offset }
}

fn jump(code: u16, value: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, value }
}

fn far(distance: usize) -> Instruction {
    Instruction { code: JUMP, jump_true: 0, jump_false: 0, value: distance as u32 }
}

fn ret(value: u32) -> Instruction {
    Instruction { code: RETURN, jump_true: 0, jump_false: 0, value }
}
