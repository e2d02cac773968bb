//! Every path and method, in one table, and what holds for all of them: the token, the longest body, errors as problems.

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post, put};

use crate::admin::problem::Problem;
use crate::admin::{
    Admin, events, hints, openapi, reload, status, subscriptions, token, transports,
};
use crate::config::limits;

/// The longest body of a request for one hint.
const HINT_BYTES: usize = 65_536;

/// One method of one path.
pub(super) struct Route {
    /// In lower case, as OpenAPI writes it; for the test that compares the two.
    #[cfg(test)]
    pub method: &'static str,
    pub path: &'static str,
    handler: fn() -> MethodRouter<Admin>,
}

macro_rules! routes {
    ($( $method:ident $path:literal => $handler:path $(, at most $bytes:expr)? ; )*) => {
        &[ $( Route {
            #[cfg(test)]
            method: stringify!($method),
            path: $path,
            handler: || $method($handler) $( .layer(DefaultBodyLimit::max($bytes)) )?,
        }, )* ]
    };
}

/// All of them.
pub(super) const ROUTES: &[Route] = routes! {
    get "/v1/hints" => hints::list;
    post "/v1/hints" => hints::bulk, at most limits::HTTP_BODY_BYTES;
    get "/v1/hints/{resource}" => hints::get;
    put "/v1/hints/{resource}" => hints::put, at most HINT_BYTES;
    delete "/v1/hints/{resource}" => hints::delete;
    get "/v1/events" => events::stream;
    get "/v1/subscriptions" => subscriptions::list;
    get "/v1/status" => status::status;
    get "/v1/transports" => transports::list;
    post "/v1/reload" => reload::reload;
    get "/v1/openapi.json" => openapi::document;
    get "/metrics" => status::metrics;
    get "/healthz" => status::healthz;
    get "/readyz" => status::readyz;
};

/// Paths that say nothing about anybody, and that watchdogs ask without a token.
pub(super) const OPEN: [&str; 2] = ["/healthz", "/readyz"];

/// The service.
pub(super) fn router(admin: Admin) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        router = router.route(route.path, (route.handler)());
    }
    router
        .fallback(|request: Request| async move {
            Problem::not_found(format!(
                "{} is no path of this server",
                request.uri().path()
            ))
        })
        .layer(from_fn(with_problems))
        .layer(from_fn_with_state(admin.clone(), token::demand))
        .with_state(admin)
}

/// What axum refuses by itself becomes a problem as well.
async fn with_problems(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    let problem = match response.status() {
        StatusCode::METHOD_NOT_ALLOWED => Problem::method(format!(
            "{path} has other methods: the Allow header names them"
        )),
        StatusCode::PAYLOAD_TOO_LARGE if is_plain(&response) => {
            Problem::too_large(format!("the body is longer than {path} takes"))
        }
        StatusCode::BAD_REQUEST if is_plain(&response) => {
            Problem::invalid("the path or the body cannot be read")
        }
        _ => return response,
    };
    problem.into_response()
}

/// Not one of our own problems.
fn is_plain(response: &Response) -> bool {
    let kind = response.headers().get("content-type");
    kind.is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"))
}
