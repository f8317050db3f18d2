//! The rules for what C passes in: every pointer is checked for NULL and alignment, every struct carries its size,
//! every length is multiplied without overflow. What can't be checked (that the memory is there) is the caller's promise.

use std::ffi::{CStr, c_char};
use std::path::Path;

use crate::memory;
use crate::status::{BYOL_E_ABI, BYOL_E_BUFFER_TOO_SMALL, BYOL_E_NOT_FOUND, Fault, Result};

/// No struct of ours will ever be larger; a struct_size above it is uninitialised memory.
const MAXIMUM_STRUCT: usize = 64 * 1024;

/// A struct that grows only at its end and says in its first field how much of it the caller knows.
///
/// # Safety
/// `repr(C)`, starts with `struct_size: u32`, has no padding, and every bit pattern is a value of it.
pub(crate) unsafe trait Versioned: Copy + Default {
    /// Its name in C.
    const NAME: &'static str;
    /// Its size before it grew; its size where it never did. No other size below today's has ever been one.
    const MINIMUM: usize;
}

/// Reads and checks the struct_size at `pointer`, which is not NULL.
unsafe fn struct_size<T: Versioned>(pointer: *const T) -> Result<usize> {
    aligned(pointer, T::NAME)?;
    // SAFETY: at least the first field is there.
    let size = unsafe { pointer.cast::<u32>().read() } as usize;
    if size != T::MINIMUM && size < size_of::<T>() || size > MAXIMUM_STRUCT {
        let name = T::NAME;
        return Err(Fault::new(
            BYOL_E_ABI,
            format_args!("{name}.struct_size is {size}, {} is needed: start it with its INIT macro", size_of::<T>()),
        ));
    }
    // sizeof is a multiple of the alignment, so that a struct never ends inside a pointer or a 64-bit number: half of one
    // would be read as all of it.
    if !size.is_multiple_of(align_of::<T>()) {
        let (name, align) = (T::NAME, align_of::<T>());
        let why = format_args!("{name}.struct_size is {size}, no multiple of {align}: start it with its INIT macro");
        return Err(Fault::new(BYOL_E_ABI, why));
    }
    Ok(size)
}

/// Copies a struct that the caller filled in. A newer caller's extra fields must be zero, as this version can't obey them.
pub(crate) unsafe fn read<T: Versioned>(pointer: *const T, name: &str) -> Result<T> {
    if pointer.is_null() {
        return Err(Fault::null(name));
    }
    // SAFETY: not NULL, and the caller promises that struct_size bytes are there.
    unsafe {
        let size = struct_size(pointer)?;
        let known = size_of::<T>();
        if size > known {
            let tail = std::slice::from_raw_parts(pointer.cast::<u8>().add(known), size - known);
            if tail.iter().any(|&byte| byte != 0) {
                return Err(Fault::new(
                    BYOL_E_ABI,
                    format_args!(
                        "{name} sets a field of {} that libbyol {} does not know",
                        T::NAME,
                        env!("CARGO_PKG_VERSION")
                    ),
                ));
            }
        }
        let mut value = T::default();
        std::ptr::copy_nonoverlapping(pointer.cast::<u8>(), (&raw mut value).cast::<u8>(), size.min(known));
        Ok(value)
    }
}

/// Like [`read`], with NULL for the defaults.
pub(crate) unsafe fn options<T: Versioned>(pointer: *const T, name: &str) -> Result<T> {
    if pointer.is_null() {
        return Ok(T::default());
    }
    // SAFETY: as for `read`.
    unsafe { read(pointer, name) }
}

/// `count` structs that lie one behind the other, each as large as the first says.
pub(crate) unsafe fn structs<T: Versioned>(pointer: *const T, count: usize, name: &str) -> Result<Vec<T>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    if pointer.is_null() {
        return Err(Fault::null(name));
    }
    // SAFETY: the caller promises `count` structs of struct_size bytes.
    unsafe {
        let size = struct_size(pointer)?;
        length(count, size, name)?;
        let mut values = reserved(count, name)?;
        for item in 0..count {
            let at = pointer.byte_add(item * size);
            // Before anything else of it is read: where it says that it is larger, there may be nothing behind it.
            if at.cast::<u32>().read() as usize != size {
                return Err(Fault::new(
                    BYOL_E_ABI,
                    format_args!("{name}[{item}].struct_size differs from {name}[0]'s"),
                )
                .at(item));
            }
            values.push(read(at, name).map_err(|fault| fault.at(item))?);
        }
        Ok(values)
    }
}

/// Sets `size` bytes to the defaults of `T`; what lies behind them becomes zero.
pub(crate) unsafe fn init<T: Versioned>(pointer: *mut T, size: usize) {
    if pointer.is_null() || !pointer.is_aligned() || !(4..=MAXIMUM_STRUCT).contains(&size) {
        return;
    }
    // SAFETY: the caller owns `size` bytes here.
    unsafe { store(pointer, T::default(), size) };
}

