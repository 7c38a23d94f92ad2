//! The daemon's part, in a process of its own, killed with SIGKILL again and again.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    sync::Arc,
};

use braindrill::submission::{SubmissionId, Verdict};

use super::{
    fake::{FakeBackend, World},
    support::{DEADLINE, Engine, new, outcome, owner},
};

const FOLDER: &str = "BRAINDRILL_TEST_KILL_FOLDER";
const CHILD: &str = "engine::kill::child";

fn backend() -> FakeBackend {
    FakeBackend::new(Arc::<World>::default(), false, 4)
}

/// Submits without end and says on stdout what it was promised.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the child process of the test below"]
async fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let engine = Engine::start(std::path::Path::new(&folder), backend()).await;
    let say = |line: String| {
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{line}").unwrap();
    };
    let client = |number: usize| {
        let engine = &engine;
        async move {
            for round in 0.. {
                let source =
                    if (round + number).is_multiple_of(3) { "lose once" } else { "succeed" };
                let id = engine.handle.submit(new(source)).await.unwrap().view.submission.id;
                say(format!("accepted {id}"));
                if (round + number).is_multiple_of(5)
                    && engine.handle.cancel(&owner(), id).await.is_ok()
                {
                    say(format!("ended {id} cancelled"));
                }
                if round % 2 == 0 {
                    let view = engine.handle.wait(&owner(), id, DEADLINE).await.unwrap();
                    say(format!("ended {id} {}", outcome(&view).verdict()));
                }
            }
        }
    };
    futures_util::future::join_all((0..8).map(client)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_killed_again_and_again_keeps_every_promise() {
    let folder = tempfile::tempdir().unwrap();
    let mut promised = BTreeMap::<SubmissionId, Option<String>>::new();
    for lines in [3, 40, 150, 1, 77] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([CHILD, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut stdout = stdout.lines().map(Result::unwrap);
        // `test engine::kill::child ... ` stands before the first, in the same line.
        let mut heard = 0;
        while heard < lines {
            let line = stdout.next().expect("the child goes on until it is killed");
            heard += note(&line, &mut promised);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died counts too, but for a last line that is cut short.
        for line in stdout {
            note(&line, &mut promised);
        }
    }
    assert!(promised.len() > 50, "{} were accepted", promised.len());
    let engine = Engine::start(folder.path(), backend()).await;
    for (id, promise) in &promised {
        let view = engine.finished(*id).await;
        let verdict = outcome(&view).verdict();
        match promise {
            Some(word) => assert_eq!(word, verdict.as_str(), "{id}"),
            None => assert!(matches!(verdict, Verdict::Accepted | Verdict::Cancelled), "{id}"),
        }
        if verdict == Verdict::Accepted {
            assert_eq!(&view.outputs[0].stdout.here().unwrap()[..], b"out of run 0");
        }
    }
    engine.clean().await;
    engine.stop().await;
}

/// Notes what a line promises; how many lines that was.
fn note(line: &str, promised: &mut BTreeMap<SubmissionId, Option<String>>) -> usize {
    let words: Vec<&str> = line.split_whitespace().collect();
    let Some(at) = words.iter().position(|word| ["accepted", "ended"].contains(word)) else {
        return 0;
    };
    let Some(id) = words.get(at + 1).and_then(|word| word.parse().ok()) else { return 0 };
    match (words[at], words.get(at + 2)) {
        ("accepted", _) => drop(promised.entry(id).or_default()),
        ("ended", Some(verdict)) if ["accepted", "cancelled"].contains(verdict) => {
            promised.insert(id, Some((*verdict).to_owned()));
        }
        _ => return 0,
    }
    1
}
