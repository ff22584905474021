//! States of chunks and nodes: what their events give the aggregates, to be merged into windows later.
//!
//! The states of all aggregates of a view over some events are one `arrow::row`, so that a tree keeps bytes,
//! whatever the aggregates are.

use std::ops::Range;

use arrow::{
    array::{Array, ArrayRef, AsArray, new_null_array},
    datatypes::{DataType, FieldRef},
    row::{RowConverter, RowParser, SortField},
};
use datafusion::{error::DataFusionError, logical_expr::EmitTo};
use ingest::Millis;

use super::{Aggregation, Argument, Kernel, instant_type};
use crate::{
    chunks::{States, Tree},
    codes::{Codes, list_of_texts},
    error::FeatureError,
    events::EventList,
    gather::accumulator,
};

/// How the states of a view's aggregates lie in one row.
#[derive(Debug)]
pub(super) struct Sealer {
    converter: RowConverter,
    parser: RowParser,
    columns: Vec<StateColumns>,
}

#[derive(Debug)]
struct StateColumns {
    place: Range<usize>,
    /// Where texts are counted by numbers: how its lists of numbers declare their elements.
    coded: Option<FieldRef>,
}

impl Sealer {
    /// `None` where a state has a type that rows cannot hold.
    pub(super) fn new(
        aggregations: &[Aggregation],
        inputs: &[DataType],
    ) -> Result<Option<Sealer>, DataFusionError> {
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for a in aggregations {
            let begin = fields.len();
            let mut coded = None;
            // What an accumulator declares its state to be may differ from what it gives, in nested names.
            for state in state_of_one_row(a, inputs)? {
                match state.data_type() {
                    DataType::List(field) if a.coded => {
                        coded = Some(field.clone());
                        fields.push(SortField::new(DataType::List(list_of_texts())));
                    }
                    other => fields.push(SortField::new(other.clone())),
                }
            }
            if a.coded && coded.is_none() {
                return Ok(None);
            }
            columns.push(StateColumns { place: begin..fields.len(), coded });
        }
        if !RowConverter::supports_fields(&fields) {
            return Ok(None);
        }
        let converter = RowConverter::new(fields)?;
        Ok(Some(Sealer { parser: converter.parser(), converter, columns }))
    }

    /// All state columns of some states, a row each.
    pub(super) fn read<'s>(
        &self,
        states: impl Iterator<Item = &'s [u8]>,
    ) -> Result<Vec<ArrayRef>, DataFusionError> {
        Ok(self.converter.convert_rows(states.map(|s| self.parser.parse(s)))?)
    }

    /// The columns of one aggregate among all.
    pub(super) fn of<'t>(
        &self,
        index: usize,
        columns: &'t [ArrayRef],
        codes: &mut Codes<'t>,
    ) -> Vec<ArrayRef> {
        let StateColumns { place, coded } = &self.columns[index];
        let columns = &columns[place.clone()];
        match coded {
            Some(field) => columns.iter().map(|c| codes.of_lists(c, field)).collect(),
            None => columns.to_vec(),
        }
    }

    fn write(&self, columns: &[ArrayRef]) -> Result<Vec<States>, DataFusionError> {
        Ok(self.converter.convert_columns(columns)?.iter().map(|r| r.data().into()).collect())
    }
}

fn state_of_one_row(a: &Aggregation, inputs: &[DataType]) -> Result<Vec<ArrayRef>, DataFusionError> {
    let one = |argument: &Argument| match argument {
        Argument::Input(i) if a.coded && inputs[*i] == DataType::Utf8 => {
            Ok(new_null_array(&DataType::Int64, 1))
        }
        Argument::Input(i) => Ok(new_null_array(&inputs[*i], 1)),
        Argument::Time => Ok(new_null_array(&instant_type(), 1)),
        Argument::Constant(s) => s.to_array_of_size(1),
    };
    let values = a.arguments.iter().map(one).collect::<Result<Vec<_>, _>>()?;
    let mut probe = accumulator(&a.expr)?;
    probe.update_batch(&values, &[0], None, 1)?;
    probe.state(EmitTo::All)
}

