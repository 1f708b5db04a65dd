// For software drivers alone: those whose subgroups have exactly 8 lanes and where loads are dear. A
// workgroup is one subgroup; lane l reads a value of channel l once and broadcasts it. Needs Features::SUBGROUP, and control flow
// around the broadcasts that is uniform over the workgroup.
//
// Constants: ROW_LOADS, 1 or 2: a tile has ROWS = 8 * ROW_LOADS channels.

const GROUP: u32 = 8u;
const ROWS: u32 = ROW_LOADS * GROUP;
// Values that an invocation reads for the channels of a tile.
const LOADS: u32 = ROW_LOADS;
// Accumulators hold 4 rows each: a vector operation counts as one where drivers decide whether to unroll a loop.
const QUADS: u32 = ROW_LOADS * 2u;

// The channel of a tile whose values a load reads.
fn channel_of(load: u32, lane: u32) -> u32 {
    return load * GROUP + lane;
}

// The values that the 8 lanes of the subgroup hold, known to all of them.
fn spread(value: f32) -> array<vec4<f32>, 2> {
    return array<vec4<f32>, 2>(
        vec4<f32>(subgroupBroadcast(value, 0u), subgroupBroadcast(value, 1u), subgroupBroadcast(value, 2u), subgroupBroadcast(value, 3u)),
        vec4<f32>(subgroupBroadcast(value, 4u), subgroupBroadcast(value, 5u), subgroupBroadcast(value, 6u), subgroupBroadcast(value, 7u)),
    );
}
