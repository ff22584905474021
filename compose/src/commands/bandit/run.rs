//! `kairos bandit run`.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::PathBuf,
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{
    Which,
    pass::{Mean, log_line, mean, on_all_cores, play},
    table::RewardTable,
};
use crate::error::{Error, Result, on_file};

/// What to play, and how.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Reward table (.csv, .ndjson or .parquet): columns `f…` are features, columns `r…` the reward of an action each
    #[arg(long, value_name = "TABLE")]
    data: PathBuf,
    #[command(flatten)]
    which: Which,
    /// How many passes, each from nothing and in an order of its own
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    seeds: u64,
    /// Take the rows as they stand instead of shuffling them
    #[arg(long)]
    in_order: bool,
    /// Write the decisions of the first pass as JSON lines that `kairos evaluate --logs` reads
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Plays all passes and tells what they earned.
pub fn run(arguments: &RunArgs) -> Result<()> {
    let table = RewardTable::open(&arguments.data)?;
    if !table.left_out.is_empty() {
        eprintln!("left out, because the names begin with neither f nor r: {}", table.left_out.join(", "));
    }
    let config = arguments.which.config();
    let log = match &arguments.log {
        Some(file) => Some(File::create(file).map_err(|e| on_file("write", file, &e))?),
        None => None,
    };
    let bar = ProgressBar::new(table.rows() as u64 * arguments.seeds);
    let style =
        ProgressStyle::with_template("{prefix} [{wide_bar}] {human_pos}/{human_len} rounds, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar.set_prefix("bandit");
    let passes = on_all_cores(arguments.seeds as usize, |i| {
        let seed = arguments.which.seed.wrapping_add(i as u64);
        let mut log = log.as_ref().filter(|_| i == 0).map(BufWriter::new);
        let earned = play(&table, &config, seed, !arguments.in_order, |row, action, propensity| {
            bar.inc(1);
            let Some(to) = &mut log else { return Ok(()) };
            log_line(to, &table, row, action, propensity).map_err(|e| unwritten(arguments, &e))
        })?;
        log.as_mut().map_or(Ok(()), |to| to.flush()).map_err(|e| unwritten(arguments, &e))?;
        Ok(earned)
    })?;
    bar.finish_and_clear();
    report(arguments, &table, &passes);
    Ok(())
}

fn unwritten(arguments: &RunArgs, e: &std::io::Error) -> Error {
    on_file("write", arguments.log.as_deref().unwrap_or(&arguments.data), e)
}

fn report(arguments: &RunArgs, table: &RewardTable, passes: &[Vec<f64>]) {
    let average = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let each: Vec<f64> = passes.iter().map(|earned| average(earned)).collect();
    // A row's reward, averaged over the passes: what is independent from row to row.
    let rows: Vec<f64> =
        (0..table.rows()).map(|row| average(&passes.iter().map(|p| p[row]).collect::<Vec<_>>())).collect();
    let (over_seeds, over_rows) = (mean(&each), mean(&rows));
    let of_action =
        |a: usize| average(&(0..table.rows()).map(|row| table.rewards(row)[a]).collect::<Vec<_>>());
    let actions: Vec<f64> = (0..table.actions.len()).map(of_action).collect();
    let uniform = average(&actions);
    let (constant, best) = actions
        .iter()
        .enumerate()
        .max_by(|(_, a), (_, b)| a.total_cmp(b))
        .map_or((uniform, ""), |(a, reward)| (*reward, &table.actions[a]));
    let policy = scorer::bandit::Bandit::new(&arguments.which.config(), 0).name();
    if arguments.json {
        let line = json!({
            "data": arguments.data, "rows": table.rows(), "features": table.features(), "actions": table.actions,
            "policy": policy, "seed": arguments.which.seed, "seeds": each.len(), "mean": over_seeds.mean,
            "over_seeds": over_seeds.interval, "over_rows": over_rows.interval, "each": each, "uniform": uniform,
            "constant": {"action": best, "mean": constant},
        });
        println!("{line}");
        return;
    }
    println!(
        "{}: {} rows, {} features, {} actions; one pass, mean of {}\n",
        arguments.data.display(),
        table.rows(),
        table.features(),
        table.actions.len(),
        if each.len() == 1 { "1 seed".into() } else { format!("{} seeds", each.len()) },
    );
    println!("{:<28} {:>10}  {:<20} {:<20}", "", "reward", "95 % over seeds", "95 % over rows");
    println!(
        "{:<28} {:>10.4}  {:<20} {:<20}",
        policy,
        over_seeds.mean,
        interval(&over_seeds),
        interval(&over_rows)
    );
    println!("{:<28} {constant:>10.4}", format!("best constant action ({best})"));
    println!("{:<28} {uniform:>10.4}", "uniform");
    println!(
        "\nOver seeds: what another order and other draws would change. Over rows: what other rows of the same kind\n\
         would change, each row's reward averaged over the seeds. The best constant action is known in hindsight only."
    );
}

fn interval(of: &Mean) -> String {
    of.interval.map_or_else(|| "unknown".into(), |(low, high)| format!("{low:.4} to {high:.4}"))
}
