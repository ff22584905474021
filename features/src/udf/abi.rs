//! What passes between the program and a function's library: the Arrow C data interface, and around it the two
//! structs of `arroyo-udf-plugin` 0.2.
//!
//! Only flat arrays pass: numbers, text and bytes. Arguments are lent without copying; the library gives them back
//! by the release callback they carry. Results are copied out and released at once, so that nothing of a library's
//! memory outlives the call. Arrow's own `ffi` module is not compiled in; these are the same C structs.
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    ffi::{CStr, c_char, c_void},
    ptr,
};

use arrow::{
    array::{Array, ArrayData, ArrayRef, make_array},
    buffer::{BooleanBuffer, Buffer, NullBuffer},
    datatypes::DataType,
};

/// `struct ArrowSchema` of the C data interface.
#[repr(C)]
pub(super) struct CSchema {
    format: *const c_char,
    name: *const c_char,
    metadata: *const c_char,
    flags: i64,
    n_children: i64,
    children: *mut *mut CSchema,
    dictionary: *mut CSchema,
    release: Option<unsafe extern "C" fn(*mut CSchema)>,
    private_data: *mut c_void,
}

/// `struct ArrowArray` of the C data interface.
#[repr(C)]
pub(super) struct CArray {
    length: i64,
    null_count: i64,
    offset: i64,
    n_buffers: i64,
    n_children: i64,
    buffers: *mut *const c_void,
    children: *mut *mut CArray,
    dictionary: *mut CArray,
    release: Option<unsafe extern "C" fn(*mut CArray)>,
    private_data: *mut c_void,
}

/// An array with its type.
#[repr(C)]
pub(super) struct ArraySchema(CArray, CSchema);

/// The arguments of a call. The library frees the buffer, by its own allocator.
#[repr(C)]
pub(super) struct Arguments {
    buffer: *mut ArraySchema,
    len: usize,
    capacity: usize,
    error: bool,
}

/// What a call answers; `Err` after a panic, which the library has caught.
#[repr(C)]
#[allow(dead_code, reason = "made by the library")]
pub(super) enum Answer {
    Ok(ArraySchema),
    Err,
}

/// `__run` of a library.
pub(super) type Run = unsafe extern "C-unwind" fn(Arguments) -> Answer;

impl Drop for CSchema {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: a struct that still has its callback is owned by us and not yet released.
            unsafe { release(self) }
        }
    }
}

impl Drop for CArray {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: as above.
            unsafe { release(self) }
        }
    }
}

/// Name of a type in the C data interface, and bytes a value takes where that is fixed.
fn format(t: &DataType) -> Option<(&'static CStr, Option<usize>)> {
    use DataType::*;
    Some(match t {
        Int8 => (c"c", Some(1)),
        UInt8 => (c"C", Some(1)),
        Int16 => (c"s", Some(2)),
        UInt16 => (c"S", Some(2)),
        Int32 => (c"i", Some(4)),
        UInt32 => (c"I", Some(4)),
        Int64 => (c"l", Some(8)),
        UInt64 => (c"L", Some(8)),
        Float32 => (c"f", Some(4)),
        Float64 => (c"g", Some(8)),
        Utf8 => (c"u", None),
        Binary => (c"z", None),
        _ => return None,
    })
}

/// Buffers lent out, alive until the release callback.
struct Lent {
    _buffers: Vec<Buffer>,
    pointers: Vec<*const c_void>,
}

unsafe extern "C" fn release_array(array: *mut CArray) {
    // SAFETY: called once, by the contract of the interface, with the struct `lend` made: `private_data` is the
    // Lent that was boxed there.
    unsafe {
        drop(Box::from_raw((*array).private_data.cast::<Lent>()));
        (*array).private_data = ptr::null_mut();
        (*array).release = None;
    }
}

unsafe extern "C" fn release_schema(schema: *mut CSchema) {
    // SAFETY: called once, by the contract of the interface; all a schema of ours points to is static.
    unsafe { (*schema).release = None }
}

