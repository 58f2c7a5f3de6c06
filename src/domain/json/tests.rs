//! The reader accepts exactly the JSON that serde_json accepts, and tolerates members of other
//! types.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::value::RawValue;

use super::*;

/// Reads all members of an object and all items of a list, at any depth.
#[derive(Debug, Default, PartialEq)]
struct FullWalk<'a> {
    names: Vec<String>,
    last: Option<Cow<'a, str>>,
}

impl<'a> FromObject<'a> for FullWalk<'a> {
    fn read_member<M: MapAccess<'a>>(&mut self, name: &str, object: &mut M) -> Result<(), M::Error> {
        self.names.push(name.to_owned());
        let value =
            object.next_value_seed(FromJsonSeed(PhantomData::<Node<'a>>))?.expect("any value is a node");
        self.walk(value);
        Ok(())
    }
}

impl<'a> FullWalk<'a> {
    fn walk(&mut self, value: Node<'a>) {
        match value {
            Node::Object(inner) => self.names.extend(inner.names),
            Node::List(items) => {
                for item in items {
                    self.names.push("-".to_owned());
                    self.walk(item);
                }
            }
            Node::Scalar(text) => self.last = text,
        }
    }
}

enum Node<'a> {
    Object(FullWalk<'a>),
    List(Vec<Self>),
    Scalar(Option<Cow<'a, str>>),
}

impl<'a> FromJson<'a> for Node<'a> {
    fn from_json<D: Deserializer<'a>>(value: D) -> Result<Option<Self>, D::Error> {
        let raw = RawJson::read(value)?;
        let object = || raw.parse().map(Self::Object);
        let list = || raw.parse().map(|FirstItems::<_, 1000>(items)| Self::List(items));
        Ok(object().or_else(list).or_else(|| Some(Self::Scalar(raw.string()))))
    }
}

#[derive(Debug, PartialEq)]
struct NotJson;

