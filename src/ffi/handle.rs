//! The handle table: what a handle's number stands for.
//!
//! A handle is never a pointer. Its number holds a slot of the table (24 bits), a kind (8 bits) and the slot's
//! generation (32 bits, counted up whenever the slot is freed), so that a handle that is closed, of another kind or
//! made up is recognised without touching any memory but the table's. An object lives until the last call that uses it
//! returns, whenever its handle is closed.

use std::any::Any;
use std::sync::{Arc, PoisonError, RwLock};

use crate::status::{BYOL_E_HANDLE, BYOL_E_LIMIT, Fault, Result};

/// Kind of handle for byol_live_handles: all of them together.
pub const BYOL_KIND_ANY: u32 = 0;
/// Kind of handle: byol_runtime.
pub const BYOL_KIND_RUNTIME: u32 = 1;
/// Kind of handle: byol_encoder.
pub const BYOL_KIND_ENCODER: u32 = 2;
/// Kind of handle: byol_head.
pub const BYOL_KIND_HEAD: u32 = 3;
/// Kind of handle: byol_cancel.
pub const BYOL_KIND_CANCEL: u32 = 4;
/// Kind of handle: byol_features.
pub const BYOL_KIND_FEATURES: u32 = 5;
/// Kind of handle: byol_trainer.
pub const BYOL_KIND_TRAINER: u32 = 6;

const SLOT_BITS: u32 = 24;
const KIND_BITS: u32 = 8;

/// What a handle can stand for.
pub(crate) trait Object: Any + Send + Sync {
    const KIND: u32;
    const NAME: &'static str;
}

struct Slot {
    generation: u32,
    object: Option<(u32, Arc<dyn Any + Send + Sync>)>,
}

struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

static TABLE: RwLock<Table> = RwLock::new(Table { slots: Vec::new(), free: Vec::new() });

/// Gives an object a handle.
pub(crate) fn open<T: Object>(object: T) -> Result<u64> {
    open_shared(Arc::new(object))
}

/// Gives an object that has a handle another one.
pub(crate) fn open_shared<T: Object>(object: Arc<T>) -> Result<u64> {
    let object: Arc<dyn Any + Send + Sync> = object;
    let mut table = TABLE.write().unwrap_or_else(PoisonError::into_inner);
    let slot = match table.free.pop() {
        Some(slot) => slot,
        None => {
            let slot = table.slots.len();
            if slot >> SLOT_BITS != 0 {
                return Err(Fault::new(BYOL_E_LIMIT, format_args!("{slot} handles are open; close some")));
            }
            table.slots.try_reserve(1).map_err(|_| Fault::no_memory("a handle", size_of::<Slot>()))?;
            // Room for every slot in the list of free ones, so that closing never allocates.
            let missing = (slot + 1).saturating_sub(table.free.len());
            table.free.try_reserve(missing).map_err(|_| Fault::no_memory("a handle", 4))?;
            table.slots.push(Slot { generation: 1, object: None });
            slot as u32
        }
    };
    let entry = &mut table.slots[slot as usize];
    entry.object = Some((T::KIND, object));
    Ok(u64::from(entry.generation) << (SLOT_BITS + KIND_BITS) | u64::from(T::KIND) << SLOT_BITS | u64::from(slot))
}

/// The object of a handle, kept alive for as long as the result is.
pub(crate) fn get<T: Object>(id: u64) -> Result<Arc<T>> {
    let table = TABLE.read().unwrap_or_else(PoisonError::into_inner);
    find(&table, T::KIND, id)
        .and_then(|slot| table.slots[slot].object.as_ref())
        .and_then(|(_, object)| Arc::clone(object).downcast().ok())
        .ok_or_else(|| unknown::<T>(id))
}

/// Like [`get`], with handle 0 for none.
pub(crate) fn get_or_none<T: Object>(id: u64) -> Result<Option<Arc<T>>> {
    if id == 0 {
        return Ok(None);
    }
    get(id).map(Some)
}

