//! Manifests as kubectl reads them; what is read can be written and read again.
#![no_main]

use driftless::model::yaml;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(documents) = yaml::read(data, "fuzz.yaml") else { return };
    for document in documents {
        let text = yaml::emit(&document.value);
        let again = yaml::read(text.as_bytes(), "again.yaml").expect("what is written can be read");
        let again = again.into_iter().next().map(|document| document.value).unwrap_or_default();
        assert_eq!(again, document.value, "{text}");
    }
});