/// Lends an array to a library.
fn lend(array: &dyn Array) -> Result<ArraySchema, String> {
    let data = array.to_data();
    let unsupported = || format!("{} cannot be passed to a user function", data.data_type());
    let (format, width) = format(data.data_type()).ok_or_else(unsupported)?;
    let (offset, len) = (data.offset(), data.len());
    let slice = |b: &Buffer, width: usize, n: usize| b.slice_with_length(offset * width, n * width);
    let mut buffers = match width {
        Some(width) => vec![slice(&data.buffers()[0], width, len)],
        None => vec![slice(&data.buffers()[0], 4, len + 1), data.buffers()[1].clone()],
    };
    let mut pointers = Vec::with_capacity(3);
    let nulls = data.nulls().map(|n| n.inner().sliced());
    pointers.push(nulls.as_ref().map_or(ptr::null(), |n| n.as_ptr().cast()));
    pointers.extend(buffers.iter().map(|b| b.as_ptr().cast::<c_void>()));
    buffers.extend(nulls);
    let mut lent = Box::new(Lent { _buffers: buffers, pointers });
    let array = CArray {
        length: len as i64,
        null_count: data.null_count() as i64,
        offset: 0,
        n_buffers: lent.pointers.len() as i64,
        n_children: 0,
        buffers: lent.pointers.as_mut_ptr(),
        children: ptr::null_mut(),
        dictionary: ptr::null_mut(),
        release: Some(release_array),
        private_data: Box::into_raw(lent).cast(),
    };
    const NULLABLE: i64 = 2;
    let schema = CSchema {
        format: format.as_ptr(),
        name: c"".as_ptr(),
        metadata: ptr::null(),
        flags: NULLABLE,
        n_children: 0,
        children: ptr::null_mut(),
        dictionary: ptr::null_mut(),
        release: Some(release_schema),
        private_data: ptr::null_mut(),
    };
    Ok(ArraySchema(array, schema))
}

/// Lends the arguments of a call.
pub(super) fn arguments(arrays: &[ArrayRef]) -> Result<Arguments, String> {
    let lent = arrays.iter().map(|a| lend(a)).collect::<Result<Vec<_>, _>>()?;
    let layout = Layout::array::<ArraySchema>(lent.len()).map_err(|e| e.to_string())?;
    if layout.size() == 0 {
        return Err("a user function takes at least one argument".into());
    }
    // The library makes a Vec of this buffer and frees it by its own allocator, which is the system's whatever
    // ours is.
    // SAFETY: the layout has a size; a failed allocation is checked for before anything is written, and every
    // write stays inside the buffer.
    let buffer = unsafe {
        let buffer = System.alloc(layout).cast::<ArraySchema>();
        if buffer.is_null() {
            return Err("no memory for the arguments".into());
        }
        for (i, a) in lent.into_iter().enumerate() {
            buffer.add(i).write(a);
        }
        buffer
    };
    Ok(Arguments { buffer, len: arrays.len(), capacity: arrays.len(), error: false })
}

