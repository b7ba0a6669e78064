//! The filter that a container has by default.
//!
//! The same calls as Docker's default profile (moby's `profiles/seccomp`, state of June 2026): what is not listed needs
//! a capability that containers do not have, was a way out of containers, or is obsolete.

use tare_spec::runtime::{Seccomp, SeccompAction, SeccompArgument, SeccompOperator, SeccompRule};

/// Always allowed, on all architectures that have them.
const ALWAYS: &str = "_llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod \
    chown chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime \
    clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range \
    creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 \
    epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 \
    fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 \
    fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat \
    fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 \
    futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents \
    getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer \
    getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid \
    getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32 \
    getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel \
    io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get \
    ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 \
    lgetxattr link linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr \
    lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat \
    mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open \
    mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal \
    msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat \
    open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect \
    poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 \
    pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom \
    recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat \
    renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask \
    rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo \
    sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam \
    sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity \
    sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop \
    semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list \
    set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups \
    setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid \
    setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat \
    shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall \
    socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range \
    syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime \
    timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 \
    timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink \
    unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write \
    writev";

/// Allowed since tracing cannot go around seccomp any more (Linux 4.8; older kernels are not supported).
const TRACING: &str = "process_vm_readv process_vm_writev ptrace";

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: (&str, &[&str]) =
    ("arch_prctl modify_ldt", &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: (&str, &[&str]) = ("sync_file_range2", &["SCMP_ARCH_AARCH64"]);

/// Allowed with a capability.
const WITH_CAPABILITY: [(&str, &str); 14] = [
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr \
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl \
         quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module init_module finit_module"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    ("CAP_SYS_RAWIO", "iopl ioperm"),
    ("CAP_SYS_TIME", "settimeofday stime clock_settime clock_settime64"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_BPF", "bpf"),
    ("CAP_PERFMON", "perf_event_open"),
];

/// Execution domains that change nothing but names and layout: PER_LINUX, PER_LINUX32, UNAME26 and both, and the query.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;

const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;

fn rule(names: &str, action: SeccompAction, args: Vec<SeccompArgument>) -> SeccompRule {
    SeccompRule { names: names.split_whitespace().map(str::to_owned).collect(), action, errno_ret: None, args }
}

fn argument(op: SeccompOperator, value: u64) -> Vec<SeccompArgument> {
    vec![SeccompArgument { index: 0, value, value_two: 0, op }]
}

/// The default profile for a container whose bounding set is `capabilities` (with the prefix `CAP_`).
#[must_use]
pub fn default_profile(capabilities: &[String]) -> Seccomp {
    use SeccompAction::{Allow, Errno};
    let has = |name: &str| capabilities.iter().any(|capability| capability == name);
    let mut allowed = format!("{ALWAYS} {TRACING} {}", ARCHITECTURE.0);
    for (capability, names) in WITH_CAPABILITY {
        if has(capability) {
            allowed.push(' ');
            allowed.push_str(names);
        }
    }
    let mut syscalls = vec![rule(&allowed, Allow, Vec::new())];
    // Crypto sockets (a door to kernel bugs) and those to the hypervisor, which have no network namespace. Compared as
    // the 32 bits that the kernel looks at: with comparisons of 64 bits, junk in the upper half is a way around.
    for family in [AF_ALG, AF_VSOCK] {
        let args =
            vec![SeccompArgument { index: 0, value: 0xffff_ffff, value_two: family, op: SeccompOperator::MaskedEqual }];
        syscalls.push(rule("socket", Errno, args));
    }
    syscalls.push(rule("socket", Allow, Vec::new()));
    syscalls.extend(PERSONALITIES.map(|value| rule("personality", Allow, argument(SeccompOperator::Equal, value))));
    if !has("CAP_SYS_ADMIN") {
        syscalls.push(rule("clone", Allow, argument(SeccompOperator::MaskedEqual, NAMESPACE_FLAGS)));
        // Its flags are in memory, where a filter cannot see them; ENOSYS makes C libraries fall back to clone.
        syscalls.push(SeccompRule { errno_ret: Some(ENOSYS), ..rule("clone3", Errno, Vec::new()) });
    }
    Seccomp {
        default_action: Errno,
        default_errno_ret: Some(EPERM),
        architectures: ARCHITECTURE.1.iter().map(ToString::to_string).collect(),
        syscalls,
        ..Seccomp::default()
    }
}

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
