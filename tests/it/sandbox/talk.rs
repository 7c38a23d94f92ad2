//! Programs that are talked to while they run: by pipes, and by a terminal of their own.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use braindrill::{
    protocol::{Input, InputSignal, WindowSize},
    sandbox::{Cap, End},
};
use tokio::time::timeout;

use super::*;

/// Longer than anything here takes, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(20);

/// The other side of a program.
struct Talk {
    input: mpsc::Sender<Input>,
    output: mpsc::Receiver<(Stream, Bytes)>,
    said: String,
}

impl Talk {
    async fn send(&self, data: &str) {
        let _ = self.input.send(Input::Data { data: data.into() }).await;
    }

    async fn signal(&self, signal: InputSignal) {
        let _ = self.input.send(Input::Signal { signal }).await;
    }

    /// Waits until the program has said this, behind what was waited for before.
    #[track_caller]
    fn hear<'a>(&'a mut self, words: &'a str) -> impl Future<Output = ()> + 'a {
        let from = std::panic::Location::caller();
        async move {
            let heard = timeout(PATIENCE, async {
                while !self.said.contains(words) {
                    match self.output.recv().await {
                        Some((_, data)) => self.said.push_str(&String::from_utf8_lossy(&data)),
                        None => return false,
                    }
                }
                true
            });
            let heard = heard.await.unwrap_or(false);
            assert!(heard, "{from}: no {words:?} in {:?}", self.said);
            let end = self.said.find(words).expect("it is there") + words.len();
            self.said.drain(..end);
        }
    }

    async fn rest(&mut self) -> String {
        while let Some((_, data)) = self.output.recv().await {
            self.said.push_str(&String::from_utf8_lossy(&data));
        }
        std::mem::take(&mut self.said)
    }
}

/// Runs a job while `talk` is held with it.
async fn talk(job: Job, talk: impl AsyncFnOnce(&mut Talk)) -> Measured {
    let sandbox = sandbox().await;
    let slot = sandbox.slot().await;
    let ((input, live), (sender, output)) = (mpsc::channel(4), mpsc::channel(4));
    let cancel = CancellationToken::new();
    let run = sandbox.run(&slot, job, Some(live), sender, &cancel);
    let held = async {
        let mut other = Talk { input, output, said: String::new() };
        talk(&mut other).await;
        other.rest().await;
    };
    let (measured, ()) = tokio::join!(run, held);
    measured.unwrap()
}

fn shell(script: &str) -> Job {
    job(&["/usr/bin/bash", "-c", script])
}

fn on_a_terminal(mut job: Job) -> Job {
    job.tty = true;
    job
}

#[tokio::test]
async fn what_is_sent_comes_behind_what_was_there_and_its_end_ends_input() {
    let mut adder = python(
        "total = 0\nfor line in __import__('sys').stdin:\n    total += int(line); print(total, flush=True)\nprint('end', total, flush=True)",
    );
    adder.stdin = Blob::from("1\n2\n");
    let measured = talk(adder, async |talk: &mut Talk| {
        talk.hear("1\n3\n").await;
        talk.send("4").await;
        talk.send("0\n").await;
        talk.hear("43\n").await;
        talk.input.send(Input::End).await.unwrap();
        talk.hear("end 43\n").await;
    })
    .await;
    assert_eq!(measured.end, End::Exited(0));
}

#[tokio::test]
async fn input_ends_when_nobody_is_left_who_could_send_more() {
    let measured = talk(job(&["/usr/bin/cat"]), async |talk: &mut Talk| {
        talk.send("last").await;
        talk.input = mpsc::channel(1).0;
        talk.hear("last").await;
    })
    .await;
    assert_eq!(measured.end, End::Exited(0));
    assert_eq!(measured.stdout.bytes, 4);
}

#[tokio::test]
async fn a_signal_reaches_a_program_that_reads_nothing_and_passes_input_that_waits() {
    let script = "trap 'echo told' USR1; echo up; for i in 1 2 3 4 5 6 7 8 9; do sleep 0.2; done; kill -TERM $$";
    let measured = talk(shell(script), async |talk: &mut Talk| {
        talk.hear("up\n").await;
        // More than a pipe takes.
        for _ in 0..3 {
            talk.send(&"x".repeat(60_000)).await;
        }
        talk.signal(InputSignal::Usr1).await;
        talk.hear("told\n").await;
    })
    .await;
    assert_eq!(measured.end, End::Signaled(15));
}

#[tokio::test]
async fn a_signal_that_is_not_caught_ends_it_with_all_of_its_group() {
    let begin = Instant::now();
    let measured = talk(shell("sleep 100 & sleep 100 & echo up; wait"), async |talk: &mut Talk| {
        talk.hear("up\n").await;
        talk.signal(InputSignal::Kill).await;
    })
    .await;
    assert_eq!(measured.end, End::Signaled(9));
    assert_eq!((measured.killed_for, measured.oom_kills), (None, 0));
    assert!(begin.elapsed() < PATIENCE);
}

