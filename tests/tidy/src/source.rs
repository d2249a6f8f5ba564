//! A Rust file as the rules see it: tokens, resolved paths, functions, and which lines are tests.
//!
//! Tokens rather than the syntax tree carry most rules, because the tree ends where a macro call begins; comments and
//! the text of string literals are not in them. Resolution is per file and by name: an import is followed, a `use` of
//! the same name in another module of the file is not told apart.

use std::{collections::HashMap, ops::RangeInclusive};

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use syn::{
    Attribute, Block, ImplItemFn, ItemFn, ItemMod, ItemUse, Signature, TraitItemFn, UseTree, spanned::Spanned as _,
    visit::Visit,
};

/// A token: an identifier, a literal, a delimiter, `::`, or one character of punctuation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// As written.
    pub text: String,
    /// Where it begins, from 1.
    pub line: usize,
}

/// A path that is named somewhere, its first segment replaced by what it was imported as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// `["tonic", "Status", "new"]`.
    pub segments: Vec<String>,
    /// Where it begins, from 1.
    pub line: usize,
    /// Whether an opening parenthesis follows.
    pub called: bool,
    /// Whether it follows a dot: a method or a field.
    pub member: bool,
}

impl Path {
    /// Whether it begins with these segments.
    pub fn starts_with(&self, prefix: &[&str]) -> bool {
        self.segments.len() >= prefix.len() && self.segments.iter().zip(prefix).all(|(have, want)| have == want)
    }

    /// The last segment.
    pub fn last(&self) -> &str {
        self.segments.last().map_or("", String::as_str)
    }
}

/// A function with a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its name, without its type.
    pub name: String,
    /// The lines from its first attribute to the closing brace.
    pub lines: RangeInclusive<usize>,
    /// Lines with code inside its braces, as clippy counts them.
    pub size: usize,
    /// Whether the test harness runs it.
    pub is_test: bool,
    /// Whether it runs on a paused clock.
    pub is_paused: bool,
}

/// A parsed file.
#[derive(Debug, Clone)]
pub struct Source {
    /// From the root of the repository, with slashes.
    pub path: String,
    /// The text.
    pub text: String,
    /// All tokens, in order.
    pub tokens: Vec<Token>,
    /// All paths, imports included.
    pub paths: Vec<Path>,
    /// All functions, nested ones too.
    pub functions: Vec<Function>,
    /// The lines of items that only tests have.
    pub test_lines: Vec<RangeInclusive<usize>>,
    /// The modules with a file of their own that only tests have.
    pub test_modules: Vec<String>,
    /// Whether the whole file is a test's: set from outside for a module that its parent declares so.
    pub is_test_file: bool,
}

impl Source {
    /// Parses a file.
    ///
    /// # Errors
    /// It is not Rust.
    pub fn parse(path: &str, text: &str) -> syn::Result<Self> {
        let stream: TokenStream = text.parse()?;
        let file = syn::parse_file(text)?;
        let mut items = Items { lines: text.lines().collect(), ..Items::default() };
        items.visit_file(&file);
        let mut tokens = Vec::new();
        flatten(stream, &mut tokens);
        let mut paths = items.imported;
        paths.extend(named(&tokens, &items.names));
        let in_test_folder = path.split('/').any(|part| part == "tests");
        Ok(Self {
            path: path.to_owned(),
            text: text.to_owned(),
            tokens,
            paths,
            functions: items.functions,
            test_lines: items.test_lines,
            test_modules: items.test_modules,
            is_test_file: in_test_folder || file.attrs.iter().any(is_cfg_test),
        })
    }

    /// Whether a line is part of the tests.
    pub fn is_test(&self, line: usize) -> bool {
        self.is_test_file || self.test_lines.iter().any(|lines| lines.contains(&line))
    }

    /// A line's text, from 1, without its indentation; empty when there is none.
    pub fn line(&self, line: usize) -> &str {
        line.checked_sub(1).and_then(|index| self.text.lines().nth(index)).unwrap_or_default().trim()
    }

    /// The places of a sequence of tokens, written with spaces between them.
    pub fn sequences(&self, pattern: &str) -> Vec<usize> {
        let pattern: Vec<&str> = pattern.split(' ').collect();
        let windows = self.tokens.windows(pattern.len()).enumerate();
        windows.filter(|(_, seen)| seen.iter().map(|t| &t.text).eq(pattern.iter())).map(|(at, _)| at).collect()
    }
}

fn flatten(stream: TokenStream, into: &mut Vec<Token>) {
    let mut tokens = stream.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let line = token.span().start().line;
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                into.push(Token { text: open.to_owned(), line });
                flatten(group.stream(), into);
                into.push(Token { text: close.to_owned(), line: group.span_close().start().line });
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' && punct.spacing() == Spacing::Joint => {
                let second = tokens.next_if(|next| matches!(next, TokenTree::Punct(p) if p.as_char() == ':'));
                into.push(Token { text: if second.is_some() { "::" } else { ":" }.to_owned(), line });
            }
            other => into.push(Token { text: other.to_string(), line }),
        }
    }
}

fn is_identifier(token: &Token) -> bool {
    token.text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// The paths among the tokens.
fn named(tokens: &[Token], names: &HashMap<String, Vec<String>>) -> Vec<Path> {
    let mut paths = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if !is_identifier(&tokens[at]) {
            at += 1;
            continue;
        }
        let start = at;
        let mut segments = vec![tokens[at].text.clone()];
        while tokens.get(at + 1).is_some_and(|t| t.text == "::") && tokens.get(at + 2).is_some_and(is_identifier) {
            segments.push(tokens[at + 2].text.clone());
            at += 2;
        }
        let before = start.checked_sub(1).map_or("", |index| tokens[index].text.as_str());
        let member = before == ".";
        if let (false, Some(full)) = (member, names.get(&segments[0])) {
            segments.splice(..1, full.iter().cloned());
        }
        let called = tokens.get(at + 1).is_some_and(|t| t.text == "(") && before != "fn";
        paths.push(Path { segments, line: tokens[start].line, called, member });
        at += 1;
    }
    paths
}

