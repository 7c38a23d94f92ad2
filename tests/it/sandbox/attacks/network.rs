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
            "raw EPERM",
            "own loopback ok",
        ]
    );
}
