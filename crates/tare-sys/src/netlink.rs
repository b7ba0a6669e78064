//! Netlink messages: writing them, sending a batch of them in one call, reading the answers.
//!
//! Written here rather than taken from netlink-packet-route: a container needs a dozen message types, nf_tables
//! (which that crate does not know) needs the same writer, and several requests must go out in one `sendto`.
//!
//! Sources: `netlink(7)`, `rtnetlink(7)`, the kernel's `Documentation/userspace-api/netlink/intro.rst`.

use rustix::{
    buffer::spare_capacity,
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType,
        netlink::{NETFILTER, SocketAddrNetlink},
        recv, sendto, socket_with, sockopt,
    },
};
use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

/// `NLM_F_REQUEST`
const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`
const ACK: u16 = 0x4;
/// `NLM_F_DUMP`
pub const DUMP: u16 = 0x300;
/// `NLM_F_EXCL`
pub const EXCL: u16 = 0x200;
/// `NLM_F_CREATE`
pub const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`
pub const APPEND: u16 = 0x800;

const HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;
/// `NLA_F_NESTED`
const NESTED: u16 = 0x8000;
/// `NLA_TYPE_MASK`: without the flags for nesting and byte order.
const TYPE_MASK: u16 = 0x3fff;
/// `NLMSG_ERROR`: an error or, with code 0, an acknowledgement.
const ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a dump.
const DONE: u16 = 3;
/// Above this many bytes of requests the socket's send buffer is enlarged (its default is 208 KiB).
const LARGE_BATCH: usize = 128 << 10;
/// The kernel fills dumps into buffers of at most 32 KiB (`NLMSG_GOODSIZE` and the recv length).
const RECEIVE_BUFFER: usize = 32 << 10;

/// A request that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("{action}")]
pub struct Refused {
    /// The label of the request, as given to [`Requests::message`].
    pub action: &'static str,
    /// The kernel's answer.
    #[source]
    pub source: io::Error,
}

impl Refused {
    /// The error number, 0 if there is none.
    #[must_use]
    pub fn errno(&self) -> Errno {
        Errno::from_io_error(&self.source).unwrap_or(Errno::IO)
    }
}

/// Requests in the kernel's form, to be sent at once.
#[derive(Debug, Default)]
pub struct Requests {
    bytes: Vec<u8>,
    actions: Vec<&'static str>,
    /// Where the last message starts.
    last: usize,
}

impl Requests {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self { bytes: Vec::with_capacity(1024), ..Self::default() }
    }

    /// Adds a request of this type; `fill` writes what follows the header. `action` names it in errors.
    pub fn message(&mut self, kind: u16, flags: u16, action: &'static str, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        let sequence = u32::try_from(self.actions.len()).expect("nobody sends 2^32 requests at once");
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.actions.push(action);
        self.last = start;
        fill(self);
        let length = u32::try_from(self.bytes.len() - start).expect("a message is far below 4 GiB");
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Asks for an acknowledgement of the last request so far. One for a whole batch is enough: refusals are
    /// reported anyway.
    pub fn acknowledge(&mut self) {
        if let Some(flags) = self.bytes.get_mut(self.last + 6..).and_then(|rest| rest.first_chunk_mut::<2>()) {
            *flags = (u16::from_ne_bytes(*flags) | ACK).to_ne_bytes();
        }
    }

    /// Writes bytes as they are, padded to four: the fixed part of a message.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Writes an attribute.
    pub fn bytes(&mut self, kind: u16, payload: &[u8]) {
        let length = u16::try_from(ATTRIBUTE_HEADER + payload.len()).expect("attributes are below 64 KiB");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.raw(payload);
    }

    /// Writes an attribute that is a string with its terminating zero.
    pub fn string(&mut self, kind: u16, text: &str) {
        let mut payload = Vec::with_capacity(text.len() + 1);
        payload.extend_from_slice(text.as_bytes());
        payload.push(0);
        self.bytes(kind, &payload);
    }

    /// Writes an attribute that is a number in the machine's byte order, as rtnetlink has them.
    pub fn number(&mut self, kind: u16, number: u32) {
        self.bytes(kind, &number.to_ne_bytes());
    }

    /// Writes an attribute that is a big-endian number, as netfilter has them.
    pub fn big_endian(&mut self, kind: u16, number: u32) {
        self.bytes(kind, &number.to_be_bytes());
    }

    /// Writes an attribute that consists of attributes.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        fill(self);
        let length = u16::try_from(self.bytes.len() - start).expect("attributes are below 64 KiB");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }
}

