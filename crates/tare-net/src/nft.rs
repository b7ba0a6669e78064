//! nf_tables in the kernel's own form: batches, tables, chains, maps, rules.
//!
//! Numbers are those of the kernel's `uapi/linux/netfilter/nf_tables.h`; the family is always `ip`.

use crate::{Error, Result, subnet::Subnet};
use std::net::Ipv4Addr;
use tare_sys::netlink::{APPEND, Attributes, CREATE, Refused, Requests, Socket};

/// `NFNL_SUBSYS_NFTABLES`, in the high byte of a message type.
const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEW_TABLE: u16 = SUBSYSTEM;
const GET_TABLE: u16 = SUBSYSTEM | 1;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const NEW_SET: u16 = SUBSYSTEM | 9;
const NEW_ELEMENT: u16 = SUBSYSTEM | 12;
const DELETE_ELEMENT: u16 = SUBSYSTEM | 14;
/// `NFPROTO_IPV4`
const IPV4: u8 = 2;
/// `struct nfgenmsg`: family, version 0, resource id 0.
const HEADER: [u8; 4] = [IPV4, 0, 0, 0];
/// `NFT_SET_MAP`
const MAP: u32 = 8;
/// A nested list of elements has a 16-bit length; an element takes at most 60 bytes.
const ELEMENTS_PER_MESSAGE: usize = 1000;
/// The first of four registers of four bytes, which are also `NFT_REG_1` of sixteen.
const REGISTER: u32 = 8;
/// `NFT_REG32_04`: the first after those.
const RESULT_REGISTER: u32 = 12;

/// A hook of the network stack and the place among those who listen there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hook {
    pub(crate) kind: &'static str,
    pub(crate) number: u32,
    pub(crate) priority: i32,
}

/// A field that a map's key or value consists of. A field takes four bytes in a register, whatever its size.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Field {
    Address,
    Protocol,
    Port,
}

impl Field {
    /// The type number that `nft` knows (`datatype.h`); for the kernel it is a comment.
    fn datatype(self) -> u32 {
        match self {
            Self::Address => 7,
            Self::Protocol => 12,
            Self::Port => 13,
        }
    }
}

fn datatype(fields: &[Field]) -> u32 {
    // Six bits a field: TYPE_BITS of nft.
    fields.iter().fold(0, |sum, field| sum << 6 | field.datatype())
}

fn length(fields: &[Field]) -> u32 {
    4 * u32::try_from(fields.len()).expect("a key has a few fields")
}

/// One map element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) map: &'static str,
    pub(crate) key: Vec<u8>,
    pub(crate) value: [u8; 8],
}

/// Changes that become valid together or not at all.
pub(crate) struct Batch<'a> {
    table: &'a str,
    requests: Requests,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(table: &'a str) -> Self {
        let mut requests = Requests::new();
        // The resource id, big-endian, names the subsystem.
        requests.message(BATCH_BEGIN, 0, "begin nftables batch", |m| m.raw(&[0, 0, 0, 10]));
        Self { table, requests }
    }

    pub(crate) fn commit(mut self, socket: &Socket) -> std::result::Result<(), Refused> {
        self.requests.acknowledge();
        self.requests.message(BATCH_END, 0, "commit nftables batch", |m| m.raw(&[0, 0, 0, 10]));
        socket.send(&self.requests)
    }

    fn message(&mut self, kind: u16, flags: u16, action: &'static str, fill: impl FnOnce(&mut Requests)) {
        let table = self.table;
        self.requests.message(kind, flags, action, |m| {
            m.raw(&HEADER);
            // The table's name is attribute 1 of every message.
            m.string(1, table);
            fill(m);
        });
    }

    pub(crate) fn table(&mut self, comment: &str) {
        self.message(NEW_TABLE, CREATE, "create nftables table", |m| m.bytes(6, &comment_userdata(comment)));
    }

    pub(crate) fn delete_table(&mut self) {
        self.message(DELETE_TABLE, 0, "delete nftables table", |_| {});
    }

    pub(crate) fn chain(&mut self, name: &str, hook: Option<Hook>) {
        self.message(NEW_CHAIN, CREATE, "create nftables chain", |m| {
            m.string(3, name);
            if let Some(hook) = hook {
                m.nest(4, |m| {
                    m.big_endian(1, hook.number);
                    m.bytes(2, &hook.priority.to_be_bytes());
                });
                m.big_endian(5, ACCEPT);
                m.string(7, hook.kind);
            }
        });
    }

    pub(crate) fn map(&mut self, name: &str, id: u32, key: &[Field], value: &[Field]) {
        self.message(NEW_SET, CREATE, "create nftables map", |m| {
            m.string(2, name);
            m.big_endian(3, MAP);
            m.big_endian(4, datatype(key));
            m.big_endian(5, length(key));
            m.big_endian(6, datatype(value));
            m.big_endian(7, length(value));
            m.big_endian(10, id);
        });
    }

    pub(crate) fn rule(&mut self, chain: &str, expressions: impl FnOnce(&mut Expressions<'_>)) {
        self.message(NEW_RULE, CREATE | APPEND, "create nftables rule", |m| {
            m.string(2, chain);
            m.nest(4, |m| expressions(&mut Expressions(m)));
        });
    }

    /// Adds elements; one that is there with the same value is no error, with another one it is `EEXIST`.
    pub(crate) fn add(&mut self, elements: &[Element]) {
        self.elements(NEW_ELEMENT, CREATE, "publish ports", elements);
    }

    /// Removes elements; one that is not there fails the batch with `ENOENT`.
    pub(crate) fn remove(&mut self, elements: &[Element]) {
        self.elements(DELETE_ELEMENT, 0, "withdraw published ports", elements);
    }

    fn elements(&mut self, kind: u16, flags: u16, action: &'static str, elements: &[Element]) {
        for part in elements.chunk_by(|a, b| a.map == b.map).flat_map(|run| run.chunks(ELEMENTS_PER_MESSAGE)) {
            self.message(kind, flags, action, |m| {
                m.string(2, part[0].map);
                m.nest(3, |m| {
                    for element in part {
                        m.nest(1, |m| {
                            m.nest(1, |m| m.bytes(1, &element.key));
                            if kind == NEW_ELEMENT {
                                m.nest(2, |m| m.bytes(1, &element.value));
                            }
                        });
                    }
                });
            });
        }
    }
}

