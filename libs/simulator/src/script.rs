//! The prompt language: markers in the last user message that script the answer.

use crate::fault::Fault;

/// Longest answer `[[words N]]` makes, in words: bounds the memory of one request.
const MAX_WORDS: u64 = 100_000;

/// Four characters each, so that a word is a token (see `plan`).
const WORDS: [&str; 8] = ["sun ", "sea ", "sky ", "ice ", "oak ", "fox ", "owl ", "bee "];

/// One thing to answer with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Directive {
    /// `[[say text]]`
    Say(String),
    /// `[[think text]]`
    Think(String),
    /// `[[tool name {"json":"args"}]]`
    Tool {
        /// The tool's name.
        name: String,
        /// The arguments as written, which need not be valid JSON.
        args: String,
    },
    /// `[[words N]]`
    Words(u64),
    /// `[[system]]`: repeat the system prompt.
    System,
    /// `[[history]]`: list the conversation as the simulator received it.
    History,
}

/// A parsed prompt.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    /// Directives of each round of the tool loop, parted by `[[next]]`.
    pub(crate) rounds: Vec<Vec<Directive>>,
    /// `[[loop]]`: the last round is repeated for ever.
    pub(crate) looping: bool,
    /// Faults with their text, by which `times` counts.
    pub(crate) faults: Vec<(String, Fault)>,
    /// The prompt without its markers.
    pub(crate) plain: String,
    /// A marker that could not be understood.
    pub(crate) error: Option<String>,
}

impl Script {
    /// Reads the markers of `text`. Double brackets that start no known marker are plain text.
    pub(crate) fn parse(text: &str) -> Self {
        let mut script = Self { rounds: vec![Vec::new()], ..Self::default() };
        let mut rest = text;
        while let Some(open) = rest.find("[[") {
            script.plain.push_str(&rest[..open]);
            let inside = &rest[open + 2..];
            match script.marker(inside) {
                Some(after) => rest = after,
                None => {
                    script.plain.push_str("[[");
                    rest = inside;
                }
            }
        }
        script.plain.push_str(rest);
        script.plain = script.plain.trim().to_owned();
        script
    }

    /// The directives of `round`, none when the script has ended.
    pub(crate) fn round(&self, round: usize) -> &[Directive] {
        let last = self.rounds.len().saturating_sub(1);
        let index = if self.looping { round.min(last) } else { round };
        self.rounds.get(index).map_or(&[], Vec::as_slice)
    }

    /// Reads one marker at the start of `inside`; returns the text after it.
    fn marker<'a>(&mut self, inside: &'a str) -> Option<&'a str> {
        if let Some(call) = inside.strip_prefix("tool ") {
            return self.tool(call);
        }
        let end = inside.find("]]")?;
        let (marker, after) = (&inside[..end], &inside[end + 2..]);
        let (word, argument) = marker.split_once(' ').unwrap_or((marker, ""));
        match word {
            "say" => self.push(Directive::Say(argument.to_owned())),
            "think" => self.push(Directive::Think(argument.to_owned())),
            "words" => match argument.trim().parse::<u64>() {
                Ok(count) => self.push(Directive::Words(count.min(MAX_WORDS))),
                Err(_) => self.error = Some(format!("words: `{argument}` is not a number")),
            },
            "system" => self.push(Directive::System),
            "history" => self.push(Directive::History),
            "next" => self.rounds.push(Vec::new()),
            "loop" => self.looping = true,
            "fault" => match Fault::parse(argument) {
                Ok(fault) => self.faults.push((argument.to_owned(), fault)),
                Err(error) => self.error = Some(error.to_string()),
            },
            _ => return None,
        }
        Some(after)
    }

    fn push(&mut self, directive: Directive) {
        if let Some(round) = self.rounds.last_mut() {
            round.push(directive);
        }
    }

    /// A call's arguments may themselves hold `]]`, so JSON decides where they end.
    fn tool<'a>(&mut self, call: &'a str) -> Option<&'a str> {
        let name_end = call.find(|c: char| c.is_whitespace() || c == ']')?;
        let (name, rest) = call.split_at(name_end);
        let rest = rest.trim_start();
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<serde_json::Value>();
        let json_end = match values.next() {
            Some(Ok(_)) => values.byte_offset(),
            _ => 0,
        };
        let close = json_end + rest[json_end..].find("]]")?;
        let args = rest[..close].trim();
        let args = if args.is_empty() { "{}" } else { args };
        self.push(Directive::Tool { name: name.to_owned(), args: args.to_owned() });
        Some(&rest[close + 2..])
    }
}

/// `count` words of one token each.
pub(crate) fn words(count: u64) -> String {
    (0..count).map(|n| WORDS[usize::try_from(n % 8).unwrap_or_default()]).collect()
}

#[cfg(test)]
mod tests {
    use super::{Directive, Script, words};

    #[test]
    fn markers_are_read_and_the_rest_is_plain() {
        let script = Script::parse(r#"Hi [[think hm]] [[tool add {"x":[[1],[2]]}]] you [[wiki]]"#);
        let expected =
            [Directive::Think("hm".into()), Directive::Tool { name: "add".into(), args: r#"{"x":[[1],[2]]}"#.into() }];
        assert_eq!(script.round(0), expected);
        assert_eq!(script.plain, "Hi   you [[wiki]]");
    }

    #[test]
    fn arguments_may_be_missing_or_broken() {
        let script = Script::parse(r#"[[tool a]][[tool b {"x":]]"#);
        let expected = [
            Directive::Tool { name: "a".into(), args: "{}".into() },
            Directive::Tool { name: "b".into(), args: r#"{"x":"#.into() },
        ];
        assert_eq!(script.round(0), expected);
    }

    #[test]
    fn rounds_end_unless_they_loop() {
        let script = Script::parse("[[tool a]][[next]][[tool b]]");
        assert_eq!(script.round(1).len(), 1);
        assert!(script.round(2).is_empty());
        let looping = Script::parse("[[tool a]][[loop]]");
        assert_eq!(looping.round(9).len(), 1);
    }

    #[test]
    fn a_wrong_fault_is_reported() {
        assert!(Script::parse("[[fault nonsense=1]]").error.is_some());
        assert!(Script::parse("[[words many]]").error.is_some());
    }

    #[test]
    fn a_word_is_four_characters() {
        assert_eq!(words(10).len(), 40);
    }
}
