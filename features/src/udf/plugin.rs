//! A function's library, loaded, and calls into it.
#![allow(unsafe_code)]

use std::{
    fmt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use arrow::{
    array::{Array, ArrayRef, BinaryArray, Float64Array, StringArray, new_null_array},
    compute::{cast, concat},
    datatypes::DataType,
};
use datafusion::error::DataFusionError;
use libloading::Library;

use super::{
    abi, metrics,
    source::{Kind, Source},
};
use crate::error::FeatureError;

/// Symbol the builder adds beside the function: line of the last panic of the calling thread, 0 for none.
pub(super) const PANIC_LINE: &str = "__kairos_panic_line";

/// A loaded function.
pub struct Plugin {
    source: Source,
    run: abi::Run,
    panic_line: Option<extern "C" fn() -> u32>,
    /// Line of the last panic.
    line: AtomicU32,
    /// Whether a panic was logged.
    told: AtomicBool,
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.source.signature(), self.source.hash)
    }
}

impl PartialEq for Plugin {
    fn eq(&self, other: &Self) -> bool {
        self.source.hash == other.source.hash
    }
}

impl Eq for Plugin {}

impl std::hash::Hash for Plugin {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.source.hash.hash(state);
    }
}

impl Plugin {
    /// Loads a library that was built from this source. Its code runs from here on: load what was built here,
    /// nothing else.
    ///
    /// # Errors
    /// A library that cannot be loaded, or lacks the function.
    pub fn load(source: Source, library: &Path) -> Result<Plugin, FeatureError> {
        let wrong = |e: libloading::Error| {
            FeatureError::Damaged(format!(
                "{}() cannot be loaded from {}: {e}; build it again with `kairos udf add`",
                source.name,
                library.display()
            ))
        };
        source.runs_here()?;
        // SAFETY: the library was built from the source by the builder (the folder compares its hash), so its
        // start-up code is Rust's own, and `__run` has the type that arroyo-udf-plugin 0.2 gives it.
        unsafe {
            let loaded = Library::new(library).map_err(&wrong)?;
            let run = *loaded.get::<abi::Run>("__run").map_err(&wrong)?;
            let panic_line = loaded.get::<extern "C" fn() -> u32>(PANIC_LINE).ok().map(|f| *f);
            if let Some(line) = panic_line {
                // From the first call on, the library's panics are kept by their line and not printed.
                line();
            }
            metrics::loaded(&source.name);
            // Never unloaded: threads may hold values of it that are dropped when they end.
            std::mem::forget(loaded);
            Ok(Plugin { source, run, panic_line, line: AtomicU32::new(0), told: AtomicBool::new(false) })
        }
    }

    /// The source it was built from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Calls the function with a column for each argument: row by row, or once with the columns as lists. NULL
    /// stands for what made the function panic: one value must not stand in the way of all others, and every
    /// computation of it gives the same. Such values are counted.
    ///
    /// # Errors
    /// Arguments, or a result, that are not those of the source.
    pub fn call(&self, arguments: &[ArrayRef]) -> Result<ArrayRef, DataFusionError> {
        match self.attempt(arguments)? {
            Some(result) => Ok(result),
            None if self.source.kind == Kind::Aggregate || arguments[0].len() <= 1 => {
                metrics::panicked(&self.source.name);
                if !self.told.swap(true, Ordering::Relaxed) {
                    tracing::error!(
                        function = self.source.name,
                        line = self.line.load(Ordering::Relaxed),
                        "a user function panicked; the value is NULL; mend the function and add it again"
                    );
                }
                Ok(new_null_array(&self.source.returns, 1))
            }
            None => {
                let (rows, half) = (arguments[0].len(), arguments[0].len() / 2);
                let part = |from, len| arguments.iter().map(|a| a.slice(from, len)).collect::<Vec<_>>();
                let (first, second) = (self.call(&part(0, half))?, self.call(&part(half, rows - half))?);
                Ok(concat(&[first.as_ref(), second.as_ref()])?)
            }
        }
    }

    /// `None` after a panic, which loses nothing but the call.
    fn attempt(&self, arguments: &[ArrayRef]) -> Result<Option<ArrayRef>, DataFusionError> {
        let rows = arguments.first().map_or(0, |a| a.len());
        let fitting = arguments.len() == self.source.arguments.len()
            && arguments
                .iter()
                .zip(&self.source.arguments)
                .all(|(a, declared)| a.len() == rows && *a.data_type() == declared.data_type);
        if !fitting {
            let found: Vec<_> = arguments.iter().map(|a| a.data_type().to_string()).collect();
            let what = format!("called with ({}), it is {}", found.join(", "), self.source.signature());
            return Err(self.fails(what));
        }
        let lent = abi::arguments(arguments).map_err(|e| self.fails(e))?;
        // SAFETY: `run` is the library's `__run`, which stays loaded; the arguments have number and types of the
        // source it was built from.
        let answer = unsafe { (self.run)(lent) };
        let result = match answer {
            abi::Answer::Ok(result) => abi::take(result, &self.source.returns).map_err(|e| self.fails(e))?,
            abi::Answer::Err => {
                self.line.store(self.panic_line.map_or(0, |line| line()), Ordering::Relaxed);
                return Ok(None);
            }
        };
        let wanted = if self.source.kind == Kind::Aggregate { 1 } else { rows };
        if result.len() != wanted {
            return Err(self.fails(format!("gave {} values for {wanted}", result.len())));
        }
        Ok(Some(result))
    }

    fn fails(&self, what: String) -> DataFusionError {
        DataFusionError::Execution(format!("user function {}(): {what}", self.source.name))
    }

    /// Calls it with sample values (zero, one, halves, large, negative, NULL, none at all) and tells whether it
    /// answers as its source says.
    ///
    /// # Errors
    /// As of a call; a panic, with the line of the source.
    pub fn try_out(&self) -> Result<(), DataFusionError> {
        let sample = |t: &DataType| -> Result<ArrayRef, DataFusionError> {
            let array: ArrayRef = match t {
                DataType::Utf8 => {
                    Arc::new(StringArray::from(vec![Some(""), Some("a"), Some("ä b"), None, Some("1")]))
                }
                DataType::Binary => Arc::new(BinaryArray::from_opt_vec(vec![
                    Some(b"".as_slice()),
                    Some(b"\0"),
                    Some(b"ab"),
                    None,
                    Some(b"\xff"),
                ])),
                number => {
                    let values = Float64Array::from(vec![Some(0.0), Some(1.0), Some(12.5), None, Some(-3.0)]);
                    // A negative number becomes NULL where the type has none.
                    cast(&values, number)?
                }
            };
            Ok(array)
        };
        let types = self.source.arguments.iter().map(|a| &a.data_type);
        let columns = types.map(sample).collect::<Result<Vec<_>, _>>()?;
        for (from, len) in [(0, 5), (1, 2), (2, 1), (3, 1)] {
            let sample: Vec<_> = columns.iter().map(|c| c.slice(from, len)).collect();
            if self.attempt(&sample)?.is_none() {
                let line = self.line.load(Ordering::Relaxed);
                return Err(
                    self.fails(format!("panicked at line {line} of its source; give None, or mend it"))
                );
            }
        }
        Ok(())
    }
}
