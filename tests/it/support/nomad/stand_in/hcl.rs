//! The syntax of job files, as far as ours use it: blocks with labels, attributes, strings with
//! `${...}`, heredocs, numbers, lists, maps, and `var.x`. No operators and no functions.

use serde_json::Value;

/// What is between two braces, or a whole file.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Body {
    pub(super) attributes: Vec<(String, Expression)>,
    pub(super) blocks: Vec<Block>,
}

/// `kind "label" { ... }`
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Block {
    pub(super) kind: String,
    pub(super) labels: Vec<String>,
    pub(super) body: Body,
}

/// What stands behind an equals sign.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expression {
    /// A number or a bool.
    Literal(Value),
    /// A text; holds `${...}` as it was written.
    Text(String),
    /// A name without quotes: `var.x`, or a type.
    Name(String),
    List(Vec<Expression>),
    Map(Vec<(String, Expression)>),
}

/// What Nomad says of a file that it cannot read.
pub(super) type Complaint = String;

/// Reads a file.
pub(super) fn read(text: &str) -> Result<Body, Complaint> {
    let mut reader = Reader { text: text.chars().collect(), at: 0 };
    let body = reader.body()?;
    match reader.peek() {
        None => Ok(body),
        Some(_) => Err(reader.complain(reader.at, reader.at + 1, "Invalid character")),
    }
}

struct Reader {
    text: Vec<char>,
    at: usize,
}

impl Reader {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn starts_with(&self, text: &str) -> bool {
        let mut here = self.text[self.at.min(self.text.len())..].iter();
        text.chars().all(|wanted| here.next() == Some(&wanted))
    }

    fn complain(&self, from: usize, to: usize, what: &str) -> Complaint {
        let before = &self.text[..from.min(self.text.len())];
        let line = before.iter().filter(|each| **each == '\n').count() + 1;
        let column = before.iter().rev().take_while(|each| **each != '\n').count() + 1;
        format!("input.hcl:{line},{column}-{}: {what}", column + to - from)
    }

    fn skip_blanks(&mut self) {
        loop {
            if self.peek().is_some_and(char::is_whitespace) {
                self.at += 1;
            } else if self.peek() == Some('#') || self.starts_with("//") {
                while self.peek().is_some_and(|each| each != '\n') {
                    self.at += 1;
                }
            } else if self.starts_with("/*") {
                while self.peek().is_some() && !self.starts_with("*/") {
                    self.at += 1;
                }
                self.at += 2;
            } else {
                return;
            }
        }
    }

    fn name(&mut self) -> Option<String> {
        let begins = |each: char| each.is_alphabetic() || each == '_';
        let goes_on = |each: char| each.is_alphanumeric() || matches!(each, '_' | '-' | '.');
        if !self.peek().is_some_and(begins) {
            return None;
        }
        let from = self.at;
        while self.peek().is_some_and(goes_on) {
            self.at += 1;
        }
        Some(self.text[from..self.at].iter().collect())
    }

    fn body(&mut self) -> Result<Body, Complaint> {
        let mut body = Body::default();
        loop {
            self.skip_blanks();
            let from = self.at;
            let Some(name) = self.name() else { return Ok(body) };
            let to = self.at;
            self.skip_blanks();
            if self.eat('=') {
                body.attributes.push((name, self.expression()?));
                continue;
            }
            let mut labels = Vec::new();
            while self.peek() == Some('"') {
                labels.push(self.quoted()?);
                self.skip_blanks();
            }
            if !self.eat('{') {
                let what = "Argument or block definition required; An argument or block \
                            definition is required here. To set an argument, use the equals sign \
                            \"=\" to introduce the argument value.";
                return Err(self.complain(from, to, what));
            }
            let inner = self.body()?;
            if !self.eat('}') {
                let what = "Unclosed configuration block; There is no closing brace for this \
                            block before the end of the file.";
                return Err(self.complain(from, to, what));
            }
            body.blocks.push(Block { kind: name, labels, body: inner });
        }
    }

    fn expression(&mut self) -> Result<Expression, Complaint> {
        self.skip_blanks();
        let from = self.at;
        match self.peek() {
            Some('"') => Ok(Expression::Text(self.quoted()?)),
            Some('[') => {
                self.at += 1;
                let mut items = Vec::new();
                loop {
                    self.skip_blanks();
                    if self.eat(']') {
                        return Ok(Expression::List(items));
                    }
                    items.push(self.expression()?);
                    self.skip_blanks();
                    self.eat(',');
                }
            }
            Some('{') => self.map(),
            Some('<') if self.starts_with("<<") => self.heredoc(),
            Some(digit) if digit.is_ascii_digit() || digit == '-' => {
                while self.peek().is_some_and(|each| each.is_ascii_digit() || "-.e".contains(each))
                {
                    self.at += 1;
                }
                let number: String = self.text[from..self.at].iter().collect();
                serde_json::from_str(&number)
                    .map(Expression::Literal)
                    .map_err(|_| self.complain(from, self.at, "Invalid number literal"))
            }
            _ => match self.name().as_deref() {
                Some("true") => Ok(Expression::Literal(true.into())),
                Some("false") => Ok(Expression::Literal(false.into())),
                Some("null") => Ok(Expression::Literal(Value::Null)),
                Some(name) => Ok(Expression::Name(self.call(name, from)?)),
                None => Err(self.complain(from, from + 1, "Invalid expression")),
            },
        }
    }

