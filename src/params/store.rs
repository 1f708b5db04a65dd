//! The store: what parameters there are, their arenas, and their leaves.

use std::collections::HashMap;
use std::fmt;
use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use super::exchange::Pair;
use super::{Param, Path};
use crate::arena::Arena;
use crate::device::Device;
use crate::dtype::{DType, Precision};
use crate::engine;
use crate::error::{Error, Problem, Result};
use crate::graph::{Inputs, Node, ParameterLeaf, Source};
use crate::history::Flow;
use crate::init::Init;
use crate::layout::Meta;
use crate::rng::{Draws, Philox};
use crate::shape::Shape;
use crate::state::{State, StateCell};
use crate::tensor::Tensor;
use crate::version::StoreState;

/// Elements that a parameter's range is a multiple of: 256 bytes, the coarsest binding offset of any adapter.
pub(crate) const BLOCK: usize = 64;
/// Initial values that are written before they are handed over.
const WRITTEN: usize = 1 << 22;
/// Name of the group of parameters that no other was asked for.
pub const DEFAULT_GROUP: &str = "default";

/// All parameters of a model on one device. Cloning copies the handle.
#[derive(Clone)]
pub struct ParamStore(Arc<Inner>);

struct Inner {
    device: Device,
    seed: u64,
    state: Arc<StoreState>,
    draws: Draws,
    contents: Mutex<Contents>,
}

#[derive(Default)]
pub(super) struct Contents {
    pub entries: Vec<Entry>,
    pub numbers: HashMap<Arc<str>, usize>,
    pub groups: Arc<Vec<Arc<str>>>,
    pub chunks: Vec<Chunk>,
    /// Versioned state that checkpoints keep: running statistics and the like.
    pub states: Vec<(Arc<str>, State)>,
    /// All of them that somebody has, those whose name was taken too.
    pub adopted: Vec<Weak<StateCell>>,
    /// Entries below this have a place.
    pub placed: usize,
    /// Elements of an arena at most, if set by a test.
    pub limit: Option<usize>,
    /// Weights that an average could not be made to give their place back to.
    pub unreturned: Vec<Pair>,
}

/// One parameter.
pub(super) struct Entry {
    pub name: Arc<str>,
    pub shape: Shape,
    pub group: usize,
    pub init: Init,
    /// The row that starts as zeros, whatever `init` says.
    pub zeros: Option<usize>,
    pub frozen: bool,
    pub at: &'static Location<'static>,
    pub chunk: usize,
    pub offset: usize,
    /// The leaf of the present version that gradients flow to, and the one of [`crate::no_grad`].
    pub leaves: [Option<Arc<Node>>; 2],
}

impl Entry {
    /// Its initial values.
    pub(super) fn drawn(&self, seed: u64) -> Result<Vec<f64>> {
        let draw = self.init.draw(&self.shape, &mut Philox::new(seed, stream(&self.name)));
        let mut values = draw.map_err(|problem| problem.at("param", self.at))?;
        // Every device starts from the same values.
        values.iter_mut().for_each(|x| *x = f64::from(*x as f32));
        if let Some(row) = self.zeros {
            let length = values.len() / self.shape[0];
            values.chunks_mut(length).skip(row).take(1).for_each(|zeros| zeros.fill(0.0));
        }
        Ok(values)
    }
}

/// Arenas of one length for some parameters of a group.
#[derive(Clone)]
pub(crate) struct Chunk {
    /// Number of the group.
    pub group: usize,
    /// The values.
    pub values: Arc<Arena>,
    /// The gradients, once an optimizer wants them.
    pub gradients: Option<Arc<Arena>>,
}

/// Where a parameter is, for optimizers and checkpoints.
#[derive(Clone)]
pub(crate) struct Placed {
    pub name: Arc<str>,
    pub shape: Shape,
    pub frozen: bool,
    pub chunk: usize,
    pub offset: usize,
}

