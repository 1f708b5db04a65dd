//! Counts what a thread has allocated, so that a target can hold a reader to a bound.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counting. A program that runs file targets installs it as its global allocator.
pub struct Counting;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Counts `bytes` more of this thread; what one thread allocates and another frees counts for both.
fn count(bytes: isize) {
    // A thread that ends has no counters left.
    let _ = NOW.try_with(|now| {
        now.set(now.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now.get())));
    });
}

// SAFETY: every call goes to `System` as it came; the counters allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new: usize) -> *mut u8 {
        count(new as isize - layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, new) }
    }
}

/// The result of `body`, and the most bytes that this thread had allocated in it at once.
///
/// # Panics
/// If [`Counting`] is not installed: a bound on nothing would always hold.
pub fn peak<R>(body: impl FnOnce() -> R) -> (R, usize) {
    let start = NOW.get();
    let probe = std::hint::black_box(Box::new([0u8; 64]));
    assert_eq!(NOW.get() - start, 64, "install `Counting` as the global allocator");
    drop(probe);
    PEAK.set(start);
    let result = body();
    (result, (PEAK.get() - start).max(0) as usize)
}
