//! The traits behind the routes. Each says only what a route needs, so that a test can stand in for a part
//! and the binary hands in the real one.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use features::{
    Columns, FeatureTable,
    value::{Value, ValueType},
};
use futures::stream::BoxStream;
use ingest::{Millis, log::Position};
use serde::{Deserialize, Serialize};
use serde_json::Map;
use utoipa::ToSchema;

use crate::ApiError;

/// Which features a read asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// These, named `view.feature_window`, in this order.
    Features(Vec<String>),
    /// All of these views.
    Views(Vec<String>),
}

/// The instant a read is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instant {
    /// Now, which is this; answered from the online store.
    Now(Millis),
    /// Any instant; answered from history.
    AsOf(Millis),
}

/// Feature values and their registry.
#[async_trait]
pub trait FeatureReads: Send + Sync + 'static {
    /// Every view there is, and how well it was of late.
    fn views(&self, now: Millis) -> Vec<ViewInfo>;

    /// Values of `entities`: a row for each, in that order, repeats and unknown ones included; `request` is what
    /// on-demand features take from the request.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] for a name that is not there or a field of `request` that does not fit, [`ApiError::Unavailable`] while a store is not.
    async fn read(
        &self,
        wanted: &Wanted,
        entities: Vec<String>,
        at: Instant,
        request: &Map<String, serde_json::Value>,
    ) -> Result<FeatureTable, ApiError>;

    /// The features wanted and the values of an entity without signals.
    ///
    /// # Errors
    /// As [`FeatureReads::read`].
    fn empty(&self, wanted: &Wanted) -> Result<(Arc<Columns>, Vec<Value>), ApiError>;

    /// Waits until reads reflect everything before `position`.
    ///
    /// # Errors
    /// [`ApiError::Late`] when that does not happen within `timeout`.
    async fn wait_for(&self, position: &Position, timeout: Duration) -> Result<(), ApiError>;
}

/// A request for a tip.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// For whom.
    #[schema(example = "ada")]
    pub user: String,
    /// Where the tip will be shown, such as `web`.
    pub channel: Option<String>,
    /// What the caller knows better about the moment: numbers or truth, by the name the context has for it.
    #[schema(value_type = Option<Object>, example = json!({"time.hour": 21.5}))]
    pub context: Option<serde_json::Map<String, serde_json::Value>>,
}

/// A tip to show, with what is needed to report the reaction.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Recommendation {
    /// What to show.
    pub tip: TipText,
    /// Names this showing; a reaction refers to it.
    pub impression: String,
    /// The policy that chose, with its version.
    pub policy: String,
    /// The probability with which it chose this tip among the candidates.
    pub propensity: f64,
    /// Present and true when the features behind the choice may be older than they should be: the online store is
    /// away, or too far behind the log.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub stale: bool,
}

/// The words of a tip.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct TipText {
    /// Its name in the catalogue.
    pub id: String,
    /// A few words.
    pub title: String,
    /// One or two sentences.
    pub body: String,
    /// Label of the button that accepts it, where the tip has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// Why this tip, now, for this person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What a person did with a tip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reaction {
    /// Will do it.
    Accepted,
    /// Does not want it.
    Dismissed,
    /// Wants it later.
    Snoozed,
    /// Has done it.
    Done,
    /// Wants no tip like it again.
    Muted,
}

/// What became of a reaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It is durable.
    New,
    /// It was reported before.
    Again,
}

/// Tips, reactions and explanations.
#[async_trait]
pub trait Recommends: Send + Sync + 'static {
    /// The tip for this moment, or `None` when silence is better.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] for a request that cannot be served, [`ApiError::Unavailable`] while features
    /// or the policy are not ready.
    async fn recommend(&self, ask: Ask, now: Millis) -> Result<Option<Recommendation>, ApiError>;

    /// Records a reaction to an impression, durably.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] for an impression that is not known, [`ApiError::Unavailable`] while the log
    /// takes nothing.
    async fn feedback(
        &self,
        impression: &str,
        reaction: Reaction,
        at: Option<Millis>,
        now: Millis,
    ) -> Result<Recorded, ApiError>;

    /// Why an impression was shown: context, candidates, scores, propensities, policy version.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] for an impression that is not known.
    async fn explain(&self, impression: &str) -> Result<serde_json::Value, ApiError>;
}

