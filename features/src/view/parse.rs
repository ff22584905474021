//! Reads `CREATE FEATURE VIEW name ENTITY e WINDOWS (…) [WITH (…)] AS SELECT …;` up to the SELECT, whose
//! text is left to DataFusion.

use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::{
    dialect::GenericDialect,
    tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Whitespace},
};
use ingest::Millis;

use super::window::{Period, Span, Window};
use crate::error::FeatureError;

/// A definition as written, before DataFusion has seen its SELECT.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// Name of the file, for messages.
    pub file: String,
    /// Name of the view.
    pub name: String,
    /// Name of the entity column.
    pub entity: String,
    /// The comment above the definition.
    pub description: String,
    /// Sliding ones first, the shortest first; then the others as written.
    pub windows: Vec<Window>,
    /// To which multiple the lower edge of a sliding window falls back; 1 is exact.
    pub resolution_ms: Millis,
    /// How far behind the newest signal a signal may come and still be counted on time.
    pub lateness_ms: Millis,
    /// Who answers for the view.
    pub owner: Option<String>,
    /// Freshness objective.
    pub freshness_ms: Option<Millis>,
    /// The SELECT, as written.
    pub select: String,
    /// Where the SELECT begins: line and column, from 1.
    pub select_at: (u64, u64),
    /// Where the definition begins.
    pub at: (u64, u64),
}

/// The definition of an on-demand view as written: features computed at a read.
#[derive(Debug, Clone, PartialEq)]
pub struct OnDemandDefinition {
    /// Name of the file, for messages.
    pub file: String,
    /// Name of the view.
    pub name: String,
    /// Name of the entity column.
    pub entity: String,
    /// The comment above the definition.
    pub description: String,
    /// Fields a request may bring, with their types.
    pub request: Vec<(String, DataType)>,
    /// The SELECT, as written.
    pub select: String,
    /// Where the SELECT begins: line and column, from 1.
    pub select_at: (u64, u64),
    /// Where the definition begins.
    pub at: (u64, u64),
}

/// A file, read.
#[derive(Debug, Default)]
pub struct Definitions {
    /// Views over signals.
    pub views: Vec<Definition>,
    /// Views over other views.
    pub on_demand: Vec<OnDemandDefinition>,
}

/// Lateness allowed where a view does not say: a phone that was offline for a day.
pub const DEFAULT_LATENESS_MS: Millis = 24 * 3_600_000;

/// Every definition over signals of a file.
pub fn parse(file: &str, text: &str) -> Result<Vec<Definition>, FeatureError> {
    parse_all(file, text).map(|d| d.views)
}

/// Every definition of a file.
pub fn parse_all(file: &str, text: &str) -> Result<Definitions, FeatureError> {
    let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location().map_err(|e| {
        FeatureError::Definition {
            file: file.to_owned(),
            line: e.location.line,
            column: e.location.column,
            message: e.message,
        }
    })?;
    let mut p = Parser { file, text, tokens, at: 0, comment: String::new() };
    let mut found = Definitions::default();
    while p.skip_space() {
        let first = p.keyword("CREATE")?;
        let at = (first.span.start.line, first.span.start.column);
        if p.next_is("ON") {
            found.on_demand.push(p.on_demand(at)?);
        } else {
            found.views.push(p.definition(at)?);
        }
    }
    Ok(found)
}

struct Parser<'a> {
    file: &'a str,
    text: &'a str,
    tokens: Vec<TokenWithSpan>,
    at: usize,
    comment: String,
}

