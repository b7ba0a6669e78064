//! Types of the OCI image, distribution and runtime specifications, and of the names that Docker built on
//! them: parsed and validated here, without any input or output. Everything that comes from an image, a
//! registry or a person passes through a parser of this crate before another crate sees it.

pub mod container_id;
pub mod digest;
pub mod error_kind;
pub mod image;
pub mod platform;
pub mod port;
pub mod reference;
pub mod repository;
pub mod runtime;
pub mod signal;
pub mod url;

pub use container_id::ContainerId;
pub use digest::{ChainId, DiffId, Digest, ImageId};
pub use error_kind::ErrorKind;
pub use platform::Platform;
pub use port::{ExposedPort, PortMapping, Protocol};
pub use reference::Reference;
pub use repository::{Repository, Tag};
