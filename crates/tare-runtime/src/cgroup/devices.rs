//! Device access rules, as an eBPF program on v2 and as `devices.allow` and `devices.deny` on v1.

use crate::error::{Error, Step};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use tare_spec::runtime::DeviceRule;
use tare_sys::bpf::{self, Instruction};

// Access and type bits of `struct bpf_cgroup_dev_ctx` (linux/bpf.h).
const MKNOD: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;

// Operations (Documentation/bpf/standardization/instruction-set.rst).
const LOAD_WORD: u8 = 0x61;
const MOVE_IMMEDIATE: u8 = 0xb4;
const MOVE_REGISTER: u8 = 0xbc;
const AND_IMMEDIATE: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const JUMP_UNEQUAL: u8 = 0x56;
const JUMP_UNEQUAL_REGISTER: u8 = 0x5e;
const JUMP_EQUAL: u8 = 0x16;
const EXIT: u8 = 0x95;

fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: source << 4 | destination, offset, immediate }
}

fn access_bits(rule: &DeviceRule) -> i32 {
    let access = rule.access.as_deref().filter(|access| !access.is_empty()).unwrap_or("rwm");
    access.bytes().fold(0, |bits, letter| {
        bits | match letter {
            b'r' => READ,
            b'w' => WRITE,
            _ => MKNOD,
        }
    })
}

fn type_bits(rule: &DeviceRule) -> Option<i32> {
    match rule.device_type.as_deref() {
        Some("b") => Some(BLOCK),
        Some("c" | "u") => Some(CHARACTER),
        _ => None,
    }
}

/// The program: the rules from the last to the first, the first that matches decides; without a match access is denied.
fn compile(rules: &[DeviceRule]) -> Vec<Instruction> {
    // r1: context; r2: type, r3: access, r4: major, r5: minor.
    let mut program = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(MOVE_REGISTER, 3, 2, 0, 0),
        instruction(AND_IMMEDIATE, 2, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let mut conditions = Vec::new();
        if let Some(bits) = type_bits(rule) {
            conditions.push(instruction(JUMP_UNEQUAL, 2, 0, 0, bits));
        }
        let access = access_bits(rule);
        if access != READ | WRITE | MKNOD {
            conditions.push(instruction(MOVE_REGISTER, 6, 3, 0, 0));
            conditions.push(instruction(AND_IMMEDIATE, 6, 0, 0, access));
            // An allowing rule must allow all that is asked for; a denying one denies when it names any of it.
            conditions.push(if rule.allow {
                instruction(JUMP_UNEQUAL_REGISTER, 6, 3, 0, 0)
            } else {
                instruction(JUMP_EQUAL, 6, 0, 0, 0)
            });
        }
        for (number, register) in [(rule.major, 4), (rule.minor, 5)] {
            if let Some(number) = number.filter(|number| *number >= 0) {
                conditions.push(instruction(JUMP_UNEQUAL, register, 0, 0, number as i32));
            }
        }
        let unconditional = conditions.is_empty();
        let length = conditions.len();
        for (index, mut condition) in conditions.into_iter().enumerate() {
            if condition.code & 0x07 == 0x06 {
                condition.offset = (length - index - 1 + 2) as i16;
            }
            program.push(condition);
        }
        program.push(instruction(MOVE_IMMEDIATE, 0, 0, 0, i32::from(rule.allow)));
        program.push(instruction(EXIT, 0, 0, 0, 0));
        if unconditional {
            // The verifier refuses instructions that cannot be reached.
            return program;
        }
    }
    program.push(instruction(MOVE_IMMEDIATE, 0, 0, 0, 0));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    program
}

/// How many programs are kept for containers to come: hardly more sets of rules come twice.
const MOST_KEPT: usize = 16;

/// Attaches the program. The kernel's proof that one is safe takes half a millisecond of CPU, so that it is made once
/// for all containers with the same rules: the program stays attached to an empty cgroup below `kept`, too, and is
/// found there until the next boot.
pub(super) fn attach_filter(cgroup: &OwnedFd, rules: &[DeviceRule], kept: &Path) -> io::Result<()> {
    let instructions = compile(rules);
    let keeper = kept.join(fingerprint(&instructions));
    let program = match attached_device_program(&keeper) {
        Some(program) => program,
        None => {
            let program = bpf::load_device_program(&instructions)?;
            // Not kept, it is loaded again; that must not keep a container from starting.
            let _ = keep(&program, kept, &keeper);
            program
        }
    };
    bpf::attach_device_program(cgroup, program)
}

/// The program that a keeper has. One without any was left by a crash.
fn attached_device_program(keeper: &Path) -> Option<OwnedFd> {
    let folder = std::fs::File::open(keeper).ok()?;
    bpf::attached_device_program(folder).ok()?
}

fn keep(program: &OwnedFd, kept: &Path, keeper: &Path) -> io::Result<()> {
    std::fs::create_dir_all(kept)?;
    let directories =
        std::fs::read_dir(kept)?.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    if directories.count() >= MOST_KEPT {
        return Ok(());
    }
    match std::fs::create_dir(keeper) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    bpf::attach_device_program(std::fs::File::open(keeper)?, program)
}

