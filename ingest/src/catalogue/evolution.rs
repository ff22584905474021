//! Add-only evolution: what stored signals and other programs rely on must stay.

use std::{collections::BTreeMap, fmt, str::FromStr};

use super::{
    Catalogue,
    shape::{Cardinality, Field, Kind, Message},
};

/// What stored signals and other programs rely on, one line a fact, sorted:
///
/// ```text
/// task.completed = table task_completed
/// task.completed alias task.done = accepted
/// task.completed/minutes = 3 int64
/// task.completed/tags = 7 repeated string
/// task.completed/mode:FAST = 1
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline(BTreeMap<String, String>);

/// One thing that was relied on and is gone or different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breakage {
    /// Which type, field or enumeration value.
    pub subject: String,
    /// What it was.
    pub was: String,
    /// What it is; nothing if it is gone.
    pub now: Option<String>,
}

impl fmt::Display for Breakage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.now {
            Some(now) => write!(f, "{}: was `{}`, is `{now}`", self.subject, self.was)?,
            None => write!(f, "{}: was `{}`, is gone", self.subject, self.was)?,
        }
        f.write_str("; types only grow: put it back, and add what is new under a new name and number")
    }
}

/// What `new` breaks of `old`. Additions break nothing.
pub fn check_evolution(old: &Outline, new: &Outline) -> Vec<Breakage> {
    let broken = old.0.iter().filter(|(subject, was)| new.0.get(*subject) != Some(*was));
    broken
        .map(|(subject, was)| Breakage {
            subject: subject.clone(),
            was: was.clone(),
            now: new.0.get(subject).cloned(),
        })
        .collect()
}

impl Outline {
    pub(crate) fn of(catalogue: &Catalogue) -> Self {
        let mut outline = Outline::default();
        for declared in catalogue.types() {
            outline.0.insert(declared.name.clone(), format!("table {}", declared.table));
            for alias in &declared.aliases {
                outline.0.insert(format!("{} alias {alias}", declared.name), "accepted".to_owned());
            }
            outline.message(&declared.name, &declared.message);
        }
        outline
    }

    fn message(&mut self, within: &str, message: &Message) {
        for field in &message.fields {
            let path = format!("{within}/{}", field.name);
            match &field.kind {
                Kind::Message(nested) => self.message(&path, nested),
                Kind::Enum(declared) => {
                    for (name, number) in &declared.values {
                        self.0.insert(format!("{path}:{name}"), number.to_string());
                    }
                }
                _ => {}
            }
            self.0.insert(path, fact(field));
        }
    }
}

fn fact(field: &Field) -> String {
    let kind = match &field.kind {
        Kind::Scalar(scalar) => scalar.name().to_owned(),
        Kind::Wrapped(scalar) => format!("wrapped {}", scalar.name()),
        Kind::Enum(_) => "enum".to_owned(),
        Kind::Timestamp => "timestamp".to_owned(),
        Kind::Duration => "duration".to_owned(),
        Kind::Message(_) => "message".to_owned(),
    };
    let kind = match field.cardinality {
        Cardinality::One => kind,
        Cardinality::List => format!("repeated {kind}"),
        Cardinality::Map(key) => format!("map<{}, {kind}>", key.name()),
    };
    match &field.oneof {
        Some(oneof) => format!("{} {kind} of {}", field.number, oneof.name),
        None => format!("{} {kind}", field.number),
    }
}

impl fmt::Display for Outline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(subject, fact)| writeln!(f, "{subject} = {fact}"))
    }
}

