//! Point-in-time join: the values that many entities had, each at instants of its own, from history.
//!
//! The rows asked for and the signals of a view both come ordered by entity, so each entity's signals are
//! read once and only one entity's are in memory; the values are made by the view's kernel, as everywhere.

use std::{collections::HashMap, ops::Range, rc::Rc, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array},
    compute::{concat, concat_batches, take},
    datatypes::{Field, Schema, TimestampMillisecondType},
    error::ArrowError,
};
use ingest::{Millis, log::Position};

use crate::{
    error::FeatureError,
    events::{EventBuffer, EventList, Events},
    kernel::Kept,
    offline::{BatchStream, OfflineStore, ScanFilter},
    registry::Prepared,
    view::View,
};

/// So many rows are evaluated together,
const TOGETHER: usize = 2_048;
/// or fewer, when their windows hold more events than this.
const EVENTS_TOGETHER: usize = 1 << 18;

/// Which signals a value of the past may rest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Known {
    /// Those that had arrived by the instant (`received_at <= as_of`): what a model could have seen.
    #[default]
    ByThen,
    /// All that history holds today, late arrivals and corrections included.
    ByNow,
}

/// What makes the values of a view at many instants: this process ([`Here`]), or a cluster.
pub trait Engine: Send + Sync {
    /// The values of every slot for each row asked for.
    ///
    /// # Errors
    /// When history cannot be read, or a value cannot be computed there.
    fn values(&self, view: &View, asked: &Asked<'_>) -> Result<Made, FeatureError>;
}

/// What an [`Engine`] is asked.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Whose values at which instants, ordered by both; repeats and unknown entities are fine.
    pub rows: &'a [(&'a str, Millis)],
    /// Which signals count.
    pub known: Known,
    /// Of them only those that stand in the log below this, where given.
    pub below: Option<&'a Position>,
}

/// What an [`Engine`] answers.
#[derive(Debug)]
pub struct Made {
    /// A column for each slot of the view, a row for each row asked for.
    pub columns: Vec<ArrayRef>,
    /// For each row, whether some signal in a window was left out because it arrived later.
    pub late: Vec<bool>,
}

/// The engine of this process: the kernel, over history.
pub struct Here<'a>(pub &'a dyn OfflineStore);

impl Engine for Here<'_> {
    fn values(&self, view: &View, asked: &Asked<'_>) -> Result<Made, FeatureError> {
        let mut late = vec![false; asked.rows.len()];
        let columns = of_view(self.0, view, asked.rows, asked.known, asked.below, &mut late)?;
        Ok(Made { columns, late })
    }
}

/// Values of a point-in-time join.
#[derive(Debug)]
pub struct Joined {
    /// One row for each row asked for, in that order; one column for each prepared feature, by its name.
    pub values: RecordBatch,
    /// For how many of the rows some signal in a window was left out because it arrived later.
    pub with_late_signals: usize,
}

/// The values of each entity at its instant. Repeats and unknown entities are fine.
///
/// # Errors
/// When history cannot be read, or a value cannot be computed.
pub fn join<S: AsRef<str>>(
    history: &dyn OfflineStore,
    prepared: &Prepared,
    rows: &[(S, Millis)],
    known: Known,
) -> Result<Joined, FeatureError> {
    join_on(&Here(history), prepared, rows, known)
}

