//! What a view does with its signals and what it keeps of them, told to people.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr_common::physical_expr::fmt_sql;
use ingest::Millis;
use serde::Serialize;

use super::{Argument, Kernel};
use crate::{
    error::FeatureError,
    row,
    view::{
        Period, Span, View,
        window::{FOR_EVER, LONGEST_SESSION},
    },
};

/// A view, or one of its features.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// Name of the view.
    pub view: String,
    /// Hash of its definition.
    pub version: String,
    /// File and line of its definition.
    pub defined_at: String,
    /// The comment above it.
    pub description: String,
    /// What its values are about.
    pub entity: String,
    /// The signal table it reads.
    pub table: String,
    /// Slowly changing tables beside it, as of each signal's time.
    pub beside: Vec<String>,
    /// Conditions a signal must meet, checked when it comes or, where they look at a slowly changing table,
    /// when values are made.
    pub filters: Vec<String>,
    /// How late a signal may come, in milliseconds.
    pub lateness_ms: Millis,
    /// How long an event is kept behind the newest signal, in milliseconds; `None` for ever.
    pub kept_ms: Option<Millis>,
    /// Windows.
    pub windows: Vec<WindowExplanation>,
    /// What is kept of a signal.
    pub event: EventExplanation,
    /// Aggregates.
    pub aggregates: Vec<AggregateExplanation>,
    /// Outputs; each is one feature a window.
    pub outputs: Vec<OutputExplanation>,
    /// What is kept of an entity beside its events.
    pub row: RowExplanation,
}

/// A window.
#[derive(Debug, Serialize)]
pub struct WindowExplanation {
    /// As it ends a feature's name.
    pub label: String,
    /// Which signals are in it.
    pub holds: String,
    /// How its lower edge is found among an entity's events.
    pub edge: String,
}

/// What is kept of a signal.
#[derive(Debug, Serialize)]
pub struct EventExplanation {
    /// Bytes of its time and of its place in the list.
    pub fixed_bytes: usize,
    /// Its columns, in the order of their bytes, by which events of equal time are ordered.
    pub columns: Vec<ColumnExplanation>,
}

/// A column of an event.
#[derive(Debug, Serialize)]
pub struct ColumnExplanation {
    /// The expression over the signal.
    pub expression: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its bytes, where all values have as many. A text has 1, and 9 for each 8 bytes begun up to 32, then 33 for each
    /// 32.
    pub bytes: Option<usize>,
}

/// An aggregate.
#[derive(Debug, Serialize)]
pub struct AggregateExplanation {
    /// As the SELECT has it.
    pub expression: String,
    /// What it is given, column by column of the event.
    pub arguments: Vec<String>,
    /// Condition under which an event counts.
    pub filter: Option<String>,
    /// Types of its partial state, which is kept for each full chunk of events and made for each stretch of time
    /// between two edges of windows.
    pub state: Vec<String>,
    /// Whether it computes the stretches of many entities together.
    pub grouped: bool,
    /// Whether texts are counted by codes.
    pub by_codes: bool,
}

/// An output.
#[derive(Debug, Serialize)]
pub struct OutputExplanation {
    /// Its name.
    pub name: String,
    /// Type of its values.
    #[serde(rename = "type")]
    pub kind: String,
    /// The expression over the aggregates.
    pub expression: String,
}

/// What is kept of an entity beside its events.
#[derive(Debug, Serialize)]
pub struct RowExplanation {
    /// Bytes before the values.
    pub header_bytes: usize,
    /// Finished values: one an output and window.
    pub values: usize,
    /// Bytes of each; texts and lists come on top.
    pub value_bytes: usize,
    /// Most events in a chunk; an entity with more has them in several, and with each full one the aggregates'
    /// states.
    pub chunk_events: usize,
    /// Whether values change with every instant, so that finished ones hold for no time.
    pub ages: bool,
}

impl Explanation {
    /// Least bytes of an entity with so many events, texts not counted.
    pub fn least_bytes(&self, events: usize) -> usize {
        let event: usize = self.event.columns.iter().map(|c| c.bytes.unwrap_or(1)).sum();
        let row = self.row.header_bytes + self.row.values * self.row.value_bytes;
        row + events * (self.event.fixed_bytes + event)
    }
}

