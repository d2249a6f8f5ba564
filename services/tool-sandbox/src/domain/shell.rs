//! Just enough of a shell's grammar to see which programs a command names. A convenience for checks, never the wall.

/// One program with its arguments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Simple {
    /// Its words, quotes removed, without redirections.
    pub(crate) words: Vec<String>,
    /// The files it is redirected to.
    pub(crate) writes: Vec<String>,
    /// Whether the command before it pipes into it.
    pub(crate) piped: bool,
    /// The program whose word it makes, for one in `$(…)`, `<(…)` or backticks.
    pub(crate) makes_word_of: Option<String>,
    /// Where it begins among all.
    order: usize,
}

impl Simple {
    /// The program's name and arguments: assignments, keywords and wrappers such as `sudo` in front are left out.
    pub(crate) fn program(&self) -> Option<(&str, &[String])> {
        const BEFORE: [&str; 16] = [
            "sudo", "command", "exec", "nohup", "env", "time", "nice", "xargs", "then", "do", "else", "if", "while",
            "until", "!", "{",
        ];
        let is_assignment = |word: &str| word.split_once('=').is_some_and(|(name, _)| is_name(name));
        let skipped = |word: &String| BEFORE.contains(&word.as_str()) || is_assignment(word);
        let at = self.words.iter().position(|word| !skipped(word))?;
        // The options of a wrapper (`sudo -n rm`) are not the program.
        let options =
            if at == 0 { 0 } else { self.words[at..].iter().take_while(|word| word.starts_with('-')).count() };
        let (program, arguments) = self.words[at + options..].split_first()?;
        Some((program.rsplit('/').next().unwrap_or(program), arguments))
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Whether the text is one program with arguments: nothing in it starts another or redirects.
pub(crate) fn is_plain(command: &str) -> bool {
    !command.contains([';', '&', '|', '\n', '\r', '`', '$', '<', '>', '(', ')', '{', '}'])
}

/// The programs that a command names, in order, those in `$(…)` and in `sh -c "…"` included.
pub(crate) fn programs(command: &str) -> Vec<Simple> {
    let mut reader = Reader::default();
    reader.read(command);
    reader.found.sort_by_key(|simple| simple.order);
    let mut found = Vec::new();
    for simple in reader.found {
        let inner = script_of(&simple).map(programs).unwrap_or_default();
        found.push(simple);
        found.extend(inner);
    }
    found
}

/// The text that a program runs as another command.
fn script_of(simple: &Simple) -> Option<&str> {
    let (program, arguments) = simple.program()?;
    match program {
        "eval" => arguments.first().map(String::as_str),
        _ if is_shell(program) => {
            let at = arguments.iter().position(|word| word.starts_with('-') && word.ends_with('c'))?;
            arguments.get(at + 1).map(String::as_str)
        }
        _ => None,
    }
}

/// Whether a program runs commands that it reads.
pub(crate) fn is_shell(program: &str) -> bool {
    matches!(program, "sh" | "bash" | "dash" | "zsh" | "ksh" | "fish" | "ash")
}

#[derive(Debug, Default)]
struct Reader {
    found: Vec<Simple>,
    /// How many commands have begun.
    begun: usize,
    here: Place,
    /// What is to be gone on with after a bracket or a backtick closes.
    open: Vec<(char, Option<Place>)>,
}

/// A command that is being read.
#[derive(Debug, Default)]
struct Place {
    current: Simple,
    word: Option<String>,
    /// The next word is a file to write to.
    redirected: bool,
    in_double: bool,
}

impl Reader {
    fn read(&mut self, command: &str) {
        let mut rest = command.chars().peekable();
        while let Some(char) = rest.next() {
            let in_double = self.here.in_double;
            match char {
                '\\' => self.add(rest.next().unwrap_or('\\')),
                '"' => {
                    self.here.in_double = !in_double;
                    self.here.word.get_or_insert_default();
                }
                '\'' if !in_double => {
                    self.here.word.get_or_insert_default();
                    rest.by_ref().take_while(|inner| *inner != '\'').for_each(|inner| self.add(inner));
                }
                '`' if self.open.last().is_some_and(|(closer, _)| *closer == '`') => self.close(),
                '`' => self.enter('`'),
                '$' | '<' if rest.next_if_eq(&'(').is_some() => self.enter(')'),
                _ if in_double => self.add(char),
                ')' => self.close(),
                '(' => {
                    self.end_command(false);
                    self.open.push((')', None));
                }
                '>' => {
                    self.end_word();
                    while rest.next_if(|next| matches!(next, '>' | '|' | '&')).is_some() {}
                    self.here.redirected = true;
                }
                '&' if rest.peek() == Some(&'>') => self.end_word(),
                '|' => {
                    let both = rest.next_if_eq(&'|').is_some();
                    rest.next_if_eq(&'&');
                    self.end_command(!both);
                }
                ';' | '&' | '\n' => self.end_command(false),
                _ if char.is_whitespace() => self.end_word(),
                _ => self.add(char),
            }
        }
        while !self.open.is_empty() {
            self.close();
        }
        self.end_command(false);
    }

    /// Begins a command whose output becomes part of the current word.
    fn enter(&mut self, closer: char) {
        let mut inner = Place::default();
        self.begun += 1;
        inner.current.order = self.begun;
        inner.current.makes_word_of = self.here.current.program().map(|(program, _)| program.to_owned());
        self.open.push((closer, Some(std::mem::replace(&mut self.here, inner))));
    }

    /// Ends a bracket or a substitution.
    fn close(&mut self) {
        self.end_command(false);
        if let Some((_, Some(outer))) = self.open.pop() {
            self.here = outer;
            // What it writes is not known, but it makes a word.
            self.here.word.get_or_insert_default();
        }
    }

    fn add(&mut self, char: char) {
        self.here.word.get_or_insert_default().push(char);
    }

    fn end_word(&mut self) {
        let Some(word) = self.here.word.take() else { return };
        if std::mem::take(&mut self.here.redirected) {
            self.here.current.writes.push(word);
        } else {
            self.here.current.words.push(word);
        }
    }

    fn end_command(&mut self, pipes: bool) {
        self.end_word();
        self.here.redirected = false;
        self.begun += 1;
        let next = Simple {
            piped: pipes,
            makes_word_of: self.here.current.makes_word_of.clone(),
            order: self.begun,
            ..Simple::default()
        };
        let ended = std::mem::replace(&mut self.here.current, next);
        if ended.words.is_empty() && ended.writes.is_empty() {
            // `a | (b)`: what is in the brackets is what is piped into.
            self.here.current.piped |= ended.piped;
        } else {
            self.found.push(ended);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &str) -> Vec<String> {
        programs(command).iter().map(|simple| simple.words.join(" ")).collect()
    }

    #[test]
    fn commands_are_taken_apart() {
        assert_eq!(words("a b && c 'd ; e' | f \"g h\"; i"), ["a b", "c d ; e", "f g h", "i"]);
        assert_eq!(words("echo \"$(rm x)\" `ls`"), ["echo  ", "rm x", "ls"]);
        assert_eq!(words("git $(ls -a) x"), ["git  x", "ls -a"]);
        assert_eq!(words("bash -c 'rm x; ls'"), ["bash -c rm x; ls", "rm x", "ls"]);
        assert_eq!(words("a 2>&1 >out"), ["a 2"]);
        assert_eq!(programs("a >| /dev/sda")[0].writes, ["/dev/sda"]);
    }

    #[test]
    fn pipes_are_seen_also_through_brackets() {
        let piped = |command: &str| programs(command).iter().map(|simple| simple.piped).collect::<Vec<_>>();
        assert_eq!(piped("a | b || c"), [false, true, false]);
        assert_eq!(piped("a | (b)"), [false, true]);
    }

    #[test]
    fn the_program_is_found_behind_wrappers() {
        let program = |command: &str| programs(command)[0].program().map(|(program, _)| program.to_owned());
        assert_eq!(program("A=1 sudo -n /bin/rm x").as_deref(), Some("rm"));
        assert_eq!(program("then rm x").as_deref(), Some("rm"));
        assert_eq!(program("A=1"), None);
    }
}
