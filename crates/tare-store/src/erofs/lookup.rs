//! From a directory and a name to a node, in four to eight bytes an entry.

use std::hash::{BuildHasher, Hasher, RandomState};

const EMPTY: u32 = u32::MAX;
const REMOVED: u32 = u32::MAX - 1;

/// Open addressing over the numbers of nodes, whose names are elsewhere. Keyed hashing: the names are hostile.
pub(super) struct Lookup {
    state: RandomState,
    slots: Vec<u32>,
    /// Slots that are not empty.
    used: usize,
}

impl Lookup {
    pub(super) fn new() -> Self {
        Self { state: RandomState::new(), slots: vec![EMPTY; 1024], used: 0 }
    }

    fn hash(&self, parent: u32, name: &[u8]) -> usize {
        let mut hasher = self.state.build_hasher();
        hasher.write_u32(parent);
        hasher.write(name);
        hasher.finish() as usize
    }

    /// The slot of the node that `is_it` recognises, or where it would go.
    fn slot(&self, parent: u32, name: &[u8], is_it: impl Fn(u32) -> bool) -> Result<usize, usize> {
        let mask = self.slots.len() - 1;
        let mut at = self.hash(parent, name) & mask;
        let mut free = None;
        loop {
            match self.slots[at] {
                EMPTY => return Err(free.unwrap_or(at)),
                REMOVED => free = free.or(Some(at)),
                node if is_it(node) => return Ok(at),
                _ => {}
            }
            at = (at + 1) & mask;
        }
    }

    /// The node of this name.
    pub(super) fn find(&self, parent: u32, name: &[u8], is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.slot(parent, name, is_it).ok().map(|slot| self.slots[slot])
    }

    /// Takes the node of this name out.
    pub(super) fn remove(&mut self, parent: u32, name: &[u8], is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let slot = self.slot(parent, name, is_it).ok()?;
        Some(std::mem::replace(&mut self.slots[slot], REMOVED))
    }

    /// Puts a node in whose name is not there. `key` gives the parent and name of any node.
    pub(super) fn insert<'a>(&mut self, node: u32, key: impl Fn(u32) -> (u32, &'a [u8])) {
        if (self.used + 1) * 8 > self.slots.len() * 7 {
            self.grow(&key);
        }
        let (parent, name) = key(node);
        let (Ok(slot) | Err(slot)) = self.slot(parent, name, |_| false);
        self.used += usize::from(self.slots[slot] == EMPTY);
        self.slots[slot] = node;
    }

    fn grow<'a>(&mut self, key: impl Fn(u32) -> (u32, &'a [u8])) {
        let doubled = vec![EMPTY; self.slots.len() * 2];
        let old = std::mem::replace(&mut self.slots, doubled);
        self.used = 0;
        for node in old.into_iter().filter(|node| *node < REMOVED) {
            let (parent, name) = key(node);
            let (Ok(slot) | Err(slot)) = self.slot(parent, name, |_| false);
            self.slots[slot] = node;
            self.used += 1;
        }
    }

    /// All nodes, in no order.
    pub(super) fn nodes(&self) -> impl Iterator<Item = u32> + '_ {
        self.slots.iter().copied().filter(|node| *node < REMOVED)
    }
}
