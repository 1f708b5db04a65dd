//! Independent small dispatches become one: a dispatch costs a software driver as much as some 100,000 operations, and
//! leaves most of a GPU idle where it is small.
//!
//! The texts are put one after the other, each with its names marked by a number, and a new `main` sends every workgroup
//! to the kernel that it belongs to. Kernels with workgroup memory stay alone, and so do those of users.
//!
//! What is merged hangs on the structure and on the sizes of parameters, never on the batch, so that another batch size
//! finds the same texts. Joining everything that is independent lost: each combination of tile kernels is a text of its
//! own, and one takes 0.1-0.5 s to compile on a software driver.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write;

use super::text::{Scanned, scan, substitute_names};
use super::{Dispatch, Plan, SlotKind};
use crate::kernel::{Capabilities, EXTRA, FUSION, MAX_ITERATIONS, OPERANDS, PARAMS, fold_workgroups};

/// Most kernels in one.
const MOST: usize = 6;
/// A kernel is small where the parameters that it reads, or whose gradients it writes, have no more elements.
const SMALL_PARAMETER: usize = 16 << 10;
/// Or where it touches no parameter and its results have no more bytes.
const SMALL_RESULT: u64 = 256;

/// Merges what is independent and small; slots are not shared yet, so only real dependencies, and
/// `waits` (dispatch, slot that it must not be there before), keep an order.
pub fn merge(plan: &mut Plan, waits: &[(usize, usize)], capabilities: &Capabilities) {
    let parts: Vec<Option<Part>> = plan.dispatches.iter().map(|dispatch| Part::new(plan, dispatch)).collect();
    let mut groups: Vec<Vec<usize>> = vec![];
    let mut group_of: Vec<usize> = vec![];
    for at in 0..plan.dispatches.len() {
        let needs = (0..at)
            .filter(|&other| depends(plan, other, at) || waits_for(plan, waits, other, at))
            .map(|other| group_of[other] + 1);
        let earliest = needs.max().unwrap_or(0);
        let fits = |group: &&usize| {
            let members: Option<Vec<&Part>> = groups[**group].iter().map(|&i| parts[i].as_ref()).collect();
            match (members, &parts[at]) {
                (Some(members), Some(part)) => may_join(plan, &members, part, capabilities),
                _ => false,
            }
        };
        let found = (earliest..groups.len()).collect::<Vec<_>>().iter().find(fits).copied();
        let group = found.unwrap_or_else(|| {
            groups.push(vec![]);
            groups.len() - 1
        });
        groups[group].push(at);
        group_of.push(group);
    }
    let stay = recompiled(&groups, &parts);
    let alone = |i: &usize| plan.dispatches[*i].clone();
    let merged = |group: &Vec<usize>| match group.len() {
        2.. if !stay.contains(group) => {
            vec![join(&group.iter().filter_map(|&i| parts[i].as_ref()).collect::<Vec<_>>())]
        }
        _ => group.iter().map(alone).collect(),
    };
    plan.dispatches = groups.iter().flat_map(merged).collect();
}

/// The groups that would compile a tile once more: what goes with it differs from group to group, and it is not for being
/// small that they are groups. With five such groups left apart the first step of a transformer block, all caches off, took
/// 0.77 of the time (medians of four, in turn), for 41 dispatches instead of 36.
fn recompiled(groups: &[Vec<usize>], parts: &[Option<Part>]) -> HashSet<Vec<usize>> {
    let members = |group: &[usize]| group.iter().filter_map(|&i| parts[i].as_ref()).collect::<Vec<_>>();
    let text = |part: &Part| part.dispatch.source.clone();
    let tile = |group: &[usize]| {
        let members = members(group);
        let small = members.len() > 1 && members.iter().all(|part| part.small);
        members.into_iter().find(|part| part.text.tile && !small).map(text)
    };
    let mut with: HashMap<_, HashSet<Vec<_>>> = HashMap::new();
    for group in groups {
        if let Some(tile) = tile(group) {
            with.entry(tile).or_default().insert(members(group).into_iter().map(text).collect());
        }
    }
    let differs = |group: &&Vec<usize>| tile(group).is_some_and(|tile| with[&tile].len() > 1);
    groups.iter().filter(differs).cloned().collect()
}

