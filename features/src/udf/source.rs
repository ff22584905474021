//! The source of a user function: what it is called, takes and gives, read from the text that is compiled.

use arrow::datatypes::DataType;
use sha2::{Digest, Sha256};

use super::signature::{self, Mistake};
use crate::error::FeatureError;

/// How a function is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Once a row.
    Scalar,
    /// Once a group, with a list of values for each argument.
    Aggregate,
    /// Once a row, answering later: Arroyo only.
    Async,
}

/// One argument.
#[derive(Debug, Clone, PartialEq)]
pub struct Argument {
    /// Its name in the source.
    pub name: String,
    /// Type of one value.
    pub data_type: DataType,
    /// Whether the function is told of NULLs.
    pub takes_null: bool,
}

/// A source file, read.
#[derive(Debug, Clone)]
pub struct Source {
    /// Name of the function, in Rust and in SQL.
    pub name: String,
    /// The comment above the function.
    pub description: String,
    /// The whole file.
    pub text: String,
    /// SHA-256 of the file, in hexadecimal.
    pub hash: String,
    /// How it is called.
    pub kind: Kind,
    /// What it takes.
    pub arguments: Vec<Argument>,
    /// What it gives.
    pub returns: DataType,
    /// The `[dependencies]` in the comment at the top.
    pub dependencies: toml::Table,
}

impl Source {
    /// Reads a file's text; `file` is its name in errors. Whether the body is Rust is for the compiler to say.
    ///
    /// # Errors
    /// What cannot be compiled by `arroyo-udf-plugin`, with line and column.
    pub fn parse(file: &str, text: &str) -> Result<Source, FeatureError> {
        let wrong = |Mistake { at, message }: Mistake| {
            let before = &text[..at];
            let line = before.rfind('\n').map_or(before, |n| &before[n + 1..]);
            FeatureError::Definition {
                file: file.to_owned(),
                line: before.matches('\n').count() as u64 + 1,
                column: line.chars().count() as u64 + 1,
                message,
            }
        };
        let read = signature::read(text).map_err(wrong)?;
        let dependencies = dependencies(text).map_err(|message| wrong(Mistake { at: 0, message }))?;
        Ok(Source {
            name: read.name,
            description: read.description,
            text: text.to_owned(),
            hash: hash(text.as_bytes()),
            kind: read.kind,
            arguments: read.arguments,
            returns: read.returns,
            dependencies,
        })
    }

    /// Refuses what only Arroyo runs.
    ///
    /// # Errors
    /// An async function.
    pub fn runs_here(&self) -> Result<(), FeatureError> {
        if self.kind != Kind::Async {
            return Ok(());
        }
        Err(FeatureError::Request(format!(
            "{}() is async, which runs on Arroyo alone: a feature must have the same value whenever it is computed, so \
             it cannot wait for the world outside; make the function sync",
            self.name
        )))
    }

    /// What compiles and may still surprise.
    pub fn warnings(&self) -> Vec<String> {
        let drops = self.arguments.iter().any(|a| !a.takes_null);
        if self.kind == Kind::Aggregate && self.arguments.len() > 1 && drops {
            vec![format!(
                "{}: an argument `Vec<T>` leaves NULLs out, each argument its own, so that the lists may no longer \
                 match; write `Vec<Option<T>>` where a NULL can stand",
                self.name
            )]
        } else {
            Vec::new()
        }
    }

    /// As people write it: `ewma(values Float64, …) → Float64`.
    pub fn signature(&self) -> String {
        let arguments: Vec<_> =
            self.arguments.iter().map(|a| format!("{} {}", a.name, a.data_type)).collect();
        format!("{}({}) → {}", self.name, arguments.join(", "), self.returns)
    }
}