impl Kernel {
    /// Gives the whole chunks and nodes of new trees the states they lack, and lets go of the events of nodes
    /// that end at or before `fold_before`. To be called before anyone else holds the trees.
    pub(crate) fn seal(
        &self,
        trees: &mut [&mut Tree],
        fold_before: Option<Millis>,
    ) -> Result<(), FeatureError> {
        let Some(sealer) = &self.sealer else { return Ok(()) };
        let wrong = self.wrong();
        let (mut places, mut bodies) = (Vec::new(), Vec::new());
        for (t, tree) in trees.iter().enumerate() {
            for (place, chunk) in tree.unsealed_chunks() {
                bodies.push((chunk.body()?, chunk.len()));
                places.push((t, place));
            }
        }
        if !bodies.is_empty() {
            let lists: Vec<_> =
                bodies.iter().map(|(b, count)| EventList::parse(*count, b).unwrap_or_default()).collect();
            for ((t, place), states) in places.into_iter().zip(self.states_of(sealer, &lists)?) {
                trees[t].seal_chunk(place, states);
            }
        }
        let (mut places, mut parts) = (Vec::new(), Vec::new());
        for (t, tree) in trees.iter().enumerate() {
            for (node, states) in tree.unsealed_nodes() {
                places.push((t, node));
                parts.push(states);
            }
        }
        for ((t, node), states) in places.into_iter().zip(self.merged(sealer, &parts).map_err(&wrong)?) {
            trees[t].seal_node(node, states);
        }
        let Some(before) = fold_before else { return Ok(()) };
        let old: Vec<_> =
            trees.iter().enumerate().filter_map(|(t, tree)| Some((t, tree.foldable(before)?))).collect();
        let parts: Vec<_> = old.iter().map(|(_, states)| states.clone()).collect();
        for ((t, _), states) in old.into_iter().zip(self.merged(sealer, &parts).map_err(&wrong)?) {
            trees[t].fold(before, states);
        }
        Ok(())
    }

    /// The states that each of these lists of events gives.
    fn states_of(&self, sealer: &Sealer, lists: &[EventList<'_>]) -> Result<Vec<States>, FeatureError> {
        let wrong = self.wrong();
        let (mut bytes, mut times, mut groups) = (Vec::new(), Vec::new(), Vec::new());
        for (group, list) in lists.iter().enumerate() {
            for i in 0..list.len() {
                bytes.push(list.bytes(i));
                times.push(list.time(i));
                groups.push(group);
            }
        }
        let inputs = self.read_stored(&bytes)?;
        let mut columns = Vec::new();
        for a in &self.aggregations {
            let values = self.arguments(a, &inputs, &times)?;
            let filter = a.filter.as_ref().map(|f| self.argument(f, &inputs, &times)).transpose()?;
            let filter = filter.as_ref().map(AsArray::as_boolean);
            let mut codes = Codes::default();
            let coded: Vec<_> =
                if a.coded { values.iter().map(|v| codes.of(v)).collect() } else { values.clone() };
            let mut accumulator = accumulator(&a.expr).map_err(&wrong)?;
            accumulator.update_batch(&coded, &groups, filter, lists.len()).map_err(&wrong)?;
            let states = accumulator.state(EmitTo::All).map_err(&wrong)?;
            columns.extend(states.iter().map(|s| if a.coded { codes.texts_of(s) } else { s.clone() }));
        }
        sealer.write(&columns).map_err(&wrong)
    }

    /// For each group of states, their merge.
    fn merged(&self, sealer: &Sealer, parts: &[Vec<States>]) -> Result<Vec<States>, DataFusionError> {
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        let columns = sealer.read(parts.iter().flatten().map(|s| &s[..]))?;
        let groups: Vec<usize> = parts
            .iter()
            .enumerate()
            .flat_map(|(g, of_group)| std::iter::repeat_n(g, of_group.len()))
            .collect();
        let mut merged = Vec::new();
        for (i, a) in self.aggregations.iter().enumerate() {
            let mut codes = Codes::default();
            let states = sealer.of(i, &columns, &mut codes);
            let mut accumulator = accumulator(&a.expr)?;
            accumulator.merge_batch(&states, &groups, parts.len())?;
            let states = accumulator.state(EmitTo::All)?;
            merged.extend(states.iter().map(|s| if a.coded { codes.texts_of(s) } else { s.clone() }));
        }
        sealer.write(&merged)
    }
}