impl ParamStore {
    /// An empty store; initial values and dropout masks derive from `seed`.
    pub fn new(device: &Device, seed: u64) -> ParamStore {
        let contents = Contents { groups: Arc::new(vec![DEFAULT_GROUP.into()]), ..Contents::default() };
        let state = Arc::default();
        device.register(&state);
        ParamStore(Arc::new(Inner {
            device: device.clone(),
            seed,
            state,
            draws: Draws::new(seed),
            contents: Mutex::new(contents),
        }))
    }

    /// The empty path, from which layers take theirs.
    pub fn root(&self) -> Path {
        Path { store: self.clone(), prefix: "".into(), group: 0 }
    }

    /// The device that the parameters live on.
    pub fn device(&self) -> &Device {
        &self.0.device
    }

    /// The counter of random draws of this model (dropout); checkpoints keep its position.
    pub fn draws(&self) -> &Draws {
        &self.0.draws
    }

    /// The precision in which tensors that depend on these parameters are recorded; [`Precision::Full`] unless it is set.
    pub fn precision(&self) -> Precision {
        self.0.state.precision()
    }

    /// Chooses the precision in which what depends on these parameters is recorded from now on. Parameters, gradients and
    /// optimizer state are f32 in any.
    /// [`crate::with_precision`] overrides it for a part of a program.
    pub fn set_precision(&self, precision: Precision) {
        self.0.state.set_precision(precision);
    }

    /// Names of all parameters, in the order they were added.
    pub fn names(&self) -> Vec<String> {
        self.lock().entries.iter().map(|entry| entry.name.to_string()).collect()
    }

    /// All parameters, in the order they were added.
    pub fn parameters(&self) -> Vec<Param> {
        (0..self.lock().entries.len()).map(|number| Param { store: self.clone(), entry: Ok(number) }).collect()
    }

    /// The parameter of this name.
    pub fn get(&self, name: &str) -> Option<Param> {
        let number = self.lock().numbers.get(name).copied()?;
        Some(Param { store: self.clone(), entry: Ok(number) })
    }

    /// Number of scalars in all parameters.
    pub fn count(&self) -> usize {
        self.lock().entries.iter().map(|entry| entry.shape.elements()).sum()
    }

    /// A number that grows with every update, one that is refused later included, and with every write.
    pub fn version(&self) -> u64 {
        self.0.state.version()
    }

    /// Limits arenas made from now on to `elements`, as an adapter with a small binding limit would. For tests.
    #[doc(hidden)]
    pub fn limit_arenas(&self, elements: usize) {
        self.lock().limit = Some(elements);
    }

    /// Number of arenas of values. For tests.
    #[doc(hidden)]
    pub fn arenas(&self) -> usize {
        self.lock().chunks.len()
    }

    /// Arenas of values, and parameters, those without a place too.
    pub(crate) fn extent(&self) -> (usize, usize) {
        let contents = self.lock();
        (contents.chunks.len(), contents.entries.len())
    }

    pub(super) fn seed(&self) -> u64 {
        self.0.seed
    }

    pub(crate) fn same(&self, other: &ParamStore) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn state(&self) -> &Arc<StoreState> {
        &self.0.state
    }

