//! User functions for a test: built by cargo, installed, loaded.

use std::path::{Path, PathBuf};

use features::{
    FeatureError,
    udf::{Builder, Folder, Source},
};

/// Where functions are built, kept from one run to the next.
pub fn build_dir() -> PathBuf {
    std::env::var_os("KAIROS_UDF_TARGET")
        .map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("udf"), PathBuf::from)
}

/// Builds and installs these (file, text) pairs; false, with a line that says so, where there is no cargo or no
/// package registry.
pub fn install(folder: &Folder, sources: &[(&str, &str)]) -> bool {
    let builder = Builder::new(&build_dir());
    for (file, text) in sources {
        let source = Source::parse(file, text).unwrap();
        match builder.build(&source, file, &mut |_| ()) {
            Ok(built) => folder.install(&source, &built).unwrap_or_else(|e| panic!("{file}: {e}")),
            Err(FeatureError::Unavailable(why)) => {
                assert!(
                    std::env::var_os("KAIROS_TEST_REQUIRE").is_none(),
                    "user functions must be built here: {why}"
                );
                eprintln!("skipped: {why}");
                return false;
            }
            Err(e) => panic!("{e}"),
        };
    }
    true
}
