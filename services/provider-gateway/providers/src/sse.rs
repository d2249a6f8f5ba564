//! Server-sent events from bytes that are cut anywhere.
//!
//! Works on bytes and decodes whole lines only, so that a character split over two pieces stays whole. Follows the
//! WHATWG grammar, with one difference: an event that the end of the body cuts off is given out, because it is the
//! adapter that knows whether it still means something.

use crate::{ProviderError, Result, lines::LineSplitter};

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SseEvent {
    /// The `event:` field, if there was one.
    pub(crate) event: Option<String>,
    /// The `data:` lines, joined by `\n`; never empty.
    pub(crate) data: String,
}

/// Splits a body into events.
#[derive(Debug, Default)]
pub(crate) struct SseDecoder {
    lines: LineSplitter,
    event: Option<String>,
    data: String,
    has_data: bool,
}

impl SseDecoder {
    /// Takes the next bytes and appends the events they complete. Events without data are left out, as the grammar
    /// says.
    ///
    /// # Errors
    /// MALFORMED_OUTPUT when one event takes more than 16 MiB.
    pub(crate) fn push(&mut self, bytes: &[u8], events: &mut Vec<SseEvent>) -> Result<()> {
        let Self { lines, event, data, has_data } = self;
        lines.push(bytes, |line| take_line(line, event, data, has_data, events))
    }

    /// The body has ended: gives out the event that no blank line has closed.
    ///
    /// # Errors
    /// MALFORMED_OUTPUT when that event takes more than 16 MiB.
    pub(crate) fn finish(&mut self, events: &mut Vec<SseEvent>) -> Result<()> {
        let Self { lines, event, data, has_data } = self;
        lines.finish(|line| take_line(line, event, data, has_data, events))?;
        take_line(b"", event, data, has_data, events)
    }
}

fn take_line(
    line: &[u8],
    event: &mut Option<String>,
    data: &mut String,
    has_data: &mut bool,
    events: &mut Vec<SseEvent>,
) -> Result<()> {
    if line.is_empty() {
        let name = event.take();
        let data = std::mem::take(data);
        if std::mem::take(has_data) && !data.trim().is_empty() {
            events.push(SseEvent { event: name, data });
        }
        return Ok(());
    }
    let (field, value) = match line.iter().position(|b| *b == b':') {
        Some(colon) => (&line[..colon], &line[colon + 1..]),
        None => (line, &[][..]),
    };
    let value = value.strip_prefix(b" ").unwrap_or(value);
    match field {
        b"data" => {
            if std::mem::replace(has_data, true) {
                data.push('\n');
            }
            if data.len() + value.len() > crate::lines::MAX_BYTES {
                return Err(ProviderError::malformed("one event takes more than 16 MiB"));
            }
            data.push_str(&String::from_utf8_lossy(value));
        }
        b"event" => *event = Some(String::from_utf8_lossy(value).into_owned()),
        // Comments (an empty field name), ids, retry times and unknown fields.
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(pieces: &[&[u8]]) -> Vec<(Option<String>, String)> {
        let (mut decoder, mut out) = (SseDecoder::default(), Vec::new());
        for piece in pieces {
            decoder.push(piece, &mut out).unwrap();
        }
        decoder.finish(&mut out).unwrap();
        out.into_iter().map(|e| (e.event, e.data)).collect()
    }

    fn data(pieces: &[&[u8]]) -> Vec<String> {
        events(pieces).into_iter().map(|e| e.1).collect()
    }

    #[test]
    fn all_line_ends_close_a_line() {
        for end in ["\n", "\r", "\r\n"] {
            let text = format!("event: a{end}data: 1{end}{end}data: 2{end}{end}");
            assert_eq!(events(&[text.as_bytes()]), [(Some("a".into()), "1".into()), (None, "2".into())], "{end:?}");
        }
    }

    #[test]
    fn a_crlf_split_over_two_pieces_is_one_line_end() {
        assert_eq!(data(&[b"data: 1\r", b"\ndata: 2\r", b"\n\r", b"\n"]), ["1\n2"]);
    }

    #[test]
    fn a_character_split_over_two_pieces_stays_whole() {
        let text = "data: h\u{e4}\u{1f600}\n\n".as_bytes();
        for cut in 0..text.len() {
            assert_eq!(data(&[&text[..cut], &text[cut..]]), ["h\u{e4}\u{1f600}"], "cut at {cut}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_skipped_even_in_pieces() {
        assert_eq!(data(&[b"\xef\xbb\xbfdata: 1\n\n"]), ["1"]);
        assert_eq!(data(&[b"\xef", b"\xbb", b"\xbf", b"data: 1\n\n"]), ["1"]);
    }

    #[test]
    fn comments_and_unknown_fields_are_skipped() {
        assert_eq!(data(&[b": OPENROUTER PROCESSING\n\nid: 7\nretry: 1\nfoo\ndata: 1\n\n:\n\n"]), ["1"]);
    }

    #[test]
    fn data_needs_no_space_and_loses_only_one() {
        assert_eq!(data(&[b"data:1\n\ndata:  2\n\n"]), ["1", " 2"]);
    }

    #[test]
    fn several_data_lines_are_joined() {
        assert_eq!(data(&[b"data: {\ndata: \"a\":1}\n\n"]), ["{\n\"a\":1}"]);
    }

    #[test]
    fn an_event_without_data_is_left_out_and_its_name_forgotten() {
        assert_eq!(events(&[b"event: ping\n\ndata:\n\ndata: 1\n\n"]), [(None, "1".into())]);
    }

    #[test]
    fn the_last_event_needs_no_blank_line() {
        assert_eq!(data(&[b"data: 1\n\ndata: 2"]), ["1", "2"]);
        assert_eq!(data(&[b"data: 1\n\ndata: 2\n"]), ["1", "2"]);
    }

    #[test]
    fn one_event_is_bounded() {
        let (mut decoder, mut out) = (SseDecoder::default(), Vec::new());
        let line = [b"data: ".as_slice(), &vec![b'x'; 1 << 20], b"\n"].concat();
        let failed = (0..17).find_map(|_| decoder.push(&line, &mut out).err());
        assert_eq!(failed.unwrap().reason, tutti_error::Reason::MalformedOutput);
    }
}
