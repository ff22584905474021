//! Texts as numbers, for `count(DISTINCT text)`.
//!
//! Text has no group accumulator for distinct counts: DataFusion would set up a hash table of some kilobytes for
//! every entity and window. Numbers have one. A text's number means something within one batch only, so that
//! states that outlive it hold the texts.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Builder, ListArray, StringBuilder},
    datatypes::{DataType, Field, FieldRef, Int64Type},
};
use hashbrown::HashMap;

/// A number for each text, the same for the same text.
#[derive(Default)]
pub(crate) struct Codes<'t> {
    known: HashMap<&'t str, i64, ahash::RandomState>,
    texts: Vec<&'t str>,
}

impl<'t> Codes<'t> {
    fn code(&mut self, text: &'t str) -> i64 {
        *self.known.entry(text).or_insert_with(|| {
            self.texts.push(text);
            self.texts.len() as i64 - 1
        })
    }

    /// The numbers of a column of texts.
    pub(crate) fn of(&mut self, texts: &'t ArrayRef) -> ArrayRef {
        let texts = texts.as_string::<i32>();
        let mut coded = Int64Builder::with_capacity(texts.len());
        for text in texts {
            coded.append_option(text.map(|text| self.code(text)));
        }
        Arc::new(coded.finish())
    }

    /// Lists of texts as lists of numbers, whose elements are declared as `field`.
    pub(crate) fn of_lists(&mut self, lists: &'t ArrayRef, field: &FieldRef) -> ArrayRef {
        let lists = lists.as_list::<i32>();
        let values = self.of(lists.values());
        Arc::new(ListArray::new(field.clone(), lists.offsets().clone(), values, lists.nulls().cloned()))
    }

    /// Lists of numbers given out here, as lists of texts.
    pub(crate) fn texts_of(&self, lists: &ArrayRef) -> ArrayRef {
        let lists = lists.as_list::<i32>();
        let mut texts = StringBuilder::with_capacity(lists.values().len(), 0);
        for code in lists.values().as_primitive::<Int64Type>() {
            texts.append_option(code.and_then(|c| self.texts.get(c as usize)));
        }
        let texts = Arc::new(texts.finish());
        Arc::new(ListArray::new(list_of_texts(), lists.offsets().clone(), texts, lists.nulls().cloned()))
    }
}

/// The elements of a list of texts.
pub(crate) fn list_of_texts() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Utf8, true))
}
