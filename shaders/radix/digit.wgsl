// The digit of a key that a pass of the sort looks at: the bits from p.shift on that number p.digits values.

fn digit(key: u32) -> u32 {
    return (key >> p.shift) & (p.digits - 1u);
}
