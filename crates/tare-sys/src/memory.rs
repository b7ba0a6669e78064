//! The process's own memory.

/// Gives memory that was allocated and freed back to the kernel, where the allocator can: for processes that set
/// something large up and then idle for days.
///
/// C: `int malloc_trim(size_t pad)`, malloc_trim(3), glibc; elsewhere nothing happens.
pub fn release_free() {
    #[cfg(target_env = "gnu")]
    // SAFETY: rustix does not wrap the allocator. The call takes no pointer and changes no live allocation.
    unsafe {
        libc::malloc_trim(0);
    }
}
