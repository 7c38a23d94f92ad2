use super::*;

fn at(listen: &str) -> Config {
    Config { listen: listen.parse().expect("an address"), ..Config::default() }
}

#[test]
fn an_address_that_others_reach_is_refused_unless_asked_for() {
    let exposed = at("0.0.0.0:8080");
    let message = exposed.check().expect_err("exposed").to_string();
    assert!(message.contains("--allow-anonymous"), "{message}");
    assert!(Config { allow_anonymous: true, ..exposed }.check().is_ok());
    assert!(at("127.0.0.1:0").check().is_ok());
    assert!(at("[::1]:0").check().is_ok());
    assert!(at("[::]:0").check().is_err());
}

#[test]
fn a_setting_out_of_bounds_is_named() {
    let none = Config { slots: Some(0), ..Config::default() };
    let message = none.check().expect_err("no slots").to_string();
    assert_eq!(message, "slots is 0, which is not between 1 and 1024");
    for uid in [0, 999, u32::MAX - 1024 - 64] {
        let low = Config { first_uid: uid, ..Config::default() };
        let message = low.check().expect_err("out of bounds").to_string();
        let bounds = "which is not between 1000 and 4294966206";
        assert_eq!(message, format!("first_uid is {uid}, {bounds}"));
    }
}

#[test]
fn uids_that_are_taken_everywhere_are_refused_for_any_slot() {
    let with = |first_uid, slots| Config {
        first_uid,
        slots: Some(slots),
        prepared_bytes: 0,
        ..Config::default()
    };
    assert!(with(65_530, 4).check().is_ok());
    assert!(with(65_536, 1024).check().is_ok());
    let message = with(65_530, 5).check().expect_err("nobody's").to_string();
    assert!(message.contains("65530 to 65534, and among them is 65534"), "{message}");
    assert!(with(65_535, 1).check().is_err());
    assert!(with(MAX_UID as u32, 1024).check().is_ok());
    // Interpreters that wait have uids too, two for each slot.
    let with = |first_uid, slots| Config { prepared_bytes: 1, ..with(first_uid, slots) };
    assert!(with(65_525, 3).check().is_ok());
    let message = with(65_526, 3).check().expect_err("nobody's").to_string();
    assert!(message.contains("65526 to 65534, and among them is 65534"), "{message}");
    assert!(with(MAX_UID as u32, 1024).check().is_ok());
}

#[test]
fn no_sandbox_is_for_loopback_and_for_this_machine_alone() {
    let lifted = |config| Config { unsafe_no_sandbox: true, allow_anonymous: true, ..config };
    assert!(lifted(at("127.0.0.1:0")).check().is_ok());
    assert!(lifted(at("[::1]:0")).check().is_ok());
    for address in ["0.0.0.0:8080", "192.168.1.2:80", "[::]:0"] {
        let message = lifted(at(address)).check().expect_err("exposed").to_string();
        assert!(message.starts_with("--unsafe-no-sandbox"), "{message}");
    }
    let elsewhere = Config { backend: BackendKind::Nomad, ..Config::default() };
    assert!(lifted(elsewhere).check().is_err());
}

#[test]
fn workers_are_only_dispatched_where_they_are_of_use_and_found() {
    let with = |backend| Config {
        backend,
        scale_job: Some("braindrill-worker".to_owned()),
        ..Config::default()
    };
    assert!(with(BackendKind::Pool).check().is_ok() && with(BackendKind::Auto).check().is_ok());
    for backend in [BackendKind::Local, BackendKind::Nomad] {
        assert!(with(backend).check().is_err());
    }
    let message = |config: Config| config.check().expect_err("of no use").to_string();
    let unseen = message(Config { no_consul: true, ..with(BackendKind::Pool) });
    assert!(unseen.ends_with("leave out --no-consul"), "{unseen}");
    let unseen =
        message(Config { workers: Some("http://w".to_owned()), ..with(BackendKind::Pool) });
    assert!(unseen.ends_with("leave out --workers"), "{unseen}");
    let more = message(Config { scale_min: 5, ..Config::default() });
    assert_eq!(more, "scale_min is 5, which is not between 0 and 4");
}
