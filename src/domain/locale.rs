/// A language of Stripe's Customer Portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Locale(&'static str);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a language of the Customer Portal, such as `auto`, `de` or `pt-BR`")]
pub struct InvalidLocale;

impl Locale {
    /// Source: <https://docs.stripe.com/api/customer_portal/sessions/create>.
    pub const TAGS: [&str; 47] = [
        "auto", "bg", "cs", "da", "de", "el", "en", "en-AU", "en-CA", "en-GB", "en-IE", "en-IN", "en-NZ",
        "en-SG", "es", "es-419", "et", "fi", "fil", "fr", "fr-CA", "hr", "hu", "id", "it", "ja", "ko", "lt",
        "lv", "ms", "mt", "nb", "nl", "pl", "pt", "pt-BR", "ro", "ru", "sk", "sl", "sv", "th", "tr", "vi",
        "zh", "zh-HK", "zh-TW",
    ];

    pub fn parse(text: &str) -> Result<Self, InvalidLocale> {
        Self::TAGS.into_iter().find(|tag| *tag == text).map(Self).ok_or(InvalidLocale)
    }

    pub fn as_str(self) -> &'static str {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locale_accepts_only_stripes_tags() {
        for tag in Locale::TAGS {
            assert_eq!(Locale::parse(tag).map(Locale::as_str), Ok(tag));
        }
        for bad in ["", "xx", "DE", "de_DE", "../../etc", "de\n"] {
            assert!(Locale::parse(bad).is_err(), "{bad}");
        }
    }
}
