//! What a person should mend although it works as yet.

use super::{HistoryError, Inner, spool, sql::quoted};

/// What the writing process does with the tables.
const RIGHTS: [&str; 8] = [
    "SELECT",
    "INSERT",
    "CREATE TABLE",
    "CREATE VIEW",
    "DROP TABLE",
    "ALTER DELETE",
    "ALTER ADD COLUMN",
    "ALTER MODIFY COMMENT",
];

impl Inner {
    pub(super) fn remarks(&self) -> Result<Vec<String>, HistoryError> {
        let mut remarks = Vec::new();
        let mut missing = Vec::new();
        for right in RIGHTS {
            let sql = format!("CHECK GRANT {right} ON {}.*", quoted(&self.server.database));
            let granted: Vec<(u8,)> = self.server.ask(sql)?;
            if granted != [(1,)] {
                missing.push(right);
            }
        }
        if !missing.is_empty() {
            remarks.push(format!(
                "the user of ClickHouse at {} lacks rights: GRANT {} ON {}.* TO that user",
                self.server.place,
                missing.join(", "),
                self.server.database
            ));
        }
        let root = spool::root(&self.options.data_dir);
        let (held, most) = (spool::bytes_in(&root), self.options.server.spool_bytes);
        if held > most / 5 * 4 {
            remarks.push(format!(
                "{} MB wait for ClickHouse in {}, and `history.spool_mb` allows {}: see in the log of the process that \
                 runs the stream job why they are not taken, or allow more",
                held >> 20,
                root.display(),
                most >> 20
            ));
        }
        Ok(remarks)
    }
}
