//! A view's SELECT, rewritten so that it speaks of one entity, one window and one instant.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::{
    ast::{
        self, Expr, FunctionArgumentClause, FunctionArguments, GroupByExpr, Ident, OrderByExpr,
        OrderByOptions, SelectItem, SetExpr, Statement, TableFactor, visit_expressions_mut,
    },
    dialect::GenericDialect,
    parser::{Parser, ParserError},
};
use ingest::Millis;

use crate::{error::FeatureError, view::Definition};

/// Aggregates whose value depends on the order of signals, which is (time, source, id).
const ORDERED: [&str; 9] = [
    "first",
    "last",
    "first_value",
    "last_value",
    "first_n",
    "last_n",
    "nth_value",
    "array_agg",
    "string_agg",
];

/// A SELECT without its entity and its GROUP BY: over no signals it gives one row, as an empty window does.
#[derive(Debug, Clone)]
pub(super) struct Select {
    select: ast::Select,
    /// The table it reads.
    pub table: String,
    /// What the SELECT calls that table.
    alias: Ident,
}

impl Select {
    pub fn parse(d: &Definition) -> Result<Select, FeatureError> {
        let refuse =
            |what: &str| FeatureError::Request(format!("{} cannot be computed as a batch: {what}", d.name));
        let mut statements =
            Parser::parse_sql(&GenericDialect {}, &d.select).map_err(|e| refuse(&e.to_string()))?;
        let Some(Statement::Query(query)) = statements.pop() else { return Err(refuse("it is no query")) };
        let SetExpr::Select(select) = *query.body else { return Err(refuse("it is no plain SELECT")) };
        let mut select = *select;
        let from = match &select.from[..] {
            [one] => &one.relation,
            _ => return Err(refuse("it does not read one table")),
        };
        let TableFactor::Table { name, alias, .. } = from else { return Err(refuse("it reads no table")) };
        let table = name.to_string();
        let alias = alias.as_ref().map_or_else(|| Ident::new(&table), |a| a.name.clone());
        select.projection.retain(|item| !is_entity(item, &d.entity));
        select.group_by = GroupByExpr::Expressions(Vec::new(), Vec::new());
        let mut select = Select { select, table, alias };
        select.put_in_order();
        Ok(select)
    }

    /// The query for the features at an instant.
    pub fn features(&self, at: Millis) -> Result<String, ParserError> {
        let mut select = self.select.clone();
        let at = literal(at)?;
        for_each_function(&mut select, |name, expr| {
            match name {
                "as_of" => *expr = at.clone(),
                // A streak counts while its latest day is today or yesterday.
                "streak" => {
                    let streak = std::mem::replace(expr, at.clone());
                    *expr = call("streak_now", [streak, at.clone()]);
                }
                _ => {}
            }
        });
        Ok(select.to_string())
    }

    /// The query for the times of all signals that pass WHERE.
    pub fn times(&self) -> String {
        let mut select = self.select.clone();
        select.projection = vec![SelectItem::UnnamedExpr(self.column("time"))];
        select.to_string()
    }

    fn column(&self, name: &str) -> Expr {
        Expr::CompoundIdentifier(vec![self.alias.clone(), Ident::new(name)])
    }

    fn put_in_order(&mut self) {
        let order: Vec<OrderByExpr> = ["time", "source", "id"]
            .map(|c| OrderByExpr {
                expr: self.column(c),
                options: OrderByOptions { asc: Some(true), nulls_first: None },
                with_fill: None,
            })
            .into();
        for_each_function(&mut self.select, |name, expr| {
            if let Expr::Function(f) = expr
                && ORDERED.contains(&name)
                && let FunctionArguments::List(list) = &mut f.args
                && !list.clauses.iter().any(|c| matches!(c, FunctionArgumentClause::OrderBy(_)))
            {
                list.clauses.push(FunctionArgumentClause::OrderBy(order.clone()));
            }
        });
    }
}

/// Calls `f` for every function call, with the function's name in lower case.
fn for_each_function(select: &mut ast::Select, mut f: impl FnMut(&str, &mut Expr)) {
    let _ = visit_expressions_mut(select, |expr| {
        if let Expr::Function(call) = expr {
            let name = call.name.to_string().to_lowercase();
            f(&name, expr);
        }
        ControlFlow::<()>::Continue(())
    });
}

fn is_entity(item: &SelectItem, entity: &str) -> bool {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => alias.value == entity,
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => name.value == entity,
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(names)) => {
            names.last().is_some_and(|name| name.value == entity)
        }
        _ => false,
    }
}

fn call(name: &str, arguments: [Expr; 2]) -> Expr {
    let args = arguments.map(|a| ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(a))).into();
    Expr::Function(ast::Function {
        name: ast::ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(ast::FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// An instant in SQL.
fn literal(at: Millis) -> Result<Expr, ParserError> {
    let text = format!("arrow_cast({at}, 'Timestamp(Millisecond, Some(\"+00:00\"))')");
    Parser::new(&GenericDialect {}).try_with_sql(&text)?.parse_expr()
}
