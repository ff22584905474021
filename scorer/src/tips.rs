//! The catalogue of tips: what can be said to a person, and when it applies.
//!
//! The shipped tips are in `scorer/tips.toml`; further files add to them. See [`TipCatalogue::load`].

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    path::{Path, PathBuf},
};

use features::value::Value;
use serde::Deserialize;

use crate::{
    predicate::{Predicate, Resolved},
    why::Why,
};

/// Name by which errors call the shipped tips.
const BUILTIN: &str = "tips.toml (built in)";

/// One tip.
#[derive(Debug, Clone, PartialEq)]
pub struct Tip {
    /// Words in lower case joined by hyphens; never changed once shipped, for impressions name it.
    pub id: String,
    /// At most 60 characters.
    pub title: String,
    /// One or two sentences, at most 240 characters.
    pub body: String,
    /// Label of the button that accepts the tip, at most 30 characters.
    pub action: String,
    /// One word in lower case, such as `sleep`.
    pub category: String,
    /// Minutes it takes.
    pub effort: u16,
    /// When it applies: all of these must hold. Empty: always.
    pub when: Vec<Predicate>,
    /// Why it comes now.
    pub why: Why,
    /// Where its claims can be checked.
    pub sources: Vec<String>,
}

/// Why the catalogue cannot be used. Every message names the file, the tip and the field.
#[derive(Debug, thiserror::Error)]
pub enum TipError {
    /// The file cannot be read.
    #[error("cannot read tips from {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML, or a field is missing, unknown or of the wrong type.
    #[error("{file}: {source}")]
    Syntax {
        /// The file.
        file: String,
        /// Line, column and what was expected.
        source: Box<toml::de::Error>,
    },
    /// A field holds what it must not.
    #[error("{file}: tip `{tip}`: {field}: {reason}")]
    Field {
        /// The file.
        file: String,
        /// Id of the tip.
        tip: String,
        /// Name of the field.
        field: &'static str,
        /// What is wrong, and what would be right.
        reason: String,
    },
}

/// All tips there are, in the order of their files, ids unique.
#[derive(Debug, Clone, Default)]
pub struct TipCatalogue {
    tips: Vec<Tip>,
    by_id: HashMap<String, usize>,
    files: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TipFile {
    tip: Vec<Written>,
}

/// A tip as it is written in a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    id: String,
    title: String,
    body: String,
    action: String,
    category: String,
    effort: u16,
    #[serde(default)]
    when: Vec<String>,
    why: String,
    #[serde(default)]
    sources: Vec<String>,
}

impl TipCatalogue {
    /// The shipped tips.
    pub fn builtin() -> Result<TipCatalogue, TipError> {
        let mut catalogue = TipCatalogue::default();
        catalogue.add(BUILTIN, include_str!("../tips.toml"))?;
        Ok(catalogue)
    }

    /// The shipped tips and those of `files`, in this order. An id that occurs twice is an error.
    pub fn load(files: &[PathBuf]) -> Result<TipCatalogue, TipError> {
        let mut catalogue = TipCatalogue::builtin()?;
        for path in files {
            let text = std::fs::read_to_string(path)
                .map_err(|source| TipError::Read { path: path.clone(), source })?;
            catalogue.add(&file_name(path), &text)?;
        }
        Ok(catalogue)
    }

    /// Adds the tips of a text in the form of the shipped ones; `file` names it in errors.
    ///
    /// # Errors
    /// What is wrong with which tip, an id that occurs twice among it.
    pub fn add(&mut self, file: &str, text: &str) -> Result<(), TipError> {
        let read: TipFile =
            toml::from_str(text).map_err(|e| TipError::Syntax { file: file.into(), source: Box::new(e) })?;
        for written in read.tip {
            let id = written.id.clone();
            let tip = written.check().map_err(|(field, reason)| field_error(file, &id, field, reason))?;
            if let Some(&first) = self.by_id.get(&id) {
                let reason = format!("already used in {}; give this tip another id", self.files[first]);
                return Err(field_error(file, &id, "id", reason));
            }
            self.by_id.insert(id, self.tips.len());
            self.tips.push(tip);
            self.files.push(file.into());
        }
        Ok(())
    }

    /// The tip with this id.
    pub fn get(&self, id: &str) -> Option<&Tip> {
        self.by_id.get(id).map(|&i| &self.tips[i])
    }

