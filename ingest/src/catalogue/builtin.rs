//! The declarations that come with the program.

/// Import name and text of each file of `ingest/signals/`.
macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../signals/", $name)))),*]
    };
}

/// Where the options are declared; every declaration imports it.
pub(crate) const OPTIONS: (&str, &str) =
    ("kairos/signal.proto", include_str!("../../signals/kairos/signal.proto"));

/// The built-in types.
pub(crate) const FILES: &[(&str, &str)] = embedded![
    "activity.proto",
    "calendar.proto",
    "code.proto",
    "context.proto",
    "habits.proto",
    "kairos.proto",
    "mail.proto",
    "mood.proto",
    "music.proto",
    "sleep.proto",
    "tasks.proto",
];

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    #[test]
    fn every_file_of_the_directory_is_embedded() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("signals");
        let found: BTreeSet<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".proto"))
            .collect();
        let embedded: BTreeSet<String> = super::FILES.iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(found, embedded, "list each file of ingest/signals/ in `FILES`");
    }
}
