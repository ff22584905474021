//! Whom and which instants to look at.

use std::sync::Arc;

use arrow::{array::AsArray, datatypes::TimestampMillisecondType};
use features::{
    FeatureError, View,
    offline::{OfflineStore, ScanFilter},
};
use ingest::Millis;
use rand::{Rng, seq::IndexedRandom};

/// Up to `n` entities of a view, each as likely as any other: half of them from `online`, the rest from all
/// that history knows, so that neither a row without signals nor signals without a row stay unseen.
pub fn entities(
    history: &dyn OfflineStore,
    online: &[Arc<str>],
    view: &View,
    n: usize,
    rng: &mut impl Rng,
) -> Result<Vec<String>, FeatureError> {
    let mut chosen: Vec<String> =
        online.choose_multiple(rng, n.div_ceil(2)).map(|entity| entity.to_string()).collect();
    let wanted = n - chosen.len();
    let mut from_history: Vec<String> = Vec::with_capacity(wanted);
    let mut seen = 0usize;
    each_entity(history, &view.table, |entity| {
        // Reservoir sampling (Vitter 1985, algorithm R).
        seen += 1;
        if from_history.len() < wanted {
            from_history.push(entity.to_owned());
        } else if let Some(place) = from_history.get_mut(rng.random_range(0..seen)) {
            entity.clone_into(place);
        }
    })?;
    chosen.append(&mut from_history);
    chosen.sort_unstable();
    chosen.dedup();
    Ok(chosen)
}

/// Calls `f` once for each entity of a table.
fn each_entity(history: &dyn OfflineStore, table: &str, mut f: impl FnMut(&str)) -> Result<(), FeatureError> {
    let filter = ScanFilter { columns: Some(vec!["subject".to_owned()]), ..ScanFilter::default() };
    let mut last: Option<String> = None;
    for batch in history.stream(table, &filter)? {
        for entity in batch?.column(0).as_string::<i32>().iter().flatten() {
            // They come in order.
            if last.as_deref() != Some(entity) {
                f(entity);
                last = Some(entity.to_owned());
            }
        }
    }
    Ok(())
}

/// An instant up to `now` that is likely to find a mistake: just when one of the entity's signals enters or
/// leaves a window, or a millisecond before; `now` when it has no signals.
pub fn instant(
    history: &dyn OfflineStore,
    view: &View,
    entity: &str,
    now: Millis,
    rng: &mut impl Rng,
) -> Result<Millis, FeatureError> {
    let filter = ScanFilter {
        subjects: Some(vec![entity.to_owned()]),
        until: Some(now),
        columns: Some(vec!["time".to_owned()]),
        ..ScanFilter::default()
    };
    let mut times: Vec<Millis> = Vec::new();
    for batch in history.scan(&view.table, &filter)? {
        times.extend_from_slice(batch.column(0).as_primitive::<TimestampMillisecondType>().values());
    }
    let Some(time) = times.choose(rng) else { return Ok(now) };
    let leaves = view.windows().choose(rng).map_or(0, |w| w.span.reach().min(now - time));
    let edge = if rng.random() { time + leaves } else { *time };
    Ok((edge - i64::from(rng.random::<bool>())).min(now))
}