    /// All tips; a tip's place here is its index elsewhere.
    pub fn iter(&self) -> std::slice::Iter<'_, Tip> {
        self.tips.iter()
    }

    /// All tips, for access by index.
    pub fn tips(&self) -> &[Tip] {
        &self.tips
    }

    /// Number of tips.
    pub fn len(&self) -> usize {
        self.tips.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tips.is_empty()
    }

    /// The categories that occur, sorted.
    pub fn categories(&self) -> Vec<&str> {
        let all: BTreeSet<&str> = self.tips.iter().map(|t| t.category.as_str()).collect();
        all.into_iter().collect()
    }

    /// The features that conditions and reasons name, sorted, each once.
    pub fn features(&self) -> Vec<String> {
        let all: BTreeSet<&str> = self.tips.iter().flat_map(Tip::features).collect();
        all.into_iter().map(str::to_owned).collect()
    }

    /// Fails on the first tip that names a feature which is not in `known`.
    pub fn check_features(&self, known: &HashSet<String>) -> Result<(), TipError> {
        for (tip, file) in self.tips.iter().zip(&self.files) {
            if let Some(name) = tip.features().find(|n| !known.contains(*n)) {
                return Err(field_error(file, &tip.id, "when", unknown_feature(name, known)));
            }
        }
        Ok(())
    }

    /// Binds every tip's conditions to positions in `names`, once, for rows of values in that order.
    /// Fails on a feature that is not among them.
    pub fn resolve(&self, names: &[String]) -> Result<Conditions, TipError> {
        let mut predicates = Vec::new();
        let mut ends = Vec::with_capacity(self.tips.len());
        for (tip, file) in self.tips.iter().zip(&self.files) {
            for p in &tip.when {
                let resolved = p.resolve(names).ok_or_else(|| {
                    let known = names.iter().cloned().collect();
                    field_error(file, &tip.id, "when", unknown_feature(&p.feature, &known))
                })?;
                predicates.push(resolved);
            }
            ends.push(predicates.len());
        }
        Ok(Conditions { predicates, ends })
    }
}

impl<'a> IntoIterator for &'a TipCatalogue {
    type Item = &'a Tip;
    type IntoIter = std::slice::Iter<'a, Tip>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The conditions of all tips of a catalogue, bound to positions in a row of values.
#[derive(Debug, Clone)]
pub struct Conditions {
    predicates: Vec<Resolved>,
    /// For each tip, where its predicates end; they begin where those of the tip before it end.
    ends: Vec<usize>,
}

impl Conditions {
    /// Indices of the tips that apply to `values`, in the catalogue's order. Allocates nothing.
    pub fn applicable<'a>(&'a self, values: &'a [Value]) -> impl Iterator<Item = usize> + 'a {
        let mut begin = 0;
        self.ends.iter().enumerate().filter_map(move |(tip, &end)| {
            let predicates = &self.predicates[begin..end];
            begin = end;
            predicates.iter().all(|p| p.holds(values)).then_some(tip)
        })
    }
}

impl Tip {
    /// The features its conditions and its reason name; one may occur more than once.
    pub fn features(&self) -> impl Iterator<Item = &str> {
        self.when.iter().map(|p| p.feature.as_str()).chain(self.why.features())
    }
}

type Wrong = (&'static str, String);

impl Written {
    fn check(self) -> Result<Tip, Wrong> {
        check_words("id", &self.id, 60)?;
        check_words("category", &self.category, 20)?;
        check_text("title", &self.title, 60)?;
        check_text("body", &self.body, 240)?;
        check_text("action", &self.action, 30)?;
        check_text("why", &self.why, 200)?;
        for source in &self.sources {
            check_text("sources", source, 300)?;
        }
        if self.effort == 0 || self.effort > 240 {
            return Err(("effort", format!("{} minutes; use 1 to 240", self.effort)));
        }
        let when = self
            .when
            .iter()
            .map(|text| text.parse())
            .collect::<Result<Vec<Predicate>, _>>()
            .map_err(|e| ("when", e.to_string()))?;
        let why = Why::parse(&self.why).map_err(|e| ("why", e.to_string()))?;
        for feature in why.features() {
            if !when.iter().any(|p| p.feature == feature && p.test.needs_value()) {
                return Err((
                    "why",
                    format!(
                        "tells `{feature}`, which may have no value; add `{feature} is not null` to `when`"
                    ),
                ));
            }
        }
        Ok(Tip {
            id: self.id,
            title: self.title,
            body: self.body,
            action: self.action,
            category: self.category,
            effort: self.effort,
            when,
            why,
            sources: self.sources,
        })
    }
}

fn check_text(field: &'static str, text: &str, limit: usize) -> Result<(), Wrong> {
    let length = text.chars().count();
    if length == 0 || text.trim() != text {
        return Err((field, "empty, or with spaces around it; write a text".into()));
    }
    if length > limit {
        return Err((field, format!("{length} characters; use at most {limit}")));
    }
    if text.chars().any(char::is_control) {
        return Err((field, "has a line break or another control character; write one line".into()));
    }
    Ok(())
}

fn check_words(field: &'static str, text: &str, limit: usize) -> Result<(), Wrong> {
    check_text(field, text, limit)?;
    let word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if !text.split('-').all(word) {
        return Err((field, format!("`{text}`; use words in lower case joined by hyphens")));
    }
    Ok(())
}

fn unknown_feature(name: &str, known: &HashSet<String>) -> String {
    let view = name.split('.').next().unwrap_or_default();
    let mut near: Vec<&str> =
        known.iter().map(String::as_str).filter(|k| k.split('.').next() == Some(view)).collect();
    near.sort_unstable();
    if near.is_empty() {
        format!("no feature `{name}`: there is no view `{view}`")
    } else {
        format!("no feature `{name}`: the view has {}", near.join(", "))
    }
}

fn field_error(file: &str, tip: &str, field: &'static str, reason: String) -> TipError {
    TipError::Field { file: file.into(), tip: tip.into(), field, reason }
}

fn file_name(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests;
