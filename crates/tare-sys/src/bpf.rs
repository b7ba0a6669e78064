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
const BPF_PROG_GET_FD_BY_ID: i32 = 13;
const BPF_PROG_QUERY: i32 = 16;
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

#[repr(C)]
#[derive(Default)]
struct QueryAttributes {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    _padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct ByIdAttributes {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

fn bpf<T>(command: i32, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: rustix has no bpf(2). Callers are the functions below, whose attribute structures are prefixes of the
    // kernel's union for that command and point to memory that outlives the call, which the
    // kernel may write into; it takes absent fields as zero.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
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
    let fd = bpf(BPF_PROG_LOAD, &mut attributes)?;
    // SAFETY: BPF_PROG_LOAD returned a new descriptor, close-on-exec, that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a device program to the v2 cgroup whose folder `cgroup` is, for as long as that exists. An access
/// must be allowed by all programs of a cgroup and its ancestors.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN or CAP_SYS_ADMIN, or when an ancestor forbids more programs.
pub fn attach_device_program(cgroup: impl AsFd, program: impl AsFd) -> io::Result<()> {
    let mut attributes = AttachAttributes {
        target: cgroup.as_fd().as_raw_fd() as u32,
        program: program.as_fd().as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
        replace: 0,
    };
    bpf(BPF_PROG_ATTACH, &mut attributes).map(|_| ())
}

/// A device program that is attached to the v2 cgroup whose folder `cgroup` is, not to an ancestor; `None` when there
/// is none.
///
/// `BPF_PROG_QUERY` and `BPF_PROG_GET_FD_BY_ID`, bpf(2), Linux 4.15.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN, ENOENT when the program was taken away meanwhile.
pub fn attached_device_program(cgroup: impl AsFd) -> io::Result<Option<OwnedFd>> {
    let mut ids = [0u32; 1];
    let mut attributes = QueryAttributes {
        target: cgroup.as_fd().as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        ids: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
        ..QueryAttributes::default()
    };
    match bpf(BPF_PROG_QUERY, &mut attributes) {
        // ENOSPC: there are more than one; as many as fit were given.
        Err(error) if error.raw_os_error() != Some(libc::ENOSPC) => return Err(error),
        _ => {}
    }
    if ids[0] == 0 {
        return Ok(None);
    }
    let fd = bpf(BPF_PROG_GET_FD_BY_ID, &mut ByIdAttributes { id: ids[0], ..ByIdAttributes::default() })?;
    // SAFETY: BPF_PROG_GET_FD_BY_ID returned a new descriptor, close-on-exec, that nobody else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}
