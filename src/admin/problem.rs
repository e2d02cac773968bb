//! Errors as `application/problem+json` (RFC 9457).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::admin::ask::AskError;

/// One error: what kind, and what exactly.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    /// The last part of the `type`: stable, for programs.
    kind: &'static str,
    title: &'static str,
    detail: String,
    more: Map<String, Value>,
}

impl Problem {
    fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Problem {
            status,
            kind,
            title,
            detail: detail.into(),
            more: Map::new(),
        }
    }

    /// The request says something that cannot be.
    pub fn invalid(detail: impl Into<String>) -> Self {
        let status = StatusCode::BAD_REQUEST;
        Problem::new(
            status,
            "invalid",
            "The request cannot be understood",
            detail,
        )
    }

    /// There is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Problem::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "There is no such thing",
            detail,
        )
    }

    /// The path exists, but not with this method.
    pub fn method(detail: impl Into<String>) -> Self {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Problem::new(status, "method", "The method is not for this path", detail)
    }

    /// A later change stands already.
    pub fn stale(detail: impl Into<String>) -> Self {
        Problem::new(
            StatusCode::CONFLICT,
            "stale",
            "A later change stands",
            detail,
        )
    }

    /// The body is too long.
    pub fn too_large(detail: impl Into<String>) -> Self {
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        Problem::new(status, "too-large", "The body is too large", detail)
    }

    /// The body is of another type.
    pub fn media_type(detail: impl Into<String>) -> Self {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Problem::new(status, "media-type", "The body is not JSON", detail)
    }

    /// No token, or a wrong one.
    pub fn unauthorized() -> Self {
        Problem::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "A token is needed",
            "send `Authorization: Bearer` with the token of the configuration",
        )
    }

    /// The request is for a host of another name.
    pub fn other_host() -> Self {
        Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            "other-host",
            "This is another host",
            "without a token the server must be named by its address, or as localhost",
        )
    }

    /// A limit of the server.
    pub fn no_room(detail: impl Into<String>) -> Self {
        let status = StatusCode::INSUFFICIENT_STORAGE;
        Problem::new(status, "limit", "A limit is reached", detail)
    }

    /// Not now.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Problem::new(status, "unavailable", "Not available now", detail)
    }

    /// The new configuration needs more than a reload.
    pub fn not_reloadable(detail: impl Into<String>) -> Self {
        let title = "The configuration cannot be reloaded";
        Problem::new(StatusCode::CONFLICT, "not-reloadable", title, detail)
    }

    /// The new configuration has mistakes.
    pub fn wrong_configuration(detail: impl Into<String>) -> Self {
        let title = "The configuration is wrong, and the one before holds";
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Problem::new(status, "wrong-configuration", title, detail)
    }

    /// The request comes from a page in somebody's browser.
    pub fn web_page() -> Self {
        Problem::new(
            StatusCode::FORBIDDEN,
            "web-page",
            "Not for web pages",
            "a request with an Origin header cannot ask for this",
        )
    }

    /// A member of its own.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.more.insert(name.to_owned(), value);
        self
    }

    /// The object of RFC 9457.
    pub fn to_json(&self) -> Value {
        let mut object = json!({
            "type": format!("urn:lampfield:problem:{}", self.kind),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let members = object.as_object_mut().expect("it is an object");
        members.extend(self.more.clone());
        object
    }
}

impl From<AskError> for Problem {
    fn from(error: AskError) -> Self {
        Problem::unavailable(error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.to_json().to_string()).into_response();
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, json);
        if self.status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            headers.insert(header::WWW_AUTHENTICATE, bearer);
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
