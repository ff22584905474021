//! Finding protobuf files and turning them into descriptors.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use prost_reflect::{DescriptorPool, FileDescriptor};
use protox::{
    Compiler,
    file::{ChainFileResolver, File, FileResolver, GoogleFileResolver},
};

use super::{builtin, error::Problem};

/// Files that may import each other: one directory, or the built-in ones.
pub(crate) struct Source {
    /// What stands before a file's name in messages.
    pub(crate) root: PathBuf,
    /// Text by import name.
    pub(crate) files: BTreeMap<String, String>,
}

impl Source {
    /// Files held in memory.
    pub(crate) fn in_memory(root: &str, files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
        Source { root: root.into(), files }
    }

    /// Every `*.proto` below a directory, except copies of what the program brings itself.
    pub(crate) fn directory(root: &Path) -> Result<Self, Problem> {
        let mut files = BTreeMap::new();
        let mut below = vec![root.to_path_buf()];
        while let Some(directory) = below.pop() {
            for entry in fs::read_dir(&directory).map_err(|e| unreadable(&directory, &e))? {
                let path = entry.map_err(|e| unreadable(&directory, &e))?.path();
                if path.is_dir() {
                    below.push(path);
                } else if path.extension().is_some_and(|e| e == "proto") {
                    let name = import_name(root, &path);
                    if !brought_along(&name) {
                        let text = fs::read_to_string(&path).map_err(|e| unreadable(&path, &e))?;
                        files.insert(name, text);
                    }
                }
            }
        }
        Ok(Source { root: root.to_path_buf(), files })
    }

    /// Where something stands, for a message: the file and the line, if known.
    pub(crate) fn place(&self, file: &FileDescriptor, path: &[i32]) -> String {
        let shown = if self.files.contains_key(file.name()) {
            self.root.join(file.name()).display().to_string()
        } else {
            file.name().to_owned()
        };
        match location(file, path).and_then(|l| l.span.first()) {
            Some(line) => format!("{shown}:{}", line + 1),
            None => shown,
        }
    }

    /// Compiles every file; what compiles is in the pool even if others do not.
    pub(crate) fn compile(&self) -> (DescriptorPool, Vec<Problem>) {
        let mut resolver = ChainFileResolver::new();
        resolver.add(InMemory::brought());
        resolver.add(InMemory(self.files.clone()));
        resolver.add(InMemory::built_in());
        resolver.add(GoogleFileResolver::new());
        let mut compiler = Compiler::with_file_resolver(resolver);
        compiler.include_source_info(true);
        let mut problems: Vec<Problem> = Vec::new();
        for name in self.files.keys() {
            if let Err(error) = compiler.open_file(name) {
                let problem = self.problem(&error);
                // A file others import fails once for each of them.
                if !problems.contains(&problem) {
                    problems.push(problem);
                }
            }
        }
        (compiler.descriptor_pool(), problems)
    }

    /// protox puts `file:line:column: ` before its message where it knows them.
    fn problem(&self, error: &protox::Error) -> Problem {
        let text = format!("{error:?}");
        let Some(after) = error.file().and_then(|f| text.strip_prefix(f)) else {
            let place = error.file().map_or(self.root.clone(), |f| self.root.join(f));
            return Problem { place: place.display().to_string(), what: error.to_string() };
        };
        let file = self.root.join(error.file().unwrap_or_default()).display().to_string();
        let line = after.trim_start_matches(':').split([':', ' ']).next().unwrap_or_default();
        let place = match line.parse::<u32>() {
            Ok(line) => format!("{file}:{line}"),
            Err(_) => file,
        };
        Problem { place, what: error.to_string() }
    }
}

/// The comment before a declaration, joined to one paragraph a blank line.
pub(crate) fn doc(file: &FileDescriptor, path: &[i32]) -> String {
    let comment = location(file, path).map(|l| l.leading_comments()).unwrap_or_default();
    let lines: Vec<&str> = comment.lines().map(str::trim).collect();
    lines.join("\n").trim().replace("\n\n", "\0").replace('\n', " ").replace('\0', "\n\n")
}

fn location<'f>(
    file: &'f FileDescriptor,
    path: &[i32],
) -> Option<&'f prost_types::source_code_info::Location> {
    let info = file.file_descriptor_proto().source_code_info.as_ref()?;
    info.location.iter().find(|l| l.path == path)
}

fn import_name(root: &Path, path: &Path) -> String {
    let parts = path.strip_prefix(root).unwrap_or(path).components();
    parts.map(|c| c.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

fn brought_along(name: &str) -> bool {
    name == builtin::OPTIONS.0 || name.starts_with("google/protobuf/")
}

fn unreadable(path: &Path, error: &std::io::Error) -> Problem {
    Problem {
        place: path.display().to_string(),
        what: format!("{error}; a directory of readable .proto files is needed here"),
    }
}

struct InMemory(BTreeMap<String, String>);

impl InMemory {
    fn brought() -> Self {
        InMemory(BTreeMap::from([(builtin::OPTIONS.0.to_owned(), builtin::OPTIONS.1.to_owned())]))
    }

    fn built_in() -> Self {
        InMemory(builtin::FILES.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect())
    }
}

impl FileResolver for InMemory {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.0.get(name) {
            Some(text) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}
