//! Builds a function's library: a crate of its own around the source, by cargo.
//!
//! `arroyo-udf-plugin` 0.2 stands on an older arrow than DataFusion and pins an older chrono, so no lock file can
//! hold both: every function is a crate outside this workspace, with a lock file of its own and a build directory
//! that all functions share.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::Deserialize;

use super::{plugin::PANIC_LINE, source::Source};
use crate::error::FeatureError;

/// Version of the plugin crate whose interface [`super::plugin`] speaks.
pub const PLUGIN_VERSION: &str = "0.2.0";

/// With 0.2.0 of it a newer chrono is chosen, with which arrow 51 does not compile.
const COMMON_VERSION: &str = "0.2.1";

/// What the plugin crate brings along and a function does not run; optimising it is most of a first build.
const UNUSED_CODE: [&str; 11] = [
    "arrow-arith",
    "arrow-cast",
    "arrow-csv",
    "arrow-ipc",
    "arrow-json",
    "arrow-ord",
    "arrow-row",
    "arrow-string",
    "flatbuffers",
    "syn",
    "tokio",
];

/// Where functions are built.
#[derive(Debug, Clone)]
pub struct Builder {
    dir: PathBuf,
}

/// A library that was built.
#[derive(Debug, Clone)]
pub struct Built {
    /// Where it is, for now.
    pub library: PathBuf,
    /// Version of the compiler.
    pub rustc: String,
}

impl Builder {
    /// Builds below this directory; kept, it makes the next build one of seconds.
    pub fn new(dir: &Path) -> Builder {
        Builder { dir: dir.to_owned() }
    }

    /// Builds the library of a source; `file` is the source's name in the compiler's messages, and `progress` is
    /// told what cargo is doing.
    ///
    /// # Errors
    /// `Request` when the source does not compile, with the compiler's words; `Unavailable` when there is no cargo
    /// or no package registry.
    pub fn build(
        &self,
        source: &Source,
        file: &str,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Built, FeatureError> {
        source.runs_here()?;
        let rustc = version("rustc")?;
        version("cargo")?;
        let krate = self.dir.join("crates").join(&source.name);
        let source_file = krate.join("src/lib.rs");
        write(&krate.join("Cargo.toml"), &manifest(source))?;
        write(&source_file, &format!("{}{}", source.text.trim_end(), panic_hook()))?;
        let mut cargo = Command::new("cargo")
            .args(["build", "--release", "--message-format=json-render-diagnostics", "--target-dir"])
            .arg(std::path::absolute(self.dir.join("target")).map_err(|e| on_file("find", &self.dir, &e))?)
            .current_dir(&krate)
            // Another target's library could not be loaded here.
            .env_remove("CARGO_BUILD_TARGET")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| no_cargo("cargo", &e))?;
        let stdout = cargo.stdout.take();
        let library = std::thread::spawn(move || stdout.and_then(|out| library_in(BufReader::new(out))));
        let mut said = String::new();
        if let Some(stderr) = cargo.stderr.take() {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                progress(line.trim());
                said.push_str(&line);
                said.push('\n');
            }
        }
        let status = cargo.wait().map_err(|e| no_cargo("cargo", &e))?;
        match library.join() {
            Ok(Some(library)) if status.success() => Ok(Built { library, rustc }),
            _ => Err(failed(source, file, &said)),
        }
    }
}

/// The crate's manifest.
fn manifest(source: &Source) -> String {
    let mut dependencies = source.dependencies.clone();
    let pinned = |v: &str| toml::Value::String(format!("={v}"));
    dependencies.insert("arroyo-udf-plugin".into(), pinned(PLUGIN_VERSION));
    dependencies.insert("arroyo-udf-common".into(), pinned(COMMON_VERSION));
    let mut table = toml::Table::new();
    table.insert("dependencies".into(), toml::Value::Table(dependencies));
    // The plugin's macro needs arrow too: with the same features (resolver 1) and optimised alike, the two share one
    // build of it.
    // With `[workspace]` the crate is none of the workspace it may be built in.
    let unoptimised: String = UNUSED_CODE
        .iter()
        .map(|name| format!("[profile.release.package.{name}]\nopt-level = 0\n\n"))
        .collect();
    format!(
        "[package]\nname = \"kairos-udf-{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\npublish = false\n\n\
         [lib]\nname = \"udf_{name}\"\ncrate-type = [\"cdylib\"]\n\n{table}\n\
         [profile.release]\npanic = \"unwind\"\ndebug = false\nstrip = \"debuginfo\"\nincremental = false\n\n\
         [profile.release.build-override]\nopt-level = 3\n\n\
         {unoptimised}[workspace]\nresolver = \"1\"\n",
        name = source.name,
    )
}

/// Stands after the source, so that the source's lines keep their numbers: a panic is told by its line, and its
/// message, which may hold a person's data, is not printed.
fn panic_hook() -> String {
    format!(
        r#"

#[doc(hidden)]
mod __kairos {{
    use std::{{cell::Cell, panic, sync::Once}};

    thread_local!(static LINE: Cell<u32> = const {{ Cell::new(0) }});
    static HOOK: Once = Once::new();

    #[unsafe(no_mangle)]
    pub extern "C" fn {PANIC_LINE}() -> u32 {{
        HOOK.call_once(|| {{
            panic::set_hook(Box::new(|info| {{
                let place = info.location().filter(|l| l.file().ends_with("lib.rs"));
                let _ = LINE.try_with(|line| line.set(place.map_or(0, |l| l.line())));
            }}));
        }});
        LINE.try_with(|line| line.replace(0)).unwrap_or(0)
    }}
}}
"#
    )
}

