//! Work shared out among the threads of a software driver while they work (see `shaders/gpu/balance.wgsl`).

use std::collections::HashMap;
use std::sync::Arc;

use crate::dispatch::Dispatch;
use crate::kernel::{Capabilities, MAX_ITERATIONS, QUEUE, SHARES, Shader, fold_workgroups};
use crate::shader::{Facts, Item, Program};
use crate::shaders;

/// Nanoseconds of work to take at a time, at least: taking makes a thread wait for all that it has stored, which costs up to
/// 3,000.
const LEAST: f64 = 20_000.0;
/// Nanoseconds that a thread takes for a byte, at least.
const BYTE: f64 = 0.4;

/// A dispatch whose subgroups take their work from a queue.
pub(super) struct Balanced {
    pub program: Arc<Program>,
    /// What is bound at [`SHARES`](crate::kernel::SHARES).
    pub words: [u32; 4],
    pub grid: [u32; 2],
}

/// `dispatch`, which moves so many bytes, in that form; `None` where that is not possible or does not pay, or it is a user's.
///
/// Left alone is what waits for others, and results in the registers of a tile: they are equal parts anyway, and their loops take
/// longer to compile within others (`docs/software-drivers.md`, "sharing out work").
///
/// `forms` keeps what became of each program.
pub(super) fn balance(
    dispatch: &Dispatch,
    bytes: u64,
    capabilities: &Capabilities,
    forms: &mut HashMap<*const Program, Option<Form>>,
) -> Option<Balanced> {
    let (workers, lanes) = (u64::from(capabilities.workers?), capabilities.subgroup?);
    // The queue is one more buffer to bind.
    if dispatch.checked || dispatch.bindings.len() >= capabilities.storage_buffers {
        return None;
    }
    let form = forms.entry(Arc::as_ptr(&dispatch.program)).or_insert_with(|| in_loop(&dispatch.program.shader, lanes));
    let Form { program, subgroups } = form.as_ref()?;
    let units = u64::from(dispatch.grid[0]) * u64::from(dispatch.grid[1]) * u64::from(*subgroups);
    let (words, groups) = shares(units, bytes as f64 * BYTE / units as f64, dispatch.iterations, workers)?;
    Some(Balanced { program: program.clone(), words, grid: fold_workgroups(groups)? })
}

/// A program whose subgroups take their work from a queue, and how many a workgroup has.
pub(super) struct Form {
    program: Arc<Program>,
    subgroups: u32,
}

fn in_loop(shader: &Shader, lanes: u32) -> Option<Form> {
    let width: u32 = shader.workgroup()?.iter().product();
    let facts = shader.facts();
    if facts.has(Facts::WAITS) || facts.has(Facts::TILE) || !width.is_multiple_of(lanes) {
        return None;
    }
    let subgroups = width / lanes;
    // Every kernel takes the two axes of its grid together, so they need not be as they were.
    let arguments = shader.arguments(&format!("unit / {subgroups}u"), &format!("$balance$.x / {subgroups}u"), "own")?;
    let unit = format!(
        "fn $balanced$(unit: u32, lane: u32) {{\n    let own = unit % {subgroups}u * {lanes}u + lane;\n    \
         $balanced_unit$({arguments});\n}}\n"
    );
    let words = format!("@group(0) @binding({SHARES}) var<uniform> $balance$: vec4<u32>;\n");
    let queue =
        format!("@group(0) @binding({QUEUE}) var<storage, read_write> $balance_queue$: array<atomic<u32>, 1>;\n");
    // What a kernel does before all else stays in the new `main`: an invocation does it once, whatever it takes.
    let main = shader.main_function("balanced_unit", &shader.main.as_ref()?.body)?;
    let once = Shader { main: None, ..shader.clone() };
    let balanced = once
        .item(main)
        .item(Item::new("balanced", unit))
        .item(Item::new("balance", words))
        .item(Item::new("balance_queue", queue))
        .constant("BALANCE_LANES", lanes)
        .file(&shaders::gpu::BALANCE);
    Some(Form { program: Program::new(balanced), subgroups })
}

