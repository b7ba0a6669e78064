//! Loading system call filters.

use std::io;

/// One instruction of classic BPF, as linux/filter.h has it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// How many instructions to skip when a comparison holds.
    pub jump_true: u8,
    /// How many instructions to skip when it does not.
    pub jump_false: u8,
    /// Operand.
    pub value: u32,
}

#[repr(C)]
struct Program {
    length: u16,
    instructions: *const Instruction,
}

/// Filters the system calls of the calling thread from now on. It needs no_new_privs or CAP_SYS_ADMIN.
///
/// C: `int seccomp(unsigned op, unsigned flags, void *args)`, seccomp(2), Linux 3.17.
///
/// # Errors
/// EACCES without either right, EINVAL for a program that is empty, too long (4096) or wrong.
pub fn load_filter(program: &[Instruction], flags: u32) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = Program { length, instructions: program.as_ptr() };
    // SAFETY: rustix has no seccomp(2). `program` describes a slice that lives over the call; the kernel copies it.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