#[tokio::test]
async fn limits_hold_for_a_program_that_waits_for_input() {
    let mut cat = job(&["/usr/bin/cat"]);
    cat.caps.wall_time = Duration::from_millis(400);
    let measured = talk(cat, async |talk: &mut Talk| talk.send("x").await).await;
    assert_eq!(measured.killed_for, Some(Cap::Wall));
}

#[tokio::test]
async fn a_terminal_is_one_for_all_of_its_descriptors_and_its_own() {
    let script = "for fd in 0 1 2; do [ -t $fd ] && echo $fd is one; done; stty size; \
                  echo over the terminal > /dev/tty; read -p 'name? ' name; echo hello $name";
    let measured = talk(on_a_terminal(shell(script)), async |talk: &mut Talk| {
        talk.hear("0 is one\r\n1 is one\r\n2 is one\r\n24 80\r\n").await;
        talk.hear("over the terminal\r\n").await;
        talk.hear("name? ").await;
        talk.send("world\n").await;
        // Once by echo.
        talk.hear("world\r\nhello world\r\n").await;
    })
    .await;
    assert_eq!(measured.end, End::Exited(0));
    assert_eq!(measured.stderr.bytes, 0);
}

#[tokio::test]
async fn a_terminal_has_the_size_that_it_is_given_and_tells_of_it() {
    let script = "trap 'stty size' WINCH; echo up; for i in {1..50}; do sleep 0.1; done";
    let measured = talk(on_a_terminal(shell(script)), async |talk: &mut Talk| {
        talk.hear("up\r\n").await;
        let size = WindowSize { rows: 30, columns: 100 };
        talk.input.send(Input::Resize(size)).await.unwrap();
        talk.hear("30 100\r\n").await;
        talk.signal(InputSignal::Kill).await;
    })
    .await;
    assert_eq!(measured.end, End::Signaled(9));
}

#[tokio::test]
async fn keys_do_on_a_terminal_what_they_do_on_any() {
    let measured = talk(on_a_terminal(job(&["/usr/bin/cat"])), async |talk: &mut Talk| {
        talk.send("one\n").await;
        talk.hear("one\r\none\r\n").await;
        talk.input.send(Input::End).await.unwrap();
    })
    .await;
    assert_eq!(measured.end, End::Exited(0), "Ctrl-D");
    let sleep = on_a_terminal(shell("echo up; sleep 100"));
    let measured = talk(sleep, async |talk: &mut Talk| {
        talk.hear("up\r\n").await;
        talk.send("\u{3}").await;
    })
    .await;
    assert_eq!(measured.end, End::Signaled(2), "Ctrl-C");
}

#[tokio::test]
async fn a_shell_has_job_control_on_its_terminal() {
    let shell = on_a_terminal(job(&["/usr/bin/bash", "--norc", "-i"]));
    let measured = talk(shell, async |talk: &mut Talk| {
        talk.hear("$ ").await;
        talk.send("sleep 100\n").await;
        talk.hear("sleep 100\r\n").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        talk.send("\u{1a}").await;
        talk.hear("Stopped").await;
        talk.send("kill %1; stty -echo; echo $((6 * 7)); exit 3\n").await;
        talk.hear("42\r\n").await;
    })
    .await;
    assert_eq!(measured.end, End::Exited(3));
}

#[tokio::test]
async fn nothing_is_lost_of_what_a_program_wrote_last_on_its_terminal() {
    for _ in 0..10 {
        let many = on_a_terminal(shell("seq 20000; printf end"));
        let mut said = String::new();
        let measured = talk(many, async |talk: &mut Talk| said = talk.rest().await).await;
        assert_eq!(measured.end, End::Exited(0));
        let expected: String = (1..=20_000).map(|n| format!("{n}\r\n")).collect();
        assert!(said == expected + "end", "{} bytes", said.len());
        assert_eq!(measured.stdout.bytes, said.len() as u64);
    }
}

#[tokio::test]
async fn a_terminals_output_is_bounded_as_that_of_a_pipe() {
    let mut flood = on_a_terminal(job(&["/usr/bin/yes"]));
    (flood.caps.output_keep, flood.caps.output_kill) = (1000, 1000);
    let measured = talk(flood, async |_: &mut Talk| {}).await;
    assert_eq!(measured.killed_for, Some(Cap::Output));
}

#[tokio::test]
async fn a_terminal_takes_nothing_that_would_reach_beyond_it() {
    let source = "import fcntl, struct, termios
for name, argument in [('TIOCSTI', b'x'), ('TIOCSETD', struct.pack('i', 0)), ('TIOCCONS', 0)]:
    try:
        fcntl.ioctl(0, getattr(termios, name), argument); print(name, 'done')
    except OSError as error:
        print(name, error.strerror)
print(open('/proc/self/stat').read().split()[6] != '0')
";
    let measured = talk(on_a_terminal(python(source)), async |talk: &mut Talk| {
        talk.hear("TIOCSTI Operation not permitted\r\n").await;
        talk.hear("TIOCSETD Operation not permitted\r\n").await;
        talk.hear("TIOCCONS Operation not permitted\r\n").await;
        talk.hear("True\r\n").await;
    })
    .await;
    assert_eq!(measured.end, End::Exited(0));
}

