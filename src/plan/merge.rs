//! Independent small dispatches become one: a dispatch costs a software driver as much as some 100,000 operations, and
//! leaves most of a GPU idle where it is small.
//!
//! Their parts are put one after the other, each under names with a number, and a new `main` sends every workgroup
//! to the kernel that it belongs to. Kernels with workgroup memory stay alone, and so do those of users.
//!
//! What is merged depends on the structure and on the sizes of parameters, never on the batch, so that another batch size
//! finds the same texts. Not everything that is independent is joined: each combination of tile kernels is a text of its own,
//! and such a text takes long to compile (`docs/software-drivers.md`, "merging").

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

mod open;

use open::{History, OpenGroups};
use rustc_hash::{FxHashMap, FxHashSet};

use super::number;
use crate::dispatch::{Dispatch, Numbers, Plan, SlotKind};
use crate::kernel::{Capabilities, EXTRA, MAX_ITERATIONS, Shader, fold_workgroups};
use crate::shader::{Facts, Item, Main, Program, Size, Storage, USUAL, names, renamed};

/// Most kernels in one.
const MOST: usize = 6;
/// A kernel is small where the parameters that it reads, or whose gradients it writes, have no more elements.
const SMALL_PARAMETER: usize = 16 << 10;
/// Or where it touches no parameter and its results have no more bytes.
const SMALL_RESULT: u64 = 256;

/// Merges what is independent and small; slots are not shared yet, so only real dependencies, and
/// `waits` (dispatch, slot that it must not be there before), keep an order.
pub fn merge(plan: &mut Plan, waits: &[(usize, usize)], capabilities: &Capabilities) {
    let mut forms: FxHashMap<*const Program, Option<Rc<Form>>> = FxHashMap::default();
    let mut parts: Vec<Option<Part>> = vec![];
    for dispatch in &plan.dispatches {
        let form = forms.entry(Arc::as_ptr(&dispatch.program));
        let form = form.or_insert_with(|| Form::new(&dispatch.program).map(Rc::new));
        parts.push(form.as_ref().and_then(|form| Part::new(plan, dispatch, form)));
    }
    let mut waits_of: FxHashMap<usize, Vec<usize>> = FxHashMap::default();
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
    let mut joined = FxHashMap::default();
    let merged = |group: &Vec<usize>| match group.len() {
        2.. if !stay.contains(group) => {
            let mut members: Vec<&Part> = group.iter().filter_map(|&i| parts[i].as_ref()).collect();
            // What writes most goes first, so that workers end together (`docs/software-drivers.md`, "merging").
            members.sort_by_key(|part| Reverse(part.writes()));
            vec![join(&members, &mut joined)]
        }
        _ => group.iter().map(alone).collect(),
    };
    plan.dispatches = groups.iter().flat_map(merged).collect();
}

/// The groups that would compile a tile once more: what goes with it differs from group to group, and it is not for being
/// small that they are groups. What they save is less than what compiling costs (`docs/software-drivers.md`, "merging").
fn recompiled(groups: &[Vec<usize>], parts: &[Option<Part>]) -> FxHashSet<Vec<usize>> {
    let members = |group: &[usize]| group.iter().filter_map(|&i| parts[i].as_ref()).collect::<Vec<_>>();
    let program = |part: &Part| Arc::as_ptr(&part.dispatch.program);
    let tile = |group: &[usize]| {
        let members = members(group);
        let small = members.len() > 1 && members.iter().all(|part| part.small);
        members.into_iter().find(|part| part.tile && !small).map(program)
    };
    let mut with: FxHashMap<_, FxHashSet<Vec<_>>> = FxHashMap::default();
    for group in groups {
        if let Some(tile) = tile(group) {
            with.entry(tile).or_default().insert(members(group).into_iter().map(program).collect());
        }
    }
    let differs = |group: &&Vec<usize>| tile(group).is_some_and(|tile| with[&tile].len() > 1);
    groups.iter().filter(differs).cloned().collect()
}

/// A shader that may be merged.
struct Form {
    program: Arc<Program>,
    /// Invocations of a workgroup.
    width: u32,
    /// Names that it declares.
    names: FxHashSet<String>,
    /// True if it works among the lanes of a subgroup.
    subgroup: bool,
    tile: bool,
}

/// A dispatch that may be merged.
struct Part<'a> {
    dispatch: &'a Dispatch,
    form: Rc<Form>,
    small: bool,
}

impl Deref for Part<'_> {
    type Target = Form;

    fn deref(&self) -> &Form {
        &self.form
    }
}

