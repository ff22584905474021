//! `kairos policy list|promote|rollback`.

use clap::{Args, Subcommand};
use ingest::log::LogError;
use rand::{SeedableRng, rngs::StdRng};
use scorer::{ScorerError, learn::Learning};
use serde_json::{Value, json};

use super::log_to_read;
use crate::{
    client::Client,
    clock,
    config::Settings,
    error::{Error, Result},
    parts::{self, Core},
    ports::policies,
    run::process_seed,
};

/// Policies and their snapshots.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Every snapshot in the log with what it was taught, and every change of what serves, oldest first
    List {
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Let the shadow serve, if the log shows that it is better; otherwise say what is missing
    Promote(PromoteArgs),
    /// Let an earlier snapshot serve: what served before the last change, or a version of the policy that serves
    Rollback(RollbackArgs),
}

/// How a promotion is asked for.
#[derive(Debug, Args)]
pub struct PromoteArgs {
    /// Only look; change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    place: Place,
}

/// Where to go back to.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// A snapshot of the policy that serves, as `kairos policy list` shows it
    #[arg(value_name = "VERSION")]
    version: Option<u64>,
    #[command(flatten)]
    place: Place,
}

/// Who makes the change, and how it is told.
#[derive(Debug, Args)]
pub struct Place {
    /// Server that runs on this data directory [default: the one at http.listen, when the directory is in use]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub async fn run(settings: &Settings, command: PolicyCommand) -> Result<()> {
    match command {
        PolicyCommand::List { json } => list(settings, json),
        PolicyCommand::Promote(arguments) => promote(settings, arguments).await,
        PolicyCommand::Rollback(arguments) => rollback(settings, arguments).await,
    }
}

async fn promote(settings: &Settings, PromoteArgs { dry_run, place }: PromoteArgs) -> Result<()> {
    let answer = if dry_run && place.url.is_none() {
        // Reading needs nobody's leave.
        let layout = parts::layout(settings, &parts::tips(settings)?)?;
        let mut rng = StdRng::seed_from_u64(process_seed()?);
        let log = log_to_read(settings)?;
        policies::answer(&policies::judge(&*log, &settings.scorer, &layout, &mut rng)?, None)
    } else {
        match here(settings, &place)? {
            Some(mut opened) => promote_here(settings, &mut opened).await?,
            None => ask(settings, &place, "promote", &json!({ "dry_run": dry_run })).await?,
        }
    };
    say(&answer, place.json, told_promotion)?;
    let missing = answer["missing"].as_array().map_or(0, Vec::len);
    match answer["promotable"].as_bool() {
        Some(true) => Ok(()),
        _ => {
            Err(Error::Refused(format!("the shadow does not serve: {missing} of the conditions are not met")))
        }
    }
}

async fn promote_here(settings: &Settings, opened: &mut Opened) -> Result<Value> {
    let layout = parts::layout(settings, &parts::tips(settings)?)?;
    let mut rng = StdRng::seed_from_u64(process_seed()?);
    let report = policies::judge(&*opened.core.log, &settings.scorer, &layout, &mut rng)?;
    if !report.promotable {
        return Ok(policies::answer(&report, None));
    }
    let why = policies::text(&report);
    let change = opened.learning.promote(report.shadow_id, "local".into(), why, clock::now()).await;
    Ok(policies::answer(&report, Some(&change.map_err(told)?)))
}

async fn rollback(settings: &Settings, RollbackArgs { version, place }: RollbackArgs) -> Result<()> {
    let answer = match here(settings, &place)? {
        Some(mut opened) => {
            let change = opened.learning.roll_back(version, "local".into(), clock::now()).await;
            policies::told_change(&change.map_err(told)?)
        }
        None => ask(settings, &place, "rollback", &json!({ "version": version })).await?,
    };
    say(&answer, place.json, told_change)
}

/// The policies of a data directory that no server holds.
pub struct Opened {
    core: Core,
    /// What serves, and its shadow.
    pub learning: Learning,
}