    /// A type like `list(string)` is a name too; any other call is beyond this reader.
    fn call(&mut self, name: &str, from: usize) -> Result<String, Complaint> {
        if !self.eat('(') {
            return Ok(name.to_owned());
        }
        if !matches!(name, "list" | "set" | "map") {
            return Err(self.complain(from, self.at, "the stand-in for Nomad knows no functions"));
        }
        while self.peek().is_some_and(|each| each != ')') {
            self.at += 1;
        }
        self.eat(')');
        Ok(self.text[from..self.at.min(self.text.len())].iter().collect())
    }

    fn map(&mut self) -> Result<Expression, Complaint> {
        self.at += 1;
        let mut entries = Vec::new();
        loop {
            self.skip_blanks();
            if self.eat('}') {
                return Ok(Expression::Map(entries));
            }
            let from = self.at;
            let key = match self.peek() {
                Some('"') => self.quoted()?,
                _ => self
                    .name()
                    .ok_or_else(|| self.complain(from, from + 1, "Missing attribute key"))?,
            };
            self.skip_blanks();
            if !self.eat('=') && !self.eat(':') {
                return Err(self.complain(from, self.at, "Missing attribute value"));
            }
            entries.push((key, self.expression()?));
            self.skip_blanks();
            self.eat(',');
        }
    }

    fn quoted(&mut self) -> Result<String, Complaint> {
        let from = self.at;
        self.at += 1;
        let mut text = String::new();
        // Quotes inside ${...} do not end the text.
        let mut depth = 0;
        while let Some(each) = self.peek() {
            self.at += 1;
            match each {
                '"' if depth == 0 => return Ok(text),
                '$' if self.peek() == Some('{') => {
                    depth += 1;
                    self.at += 1;
                    text.push_str("${");
                }
                '}' if depth > 0 => {
                    depth -= 1;
                    text.push('}');
                }
                '\\' if depth == 0 => {
                    let escaped = self.peek();
                    self.at += 1;
                    text.push(match escaped {
                        Some('n') => '\n',
                        Some('r') => '\r',
                        Some('t') => '\t',
                        Some(same @ ('"' | '\\')) => same,
                        _ => return Err(self.complain(self.at - 2, self.at, "Invalid escape")),
                    });
                }
                '\n' if depth == 0 => break,
                other => text.push(other),
            }
        }
        Err(self.complain(from, self.at, "Invalid multi-line string"))
    }

    fn heredoc(&mut self) -> Result<Expression, Complaint> {
        let from = self.at;
        self.at += 2;
        let dedent = self.eat('-');
        let end = self.name().unwrap_or_default();
        while self.peek().is_some_and(|each| each != '\n') {
            self.at += 1;
        }
        self.at += 1;
        let mut lines = Vec::new();
        while self.at < self.text.len() {
            let line: String = self.text[self.at..].iter().take_while(|c| **c != '\n').collect();
            self.at += line.chars().count() + 1;
            if line.trim() == end {
                let margin = |line: &String| line.len() - line.trim_start().len();
                let full = lines.iter().filter(|line: &&String| !line.trim().is_empty());
                let cut = if dedent { full.map(margin).min().unwrap_or(0) } else { 0 };
                let text = lines.iter().map(|line| line.get(cut..).unwrap_or("").to_owned() + "\n");
                return Ok(Expression::Text(text.collect()));
            }
            lines.push(line);
        }
        Err(self.complain(from, from + 2, "Unterminated template string"))
    }
}

#[test]
fn a_file_is_read_into_blocks_and_attributes() {
    let text = "// one\njob \"a\" {\n  n = -1.5 # two\n  on = true\n  /* three */ list = [\"x\", var.y,]\n\
                group \"g\" { map = { k = \"${a.b}\", \"q\" : 2 } }\n  t = <<-EOF\n    one\n      two\n\
                    EOF\n}\n";
    let body = read(text).unwrap();
    let [job] = body.blocks.as_slice() else { panic!("{body:?}") };
    assert_eq!((job.kind.as_str(), job.labels.as_slice()), ("job", &["a".to_owned()][..]));
    let wanted = [
        ("n", Expression::Literal(Value::from(-1.5))),
        ("on", Expression::Literal(true.into())),
        (
            "list",
            Expression::List(vec![Expression::Text("x".into()), Expression::Name("var.y".into())]),
        ),
        ("t", Expression::Text("one\n  two\n".into())),
    ];
    let wanted = wanted.map(|(name, expression)| (name.to_owned(), expression));
    assert_eq!(job.body.attributes, wanted);
    let map = &job.body.blocks[0].body.attributes[0].1;
    let text = Expression::Text("${a.b}".into());
    let two = Expression::Literal(2.into());
    assert_eq!(*map, Expression::Map(vec![("k".into(), text), ("q".into(), two)]));
    assert!(read("job \"a\" {").unwrap_err().starts_with("input.hcl:1,1-4: Unclosed"));
}