fn parse<'a, T: FromJson<'a>>(text: &'a str) -> Result<Option<T>, NotJson> {
    read(text).map_err(|_| NotJson)
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

/// Whether it is JSON to a reader that skips everything, and to one that reads everything.
fn is_accepted(text: &str) -> (bool, bool) {
    (read::<bool>(text).is_ok(), read::<FullWalk<'_>>(text).is_ok())
}

#[test]
fn valid_json_is_accepted() {
    for good in [
        "null",
        " \n\r\t true ",
        "-0",
        "0.0e-0",
        "1E+5",
        "123456789012345678901234567890",
        r#""""#,
        r#""\"\\\/\b\f\n\r\t\u00E9\ud83d\ude00""#,
        "\"\u{7f}é😀\"",
        "[]",
        "[ ]",
        "{}",
        "{ }",
        r#"[1,[2,{"a":[3]}],{}]"#,
        r#"{"a":{"b":[]},"a":null}"#,
        r#"{"half of a pair":"\ud800"}"#,
        r#"{"out of range":1e999}"#,
    ] {
        assert!(is_json(good), "{good}");
        assert_eq!(is_accepted(good), (true, true), "{good}");
    }
}

#[test]
fn invalid_json_is_rejected_at_any_position() {
    for bad in [
        "",
        " ",
        "nul",
        "nulll",
        "True",
        "NaN",
        "-",
        "+1",
        ".5",
        "1.",
        "1.e5",
        "1e",
        "1e+",
        "01",
        "-01",
        "0x1",
        "1 2",
        "\"",
        "\"a",
        "\"\\\"",
        r#""\x""#,
        r#""\u12""#,
        r#""\u12g4""#,
        r#""\u""#,
        "\"\t\"",
        "\"\n\"",
        "\"\0\"",
        "'a'",
        "[",
        "]",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1}",
        "[}",
        "{",
        "}",
        "{1",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,",
        "{\"a\":1,}",
        "{,}",
        "{a:1}",
        "{1:1}",
        "{\"a\" 1}",
        "{\"a\":1]",
        "{]",
        "{\"a\",1}",
        "\u{feff}1",
        "\u{a0}1",
        "1\0",
        "//",
        "1/**/",
    ] {
        assert!(!is_json(bad), "{bad}");
        for text in [bad.to_owned(), format!("[{bad}]"), format!("{{\"a\":{bad}}}"), format!("{bad},1")] {
            let is_json = is_json(&text);
            assert_eq!(is_accepted(&text), (is_json, is_json), "{text}");
        }
    }
}

#[test]
fn special_byte_in_string_is_found_at_any_offset() {
    for length in 0..40 {
        let plain = "é".repeat(length / 2) + &"x".repeat(length % 2);
        for ending in ["\"", "\\n\"", "\\", "\u{1f}\"", "\0\"", ""] {
            for rest in ["", " ", "        ", "!!!!!!!!!"] {
                let text = format!("\"{plain}{ending}{rest}");
                let is_json = is_json(&text);
                assert_eq!(is_accepted(&text), (is_json, is_json), "{text:?}");
            }
        }
    }
}

#[test]
fn values_of_any_depth_are_skipped() {
    let times = 100_000;
    let lists = "[".repeat(times) + &"]".repeat(times);
    let objects = r#"{"a":"#.repeat(times) + "1" + &"}".repeat(times);
    for deep in [&lists, &objects] {
        assert_eq!(parse::<bool>(deep), Ok(None));
        assert_eq!(parse::<bool>(&deep[..deep.len() - 1]), Err(NotJson));
    }
}

#[test]
fn value_of_another_type_reads_as_none() {
    for other in ["null", "1.5", "[]", "[true]", "[\"a\"]", "{}", "{\"a\":1}"] {
        assert_eq!(parse::<bool>(other), Ok(None), "{other}");
        assert_eq!(parse::<i64>(other), Ok(None), "{other}");
        assert_eq!(parse::<Cow<'_, str>>(other), Ok(None), "{other}");
    }
    assert_eq!(parse::<FullWalk<'_>>("[]"), Ok(None));
    assert_eq!(parse::<bool>("\"true\""), Ok(None));
    assert_eq!(parse::<i64>("\"1\""), Ok(None));
    assert_eq!(parse::<Cow<'_, str>>("true"), Ok(None));
}

#[test]
fn integer_out_of_range_or_with_fraction_reads_as_none() {
    for (text, number) in [
        ("0", Some(0)),
        ("-1", Some(-1)),
        ("9223372036854775807", Some(i64::MAX)),
        ("-9223372036854775808", Some(i64::MIN)),
        ("9223372036854775808", None),
        ("-9223372036854775809", None),
        ("-0", None),
        ("1.0", None),
        ("1e3", None),
    ] {
        assert_eq!(parse::<i64>(text), Ok(number), "{text}");
    }
}

#[test]
fn string_without_escapes_is_borrowed() {
    let borrowed = parse::<Cow<'_, str>>(r#" "ünder way" "#);
    assert!(matches!(borrowed, Ok(Some(Cow::Borrowed("ünder way")))), "{borrowed:?}");
    let escaped = parse::<Cow<'_, str>>(r#""\ud83d\ude00\n""#);
    assert_eq!(escaped, Ok(Some(Cow::Owned("😀\n".to_owned()))));
}

#[test]
fn half_surrogate_pair_loses_string_or_object_with_such_name() {
    for half in [r"\ud800", r"\udc00", r"\ud800\ud800", r"\ud800\n", r"\ud800x"] {
        assert_eq!(parse::<Cow<'_, str>>(&format!("\"{half}\"")), Ok(None), "{half}");
        assert_eq!(parse::<FullWalk<'_>>(&format!("{{\"{half}\":[1]}}")), Err(NotJson), "{half}");
        assert_eq!(parse::<bool>(&format!("{{\"{half}\":[1]}}")), Ok(None), "{half}");
    }
}

#[test]
fn undecodable_scalar_instead_of_object_fails_the_text() {
    for odd in ["1e999", r#""\ud800""#] {
        assert_eq!(parse::<FullWalk<'_>>(odd), Err(NotJson), "{odd}");
        assert_eq!(parse::<bool>(odd), Ok(None), "{odd}");
    }
}

#[test]
fn members_are_read_in_order_of_the_text() {
    let object = parse::<FullWalk<'_>>(r#"{ "a": 1, "\u0062": { "c": [2, {"d": {}}] }, "a": "last" }"#);
    let object = object.expect("JSON").expect("an object");
    assert_eq!(object.names, ["a", "b", "c", "-", "-", "d", "a"]);
    assert_eq!(object.last.as_deref(), Some("last"));
}

/// JSON with values of all types.
fn json() -> impl Strategy<Value = String> {
    let text = || select(&[r#""""#, r#""a""#, r#""\u00e9\\""#, r#""longer than eight bytes""#][..]);
    let token = select(&["null", "true", "false", "0", "-0", "12", "-1.5", "1e9", "0.5E-10"][..]);
    let leaf = prop_oneof![token, text()].prop_map(str::to_owned);
    leaf.prop_recursive(5, 40, 5, move |inner| {
        let member = (text(), inner.clone()).prop_map(|(name, value)| format!("{name}: {value}"));
        prop_oneof![
            vec(inner, 0..5).prop_map(|items| format!("[{}]", items.join(", "))),
            vec(member, 0..5).prop_map(|members| format!("{{\n        {}}}", members.join(","))),
        ]
    })
}

/// JSON with up to two characters removed or inserted.
fn nearly_json() -> impl Strategy<Value = String> {
    let odd = r#"{}[]:,"\/ux-+.eE01 dnt"#.chars().chain(['\t', '\u{1f}', '\u{7f}', '\u{a0}', 'é']).collect::<Vec<_>>();
    let changes = vec((any::<Index>(), proptest::option::of(select(odd))), 0..3);
    (json(), changes).prop_map(|(json, changes)| {
        let mut text: Vec<char> = json.chars().collect();
        for (at, change) in changes {
            match change {
                Some(odd) => text.insert(at.index(text.len() + 1), odd),
                None if text.is_empty() => {}
                None => drop(text.remove(at.index(text.len()))),
            }
        }
        text.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nearly_json_text_is_accepted_iff_serde_json_accepts_it(text in nearly_json()) {
        let is_json = is_json(&text);
        prop_assert_eq!(is_accepted(&text), (is_json, is_json));
    }

    #[test]
    fn any_text_is_accepted_iff_serde_json_accepts_it(text in any::<String>()) {
        let is_json = is_json(&text);
        prop_assert_eq!(is_accepted(&text), (is_json, is_json));
    }
}
