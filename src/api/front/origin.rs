//! Who may ask: what a page of another site has a browser ask is refused.

use std::net::IpAddr;

use poem::{
    Request,
    http::{HeaderMap, Method, header},
};

use crate::api::problem::{Failure, Kind};

/// Whether a host, without its port, is a name of the machine itself.
pub fn is_loopback_name(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = host.strip_suffix('.').unwrap_or(host);
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => {
            let name = host.to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

/// Refuses what a page of another site has a browser ask: by the name in `Host` where only names of
/// this machine are right, and by `Origin` where something would change.
pub(super) fn check_origin(request: &Request, loopback_names_only: bool) -> Result<(), Failure> {
    let host = host(request);
    let is_foreign = |host: &str| !is_loopback_name(without_port(host));
    if loopback_names_only && host.is_some_and(is_foreign) {
        let detail = "the Host header names another machine, and this daemon listens on loopback \
                      alone";
        return Err(Failure::new(Kind::ForbiddenOrigin, detail));
    }
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
        // Browsers let any page open a WebSocket anywhere, and read what comes.
        || request.headers().contains_key(header::UPGRADE);
    let origin = text(request.headers(), header::ORIGIN);
    if let Some(origin) = origin.filter(|_| changes) {
        let of_origin = origin.split_once("://").map(|(_, authority)| authority);
        let same = matches!((of_origin, host), (Some(a), Some(b)) if a.eq_ignore_ascii_case(b));
        if !same {
            let detail = "the request comes from a page of another site";
            return Err(Failure::new(Kind::ForbiddenOrigin, detail));
        }
    }
    Ok(())
}

/// The text of a header; empty where it is no ASCII.
pub(super) fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).map(|value| value.to_str().unwrap_or_default())
}

fn host(request: &Request) -> Option<&str> {
    let authority = request.uri().authority().map(|authority| authority.as_str());
    authority.or_else(|| text(request.headers(), header::HOST))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            // `::1` without brackets is all address.
            if name.contains(':') && !name.ends_with(']') { host } else { name }
        }
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method, host: &str, origin: Option<&str>) -> Request {
        let request = Request::builder().method(method).header(header::HOST, host);
        match origin {
            Some(origin) => request.header(header::ORIGIN, origin).finish(),
            None => request.finish(),
        }
    }

    #[test]
    fn on_loopback_only_its_own_names_may_be_called() {
        for host in [
            "localhost",
            "LOCALHOST:80",
            "a.localhost:1",
            "127.0.0.1:8080",
            "127.9.9.9",
            "[::1]:8080",
            "[::1]",
            "::1",
            "localhost.:80",
        ] {
            assert!(check_origin(&request(Method::GET, host, None), true).is_ok(), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example:80",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "",
            "notlocalhost",
            "[::2]:1",
        ] {
            assert!(check_origin(&request(Method::GET, host, None), true).is_err(), "{host}");
            assert!(check_origin(&request(Method::GET, host, None), false).is_ok(), "{host}");
        }
    }

    #[test]
    fn a_page_of_another_site_may_change_nothing() {
        let host = "run.example:8080";
        let check = |method, origin| check_origin(&request(method, host, Some(origin)), false);
        assert!(check(Method::POST, "http://run.example:8080").is_ok());
        for origin in ["http://evil.example", "http://run.example", "null", ""] {
            assert!(check(Method::POST, origin).is_err(), "{origin}");
            assert!(check(Method::DELETE, origin).is_err(), "{origin}");
            assert!(check(Method::GET, origin).is_ok(), "{origin}");
        }
    }

    #[test]
    fn a_page_of_another_site_may_open_no_websocket() {
        for (origin, may) in [("http://run.example:8080", true), ("http://evil.example", false)] {
            let request = Request::builder()
                .header(header::HOST, "run.example:8080")
                .header(header::ORIGIN, origin)
                .header(header::UPGRADE, "websocket")
                .finish();
            assert_eq!(check_origin(&request, false).is_ok(), may, "{origin}");
        }
    }
}
