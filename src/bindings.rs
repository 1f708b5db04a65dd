//! Where kernels bind what, and the bounds that every adapter has.

/// Binding of a kernel's own sizes.
pub const PARAMS: u32 = 15;
/// Binding of the host numbers of a step.
pub const OPERANDS: u32 = 13;
/// Binding of the index arithmetic that the planner adds to a kernel.
pub const FUSION: u32 = 14;
/// First binding of the tensors that the planner adds to a kernel.
pub const EXTRA: u32 = 16;
/// Binding of how work is shared out, in the loop that a device puts around kernels (`gpu/balance.rs`).
pub(crate) const SHARES: u32 = 62;
/// Binding of the queue of that work.
pub(crate) const QUEUE: u32 = 63;
/// Largest number of loop iterations an invocation may do: software drivers stop silently at 65,535.
pub const MAX_ITERATIONS: u64 = 60_000;
/// Most workgroups in one dimension of a grid on every adapter.
pub const MAX_WORKGROUPS: u32 = 65_535;
/// Host words that a kernel binds at most: 16 KiB, the least that every adapter binds as a uniform.
pub const OPERAND_WORDS: usize = 4096;
