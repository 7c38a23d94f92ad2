//! `openapi/openapi.json` is what clients are generated from.

use braindrill::api::document::Document;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/openapi.json");

#[test]
fn the_written_description_is_that_of_the_code() {
    let written = std::fs::read_to_string(FILE).expect("openapi/openapi.json");
    assert!(
        written == Document::new().json(),
        "openapi/openapi.json is out of date: braindrill openapi -o openapi/openapi.json"
    );
}
