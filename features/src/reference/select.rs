//! A view's SELECT, rewritten so that it speaks of one entity, one window and one instant.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::{
    ast::{
        self, BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments,
        GroupByExpr, Ident, JoinConstraint, JoinOperator, OrderByExpr, OrderByOptions, SelectItem, SetExpr,
        Statement, TableFactor, VisitMut, visit_expressions_mut,
    },
    dialect::GenericDialect,
    parser::{Parser, ParserError},
};
use ingest::Millis;

use super::clock::CLOCK;
use crate::{error::FeatureError, view::Definition};

/// Aggregates whose value depends on the order of signals, which is (time, source, id).
pub(super) const ORDERED: [&str; 7] =
    ["first", "last", "first_value", "last_value", "first_n", "last_n", "array_agg"];

/// Column that tells a signal from all others of the query.
pub(super) const NTH: &str = "__nth";
/// Column with the person's time zone when the signal happened.
pub(super) const ZONE: &str = "__zone";

/// A SELECT without its entity and its GROUP BY: over no signals it gives one row, as an empty window does.
#[derive(Debug, Clone)]
pub(super) struct Select {
    select: ast::Select,
    /// The table it reads.
    pub table: String,
    /// Tables joined to it.
    pub joined: Vec<Joined>,
    /// What the SELECT calls its table.
    alias: Ident,
    /// Whether it asks for what a clock showed.
    pub local: bool,
}

/// A table joined to the view's own.
#[derive(Debug, Clone)]
pub(super) struct Joined {
    /// Its name.
    pub table: String,
    /// The FROM with this join alone, as written but for LEFT.
    from: String,
    alias: Ident,
}

impl Select {
    /// Takes a definition's SELECT; `is_aggregate` knows functions by their lower-case names, `by_signal`
    /// whether the rows of a joined table are picked for each signal.
    pub fn parse(
        d: &Definition,
        is_aggregate: &dyn Fn(&str) -> bool,
        in_order: &dyn Fn(&str) -> bool,
        by_signal: &dyn Fn(&str) -> bool,
    ) -> Result<Select, FeatureError> {
        let refuse =
            |what: &str| FeatureError::Request(format!("{} cannot be computed as a batch: {what}", d.name));
        let mut statements =
            Parser::parse_sql(&GenericDialect {}, &d.select).map_err(|e| refuse(&e.to_string()))?;
        let Some(Statement::Query(query)) = statements.pop() else { return Err(refuse("it is no query")) };
        let SetExpr::Select(select) = *query.body else { return Err(refuse("it is no plain SELECT")) };
        let mut select = *select;
        let [from] = &mut select.from[..] else { return Err(refuse("it does not read one table")) };
        let named = |relation: &TableFactor| match relation {
            TableFactor::Table { name, alias, .. } => {
                let alias = alias.as_ref().map(|a| a.name.clone());
                Some((name.to_string(), alias.unwrap_or_else(|| Ident::new(name.to_string()))))
            }
            _ => None,
        };
        let (table, alias) = named(&from.relation).ok_or_else(|| refuse("it reads no table"))?;
        let mut joined = Vec::new();
        for join in &mut from.joins {
            let (name, its_alias) = named(&join.relation).ok_or_else(|| refuse("it joins no table"))?;
            let (JoinOperator::Left(on) | JoinOperator::LeftOuter(on)) = &mut join.join_operator else {
                return Err(refuse("it has a join other than LEFT"));
            };
            let inner = match &*on {
                JoinConstraint::On(e) => format!("ON {e}"),
                JoinConstraint::Using(columns) => {
                    let columns: Vec<String> = columns.iter().map(ToString::to_string).collect();
                    format!("USING ({})", columns.join(", "))
                }
                _ => return Err(refuse("a join has no ON and no USING")),
            };
            joined.push(Joined {
                from: format!("{} JOIN {} {inner}", from.relation, join.relation),
                table: name.clone(),
                alias: its_alias.clone(),
            });
            if by_signal(&name) {
                with_signal(on, &alias, &its_alias);
            }
        }
        select.projection.retain(|item| !is_entity(item, &d.entity));
        select.group_by = GroupByExpr::Expressions(Vec::new(), Vec::new());
        let mut select = Select { select, table, joined, alias, local: false };
        select.prepare(is_aggregate, in_order).map_err(|e| refuse(&e.to_string()))?;
        Ok(select)
    }

    /// The query for the features at an instant, where the person's time zone is this.
    pub fn features(&self, at: Millis, zone: Option<&str>) -> Result<String, ParserError> {
        let at = format!("arrow_cast({at}, 'Timestamp(Millisecond, Some(\"+00:00\"))')");
        let zone = match zone {
            Some(zone) => format!("'{}'", zone.replace('\'', "''")),
            None => "CAST(NULL AS VARCHAR)".to_owned(),
        };
        Ok(self.asked(&at, &zone)?.to_string())
    }

