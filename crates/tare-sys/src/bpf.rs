//! eBPF programs that decide on device access of a cgroup.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// One eBPF instruction, as linux/bpf.h has it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u8,
    /// Destination register in the low half, source register in the high half.
    pub registers: u8,
    /// Jump distance or memory offset.
    pub offset: i16,
    /// Immediate operand.
    pub immediate: i32,
}

// enum bpf_cmd, bpf_prog_type and bpf_attach_type of linux/bpf.h, which the libc crate does not have.
const BPF_PROG_LOAD: i32 = 5;
const BPF_PROG_ATTACH: i32 = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
#[derive(Default)]
struct AttachAttributes {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
    replace: u32,
}

fn bpf<T>(command: i32, attributes: &T) -> io::Result<i32> {
    // SAFETY: rustix has no bpf(2). Callers are the two functions below, whose attribute structures are prefixes of
    // the kernel's union for that command and point to memory that outlives the call; the kernel takes absent fields
    // as zero.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

/// Loads a program that is asked at each device access (read, write, mknod).
///
/// C: `int bpf(int cmd, union bpf_attr *attr, unsigned size)`, bpf(2), Linux 4.15 for this type.
///
/// # Errors
/// EPERM without CAP_BPF, EACCES or EINVAL when the verifier refuses it.
pub fn load_device_program(program: &[Instruction]) -> io::Result<OwnedFd> {
    let mut attributes = LoadAttributes {
        program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..LoadAttributes::default()
    };
    attributes.name[..12].copy_from_slice(b"tare_devices");
    let fd = bpf(BPF_PROG_LOAD, &attributes)?;
    // SAFETY: BPF_PROG_LOAD returned a new descriptor, close-on-exec, that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a device program to the v2 cgroup whose folder `cgroup` is, for as long as that exists. An access
/// must be allowed by all programs of a cgroup and its ancestors.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN or CAP_SYS_ADMIN, or when an ancestor forbids more programs.
pub fn attach_device_program(cgroup: impl AsFd, program: impl AsFd) -> io::Result<()> {
    let attributes = AttachAttributes {
        target: cgroup.as_fd().as_raw_fd() as u32,
        program: program.as_fd().as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
        replace: 0,
    };
    bpf(BPF_PROG_ATTACH, &attributes).map(|_| ())
}