impl Parser<'_> {
    /// Skips white space and stray semicolons, keeping the last run of comments; false at the end.
    fn skip_space(&mut self) -> bool {
        let mut newlines = 0;
        while let Some(t) = self.tokens.get(self.at) {
            match &t.token {
                Token::Whitespace(Whitespace::SingleLineComment { comment, .. }) => {
                    if newlines > 1 {
                        self.comment.clear();
                    }
                    newlines = 1; // the comment's own line end
                    push_line(&mut self.comment, comment.trim());
                }
                Token::Whitespace(Whitespace::MultiLineComment(comment)) => {
                    self.comment.clear();
                    for line in comment.lines() {
                        push_line(&mut self.comment, line.trim().trim_start_matches('*').trim());
                    }
                }
                Token::Whitespace(Whitespace::Newline) => newlines += 1,
                Token::Whitespace(_) | Token::SemiColon => {}
                Token::EOF => return false,
                _ => return true,
            }
            self.at += 1;
        }
        false
    }

    fn peek(&mut self) -> TokenWithSpan {
        self.skip_space();
        self.tokens.get(self.at).cloned().unwrap_or_else(TokenWithSpan::new_eof)
    }

    fn next(&mut self) -> TokenWithSpan {
        let t = self.peek();
        self.at += 1;
        t
    }

    fn wrong<T>(&self, t: &TokenWithSpan, message: impl Into<String>) -> Result<T, FeatureError> {
        let Location { line, column } = match t.span.start {
            Location { line: 0, .. } => end_of(self.text),
            at => at,
        };
        Err(FeatureError::Definition { file: self.file.to_owned(), line, column, message: message.into() })
    }

    fn keyword(&mut self, word: &str) -> Result<TokenWithSpan, FeatureError> {
        let t = self.next();
        match &t.token {
            Token::Word(w) if w.value.eq_ignore_ascii_case(word) => Ok(t),
            other => self.wrong(
                &t,
                format!(
                    "expected {word}, found `{other}`; a definition reads CREATE FEATURE VIEW name ENTITY column \
                     WINDOWS (1 HOUR, …) AS SELECT … GROUP BY column;"
                ),
            ),
        }
    }

    fn ident(&mut self, what: &str) -> Result<String, FeatureError> {
        let t = self.next();
        match &t.token {
            Token::Word(w) if is_name(&w.value) => Ok(w.value.clone()),
            other => self.wrong(
                &t,
                format!("expected {what} (lower-case letters, digits and underscores), found `{other}`"),
            ),
        }
    }

    /// Whether the next word is this one; not taken.
    fn next_is(&mut self, word: &str) -> bool {
        matches!(&self.peek().token, Token::Word(w) if w.value.eq_ignore_ascii_case(word))
    }

    fn on_demand(&mut self, at: (u64, u64)) -> Result<OnDemandDefinition, FeatureError> {
        let description = std::mem::take(&mut self.comment);
        for word in ["ON", "DEMAND", "FEATURE", "VIEW"] {
            self.keyword(word)?;
        }
        let name = self.ident("the view's name")?;
        self.keyword("ENTITY")?;
        let entity = self.ident("the entity's column")?;
        let request = if self.next_is("REQUEST") { self.request()? } else { Vec::new() };
        let (select, select_at) = self.select()?;
        let file = self.file.to_owned();
        Ok(OnDemandDefinition { file, name, entity, description, request, select, select_at, at })
    }

    fn request(&mut self) -> Result<Vec<(String, DataType)>, FeatureError> {
        self.keyword("REQUEST")?;
        self.punctuation(Token::LParen)?;
        let mut fields: Vec<(String, DataType)> = Vec::new();
        loop {
            let name = self.ident("a field of the request")?;
            let t = self.next();
            let data_type = match t.token.to_string().to_uppercase().as_str() {
                "BIGINT" | "INT" | "INTEGER" => DataType::Int64,
                "DOUBLE" | "FLOAT" => DataType::Float64,
                "BOOLEAN" => DataType::Boolean,
                "TEXT" | "VARCHAR" => DataType::Utf8,
                "TIMESTAMP" => super::time::instant_type(),
                other => {
                    return self.wrong(
                        &t,
                        format!(
                            "expected a type (BIGINT, DOUBLE, BOOLEAN, TEXT or TIMESTAMP), found `{other}`"
                        ),
                    );
                }
            };
            if fields.iter().any(|(n, _)| *n == name) {
                return self.wrong(&t, format!("the field {name} stands here twice"));
            }
            fields.push((name, data_type));
            let t = self.next();
            match t.token {
                Token::Comma => {}
                Token::RParen => return Ok(fields),
                ref other => return self.wrong(&t, format!("expected `,` or `)`, found `{other}`")),
            }
        }
    }

    fn definition(&mut self, at: (u64, u64)) -> Result<Definition, FeatureError> {
        let description = std::mem::take(&mut self.comment);
        self.keyword("FEATURE")?;
        self.keyword("VIEW")?;
        let name = self.ident("the view's name")?;
        self.keyword("ENTITY")?;
        let entity = self.ident("the entity's column")?;
        self.keyword("WINDOWS")?;
        let windows = self.windows()?;
        let mut d = Definition {
            file: self.file.to_owned(),
            name,
            entity,
            description,
            windows,
            resolution_ms: 1,
            lateness_ms: DEFAULT_LATENESS_MS,
            owner: None,
            freshness_ms: None,
            select: String::new(),
            select_at: (0, 0),
            at,
        };
        if self.next_is("WITH") {
            self.at += 1;
            self.options(&mut d)?;
        }
        (d.select, d.select_at) = self.select()?;
        Ok(d)
    }

    /// `AS SELECT …` up to the semicolon: the text, and where it begins.
    fn select(&mut self) -> Result<(String, (u64, u64)), FeatureError> {
        self.keyword("AS")?;
        let start = self.peek();
        if !self.next_is("SELECT") {
            return self.wrong(&start, format!("expected SELECT, found `{}`", start.token));
        }
        while let Some(t) = self.tokens.get(self.at)
            && !matches!(t.token, Token::SemiColon | Token::EOF)
        {
            self.at += 1;
        }
        let end = self.tokens.get(self.at).map_or(self.text.len(), |t| match t.token {
            Token::SemiColon => byte_at(self.text, t.span.start),
            _ => self.text.len(),
        });
        let select = self.text[byte_at(self.text, start.span.start)..end].trim_end().to_owned();
        self.comment.clear();
        Ok((select, (start.span.start.line, start.span.start.column)))
    }

    fn windows(&mut self) -> Result<Vec<Window>, FeatureError> {
        self.punctuation(Token::LParen)?;
        let mut windows: Vec<Window> = Vec::new();
        loop {
            let first = self.peek();
            let Some(window) = self.window() else {
                return self.wrong(
                    &first,
                    "expected a window: a span such as 30 MINUTES, 24 HOURS or 7 DAYS (seconds, minutes, hours, days, \
                     weeks; a whole number above 0, at most 10 years), TODAY, THIS WEEK, THIS MONTH, SESSION 30 MINUTES \
                     (at most a day between signals) or LIFETIME",
                );
            };
            if windows.iter().any(|w| w.label == window.label || w.span == window.span) {
                return self.wrong(&first, format!("the window {} stands here twice", window.label));
            }
            windows.push(window);
            let t = self.next();
            match t.token {
                Token::Comma => {}
                Token::RParen => break,
                ref other => return self.wrong(&t, format!("expected `,` or `)`, found `{other}`")),
            }
        }
        windows.sort_by_key(|w| match w.span {
            Span::Sliding(ms) => ms,
            _ => Millis::MAX,
        });
        Ok(windows)
    }

    fn window(&mut self) -> Option<Window> {
        let first = self.next();
        let word = match &first.token {
            Token::Number(n, _) => {
                let (label, ms) = span(n, &self.next().token.to_string())?;
                return Some(Window { label, span: Span::Sliding(ms) });
            }
            Token::Word(w) => w.value.to_lowercase(),
            _ => return None,
        };
        let (label, span) = match word.as_str() {
            "today" => ("today".to_owned(), Span::Calendar(Period::Day)),
            "lifetime" => ("lifetime".to_owned(), Span::Lifetime),
            "this" => match self.next().token.to_string().to_lowercase().as_str() {
                "day" => ("today".to_owned(), Span::Calendar(Period::Day)),
                "week" => ("this_week".to_owned(), Span::Calendar(Period::Week)),
                "month" => ("this_month".to_owned(), Span::Calendar(Period::Month)),
                _ => return None,
            },
            "session" => {
                let (number, unit) = (self.next().token, self.next().token);
                let Token::Number(n, _) = number else { return None };
                let (label, ms) = span(&n, &unit.to_string()).filter(|(_, ms)| *ms <= 86_400_000)?;
                (format!("session_{label}"), Span::Session(ms))
            }
            _ => return None,
        };
        Some(Window { label, span })
    }

    fn options(&mut self, d: &mut Definition) -> Result<(), FeatureError> {
        self.punctuation(Token::LParen)?;
        loop {
            let key = self.next();
            self.punctuation(Token::Eq)?;
            let value = self.next();
            let Token::SingleQuotedString(text) = &value.token else {
                return self.wrong(&value, format!("expected a quoted value, found `{}`", value.token));
            };
            let name = key.token.to_string().to_lowercase();
            match name.as_str() {
                "owner" => d.owner = Some(text.clone()),
                "lateness" | "freshness" | "resolution" => {
                    let mut words = text.split_whitespace();
                    let parsed = match (words.next(), words.next(), words.next()) {
                        (Some(n), Some(u), None) => span(n, u),
                        _ => None,
                    };
                    let Some((_, ms)) = parsed else {
                        return self.wrong(&value, format!("`{text}` is no span of time; write '2 hours'"));
                    };
                    match name.as_str() {
                        "lateness" => d.lateness_ms = ms,
                        "freshness" => d.freshness_ms = Some(ms),
                        _ => d.resolution_ms = ms,
                    }
                }
                other => {
                    return self.wrong(
                        &key,
                        format!(
                            "unknown option `{other}`; there are lateness, freshness, resolution and owner"
                        ),
                    );
                }
            }
            let t = self.next();
            match t.token {
                Token::Comma => {}
                Token::RParen => return Ok(()),
                ref other => return self.wrong(&t, format!("expected `,` or `)`, found `{other}`")),
            }
        }
    }

    fn punctuation(&mut self, wanted: Token) -> Result<(), FeatureError> {
        let t = self.next();
        if t.token == wanted {
            Ok(())
        } else {
            self.wrong(&t, format!("expected `{wanted}`, found `{}`", t.token))
        }
    }
}

