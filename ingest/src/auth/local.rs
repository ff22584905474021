//! The guard of a server without keys. It listens on loopback, yet a page in the user's own browser can
//! reach loopback too: by a host name that resolves to it (DNS rebinding), or by a cross-site form post.

use axum::http::{HeaderMap, HeaderValue, header, uri::Authority};

/// Why a request to a server without keys is turned away; `None` if it may pass.
///
/// Browsers always send `Host`, and `Origin` with every cross-site post; programs that send neither pass.
pub fn refusal(headers: &HeaderMap) -> Option<&'static str> {
    let host = headers.get(header::HOST).map(authority);
    if let Some(host) = &host
        && !host.as_ref().is_some_and(|host| is_loopback_name(host.host()))
    {
        return Some(
            "without API keys this server answers on this machine only, as localhost, 127.0.0.1 or [::1]; \
             configure a key to reach it by another name",
        );
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        let same = origin.is_some_and(|(_, origin)| {
            host.flatten().is_some_and(|host| host.as_str().eq_ignore_ascii_case(origin))
        });
        if !same {
            return Some("without API keys this server takes no requests from pages of other origins");
        }
    }
    None
}

fn authority(value: &HeaderValue) -> Option<Authority> {
    Authority::try_from(value.as_bytes()).ok()
}

/// Whether a host name, without its port, can only mean this machine.
pub fn is_loopback_name(host: &str) -> bool {
    let name = host.to_ascii_lowercase();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost"
        || name.ends_with(".localhost")
        || address.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(host: Option<&str>, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(host) = host {
            headers.insert(header::HOST, host.parse().unwrap());
        }
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        refusal(&headers).is_none()
    }

    #[test]
    fn local_names_pass() {
        for host in
            ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "127.8.8.8", "[::1]:8080", "tips.localhost:1"]
        {
            assert!(asked(Some(host), None), "{host}");
        }
        assert!(asked(None, None));
        assert!(asked(Some("localhost:8080"), Some("http://localhost:8080")));
    }

    #[test]
    fn other_names_and_foreign_pages_do_not() {
        for host in
            ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8080", "10.0.0.1", "", "a b"]
        {
            assert!(!asked(Some(host), None), "{host}");
        }
        for origin in
            ["http://evil.example", "null", "http://localhost:3000", "http://localhost.evil.example:8080"]
        {
            assert!(!asked(Some("localhost:8080"), Some(origin)), "{origin}");
        }
        assert!(!asked(None, Some("http://evil.example")));
    }
}