    pub(crate) fn groups(&self) -> Arc<Vec<Arc<str>>> {
        self.lock().groups.clone()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Contents> {
        self.0.contents.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    #[track_caller]
    pub(super) fn add(&self, name: String, shape: &[usize], group: usize, init: Init, zeros: Option<usize>) -> Param {
        let at = Location::caller();
        let entry =
            self.try_add(name.into(), shape, group, (init, zeros), at).map_err(|problem| problem.at("param", at));
        Param { store: self.clone(), entry }
    }

    fn try_add(
        &self,
        name: Arc<str>,
        shape: &[usize],
        group: usize,
        (init, zeros): (Init, Option<usize>),
        at: &'static Location<'static>,
    ) -> Result<usize, Problem> {
        let shape = Shape::new(shape).filter(|shape| shape.elements() > 0).ok_or_else(|| {
            let what = format!("parameter `{name}` of shape {shape:?} is empty, or has too many axes or elements");
            Problem::Shape(what, "pass one to eight axes, with 1 to 2^32 - 1 elements in all")
        })?;
        let mut contents = self.lock();
        if contents.numbers.contains_key(&name) {
            let what = format!("there is a parameter `{name}` already");
            return Err(Problem::Value(what, "give each layer a path of its own, or clone the Param to share it"));
        }
        let number = contents.entries.len();
        contents.numbers.insert(name.clone(), number);
        self.0.state.add_parameter(&name);
        let entry =
            Entry { name, shape, group, init, zeros, frozen: false, at, chunk: 0, offset: 0, leaves: [None, None] };
        contents.entries.push(entry);
        Ok(number)
    }

    /// Adds a state whose assignments the store's steps carry out.
    #[track_caller]
    pub(super) fn add_state(&self, name: String, initial: &Tensor) -> State {
        let name: Arc<str> = name.into();
        let contents = &mut *self.lock();
        let taken = contents.numbers.contains_key(&name) || contents.states.iter().any(|(other, _)| *other == name);
        let state = if taken {
            let what = format!("there is a parameter or state `{name}` already");
            State::new(&initial.problem("state", Problem::Value(what, "give each layer a path of its own")))
        } else {
            State::new(initial)
        };
        contents.adopted.retain(|state| state.strong_count() > 0);
        contents.adopted.push(Arc::downgrade(&state.0));
        if !taken {
            contents.states.push((name, state.clone()));
        }
        state
    }

    /// The states that its steps take care of.
    pub(crate) fn adopted(&self) -> Vec<Arc<StateCell>> {
        self.lock().adopted.iter().filter_map(Weak::upgrade).collect()
    }

    /// The states, by name.
    pub(crate) fn states(&self) -> Vec<(Arc<str>, State)> {
        self.lock().states.clone()
    }

    /// Elements of an arena at most.
    fn limit(&self, contents: &Contents) -> usize {
        let bytes = self.0.device.backend().binding_bytes();
        contents.limit.unwrap_or(usize::try_from(bytes / 4).unwrap_or(usize::MAX)).min(u32::MAX as usize)
    }

    /// Elements of an arena at most.
    pub(crate) fn arena_limit(&self) -> usize {
        self.limit(&self.lock())
    }

    /// Makes arenas for the parameters that have none, and writes their initial values.
    pub(super) fn place(&self, contents: &mut Contents) -> Result<()> {
        if contents.placed == contents.entries.len() {
            return Ok(());
        }
        let device = &self.0.device;
        let limit = self.limit(contents);
        let new = contents.placed..contents.entries.len();
        let mut places = vec![(0, 0); new.len()];
        let mut chunks: Vec<(usize, usize)> = vec![];
        for group in 0..contents.groups.len() {
            let mut open = None;
            for number in new.clone().filter(|&number| contents.entries[number].group == group) {
                let entry = &contents.entries[number];
                let length = entry.shape.elements().next_multiple_of(BLOCK);
                if length > limit {
                    return Err(Error::Limit {
                        what: format!("parameter `{}` of shape {}", entry.name, entry.shape),
                        bytes: length as u64 * 4,
                        limit: limit as u64 * 4,
                        device: device.name().into(),
                        next: "split it into several parameters",
                    });
                }
                let chunk = match open.filter(|&chunk: &usize| chunks[chunk].1 + length <= limit) {
                    Some(chunk) => chunk,
                    None => {
                        chunks.push((group, 0));
                        chunks.len() - 1
                    }
                };
                open = Some(chunk);
                places[number - new.start] = (contents.chunks.len() + chunk, chunks[chunk].1);
                chunks[chunk].1 += length;
            }
        }
        // Nothing of the store changes before everything has been made.
        let mut made = vec![];
        for (group, elements) in chunks {
            let label = format!("values of {}", contents.groups[group]);
            made.push(Chunk { group, values: device.arena(&label, elements)?, gradients: None });
        }
        let mut written = 0;
        for (number, &(chunk, offset)) in new.clone().zip(&places) {
            let entry = &contents.entries[number];
            // Arenas begin as zeros.
            if entry.init == Init::Zeros {
                continue;
            }
            let values = entry.drawn(self.0.seed)?;
            made[chunk - contents.chunks.len()].values.write(offset, &values)?;
            written += values.len();
            // What is written is kept twice until it is handed over.
            if written >= WRITTEN {
                device.backend().flush()?;
                written = 0;
            }
        }
        contents.chunks.extend(made);
        contents.placed = new.end;
        for (number, (chunk, offset)) in new.zip(places) {
            let entry = &mut contents.entries[number];
            (entry.chunk, entry.offset) = (chunk, offset);
        }
        Ok(())
    }

    /// The leaf of a placed parameter for this version; the caller has entered the store.
    pub(super) fn leaf(
        &self,
        contents: &mut Contents,
        number: usize,
        fixed: bool,
        at: &'static Location<'static>,
    ) -> Arc<Node> {
        let version = self.0.state.version();
        let entry = &mut contents.entries[number];
        if let Some(node) = &entry.leaves[usize::from(fixed)]
            && let Source::Parameter(leaf) = &node.source
            && leaf.version == version
        {
            node.share();
            return node.clone();
        }
        let leaf = ParameterLeaf {
            arena: contents.chunks[entry.chunk].values.clone(),
            offset: entry.offset,
            version,
            store: self.0.state.clone(),
            name: entry.name.clone(),
        };
        let meta = Meta { shape: entry.shape, dtype: DType::F32 };
        let flow = if entry.frozen || fixed { Flow::Nothing } else { Flow::Ends };
        let node = Node::new(&self.0.device, meta, Source::Parameter(leaf), Inputs::new(), flow, at);
        let node = Arc::new(node);
        self.0.state.remember(&node);
        entry.leaves[usize::from(fixed)] = Some(node.clone());
        node
    }

    /// All parameters with their places.
    pub(crate) fn layout(&self) -> Result<Vec<Placed>> {
        let contents = &mut *self.lock();
        self.place(contents)?;
        let placed = |entry: &Entry| Placed {
            name: entry.name.clone(),
            shape: entry.shape,
            frozen: entry.frozen,
            chunk: entry.chunk,
            offset: entry.offset,
        };
        Ok(contents.entries.iter().map(placed).collect())
    }

    /// The arenas; with `gradients`, those of gradients are made where they are missing.
    pub(crate) fn chunks(&self, gradients: bool) -> Result<Vec<Chunk>> {
        let contents = &mut *self.lock();
        self.place(contents)?;
        for chunk in &mut contents.chunks {
            if gradients && chunk.gradients.is_none() {
                let label = format!("gradients of {}", contents.groups[chunk.group]);
                chunk.gradients = Some(self.0.device.arena(&label, chunk.values.elements)?);
            }
        }
        Ok(contents.chunks.clone())
    }

    /// The leaf of every parameter.
    #[track_caller]
    pub(crate) fn leaves(&self) -> Result<Vec<Arc<Node>>> {
        let at = Location::caller();
        let _gate = self.0.state.enter();
        let contents = &mut *self.lock();
        self.place(contents)?;
        Ok((0..contents.entries.len()).map(|number| self.leaf(contents, number, false, at)).collect())
    }

    /// Waits for the steps under way, and returns what became of them.
    pub(crate) fn settled(&self) -> Result<()> {
        self.0.device.finish()?;
        self.0.state.take_failure()
    }

    /// Computes what overwriting parameters would take away. No step that was refused before makes it fail.
    pub(crate) fn settle_held(&self) -> Result<()> {
        engine::evaluate_before_update(&self.0.device, &self.0.state)
    }
}

impl fmt::Debug for ParamStore {
    /// A line for each parameter: name, shape, group.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "ParamStore on {}: {} scalars", self.0.device.name(), self.count())?;
        let contents = self.lock();
        for entry in &contents.entries {
            let frozen = if entry.frozen { ", frozen" } else { "" };
            writeln!(f, "  {} {} ({}{frozen})", entry.name, entry.shape, contents.groups[entry.group])?;
        }
        Ok(())
    }
}

/// The stream of a parameter's initial values: FNV-1a of its name, so that the order of creation does not matter.
pub(crate) fn stream(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
