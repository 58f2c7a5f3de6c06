//! Reads JSON with serde, tolerant of every type.
//!
//! A member may be of any type, and one that is not of the expected type must cost no more than itself. So objects and lists
//! are read by `deserialize_any`, in one pass: what they are not is passed over where it stands, however deep it is.
//!
//! serde_json rejects the whole text for three things, unless it skips them: a number that is out of range, half a surrogate
//! pair in a string, and half a surrogate pair in a name. So a scalar is captured as raw text and decoded later: if that fails,
//! only its member is lost. Two cases still fail the whole text: such a scalar in place of an object or a list, and such a
//! name in an object that stands there. Stripe sends neither. Start reading at [`FromJson`] and [`Members`].

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// What can be read from a value.
pub(super) trait FromJson<'a>: Sized {
    /// Reads a value. `None` if it is of another kind.
    fn from_json<D: Deserializer<'a>>(value: D) -> Result<Option<Self>, D::Error>;
}

/// What can be read from an object, which is given its members as they come.
pub(super) trait Members<'a>: Default {
    /// Reads the value of this member, or passes over it.
    fn member<M: MapAccess<'a>>(&mut self, name: &str, object: &mut M) -> Result<(), M::Error>;
}

/// Reads a text that is one value and nothing else. Fails if it is not JSON.
pub(super) fn read<'a, T: FromJson<'a>>(text: &'a str) -> serde_json::Result<Option<T>> {
    let mut text = serde_json::Deserializer::from_str(text);
    let value = T::from_json(&mut text)?;
    text.end()?;
    Ok(value)
}

/// Reads the value of a member.
pub(super) fn member<'a, T: FromJson<'a>, M: MapAccess<'a>>(object: &mut M) -> Result<Option<T>, M::Error> {
    object.next_value_seed(Seed(PhantomData))
}

/// Passes over the value of a member.
pub(super) fn skip<'a, M: MapAccess<'a>>(object: &mut M) -> Result<(), M::Error> {
    object.next_value::<IgnoredAny>().map(|_| ())
}

/// A value as it is written.
pub(super) struct Written<'a>(&'a str);

impl<'a> Written<'a> {
    pub(super) fn read<D: Deserializer<'a>>(value: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(value).map(|value| Self(value.get()))
    }

    /// The value, if it can be read.
    pub(super) fn parse<T: FromJson<'a>>(&self) -> Option<T> {
        read(self.0).ok().flatten()
    }

    /// What it says, if it is a string. Half a surrogate pair is no text (RFC 8259, section 8.2).
    pub(super) fn text(&self) -> Option<Cow<'a, str>> {
        let plain = self.0.strip_prefix('"')?.strip_suffix('"')?;
        if plain.contains('\\') {
            return serde_json::from_str(self.0).ok().map(Cow::Owned);
        }
        Some(Cow::Borrowed(plain))
    }

    /// A number that is written without fraction or exponent, and fits.
    pub(super) fn whole_number(&self) -> Option<i64> {
        let is_number = self.0.starts_with(|first: char| first == '-' || first.is_ascii_digit());
        serde_json::from_str(self.0).ok().filter(|_| is_number)
    }
}

impl<'a> FromJson<'a> for Cow<'a, str> {
    fn from_json<D: Deserializer<'a>>(value: D) -> Result<Option<Self>, D::Error> {
        Written::read(value).map(|written| written.text())
    }
}

impl<'a> FromJson<'a> for i64 {
    fn from_json<D: Deserializer<'a>>(value: D) -> Result<Option<Self>, D::Error> {
        Written::read(value).map(|written| written.whole_number())
    }
}

impl<'a> FromJson<'a> for bool {
    fn from_json<D: Deserializer<'a>>(value: D) -> Result<Option<Self>, D::Error> {
        Written::read(value).map(|written| match written.0 {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        })
    }
}

impl<'a, T: Members<'a>> FromJson<'a> for T {
    fn from_json<D: Deserializer<'a>>(value: D) -> Result<Option<Self>, D::Error> {
        value.deserialize_any(ObjectVisitor(PhantomData))
    }
}

/// The first items of a list; the others are passed over as they come.
pub(super) struct FirstItems<T, const LIMIT: usize>(pub(super) Vec<T>);

impl<'a, T: FromJson<'a>, const LIMIT: usize> FromJson<'a> for FirstItems<T, LIMIT> {
    /// Reads a list. Items of another kind count, and are left out.
    fn from_json<D: Deserializer<'a>>(value: D) -> Result<Option<Self>, D::Error> {
        value.deserialize_any(ListVisitor(PhantomData))
    }
}

/// Reads a value by [`FromJson`].
struct Seed<T>(PhantomData<T>);

impl<'a, T: FromJson<'a>> DeserializeSeed<'a> for Seed<T> {
    type Value = Option<T>;

    fn deserialize<D: Deserializer<'a>>(self, value: D) -> Result<Option<T>, D::Error> {
        T::from_json(value)
    }
}

/// Reads the name of a member, without a copy if it has no escapes.
struct Name;

impl<'a> DeserializeSeed<'a> for Name {
    type Value = Cow<'a, str>;

    fn deserialize<D: Deserializer<'a>>(self, name: D) -> Result<Self::Value, D::Error> {
        name.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for Name {
    type Value = Cow<'a, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E: Error>(self, name: &'a str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

/// What a visitor does with scalars that it has no use for.
macro_rules! pass_over_scalars {
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

impl<'a, T: Members<'a>> Visitor<'a> for ObjectVisitor<T> {
    type Value = Option<T>;

    pass_over_scalars!();

    fn visit_map<A: MapAccess<'a>>(self, mut members: A) -> Result<Option<T>, A::Error> {
        let mut object = T::default();
        while let Some(name) = members.next_key_seed(Name)? {
            object.member(&name, &mut members)?;
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

    pass_over_scalars!();

    fn visit_map<A: MapAccess<'a>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        while members.next_key_seed(Name)?.is_some() {
            skip(&mut members)?;
        }
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut first = Vec::new();
        for _ in 0..LIMIT {
            match items.next_element_seed(Seed(PhantomData))? {
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
