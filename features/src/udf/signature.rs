//! Reads the function marked `#[udf]` out of a source: its name and the types of its signature, no more.
//!
//! This is no parser of Rust. The compiler checks the text when it is built, and the first call of the library
//! whether it answers in the types read here. (`syn`, as a dependency of the program, would make cargo build every
//! proc macro, and all that uses one, a second time.)

use arrow::datatypes::DataType;

use super::source::{Argument, Kind};

/// What was read.
pub(super) struct Read {
    pub name: String,
    pub description: String,
    pub kind: Kind,
    pub arguments: Vec<Argument>,
    pub returns: DataType,
}

/// What is wrong, and at which byte.
pub(super) struct Mistake {
    pub at: usize,
    pub message: String,
}

const TYPES: &str = "i8, i16, i32, i64, u8, u16, u32, u64, f32, f64";

fn wrong<T>(at: usize, message: impl Into<String>) -> Result<T, Mistake> {
    Err(Mistake { at, message: message.into() })
}

/// Reads a whole file.
pub(super) fn read(text: &str) -> Result<Read, Mistake> {
    let clean = blanked(text);
    if let Some((at, _)) = attributes(&clean).find(|(_, name)| *name == "global_allocator") {
        return wrong(
            at,
            "a function cannot bring its own #[global_allocator]: it frees memory that its host gave it; take the \
             attribute out",
        );
    }
    let mut marked = attributes(&clean).filter(|(_, name)| *name == "udf").map(|(at, _)| at);
    match (marked.next(), marked.next()) {
        (Some(at), None) => Reader { text, clean: &clean, at }.function(),
        (Some(_), Some(second)) => wrong(
            second,
            "a second function is marked #[udf]; a file holds one, so move it to a file of its own",
        ),
        (None, _) => wrong(
            0,
            "no function is marked #[udf]; write `use arroyo_udf_plugin::udf;` and #[udf] above the function",
        ),
    }
}

/// Attributes: where each begins, and the last word of its path.
fn attributes(clean: &str) -> impl Iterator<Item = (usize, &str)> {
    clean.match_indices("#[").map(|(at, _)| {
        let path = clean[at + 2..].split(['(', ']', '=']).next().unwrap_or_default();
        (at, path.rsplit("::").next().unwrap_or_default().trim())
    })
}

/// The text with comments and quoted text as spaces, byte for byte as long.
fn blanked(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |n| n + 2)
        } else if c == '"' {
            quoted(rest)
        } else if rest.starts_with("'\"'") {
            3
        } else {
            0
        };
        let (blank, after) = rest.split_at(skipped);
        clean.extend(blank.bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }));
        rest = after;
        if skipped == 0 {
            clean.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    clean
}

/// Length of the quoted text that begins here, quotes included.
fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (i, c) in rest.char_indices().skip(1) {
        match c {
            '"' if !escaped => return i + 1,
            _ => escaped = c == '\\' && !escaped,
        }
    }
    rest.len()
}

struct Reader<'a> {
    text: &'a str,
    clean: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn space(&mut self) {
        let rest = &self.clean[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    fn takes(&mut self, what: &str) -> bool {
        self.space();
        let there = self.clean[self.at..].starts_with(what);
        self.at += if there { what.len() } else { 0 };
        there
    }

    fn word(&mut self) -> &'a str {
        self.space();
        let rest = &self.clean[self.at..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// What stands between brackets, which begin here.
    fn bracketed(&mut self) -> Result<(usize, &'a str), Mistake> {
        let from = self.at;
        let end = ends(&self.clean[from..]).filter(|n| *n > 0);
        let Some(end) = end else { return wrong(from, "a bracket stands open") };
        self.at = from + end;
        Ok((from + 1, &self.clean[from + 1..from + end - 1]))
    }

    fn function(mut self) -> Result<Read, Mistake> {
        let description = comment_above(&self.text[..self.at]);
        loop {
            self.space();
            if self.clean[self.at..].starts_with("#[") {
                self.at += 1;
                self.bracketed()?;
            } else {
                break;
            }
        }
        let mut is_async = false;
        loop {
            let at = self.at;
            match self.word() {
                "fn" => break,
                "async" => is_async = true,
                "pub" => {
                    self.space();
                    if self.clean[self.at..].starts_with('(') {
                        self.bracketed()?;
                    }
                }
                _ => return wrong(at, "#[udf] stands above a function: `fn name(…) -> …`"),
            }
        }
        self.space();
        let name_at = self.at;
        let name = self.word();
        if !name.starts_with(|c: char| c.is_ascii_lowercase())
            || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        {
            return wrong(
                name_at,
                format!("`{name}` cannot be called from SQL; use lower-case letters, digits and underscores"),
            );
        }
        self.space();
        if self.clean[self.at..].starts_with('<') {
            return wrong(self.at, "a user function has no type or lifetime parameters");
        }
        let (inside_at, inside) = self.bracketed()?;
        let (arguments, lists) = self.arguments(inside_at, inside)?;
        if arguments.is_empty() {
            return wrong(name_at, "a user function takes at least one argument");
        }
        if lists != 0 && lists != arguments.len() {
            return wrong(
                inside_at,
                "an aggregate takes a Vec for every argument; write a constant as Vec<T> too and take its first value",
            );
        }
        let returns = self.returns()?;
        let kind = match (is_async, lists) {
            (true, _) => Kind::Async,
            (false, 0) => Kind::Scalar,
            _ => Kind::Aggregate,
        };
        Ok(Read { name: name.to_owned(), description, kind, arguments, returns })
    }

    fn arguments(&self, from: usize, inside: &str) -> Result<(Vec<Argument>, usize), Mistake> {
        let (mut arguments, mut lists, mut at) = (Vec::new(), 0, from);
        for part in split(inside) {
            let begin = at;
            at += part.len() + 1;
            if part.trim().is_empty() {
                continue;
            }
            let Some((name, t)) = part.split_once(':') else {
                return wrong(begin, "a user function is a free function; it takes no self");
            };
            let type_at = begin + name.len() + 1 + (t.len() - t.trim_start().len());
            let read = of_argument(t).ok_or_else(|| Mistake {
                at: type_at,
                message: format!(
                    "found {}; an argument is one of {TYPES}, &str, &[u8], or an Option of these; of an aggregate, \
                     Vec<number> or Vec<Option<number>> (arroyo-udf-plugin takes no others)",
                    self.text[type_at..type_at + t.trim().len()].trim()
                ),
            })?;
            lists += usize::from(read.list);
            let name = name.trim().trim_start_matches("mut ").trim().to_owned();
            arguments.push(Argument { name, data_type: read.data_type, takes_null: read.optional });
        }
        Ok((arguments, lists))
    }

    fn returns(&mut self) -> Result<DataType, Mistake> {
        if !self.takes("->") {
            return wrong(self.at, "a user function gives a value; write `-> Option<f64>`");
        }
        self.space();
        let rest = &self.clean[self.at..];
        let t = rest[..rest.find('{').unwrap_or(rest.len())].trim();
        of_result(t).ok_or_else(|| Mistake {
            at: self.at,
            message: format!(
                "found {t}; a result is one of {TYPES}, String, Vec<u8>, or an Option of these (arroyo-udf-plugin \
                 gives no others; write a truth value as 0 or 1)"
            ),
        })
    }
}

/// Where the bracket that opens at the beginning closes: bytes up to behind it.
fn ends(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (i, c) in text.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(if i == 0 { 0 } else { i + 1 });
        }
    }
    None
}

