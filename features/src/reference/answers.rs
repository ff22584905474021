//! What came back for the questions of a [`Spread`], in the form in which the kernel gives it.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array, new_null_array},
    compute::{CastOptions, cast, cast_with_options, concat, filter_record_batch, take},
    datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type},
};
use datafusion::{datasource::MemTable, error::DataFusionError, execution::FunctionRegistry};

use super::{
    questions::{AT, HERE, NUMBER, Questions},
    select::{NTH, ZONE},
    session,
    spread::{Spread, as_stored},
};
use crate::{error::FeatureError, view::View};

/// No answer yet.
const NONE: u32 = u32::MAX;

impl Spread<'_> {
    /// A column for each slot of the view, a row for each row asked for, from the answers to the questions: a
    /// number, then the value of every output. Questions without an answer have windows without signals.
    ///
    /// # Errors
    /// Answers to something else.
    pub fn columns(
        &self,
        view: &View,
        questions: &Questions,
        answers: &[RecordBatch],
    ) -> Result<Vec<ArrayRef>, FeatureError> {
        let made = || -> Result<Vec<ArrayRef>, DataFusionError> {
            let asked = questions.rows.num_rows();
            let mut place = vec![NONE; asked];
            let mut parts: Vec<RecordBatch> = answers.iter().filter(|b| b.num_rows() > 0).cloned().collect();
            let mut next = note(&mut place, &parts, 0)?;
            let open: BooleanArray = place.iter().map(|p| Some(*p == NONE)).collect();
            if open.true_count() > 0 {
                let empty = self.of_none(&filter_record_batch(&questions.rows, &open)?)?;
                next = note(&mut place, &empty, next)?;
                parts.extend(empty);
            }
            if next as usize != asked || place.contains(&NONE) {
                return Err(DataFusionError::Plan(format!("{next} answers to {asked} questions")));
            }
            let windows = self.reference.definition.windows.len();
            let rows = asked / windows.max(1);
            let mut whole = Vec::with_capacity(view.outputs.len());
            for (o, output) in view.outputs.iter().enumerate() {
                let of: Vec<ArrayRef> = parts
                    .iter()
                    .map(|b| exactly(b.column(o + 1), &output.data_type))
                    .collect::<Result<_, _>>()?;
                let of: Vec<&dyn Array> = of.iter().map(AsRef::as_ref).collect();
                whole.push(if of.is_empty() { new_null_array(&output.data_type, 0) } else { concat(&of)? });
            }
            let mut columns = Vec::with_capacity(view.slots());
            for w in 0..windows {
                let picked: UInt32Array = (0..rows).map(|row| place[row * windows + w]).collect();
                for column in &whole {
                    columns.push(take(column, &picked, None)?);
                }
            }
            Ok(columns)
        };
        made().map_err(FeatureError::compute(&view.name))
    }

    /// The answers to questions whose windows are empty.
    fn of_none(&self, questions: &RecordBatch) -> Result<Vec<RecordBatch>, DataFusionError> {
        let reference = self.reference;
        let ctx = session(&reference.functions, 1).map_err(|e| DataFusionError::External(e.into()))?;
        let rows = questions.num_rows();
        let schema = as_stored(&reference.tables[0].1);
        let mut fields: Vec<Field> = schema.fields().iter().map(|f| f.as_ref().clone()).collect();
        let mut columns: Vec<ArrayRef> = fields.iter().map(|f| new_null_array(f.data_type(), rows)).collect();
        for (name, column) in [NUMBER, AT, HERE].map(|name| (name, questions.column_by_name(name))) {
            let column = column.ok_or_else(|| DataFusionError::Plan(format!("no column {name}")))?;
            fields.push(Field::new(name, column.data_type().clone(), true));
            columns.push(column.clone());
        }
        for name in [ZONE, NTH] {
            fields.push(Field::new(name, DataType::Utf8, true));
            columns.push(new_null_array(&DataType::Utf8, rows));
        }
        let main = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
        super::replace(&ctx, &reference.select.table, main)?;
        for joined in &reference.select.joined {
            let given = reference.given.iter().find(|t| t.name == joined.table).map(|t| t.rows.schema());
            let signals =
                reference.tables.iter().find(|(name, _)| *name == joined.table).map(|t| t.1.clone());
            let schema = given.or(signals).ok_or_else(|| DataFusionError::Plan("no such table".into()))?;
            let schema = with_nth(&schema);
            ctx.register_table(joined.table.as_str(), Arc::new(MemTable::try_new(schema, vec![vec![]])?))?;
        }
        let is_aggregate = |name: &str| ctx.udaf(name).is_ok();
        let sql = reference.select.of_none(NUMBER, AT, HERE, &is_aggregate);
        let sql = sql.map_err(|e| DataFusionError::Plan(e.to_string()))?;
        let run = tokio::task::unconstrained(async { ctx.sql(&sql).await?.collect().await });
        let answers = futures::executor::block_on(run)?;
        Ok(answers.into_iter().filter(|b| b.num_rows() > 0).collect())
    }
}

fn with_nth(schema: &SchemaRef) -> SchemaRef {
    let mut fields: Vec<Field> = as_stored(schema).fields().iter().map(|f| f.as_ref().clone()).collect();
    fields.push(Field::new(NTH, DataType::Utf8, true));
    Arc::new(Schema::new(fields))
}

/// Notes where the answer to each question lies; `next` is the place of the first.
fn note(place: &mut [u32], answers: &[RecordBatch], mut next: u32) -> Result<u32, DataFusionError> {
    for batch in answers {
        let numbers = cast(batch.column(0), &DataType::UInt64)?;
        for number in numbers.as_primitive::<UInt64Type>().values() {
            match place.get_mut(*number as usize) {
                Some(free) if *free == NONE => *free = next,
                _ => return Err(DataFusionError::Plan(format!("a second or unknown answer, to {number}"))),
            }
            next += 1;
        }
    }
    Ok(next)
}

/// A column in the type in which the view shows it; what that type cannot hold is an error.
fn exactly(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, DataFusionError> {
    if column.data_type() == wanted {
        return Ok(column.clone());
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    Ok(cast_with_options(column, wanted, &options)?)
}
