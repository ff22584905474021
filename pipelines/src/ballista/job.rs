//! One job: what it reads made ready, its queries, their answers.

use std::time::Duration;

use arrow::record_batch::RecordBatch;
use datafusion::{dataframe::DataFrame, error::DataFusionError};
use features::{
    FeatureError, View,
    offline::ScanFilter,
    past::{Asked, Known, Made},
    reference::{
        questions::Questions,
        spread::{CLOCKS, QUESTIONS, Scope, Spread, as_stored, raw},
    },
};
use futures::StreamExt;

use super::{
    Cluster,
    stage::{self, Stage},
};

/// How often a job is tried.
const TRIES: usize = 3;
/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);

impl Cluster {
    /// Makes ready what the view's query reads.
    fn stage(
        &self,
        spread: &Spread<'_>,
        questions: &Questions,
        filter: &ScanFilter,
        scope: &mut Scope,
    ) -> Result<Stage, FeatureError> {
        let mut stage = Stage::begin(&self.options.shared)?;
        let mut whole = |name: &str, rows: &RecordBatch| -> Result<(), FeatureError> {
            let file = stage.write(name, &rows.schema(), [Ok(rows.clone())])?;
            stage.add(name, rows.schema(), vec![file]);
            Ok(())
        };
        whole(QUESTIONS, &questions.rows)?;
        whole(CLOCKS, &questions.clocks)?;
        for (table, rows) in spread.given() {
            whole(&raw(table), rows)?;
        }
        for (table, schema) in spread.tables() {
            let (name, schema) = (raw(table), as_stored(schema));
            let lying = if self.options.copy { None } else { self.history.files(table)? };
            let files = match lying {
                Some(found) => {
                    scope.kept_after.extend(found.kept_after.map(|after| (table.to_owned(), after)));
                    let mut files = found.paths;
                    if files.is_empty() || !found.buffered.is_empty() {
                        files.push(stage.write(&name, &schema, found.buffered.into_iter().map(Ok))?);
                    }
                    files
                }
                None if self.options.copy => {
                    // What lies before every window can only be needed of tables that stand beside.
                    let main = spread.tables().next().is_some_and(|(own, _)| own == table);
                    let after = filter.after.filter(|_| main);
                    let rows = self.history.stream(table, &ScanFilter { after, ..filter.clone() })?;
                    vec![stage.write(&name, &schema, rows.map(|b| b.map_err(FeatureError::from)))?]
                }
                None => {
                    return Err(FeatureError::Request(
                        "this history is not made of files that executors could read; name with --staging a directory \
                         that every executor sees under the same path"
                            .to_owned(),
                    ));
                }
            };
            stage.add(&name, schema, files);
        }
        Ok(stage)
    }

    /// One job, again if its result was lost with an executor that had finished it. Work that an executor had begun
    /// is given to another by the scheduler.
    pub(super) async fn in_the_end(&self, view: &View, asked: &Asked<'_>) -> Result<Made, FeatureError> {
        let mut tries = 1;
        loop {
            match self.job(view, asked).await {
                Err(FeatureError::Gone(why)) if tries == TRIES => return Err(FeatureError::Unavailable(why)),
                Err(FeatureError::Gone(why)) => {
                    tracing::warn!(view = %view.name, error = why, "the cluster is asked again");
                    tries += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                done => return done,
            }
        }
    }

    /// One job.
    async fn job(&self, view: &View, asked: &Asked<'_>) -> Result<Made, FeatureError> {
        let reference = self.reference(view)?;
        let spread = reference.spread()?;
        let mut people: Vec<String> = asked.rows.iter().map(|(who, _)| (*who).to_owned()).collect();
        people.dedup();
        let instants = || asked.rows.iter().map(|(_, at)| *at);
        let filter = ScanFilter {
            subjects: Some(people),
            after: instants().min().map(|t| t.saturating_sub(view.longest())),
            until: instants().max(),
            max_position: asked.below.cloned(),
            ..ScanFilter::default()
        };
        let changes = match spread.clocks() {
            Some(table) => self.history.scan(table, &ScanFilter { after: None, ..filter.clone() })?,
            None => Vec::new(),
        };
        let questions = spread.questions(view, asked, &changes)?;
        let mut scope = Scope { known: asked.known, below: asked.below.cloned(), kept_after: Vec::new() };
        let mut late = vec![false; asked.rows.len()];
        let mut answers = Vec::new();
        if !asked.rows.is_empty() {
            // The files stay until both queries are done.
            let stage = self.stage(&spread, &questions, &filter, &mut scope)?;
            let ctx = self.session().await?;
            stage.register(&ctx)?;
            let query = spread.query(&ctx, &scope, &questions.bounds).await?;
            answers = self.answers(query).await?;
            if asked.known == Known::ByThen {
                let ctx = self.session().await?;
                stage.register(&ctx)?;
                let query = spread.late(&ctx, &scope, &questions.bounds).await?;
                for batch in self.answers(query).await? {
                    stage::numbers(&batch)?.into_iter().for_each(|row| late[row as usize] = true);
                }
                questions.late.iter().for_each(|row| late[*row as usize] = true);
            }
            drop(stage);
        }
        Ok(Made { columns: spread.columns(view, &questions, &answers)?, late })
    }

    /// Runs a query, within the limits.
    async fn answers(&self, query: DataFrame) -> Result<Vec<RecordBatch>, FeatureError> {
        let run = async {
            let mut stream = query.execute_stream().await?;
            let (mut answers, mut bytes) = (Vec::new(), 0);
            while let Some(batch) = stream.next().await {
                let batch = batch?;
                bytes += batch.get_array_memory_size();
                if bytes > self.options.most_bytes {
                    return Err(DataFusionError::ResourcesExhausted(format!(
                        "the answer has more than {} bytes; ask for fewer features or use less --memory, so that rows go \
                         in smaller pieces",
                        self.options.most_bytes
                    )));
                }
                answers.push(batch);
            }
            Ok(answers)
        };
        match tokio::time::timeout(self.options.timeout, run).await {
            Ok(answers) => answers.map_err(|e| self.told(&e)),
            Err(_) => Err(FeatureError::Unavailable(format!(
                "the cluster at {} gave no answer within {} s; start more executors, ask for less, or allow it more time \
                 with --timeout",
                self.options.scheduler,
                self.options.timeout.as_secs()
            ))),
        }
    }
}
