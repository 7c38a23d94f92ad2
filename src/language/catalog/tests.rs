use super::*;

const TINY: &str = r#"
[[language]]
id = "tiny"
name = "Tiny"
extension = "t"
source_file = "main.t"
tools.tiny = ["/usr/bin/tiny"]
version = { command = ["{tool:tiny}", "--version"] }
run = { command = ["{tool:tiny}", "{entrypoint}", "{args}"] }
"#;

fn load(text: &str) -> Result<Catalog, CatalogError> {
    let file = tempfile::NamedTempFile::new().expect("temporary file");
    std::fs::write(file.path(), text).expect("write");
    Catalog::load(Some(file.path()))
}

fn message(text: &str) -> String {
    let message = load(text).expect_err("refused").to_string();
    message.split_once("/.tmp").map_or(message.clone(), |(_, rest)| rest[6..].to_owned())
}

#[test]
fn the_embedded_languages_are_sound_and_are_sixteen() {
    let catalog = Catalog::load(None).expect("sound");
    let ids: Vec<_> = catalog.list().iter().map(|e| e.definition.id.clone()).collect();
    assert_eq!(
        ids.join(" "),
        "bash c cpp go java javascript kotlin lua perl php python ruby rust scala sqlite \
         typescript"
    );
    for entry in catalog.list() {
        assert!(entry.definition.self_test.is_some(), "{}", entry.definition.id);
        assert!(entry.definition.package.is_some(), "{}", entry.definition.id);
    }
}

#[test]
fn a_language_is_found_by_its_id_and_by_its_aliases() {
    let catalog = Catalog::load(None).expect("sound");
    for name in ["python", "py", "python3"] {
        assert_eq!(catalog.get(name).map(|e| e.definition.id.clone()), Some("python".into()));
    }
    assert_eq!(catalog.get("PYTHON"), None);
}

#[test]
fn a_users_file_adds_languages_and_replaces_whole_ones() {
    let catalog = load(&format!("{TINY}{}", TINY.replace("tiny", "lua"))).expect("sound");
    assert_eq!(catalog.list().len(), 17);
    let lua = catalog.get("lua").expect("lua").definition;
    assert_eq!((lua.name.as_str(), lua.aliases.len()), ("Tiny", 0));
}

#[test]
fn clones_share_what_is_known_of_a_language() {
    let catalog = Catalog::load(None).expect("sound");
    catalog.clone().set("c", Status::Ready, Some("12.2.0".to_owned()));
    let entry = catalog.get("c").expect("c");
    assert_eq!((entry.status, entry.version.as_deref()), (Status::Ready, Some("12.2.0")));
}

#[test]
fn what_holds_all_languages_hides_no_missing_tool_chain() {
    let catalog = Catalog::load(None).expect("sound");
    let missing = Status::Unavailable("install gcc".to_owned());
    catalog.set("c", missing.clone(), None);
    catalog.hold("no room");
    let status = |id| catalog.get(id).map(|entry| entry.status);
    assert_eq!(status("c"), Some(missing));
    assert_eq!(status("lua"), Some(Status::Held("no room".to_owned())));
}

#[test]
fn a_language_that_is_switched_off_is_unavailable_until_it_is_switched_on_again() {
    let catalog = Catalog::load(None).expect("sound");
    catalog.set("c", Status::Ready, Some("12.2.0".to_owned()));
    let off = BTreeSet::from(["c".to_owned()]);
    let seen = catalog.clone();
    catalog.restrict(Restrictions { switched_off: off, ..Restrictions::default() });
    let reason = Status::Unavailable("switched off by the operator".to_owned());
    assert_eq!(seen.get("c").map(|entry| entry.status), Some(reason.clone()));
    let unavailable = |entry: &LanguageEntry| matches!(entry.status, Status::Unavailable(_));
    assert_eq!(seen.list().into_iter().filter(unavailable).count(), 1);
    assert!(!seen.found().iter().any(unavailable), "what was found stays known");
    catalog.set("c", Status::Checking, None);
    assert_eq!(seen.get("c").map(|entry| entry.status), Some(reason), "whatever is found out");
    catalog.restrict(Restrictions::default());
    assert_eq!(seen.get("c").map(|entry| entry.status), Some(Status::Checking));
}

#[test]
fn unknown_keys_are_refused_with_line_and_name() {
    let wrong = TINY.replace("extension =", "extention =");
    assert!(message(&wrong).contains("line 5: unknown field `extention`"), "{}", message(&wrong));
}

#[test]
fn an_alias_that_is_taken_is_refused() {
    let wrong = TINY.replace("name =", "aliases = [\"py\"]\nname =");
    let message = message(&wrong);
    assert!(message.contains("alias `py` belongs to"), "{message}");
}

#[test]
fn a_language_that_makes_no_sense_is_refused_with_the_reason() {
    for (from, to, problem) in [
        ("\"{args}\"", "\"{arguments}\"", "`{arguments}`"),
        ("/usr/bin/tiny", "bin/tiny", "bin/tiny is not an absolute path"),
        ("id = \"tiny\"", "id = \"Tiny\"", "`Tiny` is no id"),
        ("main.t", "a/main.t", "source_file"),
        ("name =", "limits = { memory_bytes = 1 }\nname =", "memory_bytes is 1"),
    ] {
        let message = message(&TINY.replace(from, to));
        assert!(message.contains(problem), "{to}: {message}");
    }
    assert!(message(&format!("{TINY}{TINY}")).contains("is there twice"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Catalog::load(Some(Path::new("/nowhere/more.toml"))).expect_err("absent");
    assert_eq!(error.to_string(), "cannot read /nowhere/more.toml");
}