/// A netlink socket, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Socket {
    /// For interfaces, addresses and routes (`rtnetlink(7)`); `NETLINK_ROUTE` is protocol 0, the default.
    ///
    /// # Errors
    /// As `socket(2)`.
    pub fn route() -> io::Result<Self> {
        Self::open(None)
    }

    /// For nf_tables and connection tracking.
    ///
    /// # Errors
    /// As `socket(2)`.
    pub fn netfilter() -> io::Result<Self> {
        Self::open(Some(NETFILTER))
    }

    fn open(protocol: Option<rustix::net::Protocol>) -> io::Result<Self> {
        Ok(Self(socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?))
    }

    /// Sends all requests in one call; [`Requests::acknowledge`] must have been called.
    ///
    /// rtnetlink carries on after a refused request, a netfilter batch is all or nothing.
    ///
    /// # Errors
    /// The first refusal.
    pub fn send(&self, requests: &Requests) -> Result<(), Refused> {
        self.transmit(requests)?;
        let mut refused = None;
        let mut acknowledged = false;
        let mut buffer = Vec::with_capacity(RECEIVE_BUFFER);
        loop {
            buffer.clear();
            // The kernel has worked through all requests when sendto returns: the answers are there.
            match recv(&self.0, spare_capacity(&mut buffer), RecvFlags::DONTWAIT) {
                Ok(_) => {}
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                // More answers than the socket holds, and only refusals are so many: the first is what counts.
                Err(Errno::NOBUFS) if refused.is_some() => continue,
                Err(error) => return Err(self.unanswered(requests, error)),
            }
            for answer in Messages(&buffer) {
                if answer.kind != ERROR {
                    continue;
                }
                match answer.error_code() {
                    0 => acknowledged = true,
                    code => {
                        let action = requests.actions.get(answer.sequence as usize).copied().unwrap_or("netlink");
                        refused.get_or_insert(Refused { action, source: io::Error::from_raw_os_error(code) });
                    }
                }
            }
        }
        match refused {
            Some(refused) => Err(refused),
            None if acknowledged => Ok(()),
            None => Err(self.unanswered(requests, Errno::NODATA)),
        }
    }

    /// Sends one request and hands the messages that answer it to `read`, payload by payload.
    ///
    /// # Errors
    /// The refusal.
    pub fn query(&self, request: &Requests, mut read: impl FnMut(&[u8])) -> Result<(), Refused> {
        self.transmit(request)?;
        let mut buffer = Vec::with_capacity(RECEIVE_BUFFER);
        loop {
            buffer.clear();
            // The next part of a dump is made while the last one is fetched, so this does not wait either.
            match recv(&self.0, spare_capacity(&mut buffer), RecvFlags::DONTWAIT) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(self.unanswered(request, error)),
            }
            for answer in Messages(&buffer) {
                match answer.kind {
                    DONE => return Ok(()),
                    ERROR => match answer.error_code() {
                        0 => return Ok(()),
                        code => return Err(self.unanswered(request, Errno::from_raw_os_error(code))),
                    },
                    _ => read(answer.payload),
                }
            }
        }
    }

    /// Whether an interface has a carrier, after the kernel has acted upon the last change of it.
    ///
    /// A carrier that comes is noticed by a work queue, up to a second later; until then the interface sends
    /// nothing and is no forwarding port of its bridge. `ETHTOOL_GLINK` (`SIOCETHTOOL`, `netdevice(7)`) does that
    /// work at once (`linkwatch_sync_dev`); `RTM_GETLINK` does so since Linux 6.8 only.
    ///
    /// # Errors
    /// As `ioctl(2)`; a name that is too long is an invalid argument.
    pub fn settle_carrier(&self, interface: &str) -> io::Result<bool> {
        const ETHTOOL_GLINK: u32 = 0xa;
        // struct ethtool_value: command, answer.
        let mut value = [ETHTOOL_GLINK, 0];
        let mut name: [libc::c_char; libc::IFNAMSIZ] = [0; libc::IFNAMSIZ];
        if interface.len() >= name.len() {
            return Err(Errno::INVAL.into());
        }
        for (to, from) in name.iter_mut().zip(interface.bytes()) {
            *to = libc::c_char::from_ne_bytes([from]);
        }
        let data = libc::__c_anonymous_ifr_ifru { ifru_data: value.as_mut_ptr().cast() };
        let mut request = libc::ifreq { ifr_name: name, ifr_ifru: data };
        // SAFETY: rustix has no ethtool ioctls. The kernel reads a whole ifreq, which ends with a pointer to two
        // numbers, and writes the second of those; both live until the call returns, which keeps neither.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
        if result == -1 { Err(io::Error::last_os_error()) } else { Ok(value[1] != 0) }
    }

    fn transmit(&self, requests: &Requests) -> Result<(), Refused> {
        if requests.bytes.len() > LARGE_BATCH {
            sockopt::set_socket_send_buffer_size_force(&self.0, requests.bytes.len() * 2)
                .map_err(|error| self.unanswered(requests, error))?;
        }
        let kernel = SocketAddrNetlink::new(0, 0);
        loop {
            match sendto(&self.0, &requests.bytes, SendFlags::empty(), &kernel) {
                Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(self.unanswered(requests, error)),
            }
        }
    }

    fn unanswered(&self, requests: &Requests, error: Errno) -> Refused {
        Refused { action: requests.actions.last().copied().unwrap_or("netlink"), source: error.into() }
    }
}

