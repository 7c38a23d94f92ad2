//! The HTTP API: thin handlers over [`Handle`] and [`Catalog`], described by OpenAPI 3.0.
//!
//! ```text
//!  server.rs         connections: how many, how long
//!  front/            every request: origin, body limit, problems, metrics
//!    submissions.rs  send, read, list, cancel, delete
//!    events.rs       follow, event by event
//!    attach.rs       talk to its program
//!    raw.rs          the original's interface: source in, output out
//!    service.rs      languages, workers, figures, health
//!    requests.rs     large requests and calls, for nodes
//!      body.rs params.rs   what comes in          types/   the shapes, with their documentation
//!      validate.rs         DTO -> engine          convert.rs   engine -> DTO
//!      answer.rs encode.rs large output, piece by piece
//!  ui.rs            the pages, as files
//!  document.rs       the OpenAPI description and /docs
//!  problem.rs        whatever goes wrong
//! ```
//!
//! `cli/serve.rs` starts it. It knows nothing of backends, and touches no file.

mod answer;
mod attach;
pub mod body;
pub mod convert;
pub mod cursor;
pub mod document;
mod encode;
mod events;
mod files;
mod front;
pub mod params;
pub mod problem;
mod raw;
mod requests;
mod service;
mod submissions;
pub mod types;
mod ui;
pub mod validate;

use std::{collections::BTreeMap, sync::Arc};

use poem::{
    Endpoint, EndpointExt, Response, Route,
    endpoint::{make, make_sync},
    http::header,
};
use poem_openapi::{OpenApiService, Tags};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    dispatcher::{Handle, PartStatus},
    language::Catalog,
    protocol::RequestSecret,
    submission::Owner,
};

pub use front::{FrontSettings, MetricsText, Observe, is_loopback_name};

/// Says how parts outside of the daemon are, by name. Submissions are taken without them.
pub type Neighbours = Arc<dyn Fn() -> BTreeMap<&'static str, PartStatus> + Send + Sync>;

/// What the handlers work with. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    /// The dispatcher.
    pub handle: Handle,
    /// The languages.
    pub catalog: Catalog,
    /// What the addresses of large requests are made from.
    pub secret: RequestSecret,
    /// How the parts are that the dispatcher does not know, such as Consul; asked at each look at whether
    /// the daemon is ready.
    pub neighbours: Neighbours,
    /// Places for those who follow submissions: each holds a connection for as long as it likes.
    pub followers: Arc<Semaphore>,
    /// Cancelled when the daemon begins to end: nothing new is taken, and nobody waits any more.
    pub draining: CancellationToken,
}

impl Engine {
    /// Whom a request belongs to.
    fn owner(&self) -> Owner {
        Owner::anonymous()
    }

    /// The id of a language that a client named by its id or an alias; else what it named.
    fn language_id(&self, named: String) -> String {
        self.catalog.get(&named).map_or(named, |entry| entry.definition.id.clone())
    }
}

/// The groups of operations, as `/docs` shows them.
#[derive(Tags)]
enum Tag {
    /// Programs that are sent, run and answered.
    Submissions,
    /// Languages, workers and figures.
    Service,
    /// Source in, output out: for shells and for clients of the original engine.
    Raw,
    /// For load balancers and Prometheus.
    Health,
}

type Apis = (
    submissions::SubmissionsApi,
    events::EventsApi,
    files::FilesApi,
    service::ServiceApi,
    raw::RawApi,
    ui::UiApi,
);

fn service() -> OpenApiService<Apis, ()> {
    let apis = (
        submissions::SubmissionsApi,
        events::EventsApi,
        files::FilesApi,
        service::ServiceApi,
        raw::RawApi,
        ui::UiApi,
    );
    OpenApiService::new(apis, "braindrill", env!("CARGO_PKG_VERSION"))
}

/// The whole API, as one endpoint.
pub fn endpoint(engine: Engine, settings: FrontSettings) -> impl Endpoint<Output = Response> {
    let document = document::Document::new();
    let operations = front::Operations::of(&document);
    let catalog = engine.catalog.clone();
    let metrics = settings.metrics.clone();
    let fixed = |content_type: &'static str, text: String| {
        make_sync(move |_| Response::builder().content_type(content_type).body(text.clone()))
    };
    let html = document.swagger_ui();
    let docs = make_sync(move |_| {
        Response::builder()
            .content_type("text/html; charset=utf-8")
            .header(header::CONTENT_SECURITY_POLICY, document::DOCS_POLICY)
            .body(html.clone())
    });
    let routes = Route::new()
        .at("/docs", poem::get(docs))
        .at("/openapi.json", poem::get(fixed("application/json", document.json())))
        .at("/openapi.yaml", poem::get(fixed("application/yaml", document.yaml())))
        .at(attach::ROUTE, poem::get(make(attach::attach)))
        .at(requests::route(), poem::get(make(requests::answer)).post(make(requests::call)))
        .nest("/", service())
        .data(engine)
        .data(metrics);
    front::Front::new(routes, operations, catalog, settings)
}
