//! The network that is not there.

use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};

use super::*;

// 9: network

#[tokio::test]
async fn there_is_no_network_but_an_own_loopback() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let name = format!("braindrill-test-{port}");
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _abstract = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    let body = format!(
        r#"
import socket
def connect(family, where):
    s = socket.socket(family, socket.SOCK_STREAM); s.settimeout(3); s.connect(where)
attempt("host", lambda: connect(socket.AF_INET, ("127.0.0.1", {port})))
attempt("host6", lambda: connect(socket.AF_INET6, ("::1", {port})))
attempt("metadata", lambda: connect(socket.AF_INET, ("169.254.169.254", 80)))
attempt("outside", lambda: connect(socket.AF_INET, ("192.0.2.1", 80)))
attempt("abstract", lambda: connect(socket.AF_UNIX, "\0{name}"))
attempt("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))
attempt("packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
attempt("vsock", lambda: socket.socket(40, socket.SOCK_STREAM, 0))
def resolve():
    try: socket.getaddrinfo("example.com", 80)
    except socket.gaierror as e: raise OSError(errno.EHOSTUNREACH, str(e))
attempt("names", resolve)
def join(family, level, name, value):
    socket.socket(family, socket.SOCK_DGRAM).setsockopt(level, name, value)
attempt("group", lambda: join(socket.AF_INET, 0, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("224.1.2.3") + socket.inet_aton("127.0.0.1")))
attempt("group6", lambda: join(socket.AF_INET6, 41, socket.IPV6_JOIN_GROUP, socket.inet_pton(socket.AF_INET6, "ff02::1234") + bytes([1, 0, 0, 0])))
attempt("fast open", lambda: socket.socket().setsockopt(6, socket.TCP_FASTOPEN, 1))
attempt("flow label", lambda: join(socket.AF_INET6, 41, 32, bytes(32)))
attempt("multipath", lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262))
attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
a = socket.socket(); a.bind(("127.0.0.1", 0)); a.listen()
attempt("own loopback", lambda: connect(socket.AF_INET, a.getsockname()))
"#
    );
    let seen = lines(attempts(&body)).await;
    assert_eq!(
        seen,
        [
            "host ECONNREFUSED",
            "host6 ECONNREFUSED",
            "metadata ENETUNREACH",
            "outside ENETUNREACH",
            "abstract ECONNREFUSED",
            "netlink EAFNOSUPPORT",
            "packet EAFNOSUPPORT",
            "vsock EAFNOSUPPORT",
            "names EHOSTUNREACH",
            "group ENODEV",
            "group6 ENODEV",
            "fast open ENOPROTOOPT",
            "flow label ENOPROTOOPT",
            "multipath EPROTONOSUPPORT",
            "raw EPERM",
            "own loopback ok",
        ]
    );
}

/// All that /proc/self/net shows of a namespace, and which one that is; without what is the whole machine's.
const VIEW: &str = r#"
import os, re, socket
print(os.readlink('/proc/self/ns/net'))
# TCP_FASTOPEN_KEY
print(socket.socket().getsockopt(6, 33, 32))
for folder, _, names in sorted(os.walk('/proc/self/net')):
    for path in sorted(os.path.join(folder, name) for name in names):
        if re.search('/(softnet_stat|protocols|ptype|netlink|stat/.*|netfilter/.*)$', path): continue
        try: text = open(path).read()
        except OSError as e: text = e.strerror
        print(path[len('/proc/self/net'):], re.sub(' (orphan|alloc|mem) \\d+', '', text))
"#;

