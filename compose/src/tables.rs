//! Reference tables that feature views may join: the tips, and the files of `tables.dirs`.

use std::{path::Path, sync::Arc};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    compute::{cast, concat_batches},
    datatypes::{DataType, Field, Schema},
    error::ArrowError,
};
use features::view::ReferenceTable;
use pipelines::table::{Format, Input};
use scorer::tips::TipCatalogue;

use crate::{
    config::Settings,
    error::{Error, Result},
    parts,
};

/// Most rows of a reference table: all of it lies in memory.
const MOST_ROWS: u64 = 1_000_000;

/// Every reference table there is.
pub fn load(settings: &Settings) -> Result<Vec<ReferenceTable>> {
    let mut tables =
        vec![tips(&parts::tips(settings)?).map_err(|e| Error::Broken(format!("the tips: {e}")))?];
    for dir in &settings.tables.dirs {
        let unreadable =
            |e: std::io::Error| Error::Setting(format!("tables.dirs: reading `{}`: {e}", dir.display()));
        let mut files = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(unreadable)? {
            files.push(entry.map_err(unreadable)?.path());
        }
        files.sort();
        for file in files.iter().filter(|f| Format::of(f).is_ok()) {
            let table = read(file)?;
            if tables.iter().any(|t| t.name == table.name) {
                return Err(Error::Setting(format!(
                    "tables.dirs: there is a table `{}` already; rename {}",
                    table.name,
                    file.display()
                )));
            }
            tables.push(table);
        }
    }
    Ok(tables)
}

/// The tips as a table: `id`, `title`, `category`, `effort` (minutes).
fn tips(catalogue: &TipCatalogue) -> std::result::Result<ReferenceTable, ArrowError> {
    let tips = catalogue.tips();
    let text = |of: fn(&scorer::tips::Tip) -> &str| {
        Arc::new(StringArray::from_iter_values(tips.iter().map(of))) as ArrayRef
    };
    let effort: Int64Array = tips.iter().map(|t| Some(i64::from(t.effort))).collect();
    let rows = RecordBatch::try_from_iter([
        ("id", text(|t| &t.id)),
        ("title", text(|t| &t.title)),
        ("category", text(|t| &t.category)),
        ("effort", Arc::new(effort) as ArrayRef),
    ])?;
    Ok(ReferenceTable { name: "tips".to_owned(), rows })
}

fn read(file: &Path) -> Result<ReferenceTable> {
    let wrong = |e: &dyn std::fmt::Display| Error::Setting(format!("tables.dirs: {}: {e}", file.display()));
    let name = file.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(fits) {
        return Err(wrong(&"a table is named after its file: lower-case letters, digits and underscores"));
    }
    let input = Input::open(file, &[]).map_err(|e| wrong(&e))?;
    if input.rows > MOST_ROWS {
        return Err(wrong(&format!("it has {} rows; a reference table may have {MOST_ROWS}", input.rows)));
    }
    let schema = input.schema();
    let batches = input.collect::<std::result::Result<Vec<_>, _>>().map_err(|e| wrong(&e))?;
    let rows = concat_batches(&schema, &batches).and_then(|b| plain_texts(&b)).map_err(|e| wrong(&e))?;
    Ok(ReferenceTable { name, rows })
}

/// Texts of every form as the one that signals have.
fn plain_texts(rows: &RecordBatch) -> std::result::Result<RecordBatch, ArrowError> {
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
        let plain = match field.data_type() {
            DataType::LargeUtf8 | DataType::Utf8View => cast(column, &DataType::Utf8)?,
            _ => column.clone(),
        };
        fields.push(Field::new(field.name(), plain.data_type().clone(), true));
        columns.push(plain);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(dir: &Path) -> Settings {
        Settings { tables: crate::config::Tables { dirs: vec![dir.to_owned()] }, ..Settings::default() }
    }

    #[test]
    fn the_tips_and_files_are_tables() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("projects.csv"), "name,area\ngarden,home\nthesis,work\n").unwrap();
        std::fs::write(dir.path().join("notes.txt"), "no table").unwrap();
        let tables = load(&settings(dir.path())).unwrap();
        let names: Vec<_> = tables.iter().map(|t| (t.name.as_str(), t.rows.num_rows() > 1)).collect();
        assert_eq!(names, [("tips", true), ("projects", true)]);
        let catalogue = ingest::catalogue::Catalogue::load(&[]).unwrap();
        let text = "CREATE FEATURE VIEW a ENTITY u WINDOWS (1 DAY) AS SELECT t.subject AS u, count(DISTINCT p.area) AS areas
            FROM task_completed t LEFT JOIN projects p ON p.name = t.project GROUP BY u;
            CREATE FEATURE VIEW b ENTITY u WINDOWS (1 DAY) AS SELECT subject AS u, last(tips.title) AS title
            FROM impressions LEFT JOIN tips ON tips.id = impressions.tip GROUP BY u;";
        features::Registry::with_tables(&catalogue, &tables, &[("v.sql", text)])
            .unwrap_or_else(|e| panic!("{e}"));
    }

    #[test]
    fn a_bad_file_is_told() {
        for (name, text, wanted) in [
            ("Big-One.csv", "a,b\n1,2\n", "named after its file"),
            ("tips.csv", "a,b\n1,2\n", "a table `tips` already"),
            ("broken.ndjson", "{", "broken.ndjson"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(name), text).unwrap();
            let e = load(&settings(dir.path())).unwrap_err().to_string();
            assert!(e.contains(wanted) && e.contains("tables.dirs"), "{e}");
        }
    }
}