/// True if two slots share memory.
fn overlap(plan: &Plan, a: usize, b: usize) -> bool {
    match (&plan.slots[a].kind, &plan.slots[b].kind) {
        (SlotKind::Arena(one, start, length), SlotKind::Arena(other, from, count)) => {
            one.id == other.id && *start < from + count && *from < start + length
        }
        _ => a == b,
    }
}

/// True if `later` must run after `earlier`.
fn depends(plan: &Plan, earlier: usize, later: usize) -> bool {
    let (one, other) = (&plan.dispatches[earlier].bindings, &plan.dispatches[later].bindings);
    one.iter().any(|&(_, a, wrote)| other.iter().any(|&(_, b, writes)| (wrote || writes) && overlap(plan, a, b)))
}

/// True if `later` waits for something that `earlier` writes, without binding it: run earlier, it would only take memory
/// for longer.
fn waits_for(plan: &Plan, waits: &[(usize, usize)], earlier: usize, later: usize) -> bool {
    let written =
        |slot: usize| plan.dispatches[earlier].bindings.iter().any(|&(_, bound, write)| write && bound == slot);
    waits.iter().any(|&(at, slot)| at == later && written(slot))
}

/// A dispatch that may be merged.
struct Part<'a> {
    dispatch: &'a Dispatch,
    text: Scanned,
    /// (binding, access, name, type) of its storage.
    storage: Vec<(u32, String, String, String)>,
    /// Types of its sizes and of its index words.
    uniforms: [Option<String>; 2],
    small: bool,
}