#[tokio::test]
async fn cancelling_ends_a_program_that_waits_on_its_terminal() {
    let sandbox = sandbox().await;
    let slot = sandbox.slot().await;
    let ((_input, live), (sender, mut output)) = (mpsc::channel(4), mpsc::channel(4));
    let cancel = CancellationToken::new();
    let job = on_a_terminal(shell("echo up; read line"));
    let run = sandbox.run(&slot, job, Some(live), sender, &cancel);
    let stop = async {
        output.recv().await;
        cancel.cancel();
        while output.recv().await.is_some() {}
    };
    let (result, ()) = timeout(PATIENCE, async { tokio::join!(run, stop) }).await.unwrap();
    assert!(matches!(result, Err(SandboxError::Cancelled)), "{result:?}");
}

#[tokio::test]
async fn a_program_that_stops_its_terminal_or_leaves_it_ends_as_any() {
    let stopped = "import os, termios
termios.tcflow(1, termios.TCOOFF)
os.set_blocking(1, False)
try:
    while True: os.write(1, b'x' * 4096)
except BlockingIOError: pass
";
    let left = "import os, time
print('before', flush=True)
os.closerange(0, 3)
time.sleep(0.3)
terminal = os.open('/dev/tty', os.O_RDWR)
os.write(terminal, b'after ' + os.read(terminal, 100))
os._exit(7)
";
    let hung_up = "import fcntl, os, signal, termios
signal.signal(signal.SIGHUP, lambda *_: os._exit(7))
fcntl.ioctl(0, termios.TIOCNOTTY)
signal.pause()
";
    for (source, code, said) in
        [(stopped, 0, ""), (left, 7, "before\r\nx\r\nafter x\r\n"), (hung_up, 7, "x\r\n")]
    {
        let begin = Instant::now();
        let job = on_a_terminal(python(source));
        let measured = talk(job, async |talk: &mut Talk| {
            if source == left {
                talk.hear("before").await;
            }
            talk.send("x\n").await;
            if source != stopped {
                assert_eq!(talk.rest().await, said.trim_start_matches("before"), "{source}");
            }
        })
        .await;
        assert_eq!(measured.end, End::Exited(code), "{source}");
        assert!(begin.elapsed() < Duration::from_secs(5), "{source}");
    }
}

#[tokio::test]
async fn a_line_that_is_not_over_does_not_keep_input_open() {
    for typed in ["", "a", "a\n", "a\r"] {
        let mut cat = on_a_terminal(job(&["/usr/bin/cat"]));
        cat.stdin = Blob::from(typed);
        let begin = Instant::now();
        let measured = talk(cat, async |talk: &mut Talk| {
            talk.input.send(Input::End).await.unwrap();
            talk.rest().await;
        })
        .await;
        assert_eq!(measured.end, End::Exited(0), "{typed:?}");
        assert!(begin.elapsed() < Duration::from_secs(5), "{typed:?}");
    }
}

#[tokio::test]
async fn what_is_typed_to_a_terminal_that_nobody_has_open_takes_no_processor_time_of_ours() {
    let source = "import os, time, tty
tty.setraw(0)
os.closerange(0, 3)
time.sleep(0.3)
os.open('/dev/tty', os.O_RDWR)
time.sleep(1.5)
";
    let before = own_cpu_time();
    let measured = talk(on_a_terminal(python(source)), async |talk: &mut Talk| {
        // More than it takes.
        for _ in 0..4 {
            talk.send(&"x".repeat(60_000)).await;
        }
    })
    .await;
    assert_eq!(measured.end, End::Exited(0));
    let spent = own_cpu_time() - before;
    assert!(spent < Duration::from_millis(700), "{spent:?}");
}

/// Of this thread, which runs all of a test.
fn own_cpu_time() -> Duration {
    let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
    clock.now().unwrap().into()
}

#[tokio::test]
async fn signals_without_end_do_not_keep_the_answer_of_a_job_from_being_read() {
    let source = "import os, signal
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
for n in range(8):
    open(str(n), 'wb').write(os.urandom(500_000))
print('up', flush=True)
import time; time.sleep(0.5)
";
    let mut files = python(source);
    files.take = (0..8).map(|n| n.to_string()).collect();
    let begin = Instant::now();
    let measured = talk(files, async |talk: &mut Talk| {
        talk.hear("up").await;
        while talk.input.send(Input::Signal { signal: InputSignal::Usr1 }).await.is_ok() {}
    })
    .await;
    assert_eq!(measured.end, End::Exited(0));
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    assert_eq!(measured.taken.iter().filter(|taken| taken.content.is_ok()).count(), 8);
}