/// The data directory, where it is free and no server was named.
pub fn here(settings: &Settings, place: &Place) -> Result<Option<Opened>> {
    if place.url.is_some() {
        return Ok(None);
    }
    // A log that processes share is held by nobody; a change made here is followed by whoever reads it.
    if settings.log.url.starts_with("embedded:") {
        // Looked at first, so that a wrong directory is an error and not a new one.
        drop(log_to_read(settings)?);
        match ingest::log::open(&settings.log.url, &settings.data.dir, Default::default()) {
            Err(LogError::Locked(_)) => return Ok(None),
            other => drop(other?),
        }
    }
    let core = Core::open(settings, clock::system())?;
    let tips = parts::tips(settings)?;
    let layout = parts::layout(settings, &tips)?.into();
    let registry = parts::registry(settings, &core.catalogue)?;
    let learning = parts::learning(settings, &core, parts::brief(settings, &tips, layout, &registry))?;
    Ok(Some(Opened { core, learning }))
}

/// Asks the server that runs on the data directory.
pub async fn ask(settings: &Settings, place: &Place, what: &str, question: &Value) -> Result<Value> {
    let url = place.url.clone().unwrap_or_else(|| format!("http://{}", settings.http.listen));
    let body = question.to_string().into();
    let answer = Client::new(&url)?.post(&format!("/v1/policies/{what}"), "application/json", body).await?;
    let said = answer.success()?;
    if said.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&said).map_err(|e| {
        Error::Unavailable(format!("{url} answered something else than JSON ({e}); is it Kairos?"))
    })
}

/// Errors of the policies by what the person at the terminal can do.
pub fn told(e: ScorerError) -> Error {
    match e {
        ScorerError::Config(_) => Error::Setting(e.to_string()),
        ScorerError::Invalid(_) | ScorerError::UnknownImpression(_) => Error::Input(e.to_string()),
        ScorerError::Unavailable(_) => Error::Unavailable(e.to_string()),
        ScorerError::Log(e) => e.into(),
        ScorerError::Snapshot(_) => Error::Broken(e.to_string()),
    }
}

fn say(answer: &Value, as_json: bool, human: fn(&Value) -> String) -> Result<()> {
    if as_json {
        println!("{}", serde_json::to_string_pretty(answer).map_err(|e| Error::Broken(e.to_string()))?);
    } else {
        print!("{}", human(answer));
    }
    Ok(())
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn told_promotion(answer: &Value) -> String {
    let report = &answer["report"];
    let mut text = format!("{} in the shadow of {}\n", word(&report["shadow"]), word(&report["incumbent"]));
    for c in report["conditions"].as_array().into_iter().flatten() {
        let mark = if c["met"] == true { "ok" } else { "MISSING" };
        let (name, found, wanted) = (word(&c["name"]), word(&c["found"]), word(&c["wanted"]));
        text += &format!("{mark:<8} {name:<20} {found}\n{:<30}wanted: {wanted}\n", "");
    }
    text += &match &answer["change"] {
        Value::Null if answer["promotable"] == true => "it may be promoted; nothing was changed\n".to_owned(),
        Value::Null => String::new(),
        change => told_change(change),
    };
    text
}

fn told_change(change: &Value) -> String {
    let policy = |p: &Value| {
        format!("{} after {} rewards (state {})", word(&p["policy"]), p["version"], word(&p["state"]))
    };
    format!(
        "{} at {} by {}: {} serves now; until then {}\n",
        word(&change["action"]),
        word(&change["at"]),
        word(&change["by"]),
        policy(&change["serving"]),
        policy(&change["previous"])
    )
}

fn list(settings: &Settings, as_json: bool) -> Result<()> {
    let all = policies::list(&*log_to_read(settings)?)?;
    let items = |name: &str| all[name].as_array().cloned().unwrap_or_default();
    if as_json {
        items("snapshots").iter().chain(&items("changes")).for_each(|entry| println!("{entry}"));
        return Ok(());
    }
    println!(
        "{:<16} {:>9} {:<25} {:>7} {:>9} {:<34} {:<34}",
        "policy", "version", "taken", "reward", "bytes", "state", "parent"
    );
    for s in items("snapshots") {
        let mean = s["metrics"]["mean_reward"].as_f64().map_or("-".into(), |m| format!("{m:.4}"));
        println!(
            "{:<16} {:>9} {:<25} {mean:>7} {:>9} {:<34} {:<34}",
            word(&s["policy"]),
            s["version"].to_string(),
            word(&s["taken_at"]),
            s["bytes"].to_string(),
            word(&s["state"]),
            word(&s["parent"]),
        );
    }
    items("changes").iter().for_each(|change| print!("{}", told_change(change)));
    Ok(())
}
