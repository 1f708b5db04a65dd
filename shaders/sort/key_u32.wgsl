// A key is what it is.

fn ascending(x: u32) -> u32 {
    return x;
}
