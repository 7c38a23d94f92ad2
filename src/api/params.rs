//! Parameters: whole numbers with bounds, and the id of a submission.

use std::borrow::Cow;

use poem_openapi::{
    registry::{MetaSchema, MetaSchemaRef},
    types::{ParseError, ParseFromParameter, ParseResult, Type},
};

use super::body::shorten;

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

#[cfg(test)]
mod tests {
    use super::*;

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