/// The words for so many units of about so many nanoseconds and at most so many loop rounds, and the number of workgroups: the
/// part of them that one thread is given could do all of the work.
fn shares(units: u64, nanoseconds: f64, rounds: u64, workers: u64) -> Option<([u32; 4], u64)> {
    // Short inner loops, which compilers unroll, are not all counted: six times what was, and some more.
    let rounds = 6 * rounds + 16;
    let share = (MAX_ITERATIONS / rounds).max(1);
    let most = (units / (4 * workers)).max(1);
    let least = ((LEAST / nanoseconds) as u64).clamp(1, most);
    let groups = match units.div_ceil(share) {
        0 | 1 => workers.min(units.div_ceil(least)),
        many => many * workers,
    };
    // Takes from an empty queue count too: as many units as the workgroups of all threads may take.
    u32::try_from(units.checked_mul(workers + 2)?).ok()?;
    let units = units as u32;
    Some(([units, most as u32, least as u32, share as u32], groups))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shader::{Main, Size};

    /// What the workgroups of a dispatch do, one after the other, as the shader has it: how often each unit is done, and the
    /// most that one workgroup does.
    fn run([units, most, least, share]: [u32; 4], groups: u64) -> (Vec<u32>, u32) {
        let (mut taken, mut done, mut worst) = (0, vec![0; units as usize], 0);
        for _ in 0..groups {
            let (mut left, mut turn) = (share, 0);
            while left > 0 && taken < units {
                let count = (most >> (turn / 2).min(31)).max(least).min(left);
                turn += 1;
                (taken..(taken + count).min(units)).for_each(|unit| done[unit as usize] += 1);
                (taken, left) = (taken + count, left - count);
            }
            worst = worst.max(share - left);
        }
        (done, worst)
    }

    #[test]
    fn every_unit_is_done_once_and_no_loop_runs_too_long() {
        for units in [0, 1, 2, 7, 37, 1000, 65_537, 1_000_003] {
            for rounds in [0, 1, 131, 9_000, 60_000] {
                for (nanoseconds, workers) in [(0.0, 1), (3.0, 2), (700.0, 2), (1e6, 7), (f64::NAN, 64)] {
                    let (words, groups) = shares(units, nanoseconds, rounds, workers).unwrap();
                    let (done, most) = run(words, groups);
                    assert!(done.iter().all(|&times| times == 1), "{units} units, {words:?}, {groups} groups");
                    let total = u64::from(most) * (rounds + 2);
                    assert!(most <= 1 || total <= MAX_ITERATIONS, "{most} units of {rounds} rounds in one workgroup");
                }
            }
        }
        assert!(shares(1 << 30, 1.0, 0, 2).is_none(), "the queue would overflow");
    }

    #[test]
    fn a_kernel_that_binds_all_that_an_adapter_allows_gets_no_queue() {
        let capabilities =
            Capabilities { workers: Some(2), subgroup: Some(8), storage_buffers: 10, ..Capabilities::default() };
        let main =
            Main { parameters: &[], workgroup: [64, 1, 1].map(Size::Is), body: "{\n}".into(), facts: Facts::NONE };
        let program = Program::new(Shader { main: Some(main), ..Shader::default() });
        let dispatch = |buffers: u32| Dispatch {
            names: vec![],
            program: program.clone(),
            bindings: (0..buffers).map(|binding| (binding, 0, false)).collect(),
            params: vec![],
            fusion: vec![],
            operands: false,
            numbers: Default::default(),
            grid: [37, 1],
            iterations: 0,
            checked: false,
            flops: 0,
            bytes: None,
        };
        let mut forms = HashMap::new();
        assert!(balance(&dispatch(9), 1, &capabilities, &mut forms).is_some());
        assert!(balance(&dispatch(10), 1, &capabilities, &mut forms).is_none());
    }

    #[test]
    fn one_thread_could_do_everything() {
        for (units, rounds) in [(156_250, 1), (256, 128), (5_000, 9_000)] {
            let ([_, _, _, share], groups) = shares(units, 500.0, rounds, 2).unwrap();
            assert!(groups.div_ceil(2) * u64::from(share) >= units, "{groups} groups of {share} for {units}");
        }
    }
}
