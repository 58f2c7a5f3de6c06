//! Writing HTML: nothing that anybody else wrote gets in unescaped.

use poem::Response;
use poem::http::{HeaderName, StatusCode, header};

const STYLE: &str = include_str!("style.css");

/// On every page, and in its title too: whoever comes here by mistake, or sees a picture of it, is not to take it for Stripe.
const BANNER: &str = "<strong>This is Billhook's sandbox, not Stripe.</strong> No money moves.";

const FOOTER: &str = "It stands in for Stripe's page in development and tests. What is done here reaches the application \
     as Stripe would tell it: by signed webhooks.";

/// Nothing runs, nothing is fetched, and nobody puts the page into a frame. Where forms may lead is left open: the answers to
/// them lead on to the application, wherever that is.
const CONTENT_SECURITY_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'";

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

/// A page.
pub(super) struct Page {
    status: StatusCode,
    heading: String,
    notice: Option<Notice>,
    content: String,
}

impl Page {
    /// What it is called, and the HTML below that.
    pub(super) fn new(heading: &str, content: String) -> Page {
        Page { status: StatusCode::OK, heading: heading.to_owned(), notice: None, content }
    }

    /// One that only says something, and leads on.
    pub(super) fn message(heading: &str, sentence: &str, onward: &str) -> Page {
        Page::new(heading, format!("<p>{}</p>\n{onward}", escape(sentence)))
    }

    pub(super) fn with_status(self, status: StatusCode) -> Page {
        Page { status, ..self }
    }

    /// What just happened comes first.
    pub(super) fn after(self, notice: Option<Notice>) -> Page {
        Page { notice, ..self }
    }

    pub(super) fn answer(self) -> Response {
        let html = self.html();
        Response::builder()
            .status(self.status)
            .content_type("text/html; charset=utf-8")
            .header(header::CACHE_CONTROL, "no-store")
            .header(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY)
            // The address of a page is all that it takes to be let in.
            .header(HeaderName::from_static("referrer-policy"), "no-referrer")
            .body(html)
    }

    fn html(&self) -> String {
        let heading = escape(&self.heading);
        // The first thing that is read aloud, also when the same page comes again.
        let happened = self.notice.as_ref().map(|notice| format!("{} · ", notice.title)).unwrap_or_default();
        let notice = self.notice.as_ref().map(Notice::html).unwrap_or_default();
        let content = &self.content;
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{happened}{heading} · Billhook's sandbox, not Stripe</title>\n\
             <link rel=\"icon\" href=\"data:,\">\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
             <header>\n<p>{BANNER}</p>\n</header>\n\
             <main>\n<h1>{heading}</h1>\n{notice}{content}</main>\n\
             <footer>\n<p>{FOOTER}</p>\n</footer>\n</body>\n</html>\n"
        )
    }
}

/// What came of the button that was pressed.
pub(super) struct Notice {
    role: &'static str,
    title: &'static str,
    text: &'static str,
}

impl Notice {
    /// It was done.
    pub(super) fn done(title: &'static str, text: &'static str) -> Notice {
        Notice { role: "status", title, text }
    }

    /// It was not.
    pub(super) fn problem(title: &'static str, text: &'static str) -> Notice {
        Notice { role: "alert", title, text }
    }

    /// It takes the focus, without a script: the whole page is new, and this is what is new about it.
    fn html(&self) -> String {
        let Notice { role, title, text } = self;
        format!(
            "<div class=\"notice\" role=\"{role}\" aria-labelledby=\"notice\" tabindex=\"-1\" autofocus>\n\
             <h2 id=\"notice\">{title}</h2>\n<p>{text}</p>\n</div>\n"
        )
    }
}

/// The one button of a form.
pub(super) struct Button<'a> {
    action: &'a str,
    label: &'a str,
    is_primary: bool,
    described_by: &'a str,
}

impl<'a> Button<'a> {
    /// One that does `action`.
    pub(super) fn plain(action: &'a str, label: &'a str) -> Button<'a> {
        Button { action, label, is_primary: false, described_by: "" }
    }

    /// The one that most people came for.
    pub(super) fn primary(action: &'a str, label: &'a str) -> Button<'a> {
        Button { is_primary: true, ..Button::plain(action, label) }
    }

    /// The ids of what tells it from others of its name, and of what it leads to.
    pub(super) fn described_by(self, described_by: &'a str) -> Button<'a> {
        Button { described_by, ..self }
    }

    fn html(&self) -> String {
        let Button { action, label, is_primary, described_by } = self;
        let class = if *is_primary { " class=\"primary\"" } else { "" };
        let described_by = if described_by.is_empty() {
            String::new()
        } else {
            format!(" aria-describedby=\"{}\"", escape(described_by))
        };
        format!(
            "<button{class} name=\"action\" value=\"{}\"{described_by}>{}</button>\n",
            escape(action),
            escape(label)
        )
    }
}

/// A form for one action. `fields` is HTML.
pub(super) fn form(fields: &str, button: &Button<'_>) -> String {
    // Some browsers put a choice back that was made before the page was loaded again, whatever the page says now.
    format!("<form method=\"post\" autocomplete=\"off\">\n{fields}{}</form>\n", button.html())
}

/// A part of the page under a heading. `content` is HTML.
pub(super) fn section(id: &str, heading: &str, content: &str) -> String {
    let (id, heading) = (escape(id), escape(heading));
    format!("<section aria-labelledby=\"{id}\">\n<h2 id=\"{id}\">{heading}</h2>\n{content}</section>\n")
}

/// What is known, each with its name.
pub(super) fn facts(facts: &[(&str, String)]) -> String {
    let facts: String = facts.iter().map(|(name, value)| fact(name, value)).collect();
    format!("<dl>\n{facts}</dl>\n")
}

fn fact(name: &str, value: &str) -> String {
    format!("<div><dt>{}</dt><dd>{}</dd></div>\n", escape(name), escape(value))
}

/// The way to another page, if there is one.
pub(super) fn link(address: Option<&str>, label: &str) -> String {
    let Some(address) = address else { return String::new() };
    format!("<p><a href=\"{}\">{}</a></p>\n", escape(address), escape(label))
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
