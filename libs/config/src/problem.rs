//! What is wrong with the configuration, and where.

use std::collections::HashSet;
use std::fmt;

use crate::value::Origin;

/// One thing wrong, at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub(crate) origin: Origin,
    /// Dotted key such as `tools.timeout_seconds`; empty when the whole file is meant.
    pub(crate) key: String,
    pub(crate) message: String,
}

impl Problem {
    pub(crate) fn new(origin: Origin, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { origin, key: key.into(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        // A message is one line, whatever a file smuggles into it.
        f.write_str(&self.message.replace(['\n', '\r'], " "))
    }
}

/// Every problem found, in the order of the layers and of the lines in each file.
///
/// `Display` writes one problem a line, without a final newline.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct Problems {
    list: Vec<Problem>,
}

impl Problems {
    /// Sorted by place; the same problem seen by two readers is kept once.
    pub(crate) fn new(mut list: Vec<Problem>) -> Self {
        list.sort_by(|a, b| (&a.origin, &a.key).cmp(&(&b.origin, &b.key)));
        let mut seen = HashSet::new();
        list.retain(|problem| seen.insert(problem.to_string()));
        Self { list }
    }

    pub(crate) fn into_result(self) -> Result<(), Self> {
        if self.list.is_empty() { Ok(()) } else { Err(self) }
    }

    /// How many problems there are; never 0 in an `Err`.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Each problem on its own.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// The names (at most three, best first) that someone who typed `name` may have meant.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let typed = name.to_lowercase();
    // One slip in three letters still reads as the same word.
    let allowed = (typed.chars().count() / 3).max(1);
    let mut close: Vec<(usize, &str)> = known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(&typed, &known.to_lowercase()), known))
        .filter(|(distance, known)| {
            let part_of = typed.len() >= 4 && known.to_lowercase().contains(&typed);
            *distance <= allowed || part_of
        })
        .collect();
    close.sort_unstable();
    close.dedup();
    close.into_iter().take(3).map(|(_, known)| known).collect()
}

/// `; did you mean "a" or "b"?`, or the known names when none is near and they are few.
pub(crate) fn suggestion<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    const FEW: usize = 12;
    let known: Vec<&str> = known.into_iter().collect();
    let near = nearest(name, known.iter().copied());
    if !near.is_empty() {
        return format!("; did you mean {}?", one_of(near));
    }
    match known.len() {
        0 => String::new(),
        1..=FEW => format!("; known: {}", known.join(", ")),
        _ => String::new(),
    }
}

/// `"a"`, `"a" or "b"`, `"a", "b" or "c"`.
pub(crate) fn one_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.into_iter().map(|name| format!("\"{name}\"")).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::{nearest, one_of, suggestion};

    #[test]
    fn nearest_names_are_best_first_and_at_most_three() {
        let known = ["claude", "clause", "cloud", "openai", "claud"];
        assert_eq!(nearest("claude", known), ["claude", "claud", "clause"]);
        assert_eq!(nearest("Cluade", known), ["claude", "claud", "clause"]);
        assert!(nearest("zzz", known).is_empty());
        assert!(nearest("", ["abc"]).is_empty());
    }

    #[test]
    fn a_fragment_of_a_name_finds_it() {
        assert_eq!(nearest("timeout", ["timeout_seconds", "mode"]), ["timeout_seconds"]);
    }

    #[test]
    fn suggestions_read_as_sentences() {
        assert_eq!(suggestion("mdoel", ["model", "persona"]), "; did you mean \"model\"?");
        assert_eq!(suggestion("zzz", ["model", "persona"]), "; known: model, persona");
        assert_eq!(suggestion("zzz", []), "");
        assert_eq!(one_of(["a", "b", "c"]), "\"a\", \"b\" or \"c\"");
    }
}
