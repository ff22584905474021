//! For whom and for which instants a backfill makes rows.

use std::{collections::VecDeque, sync::Arc};

use arrow::{
    array::{Array, AsArray, RecordBatch, StringArray},
    datatypes::TimestampMillisecondType,
};
use features::{
    FeatureError,
    offline::{BatchStream, OfflineStore, ScanFilter},
};
use ingest::Millis;

use super::Run;

/// A person with more signals than this in the longest window gets a row for every so-and-so-many-th of them
/// only, so that the work grows with the signals and not with their square.
const ROWS_A_WINDOW: usize = 512;

/// The instants of one person, in order, and how many signals stand behind them.
type OfOne = (Arc<str>, VecDeque<Millis>, u64);

/// See the module.
pub(super) struct Instants {
    longest: Millis,
    after: Option<(String, Millis)>,
    signals: Times,
    /// Instants that have a row already, which may have been made without signals that came late.
    rows: Times,
    row: Option<(Arc<str>, Vec<Millis>)>,
    current: Option<OfOne>,
}

impl Instants {
    pub fn of(history: &dyn OfflineStore, run: &Run) -> Result<Instants, FeatureError> {
        let view = run.view.clone();
        let filter = ScanFilter {
            from_subject: run.after.as_ref().map(|(entity, _)| entity.clone()),
            after: run.from.map(|t| t.saturating_sub(1)),
            until: run.until,
            ..ScanFilter::default()
        };
        let table = view.history_table();
        let rows = match history.schema(&table)? {
            Some(schema) if schema.index_of("written").is_ok() => {
                let names = [view.definition.entity.as_str(), "as_of", "written"];
                let columns = Some(names.map(str::to_owned).into());
                history.stream(&table, &ScanFilter { columns, ..filter.clone() })?
            }
            _ => Box::new(std::iter::empty()),
        };
        let written = run.written;
        let of_rows = move |b: &RecordBatch| {
            let times = b.column(1).as_primitive::<TimestampMillisecondType>();
            let made = b.column(2).as_primitive::<TimestampMillisecondType>();
            let older = |i: &usize| made.is_null(*i) || made.value(*i) < written;
            let found = (0..b.num_rows()).filter(older).map(|i| (i, times.value(i))).collect();
            Ok((b.column(0).as_string::<i32>().clone(), found))
        };
        let signals =
            history.stream(&view.table, &ScanFilter { max_position: Some(run.below.clone()), ..filter })?;
        let of_signals = {
            let view = view.clone();
            move |b: &RecordBatch| {
                let lacks =
                    || FeatureError::Damaged(format!("history of {} has no column subject", view.table));
                let subjects = b.column_by_name("subject").ok_or_else(lacks)?.as_string::<i32>().clone();
                let events = view.project(b)?;
                let found = (0..events.len()).map(|i| (events.rows[i] as usize, events.get(i).0)).collect();
                Ok((subjects, found))
            }
        };
        let mut instants = Instants {
            longest: view.longest(),
            after: run.after.clone(),
            signals: Times::new(signals, of_signals),
            rows: Times::new(rows, of_rows),
            row: None,
            current: None,
        };
        instants.row = instants.rows.next()?;
        Ok(instants)
    }

    /// At most `most` instants, of as many people as it takes, and how many signals were gone through.
    pub fn take(&mut self, most: usize) -> Result<(Vec<(Arc<str>, Millis)>, u64), FeatureError> {
        let (mut taken, mut signals) = (Vec::new(), 0);
        while taken.len() < most {
            if self.current.is_none() {
                self.current = self.next_person()?;
            }
            let Some((entity, instants, behind)) = &mut self.current else { break };
            while let Some(at) = instants.pop_front() {
                taken.push((entity.clone(), at));
                if taken.len() == most {
                    break;
                }
            }
            if instants.is_empty() {
                signals += *behind;
                self.current = None;
            }
        }
        Ok((taken, signals))
    }

    fn next_person(&mut self) -> Result<Option<OfOne>, FeatureError> {
        let Some((entity, times)) = self.signals.next()? else { return Ok(None) };
        let signals = times.len() as u64;
        let mut instants = thinned(&times, self.longest);
        // People with rows but without signals: nothing is known of them any more, so nothing is replaced.
        while self.row.as_ref().is_some_and(|(e, _)| *e < entity) {
            self.row = self.rows.next()?;
        }
        if let Some((_, known)) = self.row.take_if(|(e, _)| *e == entity) {
            instants.extend(known);
            self.row = self.rows.next()?;
        }
        instants.sort_unstable();
        instants.dedup();
        if let Some((_, at)) = self.after.as_ref().filter(|(e, _)| **e == *entity) {
            instants.retain(|t| t > at);
        }
        Ok(Some((entity, instants.into(), signals)))
    }
}

/// Every instant, or every so-and-so-many-th where many lie in one window; the last one always.
fn thinned(times: &[Millis], longest: Millis) -> Vec<Millis> {
    let mut oldest = 0;
    let mut kept = Vec::with_capacity(times.len());
    for (i, t) in times.iter().enumerate() {
        while times[oldest] <= t.saturating_sub(longest) {
            oldest += 1;
        }
        let step = ((i + 1 - oldest) / ROWS_A_WINDOW).max(1);
        if i % step == 0 || i + 1 == times.len() {
            kept.push(*t);
        }
    }
    kept
}

/// What a batch says: the entity of each row, and the rows that count with their instants.
type Read = (StringArray, Vec<(usize, Millis)>);

/// Instants by entity, from batches ordered by both.
struct Times {
    batches: BatchStream,
    read: Box<dyn Fn(&RecordBatch) -> Result<Read, FeatureError> + Send>,
    found: VecDeque<(Arc<str>, Vec<Millis>)>,
    ended: bool,
}

impl Times {
    fn new(
        batches: BatchStream,
        read: impl Fn(&RecordBatch) -> Result<Read, FeatureError> + Send + 'static,
    ) -> Times {
        Times { batches, read: Box::new(read), found: VecDeque::new(), ended: false }
    }

    fn next(&mut self) -> Result<Option<(Arc<str>, Vec<Millis>)>, FeatureError> {
        // The last one found may go on in the next batch.
        while self.found.len() < 2 && !self.ended {
            let Some(batch) = self.batches.next().transpose()? else {
                self.ended = true;
                break;
            };
            let (entities, rows) = (self.read)(&batch)?;
            for (row, at) in rows {
                let entity = entities.value(row);
                match self.found.back_mut() {
                    Some((last, times)) if **last == *entity => times.push(at),
                    _ => self.found.push_back((entity.into(), vec![at])),
                }
            }
        }
        Ok(self.found.pop_front())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_signals_give_a_row_each_and_many_a_bounded_number_a_window() {
        let few: Vec<Millis> = (0..500).collect();
        assert_eq!(thinned(&few, 1_000), few);
        let many: Vec<Millis> = (0..100_000).collect();
        let kept = thinned(&many, 50_000);
        assert_eq!(kept.last(), Some(&99_999));
        let in_a_window = kept.iter().filter(|t| (40_000..90_000).contains(*t)).count();
        assert!((512..1_100).contains(&in_a_window), "{in_a_window}");
        assert_eq!(thinned(&many, 10).len(), 100_000, "a short window holds few");
    }
}
