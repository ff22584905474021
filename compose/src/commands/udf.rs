//! `kairos udf add|check|list|remove`: user functions, built and installed.

use std::{io::IsTerminal, path::Path, time::Duration};

use clap::{Args, Subcommand};
use features::{
    FeatureError,
    udf::{self, Builder, Folder, Source, shipped},
};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    config::Settings,
    error::{Error, Result, on_file},
    parts,
};

/// Functions of your own for feature views.
#[derive(Debug, Subcommand)]
pub enum UdfCommand {
    /// Build functions, try them out, and install them
    Add(AddArgs),
    /// Build a function and try it out, without installing it
    Check {
        /// Rust source, or the name of a shipped function
        #[arg(value_name = "FILE.rs|NAME")]
        source: String,
    },
    /// The functions installed, and those that could be
    List,
    /// Take a function out
    Remove {
        /// Its name
        name: String,
    },
}

/// Which functions.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// Rust sources, or names of shipped functions, which bring the view that uses them
    #[arg(value_name = "FILE.rs|NAME", required_unless_present = "shipped")]
    sources: Vec<String>,
    /// Every shipped function
    #[arg(long)]
    shipped: bool,
}

/// Runs the command.
pub fn run(settings: &Settings, command: &UdfCommand) -> Result<()> {
    let folder = Folder::new(&settings.udfs_dir());
    match command {
        UdfCommand::Add(arguments) => add(settings, &folder, arguments),
        UdfCommand::Check { source } => {
            let given = Given::find(source)?;
            let (source, built) = build(settings, &given)?;
            let plugin = udf::Plugin::load(source, &built.library).map_err(told)?;
            plugin.try_out().map_err(|e| Error::Input(e.to_string()))?;
            println!("ok    {}", plugin.source().signature());
            Ok(())
        }
        UdfCommand::List => list(&folder),
        UdfCommand::Remove { name } => remove(settings, &folder, name),
    }
}

/// A source, and where it came from.
struct Given {
    file: String,
    text: String,
    shipped: Option<&'static shipped::Shipped>,
}

impl Given {
    fn find(argument: &str) -> Result<Given> {
        let path = Path::new(argument);
        if path.is_file() {
            let text = std::fs::read_to_string(path).map_err(|e| on_file("read", path, &e))?;
            return Ok(Given { file: argument.to_owned(), text, shipped: None });
        }
        match shipped::named(argument.trim_end_matches(".rs")) {
            Some(found) => Ok(Given::shipped(found)),
            None => Err(Error::Input(format!(
                "there is no file `{argument}`, and no shipped function of that name; those are {}",
                names()
            ))),
        }
    }

    fn shipped(found: &'static shipped::Shipped) -> Given {
        Given { file: format!("{}.rs", found.name), text: found.source.to_owned(), shipped: Some(found) }
    }
}

fn names() -> String {
    shipped::ALL.iter().map(|s| s.name).collect::<Vec<_>>().join(", ")
}

fn add(settings: &Settings, folder: &Folder, arguments: &AddArgs) -> Result<()> {
    let mut given = arguments.sources.iter().map(|s| Given::find(s)).collect::<Result<Vec<_>>>()?;
    if arguments.shipped {
        given.extend(shipped::ALL.iter().map(Given::shipped));
    }
    for given in &given {
        let (source, built) = build(settings, given)?;
        folder.install(&source, &built).map_err(told)?;
        println!("added {}", source.signature());
        if let Some(shipped) = given.shipped {
            let view = folder.install_view(shipped).map_err(told)?;
            println!("      with its view, {}", view.display());
        }
    }
    // A function that takes other arguments than before can break a view.
    parts::registry(settings, &parts::catalogue(settings)?)?;
    eprintln!("In {}; a running server takes them up when it starts anew.", settings.udfs_dir().display());
    Ok(())
}

fn build(settings: &Settings, given: &Given) -> Result<(Source, udf::Built)> {
    let source = Source::parse(&given.file, &given.text).map_err(told)?;
    udf::refuse_built_in(&parts::catalogue(settings)?, &source).map_err(told)?;
    for warning in source.warnings() {
        eprintln!("warning: {warning}");
    }
    let spinner = spinner(&source.name);
    let builder = Builder::new(&settings.udfs_build_dir());
    let built = builder.build(&source, &given.file, &mut |line| spinner.set_message(line.to_owned()));
    spinner.finish_and_clear();
    Ok((source, built.map_err(told)?))
}

fn spinner(name: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        eprintln!("building {name}; the first build takes minutes, later ones seconds");
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} building {prefix}, {elapsed}: {wide_msg}");
    let bar = ProgressBar::new_spinner().with_prefix(name.to_owned());
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

fn list(folder: &Folder) -> Result<()> {
    let installed = folder.list().map_err(told)?;
    for i in &installed {
        match folder.source(i) {
            Ok(source) => println!("{}\n    {}", source.signature(), source.description),
            Err(e) => println!("{}\n    WRONG: {e}", i.name),
        }
    }
    for s in shipped::ALL.iter().filter(|s| installed.iter().all(|i| i.name != s.name)) {
        let source = Source::parse(s.name, s.source).map_err(told)?;
        println!("{}\n    {} (kairos udf add {})", source.signature(), source.description, s.name);
    }
    Ok(())
}

fn remove(settings: &Settings, folder: &Folder, name: &str) -> Result<()> {
    // Where the views do not plan as it is, taking a function out may be what mends them.
    if let Ok(registry) = parts::registry(settings, &parts::catalogue(settings)?) {
        let own_view = folder.views().join(format!("{name}.sql")).display().to_string();
        let users = registry.views().iter().map(|v| &v.definition);
        let users: Vec<_> = users.filter(|d| udf::calls(&d.select, name) && d.file != own_view).collect();
        if let Some(d) = users.first() {
            return Err(Error::Input(format!(
                "{name}() is called by the view {} ({}); take the view out first",
                d.name, d.file
            )));
        }
    }
    match folder.remove(name).map_err(told)? {
        true => {
            println!("removed {name}");
            Ok(())
        }
        false => Err(Error::Input(format!("there is no user function `{name}`; see `kairos udf list`"))),
    }
}

fn told(e: FeatureError) -> Error {
    match e {
        FeatureError::Unavailable(m) => Error::Unavailable(m),
        FeatureError::Damaged(m) => Error::Broken(m),
        other => Error::Input(other.to_string()),
    }
}
