//! On-demand features: computed at a read, from stored features and what the request brings.
//!
//! `CREATE ON DEMAND FEATURE VIEW name ENTITY user_id REQUEST (free_minutes BIGINT) AS SELECT
//! task_load.open_24h * 15.0 / request.free_minutes AS pressure;` gives `name.pressure`. Any scalar SQL over
//! features (as `view.feature_window`), over the request's fields (as `request.field`) and `as_of()` may stand there;
//! it has no FROM. A field that a request leaves out is NULL.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions},
    compute::cast,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use datafusion::{
    common::{
        Column, DFSchema, ScalarValue, TableReference,
        tree_node::{Transformed, TreeNode},
    },
    datasource::MemTable,
    execution::context::SessionContext,
    logical_expr::{Expr, LogicalPlan},
    physical_expr::{PhysicalExpr, create_physical_expr},
    sql::sqlparser::{
        ast::{Expr as Ast, visit_expressions},
        dialect::GenericDialect,
        parser::Parser,
    },
};
use ingest::Millis;
use serde_json::{Map, Value as Json};

use crate::{
    error::FeatureError,
    kernel::value_at,
    registry::kind,
    value::{FeatureRow, Value, ValueType},
    view::{
        OnDemandDefinition,
        plan::canonical,
        time::{AS_OF, instant_type},
    },
};

/// Name under which the request's fields stand in SQL.
pub const REQUEST: &str = "request";

/// Where an expression finds a column.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Input {
    /// A stored feature, by name.
    Feature(String),
    /// A field of the request, by its place in the definition.
    Request(usize),
    /// The instant of the read.
    AsOf,
}

/// One feature of an on-demand view.
#[derive(Debug, Clone)]
pub struct OnDemandOutput {
    /// Name in the SELECT.
    pub name: String,
    /// Type of its values.
    pub kind: ValueType,
    /// Arrow type of its values.
    pub data_type: DataType,
    expr: Arc<dyn PhysicalExpr>,
}

/// An on-demand feature view, compiled.
#[derive(Debug)]
pub struct OnDemand {
    /// Its definition.
    pub definition: OnDemandDefinition,
    /// Its features.
    pub outputs: Vec<OnDemandOutput>,
    /// Hash of the definition, in hexadecimal.
    pub version: Arc<str>,
    inputs: Vec<Input>,
    schema: SchemaRef,
}