/// Tells programs from each other (FNV-1a, 64 bits). Who could make two that collide may give devices to containers
/// anyway.
fn fingerprint(instructions: &[Instruction]) -> String {
    let bytes = instructions.iter().flat_map(|instruction| {
        let Instruction { code, registers, offset, immediate } = *instruction;
        let ([o1, o2], [i1, i2, i3, i4]) = (offset.to_le_bytes(), immediate.to_le_bytes());
        [code, registers, o1, o2, i1, i2, i3, i4]
    });
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    format!("{hash:016x}")
}

/// A new v1 cgroup inherits its parent's list, so everything is taken away first.
pub(super) fn write_v1(directory: &Path, rules: &[DeviceRule]) -> Result<(), Error> {
    let write = |name: &str, value: &str| {
        std::fs::write(directory.join(name), value)
            .map_err(Error::step(Step::FilterDevices, format_args!("{} ({name} {value})", directory.display())))
    };
    write("devices.deny", "a")?;
    for rule in rules {
        let number = |number: Option<i64>| number.filter(|n| *n >= 0).map_or("*".to_owned(), |n| n.to_string());
        let name = if rule.allow { "devices.allow" } else { "devices.deny" };
        let access = rule.access.as_deref().unwrap_or("rwm");
        match rule.device_type.as_deref() {
            Some(kind @ ("b" | "c")) => {
                write(name, &format!("{kind} {}:{} {access}", number(rule.major), number(rule.minor)))?;
            }
            _ => write(name, "a")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(allow: bool, device_type: &str, major: i64, minor: i64, access: &str) -> DeviceRule {
        DeviceRule {
            allow,
            device_type: Some(device_type.to_owned()),
            major: Some(major),
            minor: Some(minor),
            access: Some(access.to_owned()),
        }
    }

    /// Runs the program as the kernel would.
    fn allowed(program: &[Instruction], kind: i32, access: i32, major: i32, minor: i32) -> bool {
        let (mut registers, mut at) = ([0i32; 11], 0usize);
        loop {
            let Instruction { code, registers: both, offset, immediate } = program[at];
            let (destination, source) = (usize::from(both & 15), usize::from(both >> 4));
            at += 1;
            match code {
                LOAD_WORD => registers[destination] = [access << 16 | kind, major, minor][offset as usize / 4],
                MOVE_IMMEDIATE => registers[destination] = immediate,
                MOVE_REGISTER => registers[destination] = registers[source],
                AND_IMMEDIATE => registers[destination] &= immediate,
                SHIFT_RIGHT => registers[destination] >>= immediate,
                JUMP_UNEQUAL if registers[destination] != immediate => at += offset as usize,
                JUMP_EQUAL if registers[destination] == immediate => at += offset as usize,
                JUMP_UNEQUAL_REGISTER if registers[destination] != registers[source] => at += offset as usize,
                JUMP_UNEQUAL | JUMP_EQUAL | JUMP_UNEQUAL_REGISTER => {}
                EXIT => return registers[0] != 0,
                other => panic!("unknown operation {other:#x}"),
            }
        }
    }

    #[test]
    fn the_last_matching_rule_decides() {
        let program = compile(&[
            DeviceRule { allow: false, access: Some("rwm".into()), ..DeviceRule::default() },
            rule(true, "c", -1, -1, "m"),
            rule(true, "c", 1, 3, "rwm"),
            rule(true, "c", 10, 200, "rw"),
            rule(false, "c", 10, 200, "w"),
        ]);
        assert!(allowed(&program, CHARACTER, READ | WRITE, 1, 3));
        assert!(allowed(&program, CHARACTER, MKNOD, 7, 7));
        assert!(!allowed(&program, CHARACTER, READ | MKNOD, 7, 7));
        assert!(!allowed(&program, BLOCK, READ, 1, 3));
        assert!(allowed(&program, CHARACTER, READ, 10, 200));
        assert!(!allowed(&program, CHARACTER, READ | WRITE, 10, 200));
    }

    #[test]
    fn programs_are_told_from_each_other() {
        let one = fingerprint(&compile(&[rule(true, "c", 1, 3, "rwm")]));
        assert_eq!(one.len(), 16);
        assert_eq!(one, fingerprint(&compile(&[rule(true, "c", 1, 3, "rwm")])));
        assert_ne!(one, fingerprint(&compile(&[rule(true, "c", 1, 3, "rw")])));
        assert_ne!(one, fingerprint(&compile(&[rule(true, "c", 3, 1, "rwm")])));
    }

    #[test]
    fn no_rule_denies_and_a_last_rule_without_conditions_ends_the_program() {
        assert!(!allowed(&compile(&[]), CHARACTER, READ, 1, 3));
        let all = compile(&[rule(false, "b", 8, 0, "rwm"), DeviceRule { allow: true, ..DeviceRule::default() }]);
        assert!(allowed(&all, BLOCK, READ, 8, 0));
        assert_eq!(all.len(), 8);
    }
}
