//! Ports of 127.0.0.1 for programs that take them by number, and again after they were stopped.

use std::{
    net::{TcpListener, UdpSocket},
    process,
    sync::atomic::{AtomicU16, Ordering},
};

/// Below those from which Linux takes one for a connection (`ip_local_port_range`), of which a run of
/// all tests makes thousands: between a program's end and its next start none of them takes its port.
const FIRST: u16 = 10_000;
const COUNT: u16 = 22_000;

static TRIED: AtomicU16 = AtomicU16::new(0);

/// Ports that nobody listens at now, over TCP or UDP; none is given twice in this process, and
/// processes that run at once begin apart.
pub(crate) fn free<const N: usize>() -> [u16; N] {
    let start = (process::id().wrapping_mul(7919) % u32::from(COUNT)) as u16;
    [(); N].map(|()| {
        (0..COUNT)
            .map(|_| FIRST + (start + TRIED.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT)
            .find(|port| {
                let address = ("127.0.0.1", *port);
                TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
            })
            .expect("there is a free port")
    })
}
