#![no_main]
//! The EROFS image of a layer's archive: refused, or an image whose parts are where they should be (the writer asserts it)
//! and whose tree holds together.

use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;
use tare_fuzz::with_checksums;
use tare_store::{Limits, write_index};

fn number(image: &[u8], at: usize, length: usize) -> u64 {
    image[at..at + length].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Walks through all directories: entries sorted, each leading to an inode of the type it says.
fn walk(image: &[u8]) {
    let (mut left, mut seen) = (vec![48_usize], BTreeSet::new());
    while let Some(inode) = left.pop() {
        assert!(seen.insert(inode), "a directory has two parents");
        let at = inode * 32;
        let (layout, size) = (number(image, at, 2) >> 1, number(image, at + 8, 8) as usize);
        let attributes = match number(image, at + 2, 2) as usize {
            0 => 0,
            count => 12 + (count - 1) * 4,
        };
        let own = if layout == 2 { size / 512 } else { size.div_ceil(512) };
        let first = number(image, at + 16, 4) as usize * 512;
        let mut last: Vec<u8> = Vec::new();
        for block in 0..size.div_ceil(512) {
            let length = (size - block * 512).min(512);
            let start = if block < own { first + block * 512 } else { at + 64 + attributes };
            let block = &image[start..start + length];
            let count = number(block, 8, 2) as usize / 12;
            for entry in 0..count {
                let name_at = number(block, entry * 12 + 8, 2) as usize;
                let end = if entry + 1 < count { number(block, entry * 12 + 20, 2) as usize } else { length };
                let name = block[name_at..end].split(|byte| *byte == 0).next().unwrap().to_vec();
                assert!(!name.is_empty() && last < name, "names are not sorted");
                let target = number(block, entry * 12, 8) as usize;
                let mode = number(image, target * 32 + 4, 2) >> 12;
                let kind = [1, 2, 3, 4, 5, 7].iter().position(|kind| *kind == block[entry * 12 + 10]).unwrap();
                assert_eq!(mode, [0o10, 0o4, 0o2, 0o6, 0o1, 0o12][kind]);
                if mode == 0o4 && name != b"." && name != b".." {
                    left.push(target);
                }
                last = name;
            }
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { bytes: 1 << 24, ratio: 100, free: 1 << 20, entries: 10_000, memory: 1 << 22 };
    let bytes = with_checksums(bytes);
    let mut image = Vec::new();
    if write_index(&mut &*bytes, &limits, &mut image).is_ok() {
        assert_eq!(image.len() % 512, 0);
        walk(&image);
    }
});
