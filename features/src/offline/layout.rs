//! Which columns of a table carry the entity, the time and the place in the log.

use arrow::datatypes::{DataType, Schema, TimeUnit};

use super::HistoryError;

/// The columns of a table that the store itself understands.
///
/// | role | column | type |
/// |---|---|---|
/// | entity | `subject`, or else the first column | Utf8, no NULLs |
/// | time | `time`, or else `as_of` | Timestamp(ms), no NULLs |
/// | place in the log | `partition` and `offset`, both or neither | UInt32 and UInt64 |
/// | replacement | `written`, the instant a row was made | Timestamp(ms) |
///
/// Rows of a table with `written` replace one another: of those of one entity and time only the newest counts
/// (the last by `written`, then by place). Every read gives that one; the others go when files are merged.
///
/// A backend on a database tells rows apart by their [identity](Layout::identity): a row that comes again takes the
/// place of the first.
///
/// A row is the effect of the log record at its place. NULL there means that no one record brought it: such
/// a row is never skipped as a repeat, and any `max_position` sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Name of the entity's column.
    pub entity: String,
    /// Name of the time's column.
    pub time: String,
    /// Whether rows know their place in the log.
    pub has_place: bool,
    /// Whether the newest row of an entity and time replaces the others.
    pub replaces: bool,
    /// Columns by which stored rows are ordered: entity, time, then `source` and `id` where the table has
    /// them (that is how ties in time are broken), then `written`, then `partition` and `offset`.
    pub order: Vec<String>,
}

impl Layout {
    /// The layout of a table with these columns.
    pub fn of(table: &str, schema: &Schema) -> Result<Layout, HistoryError> {
        let has = |name: &str| schema.index_of(name).is_ok();
        let wrong = |what: String| HistoryError::Refused(format!("table `{table}` cannot be stored: {what}"));
        let entity = match schema.fields().first() {
            _ if has("subject") => "subject".to_owned(),
            Some(first) => first.name().clone(),
            None => return Err(wrong("it has no columns".into())),
        };
        let time = if has("time") { "time" } else { "as_of" }.to_owned();
        let has_place = has("partition") && has("offset");
        let mut order = vec![entity.clone(), time.clone()];
        let replaces = has("written") && !has("source");
        for part in [&["source", "id"][..], &["written"], &["partition", "offset"]] {
            if part.iter().all(|c| has(c)) && (replaces || part != ["written"]) {
                order.extend(part.iter().filter(|c| **c != entity).map(|c| (*c).to_owned()));
            }
        }
        let expect =
            |name: &str, fits: fn(&DataType) -> bool, wanted: &str| match schema.field_with_name(name) {
                Ok(f) if fits(f.data_type()) => Ok(()),
                Ok(f) => Err(wrong(format!("column `{name}` is {}, it must be {wanted}", f.data_type()))),
                Err(_) => Err(wrong(format!("it lacks the column `{name}` of type {wanted}"))),
            };
        expect(&entity, |t| *t == DataType::Utf8, "Utf8")?;
        expect(&time, |t| matches!(t, DataType::Timestamp(TimeUnit::Millisecond, _)), "Timestamp(ms)")?;
        if replaces {
            expect(
                "written",
                |t| matches!(t, DataType::Timestamp(TimeUnit::Millisecond, _)),
                "Timestamp(ms)",
            )?;
        }
        if has_place {
            expect("partition", |t| *t == DataType::UInt32, "UInt32")?;
            expect("offset", |t| *t == DataType::UInt64, "UInt64")?;
        }
        for name in order.iter().filter(|c| *c == "source" || *c == "id") {
            expect(name, |t| *t == DataType::Utf8, "Utf8")?;
        }
        Ok(Layout { entity, time, has_place, replaces, order })
    }

    /// Columns by which a row is known again: of a signal entity, time, `source` and `id`; of rows that replace one
    /// another entity and time; of others all of [`order`](Self::order).
    pub fn identity(&self) -> Vec<String> {
        let of_signal = self.order.iter().any(|c| c == "source");
        let beyond: &[&str] = match (of_signal, self.replaces) {
            (true, _) => &["partition", "offset"],
            (false, true) => &["written", "partition", "offset"],
            (false, false) => &[],
        };
        let key = [&self.entity, &self.time];
        self.order.iter().filter(|c| key.contains(c) || !beyond.contains(&c.as_str())).cloned().collect()
    }

    /// A table's name becomes part of file names.
    pub fn check_name(table: &str) -> Result<(), HistoryError> {
        let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !table.is_empty() && table.len() <= 128 && table.chars().all(fine) {
            return Ok(());
        }
        Err(HistoryError::Refused(format!(
            "`{table}` is no name for a table: use a to z, digits and underscores, at most 128 of them"
        )))
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Field;

    use super::*;

    fn field(name: &str, kind: DataType) -> Field {
        Field::new(name, kind, false)
    }

    fn instant() -> DataType {
        DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()))
    }

    #[test]
    fn a_signal_table_is_ordered_as_ties_are_broken() {
        let schema = Schema::new(vec![
            field("id", DataType::Utf8),
            field("source", DataType::Utf8),
            field("subject", DataType::Utf8),
            field("time", instant()),
            field("partition", DataType::UInt32),
            field("offset", DataType::UInt64),
        ]);
        let layout = Layout::of("t", &schema).unwrap();
        assert_eq!(layout.order, ["subject", "time", "source", "id", "partition", "offset"]);
        assert!(layout.has_place);
        assert_eq!(layout.identity(), ["subject", "time", "source", "id"]);
    }

    #[test]
    fn a_feature_table_is_keyed_by_its_first_column() {
        let schema = Schema::new(vec![field("user_id", DataType::Utf8), field("as_of", instant())]);
        let layout = Layout::of("features_x", &schema).unwrap();
        assert_eq!((layout.entity.as_str(), layout.time.as_str()), ("user_id", "as_of"));
        assert!(!layout.has_place);
    }

    #[test]
    fn a_wrong_type_is_refused_by_name() {
        let schema = Schema::new(vec![field("user_id", DataType::Utf8), field("as_of", DataType::Int64)]);
        let error = Layout::of("features_x", &schema).unwrap_err().to_string();
        assert!(error.contains("`as_of` is Int64") && error.contains("features_x"), "{error}");
        assert!(Layout::check_name("../x").is_err());
    }
}
