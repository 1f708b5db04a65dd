//! What things cost on each kind of device, as far as it decides which kernel is taken and how its work is cut up. Op files ask
//! this table; which kind of device has which costs is known only here. What was measured: `docs/software-drivers.md`.

use crate::capabilities::Capabilities;

/// How a sum is cut into parts that run at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts {
    /// Parts, those of all results together, that keep the device busy.
    pub enough: usize,
    /// Terms that a part must have to be worth the second pass that adds it.
    pub least: usize,
}

/// The costs of a kind of device.
#[derive(Debug)]
pub(crate) struct Costs {
    /// A load is a loop over the lanes: what lanes share is loaded once and passed on, and more than needed is loaded at once.
    pub dear_loads: bool,
    /// A barrier costs more than what a workgroup's memory saves.
    pub dear_barriers: bool,
    /// A dispatch costs so much that a large one takes a small one along that reads the same.
    pub dear_dispatches: bool,
    /// The lanes of a workgroup run in turn, so that a narrower workgroup that takes more turns loses nothing.
    pub lanes_in_turn: bool,
    /// Lanes side by side had better read elements side by side; else one lane reads them.
    pub coalesces: bool,
    /// A kernel is compiled when it is first dispatched.
    pub compiles_at_dispatch: bool,
    /// Workgroups that keep the device busy: two a core, or one a compute unit of a large GPU of its kind.
    pub enough_workgroups: usize,
    /// Invocations of a workgroup that shares nothing.
    pub group: usize,
    /// Most columns of a convolution's tile in registers.
    pub tile_columns: usize,
    /// Most items of a row that a lane keeps in registers; 0 where these would be memory.
    pub kept_items: usize,
    /// Elements that one workgroup sums in the time of another dispatch.
    pub one_group_sum: usize,
    /// Elements of a channel that an invocation maps: what it reads of the channel costs about one.
    pub channel_walk: usize,
    /// The sum of a product over k, in workgroups.
    pub product_sum: Parts,
    /// Workgroups of the sum of a convolution's filter gradient over images and positions.
    pub filter_sum: usize,
    /// Invocations of a depthwise convolution that slide down strips.
    pub strips: usize,
    /// Invocations of its weight gradient, which add strips up.
    pub strip_sum: usize,
    /// A reduction, in invocations that read one element at a time.
    pub reduction: Parts,
    /// One whose invocations read four elements at a time.
    pub reduction_of_fours: Parts,
    /// The sums of columns that layer normalisation's weights take, in invocations.
    pub column_sum: Parts,
    /// The sums over batch normalisation's channels, in subgroups or workgroups.
    pub channel_sum: Parts,
    /// These in invocations, where barriers are dear and there are no subgroups.
    pub channel_sum_alone: Parts,
}

/// A few cores: registers and lanes are memory, and what a thread begins it ends.
const SOFTWARE: Costs = Costs {
    dear_loads: true,
    dear_barriers: true,
    dear_dispatches: true,
    lanes_in_turn: true,
    coalesces: false,
    compiles_at_dispatch: true,
    enough_workgroups: 4,
    group: 8,
    tile_columns: 8,
    kept_items: 0,
    one_group_sum: 32 << 10,
    channel_walk: 32,
    product_sum: Parts { enough: 4, least: 2048 },
    filter_sum: 4,
    strips: 64,
    strip_sum: 128,
    reduction: Parts { enough: 1024, least: 8192 },
    reduction_of_fours: Parts { enough: 1024, least: 4096 },
    column_sum: Parts { enough: 1024, least: 128 },
    channel_sum: Parts { enough: 16, least: 4096 },
    channel_sum_alone: Parts { enough: 512, least: 512 },
};

/// A large GPU, and what is not known.
const DISCRETE: Costs = Costs {
    dear_loads: false,
    dear_barriers: false,
    dear_dispatches: false,
    lanes_in_turn: false,
    coalesces: true,
    compiles_at_dispatch: false,
    enough_workgroups: 128,
    group: 64,
    tile_columns: 4,
    kept_items: 8,
    one_group_sum: 16 << 10,
    channel_walk: 4,
    product_sum: Parts { enough: 256, least: 256 },
    filter_sum: 512,
    strips: 64 * 128,
    strip_sum: 64 * 128,
    reduction: Parts { enough: 16_384, least: 64 },
    reduction_of_fours: Parts { enough: 16_384, least: 64 },
    column_sum: Parts { enough: 32_768, least: 32 },
    channel_sum: Parts { enough: 1024, least: 4096 },
    channel_sum_alone: Parts { enough: 1024, least: 4096 },
};

/// A GPU on the processor's chip.
const INTEGRATED: Costs = Costs {
    enough_workgroups: 24,
    product_sum: Parts { enough: 48, least: 256 },
    strips: 64 * 24,
    strip_sum: 64 * 24,
    ..DISCRETE
};

impl Costs {
    /// Those of a large GPU.
    pub fn of_a_gpu() -> &'static Costs {
        &DISCRETE
    }

    /// Every kind's, for what is made before the device is known.
    pub fn all() -> [&'static Costs; 3] {
        [&SOFTWARE, &INTEGRATED, &DISCRETE]
    }
}

impl Capabilities {
    /// What things cost there.
    pub(crate) fn costs(&self) -> &'static Costs {
        match (self.software, self.integrated) {
            (true, _) => &SOFTWARE,
            (false, true) => &INTEGRATED,
            (false, false) => &DISCRETE,
        }
    }
}
