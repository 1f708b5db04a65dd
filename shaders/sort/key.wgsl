// The key of an element of which the order is that of the elements: NaN is the largest, and -0 the same as 0. With DESCENDING the
// keys run the other way.
//
// Asks for: const DESCENDING; `ascending(x)`, from `sort/key_f32.wgsl`, `sort/key_i32.wgsl` or `sort/key_u32.wgsl`; `alias T`.

fn key_of(x: T) -> u32 {
    let key = ascending(x);
    return select(key, ~key, DESCENDING);
}