/// As [`join`], by an engine of choice.
///
/// # Errors
/// As [`join`].
pub fn join_on<S: AsRef<str>>(
    engine: &dyn Engine,
    prepared: &Prepared,
    rows: &[(S, Millis)],
    known: Known,
) -> Result<Joined, FeatureError> {
    if prepared.computed.is_some() {
        let stored = join_on(engine, prepared.stored(), rows, known)?;
        let instants: Vec<Millis> = rows.iter().map(|(_, at)| *at).collect();
        return Ok(Joined { values: compute(prepared, &stored.values, None, &instants)?, ..stored });
    }
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|a, b| (rows[*a].0.as_ref(), rows[*a].1).cmp(&(rows[*b].0.as_ref(), rows[*b].1)));
    let sorted: Vec<(&str, Millis)> = order.iter().map(|i| (rows[*i].0.as_ref(), rows[*i].1)).collect();
    let mut place = vec![0u32; rows.len()];
    for (k, i) in order.iter().enumerate() {
        place[*i] = k as u32;
    }
    let place = UInt32Array::from(place);

    let mut columns: Vec<(usize, Field, ArrayRef)> = Vec::with_capacity(prepared.names.len());
    let mut late = vec![false; rows.len()];
    for part in &prepared.parts {
        let made = engine.values(&part.view, &Asked { rows: &sorted, known, below: None })?;
        late.iter_mut().zip(made.late).for_each(|(late, of_part)| *late |= of_part);
        for s in &part.slots {
            let column = take(&made.columns[s.slot], &place, None).map_err(wrong(&part.view))?;
            let field = Field::new(prepared.names[s.at].as_ref(), column.data_type().clone(), true);
            columns.push((s.at, field, column));
        }
    }
    columns.sort_by_key(|(at, _, _)| *at);
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().map(|(_, f, c)| (f, c)).unzip();
    let values = beside(fields, columns, rows.len())?;
    Ok(Joined { values, with_late_signals: late.iter().filter(|l| **l).count() })
}

/// The columns of a prepared set, from the columns of its [stored](Prepared::stored) features, a row an instant.
/// What on-demand features take from a request stands in columns of `given`, as `request.field`.
///
/// # Errors
/// When `given` lacks such a column, or a value cannot be computed.
pub fn compute(
    prepared: &Prepared,
    stored: &RecordBatch,
    given: Option<&RecordBatch>,
    instants: &[Millis],
) -> Result<RecordBatch, FeatureError> {
    let Some(computed) = &prepared.computed else { return Ok(stored.clone()) };
    let columns = computed.columns(stored.columns(), given, instants)?;
    let named = prepared.names.iter().zip(&columns);
    let fields = named.map(|(name, c)| Field::new(name.as_ref(), c.data_type().clone(), true));
    beside(fields.collect(), columns, instants.len())
}

fn beside(fields: Vec<Field>, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, FeatureError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .map_err(|e| FeatureError::Damaged(format!("the joined columns do not fit together: {e}")))
}

fn wrong(view: &View) -> impl Fn(ArrowError) -> FeatureError + use<> {
    let what = format!("view {}", view.name);
    move |e| FeatureError::compute(&what)(e.into())
}

/// A column for each slot of one view; rows as in `sorted`.
fn of_view(
    history: &dyn OfflineStore,
    view: &View,
    sorted: &[(&str, Millis)],
    known: Known,
    below: Option<&Position>,
    late: &mut [bool],
) -> Result<Vec<ArrayRef>, FeatureError> {
    let mut subjects: Vec<String> = sorted.iter().map(|(e, _)| (*e).to_owned()).collect();
    subjects.dedup();
    let instants = || sorted.iter().map(|(_, t)| *t);
    let contexts = ContextRows::read(history, view, &subjects, instants().max(), below)?;
    let filter = ScanFilter {
        subjects: Some(subjects),
        after: instants().min().map(|t| t.saturating_sub(view.longest())),
        until: instants().max(),
        max_position: below.cloned(),
        ..ScanFilter::default()
    };
    let mut pile = Pile {
        view,
        known,
        contexts: &contexts,
        late,
        done: 0,
        asked: Vec::new(),
        events: 0,
        pieces: Vec::new(),
    };
    let mut at = 0;
    for found in ByEntity::new(history.stream(&view.table, &filter)?) {
        let (entity, signals) = found?;
        let start = at + sorted[at..].partition_point(|(e, _)| *e < entity.as_str());
        let end = start + sorted[start..].partition_point(|(e, _)| *e == entity);
        pile.add(None, sorted, at..start)?;
        pile.add(Some(&signals), sorted, start..end)?;
        at = end;
    }
    pile.add(None, sorted, at..sorted.len())?;
    pile.evaluate()?;
    let slots = view.slots();
    if pile.pieces.is_empty() {
        // No rows were asked for; the kernel knows the types of the columns.
        return view.evaluate(&[]);
    }
    (0..slots)
        .map(|s| {
            let pieces: Vec<&dyn Array> = pile.pieces.iter().map(|p| p[s].as_ref()).collect();
            concat(&pieces).map_err(wrong(view))
        })
        .collect()
}

