//! What kind of failure an error is, independent of its text.

/// The kinds every error of every crate falls into. The API maps them to HTTP status codes and the program
/// to exit codes, each in one function without a catch-all arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum ErrorKind {
    /// The named object does not exist.
    NotFound,
    /// The request itself is wrong: a malformed name, an impossible value, hostile content.
    InvalidParameter,
    /// The request contradicts the state of an object: a name in use, a container that runs.
    Conflict,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// The caller is known and may not do this.
    Forbidden,
    /// The object is already as asked.
    NotModified,
    /// Understood, and not supported here.
    NotImplemented,
    /// Something outside does not answer now: a registry, the disk, a monitor.
    Unavailable,
    /// Stopped by the caller.
    Cancelled,
    /// A failure that is not the caller's.
    Internal,
}
