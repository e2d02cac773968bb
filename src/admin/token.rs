//! Who may use the admin port: whoever brings the token, compared in a time that tells nothing about it;
//! where there is none, whoever can reach it, but for web pages.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use crate::admin::Admin;
use crate::admin::problem::Problem;
use crate::admin::routes::OPEN;

/// Lets a request through, or answers 401.
pub async fn demand(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let open = OPEN.contains(&request.uri().path());
    match &admin.changeable().token {
        Some(token) if !open && !carries(request.headers(), token) => {
            Problem::unauthorized().into_response()
        }
        None if !open && !names_us(request.headers()) => Problem::other_host().into_response(),
        Some(_) | None => next.run(request).await,
    }
}

/// Whether `Host` is an address or `localhost`. Without a token this is what keeps web pages away: a page whose
/// name its owner has let point to this machine says that name.
fn names_us(headers: &HeaderMap) -> bool {
    let Some(host) = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
    else {
        return false;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || address.parse::<core::net::IpAddr>().is_ok()
}

fn carries(headers: &HeaderMap, token: &str) -> bool {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return false;
    };
    let Some((scheme, given)) = value.as_bytes().split_at_checked(7) else {
        return false;
    };
    scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(given.ct_eq(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_token_only_addresses_and_localhost_are_us() {
        let names_us = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().expect("a header"));
            super::names_us(&headers)
        };
        for host in [
            "127.0.0.1:8060",
            "localhost",
            "LocalHost:8060",
            "[::1]:8060",
            "[::1]",
        ] {
            assert!(names_us(host), "{host}");
        }
        for host in [
            "lamps.example.com",
            "evil.example:8060",
            "localhost.evil.example",
            "",
        ] {
            assert!(!names_us(host), "{host}");
        }
        assert!(!super::names_us(&HeaderMap::new()));
    }

    #[test]
    fn only_the_whole_token_opens() {
        let carries = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().expect("a header"));
            super::carries(&headers, "0123456789abcdef")
        };
        assert!(carries("Bearer 0123456789abcdef"));
        assert!(carries("bearer 0123456789abcdef"));
        for wrong in [
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdef0",
            "Bearer ",
            "",
            "Basic x",
        ] {
            assert!(!carries(wrong), "{wrong}");
        }
        assert!(!super::carries(&HeaderMap::new(), "0123456789abcdef"));
    }
}