impl Form {
    fn new(program: &Arc<Program>) -> Option<Form> {
        let shader = &program.shader;
        let facts = shader.facts();
        if facts.has(Facts::WAITS) || shader.foreign.is_some() || !shader.helpers.is_empty() {
            return None;
        }
        // `main` may ask for nothing that a merged kernel cannot give.
        shader.arguments("", "", "")?;
        Some(Form {
            program: program.clone(),
            width: shader.workgroup()?.iter().product(),
            names: shader.declared().into_iter().map(String::from).collect(),
            subgroup: facts.has(Facts::SUBGROUP),
            tile: facts.has(Facts::TILE),
        })
    }

    fn storage(&self) -> &[Storage] {
        &self.program.shader.storage
    }

    /// True if elements of this type have a meaning in this shader alone.
    fn is_own(&self, element: &str) -> bool {
        names(element).any(|name| self.names.contains(name))
    }

    /// What stands for a name of this shader as part `k` whose bindings are called as `data` says.
    fn name(&self, k: usize, data: &FxHashMap<&str, usize>, name: &str) -> Option<String> {
        match (data.get(name), name) {
            (Some(number), _) => Some(format!("$data_{number}$")),
            (None, "p" | "f") => Some(format!("$p$.{name}_{k}")),
            _ => self.names.contains(name).then(|| format!("${name}_{k}$")),
        }
    }
}

