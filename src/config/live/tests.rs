use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn refusal(text: &str) -> String {
    let catalog = Catalog::load(None).expect("sound");
    let parsed = LiveSettings::parse(text.as_bytes()).and_then(|read| read.resolve(&catalog));
    parsed.expect_err("refused").to_string()
}

#[test]
fn a_whole_document_is_read_from_toml_and_from_json() {
    let toml = "slots = 8\nqueue_limit = 5000\n[limits]\ncpu_time_ms = 5000\n\
                memory_bytes = 16777216\n[languages]\npython = false\nc = true\n";
    let json = r#" {"slots": 8, "queue_limit": 5000, "limits": {"cpu_time_ms": 5000,
                "memory_bytes": 16777216}, "languages": {"python": false, "c": true}}"#;
    let expected = LiveSettings {
        slots: Some(8),
        queue_limit: Some(5000),
        limits: LimitDefaults {
            cpu_time_ms: Some(5000),
            memory_bytes: Some(16 << 20),
            ..LimitDefaults::default()
        },
        languages: BTreeMap::from([("python".to_owned(), false), ("c".to_owned(), true)]),
    };
    assert_eq!(LiveSettings::parse(toml.as_bytes()), Ok(expected.clone()));
    assert_eq!(LiveSettings::parse(json.as_bytes()), Ok(expected));
}

#[test]
fn a_document_that_says_nothing_changes_nothing() {
    for text in ["", "\n# later\n", "{}", "[limits]\n[languages]\n"] {
        assert_eq!(LiveSettings::parse(text.as_bytes()), Ok(LiveSettings::default()), "{text}");
    }
    let configured = InForce::configured(7);
    assert_eq!(LiveSettings::default().over(&configured), configured);
}

#[test]
fn every_number_is_held_to_its_bounds() {
    let bounds = [
        ("slots", 1, 1024),
        ("queue_limit", 1, 10_000_000),
        ("limits.cpu_time_ms", 1, 60_000),
        ("limits.wall_time_ms", 1, 120_000),
        ("limits.memory_bytes", 16 << 20, 1 << 30),
        ("limits.processes", 1, 256),
        ("limits.output_bytes", 1, 8 << 20),
        ("limits.disk_bytes", 1, 512 << 20),
    ];
    for (name, minimum, maximum) in bounds {
        for sound in [minimum, maximum] {
            let text = format!("{name} = {sound}");
            assert!(LiveSettings::parse(text.as_bytes()).is_ok(), "{text}");
        }
        let (below, above) = ((minimum - 1).to_string(), (maximum + 1).to_string());
        for bad in [&*below, &*above, "-1", "1.5", "\"2\"", "true", "[3]"] {
            let expected = format!(
                "{name} is {bad}, which is not a whole number between {minimum} and {maximum}"
            );
            assert_eq!(refusal(&format!("{name} = {bad}")), expected);
        }
    }
}

#[test]
fn a_name_that_means_nothing_refuses_the_document() {
    assert_eq!(
        refusal("slots = 1\nslot = 2"),
        "`slot` is not known; known are slots, queue_limit, limits, languages"
    );
    assert_eq!(
        refusal("limits.cpu_ms = 2"),
        "`limits.cpu_ms` is not known; known are cpu_time_ms, wall_time_ms, memory_bytes, \
         processes, output_bytes, disk_bytes"
    );
    let message = refusal("languages.cobol = false");
    assert!(message.contains("no language `cobol`; there are bash, c, cpp"), "{message}");
    assert_eq!(
        refusal("languages = { py = false, python = true }"),
        "languages: python is named twice"
    );
}

#[test]
fn what_is_of_the_wrong_kind_is_named() {
    assert_eq!(refusal("limits = 3"), "limits is 3, which is not a table");
    assert_eq!(
        refusal("languages.python = \"no\""),
        "languages.python is \"no\", which is not true or false"
    );
    let long = format!("languages.c = \"{}\"", "x".repeat(1000));
    assert!(refusal(&long).len() < 150, "{}", refusal(&long));
}

#[test]
fn what_is_no_document_is_refused_with_the_line() {
    assert!(refusal("slots = 1\nslots = 2").starts_with("line 2: duplicate key"));
    assert!(refusal("slots = 1\nqueue_limit =").starts_with("line 2: "));
    assert!(refusal("{\n\"slots\": 1,\n}").starts_with("line 3: "));
    assert!(refusal("{} {}").starts_with("line 1: "));
    assert_eq!(LiveSettings::parse(b"\xff"), Err(LiveSettingsError::NotText));
}

#[test]
fn aliases_mean_the_language() {
    let catalog = Catalog::load(None).expect("sound");
    let settings = LiveSettings::parse(b"languages.py = false").expect("sound");
    let settings = settings.resolve(&catalog).expect("known");
    let in_force = settings.over(&InForce::configured(1));
    assert_eq!(in_force.restrictions.switched_off, BTreeSet::from(["python".to_owned()]));
}

#[test]
fn a_change_is_told_in_words_both_ways() {
    let configured = InForce::configured(10_000);
    let text = "slots = 2\nlimits.cpu_time_ms = 5000\nlanguages = { c = false, lua = false }";
    let changed = LiveSettings::parse(text.as_bytes()).expect("sound").over(&configured);
    assert_eq!(
        configured.changes_to(&changed),
        [
            "slots from what the backend takes to 2",
            "limits.cpu_time_ms from 60000 to 5000",
            "c, lua switched off"
        ]
    );
    assert_eq!(
        changed.changes_to(&configured).last().map(String::as_str),
        Some("c, lua switched on")
    );
    assert!(changed.changes_to(&changed).is_empty());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused_and_what_is_read_is_within_bounds(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..64),
            "(slots|queue_limit|limits.processes|languages.c) ?= ?[-0-9a-z.\"{}]{0,12}"
                .prop_map(String::into_bytes),
        ],
    ) {
        if let Ok(settings) = LiveSettings::parse(&bytes) {
            prop_assert!(settings.slots.is_none_or(|slots| (1..=1024).contains(&slots)));
            let maximum = settings.over(&InForce::configured(1)).restrictions.maximum;
            prop_assert_eq!(maximum.at_most(&MAXIMUM), maximum);
        }
    }
}
