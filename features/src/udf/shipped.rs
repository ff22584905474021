//! The functions that come with the program, as sources: `features/udfs/NAME.rs`, each with a view that uses it,
//! `features/udfs/views/NAME.sql`. They are built when they are added.

/// A shipped function.
#[derive(Debug, Clone, Copy)]
pub struct Shipped {
    /// Its name.
    pub name: &'static str,
    /// Its source.
    pub source: &'static str,
    /// A view that uses it.
    pub view: &'static str,
}

/// All of them, by name.
pub const ALL: &[Shipped] = &include!(concat!(env!("OUT_DIR"), "/udfs.rs"));

/// The one of that name.
pub fn named(name: &str) -> Option<&'static Shipped> {
    ALL.iter().find(|s| s.name == name)
}
