//! Files of the work directory that a submission asked for.

use std::io;

use futures_util::{Stream, TryStreamExt as _, stream};
use poem::{Body, IntoResponse, Response, http::header, web::Data};
use poem_openapi::{
    ApiResponse, OpenApi,
    param::{Path, Query},
    payload::{Binary, Payload as _},
    registry::{MetaResponses, Registry},
};
use uuid::Uuid;

use super::{
    Engine, Tag,
    answer::{IsRead, Turn, turn},
    problem::Failure,
};
use crate::{store::FileReader, submission::SubmissionId};

/// The operation that reads a file.
pub(super) struct FilesApi;

#[OpenApi(tag = "Tag::Submissions")]
impl FilesApi {
    /// Read a file
    ///
    /// A file of the work directory that was named in `collect`, or lies in a folder that was, as the program
    /// left it. Which there are is in the outcome's `files`. Whatever it holds, its content type says
    /// nothing of it: it is what a stranger's program wrote.
    #[oai(path = "/v1/submissions/:id/files", method = "get", operation_id = "getFile")]
    async fn file(
        &self,
        Data(engine): Data<&Engine>,
        /// The id of the submission.
        id: Path<Uuid>,
        /// The path of the file, as it stands in the outcome's `files`.
        path: Query<String>,
    ) -> Result<RawFile, Failure> {
        let id = SubmissionId::from_uuid(id.0);
        let (reader, bytes) = engine.handle.file(&engine.owner(), id, &path.0).await?;
        Ok(RawFile { reader, bytes, turn: turn().await? })
    }
}

/// A file as a program wrote it.
struct RawFile {
    reader: FileReader,
    bytes: u64,
    turn: Turn,
}

impl IntoResponse for RawFile {
    fn into_response(self) -> Response {
        let RawFile { reader, bytes, turn } = self;
        Response::builder()
            .content_type(Binary::<Vec<u8>>::CONTENT_TYPE)
            .header(header::CONTENT_LENGTH, bytes)
            .extension(IsRead)
            .body(Body::from_bytes_stream(pieces(reader, turn)))
    }
}

/// What it holds, as it is read; its turn is given back at the end.
fn pieces(
    reader: FileReader,
    turn: Turn,
) -> impl Stream<Item = io::Result<bytes::Bytes>> + Send + 'static {
    let read = stream::try_unfold((reader, turn), async |(mut reader, turn)| {
        // The client sees that the answer is cut off, and the log has why.
        match reader.next().await {
            Ok(read) => Ok(read.map(|pieces| (pieces, (reader, turn)))),
            Err(error) => {
                tracing::warn!(%error, "a file could not be read to its end");
                Err(io::Error::other("the file cannot be read to its end"))
            }
        }
    });
    read.map_ok(|pieces| stream::iter(pieces.into_iter().map(Ok))).try_flatten()
}

impl ApiResponse for RawFile {
    fn meta() -> MetaResponses {
        Binary::<Vec<u8>>::meta()
    }

    fn register(_: &mut Registry) {}
}
