// The positions of an index vector sorted by what they pick, equal ones in their order: order[rank(p)] = p with
// rank(p) = number of q that pick something less, or the same and q < p. Each position counts for itself: no atomics.
//
// A long vector is passed over in several dispatches, q from first to last in each; the last one writes the order.
//
// index, rank, order  [count]
//
// Workgroups: ceil(count / 64). Iterations: (last - first) / 4 + 4.

fn before(q: u32, key: u32, position: u32) -> u32 {
    let other = index[q];
    return u32(other < key || (other == key && q < position));
}

fn work(position: u32) {
    if position >= p.count {
        return;
    }
    let key = index[position];
    var total = 0u;
    if p.first > 0u {
        total = rank[position];
    }
    var q = p.first;
    while q + 3u < p.last {
        total += before(q, key, position) + before(q + 1u, key, position);
        total += before(q + 2u, key, position) + before(q + 3u, key, position);
        q += 4u;
    }
    while q < p.last {
        total += before(q, key, position);
        q += 1u;
    }
    if p.last == p.count {
        order[total] = position;
    } else {
        rank[position] = total;
    }
}
