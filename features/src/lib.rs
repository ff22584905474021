//! Feature views: their definition, their values, and where the values live.
//!
//! The way of a value: [`registry`] compiles the definitions ([`view`]), the stream job turns signals into
//! [`events`] and [`row`]s and puts them into the [`online`] store, a read ([`store`]) takes them from there.
//! Values of the past come from the [`offline`] store by the same [`kernel`].
//!
//! | module | what |
//! |---|---|
//! | [`view`] | a definition, parsed and planned |
//! | [`kernel`] | events in, values out: the one place where values are made |
//! | [`aggregates`] | aggregate functions of our own: sketches, lists, streaks |
//! | [`events`] | the events kept for an entity |
//! | [`chunks`] | the same in a tree of chunks with partial states, for entities of many signals |
//! | [`contexts`] | what is kept of slowly changing tables |
//! | [`row`] | the stored form of an entity's values and events |
//! | [`row_table`] | rows by entity |
//! | [`registry`] | all views; names resolved once |
//! | [`on_demand`] | features computed at a read from others and the request |
//! | [`versions`] | definitions that were changed or removed, kept until dropped |
//! | [`online`] | values for now: trait, `embedded` |
//! | [`offline`] | history: trait, `parquet` |
//! | [`history`] | what is kept of entities, made again from history |
//! | [`quality`] | freshness, NULLs and drift |
//! | [`past`] | point-in-time joins |
//! | [`reference`] | the same values as plain batch SQL, to compare with |
//! | [`store`] | reads, now and as of |
//! | [`tiles`] | a view as tiles of a minute, which another engine makes and which merge into its values |
//! | [`table`] | values of many entities side by side |
//! | [`udf`] | user functions: built, loaded, called |
//! | [`value`] | values at the boundary, free of Arrow |

pub mod aggregates;
pub mod chunks;
mod codes;
pub mod contexts;
pub mod error;
pub mod events;
mod gather;
pub mod history;
pub mod kernel;
pub mod offline;
pub mod on_demand;
pub mod online;
pub mod past;
pub mod quality;
pub mod reference;
pub mod registry;
pub mod row;
pub mod row_table;
pub mod store;
pub mod table;
pub mod tiles;
pub mod udf;
pub mod value;
pub mod versions;
pub mod view;

pub use error::FeatureError;
pub use registry::{Prepared, Registry};
pub use row::Row;
pub use store::{Applied, FeatureStore};
pub use table::{Columns, FeatureTable};
pub use udf::Functions;
pub use value::{FeatureRow, Part, Value, ValueType};
pub use view::View;
