//! Reads JSON (RFC 8259) in one pass.
//!
//! With serde a member that may be of any type, and must then cost no more than itself, has to be captured and parsed
//! again, and so at every level anew. Here a value of an unexpected kind is passed over where it stands. All of it is
//! held to the grammar, whoever asks for it or not.

use std::borrow::Cow;

/// The text is not JSON. Whatever was read of it until then is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotJson;

/// What there is to read from where a reader stands, if that is JSON.
pub(super) type Read<T> = Result<T, NotJson>;

/// What can be read from a value.
pub(super) trait FromJson<'a>: Sized {
    /// Reads the value that comes next, and leaves the reader behind it. `None` if the value is of another kind.
    fn from_json(value: &mut Reader<'a>) -> Read<Option<Self>>;
}

/// What can be read from an object, which is told its members as they come.
pub(super) trait Members<'a>: Default {
    /// Reads the value of this member, or passes over it.
    fn member(&mut self, name: &str, value: &mut Reader<'a>) -> Read<()>;
}

/// Reads a text that is one value and nothing else.
pub(super) fn read<'a, T: FromJson<'a>>(text: &'a str) -> Read<Option<T>> {
    let mut reader = Reader { text, at: 0, open: Vec::new() };
    let value = T::from_json(&mut reader)?;
    if reader.peek().is_none() { Ok(value) } else { Err(NotJson) }
}

/// A place in a text, before a value or behind it.
pub(super) struct Reader<'a> {
    text: &'a str,
    /// How many bytes have been read.
    at: usize,
    /// What closes the objects and lists that are being passed over, the innermost last. Empty in between, and kept for
    /// its memory.
    open: Vec<u8>,
}

impl<'a, T: Members<'a>> FromJson<'a> for T {
    /// Reads an object. One with a name that is no text, since it has half a surrogate pair, reads as nothing.
    fn from_json(value: &mut Reader<'a>) -> Read<Option<Self>> {
        let mut object = Self::default();
        let mut has_names = true;
        let is_object = value.each(*b"{}", |value| {
            if let Some(name) = value.name()?.decoded() {
                return object.member(&name, value);
            }
            has_names = false;
            value.skip()
        })?;
        Ok((is_object && has_names).then_some(object))
    }
}

impl<'a> FromJson<'a> for Cow<'a, str> {
    fn from_json(value: &mut Reader<'a>) -> Read<Option<Self>> {
        if value.peek() == Some(b'"') {
            return value.string().map(Text::decoded);
        }
        value.skip().map(|()| None)
    }
}

impl FromJson<'_> for i64 {
    /// Reads a number that is written without fraction or exponent, and fits.
    fn from_json(value: &mut Reader<'_>) -> Read<Option<Self>> {
        let is_number = matches!(value.peek(), Some(b'-' | b'0'..=b'9'));
        let written = value.written()?;
        Ok(if is_number { serde_json::from_str(written).ok() } else { None })
    }
}

impl FromJson<'_> for bool {
    fn from_json(value: &mut Reader<'_>) -> Read<Option<Self>> {
        Ok(match value.written()? {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        })
    }
}

impl<'a> Reader<'a> {
    /// Whether a string comes next.
    pub(super) fn is_at_string(&mut self) -> bool {
        self.peek() == Some(b'"')
    }

    /// Reads a list item by item. Anything else is passed over; returns whether it was one.
    pub(super) fn list(&mut self, item: impl FnMut(&mut Self) -> Read<()>) -> Read<bool> {
        self.each(*b"[]", item)
    }

    /// Passes over the value that comes next. Its depth takes memory, and nothing of the stack.
    pub(super) fn skip(&mut self) -> Read<()> {
        loop {
            match self.begin()? {
                Some(close) => self.open.push(close),
                None if self.goes_on()? => {}
                None => return Ok(()),
            }
            if self.open.last() == Some(&b'}') {
                self.name()?;
            }
        }
    }