/// Rows that wait to be evaluated together.
struct Pile<'a> {
    view: &'a View,
    known: Known,
    contexts: &'a ContextRows,
    late: &'a mut [bool],
    /// How many rows have been added.
    done: usize,
    /// For each row its entity's events, if it has any, its rows of slowly changing tables, and its instant.
    asked: Vec<(Option<Rc<EventBuffer>>, Vec<EventBuffer>, Millis)>,
    /// How many events lie in the windows of these rows.
    events: usize,
    /// Finished columns.
    pieces: Vec<Vec<ArrayRef>>,
}

impl Pile<'_> {
    /// Adds the rows of one entity; `signals` are all of the entity's that can matter.
    fn add(
        &mut self,
        signals: Option<&RecordBatch>,
        sorted: &[(&str, Millis)],
        rows: Range<usize>,
    ) -> Result<(), FeatureError> {
        debug_assert_eq!(rows.start, self.done, "rows are added in order");
        self.done = rows.end;
        let Some(signals) = signals else {
            for k in rows {
                let contexts = self.contexts_of(sorted, k);
                self.ask(None, contexts, sorted[k].1, 0)?;
            }
            return Ok(());
        };
        let events = self.view.project(signals)?;
        let times: Vec<Millis> = (0..events.len()).map(|i| events.get(i).0).collect();
        let arrivals = match self.known {
            Known::ByThen => arrivals(&events, signals),
            Known::ByNow => vec![Millis::MIN; events.len()],
        };
        let mut whole = None;
        for k in rows {
            let at = sorted[k].1;
            let from = at.saturating_sub(self.view.longest());
            // History gives signals in order of time.
            let window = times.partition_point(|t| *t <= from)..times.partition_point(|t| *t <= at);
            let inside = window.len();
            let list = if arrivals[window.clone()].iter().any(|arrival| *arrival > at) {
                self.late[k] = true;
                list_of(window.filter(|i| arrivals[*i] <= at).map(|i| events.get(i)))
            } else {
                whole.get_or_insert_with(|| list_of((0..events.len()).map(|i| events.get(i)))).clone()
            };
            let contexts = self.contexts_of(sorted, k);
            self.ask(Some(list), contexts, at, inside)?;
        }
        Ok(())
    }

    /// What was known of slowly changing tables for row `k`.
    fn contexts_of(&mut self, sorted: &[(&str, Millis)], k: usize) -> Vec<EventBuffer> {
        let (entity, at) = sorted[k];
        let (lists, late) = self.contexts.of(self.view, entity, at, self.known);
        self.late[k] |= late;
        lists
    }

    fn ask(
        &mut self,
        list: Option<Rc<EventBuffer>>,
        contexts: Vec<EventBuffer>,
        at: Millis,
        inside: usize,
    ) -> Result<(), FeatureError> {
        self.events += inside + contexts.iter().map(EventBuffer::len).sum::<usize>();
        self.asked.push((list, contexts, at));
        if self.asked.len() >= TOGETHER || self.events >= EVENTS_TOGETHER { self.evaluate() } else { Ok(()) }
    }

    fn evaluate(&mut self) -> Result<(), FeatureError> {
        if self.asked.is_empty() {
            return Ok(());
        }
        let asked: Vec<Kept<'_>> = self
            .asked
            .iter()
            .map(|(events, contexts, at)| Kept {
                events: events.as_deref().map_or_else(EventList::default, EventBuffer::as_list).into(),
                contexts: contexts.iter().map(EventBuffer::as_list).collect(),
                at: *at,
            })
            .collect();
        let columns = self.view.evaluate(&asked)?;
        self.pieces.push(columns);
        self.asked.clear();
        self.events = 0;
        Ok(())
    }
}

fn arrivals(events: &Events, rows: &RecordBatch) -> Vec<Millis> {
    match rows.column_by_name("received_at") {
        Some(column) => {
            let all = column.as_primitive::<TimestampMillisecondType>().values();
            events.rows.iter().map(|r| all[*r as usize]).collect()
        }
        None => vec![Millis::MIN; events.len()],
    }
}

/// A row of a slowly changing table: its time, its bytes, its arrival.
type Change = (Millis, Vec<u8>, Millis);