impl<'a> Part<'a> {
    fn new(plan: &Plan, dispatch: &'a Dispatch) -> Option<Part<'a>> {
        if dispatch.checked {
            return None;
        }
        let mut text = scan(&dispatch.source)?;
        // What replaces the uniforms is no name, so nothing local may be called so.
        if text.waits || ["p", "f", "operands"].iter().any(|name| text.declares_local(name)) {
            return None;
        }
        // `main` may ask for nothing that a merged kernel cannot give.
        text.values("", "", "")?;
        let bindings = std::mem::take(&mut text.bindings);
        let mut part =
            Part { dispatch, text, storage: vec![], uniforms: [None, None], small: is_small(plan, dispatch) };
        for (binding, access, name, kind) in bindings {
            match (binding, name.as_str()) {
                (PARAMS, "p") => part.uniforms[0] = Some(kind),
                (FUSION, "f") => part.uniforms[1] = Some(kind),
                (OPERANDS, "operands") => {}
                (PARAMS | FUSION | OPERANDS, _) => return None,
                _ => part.storage.push((binding, access, name, kind)),
            }
        }
        let bound = |&(binding, ..): &(u32, _, _, _)| dispatch.bindings.iter().any(|known| known.0 == binding);
        let complete = part.storage.iter().all(bound)
            && part.uniforms[0].is_some() != dispatch.params.is_empty()
            && part.uniforms[1].is_some() != dispatch.fusion.is_empty();
        complete.then_some(part)
    }

    fn width(&self) -> u32 {
        self.text.workgroup.iter().product()
    }

    /// Slots that it only reads.
    fn reads(&self) -> impl Iterator<Item = usize> {
        self.dispatch.bindings.iter().filter(|binding| !binding.2).map(|binding| binding.1)
    }
}

fn is_small(plan: &Plan, dispatch: &Dispatch) -> bool {
    let mut largest = None;
    for &(_, slot, _) in &dispatch.bindings {
        if let SlotKind::Arena(_, _, elements) = plan.slots[slot].kind {
            largest = largest.max(Some(elements));
        }
    }
    let written = dispatch.bindings.iter().filter(|binding| binding.2).map(|&(_, slot, _)| plan.slots[slot].bytes);
    largest.map_or_else(|| written.sum::<u64>() <= SMALL_RESULT, |largest| largest <= SMALL_PARAMETER)
}

fn may_join(plan: &Plan, group: &[&Part], part: &Part, capabilities: &Capabilities) -> bool {
    let tiles = group.iter().filter(|other| other.text.tile).count() + usize::from(part.text.tile);
    let all_small = part.small && group.iter().all(|other| other.small);
    let shared = || part.reads().any(|slot| group.iter().any(|other| other.reads().any(|read| read == slot)));
    // A large kernel takes a light one along that reads the same: the sum of a gradient beside its product.
    if group.len() >= MOST || !(all_small || capabilities.software && tiles <= 1 && shared()) {
        return false;
    }
    let all: Vec<&Part> = group.iter().chain([&part]).copied().collect();
    let width = all.iter().map(|part| part.width()).min().unwrap_or(1);
    let fits = |part: &&Part| {
        let turns = u64::from(part.width() / width);
        let whole = part.width().is_multiple_of(width) && (turns == 1 || !part.text.body.contains("subgroup"));
        whole && (turns == 1 || capabilities.software) && (part.dispatch.iterations + 1) * turns <= MAX_ITERATIONS
    };
    // A buffer is bound for reading or for writing in one dispatch, not for both.
    let arena = |slot: usize| match &plan.slots[slot].kind {
        SlotKind::Arena(arena, ..) => Some(arena.id),
        _ => None,
    };
    let mut access: HashMap<u64, bool> = HashMap::new();
    let mixed = all
        .iter()
        .flat_map(|part| &part.dispatch.bindings)
        .any(|&(_, slot, write)| arena(slot).is_some_and(|id| *access.entry(id).or_insert(write) != write));
    all.iter().all(fits) && !mixed && bindings(&all).0.len() <= capabilities.storage_buffers
}

/// A storage binding of the merged kernel: (slot, written, declaration after the name).
type Bound = (usize, bool, String, String);

/// The bindings of the merged kernel, and for each part the number of each of its own. Parts share what they only read.
fn bindings(parts: &[&Part]) -> (Vec<Bound>, Vec<BTreeMap<u32, usize>>) {
    let mut all: Vec<Bound> = vec![];
    let mut numbers = vec![];
    for (k, part) in parts.iter().enumerate() {
        let mut own = BTreeMap::new();
        for (binding, access, _, kind) in &part.storage {
            let Some(&(_, slot, write)) = part.dispatch.bindings.iter().find(|known| known.0 == *binding) else {
                continue;
            };
            let kind = substitute_names(kind, &|name| part.text.names.contains(name).then(|| format!("{name}_{k}")));
            let bound = (slot, write, access.clone(), kind);
            let known = all.iter().position(|other| !write && *other == bound);
            // A function that calls something of its own as a binding is called hides that one: under a name for two of its
            // bindings it would hide both.
            let taken = |number: &usize| own.values().any(|own| own == number);
            let hides = || part.storage.iter().any(|(.., name, _)| part.text.declares_local(name));
            let known = known.filter(|number| !(taken(number) && hides()));
            own.insert(*binding, known.unwrap_or(all.len()));
            if known.is_none() {
                all.push(bound);
            }
        }
        numbers.push(own);
    }
    (all, numbers)
}

fn join(parts: &[&Part]) -> Dispatch {
    let width = parts.iter().map(|part| part.width()).min().unwrap_or(1);
    let (bound, numbers) = bindings(parts);
    let count = |part: &Part| u64::from(part.dispatch.grid[0]) * u64::from(part.dispatch.grid[1]);
    let (mut members, mut globals, mut bodies, mut calls) =
        (String::new(), String::new(), String::new(), String::new());
    let (mut words, mut end) = (vec![], 0);
    for (k, part) in parts.iter().enumerate() {
        end += count(part);
        words.push(end as u32);
        let _ = writeln!(members, "    end_{k}: u32,");
    }
    let (mut operands, mut iterations) = (None, 0);
    for (k, part) in parts.iter().enumerate() {
        for (letter, kind, data) in
            [("p", &part.uniforms[0], &part.dispatch.params), ("f", &part.uniforms[1], &part.dispatch.fusion)]
        {
            let Some(kind) = kind else { continue };
            let kind = substitute_names(kind, &|name| part.text.names.contains(name).then(|| format!("{name}_{k}")));
            // An array of index words has a round length.
            let round = if letter == "f" { 64 } else { 4 };
            words.resize(words.len().next_multiple_of(4), 0);
            words.extend(data);
            words.resize(words.len() + data.len().next_multiple_of(round) - data.len(), 0);
            let bytes = data.len().next_multiple_of(round) * 4;
            let _ = writeln!(members, "    @align(16) @size({bytes}) {letter}_{k}: {kind},");
        }
        let own: HashMap<&str, usize> = part
            .storage
            .iter()
            .filter_map(|(binding, _, name, _)| Some((name.as_str(), *numbers[k].get(binding)?)))
            .collect();
        bodies.push_str(&substitute_names(&part.text.body, &|name| {
            if let Some(number) = own.get(name) {
                return Some(format!("data_{number}"));
            }
            match name {
                "p" | "f" => Some(format!("merged.{name}_{k}")),
                "operands" => None,
                _ => part.text.names.contains(name).then(|| format!("{name}_{k}")),
            }
        }));
        if part.dispatch.operands {
            operands = Some(super::place::OPERAND_WORDS / 4);
        }
        let turns = part.width() / width;
        iterations = iterations.max((part.dispatch.iterations + 1) * u64::from(turns));
        calls.push_str(&call(part, k, turns, width));
    }
    if let Some(length) = operands {
        let _ = writeln!(globals, "@group(0) @binding({OPERANDS}) var<uniform> operands: array<vec4<u32>, {length}>;");
    }
    for (number, (_, _, access, kind)) in bound.iter().enumerate() {
        let binding = EXTRA as usize + number;
        let _ = writeln!(globals, "@group(0) @binding({binding}) var<storage, {access}> data_{number}: {kind};");
    }
    let half = if parts.iter().any(|part| part.dispatch.source.contains("enable f16;")) { "enable f16;\n" } else { "" };
    let text = format!(
        "{half}struct Merged {{\n{members}}}\n@group(0) @binding({PARAMS}) var<uniform> merged: Merged;\n{globals}{bodies}\n\
         @compute @workgroup_size({width})\nfn main(@builtin(workgroup_id) group: vec3<u32>, \
         @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {{\n    \
         let at = group.x + group.y * groups.x;\n{calls}}}\n"
    );
    Dispatch {
        name: parts.iter().map(|part| part.dispatch.name.as_str()).collect::<Vec<_>>().join(" | "),
        source: text.into(),
        bindings: bound.iter().enumerate().map(|(i, bound)| (EXTRA + i as u32, bound.0, bound.1)).collect(),
        params: words,
        fusion: vec![],
        operands: operands.is_some(),
        // The parts' own grids were within the limits; six of them are too, folded.
        grid: fold_workgroups(end).unwrap_or([u32::from(u16::MAX); 2]),
        iterations,
        checked: false,
        flops: parts.iter().map(|part| part.dispatch.flops).sum(),
        bytes: parts.iter().map(|part| part.dispatch.bytes).sum(),
    }
}

/// The branch of `main` that runs part `k`, whose workgroups are `turns` times as wide.
fn call(part: &Part, k: usize, turns: u32, width: u32) -> String {
    let first = if k == 0 { "0u".to_string() } else { format!("merged.end_{}", k - 1) };
    let lane = if turns == 1 { "lane".to_string() } else { format!("(turn * {width}u + lane)") };
    let values = part.text.values("(at - first)", &format!("merged.end_{k} - first"), &lane).unwrap_or_default();
    let run = format!("main_{k}({values});");
    let run = match turns {
        1 => run,
        _ => format!(
            "var turn = 0u;\n        loop {{\n            {run}\n            turn++;\n            if turn >= {turns}u {{\n                \
             break;\n            }}\n        }}"
        ),
    };
    let otherwise = if k == 0 { "    if" } else { "    else if" };
    format!("{otherwise} at < merged.end_{k} {{\n        let first = {first};\n        {run}\n    }}\n")
}
