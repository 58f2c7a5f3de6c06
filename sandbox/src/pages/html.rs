//! Writing HTML: nothing that anybody else wrote gets in unescaped.

use poem::Response;
use poem::http::{StatusCode, header};

const STYLE: &str = include_str!("style.css");

const BANNER: &str = "This is Billhook's sandbox, not Stripe. No money moves.";

/// Text as it may stand between tags and in quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A whole page around this content.
pub(super) fn page(status: StatusCode, title: &str, content: &str) -> Response {
    let title = escape(title);
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title} - Billhook's sandbox</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <div class=\"banner\" role=\"note\">{BANNER}</div>\n<main>\n<h1>{title}</h1>\n{content}\n</main>\n</body>\n\
         </html>\n"
    );
    Response::builder()
        .status(status)
        .content_type("text/html; charset=utf-8")
        .header(header::CACHE_CONTROL, "no-store")
        .body(html)
}

/// A page that only says something.
pub(super) fn message(status: StatusCode, title: &str, sentence: &str) -> Response {
    page(status, title, &format!("<section><p>{}</p></section>", escape(sentence)))
}

/// Something went wrong, and a screen reader says so at once.
pub(super) fn alert(sentence: &str) -> String {
    format!("<p class=\"alert\" role=\"alert\">{}</p>\n", escape(sentence))
}

/// Something was done.
pub(super) fn notice(sentence: &str) -> String {
    format!("<p class=\"notice\" role=\"status\">{}</p>\n", escape(sentence))
}

/// A button that does this when its form is posted.
pub(super) fn button(action: &str, label: &str) -> String {
    format!("<button name=\"action\" value=\"{}\">{}</button>\n", escape(action), escape(label))
}

/// The button that most people want.
pub(super) fn primary_button(action: &str, label: &str) -> String {
    button(action, label).replacen("<button", "<button class=\"primary\"", 1)
}

/// On to another page, with a GET.
pub(super) fn see_other(location: &str) -> Response {
    Response::builder().status(StatusCode::SEE_OTHER).header(header::LOCATION, location).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_opens_a_tag_or_closes_an_attribute_gets_through() {
        assert_eq!(escape("<a href=\"x\">&'"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
    }
}