    /// Passes over the value that comes next, and says how it is written.
    fn written(&mut self) -> Read<&'a str> {
        self.peek();
        let start = self.at;
        self.skip()?;
        self.since(start)
    }

    /// Reads what stands between these brackets, one after the other. Anything else is passed over; returns whether it was
    /// that.
    fn each(&mut self, [open, close]: [u8; 2], mut one: impl FnMut(&mut Self) -> Read<()>) -> Read<bool> {
        if self.peek() != Some(open) {
            return self.skip().map(|()| false);
        }
        let mut goes_on = self.begin()?.is_some();
        while goes_on {
            one(self)?;
            goes_on = self.goes_on_before(close)?;
        }
        Ok(true)
    }

    /// Passes over a value, or the beginning of one that has others in it: what closes it is returned then.
    fn begin(&mut self) -> Read<Option<u8>> {
        let close = match self.peek().ok_or(NotJson)? {
            b'{' => b'}',
            b'[' => b']',
            b'"' => return self.string().map(|_| None),
            b'-' | b'0'..=b'9' => return self.number().map(|()| None),
            _ => return self.word().map(|()| None),
        };
        self.at += 1;
        let is_empty = self.peek() == Some(close);
        self.at += usize::from(is_empty);
        Ok((!is_empty).then_some(close))
    }

    /// Behind a value: whether another one follows in what is being passed over. Closes what ends here.
    fn goes_on(&mut self) -> Read<bool> {
        while let Some(&close) = self.open.last() {
            if self.goes_on_before(close)? {
                return Ok(true);
            }
            self.open.pop();
        }
        Ok(false)
    }

    /// Behind a value: whether another one follows before this closes.
    fn goes_on_before(&mut self, close: u8) -> Read<bool> {
        let next = self.peek().ok_or(NotJson)?;
        self.at += 1;
        match next {
            b',' => Ok(true),
            next if next == close => Ok(false),
            _ => Err(NotJson),
        }
    }

    /// Reads the name of a member.
    fn name(&mut self) -> Read<Text<'a>> {
        if self.peek() != Some(b'"') {
            return Err(NotJson);
        }
        let name = self.string()?;
        if self.peek() != Some(b':') {
            return Err(NotJson);
        }
        self.at += 1;
        Ok(name)
    }

    /// Reads a string, from its first quotation mark on.
    fn string(&mut self) -> Read<Text<'a>> {
        let start = self.at;
        let mut has_escapes = false;
        self.at += 1;
        loop {
            self.at += plain_length(self.ahead());
            match self.ahead() {
                [b'"', ..] => break,
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => self.at += 2,
                [b'\\', b'u', digits @ ..] if starts_with_hex(digits) => self.at += 6,
                _ => return Err(NotJson),
            }
            has_escapes = true;
        }
        self.at += 1;
        Ok(Text { quoted: self.since(start)?, has_escapes })
    }

    fn number(&mut self) -> Read<()> {
        self.take(b"-");
        if !self.take(b"0") {
            self.digits()?;
        }
        if self.take(b".") {
            self.digits()?;
        }
        if self.take(b"e") || self.take(b"E") {
            let _sign = self.take(b"+") || self.take(b"-");
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Read<()> {
        let count = self.ahead().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count > 0 { Ok(()) } else { Err(NotJson) }
    }

    fn word(&mut self) -> Read<()> {
        let is_word = self.take(b"null") || self.take(b"true") || self.take(b"false");
        if is_word { Ok(()) } else { Err(NotJson) }
    }

    fn take(&mut self, bytes: &[u8]) -> bool {
        let is_next = self.ahead().starts_with(bytes);
        self.at += if is_next { bytes.len() } else { 0 };
        is_next
    }

    /// Passes over white space, and says what comes then.
    fn peek(&mut self) -> Option<u8> {
        self.at += space_length(self.ahead());
        self.ahead().first().copied()
    }

    fn ahead(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn since(&self, start: usize) -> Read<&'a str> {
        self.text.get(start..self.at).ok_or(NotJson)
    }
}

/// A string as it is written, in its quotation marks.
struct Text<'a> {
    quoted: &'a str,
    has_escapes: bool,
}

impl<'a> Text<'a> {
    /// What it says. Nothing, if that is no text: an escape can be half a surrogate pair (RFC 8259, section 8.2).
    fn decoded(self) -> Option<Cow<'a, str>> {
        if self.has_escapes {
            return serde_json::from_str(self.quoted).ok().map(Cow::Owned);
        }
        self.quoted.get(1..self.quoted.len() - 1).map(Cow::Borrowed)
    }
}

fn starts_with_hex(bytes: &[u8]) -> bool {
    bytes.first_chunk::<4>().is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
}

/// How many bytes of white space these begin with. Stripe indents what it sends, so most of it are spaces.
fn space_length(bytes: &[u8]) -> usize {
    let mut length = 0;
    while let Some((b' ' | b'\n' | b'\r' | b'\t', rest)) = bytes.get(length..).and_then(<[u8]>::split_first) {
        length += 1 + length_until(rest, |bytes| bytes ^ eight(b' '));
    }
    length
}

/// How many bytes these begin with that stand for themselves in a string: no quotation mark, no backslash, no control
/// character (RFC 8259, section 7).
fn plain_length(bytes: &[u8]) -> usize {
    let is = |bytes, byte| below(bytes ^ eight(byte), 1);
    length_until(bytes, |bytes| is(bytes, b'"') | is(bytes, b'\\') | below(bytes, b' '))
}

/// How many bytes come before the first that is marked, by any bit of it. Eight are looked at together, of which only the
/// lowest mark has to be right. Zero has to be marked: it stands behind the last.
fn length_until(bytes: &[u8], marks: impl Fn(u64) -> u64) -> usize {
    let first = |eight: [u8; 8]| marks(u64::from_le_bytes(eight)).trailing_zeros() as usize / 8;
    let (eights, rest) = bytes.as_chunks();
    for (index, eight) in eights.iter().enumerate() {
        let first = first(*eight);
        if first < 8 {
            return index * 8 + first;
        }
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    eights.len() * 8 + first(last)
}

/// Marks those of eight bytes that are below a limit of at most 128. Above the lowest of them a mark may be wrong: a byte
/// below the limit borrows from the next.
const fn below(bytes: u64, limit: u8) -> u64 {
    bytes.wrapping_sub(eight(limit)) & !bytes & eight(0x80)
}

/// A byte, eight times.
const fn eight(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

#[cfg(test)]
mod tests;
