//! `kairos features explain`: what a view does, what it keeps, and how much of that there is.

use clap::Args;
use features::{
    Registry,
    kernel::describe::{Explanation, duration},
};
use serde_json::json;
use stream_jobs::sizes::{self, Sizes, Spread};

use super::told;
use crate::{
    config::Settings,
    error::{Error, Result},
};

/// Events for which the size is reckoned where nothing can be measured.
const RECKONED: [usize; 3] = [1, 10, 100];

/// What to explain.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// A view, or one feature as view.feature_window
    #[arg(value_name = "VIEW[.FEATURE]")]
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Explains.
pub fn run(settings: &Settings, registry: &Registry, arguments: &ExplainArgs) -> Result<()> {
    let (name, feature) = match arguments.name.split_once('.') {
        Some((view, feature)) => (view, Some(feature)),
        None => (arguments.name.as_str(), None),
    };
    if let Some(view) = registry.on_demand().iter().map(|v| &v.definition).find(|d| d.name == name) {
        return on_demand(view, arguments.json);
    }
    let view = registry.view(name).ok_or_else(|| {
        let there: Vec<&str> = registry.views().iter().map(|v| &*v.name).collect();
        Error::Input(format!("there is no view `{name}`; there are {}", there.join(", ")))
    })?;
    let explained = view.explain(feature).map_err(told)?;
    let file = settings.data.dir.join("features.redb");
    let measured = if file.exists() { Some(sizes::of_view(&file, view)) } else { None };
    let (sizes, why_not) = match measured {
        Some(Ok(sizes)) => (Some(sizes), None),
        Some(Err(e)) => (None, Some(e.to_string())),
        None => (None, Some(format!("there is no checkpoint at {}", file.display()))),
    };
    if arguments.json {
        let all = json!({
            "plan": explained,
            "measured": sizes,
            "reckoned_bytes": RECKONED.map(|n| json!({"events": n, "bytes": explained.least_bytes(n)})),
        });
        println!("{}", serde_json::to_string_pretty(&all).map_err(|e| Error::Broken(e.to_string()))?);
        return Ok(());
    }
    print(&explained);
    print_sizes(&explained, sizes.as_ref(), why_not.as_deref());
    Ok(())
}

fn on_demand(d: &features::view::OnDemandDefinition, json: bool) -> Result<()> {
    let request: Vec<String> = d.request.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
    if json {
        let all = json!({"on_demand": {
            "view": d.name, "defined_at": format!("{}:{}", d.file, d.at.0), "description": d.description,
            "entity": d.entity, "request": request, "select": d.select,
        }});
        println!("{}", serde_json::to_string_pretty(&all).map_err(|e| Error::Broken(e.to_string()))?);
        return Ok(());
    }
    println!("{} ({}:{})", d.name, d.file, d.at.0);
    println!("{}", d.description);
    println!("\ncomputed at each read, nothing is kept");
    println!("request    {}", if request.is_empty() { "nothing".to_owned() } else { request.join(", ") });
    println!("\n{}", d.select);
    Ok(())
}

fn print(e: &Explanation) {
    println!("{} ({}), version {}", e.view, e.defined_at, e.version);
    if !e.description.is_empty() {
        println!("{}", e.description);
    }
    println!("\nreads      {}", e.table);
    for table in &e.beside {
        println!("beside     {table}, as of each signal's time");
    }
    for filter in &e.filters {
        println!("where      {filter}");
    }
    println!("entity     {}", e.entity);
    println!("lateness   {}", duration(e.lateness_ms));
    match e.kept_ms {
        Some(ms) => println!("kept       {} behind the newest signal", duration(ms)),
        None => println!("kept       for ever"),
    }
    println!("\nwindows");
    for w in &e.windows {
        println!("  {:<14} {}; edge {}", w.label, w.holds, w.edge);
    }
    println!("\nfeatures, one a window");
    for o in &e.outputs {
        println!("  {:<24} {:<10} = {}", o.name, o.kind, o.expression);
    }
    println!("\naggregates, with their state for each full chunk and each stretch of time between two edges");
    for a in &e.aggregates {
        let how = match (a.grouped, a.by_codes) {
            (_, true) => "many entities together, texts by codes",
            (true, false) => "many entities together",
            (false, false) => "one by one",
        };
        println!("  {:<48} state {}; {how}", a.expression, a.state.join(", "));
        if let Some(filter) = &a.filter {
            println!("      only where {filter}");
        }
    }
    println!("\nan event, {} bytes for its time and place and", e.event.fixed_bytes);
    for c in &e.event.columns {
        let bytes = c.bytes.map_or("1, and 9 for each 8 begun".to_owned(), |n| n.to_string());
        println!("  {:<40} {:<10} {bytes} bytes", c.expression, c.kind);
    }
    let row = &e.row;
    println!(
        "\na row, {} bytes of header and {} values of {} bytes ({}), then its events in chunks of {}",
        row.header_bytes,
        row.values,
        row.value_bytes,
        if row.ages {
            "which hold for their instant alone"
        } else {
            "which hold until an event enters or leaves"
        },
        row.chunk_events,
    );
}

fn print_sizes(e: &Explanation, sizes: Option<&Sizes>, why_not: Option<&str>) {
    println!();
    let spread = |what: &str, s: &Spread| {
        println!(
            "  {what:<18} min {}, median {}, p99 {}, max {}, all {}",
            s.min, s.median, s.p99, s.max, s.total
        );
    };
    match sizes {
        Some(Sizes { entities, bytes: Some(bytes), events: Some(events) }) => {
            println!("measured in the checkpoint, {entities} entities");
            spread("bytes an entity", bytes);
            spread("events an entity", events);
        }
        Some(_) => println!("the checkpoint has no entity of this view"),
        None => {
            println!("bytes an entity, reckoned without texts ({})", why_not.unwrap_or("nothing to measure"));
            for events in RECKONED {
                println!("  {events:>4} events  {}", e.least_bytes(events));
            }
        }
    }
}
