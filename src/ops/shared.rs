//! What op files share: the entries of kernels, a check, and sums of partial results.

use crate::error::Problem;
use crate::kernel::{Binding, Kernel, Shader};
use crate::layout::Meta;
use crate::op::Lowering;
use crate::shader::{File, Item, params};
use crate::shaders;

/// A shader that has `work`, with the entry of workgroups whose 64 invocations each work alone.
pub(crate) fn each(shader: Shader) -> Shader {
    shader.constant("GROUP", 64u32).file(&shaders::shared::EACH)
}

/// A shader that has `work`, with the entry of workgroups whose `lanes` work together.
pub(crate) fn team(shader: Shader, lanes: u32) -> Shader {
    shader.constant("GROUP", lanes).file(&shaders::shared::TEAM)
}

/// That entry, where the text says how many lanes a `GROUP` has.
pub(crate) static TEAM_FILE: &File = &shaders::shared::TEAM;

/// The entry of [`each`], where the text says how large a `GROUP` is.
pub(crate) static EACH_FILE: &File = &shaders::shared::EACH;

/// The shader with these functions of values, over its own `F`, `I` and `U`, and all that they call.
pub(crate) fn with_functions(mut shader: Shader, wanted: &[&str]) -> Shader {
    let known = &shaders::pointwise::FUNCTIONS.items;
    let mut wanted: Vec<String> = wanted.iter().map(|name| name.to_string()).collect();
    while !wanted.is_empty() {
        let declared: Vec<String> = shader.declared().into_iter().map(String::from).collect();
        let is_new = |name: &str| !declared.iter().any(|other| other == name);
        let found = known.iter().filter(|item| wanted.iter().any(|name| *name == item.name) && is_new(&item.name));
        let found: Vec<Item> = found.cloned().collect();
        if found.is_empty() {
            break;
        }
        shader.items.extend(found);
        wanted = shader.missing().into_iter().map(String::from).collect();
    }
    shader
}

/// `Err` unless `axis` is below `rank`.
pub(crate) fn check_axis(axis: usize, rank: usize) -> Result<(), Problem> {
    if axis < rank { Ok(()) } else { Err(Problem::Axis(axis, rank)) }
}

/// What stands for an epilogue in a text that calls one for a value that is not the op's result.
pub(crate) fn no_epilogue(shader: Shader, lanes: usize) -> Shader {
    let out = if lanes == 1 { "f32" } else { "vec4<f32>" };
    let epilogue = format!("fn $epilogue$(value: {out}, index: u32) -> {out} {{\n    return value;\n}}\n");
    shader.alias("OUT", out).item(Item::new("epilogue", epilogue))
}

params! {
    struct Sizes {
        elements,
        splits,
    }
}

/// A kernel that adds `splits` partial results of `elements` elements in order, from one binding into another.
pub(crate) fn add_splits(elements: usize, splits: usize, from: Binding, to: Binding) -> Kernel {
    let mut sum = Kernel::own("split_sum", each(Shader::of(&[&shaders::shared::SPLIT_SUM])));
    sum.bind(from, "parts", "f32");
    sum.bind(to, "result", "$OUT$");
    sum.uniform(Sizes { elements, splits });
    sum.workgroups = (elements as u64).div_ceil(64);
    sum.iterations = splits as u64;
    sum.flops = (splits * elements) as u64;
    sum.epilogue = to == Binding::output();
    if !sum.epilogue {
        sum.shader = no_epilogue(sum.shader, 1);
    }
    sum
}

/// Kernels that wrote `splits` partial results of `output`, and one that adds these in order.
pub(crate) fn split_sum(mut kernels: Vec<Kernel>, splits: usize, output: &Meta) -> Lowering {
    let elements = output.elements();
    for kernel in &mut kernels {
        kernel.shader = no_epilogue(std::mem::take(&mut kernel.shader), kernel.lanes);
        kernel.epilogue = false;
        for binding in kernel.bindings.iter_mut().filter(|binding| binding.write) {
            *binding = Binding::write(0);
        }
    }
    kernels.push(add_splits(elements, splits, Binding::read(0), Binding::output()));
    Lowering::Kernels { kernels, temporaries: vec![splits * elements] }
}
