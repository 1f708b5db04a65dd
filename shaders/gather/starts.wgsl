// Where the run of each place of an axis begins and ends in the sorted positions of an index vector, by bisection.
//
// Put in front of this text: nothing. Bindings: 0 index (read), 1 order (read), 2 runs (written): (begin, end) a place;
// place `padding` gets an empty run. Workgroups: ceil(length / 64). Iterations: 64.

struct Params {
    count: u32,
    length: u32,
    padding: u32,
}

@group(0) @binding(0) var<storage, read> index: array<u32>;
@group(0) @binding(1) var<storage, read> order: array<u32>;
@group(0) @binding(2) var<storage, read_write> runs: array<vec2<u32>>;
@group(0) @binding(15) var<uniform> p: Params;

// The first of the sorted positions that picks `place` or more.
fn lower_bound(place: u32) -> u32 {
    var low = 0u;
    var high = p.count;
    while low < high {
        let middle = (low + high) / 2u;
        if index[order[middle]] < place {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    return low;
}

fn work(place: u32) {
    if place >= p.length {
        return;
    }
    var run = vec2<u32>(lower_bound(place), lower_bound(place + 1u));
    if place == p.padding {
        run = vec2<u32>(0u);
    }
    runs[place] = run;
}
