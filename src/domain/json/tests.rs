//! What is JSON and what is not, by RFC 8259 and as serde_json has it; and what is read of it.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::value::RawValue;

use super::*;

/// All the members of an object, and of a list all the items: what descends wherever it can.
#[derive(Debug, Default, PartialEq)]
struct Walked<'a> {
    names: Vec<String>,
    last: Option<Cow<'a, str>>,
}

impl<'a> Members<'a> for Walked<'a> {
    fn member<M: MapAccess<'a>>(&mut self, name: &str, object: &mut M) -> Result<(), M::Error> {
        self.names.push(name.to_owned());
        let value = object.next_value_seed(Seed(PhantomData::<Node<'a>>))?.expect("every value is a node");
        self.walk(value);
        Ok(())
    }
}

impl<'a> Walked<'a> {
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

/// A value, and what is in it.
enum Node<'a> {
    Object(Walked<'a>),
    List(Vec<Self>),
    Scalar(Option<Cow<'a, str>>),
}

impl<'a> FromJson<'a> for Node<'a> {
    fn from_json<D: Deserializer<'a>>(value: D) -> Result<Option<Self>, D::Error> {
        let written = Written::read(value)?;
        let object = || written.parse().map(Self::Object);
        let list = || written.parse().map(|FirstItems::<_, 1000>(items)| Self::List(items));
        Ok(object().or_else(list).or_else(|| Some(Self::Scalar(written.text()))))
    }
}

/// The text is not JSON.
#[derive(Debug, PartialEq)]
struct NotJson;

fn of<'a, T: FromJson<'a>>(text: &'a str) -> Result<Option<T>, NotJson> {
    read(text).map_err(|_| NotJson)
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

/// Whether it is JSON to a reader that passes over everything, and to one that looks at everything.
fn is_read(text: &str) -> (bool, bool) {
    (read::<bool>(text).is_ok(), read::<Walked<'_>>(text).is_ok())
}

#[test]
fn what_is_json_is_read() {
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
        r#"{"fits nowhere":1e999}"#,
    ] {
        assert!(is_json(good), "{good}");
        assert_eq!(is_read(good), (true, true), "{good}");
    }
}

#[test]
fn what_is_not_json_is_refused_wherever_it_stands() {
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
            assert_eq!(is_read(&text), (is_json, is_json), "{text}");
        }
    }
}

#[test]
fn a_byte_that_ends_the_plain_part_of_a_string_is_seen_at_any_place() {
    for length in 0..40 {
        let plain = "é".repeat(length / 2) + &"x".repeat(length % 2);
        for ending in ["\"", "\\n\"", "\\", "\u{1f}\"", "\0\"", ""] {
            for behind in ["", " ", "        ", "!!!!!!!!!"] {
                let text = format!("\"{plain}{ending}{behind}");
                let is_json = is_json(&text);
                assert_eq!(is_read(&text), (is_json, is_json), "{text:?}");
            }
        }
    }
}

#[test]
fn any_depth_is_passed_over() {
    let times = 100_000;
    let lists = "[".repeat(times) + &"]".repeat(times);
    let objects = r#"{"a":"#.repeat(times) + "1" + &"}".repeat(times);
    for deep in [&lists, &objects] {
        assert_eq!(of::<bool>(deep), Ok(None));
        assert_eq!(of::<bool>(&deep[..deep.len() - 1]), Err(NotJson));
    }
}

#[test]
fn a_value_of_another_kind_reads_as_nothing() {
    for other in ["null", "1.5", "[]", "[true]", "[\"a\"]", "{}", "{\"a\":1}"] {
        assert_eq!(of::<bool>(other), Ok(None), "{other}");
        assert_eq!(of::<i64>(other), Ok(None), "{other}");
        assert_eq!(of::<Cow<'_, str>>(other), Ok(None), "{other}");
    }
    assert_eq!(of::<Walked<'_>>("[]"), Ok(None));
    assert_eq!(of::<bool>("\"true\""), Ok(None));
    assert_eq!(of::<i64>("\"1\""), Ok(None));
    assert_eq!(of::<Cow<'_, str>>("true"), Ok(None));
}

#[test]
fn a_whole_number_is_read_if_it_fits() {
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
        assert_eq!(of::<i64>(text), Ok(number), "{text}");
    }
}

#[test]
fn a_string_is_borrowed_unless_it_has_escapes() {
    let borrowed = of::<Cow<'_, str>>(r#" "ünder way" "#);
    assert!(matches!(borrowed, Ok(Some(Cow::Borrowed("ünder way")))), "{borrowed:?}");
    let escaped = of::<Cow<'_, str>>(r#""\ud83d\ude00\n""#);
    assert_eq!(escaped, Ok(Some(Cow::Owned("😀\n".to_owned()))));
}

#[test]
fn half_a_surrogate_pair_is_no_text_and_as_a_name_costs_whoever_reads_the_object() {
    for half in [r"\ud800", r"\udc00", r"\ud800\ud800", r"\ud800\n", r"\ud800x"] {
        assert_eq!(of::<Cow<'_, str>>(&format!("\"{half}\"")), Ok(None), "{half}");
        assert_eq!(of::<Walked<'_>>(&format!("{{\"{half}\":[1]}}")), Err(NotJson), "{half}");
        assert_eq!(of::<bool>(&format!("{{\"{half}\":[1]}}")), Ok(None), "{half}");
    }
}

#[test]
fn scalar_that_serde_json_cannot_read_costs_the_text_in_place_of_an_object() {
    for odd in ["1e999", r#""\ud800""#] {
        assert_eq!(of::<Walked<'_>>(odd), Err(NotJson), "{odd}");
        assert_eq!(of::<bool>(odd), Ok(None), "{odd}");
    }
}

#[test]
fn members_come_by_name_as_they_are_written() {
    let object = of::<Walked<'_>>(r#"{ "a": 1, "\u0062": { "c": [2, {"d": {}}] }, "a": "last" }"#);
    let object = object.expect("JSON").expect("an object");
    assert_eq!(object.names, ["a", "b", "c", "-", "-", "d", "a"]);
    assert_eq!(object.last.as_deref(), Some("last"));
}

/// JSON with all that there is in it.
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

/// The same with some characters lost, or others put between.
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
    fn a_text_is_read_if_and_only_if_serde_json_takes_it(text in nearly_json()) {
        let is_json = is_json(&text);
        prop_assert_eq!(is_read(&text), (is_json, is_json));
    }

    #[test]
    fn any_characters_are_read_if_and_only_if_serde_json_takes_them(text in any::<String>()) {
        let is_json = is_json(&text);
        prop_assert_eq!(is_read(&text), (is_json, is_json));
    }
}