#[derive(Default)]
struct Items<'a> {
    lines: Vec<&'a str>,
    imported: Vec<Path>,
    names: HashMap<String, Vec<String>>,
    functions: Vec<Function>,
    test_lines: Vec<RangeInclusive<usize>>,
    test_modules: Vec<String>,
}

impl Items<'_> {
    fn function(
        &mut self,
        attributes: &[Attribute],
        signature: &Signature,
        block: &Block,
        whole: RangeInclusive<usize>,
    ) {
        let body = block.span();
        let inside = self.lines.get(body.start().line..body.end().line.saturating_sub(1)).unwrap_or_default();
        let is_code = |line: &&&str| !line.trim().is_empty() && !line.trim().starts_with("//");
        let is_test = |attribute: &Attribute| attribute.path().segments.last().is_some_and(|s| s.ident == "test");
        let has_flag = |attribute: &Attribute, flag: &str| {
            attribute.meta.require_list().is_ok_and(|list| list.tokens.to_string().contains(flag))
        };
        let tested = attributes.iter().any(is_test);
        if tested || attributes.iter().any(is_cfg_test) {
            self.test_lines.push(whole.clone());
        }
        self.functions.push(Function {
            name: signature.ident.to_string(),
            lines: whole,
            size: inside.iter().filter(is_code).count(),
            is_test: tested,
            is_paused: attributes.iter().any(|attribute| is_test(attribute) && has_flag(attribute, "start_paused")),
        });
    }

    fn import(&mut self, prefix: &mut Vec<String>, tree: &UseTree, line: usize) {
        let mut add = |prefix: &[String], name: &str, known_as: String| {
            let mut segments = prefix.to_vec();
            if name != "self" || segments.is_empty() {
                segments.push(name.to_owned());
            }
            let known_as = if known_as == "self" { segments.last().cloned().unwrap_or_default() } else { known_as };
            self.names.insert(known_as, segments.clone());
            self.imported.push(Path { segments, line, called: false, member: false });
        };
        match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.import(prefix, &path.tree, line);
                prefix.pop();
            }
            UseTree::Name(name) => add(prefix, &name.ident.to_string(), name.ident.to_string()),
            UseTree::Rename(rename) => add(prefix, &rename.ident.to_string(), rename.rename.to_string()),
            UseTree::Glob(_) => {
                let segments = prefix.iter().cloned().chain(["*".to_owned()]).collect();
                self.imported.push(Path { segments, line, called: false, member: false });
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(prefix, tree, line)),
        }
    }
}

impl<'ast> Visit<'ast> for Items<'_> {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.import(&mut Vec::new(), &item.tree, item.span().start().line);
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.function(&item.attrs, &item.sig, &item.block, lines_of(item));
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.function(&item.attrs, &item.sig, &item.block, lines_of(item));
        syn::visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.attrs, &item.sig, block, lines_of(item));
        }
        syn::visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if item.attrs.iter().any(is_cfg_test) {
            match item.content {
                Some(_) => self.test_lines.push(lines_of(item)),
                None => self.test_modules.push(item.ident.to_string()),
            }
        }
        syn::visit::visit_item_mod(self, item);
    }
}

fn lines_of(item: &impl syn::spanned::Spanned) -> RangeInclusive<usize> {
    item.span().start().line..=item.span().end().line
}

fn is_cfg_test(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute.meta.require_list().is_ok_and(|list| list.tokens.to_string() == "test")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> Vec<String> {
        let source = Source::parse("libs/x/src/lib.rs", text).unwrap();
        source.paths.iter().map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn imports_are_followed_also_into_macros() {
        let text = "use tonic::{Status as S, transport::{self, Server}};
            fn f() { vec![S::new(), transport::X::y(), Server::builder()]; }";
        let paths = resolved(text);
        for path in ["tonic::Status::new", "tonic::transport::X::y", "tonic::transport::Server::builder"] {
            assert!(paths.contains(&path.to_owned()), "{path} not in {paths:?}");
        }
    }

    #[test]
    fn comments_and_strings_are_not_code() {
        assert!(!resolved("// std::env::var\nconst A: &str = \"std::env::var\";").join(" ").contains("env"));
    }

    #[test]
    fn tests_are_told_apart() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n#[tokio::test(start_paused = true)]\nasync fn b() {}\n}\n#[cfg(test)]\nmod c;\n";
        let source = Source::parse("libs/x/src/lib.rs", text).unwrap();
        assert_eq!((source.is_test(1), source.is_test(5)), (false, true));
        assert_eq!(source.test_modules, ["c"]);
        let b = &source.functions[1];
        assert_eq!((b.name.as_str(), b.is_test, b.is_paused), ("b", true, true));
        assert!(Source::parse("services/x/tests/a.rs", "").unwrap().is_test(1));
        assert!(Source::parse("services/x/src/a.rs", "#![cfg(test)]").unwrap().is_test(1));
    }

    #[test]
    fn functions_are_measured_inside_their_braces() {
        let text = "fn a(\n    b: u8,\n) {\n    // why\n\n    b;\n    b;\n}\n";
        let source = Source::parse("libs/x/src/lib.rs", text).unwrap();
        assert_eq!((source.functions[0].size, source.functions[0].lines.clone()), (2, 1..=8));
    }
}