    /// The query for the features of many questions at once, over signals with the number of their question, its
    /// instant and the person's time zone then in these columns; the number comes first in the answer.
    pub fn of_many(&self, number: &str, at: &str, zone: &str) -> Result<String, ParserError> {
        Ok(self.by_question(number, at, zone)?.to_string())
    }

    /// As [`of_many`](Self::of_many), as if none of the signals counted: what empty windows give.
    pub fn of_none(
        &self,
        number: &str,
        at: &str,
        zone: &str,
        is_aggregate: &dyn Fn(&str) -> bool,
    ) -> Result<String, ParserError> {
        let mut select = self.by_question(number, at, zone)?;
        select.selection = None;
        for_each_call(&mut select.projection, |name, call| {
            let mut call = call.clone();
            match &mut call {
                Expr::Function(f) if is_aggregate(name) => f.filter = Some(Box::new(parse("FALSE")?)),
                _ => return Ok(None),
            }
            Ok(Some(call))
        })?;
        Ok(select.to_string())
    }

    fn by_question(&self, number: &str, at: &str, zone: &str) -> Result<ast::Select, ParserError> {
        let columns = [number, at, zone].map(|name| self.column(name));
        let mut select = self.asked(&columns[1].to_string(), &columns[2].to_string())?;
        select.projection.insert(0, SelectItem::UnnamedExpr(columns[0].clone()));
        select.group_by = GroupByExpr::Expressions(columns.into(), Vec::new());
        Ok(select)
    }

    /// The parts of WHERE, joined by AND, that look at the view's own signals alone.
    pub fn own_conditions(&self) -> Vec<String> {
        let mut parts = Vec::new();
        let mut rest: Vec<&Expr> = self.select.selection.iter().collect();
        while let Some(e) = rest.pop() {
            match e {
                Expr::BinaryOp { left, op: BinaryOperator::And, right } => rest.extend([&**left, &**right]),
                Expr::Nested(inner) => rest.push(inner),
                other => parts.push(other),
            }
        }
        let of_others = |e: &&Expr| {
            let looked = ast::visit_expressions(*e, |e| match e {
                Expr::CompoundIdentifier(names)
                    if names.len() > 1 && self.joined.iter().any(|j| j.alias.value == names[0].value) =>
                {
                    ControlFlow::Break(())
                }
                Expr::Identifier(_) if !self.joined.is_empty() => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            });
            looked.is_break()
        };
        parts.retain(|e| !of_others(e));
        parts.iter().map(ToString::to_string).collect()
    }

    /// What the SELECT calls its table.
    pub fn alias(&self) -> &Ident {
        &self.alias
    }

    /// The SELECT with an instant and a time zone, both as SQL, put in.
    fn asked(&self, at: &str, zone: &str) -> Result<ast::Select, ParserError> {
        let mut select = self.select.clone();
        for_each_call(&mut select.projection, |name, call| {
            Ok(match name {
                "as_of" => Some(parse(at)?),
                "local_time" => with_zone(call, zone)?,
                // Today decides whether the last run of days still counts.
                "streak" => Some(parse(&format!("streak_now({call}, local_time({at}, {zone}))"))?),
                _ => None,
            })
        })?;
        Ok(select)
    }

    /// The query for the times of all signals that pass WHERE.
    pub fn times(&self) -> String {
        let mut select = self.select.clone();
        select.projection = vec![SelectItem::UnnamedExpr(self.column("time"))];
        select.to_string()
    }

    /// The query for the rows of a joined table with a column `valid_from` that hold for each signal, over
    /// the table under the name `all`.
    pub fn valid(&self, joined: &Joined) -> String {
        let (r, m) = (&joined.alias, &self.alias);
        let since = format!("arrow_cast({r}.valid_from, 'Timestamp(Millisecond, Some(\"+00:00\"))')");
        format!(
            "SELECT * FROM (SELECT {r}.*, {m}.{NTH}, row_number() OVER (PARTITION BY {m}.{NTH} ORDER BY {since} DESC) \
             AS __newest FROM {} WHERE {since} <= {m}.time) WHERE __newest = 1",
            joined.from
        )
    }

    /// The query for the features of every entity at an instant, over the signals later than `after`.
    pub fn of_everybody(&self, after: Millis, at: Millis) -> Result<String, ParserError> {
        let mut select = self.clone();
        let entity = self.column("subject");
        select.select.projection.insert(0, SelectItem::UnnamedExpr(entity.clone()));
        select.select.group_by = GroupByExpr::Expressions(vec![entity], Vec::new());
        let (time, instant) = (self.column("time"), |ms| {
            format!("arrow_cast({ms}, 'Timestamp(Millisecond, Some(\"+00:00\"))')")
        });
        let inside = format!("{time} > {} AND {time} <= {}", instant(after), instant(at));
        let inside = match select.select.selection.take() {
            Some(wanted) => format!("({wanted}) AND {inside}"),
            None => inside,
        };
        select.select.selection = Some(parse(&inside)?);
        select.features(at, None)
    }

