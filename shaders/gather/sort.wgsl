// Sorts few keys, equal ones in their order: the key at a position goes to rank(position) = the number of positions q with a
// lesser key, or with the same one and q < position. Each position counts for itself: no atomics.
//
// keys    [count]
// sorted  [count], the keys in order and where each stood (written)
//
// Workgroups: ceil(count / 64). Iterations: count / 4 + 4.

fn before(q: u32, key: u32, position: u32) -> u32 {
    let other = keys[q];
    return u32(other < key || (other == key && q < position));
}

fn work(position: u32) {
    if position >= p.count {
        return;
    }
    let key = keys[position];
    var rank = 0u;
    var q = 0u;
    while q + 3u < p.count {
        rank += before(q, key, position) + before(q + 1u, key, position);
        rank += before(q + 2u, key, position) + before(q + 3u, key, position);
        q += 4u;
    }
    while q < p.count {
        rank += before(q, key, position);
        q += 1u;
    }
    sorted[rank] = vec2<u32>(key, position);
}
