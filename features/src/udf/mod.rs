//! User functions: scalar and aggregate functions in Rust that a view's SQL calls by name.
//!
//! A function is one `.rs` file in the form of `arroyo-udf-plugin`, which Arroyo compiles unchanged. Here the same
//! text is built into a library of its own ([`builder`]), kept with its hashes in a directory ([`folder`]), loaded
//! ([`plugin`]) and called through the Arrow C data interface ([`abi`]). What DataFusion needs to know of it, its
//! signature, is read from the source ([`source`]).
//!
//! | module | what |
//! |---|---|
//! | [`source`], `signature` | the file: name, types, dependencies, what is refused |
//! | [`builder`] | the crate around it, and cargo |
//! | [`folder`] | the functions installed: `NAME.rs`, `NAME.so`, `NAME.json` |
//! | [`metrics`] | values lost to panics, counted |
//! | [`shipped`] | functions that come with the program |
//! | `abi`, `plugin` | the library, loaded and called: the only unsafe code |
//! | `scalar`, `aggregate` | what DataFusion sees |

mod abi;
mod aggregate;
pub mod builder;
pub mod folder;
pub mod metrics;
pub mod plugin;
mod scalar;
pub mod shipped;
mod signature;
pub mod source;

use std::{path::Path, sync::Arc};

use datafusion::{
    execution::context::SessionContext,
    logical_expr::{AggregateUDF, ScalarUDF},
};
use ingest::catalogue::Catalogue;

use crate::{error::FeatureError, view::plan};
pub use builder::{Builder, Built};
pub use folder::{Folder, Installed};
pub use plugin::Plugin;
pub use source::{Kind, Source};

/// The user functions views may call.
#[derive(Debug, Clone, Default)]
pub struct Functions {
    plugins: Arc<[Arc<Plugin>]>,
}

impl Functions {
    /// No function at all.
    pub fn none() -> Functions {
        Functions::default()
    }

    /// Those installed in a directory; none when there is no such directory.
    ///
    /// # Errors
    /// A library or source that is not what `kairos udf add` left there; a library that cannot be loaded.
    pub fn load(dir: &Path) -> Result<Functions, FeatureError> {
        let plugins = Folder::new(dir).load()?.into_iter().map(Arc::new).collect();
        Ok(Functions { plugins })
    }

    /// Each function's source, by name.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.plugins.iter().map(|p| p.source())
    }

    /// Whether there is an aggregate of that name.
    pub fn is_aggregate(&self, name: &str) -> bool {
        self.sources().any(|s| s.name == name && s.kind == Kind::Aggregate)
    }

    /// Makes them known to a session.
    ///
    /// # Errors
    /// A function with the name of one the session has already: which of the two a view means would depend on
    /// the version of the program.
    pub fn register(&self, ctx: &SessionContext) -> Result<(), FeatureError> {
        for plugin in self.plugins.iter() {
            let name = &plugin.source().name;
            if is_known(ctx, name) {
                return Err(FeatureError::Request(format!(
                    "{name}() is built in, so a user function cannot have that name; rename it in its source and add \
                     it again, and take this one away with `kairos udf remove {name}`"
                )));
            }
            match plugin.source().kind {
                Kind::Aggregate => {
                    ctx.register_udaf(AggregateUDF::new_from_impl(aggregate::UserAggregate::new(
                        plugin.clone(),
                    )));
                }
                Kind::Scalar | Kind::Async => {
                    ctx.register_udf(ScalarUDF::new_from_impl(scalar::UserScalar::new(plugin.clone())));
                }
            }
        }
        Ok(())
    }

    /// The functions an SQL text calls: those whose source decides what it gives.
    pub fn called_in<'a>(&'a self, sql: &'a str) -> impl Iterator<Item = &'a Source> {
        self.sources().filter(move |s| calls(sql, &s.name))
    }
}

/// Refuses a function with the name of a built-in one, before it is built.
///
/// # Errors
/// The name is taken.
pub fn refuse_built_in(catalogue: &Catalogue, source: &Source) -> Result<(), FeatureError> {
    if !is_known(&plan::session(catalogue, &[])?, &source.name) {
        return Ok(());
    }
    Err(FeatureError::Request(format!(
        "{0}() is built in, so a user function cannot have that name; rename the function in its source, such as my_{0}",
        source.name
    )))
}

/// Whether a session has a function of that name.
fn is_known(ctx: &SessionContext, name: &str) -> bool {
    let state = ctx.state();
    state.scalar_functions().contains_key(name)
        || state.aggregate_functions().contains_key(name)
        || state.window_functions().contains_key(name)
}

/// Whether a DataFusion aggregate is a user function.
pub(crate) fn is_user_aggregate(function: &AggregateUDF) -> bool {
    function.inner().is::<aggregate::UserAggregate>()
}

/// Whether an SQL text has `name(` in it. A comment or a quoted text may be taken for a call, which does no harm
/// where the answer decides what to watch for changes.
pub fn calls(sql: &str, name: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    sql.match_indices(|c: char| word(c)).any(|(at, _)| {
        let begins = !sql[..at].chars().next_back().is_some_and(word);
        let Some(found) = sql.get(at..at + name.len()) else { return false };
        begins && found.eq_ignore_ascii_case(name) && sql[at + name.len()..].trim_start().starts_with('(')
    })
}

#[cfg(test)]
mod tests {
    use super::calls;

    #[test]
    fn a_call_is_a_whole_word_before_a_parenthesis() {
        for sql in ["ewma(x)", "SELECT Ewma (x)", "1+ewma\n(x)", "é ewma(x)"] {
            assert!(calls(sql, "ewma"), "{sql}");
        }
        for sql in ["my_ewma(x)", "ewma2(x)", "ewma, (x)", "AS ewma", "", "ewm"] {
            assert!(!calls(sql, "ewma"), "{sql}");
        }
    }
}