/// Parts between commas outside all brackets.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0;
    text.split(move |c: char| {
        match c {
            '(' | '[' | '<' => depth += 1,
            ')' | ']' | '>' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    })
}

fn comment_above(text: &str) -> String {
    let mut lines: Vec<&str> =
        text.trim_end().lines().rev().map_while(|l| l.trim().strip_prefix("///")).map(str::trim).collect();
    lines.reverse();
    lines.join(" ").trim().to_owned()
}

/// What a type stands for.
struct Typed {
    data_type: DataType,
    optional: bool,
    list: bool,
}

fn of_argument(t: &str) -> Option<Typed> {
    let t: String = t.split_whitespace().collect();
    if let Some(item) = inside(&t, "Vec") {
        let option = inside(item, "Option");
        let data_type = number(option.unwrap_or(item))?;
        return Some(Typed { data_type, optional: option.is_some(), list: true });
    }
    let option = inside(&t, "Option");
    let data_type = match option.unwrap_or(&t) {
        "&str" => DataType::Utf8,
        "&[u8]" => DataType::Binary,
        t => number(t)?,
    };
    Some(Typed { data_type, optional: option.is_some(), list: false })
}

fn of_result(t: &str) -> Option<DataType> {
    let t: String = t.split_whitespace().collect();
    match inside(&t, "Option").unwrap_or(&t) {
        "String" => Some(DataType::Utf8),
        "Vec<u8>" => Some(DataType::Binary),
        t => number(t),
    }
}

/// `T` of `Name<T>`, by whatever path.
fn inside<'a>(t: &'a str, name: &str) -> Option<&'a str> {
    let (path, rest) = t.split_once('<')?;
    (path.rsplit("::").next() == Some(name)).then(|| rest.strip_suffix('>'))?
}

fn number(t: &str) -> Option<DataType> {
    use DataType::*;
    Some(match t {
        "i8" => Int8,
        "i16" => Int16,
        "i32" => Int32,
        "i64" => Int64,
        "u8" => UInt8,
        "u16" => UInt16,
        "u32" => UInt32,
        "u64" => UInt64,
        "f32" => Float32,
        "f64" => Float64,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_quotes_hide_nothing_and_show_nothing() {
        let text = "// #[udf] no\nconst A: &str = \"#[udf] \\\" fn\"; const Q: char = '\"';\n/* #[udf]\n*/\n/// Doc of it.\n\
                    #[allow(dead_code)]\n#[arroyo_udf_plugin::udf] #[inline] pub(crate) fn\n f(a /* : bool, */: Option<\n i64>, \
                    mut b: f64,) -> std::option::Option<f64> { \"#[udf]\"; }";
        let read = read(text).map_err(|m| m.message).unwrap();
        assert_eq!(read.name, "f");
        let names: Vec<_> = read.arguments.iter().map(|a| (a.name.as_str(), a.data_type.clone())).collect();
        assert_eq!(names, [("a", DataType::Int64), ("b", DataType::Float64)]);
        assert_eq!(read.returns, DataType::Float64);
    }

    #[test]
    fn nothing_makes_it_panic() {
        for text in [
            "",
            "#[",
            "#[udf",
            "#[udf]",
            "#[udf]fn",
            "#[udf]fn f",
            "#[udf]fn f(",
            "#[udf]fn f(é",
            "\"",
            "/*",
            "#[udf] é",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
