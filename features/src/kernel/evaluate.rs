//! Values from what is kept: the second half of the kernel.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, StringArray,
        TimestampMillisecondArray, UInt32Array,
    },
    compute::{and_kleene, cast, prep_null_mask_filter, take},
    datatypes::{DataType, Schema, SchemaRef},
};
use datafusion::physical_expr::PhysicalExpr;
use ingest::Millis;

use super::{Aggregation, Argument, Kept, Kernel, Late};
use crate::{
    codes::Codes,
    contexts::Timelines,
    error::FeatureError,
    gather::{Cuts, Gathered},
    view::{
        source::{Origin, joined},
        time::zone_named,
        window::Given,
    },
};

impl Kernel {
    /// What the edges of windows depend on, for one entity.
    pub(crate) fn given(&self, kept: &Kept<'_>) -> Result<Given, FeatureError> {
        let zone = match self.zone {
            Some(z) => zone_named(self.contexts.newest_text(z, kept)?.as_deref()),
            None => jiff::tz::TimeZone::UTC,
        };
        Ok(Given { zone, resolution: self.resolution })
    }

    /// Columns of values, one an output and window (windows outermost), one row an entity: the values at its
    /// instant over its events.
    pub(crate) fn evaluate(&self, entities: &[Kept<'_>]) -> Result<Vec<ArrayRef>, FeatureError> {
        let wrong = self.wrong();
        let mut zones = Vec::new();
        let mut given = Vec::with_capacity(entities.len());
        for kept in entities {
            match self.zone {
                Some(z) => {
                    let name = self.contexts.newest_text(z, kept)?;
                    given.push(Given { zone: zone_named(name.as_deref()), resolution: self.resolution });
                    zones.push(name);
                }
                None => given.push(Given { zone: jiff::tz::TimeZone::UTC, resolution: self.resolution }),
            }
        }
        let cuts = Cuts::new(entities, &self.windows, &given, self.sealer.is_some());
        entities.iter().try_for_each(|kept| kept.events.check())?;
        let gathered = Gathered::new(&cuts);
        let stored = self.read_stored(&gathered.bytes)?;
        let (inputs, mask) = match &self.late {
            None => (stored, None),
            Some(late) => self.late_inputs(late, entities, &gathered, &stored)?,
        };
        let states = match &self.sealer {
            Some(sealer) if !cuts.states.is_empty() => {
                sealer.read(cuts.states.iter().map(|s| &s[..])).map_err(&wrong)?
            }
            _ => Vec::new(),
        };
        let mut results = Vec::with_capacity(self.aggregations.len());
        for (i, a) in self.aggregations.iter().enumerate() {
            let values = self.arguments(a, &inputs, &gathered.times)?;
            let mut codes = Codes::default();
            let values = if a.coded { values.iter().map(|v| codes.of(v)).collect() } else { values.clone() };
            let filter = a.filter.as_ref().map(|f| self.argument(f, &inputs, &gathered.times)).transpose()?;
            let filter = match (filter.as_ref().map(|f| f.as_boolean()), &mask) {
                (Some(f), Some(m)) => Some(and_kleene(f, m).map_err(|e| wrong(e.into()))?),
                (f, m) => f.or(m.as_ref()).cloned(),
            };
            let of_parts = match &self.sealer {
                Some(sealer) if !states.is_empty() => sealer.of(i, &states, &mut codes),
                _ => Vec::new(),
            };
            let result = cuts.aggregate(a, &values, &gathered.ring, filter.as_ref(), &of_parts);
            results.push(result.map_err(&wrong)?);
        }
        // Rows so far: every window of the first entity, then of the second, …
        let of_rows = |i: usize| std::iter::repeat_n(i, self.windows.len());
        let instants: Vec<_> = (0..entities.len()).flat_map(of_rows).map(|i| Some(entities[i].at)).collect();
        let zones: Vec<_> =
            (0..entities.len()).flat_map(of_rows).map(|i| zones.get(i).and_then(|z| z.as_deref())).collect();
        let flat = self.finish(results, &instants, &zones)?;
        let mut columns = Vec::with_capacity(self.windows.len() * flat.len());
        for k in 0..self.windows.len() {
            let pick: UInt32Array =
                (0..entities.len()).map(|g| (g * self.windows.len() + k) as u32).collect();
            for column in &flat {
                columns.push(take(column, &pick, None).map_err(|e| wrong(e.into()))?);
            }
        }
        Ok(columns)
    }

    /// The columns kept of these events.
    pub(super) fn read_stored(&self, bytes: &[&[u8]]) -> Result<Vec<ArrayRef>, FeatureError> {
        if self.stored.is_empty() {
            return Ok(Vec::new());
        }
        let rows = bytes.iter().map(|b| self.parser.parse(b));
        self.converter.convert_rows(rows).map_err(|e| self.wrong()(e.into()))
    }

    pub(super) fn argument(
        &self,
        a: &Argument,
        inputs: &[ArrayRef],
        times: &[Millis],
    ) -> Result<ArrayRef, FeatureError> {
        Ok(match a {
            Argument::Input(i) => inputs[*i].clone(),
            Argument::Time => {
                Arc::new(TimestampMillisecondArray::from(times.to_vec()).with_timezone("+00:00"))
            }
            Argument::Constant(s) => s.to_array_of_size(times.len()).map_err(self.wrong())?,
        })
    }

    pub(super) fn arguments(
        &self,
        a: &Aggregation,
        inputs: &[ArrayRef],
        times: &[Millis],
    ) -> Result<Vec<ArrayRef>, FeatureError> {
        a.arguments.iter().map(|x| self.argument(x, inputs, times)).collect()
    }

    /// Inputs of the aggregates, and which events count, where that depends on slowly changing tables.
    pub(super) fn late_inputs(
        &self,
        late: &Late,
        entities: &[Kept<'_>],
        gathered: &Gathered<'_>,
        stored: &[ArrayRef],
    ) -> Result<(Vec<ArrayRef>, Option<BooleanArray>), FeatureError> {
        let wrong = self.wrong();
        let rows = gathered.times.len();
        let timelines = Timelines::new(&self.contexts, entities, gathered)?;
        let batch = joined(&self.source, rows, |index, origin| match origin {
            Origin::Context(table, column) => timelines.column(*table, *column).map(Some),
            _ => Ok(late.kept.iter().position(|k| *k == index).map(|i| stored[i].clone())),
        })?;
        let evaluate =
            |e: &Arc<dyn PhysicalExpr>| e.evaluate(&batch).and_then(|v| v.into_array(rows)).map_err(&wrong);
        let inputs = late.inputs.iter().map(evaluate).collect::<Result<_, _>>()?;
        let mut mask: Option<BooleanArray> = None;
        for f in &late.filters {
            let f = evaluate(f)?;
            let f = f.as_boolean();
            let f = if f.null_count() > 0 { prep_null_mask_filter(f) } else { f.clone() };
            mask = Some(match mask {
                None => f,
                Some(m) => and_kleene(&m, &f).map_err(|e| wrong(e.into()))?,
            });
        }
        Ok((inputs, mask))
    }

    /// Applies the output expressions to the aggregates' results and brings them to their kept types.
    pub(super) fn finish(
        &self,
        mut results: Vec<ArrayRef>,
        instants: &[Option<Millis>],
        zones: &[Option<&str>],
    ) -> Result<Vec<ArrayRef>, FeatureError> {
        let wrong = self.wrong();
        let rows = instants.len();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        results.push(Arc::new(TimestampMillisecondArray::from(instants.to_vec()).with_timezone("+00:00")));
        results.push(Arc::new(StringArray::from(zones.to_vec())));
        let batch = RecordBatch::try_new_with_options(loosened(&self.results), results, &options)
            .map_err(|e| wrong(e.into()))?;
        let finish_one = |(e, t): &(Arc<dyn PhysicalExpr>, DataType)| {
            let column = e.evaluate(&batch).and_then(|v| v.into_array(rows)).map_err(&wrong)?;
            cast(&column, t).map_err(|e| wrong(e.into()))
        };
        self.outputs.iter().map(finish_one).collect()
    }
}

/// An empty window is NULL even for aggregates that DataFusion declares never to be.
fn loosened(schema: &SchemaRef) -> SchemaRef {
    let fields: Vec<_> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    Arc::new(Schema::new(fields))
}
