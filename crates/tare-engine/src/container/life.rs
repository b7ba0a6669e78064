//! What the steps of a container's life take and give.

pub use crate::container::exec::ExecRequest;
use crate::container::spec::Streams;
use tare_spec::ContainerId;

/// A created container.
#[derive(Clone, Debug)]
pub struct Created {
    /// Its id.
    pub id: ContainerId,
    /// What the person should know, one sentence each.
    pub warnings: Vec<String>,
}

/// What to attach to.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttachRequest {
    /// Which streams.
    pub streams: Streams,
    /// Rows and columns of the caller's terminal.
    pub size: Option<(u16, u16)>,
}
