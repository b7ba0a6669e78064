//! Signals by number.

use rustix::process::Signal;

/// The signal with this number, real-time ones included; `None` outside 1 to 64 (signal(7), Linux's range).
#[must_use]
pub fn from_number(number: i32) -> Option<Signal> {
    if !(1..=64).contains(&number) {
        return None;
    }
    // SAFETY: rustix's checked constructor knows named signals only and has none for real-time ones; this one asks for
    // a number the kernel knows, which the range check has shown, and for not sending signals that libc keeps for
    // itself (32 and 33) to this process – they are sent to containers' processes, which is what is asked for.
    Some(unsafe { Signal::from_raw_unchecked(number) })
}
