//! Feature views: their definition, their values, and where the values live.

pub mod offline;
pub mod value;
