//! Any bytes as a gzipped tar archive: nothing leads out of it, nothing grows beyond the limits.
#![no_main]

use driftless::render::archive::{Limits, unpack};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let limits = Limits { entries: 100, file: 1 << 16, total: 1 << 18 };
    let Ok(found) = unpack(data, limits) else { return };
    assert!(found.files.len() <= limits.entries);
    assert!(found.files.iter().map(|(_, content)| content.len() as u64).sum::<u64>() <= limits.total);
    for path in found.files.iter().map(|(path, _)| path).chain(found.links.iter().map(|(path, _)| path)) {
        assert!(!path.starts_with('/') && !path.split('/').any(|part| part == ".."), "{path}");
    }
});
