//! Lines from bytes that are cut anywhere.

use crate::{ProviderError, Result};

/// Bound of one line, and of one event.
pub(crate) const MAX_BYTES: usize = 16 * 1024 * 1024;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// Splits bytes at LF, CR and CRLF, also when a CRLF is split. A byte-order mark at the very start is dropped.
#[derive(Debug, Default)]
pub(crate) struct LineSplitter {
    line: Vec<u8>,
    after_cr: bool,
    after_first: bool,
}

impl LineSplitter {
    /// Takes the next bytes and calls `take` with every line they complete.
    ///
    /// # Errors
    /// MALFORMED_OUTPUT when a line takes more than 16 MiB, and what `take` gives.
    pub(crate) fn push(&mut self, mut bytes: &[u8], mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        while let Some(&first) = bytes.first() {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|b| matches!(b, b'\n' | b'\r'));
            let piece = &bytes[..end.unwrap_or(bytes.len())];
            if self.line.len() + piece.len() > MAX_BYTES {
                return Err(ProviderError::malformed("one line takes more than 16 MiB"));
            }
            self.line.extend_from_slice(piece);
            let Some(end) = end else { break };
            self.after_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            self.end_line(&mut take)?;
        }
        Ok(())
    }

    /// The body has ended: calls `take` with the line that nothing has closed, if there is one.
    ///
    /// # Errors
    /// What `take` gives.
    pub(crate) fn finish(&mut self, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        if self.line.is_empty() { Ok(()) } else { self.end_line(&mut take) }
    }

    fn end_line(&mut self, take: &mut impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let first = !std::mem::replace(&mut self.after_first, true);
        let line = self.line.as_slice();
        let result = take(if first { line.strip_prefix(BOM).unwrap_or(line) } else { line });
        self.line.clear();
        result
    }
}

/// Splits a body of one JSON value a line (NDJSON). Blank lines are left out.
#[derive(Debug, Default)]
pub(crate) struct LineDecoder {
    lines: LineSplitter,
}

impl LineDecoder {
    /// Takes the next bytes and appends the lines they complete.
    ///
    /// # Errors
    /// MALFORMED_OUTPUT when a line takes more than 16 MiB.
    pub(crate) fn push(&mut self, bytes: &[u8], lines: &mut Vec<String>) -> Result<()> {
        self.lines.push(bytes, |line| take_line(line, lines))
    }

    /// The body has ended: gives out the line that nothing has closed.
    ///
    /// # Errors
    /// None today; the same form as `push`.
    pub(crate) fn finish(&mut self, lines: &mut Vec<String>) -> Result<()> {
        self.lines.finish(|line| take_line(line, lines))
    }
}

// A `Result`, since that is what `LineSplitter` calls.
fn take_line(line: &[u8], lines: &mut Vec<String>) -> Result<()> {
    if !line.trim_ascii().is_empty() {
        lines.push(String::from_utf8_lossy(line).into_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_they_are_cut() {
        let body = "\u{feff}{\"a\":\"\u{e4}\"}\r\n\n{\"b\":2}\n{\"c\":3}".as_bytes();
        for cut in 0..body.len() {
            let (mut decoder, mut lines) = (LineDecoder::default(), Vec::new());
            decoder.push(&body[..cut], &mut lines).unwrap();
            decoder.push(&body[cut..], &mut lines).unwrap();
            decoder.finish(&mut lines).unwrap();
            assert_eq!(lines, ["{\"a\":\"\u{e4}\"}", "{\"b\":2}", "{\"c\":3}"], "cut at {cut}");
        }
    }

    #[test]
    fn one_line_is_bounded() {
        let (mut decoder, mut lines) = (LineDecoder::default(), Vec::new());
        let mib = vec![b'x'; 1 << 20];
        assert!((0..17).any(|_| decoder.push(&mib, &mut lines).is_err()));
    }
}
