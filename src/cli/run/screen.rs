//! What a submission says, on our standard output and standard error.

use std::{
    io::{self, IsTerminal as _, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::ending::Ending;
use crate::cli::{
    client::{Event, output, table::plain, text},
    say,
};

/// Events that wait to be shown, each of up to 64 KiB: who reads our output slowly slows us, and not the
/// program.
const WAITING: usize = 64;

/// Shows events as they come, from a thread of its own: a write may wait for whoever reads it.
pub(super) struct Screen {
    shown: mpsc::Sender<Shown>,
    /// Ends when all is shown.
    done: oneshot::Receiver<()>,
}

enum Shown {
    Event(Event),
    /// What it waits for.
    Waiting(String),
    End(Ending),
}

/// Tells the screen what a submission waits for, as long as that is there.
pub(super) struct Teller(mpsc::WeakSender<Shown>);

impl Teller {
    pub(super) async fn waits_for(&self, what: &str) {
        if let Some(shown) = self.0.upgrade() {
            // The thread ends after us.
            let _ = shown.send(Shown::Waiting(what.to_owned())).await;
        }
    }
}

impl Screen {
    /// Cancels when nobody reads any more.
    pub(super) fn new(is_quiet: bool, has_tests: bool, cancel: CancellationToken) -> Screen {
        let (shown, mut waiting) = mpsc::channel(WAITING);
        let (end, done) = oneshot::channel();
        std::thread::spawn(move || {
            let mut terminal = Terminal::new(is_quiet, has_tests, cancel);
            while let Some(next) = waiting.blocking_recv() {
                match next {
                    Shown::Event(event) => terminal.show(&event),
                    Shown::Waiting(what) => terminal.wait(&what),
                    Shown::End(ending) => terminal.end(&ending),
                }
            }
            let _ = end.send(());
        });
        Screen { shown, done }
    }

    /// For whoever asks what the submission waits for; none where nobody would see it.
    pub(super) fn teller(&self) -> Option<Teller> {
        io::stderr().is_terminal().then(|| Teller(self.shown.downgrade()))
    }

    /// Shows one event, after those before it.
    pub(super) async fn show(&mut self, event: Event) {
        // The thread ends after us.
        let _ = self.shown.send(Shown::Event(event)).await;
    }

    /// Says how it ended, and waits until everything is shown.
    pub(super) async fn end(self, ending: &Ending) {
        let _ = self.shown.send(Shown::End(ending.clone())).await;
        drop(self.shown);
        let _ = self.done.await;
    }
}

/// Prints a text on standard output, if there is one, and lines on standard error: from a thread of its own, as
/// a screen does.
pub(super) async fn print(text: Option<String>, notes: Vec<String>) {
    let (end, done) = oneshot::channel();
    std::thread::spawn(move || {
        for note in notes {
            // Who has closed it wants no more of it.
            let _ = writeln!(io::stderr(), "braindrill: {note}");
        }
        text.into_iter().for_each(say);
        let _ = end.send(());
    });
    let _ = done.await;
}

struct Terminal {
    /// Turns on standard error, where that is a terminal, until the program says something.
    spinner: ProgressBar,
    is_quiet: bool,
    /// Whether its runs are tests, each of which is told in a line instead of by its output.
    has_tests: bool,
    attempt: u64,
    has_spoken: bool,
    cancel: CancellationToken,
}

impl Terminal {
    fn new(is_quiet: bool, has_tests: bool, cancel: CancellationToken) -> Terminal {
        let spinner = if io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}")
                .expect("the template is a literal");
            let spinner = ProgressBar::new_spinner().with_style(style).with_message("sending");
            spinner.enable_steady_tick(Duration::from_millis(100));
            spinner
        } else {
            ProgressBar::hidden()
        };
        Terminal { spinner, is_quiet, has_tests, attempt: 0, has_spoken: false, cancel }
    }

    /// Shows one event.
    fn show(&mut self, event: &Event) {
        if event.attempt > self.attempt {
            if self.has_spoken && !self.is_quiet {
                self.note("what ran was lost with its place, and is run again from the beginning");
            }
            self.attempt = event.attempt;
        }
        match event.kind.as_str() {
            "state" => self.spinner.set_message(text(&event.value, "/state").to_owned()),
            "compile" if !self.is_quiet => self.compiler(&event.value),
            "stdout" if self.shows_output() => self.write(&mut io::stdout(), &event.output()),
            "stderr" if self.shows_output() => self.write(&mut io::stderr(), &event.output()),
            "test" if self.has_tests && !self.is_quiet => self.test(&event.value),
            _ => {}
        }
    }

    /// Says what it waits for, unless that came late.
    fn wait(&mut self, what: &str) {
        if !self.has_spoken {
            self.spinner.set_message(format!("queued: {}", plain(what)));
        }
    }

    /// Says how it ended, unless the program has said so itself by its exit code.
    fn end(&mut self, ending: &Ending) {
        self.spinner.finish_and_clear();
        if !self.is_quiet && !ending.is_its_own() {
            self.note(&format!("{}: {}", ending.verdict, plain(&ending.reason)));
        }
    }

    fn shows_output(&self) -> bool {
        !self.is_quiet && !self.has_tests
    }

    fn compiler(&mut self, event: &Value) {
        for stream in ["stdout", "stderr"] {
            let bytes = output(&event["compile"][stream]);
            if !bytes.is_empty() {
                self.write(&mut io::stderr(), &bytes);
            }
        }
    }

    fn test(&mut self, event: &Value) {
        self.has_spoken = true;
        self.spinner.suspend(|| {
            let (verdict, reason) = (text(event, "/run/verdict"), text(event, "/run/reason"));
            say(format_args!("{verdict}  {}  {}", plain(text(event, "/run/test")), plain(reason)));
        });
    }

    fn note(&mut self, words: &str) {
        self.write(&mut io::stderr(), format!("braindrill: {words}\n").as_bytes());
    }

    /// Who has closed it (`| head`) wants no more of the program.
    fn write(&mut self, to: &mut dyn Write, bytes: &[u8]) {
        self.has_spoken = true;
        self.spinner.finish_and_clear();
        if to.write_all(bytes).and_then(|()| to.flush()).is_err() {
            self.cancel.cancel();
        }
    }
}