/// Writes the first `size` bytes of `value`, zeros behind what this version knows, and `size` as struct_size.
unsafe fn store<T: Versioned>(pointer: *mut T, value: T, size: usize) {
    let known = size_of::<T>();
    // SAFETY: the caller owns `size` bytes here, at least 4.
    unsafe {
        std::ptr::copy_nonoverlapping((&raw const value).cast::<u8>(), pointer.cast::<u8>(), size.min(known));
        if size > known {
            pointer.cast::<u8>().add(known).write_bytes(0, size - known);
        }
        pointer.cast::<u32>().write(size as u32);
    }
}

/// A place of the caller's for one value, checked before the work starts and written after it succeeded.
pub(crate) struct Place<T>(*mut T);

impl<T: Copy> Place<T> {
    pub(crate) fn set(self, value: T) {
        // SAFETY: checked by `place` or `place_or_null`; the caller promises it is writable.
        unsafe { self.0.write(value) };
    }
}

pub(crate) unsafe fn place<T>(pointer: *mut T, name: &str) -> Result<Place<T>> {
    if pointer.is_null() {
        return Err(Fault::null(name));
    }
    aligned(pointer, name)?;
    Ok(Place(pointer))
}

pub(crate) unsafe fn place_or_null<T>(pointer: *mut T, name: &str) -> Result<Option<Place<T>>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the same promise.
    unsafe { place(pointer, name) }.map(Some)
}

/// A struct of the caller's that a call fills in.
pub(crate) struct Report<T> {
    pointer: *mut T,
    size: usize,
}

impl<T: Versioned> Report<T> {
    pub(crate) fn set(self, value: T) {
        // SAFETY: checked by `report`; the caller promises that struct_size bytes are writable.
        unsafe { store(self.pointer, value, self.size) };
    }
}

pub(crate) unsafe fn report<T: Versioned>(pointer: *mut T, name: &str) -> Result<Report<T>> {
    if pointer.is_null() {
        return Err(Fault::null(name));
    }
    // SAFETY: not NULL.
    let size = unsafe { struct_size(pointer) }?;
    Ok(Report { pointer, size })
}

pub(crate) unsafe fn report_or_null<T: Versioned>(pointer: *mut T, name: &str) -> Result<Option<Report<T>>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the same promise.
    unsafe { report(pointer, name) }.map(Some)
}

/// `count` values to read. NULL is fine when there are none.
pub(crate) unsafe fn slice<'a, T: Copy>(pointer: *const T, count: usize, name: &str) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() {
        return Err(Fault::null(name));
    }
    aligned(pointer, name)?;
    length(count, size_of::<T>(), name)?;
    // SAFETY: not NULL, aligned, not longer than isize::MAX; the caller promises the memory for the call.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}

/// `count` values to write. NULL is fine when there are none.
pub(crate) unsafe fn slice_mut<'a, T: Copy>(pointer: *mut T, count: usize, name: &str) -> Result<&'a mut [T]> {
    if count == 0 {
        return Ok(&mut []);
    }
    if pointer.is_null() {
        return Err(Fault::null(name));
    }
    aligned(pointer, name)?;
    length(count, size_of::<T>(), name)?;
    // SAFETY: as for `slice`, and nobody else uses it during the call.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer, count) })
}

/// Like [`slice`], with NULL for none.
pub(crate) unsafe fn slice_or_null<'a, T: Copy>(
    pointer: *const T,
    count: usize,
    name: &str,
) -> Result<Option<&'a [T]>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the same promise.
    unsafe { slice(pointer, count, name) }.map(Some)
}

/// Like [`slice_mut`], with NULL for none.
pub(crate) unsafe fn slice_mut_or_null<'a, T: Copy>(
    pointer: *mut T,
    count: usize,
    name: &str,
) -> Result<Option<&'a mut [T]>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the same promise.
    unsafe { slice_mut(pointer, count, name) }.map(Some)
}

/// A NUL-terminated UTF-8 text.
pub(crate) unsafe fn text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str> {
    if pointer.is_null() {
        return Err(Fault::null(name));
    }
    // SAFETY: not NULL; the caller promises that it ends with a NUL.
    unsafe { CStr::from_ptr(pointer) }.to_str().map_err(|_| Fault::argument(format_args!("{name} is not UTF-8")))
}

/// Like [`text`], with NULL for none.
pub(crate) unsafe fn text_or_null<'a>(pointer: *const c_char, name: &str) -> Result<Option<&'a str>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL.
    unsafe { text(pointer, name) }.map(Some)
}

/// The path of a file to be written.
pub(crate) unsafe fn path<'a>(pointer: *const c_char, name: &str) -> Result<&'a Path> {
    // SAFETY: the same promise.
    match unsafe { text(pointer, name) }? {
        "" => Err(Fault::argument(format_args!("{name} is empty"))),
        path => Ok(Path::new(path)),
    }
}

