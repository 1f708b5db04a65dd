// Which elements of the vectors that a rule measures are its parameter's: padding follows, with anything in it.

// The element behind the parameter's last.
var<private> measured_end: u32;

// Of part k of vector i.
fn inside(i: u32, k: u32) -> vec4<bool> {
    let own = vec4<u32>(element(i, k, 0u), element(i, k, 1u), element(i, k, 2u), element(i, k, 3u));
    return own < vec4<u32>(measured_end);
}
