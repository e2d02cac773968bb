//! Who may use the admin port: whoever brings the token, compared in a time that tells nothing about it.

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
    match &admin.token {
        Some(token) if !open && !carries(request.headers(), token) => {
            Problem::unauthorized().into_response()
        }
        Some(_) | None => next.run(request).await,
    }
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
