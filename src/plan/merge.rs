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
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

mod open;

use open::{History, OpenGroups};

use super::numbers;
use super::text::{Scanned, scan, substitute_names, tokens};
use crate::dispatch::{Dispatch, Numbers, OPERAND_WORDS, Plan, SlotKind};
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
    let mut texts: HashMap<*const u8, Option<Rc<Text>>> = HashMap::new();
    let mut parts: Vec<Option<Part>> = vec![];
    for dispatch in &plan.dispatches {
        let text =
            texts.entry(Arc::as_ptr(&dispatch.source).cast()).or_insert_with(|| Text::new(dispatch).map(Rc::new));
        parts.push(text.as_ref().and_then(|text| Part::new(plan, dispatch, text)));
    }
    let mut waits_of: HashMap<usize, Vec<usize>> = HashMap::new();
    waits.iter().for_each(|&(at, slot)| waits_of.entry(at).or_default().push(slot));
    let mut groups: Vec<Vec<usize>> = vec![];
    let mut history = History::new(plan);
    let mut open = OpenGroups::default();
    for (at, part) in parts.iter().enumerate() {
        let bindings = &plan.dispatches[at].bindings;
        let earliest = history.earliest(bindings, waits_of.get(&at).map_or(&[], Vec::as_slice));
        let fits = |group: usize, part: &Part| {
            let members: Vec<&Part> = groups[group].iter().filter_map(|&i| parts[i].as_ref()).collect();
            may_join(plan, &members, part, capabilities)
        };
        let found = part.as_ref().and_then(|part| open.first(earliest, part, |group| fits(group, part)));
        let group = found.unwrap_or_else(|| {
            groups.push(vec![]);
            groups.len() - 1
        });
        groups[group].push(at);
        history.note(bindings, group);
        if part.is_some() {
            let members: Vec<&Part> = groups[group].iter().filter_map(|&i| parts[i].as_ref()).collect();
            open.note(group, &members, capabilities);
        }
    }
    let stay = recompiled(&groups, &parts);
    let alone = |i: &usize| plan.dispatches[*i].clone();
    let mut joined = HashMap::new();
    let merged = |group: &Vec<usize>| match group.len() {
        2.. if !stay.contains(group) => {
            vec![join(&group.iter().filter_map(|&i| parts[i].as_ref()).collect::<Vec<_>>(), &mut joined)]
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
    let text = |part: &Part| Arc::as_ptr(&part.dispatch.source);
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

/// A kernel's text that may be merged.
struct Text {
    scanned: Scanned,
    /// (binding, access, name, type) of its storage.
    storage: Vec<(u32, String, String, String)>,
    /// Types of its sizes and of its index words.
    uniforms: [Option<String>; 2],
    /// True if it works among the lanes of a subgroup.
    subgroup: bool,
    half: bool,
    /// True if a function has something of its own that is called as a binding.
    hides: bool,
}

/// A dispatch that may be merged.
struct Part<'a> {
    dispatch: &'a Dispatch,
    text: Rc<Text>,
    small: bool,
}

impl Deref for Text {
    type Target = Scanned;

    fn deref(&self) -> &Scanned {
        &self.scanned
    }
}

impl Text {
    fn new(dispatch: &Dispatch) -> Option<Text> {
        let mut scanned = scan(&dispatch.source)?;
        // What replaces the uniforms is no name, so nothing local may be called so.
        if scanned.waits || ["p", "f", "operands"].iter().any(|name| scanned.declares_local(name)) {
            return None;
        }
        // `main` may ask for nothing that a merged kernel cannot give.
        scanned.values("", "", "")?;
        let bindings = std::mem::take(&mut scanned.bindings);
        let (mut storage, mut uniforms) = (vec![], [None, None]);
        for (binding, access, name, kind) in bindings {
            match (binding, name.as_str()) {
                (PARAMS, "p") => uniforms[0] = Some(kind),
                (FUSION, "f") => uniforms[1] = Some(kind),
                (OPERANDS, "operands") => {}
                (PARAMS | FUSION | OPERANDS, _) => return None,
                _ => storage.push((binding, access, name, kind)),
            }
        }
        let subgroup = scanned.body.contains("subgroup");
        let half = dispatch.source.contains("enable f16;");
        let hides = storage.iter().any(|(.., name, _)| scanned.declares_local(name));
        Some(Text { scanned, storage, uniforms, subgroup, half, hides })
    }
}

impl<'a> Part<'a> {
    fn new(plan: &Plan, dispatch: &'a Dispatch, text: &Rc<Text>) -> Option<Part<'a>> {
        let bound = |&(binding, ..): &(u32, _, _, _)| dispatch.bindings.iter().any(|known| known.0 == binding);
        let complete = text.storage.iter().all(bound)
            && text.uniforms[0].is_some() != dispatch.params.is_empty()
            && text.uniforms[1].is_some() != dispatch.fusion.is_empty();
        let part = Part { dispatch, text: text.clone(), small: is_small(plan, dispatch) };
        (complete && !dispatch.checked).then_some(part)
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
    let costs = capabilities.costs();
    let tiles = group.iter().filter(|other| other.text.tile).count() + usize::from(part.text.tile);
    let all_small = part.small && group.iter().all(|other| other.small);
    let shared = || part.reads().any(|slot| group.iter().any(|other| other.reads().any(|read| read == slot)));
    // A large kernel takes a light one along that reads the same: the sum of a gradient beside its product.
    if group.len() >= MOST || !(all_small || costs.dear_dispatches && tiles <= 1 && shared()) {
        return false;
    }
    let all: Vec<&Part> = group.iter().chain([&part]).copied().collect();
    let width = all.iter().map(|part| part.width()).min().unwrap_or(1);
    let fits = |part: &&Part| {
        let turns = u64::from(part.width() / width);
        let whole = part.width().is_multiple_of(width) && (turns == 1 || !part.text.subgroup);
        whole && (turns == 1 || costs.lanes_in_turn) && (part.dispatch.iterations + 1) * turns <= MAX_ITERATIONS
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
    all.iter().all(fits)
        && !mixed
        && bindings(&all).0.len() <= capabilities.storage_buffers
        && numbers::fit(all.iter().map(|part| part.dispatch))
}

/// A storage binding of the merged kernel: (slot, written, part and number among its bindings).
type Bound = (usize, bool, (usize, usize));

/// The bindings of the merged kernel, and for each part the number of each of its own. Parts share what they only read,
/// unless the type of its elements is one of their own.
fn bindings(parts: &[&Part]) -> (Vec<Bound>, Vec<BTreeMap<u32, usize>>) {
    let mut all: Vec<Bound> = vec![];
    let mut numbers = vec![];
    for (k, part) in parts.iter().enumerate() {
        let mut own = BTreeMap::new();
        for (i, (binding, access, _, kind)) in part.text.storage.iter().enumerate() {
            let Some(&(_, slot, write)) = part.dispatch.bindings.iter().find(|known| known.0 == *binding) else {
                continue;
            };
            let known = all.iter().position(|&(other, written, (j, number))| {
                let (_, its_access, _, its_kind) = &parts[j].text.storage[number];
                let same = (other, written, its_access, its_kind) == (slot, false, access, kind);
                !write && same && (j == k || !tokens(kind).any(|name| part.text.names.contains(name)))
            });
            // A function that calls something of its own as a binding is called hides that one: under a name for two of its
            // bindings it would hide both.
            let taken = |number: &usize| own.values().any(|own| own == number);
            let known = known.filter(|number| !(taken(number) && part.text.hides));
            own.insert(*binding, known.unwrap_or(all.len()));
            if known.is_none() {
                all.push((slot, write, (k, i)));
            }
        }
        numbers.push(own);
    }
    (all, numbers)
}

/// What the text of a merged kernel depends on: for each part its text, the lengths of its words, whether it takes host
/// numbers, and the numbers of its bindings.
type TextKey = Vec<(*const u8, usize, usize, bool, BTreeMap<u32, usize>)>;

fn join(parts: &[&Part], texts: &mut HashMap<TextKey, Arc<str>>) -> Dispatch {
    let width = parts.iter().map(|part| part.width()).min().unwrap_or(1);
    let (bound, numbers) = bindings(parts);
    let count = |part: &Part| u64::from(part.dispatch.grid[0]) * u64::from(part.dispatch.grid[1]);
    let (mut words, mut end) = (vec![], 0);
    for part in parts {
        end += count(part);
        words.push(end as u32);
    }
    let (mut places, mut iterations) = (vec![], 0);
    for part in parts {
        for (k, data) in [&part.dispatch.params, &part.dispatch.fusion].into_iter().enumerate() {
            if part.text.uniforms[k].is_none() {
                continue;
            }
            words.resize(words.len().next_multiple_of(4), 0);
            let own = part.dispatch.numbers.places.iter().filter(|_| k == 1);
            places.extend(own.map(|place| place + words.len()));
            words.extend(data);
            words.resize(words.len() + data.len().next_multiple_of(ROUND[k]) - data.len(), 0);
        }
        iterations = iterations.max((part.dispatch.iterations + 1) * u64::from(part.width() / width));
    }
    let dispatches = parts.iter().map(|part| part.dispatch);
    let lengths = |dispatch: &Dispatch| (dispatch.params.len(), dispatch.fusion.len());
    let key = dispatches.clone().zip(&numbers).map(|(dispatch, numbers)| {
        let (params, fusion) = lengths(dispatch);
        (Arc::as_ptr(&dispatch.source).cast(), params, fusion, dispatch.operands, numbers.clone())
    });
    let source = texts.entry(key.collect()).or_insert_with(|| joined_text(parts, width, &bound, &numbers).into());
    Dispatch {
        name: dispatches.clone().map(|dispatch| dispatch.name.as_str()).collect::<Vec<_>>().join(" | "),
        source: source.clone(),
        bindings: bound.iter().enumerate().map(|(i, bound)| (EXTRA + i as u32, bound.0, bound.1)).collect(),
        params: words,
        fusion: vec![],
        operands: dispatches.clone().any(|dispatch| dispatch.operands),
        numbers: Numbers { window: 0, places },
        // The parts' own grids were within the limits; six of them are too, folded.
        grid: fold_workgroups(end).unwrap_or([u32::from(u16::MAX); 2]),
        iterations,
        checked: false,
        flops: dispatches.clone().map(|dispatch| dispatch.flops).sum(),
        bytes: dispatches.map(|dispatch| dispatch.bytes).sum(),
    }
}

/// Words that the sizes, and the index words, of a part are rounded up to: an array of index words has a round length.
const ROUND: [usize; 2] = [4, 64];

fn joined_text(parts: &[&Part], width: u32, bound: &[Bound], numbers: &[BTreeMap<u32, usize>]) -> String {
    let (mut members, mut globals, mut bodies, mut calls) =
        (String::new(), String::new(), String::new(), String::new());
    for k in 0..parts.len() {
        let _ = writeln!(members, "    end_{k}: u32,");
    }
    let own_type = |part: usize, kind: &str| {
        substitute_names(kind, &|name| parts[part].text.names.contains(name).then(|| format!("{name}_{part}")))
    };
    for (k, part) in parts.iter().enumerate() {
        for (i, data) in [&part.dispatch.params, &part.dispatch.fusion].into_iter().enumerate() {
            let Some(kind) = &part.text.uniforms[i] else { continue };
            let (kind, letter) = (own_type(k, kind), ["p", "f"][i]);
            let bytes = data.len().next_multiple_of(ROUND[i]) * 4;
            let _ = writeln!(members, "    @align(16) @size({bytes}) {letter}_{k}: {kind},");
        }
        let own: HashMap<&str, usize> = part
            .text
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
        calls.push_str(&call(part, k, part.width() / width, width));
    }
    if parts.iter().any(|part| part.dispatch.operands) {
        let length = OPERAND_WORDS / 4;
        let _ = writeln!(globals, "@group(0) @binding({OPERANDS}) var<uniform> operands: array<vec4<u32>, {length}>;");
    }
    for (number, &(_, _, (part, i))) in bound.iter().enumerate() {
        let binding = EXTRA as usize + number;
        let (_, access, _, kind) = &parts[part].text.storage[i];
        let kind = own_type(part, kind);
        let _ = writeln!(globals, "@group(0) @binding({binding}) var<storage, {access}> data_{number}: {kind};");
    }
    let half = if parts.iter().any(|part| part.text.half) { "enable f16;\n" } else { "" };
    format!(
        "{half}struct Merged {{\n{members}}}\n@group(0) @binding({PARAMS}) var<uniform> merged: Merged;\n{globals}{bodies}\n\
         @compute @workgroup_size({width})\nfn main(@builtin(workgroup_id) group: vec3<u32>, \
         @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {{\n    \
         let at = group.x + group.y * groups.x;\n{calls}}}\n"
    )
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
