//! Aggregates from columns of tiles, merged by the accumulators that make values everywhere else.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMillisecondArray,
        UInt32Array,
    },
    compute::cast,
    datatypes::{DataType, SchemaRef},
};
use datafusion::{common::ScalarValue, error::DataFusionError};
use ingest::Millis;

use super::{Aggregation, Kernel};
use crate::{
    codes::Codes,
    error::FeatureError,
    tiles::{Cells, Merge, Shape},
};

impl Kernel {
    /// Columns of the view's table of signals.
    pub(crate) fn signals(&self) -> &SchemaRef {
        &self.source.fact
    }

    /// Columns of values, one an output, one row a window: `windows` names the tiles of each.
    pub(crate) fn merge_tiles(
        &self,
        merges: &[Merge],
        cells: &[Cells],
        windows: &[Vec<usize>],
        at: Millis,
    ) -> Result<Vec<ArrayRef>, FeatureError> {
        let mut results = Vec::with_capacity(self.aggregations.len());
        for (a, merge) in self.aggregations.iter().zip(merges) {
            let mut values = Vec::with_capacity(windows.len());
            for tiles in windows {
                values.push(self.over_tiles(a, merge, cells, tiles).map_err(self.wrong())?);
            }
            let column = ScalarValue::iter_to_array(values).map_err(self.wrong())?;
            results.push(cast(&column, a.expr.field().data_type()).map_err(|e| self.wrong()(e.into()))?);
        }
        self.finish(results, &vec![Some(at); windows.len()], &vec![None; windows.len()])
    }

    fn over_tiles(
        &self,
        a: &Aggregation,
        merge: &Merge,
        cells: &[Cells],
        tiles: &[usize],
    ) -> Result<ScalarValue, DataFusionError> {
        let mut accumulator = a.expr.create_accumulator()?;
        match merge {
            Merge::State(columns) => {
                let mut states = Vec::with_capacity(columns.len());
                for (column, field) in columns.iter().zip(a.expr.state_fields()?) {
                    states.push(cast(&cells[*column].state(tiles, field.data_type()), field.data_type())?);
                }
                accumulator.merge_batch(&without_nulls(states)?)?;
            }
            Merge::Values(column, shape) => {
                let values = cells[*column].values(tiles, *shape);
                accumulator.update_batch(&[cast(&values, a.expr.field().data_type())?])?;
            }
            Merge::Extreme(rank, value) => {
                let values: Float64Array = tiles.iter().map(|t| float(cells, *rank, *value, *t)).collect();
                let values: ArrayRef = Arc::new(values);
                accumulator.update_batch(&[cast(&values, a.expr.field().data_type())?])?;
            }
            Merge::Distinct(column, shape) => {
                let Cells::Texts(lists) = &cells[*column] else { return unfit() };
                let texts = tiles.iter().flat_map(|t| &lists[*t]).map(|t| Some(t.as_str()));
                let values = read(texts, *shape);
                let values = if a.coded {
                    Codes::default().of(&values)
                } else {
                    let [argument] = &a.expr.expressions()[..] else { return unfit() };
                    cast(&values, &argument.data_type(self.source.joined.inner())?)?
                };
                accumulator.update_batch(&[values])?;
            }
            Merge::Packed(column, latest, shape) => {
                let Cells::Text(texts) = &cells[*column] else { return unfit() };
                let packed = tiles.iter().filter_map(|t| texts[*t].as_deref());
                let best = if *latest { packed.max() } else { packed.min() };
                let value = best.and_then(|b| b.splitn(4, '\u{1}').nth(3)).and_then(|v| v.strip_prefix('+'));
                let values = cast(&read(std::iter::once(value), *shape), a.expr.field().data_type())?;
                return ScalarValue::try_from_array(&values, 0);
            }
        }
        accumulator.evaluate()
    }
}

impl Cells {
    /// A part of an accumulator's state.
    fn state(&self, tiles: &[usize], wanted: &DataType) -> ArrayRef {
        match self {
            Cells::Int(c) => Arc::new(tiles.iter().map(|t| c[*t]).collect::<Int64Array>()),
            Cells::Bool(c) => Arc::new(tiles.iter().map(|t| c[*t]).collect::<BooleanArray>()),
            Cells::Text(c) => {
                let shape = if wanted.is_floating() { Shape::Float } else { Shape::Text };
                read(tiles.iter().map(|t| c[*t].as_deref()), shape)
            }
            Cells::Texts(_) => Arc::new(StringArray::new_null(tiles.len())),
        }
    }

    /// Values to be aggregated again.
    fn values(&self, tiles: &[usize], shape: Shape) -> ArrayRef {
        match (self, shape) {
            (Cells::Int(c), Shape::Bool) => {
                Arc::new(tiles.iter().map(|t| c[*t].map(|i| i != 0)).collect::<BooleanArray>())
            }
            (Cells::Int(c), Shape::Time) => {
                Arc::new(tiles.iter().map(|t| c[*t]).collect::<TimestampMillisecondArray>())
            }
            _ => self.state(tiles, &DataType::Null),
        }
    }
}

/// Values told as text; what cannot be read is NULL.
fn read<'a>(texts: impl Iterator<Item = Option<&'a str>>, shape: Shape) -> ArrayRef {
    match shape {
        Shape::Int => Arc::new(texts.map(|t| t?.parse().ok()).collect::<Int64Array>()),
        Shape::Float => Arc::new(texts.map(|t| t?.parse().ok()).collect::<Float64Array>()),
        Shape::Text => Arc::new(texts.collect::<StringArray>()),
        Shape::Bool => {
            Arc::new(texts.map(|t| t.map(|t| matches!(t, "true" | "1"))).collect::<BooleanArray>())
        }
        Shape::Time => Arc::new(texts.map(|t| t?.parse().ok()).collect::<TimestampMillisecondArray>()),
    }
}

/// The best float of a tile, from its rank.
fn float(cells: &[Cells], rank: usize, value: usize, tile: usize) -> Option<f64> {
    let (Cells::Int(ranks), Cells::Text(values)) = (&cells[rank], &cells[value]) else { return None };
    match ranks[tile]? {
        0 => Some(f64::NEG_INFINITY),
        2 => Some(f64::INFINITY),
        3 => Some(f64::NAN),
        _ => values[tile].as_ref()?.parse().ok(),
    }
}

/// The rows in which nothing is NULL.
fn without_nulls(states: Vec<ArrayRef>) -> Result<Vec<ArrayRef>, DataFusionError> {
    let rows = states.first().map_or(0, |s| s.len());
    let whole: UInt32Array =
        (0..rows as u32).filter(|i| states.iter().all(|s| s.is_valid(*i as usize))).collect();
    let pick = |s: &ArrayRef| arrow::compute::take(s, &whole, None).map_err(DataFusionError::from);
    states.iter().map(pick).collect()
}

fn unfit<T>() -> Result<T, DataFusionError> {
    Err(DataFusionError::Internal("a column of tiles has another type than its merge".to_owned()))
}