/// `NF_DROP` and `NF_ACCEPT`
const DROP: u32 = 0;
const ACCEPT: u32 = 1;

/// The expressions of one rule; each narrows what the ones after it see.
pub(crate) struct Expressions<'a>(&'a mut Requests);

impl Expressions<'_> {
    fn expression(&mut self, name: &str, fill: impl FnOnce(&mut Requests)) {
        self.0.nest(1, |m| {
            m.string(1, name);
            m.nest(2, fill);
        });
    }

    fn compare(&mut self, equal: bool, value: &[u8]) {
        self.expression("cmp", |m| {
            m.big_endian(1, REGISTER);
            m.big_endian(2, u32::from(!equal));
            m.nest(3, |m| m.bytes(1, value));
        });
    }

    fn mask(&mut self, mask: [u8; 4]) {
        self.expression("bitwise", |m| {
            m.big_endian(1, REGISTER);
            m.big_endian(2, REGISTER);
            m.big_endian(3, 4);
            m.nest(4, |m| m.bytes(1, &mask));
            m.nest(5, |m| m.bytes(1, &[0; 4]));
        });
    }

    fn meta(&mut self, key: u32, register: u32) {
        self.expression("meta", |m| {
            m.big_endian(1, register);
            m.big_endian(2, key);
        });
    }

    fn payload(&mut self, base: u32, offset: u32, length: u32, register: u32) {
        self.expression("payload", |m| {
            m.big_endian(1, register);
            m.big_endian(2, base);
            m.big_endian(3, offset);
            m.big_endian(4, length);
        });
    }

    fn interface(&mut self, key: u32, equal: bool, name: &str) {
        self.meta(key, REGISTER);
        // IFNAMSIZ bytes: the whole name and its zeros, or "tare0" would also mean "tare01".
        let mut padded = [0; 16];
        padded[..name.len()].copy_from_slice(name.as_bytes());
        self.compare(equal, &padded);
    }

    /// `iifname == name` or `!=`
    pub(crate) fn input(&mut self, equal: bool, name: &str) {
        self.interface(6, equal, name);
    }

    /// `oifname == name` or `!=`
    pub(crate) fn output(&mut self, equal: bool, name: &str) {
        self.interface(7, equal, name);
    }

    fn address(&mut self, offset: u32, subnet: Subnet) {
        self.payload(1, offset, 4, REGISTER);
        self.mask(subnet.mask().octets());
        self.compare(true, &subnet.address().octets());
    }

    /// `ip saddr subnet`
    pub(crate) fn source(&mut self, subnet: Subnet) {
        self.address(12, subnet);
    }

    /// `ip daddr subnet`
    pub(crate) fn destination(&mut self, subnet: Subnet) {
        self.address(16, subnet);
    }

    /// `fib daddr type local`
    pub(crate) fn destination_is_local(&mut self) {
        self.expression("fib", |m| {
            m.big_endian(1, REGISTER);
            m.big_endian(2, 3);
            m.big_endian(3, 2);
        });
        // RTN_LOCAL
        self.compare(true, &2u32.to_ne_bytes());
    }

    fn connection(&mut self, key: u32, bits: u32, set: bool) {
        self.expression("ct", |m| {
            m.big_endian(1, REGISTER);
            m.big_endian(2, key);
        });
        self.mask(bits.to_ne_bytes());
        self.compare(!set, &[0; 4]);
    }

    /// Neither `ct state established` nor `related`.
    pub(crate) fn connection_is_new(&mut self) {
        self.connection(0, 2 | 4, false);
    }

    /// Whether the destination was translated: `ct status dnat`.
    pub(crate) fn connection_is_translated(&mut self, translated: bool) {
        // IPS_DST_NAT
        self.connection(2, 1 << 5, translated);
    }

    /// `dnat ip to` what the map holds for this key of the packet: `[ip daddr .] meta l4proto . th dport`.
    pub(crate) fn translate_by(&mut self, map: &str, id: u32, with_address: bool) {
        let mut register = REGISTER;
        if with_address {
            self.payload(1, 16, 4, register);
            register += 1;
        }
        self.meta(16, register);
        // The destination port is bytes 2 and 3 of TCP, UDP and SCTP alike.
        self.payload(2, 2, 2, register + 1);
        self.expression("lookup", |m| {
            m.string(1, map);
            m.big_endian(2, REGISTER);
            m.big_endian(3, RESULT_REGISTER);
            m.big_endian(4, id);
        });
        self.expression("nat", |m| {
            m.big_endian(1, 1);
            m.big_endian(2, u32::from(IPV4));
            m.big_endian(3, RESULT_REGISTER);
            m.big_endian(5, RESULT_REGISTER + 1);
        });
    }

    /// `masquerade`
    pub(crate) fn masquerade(&mut self) {
        self.expression("masq", |_| {});
    }

    fn verdict(&mut self, fill: impl FnOnce(&mut Requests)) {
        self.expression("immediate", |m| {
            // NFT_REG_VERDICT is 0.
            m.big_endian(1, 0);
            m.nest(2, |m| m.nest(2, fill));
        });
    }

    /// `drop`
    pub(crate) fn drop(&mut self) {
        self.verdict(|m| m.big_endian(1, DROP));
    }

    /// `jump chain`
    pub(crate) fn jump(&mut self, chain: &str) {
        // NFT_JUMP is -3.
        self.verdict(|m| {
            m.bytes(1, &(-3i32).to_be_bytes());
            m.string(2, chain);
        });
    }
}

