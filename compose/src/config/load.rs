//! Layers the sources of settings and explains what is wrong with them.

use std::path::{Path, PathBuf};

use figment::{
    Figment,
    error::Kind,
    providers::{Env, Format, Serialized, Toml},
};
use serde::de::DeserializeOwned;

use super::Settings;
use crate::{
    cli::Shared,
    error::{Error, Result},
};

/// The prefix of settings in the environment.
pub const ENVIRONMENT: &str = "KAIROS__";

const DEFAULT_FILE: &str = "kairos.toml";

/// Reads the settings: defaults, file, environment, flags; later ones win, lists from flags are added.
pub fn load(flags: &Shared) -> Result<Settings> {
    let file = match &flags.config {
        Some(file) if !file.is_file() => {
            return Err(Error::Setting(format!(
                "--config: there is no file `{}`; name an existing TOML file, or leave the flag out",
                file.display()
            )));
        }
        Some(file) => file.clone(),
        None => PathBuf::from(DEFAULT_FILE),
    };
    let settings = settings_from(layers(&file), flags)?;
    super::check::check(&settings)?;
    Ok(settings)
}

fn layers(file: &Path) -> Figment {
    let mut settings = Figment::from(Serialized::defaults(Settings::default()));
    if file.is_file() {
        settings = settings.merge(Toml::file_exact(file));
    }
    settings.merge(Env::prefixed(ENVIRONMENT).split("__"))
}

fn settings_from(layers: Figment, flags: &Shared) -> Result<Settings> {
    let mut settings: Settings = extract(with_flags(layers, flags))?;
    settings.signals.dirs.extend_from_slice(&flags.signals);
    settings.views.dirs.extend_from_slice(&flags.views);
    settings.tips.files.extend_from_slice(&flags.tips);
    Ok(settings)
}

fn with_flags(mut settings: Figment, flags: &Shared) -> Figment {
    if let Some(dir) = &flags.data {
        settings = settings.merge(("data.dir", dir));
    }
    if let Some(address) = &flags.listen {
        settings = settings.merge(("http.listen", address));
    }
    if let Some(format) = &flags.log_format {
        settings = settings.merge(("logs.format", format));
    }
    settings
}

fn extract<T: DeserializeOwned>(settings: Figment) -> Result<T> {
    settings.extract().map_err(|errors| {
        let lines: Vec<String> = errors.into_iter().map(|e| explain(&e)).collect();
        Error::Setting(lines.join("\n"))
    })
}

fn explain(e: &figment::Error) -> String {
    let mut path = e.path.clone();
    let what = match &e.kind {
        Kind::UnknownField(name, known) => {
            let section = if path.last() == Some(name) { &path[..path.len() - 1] } else { &path[..] };
            let place =
                if section.is_empty() { String::new() } else { format!(" in `{}`", section.join(".")) };
            let mut known: Vec<&str> = known.to_vec();
            known.sort_unstable();
            let what = format!("there is no such setting; those{place} are {}", known.join(", "));
            if path.last() != Some(name) {
                path.push(name.clone());
            }
            what
        }
        Kind::UnknownVariant(name, known) => {
            format!("`{name}` is not among the choices; write one of {}", known.join(", "))
        }
        Kind::InvalidType(found, wanted) | Kind::InvalidValue(found, wanted) => {
            format!("found {found}, but it must be {wanted}")
        }
        other => other.to_string(),
    };
    let source = e.metadata.as_ref().map(|m| match &m.source {
        Some(source) => format!(" (from {source})"),
        None if m.name.contains("environment") => " (from the environment)".into(),
        None => " (from a flag)".into(),
    });
    let name = if path.is_empty() { "settings".to_owned() } else { path.join(".") };
    format!("{name}{}: {what}", source.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_toml(text: &str) -> Result<Settings> {
        let layers = Figment::new()
            .merge(Serialized::defaults(Settings::default()))
            .merge(Toml::string(text))
            .merge(("logs.level", "info"));
        extract(layers)
    }

    fn reason(text: &str) -> String {
        from_toml(text).unwrap_err().to_string()
    }

    #[test]
    fn nothing_given_means_the_defaults() {
        let settings = from_toml("").unwrap();
        assert_eq!(settings.http, Settings::default().http);
        assert_eq!(settings.signals.future_seconds, 300);
    }

    #[test]
    fn an_unknown_setting_is_named_with_its_neighbours() {
        let why = reason("[http]\nlisen = 'x'");
        assert!(why.starts_with("http.lisen"), "{why}");
        assert!(why.contains("listen"), "{why}");
    }

    #[test]
    fn an_unknown_section_is_named() {
        let why = reason("[htpp]\nlisten = 'x'");
        assert!(why.starts_with("htpp") && why.contains("http"), "{why}");
    }

    #[test]
    fn a_wrong_type_says_what_would_be_right() {
        let why = reason("[limits]\nbody_bytes = 'many'");
        assert!(why.starts_with("limits.body_bytes") && why.contains("many"), "{why}");
    }

    #[test]
    fn a_wrong_choice_lists_the_choices() {
        let why = reason("[signals]\nunknown_fields = 'drop'");
        assert!(why.contains("signals.unknown_fields") && why.contains("reject, ignore"), "{why}");
    }

    #[test]
    fn flags_win_and_their_lists_are_added() {
        let file = Figment::new()
            .merge(Serialized::defaults(Settings::default()))
            .merge(Toml::string("[http]\nlisten = '127.0.0.1:1'\n[views]\ndirs = ['a']"));
        let flags = Shared {
            listen: Some("127.0.0.1:2".into()),
            views: vec![PathBuf::from("b")],
            ..Shared::default()
        };
        let settings = settings_from(file, &flags).unwrap();
        assert_eq!(settings.http.listen, "127.0.0.1:2");
        assert_eq!(settings.views.dirs, [PathBuf::from("a"), PathBuf::from("b")]);
    }
}