/// Rows of a view's slowly changing tables, by entity and table.
struct ContextRows(HashMap<String, Vec<Vec<Change>>>);

impl ContextRows {
    fn read(
        history: &dyn OfflineStore,
        view: &View,
        subjects: &[String],
        until: Option<Millis>,
        below: Option<&Position>,
    ) -> Result<Self, FeatureError> {
        let mut rows: HashMap<String, Vec<Vec<Change>>> = HashMap::new();
        let filter = ScanFilter {
            subjects: Some(subjects.to_owned()),
            until,
            max_position: below.cloned(),
            ..ScanFilter::default()
        };
        for (number, table) in view.contexts().enumerate() {
            for batch in history.scan(table, &filter)? {
                let found = view.project_context(number, &batch)?;
                let names = self::subjects(&batch)?;
                for (i, arrival) in arrivals(&found, &batch).into_iter().enumerate() {
                    let of = rows.entry(names.value(found.rows[i] as usize).to_owned()).or_default();
                    of.resize_with(view.context_tables(), Vec::new);
                    let (time, bytes) = found.get(i);
                    of[number].push((time, bytes.to_vec(), arrival));
                }
            }
        }
        Ok(ContextRows(rows))
    }

    /// The rows that count for an entity at an instant, and whether some that arrived later are left out.
    fn of(&self, view: &View, entity: &str, at: Millis, known: Known) -> (Vec<EventBuffer>, bool) {
        let mut late = false;
        let Some(tables) = self.0.get(entity) else {
            return (vec![EventBuffer::default(); view.context_tables()], false);
        };
        let list = |rows: &Vec<Change>| {
            let by_then = |r: &&Change| known == Known::ByNow || r.2 <= at;
            late |= rows.iter().any(|r| r.0 <= at && !by_then(&r));
            let mut kept: Vec<(Millis, &[u8])> =
                rows.iter().filter(by_then).map(|(t, b, _)| (*t, b.as_slice())).collect();
            EventBuffer::merge(EventList::default(), &mut kept, Millis::MIN)
        };
        (tables.iter().map(list).collect(), late)
    }
}

fn list_of<'e>(events: impl Iterator<Item = (Millis, &'e [u8])>) -> Rc<EventBuffer> {
    let mut events: Vec<_> = events.collect();
    Rc::new(EventBuffer::merge(EventList::default(), &mut events, Millis::MIN))
}

/// Cuts an ordered stream of signals into one batch for each entity.
pub struct ByEntity {
    stream: BatchStream,
    rest: Option<RecordBatch>,
}

impl Iterator for ByEntity {
    type Item = Result<(String, RecordBatch), FeatureError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.cut().transpose()
    }
}

impl ByEntity {
    /// Cuts this stream, which comes ordered by entity.
    pub fn new(stream: BatchStream) -> Self {
        ByEntity { stream, rest: None }
    }

    fn cut(&mut self) -> Result<Option<(String, RecordBatch)>, FeatureError> {
        let Some(first) = self.rest.take().map(Ok).or_else(|| self.stream.next()).transpose()? else {
            return Ok(None);
        };
        let entity = subjects(&first)?.value(0).to_owned();
        let mut parts = vec![first];
        loop {
            let last = &parts[parts.len() - 1];
            let names = subjects(last)?;
            let run = (0..names.len()).find(|i| names.value(*i) != entity).unwrap_or(names.len());
            if run < names.len() {
                self.rest = Some(last.slice(run, names.len() - run));
                let whole = last.slice(0, run);
                let end = parts.len() - 1;
                parts[end] = whole;
                break;
            }
            match self.stream.next().transpose()? {
                Some(more) => parts.push(more),
                None => break,
            }
        }
        let whole = concat_batches(parts[0].schema_ref(), &parts).map_err(|e| {
            FeatureError::Damaged(format!("history of one entity does not fit together: {e}"))
        })?;
        Ok(Some((entity, whole)))
    }
}

fn subjects(batch: &RecordBatch) -> Result<&arrow::array::StringArray, FeatureError> {
    batch
        .column_by_name("subject")
        .and_then(|c| c.as_string_opt::<i32>())
        .ok_or_else(|| FeatureError::Damaged("a table of signals in history has no column `subject`".into()))
}
