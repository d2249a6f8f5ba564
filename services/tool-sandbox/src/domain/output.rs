//! What is kept and shown of a program's output.

/// Cuts a text to at most `max` bytes, at a character.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// Keeps the beginning and the end of a text of any length.
#[derive(Debug)]
pub(crate) struct HeadTail {
    half: usize,
    head: String,
    tail: String,
    left_out: u64,
}

impl HeadTail {
    /// Keeps at most `cap` bytes: half of them from the beginning, half from the end.
    pub(crate) fn new(cap: usize) -> Self {
        Self { half: cap / 2, head: String::new(), tail: String::new(), left_out: 0 }
    }

    /// Adds a piece.
    pub(crate) fn push(&mut self, text: &str) {
        let mut rest = text;
        if self.tail.is_empty() && self.left_out == 0 {
            let taken = cut(rest, self.half.saturating_sub(self.head.len()));
            self.head.push_str(taken);
            rest = &rest[taken.len()..];
        }
        self.tail.push_str(rest);
        // Cut at twice the size, so that every byte is moved once on average.
        if self.tail.len() > 2 * self.half {
            self.cut_tail();
        }
    }

    /// What was kept, with a note where something is missing, and whether something is.
    pub(crate) fn finish(mut self) -> (String, bool) {
        if self.tail.len() > self.half {
            self.cut_tail();
        }
        if self.left_out == 0 {
            return (self.head + &self.tail, false);
        }
        (format!("{}\n[... {} bytes left out ...]\n{}", self.head, self.left_out, self.tail), true)
    }

    fn cut_tail(&mut self) {
        let from = self.tail.ceil_char_boundary(self.tail.len() - self.half);
        self.tail.drain(..from);
        self.left_out += from as u64;
    }
}

/// Turns bytes that come in pieces into text; what is not UTF-8 is replaced.
#[derive(Debug, Default)]
pub(crate) struct Utf8Decoder {
    /// The beginning of a character whose end has not come yet: at most three bytes.
    pending: Vec<u8>,
}

impl Utf8Decoder {
    /// The text that is complete with these bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        let mut all = std::mem::take(&mut self.pending);
        all.extend_from_slice(bytes);
        let mut text = String::with_capacity(all.len());
        let mut read = 0;
        for chunk in all.utf8_chunks() {
            text.push_str(chunk.valid());
            read += chunk.valid().len() + chunk.invalid().len();
            if read == all.len() && is_beginning(chunk.invalid()) {
                self.pending = chunk.invalid().to_vec();
            } else if !chunk.invalid().is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        text
    }

    /// What stands for a character that never became complete.
    pub(crate) fn finish(&mut self) -> &'static str {
        if std::mem::take(&mut self.pending).is_empty() { "" } else { "\u{fffd}" }
    }
}

/// Whether these bytes could become a character with more of them.
fn is_beginning(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_output_is_kept_whole() {
        let mut kept = HeadTail::new(10);
        for piece in ["abc", "defg", "hij"] {
            kept.push(piece);
        }
        assert_eq!(kept.finish(), ("abcdefghij".to_owned(), false));
    }

    #[test]
    fn long_output_keeps_its_beginning_and_its_end() {
        let mut kept = HeadTail::new(10);
        let mut all = String::new();
        for n in 0..1000 {
            kept.push(&n.to_string());
            all.push_str(&n.to_string());
        }
        assert!(kept.tail.len() <= 15);
        let (text, truncated) = kept.finish();
        assert!(truncated);
        assert_eq!(text, format!("01234\n[... {} bytes left out ...]\n98999", all.len() - 10));
    }

    #[test]
    fn cuts_fall_between_characters() {
        let mut kept = HeadTail::new(10);
        kept.push(&"ä".repeat(100));
        let (text, truncated) = kept.finish();
        assert!(truncated);
        assert_eq!(text, "ää\n[... 192 bytes left out ...]\nää");
        assert_eq!(cut("aä", 2), "a");
    }

    #[test]
    fn characters_split_between_pieces_are_put_together() {
        let text = "aä€😀z";
        for at in 0..text.len() {
            let mut decoder = Utf8Decoder::default();
            let mut out = decoder.push(&text.as_bytes()[..at]);
            out.push_str(&decoder.push(&text.as_bytes()[at..]));
            out.push_str(decoder.finish());
            assert_eq!(out, text, "cut at {at}");
        }
    }

    #[test]
    fn what_is_no_text_is_replaced() {
        let mut decoder = Utf8Decoder::default();
        assert_eq!(decoder.push(b"a\xffb\xe2"), "a\u{fffd}b");
        assert_eq!(decoder.push(b"c"), "\u{fffd}c");
        assert_eq!(decoder.push(b"\xf0\x9f"), "");
        assert_eq!(decoder.finish(), "\u{fffd}");
        assert_eq!(decoder.finish(), "");
    }
}
