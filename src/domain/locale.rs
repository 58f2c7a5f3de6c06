//! The languages of the Customer Portal.

/// A language of the Customer Portal, by Stripe's tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Locale(&'static str);

/// Not a language of the Customer Portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a language of the Customer Portal, such as `auto`, `de` or `pt-BR`")]
pub struct InvalidLocale;

impl Locale {
    /// Stripe's tags of the languages (<https://docs.stripe.com/api/customer_portal/sessions/create>).
    pub const TAGS: [&str; 47] = [
        "auto", "bg", "cs", "da", "de", "el", "en", "en-AU", "en-CA", "en-GB", "en-IE", "en-IN", "en-NZ",
        "en-SG", "es", "es-419", "et", "fi", "fil", "fr", "fr-CA", "hr", "hu", "id", "it", "ja", "ko", "lt",
        "lv", "ms", "mt", "nb", "nl", "pl", "pt", "pt-BR", "ro", "ru", "sk", "sl", "sv", "th", "tr", "vi",
        "zh", "zh-HK", "zh-TW",
    ];

    /// Reads Stripe's tag of a language.
    pub fn parse(text: &str) -> Result<Self, InvalidLocale> {
        Self::TAGS.into_iter().find(|tag| *tag == text).map(Self).ok_or(InvalidLocale)
    }

    /// Stripe's tag.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_stripes_own_tags_are_languages() {
        for tag in Locale::TAGS {
            assert_eq!(Locale::parse(tag).map(Locale::as_str), Ok(tag));
        }
        for bad in ["", "xx", "DE", "de_DE", "../../etc", "de\n"] {
            assert!(Locale::parse(bad).is_err(), "{bad}");
        }
    }
}
