//! Many values compared at once, the SQL run by an engine that shares the work among machines.

use features::{
    FeatureError, Value,
    offline::OfflineStore,
    past::{Asked, Engine, Known as Which},
    reference::value_at,
};
use ingest::{Millis, log::Position};

use super::{Checker, Difference, Known, Served};

impl Checker {
    /// As [`compare`](Self::compare), for all that was served at once; the differences in its order.
    ///
    /// # Errors
    /// When the engine or history fails.
    pub fn compare_all(
        &self,
        engine: &dyn Engine,
        history: &dyn OfflineStore,
        served: &[Served],
    ) -> Result<Vec<Difference>, FeatureError> {
        let position = |s: &Served| match &s.known {
            Known::Exactly(position) | Known::AtLeast(position) => position.clone(),
        };
        let mut differences = vec![Vec::new(); served.len()];
        let mut open: Vec<(Position, usize)> =
            served.iter().enumerate().map(|(i, s)| (position(s), i)).collect();
        while let Some(first) = open.first().map(|(position, _)| position.clone()) {
            let (now, later): (Vec<_>, Vec<_>) = open.into_iter().partition(|(p, _)| *p == first);
            open = later;
            let rows: Vec<&Served> = now.iter().map(|(_, i)| &served[*i]).collect();
            for ((_, i), values) in now.iter().zip(self.recomputed(engine, &rows, &first)?) {
                differences[*i] = self.differences(&served[*i], &values);
            }
        }
        for (served, found) in served.iter().zip(&mut differences) {
            if let (false, Known::AtLeast(position)) = (found.is_empty(), &served.known) {
                for position in self.since(history, served, position)? {
                    let values = self.recomputed(engine, &[served], &position)?;
                    *found = self.differences(served, &values[0]);
                    if found.is_empty() {
                        break;
                    }
                }
            }
        }
        Ok(differences.concat())
    }

    /// The values of what was served, one row each, by the signals below a position.
    fn recomputed(
        &self,
        engine: &dyn Engine,
        served: &[&Served],
        below: &Position,
    ) -> Result<Vec<Vec<Value>>, FeatureError> {
        let mut order: Vec<usize> = (0..served.len()).collect();
        order.sort_by_key(|i| (&served[*i].entity, served[*i].at));
        let rows: Vec<(&str, Millis)> = order.iter().map(|i| (&*served[*i].entity, served[*i].at)).collect();
        let asked = Asked { rows: &rows, known: Which::ByNow, below: Some(below) };
        let made = engine.values(&self.view, &asked)?;
        let mut values = vec![Vec::new(); served.len()];
        for (row, i) in order.into_iter().enumerate() {
            let of_row = made.columns.iter().map(|c| value_at(c, row));
            values[i] = of_row.collect::<Result<_, _>>()?;
        }
        Ok(values)
    }
}