/// SHA-256 in hexadecimal.
pub(crate) fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// The table in the comment at the top of the file, as Arroyo reads it.
fn dependencies(text: &str) -> Result<toml::Table, String> {
    let comment =
        text.trim_start().strip_prefix("/*").and_then(|t| t.split_once("*/")).map(|(c, _)| c.trim());
    let Some(comment) = comment.filter(|c| c.starts_with("[dependencies]")) else {
        return Ok(toml::Table::new());
    };
    let mut table: toml::Table =
        comment.parse().map_err(|e| format!("the [dependencies] comment is no TOML: {e}"))?;
    match table.remove("dependencies") {
        Some(toml::Value::Table(dependencies)) if table.is_empty() => Ok(dependencies),
        _ => Err("the comment at the top holds [dependencies] and no other table".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<Source, String> {
        let text = format!("use arroyo_udf_plugin::udf;\n\n/// What it does.\n#[udf]\n{body}\n");
        Source::parse("f.rs", &text).map_err(|e| e.to_string())
    }

    #[test]
    fn reads_what_the_plugin_crate_compiles() {
        let scalar =
            parse("fn f(a: i64, b: Option<f64>, c: &str, d: Option<&[u8]>) -> Option<String> { None }")
                .unwrap();
        assert_eq!(scalar.kind, Kind::Scalar);
        assert_eq!(scalar.description, "What it does.");
        let read: Vec<_> = scalar.arguments.iter().map(|a| (a.data_type.clone(), a.takes_null)).collect();
        use DataType::*;
        assert_eq!(read, [(Int64, false), (Float64, true), (Utf8, false), (Binary, true)]);
        assert_eq!(scalar.returns, Utf8);

        let aggregate = parse("fn f(a: Vec<u8>, b: Vec<Option<f32>>) -> Vec<u8> { vec![] }").unwrap();
        assert_eq!((aggregate.kind, aggregate.returns.clone()), (Kind::Aggregate, Binary));
        assert_eq!(aggregate.warnings().len(), 1, "the lists of different arguments may not match");
        assert_eq!(parse("async fn f(a: i64) -> i64 { a }").unwrap().kind, Kind::Async);
    }

    #[test]
    fn mistakes_name_their_place() {
        for (body, wanted) in [
            ("fn f(a: i64, b: bool) -> i64 { 0 }", "f.rs:5:17: found bool; an argument is one of"),
            ("fn f(a: Vec<&str>) -> i64 { 0 }", "f.rs:5:9: found Vec<&str>"),
            ("fn f(a: String) -> i64 { 0 }", "f.rs:5:9: found String"),
            ("fn f(a: &f64) -> i64 { 0 }", "f.rs:5:9: found &f64"),
            ("fn f(a: std::time::SystemTime) -> i64 { 0 }", "f.rs:5:9: found std::time::SystemTime"),
            ("fn f(a: f64) -> bool { true }", "f.rs:5:17: found bool; a result is one of"),
            ("fn f(a: f64) {}", "gives a value"),
            ("fn f() -> f64 { 0.0 }", "at least one argument"),
            ("fn f(a: Vec<f64>, b: f64) -> f64 { 0.0 }", "a Vec for every argument"),
            ("fn f<T>(a: f64) -> f64 { 0.0 }", "no type or lifetime parameters"),
            ("fn sumUp(a: f64) -> f64 { 0.0 }", "f.rs:5:4: `sumUp` cannot be called"),
            (
                "fn f(a: f64) -> f64 { 0.0 }\n#[udf]\nfn g(a: f64) -> f64 { 0.0 }",
                "f.rs:6:1: a second function",
            ),
            ("fn f(a: f64", "f.rs:5:"),
            (
                "fn f(a: f64) -> f64 { 0.0 }\n#[global_allocator]\nstatic A: System = System;",
                "global_allocator",
            ),
        ] {
            let message = parse(body).unwrap_err();
            assert!(message.contains(wanted), "{body}: {message}");
        }
        assert!(Source::parse("f.rs", "fn f() {}").unwrap_err().to_string().contains("#[udf]"));
    }

    #[test]
    fn dependencies_stand_in_the_first_comment() {
        let with = |top: &str| {
            Source::parse(
                "f.rs",
                &format!("{top}\nuse arroyo_udf_plugin::udf;\n#[udf] fn f(a: f64) -> f64 {{ a }}"),
            )
        };
        let found = with("/*\n[dependencies]\nlibm = \"0.2\"\n*/").unwrap();
        assert_eq!(found.dependencies["libm"].as_str(), Some("0.2"));
        assert!(with("/* a comment */").unwrap().dependencies.is_empty());
        assert!(with("").unwrap().dependencies.is_empty());
        assert!(with("/*\n[dependencies]\nlibm = \n*/").is_err());
        assert!(with("/*\n[dependencies]\na = \"1\"\n[profile.release]\nlto = true\n*/").is_err());
    }
}