impl OnDemand {
    /// Plans a definition; `stored` are the stored features there are, with their types.
    pub(crate) fn compile(
        ctx: &SessionContext,
        definition: OnDemandDefinition,
        stored: &BTreeMap<String, DataType>,
    ) -> Result<OnDemand, FeatureError> {
        let wrong = |message: String| FeatureError::Definition {
            file: definition.file.clone(),
            line: definition.select_at.0,
            column: definition.select_at.1,
            message,
        };
        let planned = plan(ctx, &definition, stored).map_err(wrong)?;
        let version = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(format!("{definition:?}").as_bytes()));
        let (outputs, inputs, schema) = planned;
        Ok(OnDemand { definition, outputs, version: version.into(), inputs, schema })
    }

    /// Names of the stored features it reads.
    pub fn reads(&self) -> impl Iterator<Item = &str> + '_ {
        self.inputs.iter().filter_map(|i| match i {
            Input::Feature(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// All its features for rows whose inputs are given as columns.
    pub(crate) fn evaluate(
        &self,
        rows: usize,
        input: impl Fn(&Input) -> Result<ArrayRef, FeatureError>,
    ) -> Result<Vec<ArrayRef>, FeatureError> {
        let wrong = FeatureError::compute(&self.definition.name);
        let mut columns = Vec::with_capacity(self.inputs.len());
        for (i, field) in self.inputs.iter().zip(self.schema.fields()) {
            columns.push(cast(&input(i)?, field.data_type()).map_err(|e| wrong(e.into()))?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map_err(|e| wrong(e.into()))?;
        let one = |o: &OnDemandOutput| {
            let column = o.expr.evaluate(&batch).and_then(|v| v.into_array(rows)).map_err(&wrong)?;
            cast(&column, &o.data_type).map_err(|e| wrong(e.into()))
        };
        self.outputs.iter().map(one).collect()
    }

    /// The request's fields as columns of one row.
    ///
    /// # Errors
    /// A field of another type than declared.
    pub(crate) fn request(&self, given: &Map<String, Json>) -> Result<Vec<ScalarValue>, FeatureError> {
        let field = |(name, t): &(String, DataType)| {
            let unfit = || FeatureError::Request(format!("`request.{name}` must be {}", spoken(t)));
            match given.get(name) {
                None | Some(Json::Null) => ScalarValue::try_from(t).map_err(|_| unfit()),
                Some(json) => scalar(json, t).ok_or_else(unfit),
            }
        };
        self.definition.request.iter().map(field).collect()
    }
}

fn spoken(t: &DataType) -> &'static str {
    match t {
        DataType::Int64 => "a whole number",
        DataType::Float64 => "a number",
        DataType::Boolean => "true or false",
        DataType::Utf8 => "text",
        _ => "an instant, RFC 3339",
    }
}

fn scalar(json: &Json, t: &DataType) -> Option<ScalarValue> {
    Some(match t {
        DataType::Int64 => ScalarValue::Int64(Some(json.as_i64()?)),
        DataType::Float64 => ScalarValue::Float64(Some(json.as_f64()?)),
        DataType::Boolean => ScalarValue::Boolean(Some(json.as_bool()?)),
        DataType::Utf8 => ScalarValue::Utf8(Some(json.as_str()?.to_owned())),
        _ => {
            let at: jiff::Timestamp = json.as_str()?.parse().ok()?;
            ScalarValue::TimestampMillisecond(Some(at.as_millisecond()), Some("+00:00".into()))
        }
    })
}

type Planned = (Vec<OnDemandOutput>, Vec<Input>, SchemaRef);

/// An error is what is wrong with the SELECT.
fn plan(
    ctx: &SessionContext,
    d: &OnDemandDefinition,
    stored: &BTreeMap<String, DataType>,
) -> Result<Planned, String> {
    let told = |e: datafusion::error::DataFusionError| e.strip_backtrace();
    let named = qualifiers(&d.select)?;
    let mut inputs = Vec::new();
    let mut fields = Vec::new();
    let state = ctx.state();
    let mut from = Vec::new();
    for name in &named {
        let columns: Vec<(Field, Input)> = if name == REQUEST {
            let field = |(i, (n, t)): (usize, &(String, DataType))| {
                (Field::new(n, t.clone(), true), Input::Request(i))
            };
            d.request.iter().enumerate().map(field).collect()
        } else {
            let prefix = format!("{name}.");
            stored
                .range(prefix.clone()..)
                .take_while(|(n, _)| n.starts_with(&prefix))
                .map(|(n, t)| (Field::new(&n[prefix.len()..], t.clone(), true), Input::Feature(n.clone())))
                .collect()
        };
        if columns.is_empty() {
            return Err(format!("there is no feature view `{name}`, and the REQUEST declares no such field"));
        }
        from.push((name.clone(), columns));
    }
    // Tables of signals have names too; a session of its own knows the views alone.
    let mine = SessionContext::new_with_config(ctx.copied_config());
    state.scalar_functions().values().for_each(|f| mine.register_udf(f.as_ref().clone()));
    for (name, columns) in from {
        let schema = Arc::new(Schema::new(columns.iter().map(|(f, _)| f.clone()).collect::<Vec<_>>()));
        let table = MemTable::try_new(schema, vec![vec![]]).map_err(told)?;
        mine.register_table(name.as_str(), Arc::new(table)).map_err(told)?;
        for (field, input) in columns {
            fields.push((Some(TableReference::bare(name.clone())), Arc::new(field)));
            inputs.push(input);
        }
    }
    let sql = match named.is_empty() {
        true => d.select.clone(),
        false => format!("{} FROM {}", d.select, named.iter().cloned().collect::<Vec<_>>().join(", ")),
    };
    let planned = futures::executor::block_on(mine.state().create_logical_plan(&sql)).map_err(told)?;
    let config = mine.state();
    let planned =
        config.analyzer().execute_and_check(planned, config.config_options(), |_, _| {}).map_err(told)?;
    let top = match planned {
        LogicalPlan::Projection(top) if !matches!(*top.input, LogicalPlan::Aggregate(_)) => top,
        _ => {
            return Err(
                "an on-demand view is a SELECT of expressions, with no aggregate, FROM, WHERE or GROUP BY"
                    .into(),
            );
        }
    };
    fields.push((None, Arc::new(Field::new(AS_OF, instant_type(), true))));
    inputs.push(Input::AsOf);
    let joined = DFSchema::new_with_metadata(fields, Default::default()).map_err(told)?;
    let mut outputs: Vec<OnDemandOutput> = Vec::new();
    for (e, field) in top.expr.iter().zip(top.schema.fields()) {
        let e = e.clone().transform(|e| {
            Ok(match e {
                Expr::ScalarFunction(f) if f.func.name() == "as_of" => {
                    Transformed::yes(Expr::Column(Column::new_unqualified(AS_OF)))
                }
                e => Transformed::no(e),
            })
        });
        let e = e.map_err(told)?.data;
        let simplify = datafusion::logical_expr::simplify::SimplifyContext::builder()
            .with_schema(Arc::new(joined.clone()))
            .build();
        let e = datafusion::optimizer::simplify_expressions::ExprSimplifier::new(simplify)
            .simplify(e)
            .map_err(told)?;
        let expr =
            create_physical_expr(&e, &joined, config.execution_props(), &Default::default()).map_err(told)?;
        let name = field.name().clone();
        let Some(data_type) = canonical(field.data_type()) else {
            return Err(format!(
                "`{name}` has the type {}, which cannot be a feature value",
                field.data_type()
            ));
        };
        if !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
            return Err(format!("`{name}` needs a name: write {name} AS some_name (lower case)"));
        }
        if outputs.iter().any(|o| o.name == name) {
            return Err(format!("two columns are called `{name}`"));
        }
        outputs.push(OnDemandOutput { name, kind: kind(&data_type), data_type, expr });
    }
    Ok((outputs, inputs, joined.inner().clone()))
}

/// The words before the dot in `view.feature`, in order of the alphabet.
fn qualifiers(select: &str) -> Result<BTreeSet<String>, String> {
    let parsed = Parser::parse_sql(&GenericDialect {}, select).map_err(|e| e.to_string())?;
    let mut found = BTreeSet::new();
    let mut bare = None;
    let _ = visit_expressions(&parsed, |e| {
        match e {
            Ast::CompoundIdentifier(names) if names.len() > 1 => {
                found.insert(names[0].value.clone());
            }
            Ast::Identifier(name) => bare = Some(name.value.clone()),
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    });
    match bare {
        Some(name) => Err(format!("`{name}`: write view.feature_window, or request.{name}")),
        None => Ok(found),
    }
}

/// What a prepared set computes beside what is stored.
#[derive(Debug, Clone)]
pub(crate) struct Computed {
    /// The stored features needed, asked for or not.
    pub stored: Box<crate::registry::Prepared>,
    /// Where each feature asked for comes from.
    pub cells: Vec<Cell>,
    pub views: Vec<Arc<OnDemand>>,
    /// Fields of the request, for each view.
    pub requests: Vec<Vec<ScalarValue>>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Cell {
    /// Place among the stored.
    Stored(usize),
    /// View and output.
    Computed(usize, usize),
}

impl Computed {
    /// The row asked for, from the row of stored features.
    pub(crate) fn finish(&self, row: FeatureRow) -> Result<FeatureRow, FeatureError> {
        let mut computed = Vec::with_capacity(self.views.len());
        for (v, view) in self.views.iter().enumerate() {
            let place = |name: &str| self.stored.names.iter().position(|n| &**n == name);
            let columns = view.evaluate(1, |input| {
                let scalar = match input {
                    Input::Feature(name) => {
                        place(name).map_or(ScalarValue::Null, |i| as_scalar(&row.values[i]))
                    }
                    Input::Request(i) => self.requests[v][*i].clone(),
                    Input::AsOf => as_scalar(&Value::Time(row.as_of)),
                };
                scalar.to_array().map_err(FeatureError::compute(&view.definition.name))
            })?;
            // As old as the newest signal behind any of its inputs.
            let age = view.reads().filter_map(|n| place(n).and_then(|i| row.age_ms[i])).min();
            computed.push((columns, age));
        }
        let (mut values, mut ages) = (Vec::new(), Vec::new());
        for cell in &self.cells {
            match *cell {
                Cell::Stored(i) => {
                    values.push(row.values[i].clone());
                    ages.push(row.age_ms[i]);
                }
                Cell::Computed(v, o) => {
                    values.push(value_at(&computed[v].0[o], 0));
                    ages.push(computed[v].1);
                }
            }
        }
        Ok(FeatureRow { values, age_ms: ages, ..row })
    }

    /// The columns asked for, from columns of stored features, a row an instant. Fields of the request are
    /// columns of `given`, as `request.field`, where there is one; else what the prepared set was given.
    pub(crate) fn columns(
        &self,
        stored: &[ArrayRef],
        given: Option<&RecordBatch>,
        instants: &[Millis],
    ) -> Result<Vec<ArrayRef>, FeatureError> {
        let rows = instants.len();
        let mut computed = Vec::with_capacity(self.views.len());
        for (v, view) in self.views.iter().enumerate() {
            let constant = |s: &ScalarValue| {
                s.to_array_of_size(rows).map_err(FeatureError::compute(&view.definition.name))
            };
            computed.push(view.evaluate(rows, |input| match input {
                Input::Feature(name) => {
                    let at = self.stored.names.iter().position(|n| **n == **name);
                    at.map_or_else(|| constant(&ScalarValue::Null), |i| Ok(stored[i].clone()))
                }
                Input::Request(i) => {
                    let name = format!("{REQUEST}.{}", view.definition.request[*i].0);
                    match given.map(|g| g.column_by_name(&name)) {
                        Some(Some(column)) => Ok(column.clone()),
                        Some(None) if self.requests[v][*i].is_null() => Err(FeatureError::Request(format!(
                            "{} takes `{name}` from the request; the rows have no such column",
                            view.definition.name
                        ))),
                        _ => constant(&self.requests[v][*i]),
                    }
                }
                Input::AsOf => Ok(Arc::new(
                    arrow::array::TimestampMillisecondArray::from(instants.to_vec()).with_timezone("+00:00"),
                )),
            })?);
        }
        let column = |cell: &Cell| match *cell {
            Cell::Stored(i) => stored[i].clone(),
            Cell::Computed(v, o) => computed[v][o].clone(),
        };
        Ok(self.cells.iter().map(column).collect())
    }
}

fn as_scalar(value: &Value) -> ScalarValue {
    match value {
        // Lists have no place in an on-demand expression.
        Value::Null | Value::List(_) => ScalarValue::Null,
        Value::Bool(b) => ScalarValue::Boolean(Some(*b)),
        Value::Int(i) => ScalarValue::Int64(Some(*i)),
        Value::Float(f) => ScalarValue::Float64(Some(*f)),
        Value::Text(t) => ScalarValue::Utf8(Some(t.to_string())),
        Value::Time(t) => ScalarValue::TimestampMillisecond(Some(*t), Some("+00:00".into())),
    }
}
