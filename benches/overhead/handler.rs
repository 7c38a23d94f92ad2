//! `POST /v1/submissions` as the daemon has it, read, checked and answered alike, but nothing is stored
//! and nobody is woken: what HTTP and JSON cost.

use std::net::TcpListener;

use anyhow::Result;
use braindrill::{
    api::{body::JsonBody, convert, types, validate},
    dispatcher::View,
    language::Catalog,
    submission::{Clock as _, Owner, Submission, SubmissionId, SystemClock},
};
use poem::{EndpointExt as _, Route, Server, listener::TcpAcceptor, web::Data};
use poem_openapi::{ApiResponse, OpenApi, OpenApiService, payload::Json};

/// What makes the benchmark this handler, as an argument.
pub(crate) const WORD: &str = "handler-without-a-store";

struct Api;

#[derive(ApiResponse)]
enum Created {
    #[oai(status = 201)]
    Created(Json<Box<types::Submission>>, #[oai(header = "Location")] String),
    #[oai(status = 422)]
    Invalid,
}

#[OpenApi]
impl Api {
    #[oai(path = "/v1/submissions", method = "post")]
    async fn create(
        &self,
        catalog: Data<&Catalog>,
        body: JsonBody<types::SubmissionRequest>,
    ) -> Created {
        let Ok(request) = validate::validate(body.0, *catalog) else { return Created::Invalid };
        let now = SystemClock.now();
        let (id, owner) = (SubmissionId::new(now), Owner::anonymous());
        let submission = Submission::queued(id, owner, request, now);
        let location = format!("/v1/submissions/{}", submission.id);
        let view = View { submission, outputs: Vec::new(), both: Vec::new() };
        Created::Created(Json(Box::new(convert::submission(view))), location)
    }
}

/// Serves until it is killed; says its address in a line.
pub(crate) async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    listener.set_nonblocking(true)?;
    let app =
        Route::new().nest("/", OpenApiService::new(Api, "handler", "1")).data(Catalog::load(None)?);
    let acceptor = TcpAcceptor::from_std(listener)?;
    Server::new_with_acceptor(acceptor).run(app).await?;
    Ok(())
}