/// The policies: their snapshots, and which of them chooses.
#[async_trait]
pub trait Policies: Send + Sync + 'static {
    /// `{"snapshots": […], "changes": […]}`, both oldest first.
    ///
    /// # Errors
    /// [`ApiError::Unavailable`] when the log cannot be read.
    async fn list(&self) -> Result<serde_json::Value, ApiError>;

    /// Lets the shadow serve if it meets every condition and this is no dry run; `by` asked for it. The answer
    /// says whether it serves now (`promoted`) and each condition with what was found and what is wanted.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] when the shadow changed meanwhile, [`ApiError::Unavailable`] when nothing learns
    /// in this process or the log takes nothing.
    async fn promote(&self, by: &str, dry_run: bool) -> Result<serde_json::Value, ApiError>;

    /// Lets an earlier snapshot serve and says which.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] when there is no such snapshot; else as [`Policies::promote`].
    async fn rollback(&self, by: &str, version: Option<u64>) -> Result<serde_json::Value, ApiError>;

    /// Registers a snapshot that training left in the data directory under this name.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] for a name that is none or a file that is no snapshot; else as
    /// [`Policies::promote`].
    async fn register(&self, file: &str) -> Result<(), ApiError>;
}

/// What is kept about a person.
#[async_trait]
pub trait People: Send + Sync + 'static {
    /// Everything kept about `user`, as pieces of NDJSON: one object a line.
    ///
    /// # Errors
    /// [`ApiError::Unavailable`] when a store cannot be read.
    async fn export(&self, user: &str) -> Result<BoxStream<'static, Result<Bytes, ApiError>>, ApiError>;

    /// Erases `user` everywhere, and says how many records each part held.
    ///
    /// # Errors
    /// [`ApiError::Unavailable`] when a part could not; what was erased stays erased, so asking again is safe.
    async fn erase(&self, user: &str, now: Millis) -> Result<Vec<(String, u64)>, ApiError>;
}

/// The state of one part of this process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PartHealth {
    /// Name of the part, such as `log`.
    pub part: String,
    /// Whether it does its work.
    pub ready: bool,
    /// What it is doing, or what is wrong.
    pub detail: String,
}

/// The state of every part of this process.
pub trait Health: Send + Sync + 'static {
    /// All parts, in a fixed order. Quick: it is asked every few seconds.
    fn parts(&self) -> Vec<PartHealth>;
}

/// A feature view as the registry shows it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ViewInfo {
    /// Name.
    pub view: String,
    /// What it tells, from the comment above its definition.
    pub description: String,
    /// What its values are about.
    pub entity: String,
    /// The SQL table it reads.
    pub table: String,
    /// Hash of its definition.
    pub version: String,
    /// Whether its name alone means this version; older ones are read as `view@version`.
    pub current: bool,
    /// Who answers for it.
    pub owner: Option<String>,
    /// How fresh its values shall be, in milliseconds.
    pub freshness_ms: Option<i64>,
    /// How fresh they were of late.
    pub freshness: FreshnessInfo,
    /// Signals later than allowed, since the process started.
    pub late: u64,
    /// Time of the newest signal applied.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub watermark: Option<Value>,
    /// How late a signal may come, in milliseconds.
    pub lateness_ms: i64,
    /// Its windows.
    pub windows: Vec<String>,
    /// Its features.
    pub features: Vec<FeatureInfo>,
}

/// How long signals took from the door until they could be read, over the last minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ToSchema)]
pub struct FreshnessInfo {
    /// What the view's definition asks for, in milliseconds.
    pub objective_ms: Option<i64>,
    /// Half of the signals took at most this long, in milliseconds; null when there were none.
    pub p50_ms: Option<i64>,
    /// 99 of 100 took at most this long.
    pub p99_ms: Option<i64>,
}

/// A feature as the registry shows it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct FeatureInfo {
    /// `view.feature_window`, as reads name it.
    pub name: String,
    /// Type of its values.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "int")]
    pub kind: ValueType,
    /// What an entity without signals reads.
    #[schema(value_type = Object)]
    pub empty: Value,
    /// Share of NULLs among the values written on the newest day; null before the first.
    pub null_rate: Option<f64>,
    /// How far the newest day's values lie from those of the week before: the population stability index,
    /// above 0.25 for much; null without enough values on both sides.
    pub drift: Option<f64>,
}
