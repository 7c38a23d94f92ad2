//! The output of programs in answers.

use std::borrow::Cow;

use poem_openapi::{
    Object,
    registry::MetaSchemaRef,
    types::{ParseError, ParseFromJSON, ParseResult, ToJSON, Type},
};
use serde_json::Value;

use super::Encoding;
use crate::store::StoredOutput;

/// What came on an output stream.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
pub struct Output {
    /// The bytes that were kept, written as `encoding` says.
    pub data: OutputData,
    /// `utf8`, or `base64` where the bytes are not UTF-8.
    pub encoding: Encoding,
    /// Whether more had arrived than was kept.
    pub truncated: bool,
    /// How many bytes had arrived, kept or not.
    pub bytes: u64,
}

/// A text in an answer, which is there or is still to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputData {
    /// The text.
    Text(String),
    /// So many bytes of output that is read while the answer is sent. In JSON it is null, which
    /// nothing else in an answer is; `answer.rs` puts the text there.
    Stored(StoredOutput, u64),
}

/// As a string is.
impl Type for OutputData {
    const IS_REQUIRED: bool = true;

    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        String::name()
    }

    fn schema_ref() -> MetaSchemaRef {
        String::schema_ref()
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(self.as_raw_value().into_iter())
    }
}

impl ToJSON for OutputData {
    fn to_json(&self) -> Option<Value> {
        match self {
            OutputData::Text(text) => text.to_json(),
            OutputData::Stored(..) => Some(Value::Null),
        }
    }
}

impl ParseFromJSON for OutputData {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        String::parse_from_json(value).map(OutputData::Text).map_err(ParseError::propagate)
    }
}
