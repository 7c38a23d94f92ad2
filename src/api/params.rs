//! Parameters that the framework has no type for: whole numbers with bounds, and idempotency keys.

use std::borrow::Cow;

use poem::{Request, RequestBody};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaParamIn, MetaSchema, MetaSchemaRef, Registry},
    types::{ParseError, ParseFromParameter, ParseResult, Type},
};

use super::{
    body::shorten,
    problem::{Failure, FieldError},
};

/// Most characters of an idempotency key.
const MAX_KEY: usize = 255;

/// A whole number from `MIN` to `MAX`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole<const MIN: u32, const MAX: u32>(pub u32);

impl<const MIN: u32, const MAX: u32> Type for Whole<MIN, MAX> {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        format!("whole number from {MIN} to {MAX}").into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema {
            minimum: Some(f64::from(MIN)),
            maximum: Some(f64::from(MAX)),
            ..MetaSchema::new("integer")
        }))
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl<const MIN: u32, const MAX: u32> ParseFromParameter for Whole<MIN, MAX> {
    fn parse_from_parameter(value: &str) -> ParseResult<Self> {
        // `u32::from_str` takes a leading `+`; a client that sends one meant a space.
        let number = value.parse().ok().filter(|_| value.bytes().all(|byte| byte.is_ascii_digit()));
        match number {
            Some(number) if (MIN..=MAX).contains(&number) => Ok(Whole(number)),
            _ => {
                let value = shorten(value, 64);
                Err(ParseError::custom(format!("`{value}` is not a {}", Self::name())))
            }
        }
    }
}

/// A client's own name for a request, from its `Idempotency-Key` header.
///
/// The framework's type for headers passes over what is not UTF-8, and then a request that asked to
/// be accepted once would be accepted twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(pub Option<String>);

impl IdempotencyKey {
    /// What a key looks like.
    pub fn schema() -> MetaSchema {
        MetaSchema {
            min_length: Some(1),
            max_length: Some(MAX_KEY),
            pattern: Some("^[!-~]*$".to_owned()),
            ..MetaSchema::new("string")
        }
    }

    /// Checks a key that came as `field`.
    ///
    /// # Errors
    /// It is not 1 to 255 visible ASCII characters.
    pub fn check(field: &str, key: &[u8]) -> Result<String, FieldError> {
        let visible = key.iter().all(u8::is_ascii_graphic);
        match std::str::from_utf8(key) {
            Ok(text) if visible && (1..=MAX_KEY).contains(&text.len()) => Ok(text.to_owned()),
            _ => Err(FieldError::new(field, "is not 1 to 255 visible ASCII characters")),
        }
    }
}

impl<'a> ApiExtractor<'a> for IdempotencyKey {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];
    type ParamType = String;
    type ParamRawType = String;

    fn register(_: &mut Registry) {}

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Header)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        Some(MetaSchemaRef::Inline(Box::new(Self::schema())))
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        options: ExtractParamOptions<String>,
    ) -> poem::Result<Self> {
        let mut values = request.headers().get_all(options.name).iter();
        let Some(first) = values.next() else { return Ok(IdempotencyKey(None)) };
        if values.next().is_some() {
            return Err(Failure::invalid_field(options.name, "is there twice").into());
        }
        let key = Self::check(options.name, first.as_bytes());
        Ok(IdempotencyKey(Some(key.map_err(|fault| Failure::invalid(vec![fault]))?)))
    }
}

/// The number of the last event that a client has, from its `Last-Event-ID` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastEventId(pub Option<u64>);

impl LastEventId {
    /// Checks a number that came as `field`.
    ///
    /// # Errors
    /// It is none.
    pub fn check(field: &str, number: &[u8]) -> Result<u64, FieldError> {
        std::str::from_utf8(number)
            .ok()
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| FieldError::new(field, "is not the number of an event"))
    }
}

impl<'a> ApiExtractor<'a> for LastEventId {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];
    type ParamType = u64;
    type ParamRawType = u64;

    fn register(_: &mut Registry) {}

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Header)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        Some(u64::schema_ref())
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        options: ExtractParamOptions<u64>,
    ) -> poem::Result<Self> {
        // An empty one is what the standard has a client send that was told to forget its number.
        let sent = request.headers().get(options.name).filter(|value| !value.is_empty());
        let number = sent.map(|value| Self::check(options.name, value.as_bytes())).transpose();
        Ok(LastEventId(number.map_err(|fault| Failure::invalid(vec![fault]))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_visible_ascii() {
        assert!(IdempotencyKey::check("k", b"a-1_~!").is_ok());
        for key in [&b""[..], b" ", b"a b", "ä".as_bytes(), b"\t", b"\xff", &[b'a'; 256]] {
            assert!(IdempotencyKey::check("k", key).is_err(), "{key:?}");
        }
    }

    #[test]
    fn the_number_of_an_event_is_digits() {
        assert_eq!(LastEventId::check("k", b"0"), Ok(0));
        assert_eq!(LastEventId::check("k", b"18446744073709551615"), Ok(u64::MAX));
        for text in [&b"-1"[..], b"+1", b"1.0", b"x", b"18446744073709551616", b"\xff", b"1 "] {
            assert!(LastEventId::check("k", text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn only_whole_numbers_inside_the_bounds_are_taken() {
        for (text, expected) in [("0", Some(0)), ("60", Some(60)), ("007", Some(7))] {
            let parsed = Whole::<0, 60>::parse_from_parameter(text).ok().map(|whole| whole.0);
            assert_eq!(parsed, expected, "{text}");
        }
        for text in ["", "61", "-1", "+1", "1.0", " 1", "1e1", "99999999999", "x", "١"] {
            assert!(Whole::<0, 60>::parse_from_parameter(text).is_err(), "{text}");
        }
    }
}