/// `count` texts.
pub(crate) unsafe fn texts<'a>(pointer: *const *const c_char, count: usize, name: &str) -> Result<Vec<&'a str>> {
    // SAFETY: the caller promises `count` pointers to texts.
    unsafe {
        slice(pointer, count, name)?
            .iter()
            .enumerate()
            .map(|(item, &pointer)| text(pointer, &format!("{name}[{item}]")).map_err(|fault| fault.at(item)))
            .collect()
    }
}

/// `count` runs of bytes, as data[i] with lengths[i].
pub(crate) unsafe fn buffers<'a>(data: *const *const u8, lengths: *const usize, count: usize) -> Result<Vec<&'a [u8]>> {
    // SAFETY: the caller promises `count` pointers and lengths, and the memory they stand for.
    unsafe {
        let (data, lengths) = (slice(data, count, "data")?, slice(lengths, count, "lengths")?);
        let mut buffers = reserved(count, "the pictures")?;
        for (item, (&data, &length)) in data.iter().zip(lengths).enumerate() {
            buffers.push(slice(data, length, &format!("data[{item}]")).map_err(|fault| fault.at(item))?);
        }
        Ok(buffers)
    }
}

/// Hands out a text as snprintf does: `*needed` counts its bytes with the NUL.
pub(crate) unsafe fn give_text(text: &str, buffer: *mut c_char, capacity: usize, needed: *mut usize) -> Result<()> {
    if text.as_bytes().contains(&0) {
        return Err(Fault::argument("The text holds a NUL, which C can't read"));
    }
    // SAFETY: passes the caller's promise on.
    unsafe { give(&[text.as_bytes(), &[0]], buffer.cast(), capacity, needed) }
}

/// Hands out one of a list of names; `what` is what the message calls it.
pub(crate) unsafe fn give_listed(
    names: &[String],
    index: usize,
    what: &str,
    buffer: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> Result<()> {
    let missing = || Fault::new(BYOL_E_NOT_FOUND, format_args!("{what} {index} of {}", names.len()));
    // SAFETY: passes the caller's promise on.
    unsafe { give_text(names.get(index).ok_or_else(missing)?, buffer, capacity, needed) }
}

/// Hands out bytes; `*needed` counts them.
pub(crate) unsafe fn give_bytes(bytes: &[u8], buffer: *mut u8, capacity: usize, needed: *mut usize) -> Result<()> {
    // SAFETY: passes the caller's promise on.
    unsafe { give(&[bytes], buffer, capacity, needed) }
}

/// A NULL buffer of capacity 0 only asks for the size.
unsafe fn give(parts: &[&[u8]], buffer: *mut u8, capacity: usize, needed: *mut usize) -> Result<()> {
    let total = parts.iter().map(|part| part.len()).sum();
    // SAFETY: the caller promises `capacity` writable bytes and a writable `needed`.
    unsafe {
        let needed = place_or_null(needed, "needed")?;
        if buffer.is_null() && (capacity > 0 || needed.is_none()) {
            return Err(Fault::null("buffer"));
        }
        if let Some(needed) = needed {
            needed.set(total);
        }
        if buffer.is_null() {
            return Ok(());
        }
        if capacity < total {
            return Err(Fault::new(
                BYOL_E_BUFFER_TOO_SMALL,
                format_args!("The buffer holds {capacity} bytes, {total} are needed"),
            ));
        }
        let mut end = buffer;
        for part in parts {
            std::ptr::copy_nonoverlapping(part.as_ptr(), end, part.len());
            end = end.add(part.len());
        }
    }
    Ok(())
}

/// An empty vector with room for `count`, or a typed error: `count` comes from the caller.
pub(crate) fn reserved<T>(count: usize, name: &str) -> Result<Vec<T>> {
    memory::allow(count.saturating_mul(size_of::<T>()), name)?;
    let mut values = Vec::new();
    values.try_reserve_exact(count).map_err(|_| Fault::no_memory(name, count.saturating_mul(size_of::<T>())))?;
    Ok(values)
}

/// Copies a text into a fixed field of a struct, cut if too long, always with a NUL.
pub(crate) fn fill<const N: usize>(text: &str) -> [c_char; N] {
    let mut field = [0; N];
    let mut end = text.len().min(N - 1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    for (to, byte) in field.iter_mut().zip(text[..end].bytes()) {
        *to = byte as c_char;
    }
    field
}

fn aligned<T>(pointer: *const T, name: &str) -> Result<()> {
    if pointer.is_aligned() {
        return Ok(());
    }
    Err(Fault::argument(format_args!("{name} is not aligned to {} bytes", align_of::<T>())))
}

fn length(count: usize, size: usize, name: &str) -> Result<()> {
    match count.checked_mul(size) {
        Some(bytes) if bytes <= isize::MAX as usize => Ok(()),
        _ => Err(Fault::argument(format_args!("{name}: {count} items of {size} bytes are more than memory can hold"))),
    }
}