/// Ways to use a network, few of which send anything.
const USES: &[&str] = &[
    "pass",
    "s = udp(); s.connect(('127.0.0.1', 9))",
    "s = udp6(); s.connect(('::1', 9))",
    "s = udp(); s.connect(('192.0.2.1', 9))",
    "s = udp6(); s.connect(('2001:db8::1', 9))",
    "s = socket(); s.connect(('192.0.2.1', 9))",
    "s = socket(); s.bind(('127.0.0.1', 4242)); s.listen()",
    "s = udp6(); s.bind(('::1', 4242))",
    // groups, whose joining is reported later
    "s = udp(); s.setsockopt(IPPROTO_IP, IP_ADD_MEMBERSHIP, inet_aton('224.1.2.3') + inet_aton('127.0.0.1'))",
    "s = udp(); s.setsockopt(IPPROTO_IP, 39, inet_aton('232.1.2.3') + 2 * inet_aton('127.0.0.1'))",
    "s = udp6(); s.setsockopt(IPPROTO_IPV6, IPV6_JOIN_GROUP, inet_pton(AF_INET6, 'ff02::1234') + pack('I', 1))",
    "s = udp6(); s.setsockopt(IPPROTO_IPV6, 42, pack('II', 1, 0) + group('ff15::1234'))",
    "s = udp6(); s.setsockopt(IPPROTO_IPV6, 46, pack('II', 1, 0) + group('ff35::1234') + group('::1'))",
    // what is kept for a server's fast opens
    "s = socket(); s.setsockopt(IPPROTO_TCP, TCP_FASTOPEN, 1)",
    // IPV6_FLOWLABEL_MGR: a label for oneself, and one that lingers for a minute
    "s = udp6(); s.setsockopt(IPPROTO_IPV6, 32, inet_pton(AF_INET6, '::1') + pack('>I', 74565) + pack('=BBHHHI', 0, 1, 0, 6, 6, 0))",
    "s = udp6(); s.setsockopt(IPPROTO_IPV6, 32, inet_pton(AF_INET6, '::1') + pack('>I', 74565) + pack('=BBHHHI', 0, 255, 1, 60, 60, 0))",
    "s = socket(AF_UNIX); s.bind('\\0left'); s.listen()",
    // a cycle of sockets in flight, which the kernel collects when it likes to, with a port in it
    "x, y = socketpair(); u = udp(); u.bind(('127.0.0.1', 4242)); x.sendmsg([b'x'], [(SOL_SOCKET, SCM_RIGHTS, array('i', [y.fileno(), u.fileno()]))])",
    // the same without a cycle
    "x, y = socketpair(); u = udp(); u.bind(('127.0.0.1', 4242)); x.sendmsg([b'x'], [(SOL_SOCKET, SCM_RIGHTS, array('i', [u.fileno()]))])",
    "s = socket(AF_INET, SOCK_STREAM, 262); s.bind(('127.0.0.1', 4242)); s.listen()",
    "s = socket(AF_INET, SOCK_DGRAM, 136); s.bind(('127.0.0.1', 4242))",
    "udp().sendto(b'x', ('127.0.0.1', 9))",
    "udp6().sendto(b'x', ('::1', 9))",
    // the server's port lingers
    "s = socket(); s.bind(('127.0.0.1', 4242)); s.listen(); c = create_connection(s.getsockname()); d, _ = s.accept(); d.close(); s.close(); c.close()",
];

#[tokio::test]
async fn nothing_of_a_network_is_left_for_the_next_run_whatever_was_done_with_it() {
    let sandbox = sandbox().await;
    let view = async || {
        let ran = run(&sandbox, python(VIEW)).await.unwrap();
        assert_eq!(ran.stderr, "");
        let (name, rest) = ran.stdout.split_once('\n').unwrap();
        (name.to_owned(), rest.to_owned())
    };
    let (first, fresh) = view().await;
    assert!(fresh.contains("/snmp ") && fresh.contains("lo:"), "{fresh}");
    // One that nobody has used is used again, where the launcher has them.
    let is_lent = nix::unistd::geteuid().is_root();
    assert_eq!(view().await.0 == first, is_lent);
    for used in USES {
        let source = format!(
            "from socket import *\nfrom struct import pack\nfrom array import array\n\
             group = lambda g: pack('=HHI', 10, 0, 0) + inet_pton(AF_INET6, g) + bytes(104)\n\
             udp = lambda: socket(AF_INET, SOCK_DGRAM)\nudp6 = lambda: socket(AF_INET6, SOCK_DGRAM)\n\
             try:\n    {used}\nexcept OSError as e: print(e.strerror)\n"
        );
        let ran = run(&sandbox, python(&source)).await.unwrap();
        assert_eq!(ran.stderr, "", "{used}");
        let (_, seen) = view().await;
        let changed: Vec<_> = seen.lines().filter(|line| !fresh.contains(line)).collect();
        assert_eq!(changed, Vec::<&str>::new(), "after {used}");
        assert_eq!(seen, fresh, "after {used}");
        let bind =
            "import socket\nfor kind in (1, 2): socket.socket(2, kind).bind(('127.0.0.1', 4242))";
        assert_eq!(run(&sandbox, python(bind)).await.unwrap().stderr, "", "after {used}");
    }
    // What is reported later would be within a second.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(view().await.1, fresh);
}
