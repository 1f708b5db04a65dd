//! The functions of `shaders/pointwise` that a shader calls without declaring them.

use std::sync::OnceLock;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::kernel::Shader;
use crate::shader::{Facts, Item, names};
use crate::shaders::pointwise::{FUNCTIONS, PHILOX, TRIGONOMETRY, WHOLE};

fn items() -> impl Iterator<Item = &'static Item> {
    [&FUNCTIONS, &TRIGONOMETRY, &WHOLE, &PHILOX].into_iter().flat_map(|file| file.items)
}

/// Adds to a shader what it calls, and what that calls.
pub fn complete(shader: &mut Shader) {
    static NAMED: OnceLock<FxHashMap<&str, &Item>> = OnceLock::new();
    let named = NAMED.get_or_init(|| items().map(|item| (item.name.as_ref(), item)).collect());
    let declared = shader.declared();
    let mut wanted: FxHashSet<&str> = FxHashSet::default();
    let mut stack: Vec<&Item> = shader.missing().into_iter().filter_map(|name| named.get(name).copied()).collect();
    while let Some(item) = stack.pop() {
        if wanted.insert(&item.name) {
            let called = names(&item.text).filter(|name| !declared.contains(name));
            stack.extend(called.filter_map(|name| named.get(name)));
        }
    }
    shader.items.extend(items().filter(|item| wanted.contains(item.name.as_ref())).cloned());
}

/// Makes the prologue in `shader`, for four lanes, and what it calls part of a shader of one lane, under names that this
/// leaves free. `half`: there is f16.
pub fn four_lanes(shader: &mut Shader, half: bool) {
    complete(shader);
    let own: FxHashSet<String> = shader.items.iter().map(|item| item.name.to_string()).collect();
    let rename = |name: &str| match name {
        "F" | "I" | "U" | "B" | "H" => Some(format!("${name}4$")),
        _ if name != "prologue" && own.contains(name) => Some(format!("${name}_of_four$")),
        _ => None,
    };
    shader.items = shader.items.iter().map(|item| item.renamed(&rename)).collect();
    let kinds = [("F4", "f32"), ("I4", "i32"), ("U4", "u32"), ("B4", "bool")];
    shader.items.extend(kinds.map(|(name, kind)| Item::alias(name, format!("vec4<{kind}>"))));
    if half {
        shader.items.push(Item::alias("H4", "vec4<f16>").with(Facts::HALF));
    }
}
