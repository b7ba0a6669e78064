//! What a kind of error becomes: an HTTP status, an exit code.

use tare_spec::ErrorKind;

/// HTTP status, as Docker's daemon answers.
#[must_use]
pub fn http_status(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::NotFound => 404,
        ErrorKind::InvalidParameter => 400,
        ErrorKind::Conflict => 409,
        ErrorKind::Unauthorized => 401,
        ErrorKind::Forbidden => 403,
        ErrorKind::NotModified => 304,
        ErrorKind::NotImplemented => 501,
        ErrorKind::Unavailable => 503,
        ErrorKind::Cancelled => 499,
        ErrorKind::Internal => 500,
    }
}

/// Exit code of a command that failed like this. Docker's client has one code for all of them; `run`, `create` and
/// `exec`, whose other codes are the container's, put their own in its place.
#[must_use]
pub fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::NotFound
        | ErrorKind::InvalidParameter
        | ErrorKind::Conflict
        | ErrorKind::Unauthorized
        | ErrorKind::Forbidden
        | ErrorKind::NotModified
        | ErrorKind::NotImplemented
        | ErrorKind::Unavailable
        | ErrorKind::Cancelled
        | ErrorKind::Internal => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_tell_kinds_apart_by_status() {
        assert_eq!(http_status(ErrorKind::NotFound), 404);
        assert_eq!(http_status(ErrorKind::Conflict), 409);
        assert_eq!(exit_code(ErrorKind::Conflict), 1);
    }
}
