//! Rows as Parquet files that executors see, for the time of one run.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::AsArray,
    compute::cast,
    datatypes::{DataType, SchemaRef, UInt64Type},
    record_batch::RecordBatch,
};
use datafusion::{
    datasource::{
        file_format::parquet::ParquetFormat,
        listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl},
    },
    execution::context::SessionContext,
};
use features::{FeatureError, offline::schema::adapt};
use parquet::{arrow::ArrowWriter, basic::Compression, file::properties::WriterProperties};

/// Rows of a group, which is what one executor reads at a time.
const GROUP: usize = 64 * 1024;

/// A directory with the files of a run; it goes away with this.
pub(super) struct Stage {
    dir: tempfile::TempDir,
    tables: Vec<(String, SchemaRef, Vec<PathBuf>)>,
}

impl Stage {
    /// An empty one under `shared`, which is made if it is not there.
    pub(super) fn begin(shared: &Path) -> Result<Stage, FeatureError> {
        let shared = std::path::absolute(shared).map_err(|e| unwritable(shared, &e))?;
        std::fs::create_dir_all(&shared).map_err(|e| unwritable(&shared, &e))?;
        let dir = tempfile::Builder::new().prefix("run-").tempdir_in(&shared);
        Ok(Stage { dir: dir.map_err(|e| unwritable(&shared, &e))?, tables: Vec::new() })
    }

    /// Writes a file of rows with these columns.
    pub(super) fn write(
        &self,
        name: &str,
        schema: &SchemaRef,
        rows: impl IntoIterator<Item = Result<RecordBatch, FeatureError>>,
    ) -> Result<PathBuf, FeatureError> {
        let path = self.dir.path().join(format!("{name}.parquet"));
        let wrong = |e: &dyn ToString| unwritable(&path, e);
        let properties = WriterProperties::builder()
            .set_compression(Compression::LZ4_RAW)
            .set_max_row_group_row_count(Some(GROUP))
            .build();
        let file = File::create(&path).map_err(|e| wrong(&e))?;
        let mut writer =
            ArrowWriter::try_new(file, schema.clone(), Some(properties)).map_err(|e| wrong(&e))?;
        for batch in rows {
            let batch = adapt(&batch?, schema).map_err(|e| wrong(&e))?;
            writer.write(&batch).map_err(|e| wrong(&e))?;
        }
        writer.close().map_err(|e| wrong(&e))?;
        Ok(path)
    }

    /// Notes a table that lies in these files.
    pub(super) fn add(&mut self, name: &str, schema: SchemaRef, files: Vec<PathBuf>) {
        self.tables.push((name.to_owned(), schema, files));
    }

    /// Registers every table that was noted.
    pub(super) fn register(&self, ctx: &SessionContext) -> Result<(), FeatureError> {
        let format = ParquetFormat::default().with_force_view_types(false);
        let format = Arc::new(format);
        for (name, schema, files) in &self.tables {
            let wrong = |e: datafusion::error::DataFusionError| unwritable(self.dir.path(), &e);
            let urls = files.iter().map(|f| ListingTableUrl::parse(format!("file://{}", f.display())));
            let urls = urls.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
            let options = ListingOptions::new(format.clone()).with_file_extension(".parquet");
            let config = ListingTableConfig::new_with_multi_paths(urls)
                .with_listing_options(options)
                .with_schema(schema.clone());
            let table = ListingTable::try_new(config).map_err(wrong)?;
            ctx.register_table(name.as_str(), Arc::new(table)).map_err(wrong)?;
        }
        Ok(())
    }
}

/// The first column of an answer, as numbers.
pub(super) fn numbers(answer: &RecordBatch) -> Result<Vec<u64>, FeatureError> {
    let column = cast(answer.column(0), &DataType::UInt64)
        .map_err(|e| FeatureError::Damaged(format!("the cluster answered with no numbers: {e}")))?;
    Ok(column.as_primitive::<UInt64Type>().values().to_vec())
}

fn unwritable(path: &Path, e: &dyn ToString) -> FeatureError {
    FeatureError::Unavailable(format!(
        "rows for the cluster cannot be put into {} ({}); name with --staging a directory that this process can write and \
         every executor can read under the same path",
        path.display(),
        e.to_string()
    ))
}
