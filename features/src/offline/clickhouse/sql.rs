//! Statements.

/// A statement and the values of its `{name:Type}`, which never stand in the text and so not in the server's logs.
#[derive(Debug, Clone, Default)]
pub(super) struct Sql {
    pub text: String,
    pub params: Vec<(String, Vec<String>)>,
}

impl From<String> for Sql {
    fn from(text: String) -> Self {
        Sql { text, params: Vec::new() }
    }
}

impl From<&str> for Sql {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl Sql {
    /// Adds a list of texts as the parameter `name`.
    pub fn with(mut self, name: &str, values: &[&str]) -> Self {
        self.params.push((name.to_owned(), values.iter().map(|v| (*v).to_owned()).collect()));
        self
    }
}

/// A name as SQL writes it.
pub(super) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

/// A text as SQL writes it.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
