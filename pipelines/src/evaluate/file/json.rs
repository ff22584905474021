//! Rows of JSON lines, read straight into columns.

use std::{fmt, io::BufRead};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::rows::{Group, Rows, Slot};
use crate::evaluate::encode::Cell;

/// Longest line.
const LONGEST_LINE: u64 = 16 << 20;

/// Reads every line that is not blank as a row; `each` hears after each of them.
///
/// # Errors
/// What is wrong, with the row.
pub(super) fn read(lines: impl BufRead, rows: &mut Rows, each: impl FnMut(&Rows)) -> Result<(), String> {
    read_from(lines, 0, rows, each)
}

/// The same, with numbers of rows from after `before`.
pub(super) fn read_from(
    mut lines: impl BufRead,
    before: u64,
    rows: &mut Rows,
    mut each: impl FnMut(&Rows),
) -> Result<(), String> {
    let mut line = Vec::new();
    for number in before + 1.. {
        line.clear();
        let at = |e: &dyn fmt::Display| format!("row {number}: {e}");
        let length = std::io::Read::take(&mut lines, LONGEST_LINE + 1)
            .read_until(b'\n', &mut line)
            .map_err(|e| at(&e))?;
        if length == 0 {
            return Ok(());
        }
        if length as u64 > LONGEST_LINE {
            return Err(at(&format!("it is longer than {LONGEST_LINE} bytes")));
        }
        let text = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&line);
        if text.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        rows.at = number;
        let mut from = serde_json::Deserializer::from_slice(text);
        let row = Object { rows, group: Group::Top, prefix: "" };
        row.deserialize(&mut from).and_then(|()| from.end()).map_err(|e| at(&plainly(&e)))?;
        rows.finish();
        each(rows);
    }
    Ok(())
}

/// The line of the file is told already; serde's is always 1.
fn plainly(e: &serde_json::Error) -> String {
    let text = e.to_string();
    let place = format!(" at line {} column {}", e.line(), e.column());
    match text.strip_suffix(&place) {
        Some(what) => format!("{what} at character {}", e.column()),
        None => text,
    }
}

/// An object whose values go to columns of a group.
struct Object<'r> {
    rows: &'r mut Rows,
    group: Group,
    /// Names of the objects around it within the group.
    prefix: &'r str,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object a line, such as {\"action\": …, \"propensity\": …, \"reward\": …}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Object { rows, group, prefix } = self;
        while let Some(name) = map.next_key_seed(Name)? {
            map.next_value_seed(column(rows, group, prefix, &name)?)?;
        }
        Ok(())
    }
}

fn column<'r, E: Error>(
    rows: &'r mut Rows,
    group: Group,
    prefix: &str,
    name: &'r str,
) -> Result<Field<'r>, E> {
    let whole =
        if prefix.is_empty() { std::borrow::Cow::from(name) } else { format!("{prefix}.{name}").into() };
    Ok(Field { rows, group, name: whole })
}

/// A key, borrowed where it can be.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = std::borrow::Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = std::borrow::Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(name.into())
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(name.to_owned().into())
    }
}

/// A value on its way to its column.
struct Field<'r> {
    rows: &'r mut Rows,
    group: Group,
    name: std::borrow::Cow<'r, str>,
}

impl Field<'_> {
    fn slot<E: Error>(&mut self) -> Result<Slot, E> {
        self.rows.slot(self.group, &self.name).map_err(E::custom)
    }

    fn set<E: Error>(mut self, cell: Cell<'_>) -> Result<(), E> {
        let slot = match self.slot()? {
            // A context of one value.
            Slot::Group(Group::Context) => self.rows.slot(Group::Context, "ctx").map_err(E::custom)?,
            slot => slot,
        };
        self.rows.set(slot, cell).map_err(E::custom)
    }

    /// Whether its value is a name, whatever it looks like.
    fn names(&self) -> bool {
        self.group == Group::Top && matches!(&*self.name, "action" | "position")
    }

    /// The group and prefix of what is in an object or list; nothing where it is of no use.
    fn inside<E: Error>(&mut self) -> Result<Option<(Group, String)>, E> {
        if self.group == Group::Context {
            return Ok(Some((Group::Context, self.name.to_string())));
        }
        if self.group == Group::Top
            && let Some(("ctx" | "context", rest)) = self.name.split_once('.')
        {
            return Ok(Some((Group::Context, rest.to_owned())));
        }
        match self.slot()? {
            Slot::Group(group) => Ok(Some((group, String::new()))),
            Slot::Ignored => Ok(None),
            _ => Err(E::custom(format!("column `{}` must be one plain value", self.name))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Field<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: Error>(self, v: bool) -> Result<(), E> {
        // As an action, a flag is called by its name.
        let text = if v { "true" } else { "false" };
        let cell = if self.names() { Cell::Text(text) } else { Cell::Number(f64::from(u8::from(v))) };
        self.set(cell)
    }

    fn visit_i64<E: Error>(self, v: i64) -> Result<(), E> {
        // A double would round large ids.
        if self.names() { self.set(Cell::Text(&v.to_string())) } else { self.set(Cell::Number(v as f64)) }
    }

    fn visit_u64<E: Error>(self, v: u64) -> Result<(), E> {
        if self.names() { self.set(Cell::Text(&v.to_string())) } else { self.set(Cell::Number(v as f64)) }
    }

    fn visit_f64<E: Error>(self, v: f64) -> Result<(), E> {
        self.set(Cell::Number(v))
    }

    fn visit_str<E: Error>(self, v: &str) -> Result<(), E> {
        self.set(Cell::Text(v))
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.set(Cell::Missing)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        match self.inside()? {
            Some((group, prefix)) => Object { rows: self.rows, group, prefix: &prefix }.visit_map(map),
            None => {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(())
            }
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        match self.inside()? {
            Some((group, prefix)) => {
                for number in 0.. {
                    let name = number.to_string();
                    if list.next_element_seed(column(self.rows, group, &prefix, &name)?)?.is_none() {
                        break;
                    }
                }
            }
            None => while list.next_element::<IgnoredAny>()?.is_some() {},
        }
        Ok(())
    }
}
