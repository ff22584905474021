//! Chooses one tip for one person, and learns from the reaction.

pub mod predicate;
pub mod tips;
pub mod why;
