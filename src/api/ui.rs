//! The pages: what `ui/` builds, embedded in the binary. They use the API like any other client.

use poem::{
    IntoResponse, Request, Response,
    http::{HeaderValue, StatusCode, header},
};
use poem_openapi::{
    ApiResponse, OpenApi,
    param::Path,
    registry::{MetaResponses, Registry},
};

use super::problem::Failure;

/// What `make ui` built, or nothing: the binary is whole without it.
#[derive(rust_embed::Embed)]
#[folder = "ui/dist/app"]
#[allow_missing = true]
struct Built;

/// What the pages may load: files of their own, and the API.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; \
                      require-trusted-types-for 'script'";

/// Stands where the pages are not built.
const NOT_BUILT: &str = include_str!("ui/not_built.html");
/// What that page may load: the style that stands in it.
const NOT_BUILT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; \
                                frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// Where the pages are, and the files that they load.
pub(super) const PATHS: [&str; 3] = ["/", "/ops", "/assets/{file}"];

/// The operations that hand the pages out. They are none of the API's, so its description has none of them.
pub(super) struct UiApi;

#[OpenApi]
impl UiApi {
    #[oai(path = "/", method = "get", hidden)]
    async fn playground(&self, request: &Request) -> Page {
        Page(answer_page(request, "index.html"))
    }

    #[oai(path = "/ops", method = "get", hidden)]
    async fn operation(&self, request: &Request) -> Page {
        Page(answer_page(request, "ops.html"))
    }

    #[oai(path = "/assets/:file", method = "get", hidden)]
    async fn asset(&self, request: &Request, file: Path<String>) -> Page {
        Page(asset(request, &file.0))
    }
}

/// An answer as it is.
struct Page(Response);

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        self.0
    }
}

impl ApiResponse for Page {
    fn meta() -> MetaResponses {
        MetaResponses { responses: Vec::new() }
    }

    fn register(_: &mut Registry) {}
}

fn answer_page(request: &Request, name: &str) -> Response {
    let (mut response, policy) = match Built::get(name) {
        Some(file) => (content(request, &file, "text/html; charset=utf-8"), POLICY),
        None => {
            let html = Response::builder().content_type("text/html; charset=utf-8");
            (html.body(NOT_BUILT), NOT_BUILT_POLICY)
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // Its files have names of their own for each build; the page says which they are.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn asset(request: &Request, name: &str) -> Response {
    let Some(file) = Built::get(&format!("assets/{name}")) else {
        return Failure::not_found().into_response();
    };
    let mut response = content(request, &file, content_type(name));
    let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
    response.headers_mut().insert(header::CACHE_CONTROL, forever);
    response
}

/// A file, or that it is the one which the browser has.
fn content(request: &Request, file: &rust_embed::EmbeddedFile, content_type: &str) -> Response {
    let tag = format!("\"{}\"", blake3::Hash::from(file.metadata.sha256_hash()).to_hex());
    let has = request.headers().get(header::IF_NONE_MATCH);
    let response = if has.is_some_and(|has| has.as_bytes() == tag.as_bytes()) {
        Response::builder().status(StatusCode::NOT_MODIFIED).finish()
    } else {
        Response::builder().content_type(content_type).body(file.data.to_vec())
    };
    response.with_header(header::ETAG, tag).into_response()
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
