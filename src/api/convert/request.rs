//! The request of a submission, as it could be sent again.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{api::types as dto, submission as core};

/// The request as it could be sent again, with every default filled in.
pub fn request(request: core::SubmissionRequest) -> dto::SubmissionRequest {
    let files: Vec<_> = request.files.into_iter().map(source_file).collect();
    let limits = request.limits;
    dto::SubmissionRequest {
        language: request.language,
        source: request.source,
        files: (!files.is_empty()).then_some(files),
        entrypoint: Some(request.entrypoint),
        stdin: Some(request.stdin),
        args: Some(request.args),
        env: Some(request.env),
        compile_args: Some(request.compile_args),
        limits: Some(self::limits(limits)),
        tests: Some(request.tests.into_iter().map(test).collect()),
        stop_on_failure: Some(request.stop_on_failure),
        priority: Some(u64::from(request.priority)),
        collect: (!request.collect.is_empty()).then_some(request.collect),
        interactive: request.interactive.map(|_| true),
        tty: (request.interactive == Some(core::Interactive::Tty)).then_some(true),
    }
}

fn source_file(file: core::SourceFile) -> dto::SourceFile {
    let (content, encoding) = match (file.encoding, std::str::from_utf8(&file.content)) {
        (core::Encoding::Utf8, Ok(text)) => (text.to_owned(), dto::Encoding::Utf8),
        _ => (STANDARD.encode(&file.content[..]), dto::Encoding::Base64),
    };
    dto::SourceFile { path: file.path, content, encoding: Some(encoding) }
}

pub(super) fn limits(limits: core::Limits) -> dto::Limits {
    dto::Limits {
        cpu_time_ms: Some(limits.cpu_time_ms),
        wall_time_ms: Some(limits.wall_time_ms),
        memory_bytes: Some(limits.memory_bytes),
        processes: Some(limits.processes),
        output_bytes: Some(limits.output_bytes),
        disk_bytes: Some(limits.disk_bytes),
    }
}

fn test(test: core::Test) -> dto::Test {
    dto::Test {
        name: Some(test.name),
        stdin: Some(test.stdin),
        args: Some(test.args),
        expected_output: test.expected_output,
        checker: Some(checker(test.checker)),
        points: Some(test.points),
    }
}

fn checker(checker: core::Checker) -> dto::Checker {
    let of_type = |r#type| dto::Checker { r#type, ..dto::Checker::default() };
    match checker {
        core::Checker::Tokens => of_type(dto::CheckerType::Tokens),
        core::Checker::Exact => of_type(dto::CheckerType::Exact),
        core::Checker::Lines => of_type(dto::CheckerType::Lines),
        core::Checker::Float { abs, rel } => {
            dto::Checker { abs: Some(abs), rel: Some(rel), ..of_type(dto::CheckerType::Float) }
        }
        core::Checker::Custom { language, source } => dto::Checker {
            language: Some(language),
            source: Some(source),
            ..of_type(dto::CheckerType::Custom)
        },
    }
}
