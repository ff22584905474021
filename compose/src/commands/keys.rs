//! `kairos keys new`: a key for a caller; its hash goes to the key file, the key itself is shown once.

use std::{fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use clap::{Subcommand, ValueEnum};
use ingest::auth::Keys;
use rand::{TryRngCore, rngs::OsRng};

use crate::{
    config::Settings,
    error::{Error, Result, on_file},
};

/// API keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key, add its hash to the key file, and show the key once
    New {
        /// Who will use it; shows in logs
        name: String,
        /// What it allows; may be given several times
        #[arg(long = "scope", value_enum, required = true, value_name = "SCOPE")]
        scopes: Vec<Scope>,
    },
}

/// What a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scope {
    /// Post signals
    Ingest,
    /// Read features, the registry, explanations
    Read,
    /// Ask for tips and report reactions
    Recommend,
    /// Everything
    Admin,
}

impl Scope {
    fn name(self) -> &'static str {
        match self {
            Scope::Ingest => "ingest",
            Scope::Read => "read",
            Scope::Recommend => "recommend",
            Scope::Admin => "admin",
        }
    }
}

/// Runs the command.
pub fn run(settings: &Settings, command: &KeysCommand) -> Result<()> {
    let KeysCommand::New { name, scopes } = command;
    let mut random = [0; 32];
    OsRng
        .try_fill_bytes(&mut random)
        .map_err(|e| Error::Unavailable(format!("the system gave no random bytes for a key: {e}")))?;
    let file = settings.keys_file();
    let secret = add(&file, name, scopes, random)?;
    eprintln!("The hash stands in {}; a running server takes it up when it starts anew.", file.display());
    eprintln!("This is the key; it is shown this once:");
    println!("{secret}");
    Ok(())
}

fn add(file: &Path, name: &str, scopes: &[Scope], random: [u8; 32]) -> Result<String> {
    let (secret, hash) = Keys::generate(random);
    let scopes: Vec<&str> = scopes.iter().map(|s| s.name()).collect();
    let entry = format!(
        "[[key]]\nname = {}\nsha256 = \"{hash}\"\nscopes = {}\n\n",
        toml::Value::from(name),
        toml::Value::from(scopes)
    );
    let before = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(on_file("read", file, &e)),
    };
    let after = if before.is_empty() || before.ends_with("\n\n") { before } else { before + "\n" } + &entry;
    // What the server would refuse must not be written.
    Keys::parse(&after).map_err(|e| Error::Setting(format!("{}: {e}", file.display())))?;
    write_private(file, &after).map_err(|e| on_file("write", file, &e))?;
    Ok(secret)
}

/// Puts the text in place at once, readable by its owner alone.
fn write_private(file: &Path, text: &str) -> std::io::Result<()> {
    if let Some(parent) = file.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent)?;
    }
    let new = file.with_extension("new");
    let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    std::fs::rename(&new, file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_are_added_hashed_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("deep/keys.toml");
        let first = add(&file, "phone", &[Scope::Ingest, Scope::Recommend], [1; 32]).unwrap();
        let second = add(&file, "grafana", &[Scope::Read], [2; 32]).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains(&first) && !text.contains(&second));
        assert!(!Keys::load(&file).unwrap().is_open());
        assert_eq!(text.matches("[[key]]").count(), 2);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_name_stands_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys.toml");
        add(&file, "phone", &[Scope::Ingest], [1; 32]).unwrap();
        let why = add(&file, "phone", &[Scope::Read], [2; 32]).unwrap_err().to_string();
        assert!(why.contains("phone"), "{why}");
        assert_eq!(std::fs::read_to_string(&file).unwrap().matches("[[key]]").count(), 1);
    }
}