impl FromStr for Outline {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let facts = lines.map(|line| {
            let (subject, fact) =
                line.split_once(" = ").ok_or_else(|| format!("`{line}` does not read `subject = fact`"))?;
            Ok((subject.to_owned(), fact.to_owned()))
        });
        facts.collect::<Result<_, String>>().map(Outline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/signals/baseline.txt");

    /// Writes the baseline anew when KAIROS_ACCEPT is set; what breaks is never accepted that way.
    #[test]
    fn built_in_types_only_grow() {
        let new = Catalogue::load(&[]).unwrap().outline();
        let old: Outline = std::fs::read_to_string(BASELINE).unwrap_or_default().parse().unwrap();
        let broken: Vec<String> = check_evolution(&old, &new).iter().map(Breakage::to_string).collect();
        assert!(broken.is_empty(), "{}", broken.join("\n"));
        if std::env::var_os("KAIROS_ACCEPT").is_some() {
            std::fs::write(
                BASELINE,
                format!("# What the built-in types promise. Lines are only added.\n{new}"),
            )
            .unwrap();
        } else {
            let added = check_evolution(&new, &old);
            let lines: Vec<&str> = added.iter().map(|b| b.subject.as_str()).collect();
            assert!(
                added.is_empty(),
                "new and not yet promised: {}; accept with `KAIROS_ACCEPT=1 cargo test -p ingest only_grow`",
                lines.join(", ")
            );
        }
    }

    fn outline(body: &str) -> Outline {
        let file = format!("syntax = \"proto3\"; import \"kairos/signal.proto\"; {body}");
        Catalogue::parse(&[("tea.proto", &file)]).unwrap().outline()
    }

    const OPTIONS: &str =
        r#"option (kairos.signal_type) = "tea.made"; option (kairos.alias) = "tea.brewed";"#;

    #[test]
    fn an_outline_reads_back_as_written() {
        let body = format!(
            "enum Kind {{ GREEN = 0; BLACK = 1; }} message Tea {{ {OPTIONS} Kind kind = 1; \
             map<string, Kind> cups = 2; oneof sweet {{ string sugar = 3; double honey = 4; }} }}"
        );
        let outline = outline(&body);
        assert_eq!(outline.to_string().parse(), Ok(outline.clone()));
        assert!(outline.to_string().contains("tea.made/cups = 2 map<string, enum>\n"), "{outline}");
        assert!(outline.to_string().contains("tea.made/honey = 4 double of sweet\n"), "{outline}");
    }

    #[test]
    fn each_breaking_edit_is_named() {
        let nested = "message Cup { int64 size = 1; } enum Kind { GREEN = 0; BLACK = 1; }";
        let old = outline(&format!(
            "{nested} message Tea {{ {OPTIONS} Cup cup = 1; Kind kind = 2; int64 n = 3; }}"
        ));
        let broken = |body: &str| {
            let found = check_evolution(&old, &outline(body));
            found.iter().map(|b| b.subject.trim_start_matches("tea.made").to_owned()).collect::<Vec<_>>()
        };
        let tea = |fields: &str| format!("{nested} message Tea {{ {OPTIONS} {fields} }}");
        assert!(
            broken(&tea("Cup cup = 1; Kind kind = 2; optional int64 n = 3; string more = 4;")).is_empty()
        );
        assert_eq!(broken(&tea("Cup cup = 1; Kind kind = 2;")), ["/n"], "removed");
        assert_eq!(broken(&tea("Cup cup = 1; Kind kind = 2; int64 m = 3;")), ["/n"], "renamed");
        assert_eq!(broken(&tea("Cup cup = 1; Kind kind = 2; int64 n = 4;")), ["/n"], "renumbered");
        assert_eq!(broken(&tea("Cup cup = 1; Kind kind = 2; sint64 n = 3;")), ["/n"], "retyped");
        assert_eq!(broken(&tea("Cup cup = 1; Kind kind = 2; repeated int64 n = 3;")), ["/n"], "repeated");
        assert_eq!(broken(&tea("Cup cup = 1; Kind kind = 2; oneof a { int64 n = 3; }")), ["/n"], "oneof");
        let fields = "Cup cup = 1; Kind kind = 2; int64 n = 3;";
        let smaller = "message Cup { int32 size = 1; } enum Kind { GREEN = 0; }";
        assert_eq!(
            broken(&format!("{smaller} message Tea {{ {OPTIONS} {fields} }}")),
            ["/cup/size", "/kind:BLACK"]
        );
        let moved = r#"option (kairos.signal_type) = "tea.made"; option (kairos.table) = "teas";"#;
        assert_eq!(
            broken(&format!("{nested} message Tea {{ {moved} {fields} }}")),
            ["", " alias tea.brewed"]
        );
        let renamed = r#"option (kairos.signal_type) = "tea.poured";"#;
        assert_eq!(broken(&format!("{nested} message Tea {{ {renamed} {fields} }}")).len(), 8);
    }
}