#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    filenames: Vec<PathBuf>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    crate_types: Vec<String>,
}

/// The library among cargo's messages.
fn library_in(messages: impl BufRead) -> Option<PathBuf> {
    let mut library = None;
    for line in messages.lines().map_while(Result::ok) {
        let Ok(m) = serde_json::from_str::<Message>(&line) else { continue };
        let is_library = m.target.is_some_and(|t| t.crate_types.iter().any(|c| c == "cdylib"));
        if m.reason == "compiler-artifact" && is_library {
            let ours = |f: &PathBuf| f.extension().is_some_and(|e| e == std::env::consts::DLL_EXTENSION);
            library = m.filenames.into_iter().find(ours);
        }
    }
    library
}

/// Why cargo failed, in its words.
fn failed(source: &Source, file: &str, said: &str) -> FeatureError {
    let unreachable = [
        "failed to download",
        "Could not resolve host",
        "could not resolve host",
        "Could not connect",
        "failed to fetch",
        "unable to update registry",
        "Unable to update registry",
        "network failure",
        "attempting to make an HTTP request",
    ];
    if unreachable.iter().any(|u| said.contains(u)) {
        return FeatureError::Unavailable(format!(
            "{}() cannot be built: cargo cannot reach its package registry. It said:\n{}",
            source.name,
            last_lines(said, 12)
        ));
    }
    let compiler: Vec<&str> = said
        .lines()
        .skip_while(|l| !(l.starts_with("error") || l.starts_with("warning")))
        .filter(|l| !l.trim_start().starts_with("Compiling "))
        .collect();
    let words = compiler.join("\n").replace("src/lib.rs", file);
    let hint = if words.contains("chrono") && words.contains("failed to select a version") {
        "\narroyo-udf-plugin needs a chrono below 0.4.40; ask for one in [dependencies], such as chrono = \"0.4\""
    } else {
        ""
    };
    FeatureError::Request(format!("{file} does not compile:\n{}{hint}", words.trim_end()))
}

fn last_lines(text: &str, n: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(n)..].join("\n")
}

fn version(program: &str) -> Result<String, FeatureError> {
    let mut said = String::new();
    let mut child = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| no_cargo(program, &e))?;
    if let Some(out) = &mut child.stdout {
        out.read_to_string(&mut said).map_err(|e| no_cargo(program, &e))?;
    }
    child.wait().map_err(|e| no_cargo(program, &e))?;
    Ok(said.trim().to_owned())
}

fn no_cargo(program: &str, e: &std::io::Error) -> FeatureError {
    FeatureError::Unavailable(format!(
        "a user function is built by Rust's own tools, and `{program}` cannot be started ({e}); install Rust \
         (https://rustup.rs), see that `{program}` is on the PATH, and try again"
    ))
}

/// Writes what is not there yet, so that cargo finds unchanged files unchanged.
fn write(path: &Path, text: &str) -> Result<(), FeatureError> {
    if std::fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    path.parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| std::fs::write(path, text))
        .map_err(|e| on_file("write", path, &e))
}

fn on_file(what: &str, path: &Path, e: &std::io::Error) -> FeatureError {
    FeatureError::Unavailable(format!("cannot {what} {}: {e}; check udfs.build_dir", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_is_a_crate_of_its_own_with_the_sources_dependencies() {
        let text = "/*\n[dependencies]\nlibm = \"0.2\"\n*/\n#[udf] fn f(a: f64) -> f64 { a }";
        let manifest = manifest(&Source::parse("f.rs", text).unwrap());
        let table: toml::Table = manifest.parse().unwrap();
        assert_eq!(table["dependencies"]["libm"].as_str(), Some("0.2"));
        assert_eq!(table["dependencies"]["arroyo-udf-plugin"].as_str(), Some("=0.2.0"));
        assert_eq!(table["lib"]["crate-type"][0].as_str(), Some("cdylib"));
        assert!(table["workspace"].is_table());
    }

    #[test]
    fn the_library_is_found_among_cargos_messages() {
        let extension = std::env::consts::DLL_EXTENSION;
        let messages = format!(
            "{{\"reason\":\"compiler-artifact\",\"target\":{{\"crate_types\":[\"lib\"]}},\"filenames\":[\"/a.rlib\"]}}\n\
             not json\n\
             {{\"reason\":\"compiler-artifact\",\"target\":{{\"crate_types\":[\"cdylib\"]}},\"filenames\":[\"/l.{extension}\"]}}\n\
             {{\"reason\":\"build-finished\",\"success\":true}}\n"
        );
        assert_eq!(library_in(messages.as_bytes()), Some(PathBuf::from(format!("/l.{extension}"))));
        assert_eq!(library_in(&b"{}"[..]), None);
    }

    #[test]
    fn an_unreachable_registry_is_not_taken_for_a_mistake() {
        let source = Source::parse("f.rs", "#[udf] fn f(a: f64) -> f64 { a }").unwrap();
        let e = failed(&source, "f.rs", "error: failed to get `x`\n  Could not resolve host: example.org\n");
        assert!(matches!(e, FeatureError::Unavailable(_)), "{e}");
        let e = failed(&source, "my/f.rs", "   Compiling x v1\nerror[E0308]: no\n --> src/lib.rs:1:4\n");
        assert!(matches!(&e, FeatureError::Request(m) if m.contains("--> my/f.rs:1:4")), "{e}");
    }
}