    fn column(&self, name: &str) -> Expr {
        Expr::CompoundIdentifier(vec![self.alias.clone(), Ident::new(name)])
    }

    /// What does not depend on the instant: order inside of aggregates, and clocks where signals happened.
    fn prepare(
        &mut self,
        is_aggregate: &dyn Fn(&str) -> bool,
        in_order: &dyn Fn(&str) -> bool,
    ) -> Result<(), ParserError> {
        let order: Vec<OrderByExpr> = ["time", "source", "id"]
            .map(|c| OrderByExpr {
                expr: self.column(c),
                options: OrderByOptions { asc: Some(true), nulls_first: None },
                with_fill: None,
            })
            .into();
        let zone = self.column(ZONE).to_string();
        let then = |name: &str, call: &Expr| match name {
            "local_time" => with_zone(call, &zone),
            _ => Ok(None),
        };
        let text = self.select.to_string();
        self.local = ["local_time", "streak"].iter().any(|f| crate::udf::calls(&text, f));
        for_each_call(&mut self.select.selection, then)?;
        for_each_call(&mut self.select.projection, |name, call| {
            if !is_aggregate(name) {
                return Ok(None);
            }
            let mut call = call.clone();
            for_each_call(&mut call, then)?;
            if let Expr::Function(f) = &mut call
                && let FunctionArguments::List(list) = &mut f.args
            {
                let ordered = list.clauses.iter().any(|c| matches!(c, FunctionArgumentClause::OrderBy(_)));
                if in_order(name) && !ordered {
                    list.clauses.push(FunctionArgumentClause::OrderBy(order.clone()));
                }
                if name == "streak" {
                    list.args.iter_mut().try_for_each(|t| by_the_clock(t, &zone))?;
                }
            }
            Ok(Some(call))
        })
    }
}

/// A streak counts the days of the person's clock.
fn by_the_clock(time: &mut FunctionArg, zone: &str) -> Result<(), ParserError> {
    let local = parse(&format!("{CLOCK}({time}, {zone})"))?;
    *time = FunctionArg::Unnamed(FunctionArgExpr::Expr(local));
    Ok(())
}

/// Puts `f`'s answer, if it gives one, in the place of every function call; it is given the name in lower case.
fn for_each_call<V: VisitMut>(
    within: &mut V,
    mut f: impl FnMut(&str, &Expr) -> Result<Option<Expr>, ParserError>,
) -> Result<(), ParserError> {
    let visited = visit_expressions_mut(within, |expr| {
        if let Expr::Function(call) = expr {
            match f(&call.name.to_string().to_lowercase(), expr) {
                Ok(Some(other)) => *expr = other,
                Ok(None) => {}
                Err(e) => return ControlFlow::Break(e),
            }
        }
        ControlFlow::Continue(())
    });
    visited.break_value().map_or(Ok(()), Err)
}

/// `local_time(t)` as `local_time(t, zone)`; nothing where it has a zone.
fn with_zone(call: &Expr, zone: &str) -> Result<Option<Expr>, ParserError> {
    match call {
        Expr::Function(f) => match &f.args {
            FunctionArguments::List(list) if list.args.len() == 1 => {
                Ok(Some(parse(&format!("local_time({}, {zone})", list.args[0]))?))
            }
            _ => Ok(None),
        },
        _ => Ok(None),
    }
}

fn parse(text: &str) -> Result<Expr, ParserError> {
    Parser::new(&GenericDialect {}).try_with_sql(text)?.parse_expr()
}

/// Adds to a join's condition that its row is the one picked for the signal.
fn with_signal(on: &mut JoinConstraint, main: &Ident, joined: &Ident) {
    let nth = |of: &Ident| Expr::CompoundIdentifier(vec![of.clone(), Ident::new(NTH)]);
    match on {
        JoinConstraint::On(e) => {
            let picked = Expr::BinaryOp {
                left: Box::new(nth(main)),
                op: BinaryOperator::Eq,
                right: Box::new(nth(joined)),
            };
            *e = Expr::BinaryOp {
                left: Box::new(Expr::Nested(Box::new(e.clone()))),
                op: BinaryOperator::And,
                right: Box::new(picked),
            };
        }
        JoinConstraint::Using(columns) => columns.push(Ident::new(NTH).into()),
        _ => {}
    }
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
