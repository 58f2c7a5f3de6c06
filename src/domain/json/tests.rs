//! What is JSON and what is not, by RFC 8259 and as serde_json has it; and what is read of it.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::value::RawValue;

use super::*;

/// All the members of an object, and of a list all the items: what descends wherever it can.
#[derive(Debug, Default, PartialEq)]
struct Walked<'a> {
    texts: Vec<String>,
    last: Option<Cow<'a, str>>,
}

impl<'a> Members<'a> for Walked<'a> {
    fn member(&mut self, name: &str, value: &mut Reader<'a>) -> Read<()> {
        self.texts.push(name.to_owned());
        match value.peek() {
            Some(b'{') => {
                let inner = Self::from_json(value)?.unwrap_or_default();
                self.texts.extend(inner.texts);
                Ok(())
            }
            Some(b'[') => value.list(|item| self.member("-", item)).map(|_| ()),
            _ => Cow::from_json(value).map(|text| self.last = text),
        }
    }
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
        "1e999",
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
        r#"{"\udc00":1}"#,
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
        assert_eq!(read::<bool>(deep), Ok(None));
        assert_eq!(read::<bool>(&deep[..deep.len() - 1]), Err(NotJson));
    }
}

#[test]
fn a_value_of_another_kind_reads_as_nothing() {
    for other in ["null", "1.5", "[]", "[true]", "[\"a\"]", "{}", "{\"a\":1}"] {
        assert_eq!(read::<bool>(other), Ok(None), "{other}");
        assert_eq!(read::<i64>(other), Ok(None), "{other}");
        assert_eq!(read::<Cow<'_, str>>(other), Ok(None), "{other}");
    }
    assert_eq!(read::<Walked<'_>>("[]"), Ok(None));
    assert_eq!(read::<bool>("\"true\""), Ok(None));
    assert_eq!(read::<i64>("\"1\""), Ok(None));
    assert_eq!(read::<Cow<'_, str>>("true"), Ok(None));
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
        assert_eq!(read::<i64>(text), Ok(number), "{text}");
    }
}

#[test]
fn a_string_is_borrowed_unless_it_has_escapes() {
    let borrowed = read::<Cow<'_, str>>(r#" "ünder way" "#);
    assert!(matches!(borrowed, Ok(Some(Cow::Borrowed("ünder way")))), "{borrowed:?}");
    let escaped = read::<Cow<'_, str>>(r#""\ud83d\ude00\n""#);
    assert_eq!(escaped, Ok(Some(Cow::Owned("😀\n".to_owned()))));
}

#[test]
fn half_a_surrogate_pair_is_no_text_and_as_a_name_takes_its_object_with_it() {
    for half in [r"\ud800", r"\udc00", r"\ud800\ud800", r"\ud800\n", r"\ud800x"] {
        assert_eq!(read::<Cow<'_, str>>(&format!("\"{half}\"")), Ok(None), "{half}");
        assert_eq!(read::<Walked<'_>>(&format!("{{\"{half}\":[1]}}")), Ok(None), "{half}");
        assert_eq!(read::<bool>(&format!("{{\"{half}\":[1]}}")), Ok(None), "{half}");
    }
}

#[test]
fn members_come_by_name_as_they_are_written() {
    let object = read::<Walked<'_>>(r#"{ "a": 1, "\u0062": { "c": [2, {"d": {}}] }, "a": "last" }"#);
    let object = object.expect("JSON").expect("an object");
    assert_eq!(object.texts, ["a", "b", "c", "-", "-", "d", "a"]);
    assert_eq!(object.last.as_deref(), Some("last"));
}

/// JSON with all that there is in it.
fn json() -> impl Strategy<Value = String> {
    let text =
        || select(&[r#""""#, r#""a""#, r#""\u00e9\\""#, r#""longer than eight bytes""#, r#""\ud800""#][..]);
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
