//! nginx's grammar: directives with words, ended by `;` or followed by a block.

use super::super::Unreadable;
use super::super::files::{Files, glob};
use super::super::model::{Model, Origin};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Levels of blocks, and of included files, at most.
const DEPTH_MAX: usize = 24;
/// Directives of all files, at most.
const DIRECTIVES_MAX: usize = 200_000;

/// A directive.
#[derive(Clone, Debug)]
pub(super) struct Directive {
    /// Its name.
    pub(super) name: String,
    /// Its words, without quotes.
    pub(super) words: Vec<String>,
    /// Its block, if it has one.
    pub(super) block: Option<Vec<Directive>>,
    /// Its place.
    pub(super) at: Origin,
}

impl Directive {
    /// The directive as text, for notes.
    pub(super) fn shown(&self) -> String {
        [std::slice::from_ref(&self.name), self.words.as_slice()].concat().join(" ")
    }

    /// A word by its position, or nothing.
    pub(super) fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }

    /// The directives of the block.
    pub(super) fn inner(&self) -> &[Directive] {
        self.block.as_deref().unwrap_or_default()
    }
}

#[derive(Debug, PartialEq)]
enum Token {
    Word(String),
    Open,
    Close,
    End,
}

/// Reads a file and what it includes.
pub(super) struct Reader<'a> {
    files: &'a dyn Files,
    /// Where relative names start.
    folder: PathBuf,
    /// Remarks on files that could not be included.
    pub(super) model: &'a mut Model,
    count: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(files: &'a dyn Files, folder: &Path, model: &'a mut Model) -> Reader<'a> {
        Reader { files, folder: folder.to_owned(), model, count: 0 }
    }

    /// The directives of a file.
    pub(super) fn file(&mut self, path: &Path, depth: usize) -> Result<Vec<Directive>, Unreadable> {
        let shown: Rc<str> = path.display().to_string().into();
        let text = self.files.read(path).map_err(|why| Unreadable(format!("{shown}: {why}")))?;
        let mut lexer = Lexer { text: &text, at: 0, line: 1, file: &shown };
        let directives = self.block(&mut lexer, depth, true)?;
        Ok(directives)
    }

    fn block(
        &mut self,
        lexer: &mut Lexer<'_>,
        depth: usize,
        is_file: bool,
    ) -> Result<Vec<Directive>, Unreadable> {
        if depth > DEPTH_MAX {
            return Err(lexer.wrong("more than 24 levels of blocks and files"));
        }
        let mut directives = Vec::new();
        loop {
            let line = lexer.next_line();
            let (name, at) = match lexer.token()? {
                Some(Token::Word(word)) => (word, Origin { file: lexer.file.clone(), line }),
                Some(Token::End) => continue,
                Some(Token::Close) if !is_file => return Ok(directives),
                None if is_file => return Ok(directives),
                Some(Token::Close) => return Err(lexer.wrong("a `}` without its `{`")),
                Some(Token::Open) => return Err(lexer.wrong("a block without a name")),
                None => return Err(lexer.wrong("a `}` is missing")),
            };
            self.count += 1;
            if self.count > DIRECTIVES_MAX {
                return Err(lexer.wrong("more than 200,000 directives"));
            }
            let mut words = Vec::new();
            let block = loop {
                match lexer.token()? {
                    Some(Token::Word(word)) => words.push(word),
                    Some(Token::End) => break None,
                    Some(Token::Open) if name.ends_with("_by_lua_block") => {
                        lexer.skip_code()?;
                        break Some(Vec::new());
                    }
                    Some(Token::Open) => break Some(self.block(lexer, depth + 1, false)?),
                    Some(Token::Close) | None => {
                        return Err(lexer.wrong(&format!("`{name}` is not ended by `;`")));
                    }
                }
            };
            let directive = Directive { name, words, block, at };
            match directive.name.as_str() {
                "include" => directives.extend(self.include(&directive, depth)?),
                _ => directives.push(directive),
            }
        }
    }

    fn include(
        &mut self,
        directive: &Directive,
        depth: usize,
    ) -> Result<Vec<Directive>, Unreadable> {
        let pattern = self.folder.join(directive.word(0));
        let found = glob(self.files, &pattern);
        let is_pattern = directive.word(0).contains(['*', '?', '[']);
        let mut directives = Vec::new();
        for path in found {
            match self.file(&path, depth + 1) {
                Ok(included) => directives.extend(included),
                Err(_) if path.ends_with("mime.types") => {}
                Err(Unreadable(why)) if self.files.read(&path).is_err() && !is_pattern => {
                    let hint = format!(
                        "the file cannot be read ({why}): import where it is, or copy its text"
                    );
                    self.model.left_out(&directive.at, &directive.shown(), &hint);
                }
                Err(unreadable) => return Err(unreadable),
            }
        }
        Ok(directives)
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    file: &'a Rc<str>,
}

impl Lexer<'_> {
    fn wrong(&self, message: &str) -> Unreadable {
        Unreadable(format!("{}:{}: {message}", self.file, self.line))
    }

    fn peek(&self) -> Option<char> {
        self.text.get(self.at..)?.chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        self.line += usize::from(c == '\n');
        Some(c)
    }

    /// Skips blanks and comments; the line of what follows.
    fn next_line(&mut self) -> usize {
        while let Some(c) = self.peek() {
            match c {
                '#' => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.bump();
                    }
                }
                c if c.is_whitespace() || c == '\u{feff}' => {
                    self.bump();
                }
                _ => break,
            }
        }
        self.line
    }

    fn token(&mut self) -> Result<Option<Token>, Unreadable> {
        self.next_line();
        let Some(first) = self.peek() else { return Ok(None) };
        match first {
            '{' | '}' | ';' => {
                self.bump();
                Ok(Some(match first {
                    '{' => Token::Open,
                    '}' => Token::Close,
                    _ => Token::End,
                }))
            }
            '"' | '\'' => {
                self.bump();
                self.quoted(first).map(|word| Some(Token::Word(word)))
            }
            _ => Ok(Some(Token::Word(self.word()))),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, Unreadable> {
        let start = self.line;
        let mut word = String::new();
        while let Some(c) = self.bump() {
            match c {
                c if c == quote => return Ok(word),
                '\\' => match self.bump() {
                    Some(c) if c == quote || c == '\\' => word.push(c),
                    Some('n') => word.push('\n'),
                    Some('t') => word.push('\t'),
                    Some('r') => word.push('\r'),
                    Some(c) => word.extend(['\\', c]),
                    None => break,
                },
                c => word.push(c),
            }
        }
        Err(Unreadable(format!("{}:{start}: a quote is not closed", self.file)))
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(c) = self.peek() {
            match c {
                c if c.is_whitespace() || matches!(c, ';') => break,
                // `${name}` is a part of a word.
                '{' if word.ends_with('$') => {
                    while let Some(c) = self.bump() {
                        word.push(c);
                        if c == '}' || c == '\n' {
                            break;
                        }
                    }
                }
                '{' => break,
                '\\' => {
                    self.bump();
                    word.push('\\');
                    if let Some(c) = self.bump() {
                        word.push(c);
                    }
                }
                c => {
                    self.bump();
                    word.push(c);
                }
            }
        }
        word
    }

    /// Skips the code of another language up to the brace that closes it.
    fn skip_code(&mut self) -> Result<(), Unreadable> {
        let mut depth = 1_usize;
        while let Some(c) = self.bump() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Ok(());
            }
        }
        Err(self.wrong("a `}` is missing"))
    }
}
