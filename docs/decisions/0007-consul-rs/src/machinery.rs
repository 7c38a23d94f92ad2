//! A Consul of our own, a listener between it and the crate, and plain HTTP for what the crate is
//! not to do itself.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

pub const MASTER: &str = "11111111-2222-3333-4444-555555555555";

/// An agent in dev mode, killed when dropped.
pub struct Agent {
    child: Child,
    pub address: String,
}

impl Agent {
    pub fn start(acl: bool) -> Agent {
        let held: Vec<_> = (0..4).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<_> = held.iter().map(|each| each.local_addr().unwrap().port()).collect();
        drop(held);
        let more = if acl {
            format!(
                r#","acl":{{"enabled":true,"default_policy":"deny","tokens":{{"master":"{MASTER}"}}}}"#
            )
        } else {
            String::new()
        };
        let config = format!(
            r#"{{"node_name":"here","ports":{{"http":{},"server":{},"serf_lan":{},"serf_wan":{},"grpc":-1,"dns":-1}}{more}}}"#,
            ports[0], ports[1], ports[2], ports[3]
        );
        let child = Command::new("consul")
            .args(["agent", "-dev", "-bind", "127.0.0.1", "-hcl", &config])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("consul is on PATH");
        let agent = Agent { child, address: format!("127.0.0.1:{}", ports[0]) };
        let ready =
            within(60, || agent.http("GET", "/v1/health/service/consul", "").1.contains("serf"));
        assert!(ready, "Consul is not ready");
        agent
    }

    /// Status line and the rest, asked with the master token.
    pub fn http(&self, method: &str, path: &str, body: &str) -> (String, String) {
        let request = format!(
            "{method} {path} HTTP/1.0\r\nX-Consul-Token: {MASTER}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut answer = String::new();
        if let Ok(mut stream) = TcpStream::connect(&self.address) {
            let _ = stream.write_all(request.as_bytes());
            let _ = stream.read_to_string(&mut answer);
        }
        let (head, rest) = answer.split_once("\r\n").unwrap_or_default();
        (head.to_owned(), rest.to_owned())
    }

    pub fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop();
    }
}

/// One connection: what the crate sent and what Consul answered.
#[derive(Clone, Default)]
pub struct Exchange {
    pub sent: String,
    pub answered: String,
}

impl Exchange {
    /// A header of the answer or of the request, in small letters.
    pub fn header<'a>(text: &'a str, name: &str) -> Option<&'a str> {
        let head = text.split("\r\n\r\n").next()?;
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// What comes last: before it may be a `100 Continue`.
    pub fn body(text: &str) -> &str {
        text.rsplit_once("\r\n\r\n").map_or("", |(_, body)| body)
    }
}

/// Listens to what goes between the crate and Consul.
pub struct Between {
    pub address: String,
    seen: Arc<Mutex<Vec<Arc<Mutex<Exchange>>>>>,
}

impl Between {
    pub fn here_and(server: &str) -> Between {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Arc<Mutex<Exchange>>>>> = Arc::default();
        let (all, server) = (seen.clone(), server.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().map(Result::unwrap) {
                let Ok(upstream) = TcpStream::connect(&server) else { continue };
                let exchange = Arc::<Mutex<Exchange>>::default();
                all.lock().unwrap().push(exchange.clone());
                let (to, from) = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
                let log = exchange.clone();
                thread::spawn(move || copy(from, to, |text| log.lock().unwrap().sent += text));
                thread::spawn(move || {
                    copy(upstream, client, |text| exchange.lock().unwrap().answered += text)
                });
            }
        });
        Between { address, seen }
    }

    pub fn all(&self) -> Vec<Exchange> {
        self.seen.lock().unwrap().iter().map(|each| each.lock().unwrap().clone()).collect()
    }

    pub fn last(&self) -> Exchange {
        self.all().pop().unwrap_or_default()
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, log: impl Fn(&str)) {
    let mut buffer = [0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        log(&String::from_utf8_lossy(&buffer[..read]));
        // So that answers can be read here: compression is asked for under no name that Consul knows.
        let asked = buffer[..read].to_ascii_lowercase();
        if let Some(at) = asked.windows(18).position(|part| part == b"\r\naccept-encoding:") {
            buffer[at + 2] = b'x';
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}

/// Whether it holds within that many seconds.
pub fn within(seconds: u64, mut holds: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while !holds() {
        if begun.elapsed() > Duration::from_secs(seconds) {
            return false;
        }
        thread::sleep(Duration::from_millis(50));
    }
    true
}
