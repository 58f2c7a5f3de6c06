//! A serde reader for JSON that tolerates members of an unexpected type: such a member is lost, the
//! rest is read.
//!
//! Objects and lists are read by `deserialize_any`, in one pass. A value of another type is
//! skipped, however deeply nested.
//!
//! serde_json rejects the whole text for three things, unless it skips them: a number out of range,
//! half a surrogate pair in a string, and half a surrogate pair in a name. So a scalar is captured
//! as raw text and decoded later: if that fails, only its member is lost. Two cases still fail the
//! whole text: such a scalar where an object or a list is expected, and such a name in an object
//! that is read. Stripe sends neither. Start reading at [`FromJson`] and [`FromObject`].

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

pub(super) trait FromJson<'a>: Sized {
    /// `None` if the value is of another type. Fails if it is not JSON.
    fn from_json<D: Deserializer<'a>>(value: D) -> Result<Option<Self>, D::Error>;
}

/// A type that is read from an object, member by member, in the order of the text.
pub(super) trait FromObject<'a>: Default {
    /// Must consume the value of this member, by [`read_value`] or [`skip_value`].
    fn read_member<M: MapAccess<'a>>(&mut self, name: &str, object: &mut M) -> Result<(), M::Error>;
}

/// Reads a text that is exactly one value. Fails if it is not JSON.
pub(super) fn read<'a, T: FromJson<'a>>(text: &'a str) -> serde_json::Result<Option<T>> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = T::from_json(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

pub(super) fn read_value<'a, T: FromJson<'a>, M: MapAccess<'a>>(
    object: &mut M,
) -> Result<Option<T>, M::Error> {
    object.next_value_seed(FromJsonSeed(PhantomData))
}

pub(super) fn skip_value<'a, M: MapAccess<'a>>(object: &mut M) -> Result<(), M::Error> {
    object.next_value::<IgnoredAny>().map(|_| ())
}

/// A value that is not decoded yet.
pub(super) struct RawJson<'a>(&'a str);

impl<'a> RawJson<'a> {
    pub(super) fn read<D: Deserializer<'a>>(value: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(value).map(|value| Self(value.get()))
    }

    pub(super) fn parse<T: FromJson<'a>>(&self) -> Option<T> {
        read(self.0).ok().flatten()
    }

    /// `None` for another type, and for half a surrogate pair (RFC 8259, section 8.2).
    pub(super) fn string(&self) -> Option<Cow<'a, str>> {
        let plain = self.0.strip_prefix('"')?.strip_suffix('"')?;
        if plain.contains('\\') {
            return serde_json::from_str(self.0).ok().map(Cow::Owned);
        }
        Some(Cow::Borrowed(plain))
    }

    /// `None` for another type, for a fraction or an exponent, and for a number out of range.
    pub(super) fn integer(&self) -> Option<i64> {
        let is_number = self.0.starts_with(|first: char| first == '-' || first.is_ascii_digit());
        serde_json::from_str(self.0).ok().filter(|_| is_number)
    }
}

impl<'a> FromJson<'a> for Cow<'a, str> {
    fn from_json<D: Deserializer<'a>>(value: D) -> Result<Option<Self>, D::Error> {
        RawJson::read(value).map(|raw| raw.string())
    }
}

impl<'a> FromJson<'a> for i64 {
    fn from_json<D: Deserializer<'a>>(value: D) -> Result<Option<Self>, D::Error> {
        RawJson::read(value).map(|raw| raw.integer())
    }
}

impl<'a> FromJson<'a> for bool {
    fn from_json<D: Deserializer<'a>>(value: D) -> Result<Option<Self>, D::Error> {
        RawJson::read(value).map(|raw| match raw.0 {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        })
    }
}

impl<'a, T: FromObject<'a>> FromJson<'a> for T {
    fn from_json<D: Deserializer<'a>>(value: D) -> Result<Option<Self>, D::Error> {
        value.deserialize_any(ObjectVisitor(PhantomData))
    }
}

/// The first `LIMIT` items of a list. An item of another type counts, and is left out.
pub(super) struct FirstItems<T, const LIMIT: usize>(pub(super) Vec<T>);

impl<'a, T: FromJson<'a>, const LIMIT: usize> FromJson<'a> for FirstItems<T, LIMIT> {
    fn from_json<D: Deserializer<'a>>(value: D) -> Result<Option<Self>, D::Error> {
        value.deserialize_any(ListVisitor(PhantomData))
    }
}

struct FromJsonSeed<T>(PhantomData<T>);

impl<'a, T: FromJson<'a>> DeserializeSeed<'a> for FromJsonSeed<T> {
    type Value = Option<T>;

    fn deserialize<D: Deserializer<'a>>(self, value: D) -> Result<Option<T>, D::Error> {
        T::from_json(value)
    }
}

/// Borrows the name of a member, unless it has escapes.
struct NameSeed;

impl<'a> DeserializeSeed<'a> for NameSeed {
    type Value = Cow<'a, str>;

    fn deserialize<D: Deserializer<'a>>(self, name: D) -> Result<Self::Value, D::Error> {
        name.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for NameSeed {
    type Value = Cow<'a, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }

    fn visit_borrowed_str<E: Error>(self, name: &'a str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

/// Visitor methods that read a scalar as `None`.
macro_rules! skip_scalars {
    () => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("JSON")
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
            Ok(None)
        }
    };
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'a, T: FromObject<'a>> Visitor<'a> for ObjectVisitor<T> {
    type Value = Option<T>;

    skip_scalars!();

    fn visit_map<A: MapAccess<'a>>(self, mut members: A) -> Result<Option<T>, A::Error> {
        let mut object = T::default();
        while let Some(name) = members.next_key_seed(NameSeed)? {
            object.read_member(&name, &mut members)?;
        }
        Ok(Some(object))
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut items: A) -> Result<Option<T>, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

struct ListVisitor<T, const LIMIT: usize>(PhantomData<T>);

impl<'a, T: FromJson<'a>, const LIMIT: usize> Visitor<'a> for ListVisitor<T, LIMIT> {
    type Value = Option<FirstItems<T, LIMIT>>;

    skip_scalars!();

    fn visit_map<A: MapAccess<'a>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        while members.next_key_seed(NameSeed)?.is_some() {
            skip_value(&mut members)?;
        }
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut first = Vec::new();
        for _ in 0..LIMIT {
            match items.next_element_seed(FromJsonSeed(PhantomData))? {
                Some(item) => first.extend(item),
                None => return Ok(Some(FirstItems(first))),
            }
        }
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Some(FirstItems(first)))
    }
}

#[cfg(test)]
mod tests;
