//! HTML building blocks. Functions that take text escape it; parameters that are HTML say so.

use poem::Response;
use poem::http::{HeaderName, StatusCode, header};

const STYLE: &str = include_str!("style.css");

/// On every page, and similar in its title, so that neither visitors nor viewers of a screenshot
/// mistake it for Stripe.
const BANNER: &str = "<strong>This is Billhook's sandbox, not Stripe.</strong> No money moves.";

const FOOTER: &str = "This page replaces Stripe's in development and tests. Actions here send signed webhooks to the \
     application, as Stripe does.";

/// Forbids scripts, external resources and framing. There is no `form-action`: forms redirect to
/// the application, whose origin is not known here.
const CONTENT_SECURITY_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'";

/// Escapes text for elements and quoted attributes.
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

pub(super) struct Page {
    status: StatusCode,
    heading: String,
    notice: Option<Notice>,
    content: String,
}

impl Page {
    /// `content` is HTML.
    pub(super) fn new(heading: &str, content: String) -> Page {
        Page { status: StatusCode::OK, heading: heading.to_owned(), notice: None, content }
    }

    /// A page with a sentence and a link, which is HTML.
    pub(super) fn message(heading: &str, sentence: &str, link: &str) -> Page {
        Page::new(heading, format!("<p>{}</p>\n{link}", escape(sentence)))
    }

    pub(super) fn with_status(self, status: StatusCode) -> Page {
        Page { status, ..self }
    }

    pub(super) fn with_notice(self, notice: Option<Notice>) -> Page {
        Page { notice, ..self }
    }

    pub(super) fn into_response(self) -> Response {
        let html = self.html();
        Response::builder()
            .status(self.status)
            .content_type("text/html; charset=utf-8")
            .header(header::CACHE_CONTROL, "no-store")
            .header(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY)
            // The URL of a page is its only access control.
            .header(HeaderName::from_static("referrer-policy"), "no-referrer")
            .body(html)
    }

    fn html(&self) -> String {
        let heading = escape(&self.heading);
        // Screen readers read the title first, also when the same page is shown again.
        let notice_title =
            self.notice.as_ref().map(|notice| format!("{} · ", notice.title)).unwrap_or_default();
        let notice = self.notice.as_ref().map(Notice::html).unwrap_or_default();
        let content = &self.content;
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{notice_title}{heading} · Billhook's sandbox, not Stripe</title>\n\
             <link rel=\"icon\" href=\"data:,\">\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
             <header>\n<p>{BANNER}</p>\n</header>\n\
             <main>\n<h1>{heading}</h1>\n{notice}{content}</main>\n\
             <footer>\n<p>{FOOTER}</p>\n</footer>\n</body>\n</html>\n"
        )
    }
}

/// The result of the last action.
pub(super) struct Notice {
    role: &'static str,
    title: &'static str,
    text: &'static str,
}

impl Notice {
    pub(super) fn success(title: &'static str, text: &'static str) -> Notice {
        Notice { role: "status", title, text }
    }

    pub(super) fn card_declined() -> Notice {
        let text = "Nothing was charged. You can try again.";
        Notice { role: "alert", title: "The card was declined", text }
    }

    /// The notice takes the focus when the page loads, without a script.
    fn html(&self) -> String {
        let Notice { role, title, text } = self;
        format!(
            "<div class=\"notice\" role=\"{role}\" aria-labelledby=\"notice\" tabindex=\"-1\" autofocus>\n\
             <h2 id=\"notice\">{title}</h2>\n<p>{text}</p>\n</div>\n"
        )
    }
}

/// The submit button of a form.
pub(super) struct Button<'a> {
    action: &'a str,
    label: &'a str,
    is_primary: bool,
    described_by: &'a str,
}

impl<'a> Button<'a> {
    pub(super) fn plain(action: &'a str, label: &'a str) -> Button<'a> {
        Button { action, label, is_primary: false, described_by: "" }
    }

    pub(super) fn primary(action: &'a str, label: &'a str) -> Button<'a> {
        Button { is_primary: true, ..Button::plain(action, label) }
    }

    /// Element ids for `aria-describedby`: they distinguish buttons with the same label and
    /// describe the effect.
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

/// A form with one button. `fields` is HTML.
pub(super) fn form(fields: &str, button: &Button<'_>) -> String {
    // Without `autocomplete="off"`, some browsers restore an old choice after a reload.
    format!("<form method=\"post\" autocomplete=\"off\">\n{fields}{}</form>\n", button.html())
}

/// `content` is HTML.
pub(super) fn section(id: &str, heading: &str, content: &str) -> String {
    let (id, heading) = (escape(id), escape(heading));
    format!("<section aria-labelledby=\"{id}\">\n<h2 id=\"{id}\">{heading}</h2>\n{content}</section>\n")
}

/// A description list of names and values.
pub(super) fn details(rows: &[(&str, String)]) -> String {
    let rows: String = rows.iter().map(|(name, value)| detail(name, value)).collect();
    format!("<dl>\n{rows}</dl>\n")
}

fn detail(name: &str, value: &str) -> String {
    format!("<div><dt>{}</dt><dd>{}</dd></div>\n", escape(name), escape(value))
}

/// Empty without a URL.
pub(super) fn link(url: Option<&str>, label: &str) -> String {
    let Some(url) = url else { return String::new() };
    format!("<p><a href=\"{}\">{}</a></p>\n", escape(url), escape(label))
}

pub(super) fn see_other(location: &str) -> Response {
    Response::builder().status(StatusCode::SEE_OTHER).header(header::LOCATION, location).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_replaces_html_special_characters() {
        assert_eq!(escape("<a href=\"x\">&'"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
    }
}