fn push_line(to: &mut String, line: &str) {
    if !to.is_empty() && !line.is_empty() {
        to.push(' ');
    }
    to.push_str(line);
}

fn is_name(s: &str) -> bool {
    s.len() <= 64
        && s.starts_with(|c: char| c.is_ascii_lowercase())
        && s.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// `24`, `HOURS` → 24h and its milliseconds.
fn span(number: &str, unit: &str) -> Option<(String, Millis)> {
    let n: i64 = number.parse().ok().filter(|n| *n > 0)?;
    let (letter, unit_ms) = match unit.to_lowercase().trim_end_matches('s') {
        "second" => ('s', 1_000),
        "minute" => ('m', 60_000),
        "hour" => ('h', 3_600_000),
        "day" => ('d', 86_400_000),
        "week" => ('w', 7 * 86_400_000),
        _ => return None,
    };
    let millis = n.checked_mul(unit_ms).filter(|ms| *ms <= 3_660 * 86_400_000)?;
    Some((format!("{n}{letter}"), millis))
}

/// The statement of a definition as it stands in the text of its file, with the comment above it: what is
/// enough to define the view again.
pub fn statement(text: &str, d: &Definition) -> String {
    let place = |(line, column): (u64, u64)| byte_at(text, Location { line, column });
    let end = place(d.select_at) + d.select.len();
    let comment: String = d.description.lines().map(|l| format!("-- {l}\n")).collect();
    format!("{comment}{};\n", text.get(place(d.at)..end).unwrap_or_default())
}

fn byte_at(text: &str, at: Location) -> usize {
    let mut line = 1;
    let mut column = 1;
    for (i, c) in text.char_indices() {
        if line == at.line && column == at.column {
            return i;
        }
        if c == '\n' {
            line += 1;
            column = 1;
        } else {
            column += 1;
        }
    }
    text.len()
}

fn end_of(text: &str) -> Location {
    let line = text.lines().count().max(1) as u64;
    Location { line, column: text.lines().last().map_or(0, |l| l.chars().count()) as u64 + 1 }
}

#[cfg(test)]
mod tests;
