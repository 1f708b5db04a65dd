//! Texts of ops whose shaders are not parts yet.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock};

use super::{Builtin, Facts, Item, Main, Shader, Size, Storage};

#[path = "../../build/wgsl.rs"]
#[allow(dead_code)]
mod wgsl;

impl From<&str> for Shader {
    fn from(text: &str) -> Shader {
        static KNOWN: OnceLock<Mutex<HashMap<String, Shader>>> = OnceLock::new();
        let mut known = KNOWN.get_or_init(Mutex::default).lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(shader) = known.get(text) {
            return shader.clone();
        }
        let shader = match wgsl::parse(text) {
            Ok(file) => taken(file),
            // The driver's compiler says what is wrong.
            Err((line, what)) => {
                eprintln!("{line}: {what}\n{text}");
                Shader::foreign(text.into())
            }
        };
        known.insert(text.into(), shader.clone());
        shader
    }
}

impl From<String> for Shader {
    fn from(text: String) -> Shader {
        Shader::from(text.as_str())
    }
}

fn taken(file: wgsl::File) -> Shader {
    let facts = |names: std::collections::HashSet<&str>| {
        names.into_iter().fold(Facts::NONE, |all, name| {
            all.and(match name {
                "HALF" => Facts::HALF,
                "SUBGROUP" => Facts::SUBGROUP,
                "PAIRS" => Facts::PAIRS,
                "MATRICES" => Facts::MATRICES,
                "WAITS" => Facts::WAITS,
                _ => Facts::TILE,
            })
        })
    };
    let mut shader = Shader::default();
    for item in file.items {
        let constant = item.constant.then_some(item.value);
        let item = Item { constant, facts: facts(item.facts), ..Item::new(item.name, item.text) };
        match item.name == "Params" {
            true => shader.params = Some(item),
            false => shader.items.push(item),
        }
    }
    for bound in file.bound {
        match bound.binding {
            crate::bindings::PARAMS => {}
            crate::bindings::OPERANDS => shader.operands = crate::bindings::OPERAND_WORDS / 4,
            binding => {
                let element = bound.kind.strip_prefix("array<").and_then(|kind| kind.strip_suffix('>'));
                shader.storage.push(Storage {
                    binding,
                    write: bound.space == "storage, read_write",
                    name: bound.name.into(),
                    element: element.unwrap_or_default().to_string().into(),
                });
            }
        }
    }
    shader.main = file.main.map(|main| {
        let builtin = |name: &str| match name {
            "workgroup_id" => Builtin::WorkgroupId,
            "num_workgroups" => Builtin::NumWorkgroups,
            "local_invocation_index" => Builtin::LocalInvocationIndex,
            "local_invocation_id" => Builtin::LocalInvocationId,
            "global_invocation_id" => Builtin::GlobalInvocationId,
            "subgroup_id" => Builtin::SubgroupId,
            _ => Builtin::SubgroupInvocationId,
        };
        let leak = |text: String| &*Box::leak(text.into_boxed_str());
        let parameters: Vec<_> =
            main.parameters.into_iter().map(|(name, value)| (leak(name), builtin(&value))).collect();
        let size = |axis: usize| match main.workgroup.get(axis) {
            None => Size::Is(1),
            Some(size) => size.trim_end_matches('u').parse().map_or_else(|_| Size::Of(leak(size.clone())), Size::Is),
        };
        Main {
            parameters: Box::leak(parameters.into_boxed_slice()),
            workgroup: [size(0), size(1), size(2)],
            body: main.body.into(),
            facts: facts(main.facts),
        }
    });
    shader
}
