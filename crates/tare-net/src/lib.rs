//! Networks of containers: the bridge, addresses, published ports and firewall rules, made with netlink messages
//! of our own process.
//!
//! ```text
//! ROOT/networks/bridge.json            name, bridge interface and subnet of the default network; durable
//! RUN_ROOT/net/                        this boot only; the folder itself is the lock against removal
//!     leases/bridge/<address>          symbolic link to the id of the container that has the address
//!     containers/<id>.json             what the container holds; flocked while it is taken back
//! ```
//!
//! Written by whoever attaches or detaches, in any number of processes at once. Order: reserve the host's ports
//! (sockets), claim the address, write the record, change the kernel; back in reverse. After a crash at any point
//! [`Networks::detach`] finds everything. Locks, in this order: the folder `RUN_ROOT/net` (shared to attach,
//! exclusive to remove the instance), the network namespace (to make bridge and rules), a container's record (to
//! detach). `docs/formats/network.md` describes the formats and the rules.

mod error;
mod firewall;
mod lease;
mod link;
mod network;
mod networks;
mod nft;
mod port;
mod record;
mod subnet;

pub use error::{Error, Result};
pub use network::{DEFAULT_NETWORK, Network};
pub use networks::{Attach, Attached, Networks};
pub use port::PublishedPort;
pub use subnet::{InvalidSubnet, Subnet};
