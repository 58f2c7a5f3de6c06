//! JSON that keeps the order of members and duplicate keys.

use std::collections::BTreeSet;
use std::fmt;

use arbitrary::{Arbitrary, Unstructured};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// The members, if this is an object in which none of these keys is duplicated.
    pub fn members(&self, unique: &[&str]) -> Option<Members<'_>> {
        let Self::Object(members) = self else {
            return None;
        };
        let count = |key: &str| members.iter().filter(|(name, _)| name == key).count();
        unique.iter().all(|key| count(key) <= 1).then_some(Members(members))
    }

    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub fn int(&self) -> Option<i64> {
        if let Self::Number(number) = self { number.as_i64() } else { None }
    }

    pub fn bool(&self) -> Option<bool> {
        if let Self::Bool(bool) = self { Some(*bool) } else { None }
    }

    pub fn has_unique_keys(&self) -> bool {
        match self {
            Self::List(values) => values.iter().all(Self::has_unique_keys),
            Self::Object(members) => {
                let keys: BTreeSet<&str> = members.iter().map(|(key, _)| key.as_str()).collect();
                keys.len() == members.len() && members.iter().all(|(_, value)| value.has_unique_keys())
            }
            _ => true,
        }
    }

    /// A copy with the members of every object in reverse order.
    #[must_use]
    pub fn reversed(&self) -> Self {
        match self {
            Self::List(values) => Self::List(values.iter().map(Self::reversed).collect()),
            Self::Object(members) => Self::Object(
                members.iter().rev().map(|(key, value)| (key.clone(), value.reversed())).collect(),
            ),
            other => other.clone(),
        }
    }

    /// A copy with one more member in every object, under an unknown key.
    #[must_use]
    pub fn with_unknown_members(&self) -> Self {
        match self {
            Self::List(values) => Self::List(values.iter().map(Self::with_unknown_members).collect()),
            Self::Object(members) => {
                let mut members: Vec<_> =
                    members.iter().map(|(key, value)| (key.clone(), value.with_unknown_members())).collect();
                let value = Self::Object(vec![("id".to_owned(), Self::Text("evt_other".to_owned()))]);
                members.insert(members.len() / 2, ("unheard_of".to_owned(), value));
                Self::Object(members)
            }
            other => other.clone(),
        }
    }

    /// Generates a value from these keys and words, and from random ones.
    pub fn generate(
        u: &mut Unstructured<'_>,
        keys: &[&str],
        words: &[&str],
        depth: usize,
    ) -> arbitrary::Result<Self> {
        let nested = if depth == 0 { 5 } else { 7 };
        Ok(match u.int_in_range(0..=nested)? {
            0 => Self::Null,
            1 => Self::Bool(u.arbitrary()?),
            2 => Self::Number(i64::arbitrary(u)?.into()),
            3 => Number::from_f64(u.arbitrary()?).map_or(Self::Null, Self::Number),
            4 => Self::Text((*u.choose(words)?).to_owned()),
            5 => Self::Text(u.arbitrary()?),
            6 => Self::List(up_to_12(u, |u| Self::generate(u, keys, words, depth - 1))?),
            _ => Self::Object(up_to_12(u, |u| Self::member(u, keys, words, depth - 1))?),
        })
    }

    /// An object of these members, usually with some removed and others inserted.
    pub fn with_mutations(
        u: &mut Unstructured<'_>,
        usual: Vec<(&str, Self)>,
        keys: &[&str],
        words: &[&str],
        depth: usize,
    ) -> arbitrary::Result<Self> {
        let mut members: Vec<_> = usual.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        for _ in 0..u.int_in_range(0..=4)? {
            let at = u.int_in_range(0..=members.len())?;
            if at < members.len() && u.int_in_range(0..=3)? == 3 {
                members.remove(at);
            } else {
                members.insert(at, Self::member(u, keys, words, depth)?);
            }
        }
        Ok(Self::Object(members))
    }

    fn member(
        u: &mut Unstructured<'_>,
        keys: &[&str],
        words: &[&str],
        depth: usize,
    ) -> arbitrary::Result<(String, Self)> {
        let key = if u.int_in_range(0..=15)? == 15 { u.arbitrary()? } else { (*u.choose(keys)?).to_owned() };
        Ok((key, Self::generate(u, keys, words, depth)?))
    }
}

pub fn up_to_12<T>(
    u: &mut Unstructured<'_>,
    mut one: impl FnMut(&mut Unstructured<'_>) -> arbitrary::Result<T>,
) -> arbitrary::Result<Vec<T>> {
    let count = u.int_in_range(0..=12)?;
    (0..count).map(|_| one(u)).collect()
}

#[derive(Debug, Clone, Copy)]
pub struct Members<'a>(&'a [(String, Json)]);

impl<'a> Members<'a> {
    pub fn get(self, key: &str) -> Option<&'a Json> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    pub fn text(self, key: &str) -> Option<&'a str> {
        self.get(key).and_then(Json::text)
    }

    pub fn int(self, key: &str) -> Option<i64> {
        self.get(key).and_then(Json::int)
    }

    pub fn bool(self, key: &str) -> Option<bool> {
        self.get(key).and_then(Json::bool)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(bool) => write!(f, "{bool}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write_text(f, text),
            Self::List(values) => {
                f.write_str("[")?;
                for (index, value) in values.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { "," })?;
                    write!(f, "{value}")?;
                }
                f.write_str("]")
            }
            Self::Object(members) => {
                f.write_str("{")?;
                for (index, (key, value)) in members.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { "," })?;
                    write_text(f, key)?;
                    write!(f, ":{value}")?;
                }
                f.write_str("}")
            }
        }
    }
}

fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str(&serde_json::to_string(text).map_err(|_| fmt::Error)?)
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, bool: bool) -> Result<Json, E> {
        Ok(Json::Bool(bool))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Json, E> {
        Number::from_f64(number).map(Json::Number).ok_or_else(|| E::custom("an infinite number"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(Json::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Json, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = object.next_entry()? {
            members.push(member);
        }
        Ok(Json::Object(members))
    }
}