impl<'a> Part<'a> {
    fn new(plan: &Plan, dispatch: &'a Dispatch, form: &Rc<Form>) -> Option<Part<'a>> {
        let shader = &form.program.shader;
        let bound = |storage: &Storage| dispatch.bindings.iter().any(|known| known.0 == storage.binding);
        let complete = shader.storage.iter().all(bound)
            && shader.params.is_some() != dispatch.params.is_empty()
            && (shader.fusion > 0) != dispatch.fusion.is_empty();
        let part = Part { dispatch, form: form.clone(), small: is_small(plan, dispatch) };
        (complete && !dispatch.checked).then_some(part)
    }

    /// How many slots it writes.
    fn writes(&self) -> usize {
        self.dispatch.bindings.iter().filter(|binding| binding.2).count()
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
    let tiles = group.iter().filter(|other| other.tile).count() + usize::from(part.tile);
    let all_small = part.small && group.iter().all(|other| other.small);
    let shared = || part.reads().any(|slot| group.iter().any(|other| other.reads().any(|read| read == slot)));
    // A large kernel takes a light one along that reads the same: the sum of a gradient beside its product.
    if group.len() >= MOST || !(all_small || costs.dear_dispatches && tiles <= 1 && shared()) {
        return false;
    }
    let all: Vec<&Part> = group.iter().chain([&part]).copied().collect();
    let width = all.iter().map(|part| part.width).min().unwrap_or(1);
    let fits = |part: &&Part| {
        let turns = u64::from(part.width / width);
        let whole = part.width.is_multiple_of(width) && (turns == 1 || !part.subgroup);
        whole && (turns == 1 || costs.lanes_in_turn) && (part.dispatch.iterations + 1) * turns <= MAX_ITERATIONS
    };
    // A buffer is bound for reading or for writing in one dispatch, not for both.
    let arena = |slot: usize| match &plan.slots[slot].kind {
        SlotKind::Arena(arena, ..) => Some(arena.id),
        _ => None,
    };
    let mut access: FxHashMap<u64, bool> = FxHashMap::default();
    let mixed = all
        .iter()
        .flat_map(|part| &part.dispatch.bindings)
        .any(|&(_, slot, write)| arena(slot).is_some_and(|id| *access.entry(id).or_insert(write) != write));
    all.iter().all(fits)
        && !mixed
        && bindings(&all).0.len() <= capabilities.storage_buffers
        && number::fit(all.iter().map(|part| part.dispatch))
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
        for (i, storage) in part.storage().iter().enumerate() {
            let Some(&(_, slot, write)) = part.dispatch.bindings.iter().find(|known| known.0 == storage.binding) else {
                continue;
            };
            let known = all.iter().position(|&(other, written, (j, number))| {
                let its = &parts[j].storage()[number];
                let same = (other, written, its.write, &its.element) == (slot, false, storage.write, &storage.element);
                !write && same && (j == k || !part.is_own(&storage.element))
            });
            own.insert(storage.binding, known.unwrap_or(all.len()));
            if known.is_none() {
                all.push((slot, write, (k, i)));
            }
        }
        numbers.push(own);
    }
    (all, numbers)
}

/// What a merged shader depends on: for each part its program, the lengths of its words, whether it takes host numbers, and
/// the numbers of its bindings.
type Key = Vec<(*const Program, usize, usize, bool, BTreeMap<u32, usize>)>;

fn join(parts: &[&Part], programs: &mut FxHashMap<Key, Arc<Program>>) -> Dispatch {
    let width = parts.iter().map(|part| part.width).min().unwrap_or(1);
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
            if data.is_empty() {
                continue;
            }
            words.resize(words.len().next_multiple_of(4), 0);
            let own = part.dispatch.numbers.places.iter().filter(|_| k == 1);
            places.extend(own.map(|place| place + words.len()));
            words.extend(data);
            words.resize(words.len() + data.len().next_multiple_of(ROUND[k]) - data.len(), 0);
        }
        iterations = iterations.max((part.dispatch.iterations + 1) * u64::from(part.width / width));
    }
    let dispatches = parts.iter().map(|part| part.dispatch);
    let lengths = |dispatch: &Dispatch| (dispatch.params.len(), dispatch.fusion.len());
    let key = dispatches.clone().zip(&numbers).map(|(dispatch, numbers)| {
        let (params, fusion) = lengths(dispatch);
        (Arc::as_ptr(&dispatch.program), params, fusion, dispatch.operands, numbers.clone())
    });
    let program = programs.entry(key.collect());
    let program = program.or_insert_with(|| Program::new(joined(parts, width, &bound, &numbers)));
    Dispatch {
        names: dispatches.clone().flat_map(|dispatch| dispatch.names.iter().cloned()).collect(),
        program: program.clone(),
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

fn joined(parts: &[&Part], width: u32, bound: &[Bound], numbers: &[BTreeMap<u32, usize>]) -> Shader {
    let (mut shader, mut members, mut calls) = (Shader::default(), String::new(), String::new());
    for k in 0..parts.len() {
        let _ = writeln!(members, "    end_{k}: u32,");
    }
    for (k, part) in parts.iter().enumerate() {
        let own = &part.program.shader;
        let kinds = ["$Params$".to_string(), format!("array<vec4<u32>, {}>", own.fusion)];
        let data: FxHashMap<&str, usize> = own
            .storage
            .iter()
            .filter_map(|storage| Some((storage.name.as_ref(), *numbers[k].get(&storage.binding)?)))
            .collect();
        let rename = |name: &str| part.name(k, &data, name);
        for (i, data) in [&part.dispatch.params, &part.dispatch.fusion].into_iter().enumerate() {
            if !data.is_empty() {
                let (kind, letter) = (renamed(&kinds[i], &rename), ["p", "f"][i]);
                let bytes = data.len().next_multiple_of(ROUND[i]) * 4;
                let _ = writeln!(members, "    @align(16) @size({bytes}) {letter}_{k}: {kind},");
            }
        }
        let main = own.body().and_then(|body| own.main_function(&format!("main_{k}"), &body));
        shader.items.extend(own.params.iter().chain(&own.items).chain(&main).map(|item| item.renamed(&rename)));
        shader.operands = shader.operands.max(own.operands);
        calls.push_str(&call(part, k, part.width / width, width));
    }
    for (number, &(_, write, (part, i))) in bound.iter().enumerate() {
        let Storage { element, .. } = &parts[part].storage()[i];
        let element = renamed(element, &|name| parts[part].name(part, &FxHashMap::default(), name));
        shader = shader.bound(EXTRA + number as u32, write, format!("data_{number}"), element);
    }
    shader.params = Some(Item::new("Params", format!("struct $Params$ {{\n{members}}}\n")));
    let body = format!("{{\n    let at = group.x + group.y * groups.x;\n{calls}}}");
    let workgroup = [width, 1, 1].map(Size::Is);
    shader.main = Some(Main { parameters: USUAL, workgroup, body: body.into(), facts: Facts::NONE });
    shader
}

/// The branch of `main` that runs part `k`, whose workgroups are `turns` times as wide.
fn call(part: &Part, k: usize, turns: u32, width: u32) -> String {
    let first = if k == 0 { "0u".to_string() } else { format!("$p$.end_{}", k - 1) };
    let lane = if turns == 1 { "lane".to_string() } else { format!("(turn * {width}u + lane)") };
    let shader = &part.program.shader;
    let values = shader.arguments("(at - first)", &format!("$p$.end_{k} - first"), &lane).unwrap_or_default();
    let run = format!("$main_{k}$({values});");
    let run = match turns {
        1 => run,
        _ => format!(
            "var turn = 0u;\n        loop {{\n            {run}\n            turn++;\n            if turn >= {turns}u {{\n                \
             break;\n            }}\n        }}"
        ),
    };
    let otherwise = if k == 0 { "    if" } else { "    else if" };
    format!("{otherwise} at < $p$.end_{k} {{\n        let first = {first};\n        {run}\n    }}\n")
}
