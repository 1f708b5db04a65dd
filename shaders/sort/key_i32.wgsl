// A whole number as a key: the sign's bit turned.

fn ascending(x: i32) -> u32 {
    return bitcast<u32>(x) ^ 0x80000000u;
}