/// Copies a result out and releases the library's memory.
pub(super) fn take(result: ArraySchema, expected: &DataType) -> Result<ArrayRef, String> {
    let ArraySchema(array, schema) = &result;
    let (wanted, width) = format(expected).ok_or_else(|| format!("no user function gives {expected}"))?;
    if schema.format.is_null() {
        return Err("the result has no type".into());
    }
    // SAFETY: not null, and by the contract of the interface a text that ends in a zero byte.
    let found = unsafe { CStr::from_ptr(schema.format) };
    if found != wanted {
        return Err(format!("the result is of type {found:?}, the source says {expected}"));
    }
    let fits = |n: i64| usize::try_from(n).ok();
    let (Some(len), Some(offset)) = (fits(array.length), fits(array.offset)) else {
        return Err("the result has a negative length".into());
    };
    let n_buffers = if width.is_some() { 2 } else { 3 };
    if array.n_buffers != n_buffers || array.buffers.is_null() || !array.dictionary.is_null() {
        return Err(format!("the result is no flat array of {expected}"));
    }
    let part = |which: usize, from: usize, bytes: usize| -> Result<Buffer, String> {
        if bytes == 0 {
            return Ok(Buffer::from_vec(Vec::<u64>::new()));
        }
        // SAFETY: `which` is below n_buffers, and by the contract of the interface each buffer that is not null
        // holds what length and offset say; `from` and `bytes` come from those.
        unsafe {
            let start = (*array.buffers.add(which)).cast::<u8>();
            if start.is_null() {
                return Err("the result lacks a buffer".into());
            }
            Ok(Buffer::from(std::slice::from_raw_parts(start.add(from), bytes)))
        }
    };
    // SAFETY: the first of n_buffers pointers; null says that no value is NULL.
    let all_valid = array.null_count == 0 || unsafe { (*array.buffers).is_null() };
    let nulls = match all_valid {
        true => None,
        false => {
            let bits = part(0, 0, (offset + len).div_ceil(8))?;
            Some(NullBuffer::new(BooleanBuffer::new(bits, offset, len)))
        }
    };
    let mut data = ArrayData::builder(expected.clone()).len(len).nulls(nulls);
    data = match width {
        Some(width) => data.add_buffer(part(1, offset * width, len * width)?),
        None => {
            let offsets = part(1, offset * 4, (len + 1) * 4)?;
            let end = offsets.typed_data::<i32>().last().and_then(|n| usize::try_from(*n).ok());
            let end = end.ok_or("the result has a negative offset")?;
            data.add_buffer(offsets).add_buffer(part(2, 0, end)?)
        }
    };
    // Checks lengths, offsets and UTF-8.
    Ok(make_array(data.build().map_err(|e| e.to_string())?))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BinaryArray, Float64Array, Int8Array, StringArray, UInt16Array};

    use super::*;

    fn there_and_back(array: ArrayRef) {
        let lent = lend(&array).unwrap();
        assert_eq!(take(lent, array.data_type()).unwrap().as_ref(), array.as_ref());
    }

    #[test]
    fn arrays_pass_unchanged_sliced_or_not() {
        let arrays: [ArrayRef; 5] = [
            Arc::new(Float64Array::from(vec![Some(1.5), None, Some(f64::MIN), Some(-0.0)])),
            Arc::new(Int8Array::from(vec![1, 2, 3, 4])),
            Arc::new(UInt16Array::from(vec![None, Some(9), None, Some(7)])),
            Arc::new(StringArray::from(vec![Some("päivä"), None, Some(""), Some("z")])),
            Arc::new(BinaryArray::from_opt_vec(vec![Some(b"ab".as_slice()), None, Some(b""), Some(b"\xff")])),
        ];
        for array in arrays {
            for (from, len) in [(0, 4), (1, 3), (3, 1), (2, 0)] {
                there_and_back(array.slice(from, len));
            }
        }
    }

    #[test]
    fn another_type_than_the_sources_is_refused() {
        let lent = lend(&Int8Array::from(vec![1])).unwrap();
        let message = take(lent, &DataType::Float64).unwrap_err();
        assert!(message.contains("the source says Float64"), "{message}");
        assert!(lend(&arrow::array::BooleanArray::from(vec![true])).is_err());
    }

    #[test]
    fn memory_lent_is_given_back() {
        let array: ArrayRef = Arc::new(Float64Array::from(vec![1.0; 100]));
        let buffer = array.to_data().buffers()[0].clone();
        let before = buffer.strong_count();
        let lent = lend(&array).unwrap();
        assert_eq!(buffer.strong_count(), before + 1);
        drop(lent);
        assert_eq!(buffer.strong_count(), before);
    }
}
