//! Lists the shipped feature views, so that a new file in `views/` needs no line of code.

use std::{env, fmt::Write, fs, path::Path};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = env::var("CARGO_MANIFEST_DIR")?;
    let dir = Path::new(&root).join("views");
    println!("cargo::rerun-if-changed={}", dir.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".sql") {
            names.push(name);
        }
    }
    names.sort();
    let mut list = String::from("[");
    for name in names {
        writeln!(list, "({:?}, include_str!({:?})),", format!("features/views/{name}"), dir.join(&name))?;
    }
    list.push(']');
    fs::write(Path::new(&env::var("OUT_DIR")?).join("views.rs"), list)?;
    Ok(())
}
