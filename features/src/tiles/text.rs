//! Expressions over a signal as SQL for Arroyo: its timestamps have no zone, and ours are all of UTC.

use std::sync::Arc;

use datafusion::{
    common::{
        Column, ScalarValue,
        tree_node::{Transformed, TreeNode},
    },
    logical_expr::Expr,
    sql::{
        sqlparser::ast::{DataType as SqlType, ExactNumberInfo, TimezoneInfo},
        unparser::{Unparser, dialect::CustomDialectBuilder},
    },
};

/// Writes an expression; an error is the reason why it cannot be.
pub(super) fn of(e: &Expr) -> Result<String, String> {
    let plain = e.clone().transform(|e| {
        Ok(match e {
            Expr::Column(c) => Transformed::yes(Expr::Column(Column::new_unqualified(c.name))),
            Expr::Literal(ScalarValue::TimestampMillisecond(t, Some(_)), about) => {
                Transformed::yes(Expr::Literal(ScalarValue::TimestampMillisecond(t, None), about))
            }
            e => Transformed::no(e),
        })
    });
    let plain = plain.map_err(|e| e.to_string())?.data;
    let timestamp = SqlType::Timestamp(Some(3), TimezoneInfo::None);
    let dialect = CustomDialectBuilder::new()
        .with_identifier_quote_style('"')
        .with_utf8_cast_dtype(SqlType::Text)
        .with_large_utf8_cast_dtype(SqlType::Text)
        .with_float64_ast_dtype(SqlType::Double(ExactNumberInfo::None))
        .with_timestamp_cast_dtype(timestamp.clone(), timestamp)
        .build();
    let dialect: Arc<_> = Arc::new(dialect);
    let text = Unparser::new(dialect.as_ref()).expr_to_sql(&plain);
    text.map(|sql| sql.to_string()).map_err(|e| format!("`{e}` cannot be written as SQL for Arroyo"))
}
