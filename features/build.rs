//! Lists the shipped feature views and user functions, so that a new file needs no line of code.

use std::{env, error::Error, fmt::Write, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let root = env::var("CARGO_MANIFEST_DIR")?;
    let root = Path::new(&root);
    let out = env::var("OUT_DIR")?;
    let out = Path::new(&out);

    let views = root.join("views");
    let mut list = String::from("[");
    for name in names(&views, ".sql")? {
        let file = format!("{name}.sql");
        writeln!(list, "({:?}, include_str!({:?})),", format!("features/views/{file}"), views.join(&file))?;
    }
    fs::write(out.join("views.rs"), list + "]")?;

    let udfs = root.join("udfs");
    let mut list = String::from("[");
    for name in names(&udfs, ".rs")? {
        let source = udfs.join(format!("{name}.rs"));
        let view = udfs.join(format!("views/{name}.sql"));
        writeln!(
            list,
            "Shipped {{ name: {name:?}, source: include_str!({source:?}), view: include_str!({view:?}) }},"
        )?;
    }
    fs::write(out.join("udfs.rs"), list + "]")?;
    Ok(())
}

/// Names of the files in a directory that end so, without the ending.
fn names(dir: &Path, ending: &str) -> Result<Vec<String>, Box<dyn Error>> {
    println!("cargo::rerun-if-changed={}", dir.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(ending).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}