/// A comment in the type-length-value form that `nft` shows (`NFTNL_UDATA_TABLE_COMMENT` is type 0).
fn comment_userdata(comment: &str) -> Vec<u8> {
    let length = u8::try_from(comment.len() + 1).expect("comments of tables are short");
    let mut data = vec![0, length];
    data.extend_from_slice(comment.as_bytes());
    data.push(0);
    data
}

/// Whether the table exists and carries exactly this comment.
pub(crate) fn table_has_comment(socket: &Socket, table: &str, comment: &str) -> Result<bool> {
    let mut request = Requests::new();
    request.message(GET_TABLE, 0, "read nftables table", |m| {
        m.raw(&HEADER);
        m.string(1, table);
    });
    let mut same = false;
    let answer = socket.query(&request, |payload| {
        same = Attributes::after(HEADER.len(), payload).find(6) == Some(&comment_userdata(comment));
    });
    match answer {
        Ok(()) => Ok(same),
        Err(refused) if refused.source.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(refused) => Err(Error::kernel(refused, table)),
    }
}

/// Makes the kernel forget the connections a reply of which comes from `address`, so that datagrams that a
/// client keeps sending are not led to a container that is gone.
pub(crate) fn forget_connections_of(socket: &Socket, address: Ipv4Addr) -> std::result::Result<(), Refused> {
    // CTA_TUPLE_REPLY, CTA_TUPLE_IP, CTA_IP_V4_SRC; filtered by IP_SRC of the reply.
    forget(socket, 2, [0, 1], |m| m.nest(1, |m| m.bytes(1, &address.octets())))
}

/// Makes the kernel forget the connections that were opened to this port: those that began before it was
/// published would stay untranslated for as long as the client sends.
pub(crate) fn forget_connections_to(
    socket: &Socket,
    protocol_number: u8,
    port: u16,
) -> std::result::Result<(), Refused> {
    // CTA_TUPLE_ORIG, CTA_TUPLE_PROTO, CTA_PROTO_NUM and _DST_PORT; filtered by both.
    forget(socket, 1, [1 << 3 | 1 << 5, 0], |m| {
        m.nest(2, |m| {
            m.bytes(1, &[protocol_number]);
            m.bytes(3, &port.to_be_bytes());
        });
    })
}

/// `IPCTNL_MSG_CT_DELETE` with `CTA_FILTER`: deletes what matches the named parts of a tuple. Kernels that do not
/// know the filter refuse the incomplete tuple.
fn forget(
    socket: &Socket,
    tuple: u16,
    filter: [u32; 2],
    fill: impl FnOnce(&mut Requests),
) -> std::result::Result<(), Refused> {
    let mut request = Requests::new();
    request.message(1 << 8 | 2, 0, "forget connections", |m| {
        m.raw(&HEADER);
        m.nest(tuple, fill);
        m.nest(25, |m| {
            m.number(1, filter[0]);
            m.number(2, filter[1]);
        });
    });
    request.acknowledge();
    socket.send(&request)
}