/// Takes a handle back. Handle 0 is fine, a closed one is an error.
pub(crate) fn close<T: Object>(id: u64) -> Result<()> {
    if id == 0 {
        return Ok(());
    }
    let object = {
        let mut table = TABLE.write().unwrap_or_else(PoisonError::into_inner);
        let slot = find(&table, T::KIND, id).ok_or_else(|| unknown::<T>(id))?;
        release(&mut table, slot)
    };
    // Outside the lock: this may be the last use, and closing a session takes its time.
    drop(object);
    Ok(())
}

/// Closes every handle.
pub(crate) fn close_all() {
    let objects: Vec<_> = {
        let mut table = TABLE.write().unwrap_or_else(PoisonError::into_inner);
        (0..table.slots.len()).filter_map(|slot| release(&mut table, slot)).collect()
    };
    drop(objects);
}

/// How many handles of a kind are open.
pub(crate) fn count(kind: u32) -> u64 {
    let table = TABLE.read().unwrap_or_else(PoisonError::into_inner);
    let kinds = table.slots.iter().filter_map(|slot| slot.object.as_ref());
    kinds.filter(|(found, _)| kind == BYOL_KIND_ANY || *found == kind).count() as u64
}

fn find(table: &Table, kind: u32, id: u64) -> Option<usize> {
    let slot = (id & ((1 << SLOT_BITS) - 1)) as usize;
    let entry = table.slots.get(slot)?;
    let (found, _) = entry.object.as_ref()?;
    let named = (id >> SLOT_BITS) as u32 & ((1 << KIND_BITS) - 1);
    let generation = (id >> (SLOT_BITS + KIND_BITS)) as u32;
    (named == kind && *found == kind && entry.generation == generation).then_some(slot)
}

fn release(table: &mut Table, slot: usize) -> Option<Arc<dyn Any + Send + Sync>> {
    let entry = &mut table.slots[slot];
    let (_, object) = entry.object.take()?;
    // A slot whose generations are used up is never given out again: no handle ever comes back.
    if let Some(next) = entry.generation.checked_add(1) {
        entry.generation = next;
        table.free.push(slot as u32);
    }
    Some(object)
}

fn unknown<T: Object>(id: u64) -> Fault {
    let name = T::NAME;
    if id == 0 {
        return Fault::new(BYOL_E_HANDLE, format_args!("The {name} handle is 0: it was never opened"));
    }
    Fault::new(
        BYOL_E_HANDLE,
        format_args!("{id:#x} is no open {name} handle: closed, of another kind, or not from here"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Probe;
    impl Object for Probe {
        const KIND: u32 = 200;
        const NAME: &'static str = "probe";
    }
    #[derive(Debug)]
    struct Other;
    impl Object for Other {
        const KIND: u32 = 201;
        const NAME: &'static str = "other";
    }

    #[test]
    fn a_handle_is_refused_when_closed_of_another_kind_or_made_up() {
        let id = open(Probe).expect("a handle");
        assert!(get::<Probe>(id).is_ok());
        assert_eq!(get::<Other>(id).expect_err("another kind").code, BYOL_E_HANDLE);
        close::<Probe>(id).expect("open");
        assert_eq!(close::<Probe>(id).expect_err("closed").code, BYOL_E_HANDLE);
        let again = open(Probe).expect("a handle");
        assert_ne!(again, id);
        assert!(get::<Probe>(id).is_err());
        for bit in 0..64 {
            assert!(get::<Probe>(again ^ (1 << bit)).is_err(), "bit {bit}");
        }
        close::<Probe>(again).expect("open");
        close::<Probe>(0).expect("nothing to close");
    }

    #[test]
    fn an_object_outlives_its_handle_while_it_is_used() {
        let id = open(Probe).expect("a handle");
        let used = get::<Probe>(id).expect("open");
        close::<Probe>(id).expect("open");
        assert_eq!(Arc::strong_count(&used), 1);
    }

    #[test]
    fn a_slot_whose_generations_are_used_up_is_retired() {
        let mut table = Table { slots: vec![Slot { generation: u32::MAX, object: None }], free: vec![] };
        table.slots[0].object = Some((200, Arc::new(Probe)));
        assert!(release(&mut table, 0).is_some());
        assert!(table.free.is_empty());
    }
}