struct Message<'a> {
    kind: u16,
    sequence: u32,
    payload: &'a [u8],
}

impl Message<'_> {
    fn error_code(&self) -> i32 {
        self.payload.first_chunk().map_or(libc::EBADMSG, |code| i32::from_ne_bytes(*code).saturating_neg())
    }
}

/// The messages in a buffer; ends at the first that is cut off.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let header = self.0.first_chunk::<HEADER>()?;
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let payload = self.0.get(HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            sequence: u32::from_ne_bytes([header[8], header[9], header[10], header[11]]),
            payload,
        })
    }
}

/// The attributes in a payload, as type and content; ends at the first that is cut off.
#[derive(Clone, Debug)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// The attributes that follow a fixed part of `skip` bytes.
    #[must_use]
    pub fn after(skip: usize, payload: &'a [u8]) -> Self {
        Self(payload.get(skip.next_multiple_of(4)..).unwrap_or_default())
    }

    /// The content of the first attribute of this type.
    #[must_use]
    pub fn find(&self, kind: u16) -> Option<&'a [u8]> {
        self.clone().find_map(|(found, content)| (found == kind).then_some(content))
    }

    /// The attribute of this type as a number in the machine's byte order.
    #[must_use]
    pub fn number(&self, kind: u16) -> Option<u32> {
        self.find(kind)?.try_into().ok().map(u32::from_ne_bytes)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let header = self.0.first_chunk::<ATTRIBUTE_HEADER>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let content = self.0.get(ATTRIBUTE_HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([header[2], header[3]]) & TYPE_MASK, content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_padding_are_the_kernels() {
        let mut requests = Requests::new();
        requests.message(16, 0, "test", |m| {
            m.raw(&[9; 16]);
            m.string(3, "lo");
            m.nest(18, |m| m.number(1, 7));
        });
        let message = Messages(&requests.bytes).next().unwrap();
        assert_eq!((message.kind, message.sequence, message.payload.len()), (16, 0, 16 + 8 + 4 + 8));
        let attributes = Attributes::after(16, message.payload);
        assert_eq!(attributes.find(3), Some(&b"lo\0"[..]));
        let inner = attributes.find(18).unwrap();
        assert_eq!(Attributes::after(0, inner).number(1), Some(7));
        assert_eq!(attributes.find(99), None);
    }

    #[test]
    fn cut_off_answers_end_the_iteration() {
        for bytes in [&[][..], &[1; 3], &[255; 16], &[0; 16], &[17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
            assert!(Messages(bytes).take(10).count() < 10, "{bytes:?}");
        }
        for bytes in [&[][..], &[0; 4], &[3, 0, 1, 0], &[9, 0, 1, 0, 0]] {
            assert_eq!(Attributes::after(0, bytes).count(), 0, "{bytes:?}");
        }
    }

    #[test]
    fn a_refusal_names_its_request() {
        let socket = Socket::route().unwrap();
        let mut requests = Requests::new();
        // RTM_GETLINK of an interface that does not exist.
        requests.message(18, 0, "find interface", |m| {
            m.raw(&[0; 16]);
            m.string(3, "no-such-if");
        });
        requests.acknowledge();
        let refused = socket.send(&requests).unwrap_err();
        assert_eq!((refused.action, refused.errno()), ("find interface", Errno::NODEV));
    }
}
