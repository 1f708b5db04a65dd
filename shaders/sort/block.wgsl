// Rows of at most SIZE elements sorted in workgroup memory (Batcher 1968): a workgroup takes HELD elements, one or several rows.
// Keys are compared with where they stood, so equal ones keep their order, and what fills a row up comes last.
//
// input  [..], of T; element j of a row is at start + j * stride
//
// Put in front: const SIZE and HELD, powers of two, and `shared/team.wgsl`. Asks for: `key_of` (`sort/key.wgsl`);
// `result_0(value, index)`, the sorted elements; `result_1(place, index)`, where each stood. Workgroups: ceil(rows * SIZE / HELD).
// Iterations: HELD / GROUP * (2 + log2(SIZE)^2 / 2).

var<workgroup> keys: array<u32, HELD>;
var<workgroup> places: array<u32, HELD>;

fn work(block: u32, lane: u32) {
    let first = block * (HELD / SIZE);
    for (var i = lane; i < HELD; i += GROUP) {
        let row = first + i / SIZE;
        let j = i % SIZE;
        var key = 0xffffffffu;
        if row < p.rows && j < p.length {
            key = key_of(input[row_start(row) + j * p.stride]);
        }
        keys[i] = key;
        places[i] = j;
    }
    workgroupBarrier();
    for (var run = 2u; run <= SIZE; run *= 2u) {
        for (var apart = run / 2u; apart > 0u; apart /= 2u) {
            for (var t = lane; t < HELD / 2u; t += GROUP) {
                let low = t / apart * 2u * apart + t % apart;
                let high = low + apart;
                let is_up = (low & (SIZE - 1u) & run) == 0u;
                let a = keys[low];
                let b = keys[high];
                let place_a = places[low];
                let place_b = places[high];
                let is_above = a > b || (a == b && place_a > place_b);
                if is_above == is_up {
                    keys[low] = b;
                    keys[high] = a;
                    places[low] = place_b;
                    places[high] = place_a;
                }
            }
            workgroupBarrier();
        }
    }
    for (var i = lane; i < HELD; i += GROUP) {
        let row = first + i / SIZE;
        let j = i % SIZE;
        if row < p.rows && j < p.length {
            let start = row_start(row);
            let place = places[i];
            result_0(input[start + place * p.stride], start + j * p.stride);
            result_1(place, start + j * p.stride);
        }
    }
}
