//! `kairos check`: the settings, and every backend opened once.

use crate::{
    clock, commands, config,
    config::Settings,
    error::{Error, Result},
    parts,
};

/// Checks everything and tells each finding; an error when something is wrong.
pub fn run(settings: &Settings) -> Result<()> {
    let mut findings = vec![
        ("settings", Ok("read and in range".to_owned())),
        ("signals", catalogue(settings)),
        ("udfs", functions(settings)),
        ("views", views(settings)),
        ("tips", tips(settings)),
        ("auth", keys(settings)),
        ("data", data(settings)),
        ("log", log(settings)),
        ("online", online(settings)),
        ("history", history(settings)),
    ];
    findings.extend(commands::arroyo::check(settings).map(|finding| ("arroyo", finding)));
    let mut wrong = 0;
    for (part, finding) in findings {
        match finding {
            Ok(detail) => println!("ok    {part:<9} {detail}"),
            Err(e) => {
                wrong += 1;
                println!("WRONG {part:<9} {}", e.to_string().replace('\n', "\n                "));
            }
        }
    }
    match wrong {
        0 => Ok(()),
        _ => Err(Error::Setting(format!(
            "{wrong} of the checks failed; each line above says what would be right"
        ))),
    }
}

fn catalogue(settings: &Settings) -> Result<String> {
    let catalogue = parts::catalogue(settings)?;
    Ok(format!("{} types", catalogue.types().count()))
}

fn functions(settings: &Settings) -> Result<String> {
    Ok(format!("{} user functions", parts::functions(settings)?.sources().count()))
}

fn views(settings: &Settings) -> Result<String> {
    let registry = parts::registry(settings, &parts::catalogue(settings)?)?;
    Ok(format!("{} views, {} features", registry.current().count(), registry.feature_names().count()))
}

fn tips(settings: &Settings) -> Result<String> {
    let tips = parts::tips(settings)?;
    let layout = scorer::context::Layout::new(&settings.scorer.context, &tips)
        .map_err(|e| Error::Setting(format!("scorer.context: {e}")))?;
    let registry = parts::registry(settings, &parts::catalogue(settings)?)?;
    registry
        .prepare(layout.features_to_read())
        .map_err(|e| Error::Setting(format!("tips and scorer.context name features: {e}")))?;
    Ok(format!("{} tips", tips.len()))
}

fn keys(settings: &Settings) -> Result<String> {
    let open = parts::gate(settings)?.is_open();
    let address = config::address("http.listen", &settings.http.listen)?;
    config::loopback_unless_keyed(address, !open)?;
    Ok(if open {
        format!("no API key; {address} serves this machine only")
    } else {
        "API keys are read".into()
    })
}

fn data(settings: &Settings) -> Result<String> {
    let dir = &settings.data.dir;
    let trial = dir.join(".check");
    let written = std::fs::create_dir_all(dir)
        .and_then(|()| std::fs::write(&trial, b"kairos"))
        .and_then(|()| std::fs::remove_file(&trial));
    written.map_err(|e| Error::Setting(format!("data.dir: cannot write in `{}`: {e}", dir.display())))?;
    Ok(dir.display().to_string())
}

fn log(settings: &Settings) -> Result<String> {
    let core = parts::Core::open(settings, clock::system())?;
    let mut remarks = core.log.remarks();
    if !settings.log.url.starts_with("embedded:") && settings.retention.days.is_none() {
        let text = "retention.days is unset: on Fluvio the records of people who were erased are hidden at once, \
                    but their bytes go only with retention; set it";
        remarks.push(text.into());
    }
    if !remarks.is_empty() {
        return Err(Error::Setting(remarks.join("\n")));
    }
    let records: u64 = core.log.end(ingest::log::Topic::Signals).0.values().sum();
    Ok(format!("{}, {records} signals", settings.log.url))
}

fn online(settings: &Settings) -> Result<String> {
    let options = settings.online.options(0, settings.log.partitions);
    features::online::check(&settings.online.url, &options).map_err(|e| Error::Unavailable(e.to_string()))
}

fn history(settings: &Settings) -> Result<String> {
    let wrong = |e: features::offline::HistoryError| Error::Broken(e.to_string());
    // A process that runs holds what is written; its history can be read beside it.
    let history = match parts::history(settings, clock::system()) {
        Err(held) if settings.history.url != "embedded:" => {
            parts::history_to_read(settings, clock::system()).map_err(|_| held)?
        }
        opened => opened?,
    };
    let remarks = history.remarks().map_err(wrong)?;
    if !remarks.is_empty() {
        return Err(Error::Setting(remarks.join("\n")));
    }
    let position = history.durable_position().map_err(wrong)?;
    let tables = history.tables().map_err(wrong)?.len();
    Ok(format!("{}, {tables} tables, durable up to {position}", settings.history.url))
}
