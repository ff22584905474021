//! The registry as `GET /v1/features` and `kairos features list` show it.

use serde::Serialize;

use super::Registry;
use crate::{
    on_demand::{OnDemand, REQUEST},
    value::{Value, ValueType},
    view::View,
};

impl Registry {
    /// The registry as the read API shows it.
    pub fn describe(&self) -> Vec<ViewDescription> {
        let computed = self.on_demand.iter().map(|v| describe_on_demand(v));
        self.views.iter().map(|v| describe(v)).chain(computed).collect()
    }
}

/// A view as the registry read shows it.
#[derive(Debug, Serialize)]
pub struct ViewDescription {
    /// Name.
    pub view: String,
    /// Comment above its definition.
    pub description: String,
    /// Entity column.
    pub entity: String,
    /// SQL table it reads.
    pub table: String,
    /// Hash of its definition.
    pub version: String,
    /// Whether its name alone means this version.
    pub current: bool,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Freshness objective, in milliseconds.
    pub freshness_ms: Option<i64>,
    /// Allowed lateness, in milliseconds.
    pub lateness_ms: i64,
    /// Window labels.
    pub windows: Vec<String>,
    /// Features.
    pub features: Vec<FeatureDescription>,
}

/// A feature as the registry read shows it.
#[derive(Debug, Serialize)]
pub struct FeatureDescription {
    /// `view.feature_window`, or `view@version.feature_window` where the version is an older one.
    pub name: String,
    /// Type of its values.
    #[serde(rename = "type")]
    pub kind: ValueType,
    /// What an entity without signals reads.
    pub empty: Value,
}

fn describe(v: &View) -> ViewDescription {
    let outputs = v.windows().iter().flat_map(|_| &v.outputs);
    let name = v.pinned_name();
    ViewDescription {
        view: v.name.to_string(),
        description: v.definition.description.clone(),
        entity: v.definition.entity.clone(),
        table: v.table.clone(),
        version: v.version_text.to_string(),
        current: v.current,
        owner: v.definition.owner.clone(),
        freshness_ms: v.definition.freshness_ms,
        lateness_ms: v.definition.lateness_ms,
        windows: v.windows().iter().map(|w| w.label.clone()).collect(),
        features: v
            .feature_names()
            .zip(outputs)
            .map(|(f, o)| FeatureDescription {
                name: format!("{name}.{f}"),
                kind: o.kind,
                empty: o.empty.clone(),
            })
            .collect(),
    }
}

fn describe_on_demand(v: &OnDemand) -> ViewDescription {
    let d = &v.definition;
    ViewDescription {
        view: d.name.clone(),
        description: d.description.clone(),
        entity: d.entity.clone(),
        table: REQUEST.to_owned(),
        version: v.version.to_string(),
        current: true,
        owner: None,
        freshness_ms: None,
        lateness_ms: 0,
        windows: Vec::new(),
        features: v
            .outputs
            .iter()
            .map(|o| FeatureDescription {
                name: format!("{}.{}", d.name, o.name),
                kind: o.kind,
                empty: Value::Null,
            })
            .collect(),
    }
}
