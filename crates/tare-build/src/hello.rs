//! The image that is built into the program, so that the first container needs no registry.
//!
//! Its files are in `images/hello`; its server was compiled together with this crate.

use crate::{BuildRequest, Context, Result, build};
use std::collections::BTreeMap;
use tare_spec::{ImageId, Reference};
use tare_store::Store;

/// The server, a static program for this machine.
const SERVER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/server"));
const DOCKERFILE: &str = include_str!("../../../images/hello/Dockerfile");
/// 2026-11-01T00:00:00Z. The same for everyone, so that the same server makes the same image.
const CREATED: i64 = 1_793_491_200;

/// Builds the image and names it `docker.io/library/hello:latest`. Idempotent: the same program always makes
/// the same image.
///
/// # Errors
/// [`crate::Error::Store`].
pub fn install(store: &Store) -> Result<ImageId> {
    let reference = Reference::parse("hello:latest").expect("a plain name with a tag is a reference");
    build(
        store,
        &BuildRequest {
            dockerfile: DOCKERFILE,
            context: Context::Memory(BTreeMap::from([("server".to_owned(), (0o755, SERVER.to_vec()))])),
            reference: Some(&reference),
            created: jiff::Timestamp::from_second(CREATED).expect("2026 is within the range of timestamps"),
        },
    )
}