impl View {
    /// Explains the view, or of it the one feature (`feature_window`).
    ///
    /// # Errors
    /// `Request` for a feature that is not there.
    pub fn explain(&self, feature: Option<&str>) -> Result<Explanation, FeatureError> {
        let chosen = match feature {
            None => None,
            Some(name) => Some(self.feature_names().position(|f| f == name).ok_or_else(|| {
                let there: Vec<String> = self.feature_names().collect();
                FeatureError::Request(format!(
                    "{} has no feature `{name}`; it has {}",
                    self.name,
                    there.join(", ")
                ))
            })?),
        };
        let (window, output) = match chosen {
            Some(slot) => (Some(slot / self.outputs.len()), Some(slot % self.outputs.len())),
            None => (None, None),
        };
        let wanted = |chosen: Option<usize>, i: usize| chosen.is_none_or(|c| c == i);
        let d = &self.definition;
        // Edges to the millisecond are the finest resolution, and none to tell of.
        let resolution = if d.resolution_ms > 1 { d.resolution_ms } else { 0 };
        let kept = self.horizon() - (d.resolution_ms - resolution);
        let windows = self.windows().iter().enumerate().filter(|(i, _)| wanted(window, *i));
        let kernel = &self.kernel;
        let needed = |a: usize| output.is_none_or(|o| kernel.needs(o, a));
        let mut aggregates = Vec::new();
        for a in (0..kernel.aggregations.len()).filter(|a| needed(*a)) {
            aggregates.push(kernel.describe_aggregate(a)?);
        }
        let outputs = kernel.outputs.iter().zip(&self.outputs).enumerate();
        Ok(Explanation {
            view: d.name.clone(),
            version: self.version_text.to_string(),
            defined_at: format!("{}:{}", d.file, d.at.0),
            description: d.description.clone(),
            entity: d.entity.clone(),
            table: self.table.clone(),
            beside: self.contexts().map(|t| t.to_string()).collect(),
            filters: kernel.describe_filters(),
            lateness_ms: d.lateness_ms,
            kept_ms: (kept < FOR_EVER).then_some(kept),
            windows: windows.map(|(_, w)| describe_window(&w.label, w.span, resolution)).collect(),
            event: EventExplanation {
                fixed_bytes: EVENT_BYTES,
                columns: kernel.stored.iter().map(|e| kernel.describe_column(e)).collect(),
            },
            aggregates,
            outputs: outputs
                .filter(|(i, _)| wanted(output, *i))
                .map(|(_, ((e, t), o))| OutputExplanation {
                    name: o.name.clone(),
                    kind: t.to_string(),
                    expression: text(e),
                })
                .collect(),
            row: RowExplanation {
                header_bytes: row::HEADER,
                values: self.slots(),
                value_bytes: row::SLOT,
                chunk_events: self.layout.chunk,
                ages: kernel.ages,
            },
        })
    }
}

/// Time and end of an event in a list.
const EVENT_BYTES: usize = 12;

fn text(e: &Arc<dyn PhysicalExpr>) -> String {
    fmt_sql(e.as_ref()).to_string()
}

impl Kernel {
    /// The expressions that aggregates take for their inputs.
    fn inputs(&self) -> &[Arc<dyn PhysicalExpr>] {
        self.late.as_ref().map_or(&self.stored, |late| &late.inputs)
    }

    /// Whether an output needs an aggregate.
    fn needs(&self, output: usize, aggregate: usize) -> bool {
        let columns = super::collect_columns(&self.outputs[output].0);
        columns.iter().any(|c| c.index() == aggregate)
    }

    fn describe_filters(&self) -> Vec<String> {
        let late = self.late.iter().flat_map(|late| &late.filters);
        self.filters.iter().chain(late).map(text).collect()
    }

    fn describe_column(&self, e: &Arc<dyn PhysicalExpr>) -> ColumnExplanation {
        let kind = e.data_type(self.source.joined.inner()).unwrap_or(DataType::Null);
        // `arrow::row` puts a byte for NULL before each value.
        let bytes = match &kind {
            DataType::Boolean => Some(2),
            DataType::Null => Some(0),
            other => other.primitive_width().map(|width| 1 + width),
        };
        ColumnExplanation { expression: text(e), kind: kind.to_string(), bytes }
    }

    fn describe_aggregate(&self, number: usize) -> Result<AggregateExplanation, FeatureError> {
        let a = &self.aggregations[number];
        let argument = |a: &Argument| match a {
            Argument::Input(i) => text(&self.inputs()[*i]),
            Argument::Time => "time".to_owned(),
            Argument::Constant(value) => value.to_string(),
        };
        let state = a.expr.state_fields().map_err(self.wrong())?;
        Ok(AggregateExplanation {
            expression: a.expr.human_display().unwrap_or(a.expr.name()).to_owned(),
            arguments: a.arguments.iter().map(argument).collect(),
            filter: a.filter.as_ref().map(argument),
            state: state.iter().map(|f| f.data_type().to_string()).collect(),
            grouped: a.expr.groups_accumulator_supported(),
            by_codes: a.coded,
        })
    }
}

fn describe_window(label: &str, span: Span, resolution: Millis) -> WindowExplanation {
    let (holds, edge) = match span {
        Span::Sliding(ms) => {
            let span = duration(ms);
            let holds = match resolution {
                0 => format!("t - {span} < time <= t"),
                ms => format!("t - {span}, down to a multiple of {}, < time <= t", duration(ms)),
            };
            (holds, "by binary search in the order of time")
        }
        Span::Calendar(period) => {
            let period = match period {
                Period::Day => "day",
                Period::Week => "week, from Monday,",
                Period::Month => "month",
            };
            let holds = format!("since the {period} of t began in the person's time zone, time <= t");
            (holds, "by binary search for that begin; the zone is the newest one told by t, else UTC")
        }
        Span::Session(ms) => (
            format!(
                "the run up to t without a gap of more than {}, at most {}",
                duration(ms),
                duration(LONGEST_SESSION)
            ),
            "by going back from t until a gap",
        ),
        Span::Lifetime => ("every time <= t".to_owned(), "none: all events"),
    };
    WindowExplanation { label: label.to_owned(), holds, edge: edge.to_owned() }
}

/// A span in its largest whole unit.
pub fn duration(ms: Millis) -> String {
    let units = [(86_400_000, "days"), (3_600_000, "hours"), (60_000, "minutes"), (1_000, "seconds")];
    match units.iter().find(|(unit, _)| ms > 0 && ms % unit == 0) {
        Some((unit, name)) => {
            format!("{} {}", ms / unit, if ms == *unit { &name[..name.len() - 1] } else { name })
        }
        None => format!("{ms} ms"),
    }
}
