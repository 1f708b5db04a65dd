//! From a graph in a file to a program: names become places, nodes come into an order in which they can run, and all that Kiln has not
//! is said at once.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use super::call::{Attribute, Node, Port, Program, Row};
use super::decode;
use super::elem::Elem;
use super::numbers::Numbers;
use super::proto::{AttributeProto, GraphProto, NodeProto, ValueProto, attribute};
use super::trouble::{Trouble, unsupported, wrong};

/// Deepest nesting of graphs.
const DEPTH: usize = 16;
/// What gives a name that a file has numbers for.
const STORED: &str = "a stored tensor";

/// What building a program needs to know, and what it finds to be missing.
pub struct Builder<'a> {
    /// Versions of the sets of ops, by their domains.
    pub versions: HashMap<String, i64>,
    /// The model's folder.
    pub folder: Option<&'a Path>,
    /// Finds an op by its domain and name.
    pub find: fn(&str, &str) -> Option<&'static Row>,
    /// All that Kiln has not, with the nodes' names.
    pub missing: Vec<String>,
    /// All that is wrong with the model.
    pub wrong: Vec<String>,
}

/// Places of names while a graph is built.
#[derive(Default)]
struct Places {
    of: HashMap<String, usize>,
    names: Vec<String>,
}

impl Places {
    fn add(&mut self, name: &str) -> usize {
        if let Some(&slot) = self.of.get(name) {
            return slot;
        }
        self.of.insert(name.into(), self.names.len());
        self.names.push(name.into());
        self.names.len() - 1
    }
}

impl Builder<'_> {
    fn note(&mut self, place: &str, trouble: Trouble) {
        match trouble {
            Trouble::Unsupported(what) => self.missing.push(format!("{place}: {what}")),
            Trouble::Wrong(what) => self.wrong.push(format!("{place}: {what}")),
            Trouble::Op(error) => self.wrong.push(format!("{place}: {error}")),
        }
    }

    /// The program of a graph. What is not right is noted; the program is of use only where nothing was. `is_inner` for the graph of a
    /// node, which may use names from around it.
    pub fn program(&mut self, graph: &mut GraphProto, is_inner: bool, depth: usize) -> Program {
        let mut places = Places::default();
        let mut program = Program::default();
        // Who gives a value: each name has one source.
        let mut given: HashMap<usize, String> = HashMap::new();
        for tensor in &mut graph.initializer {
            let slot = places.add(&tensor.name);
            let weight = if is_inner { Ok(None) } else { decode::weight(tensor, self.folder) };
            match weight {
                Ok(Some(weight)) => drop(program.weights.insert(slot, weight)),
                Ok(None) => match decode::numbers(tensor, self.folder) {
                    Ok(numbers) => drop(program.constants.insert(slot, Arc::new(numbers))),
                    Err(trouble) => self.note("the graph", trouble),
                },
                Err(trouble) => self.note("the graph", trouble),
            }
            if given.insert(slot, STORED.into()).is_some() {
                self.wrong.push(format!("two stored tensors are called `{}`", tensor.name));
            }
        }
        for sparse in &graph.sparse_initializer {
            let name = sparse.values.as_ref().map_or("", |values| &values.name);
            given.insert(places.add(name), STORED.into());
            self.missing.push(format!("the stored tensor `{name}` is sparse"));
        }
        for value in &graph.input {
            let slot = places.add(&value.name);
            // Old files list stored tensors among the inputs.
            if given.get(&slot).is_some_and(|by| by == STORED) {
                continue;
            }
            if given.insert(slot, "an input".into()).is_some() {
                self.wrong.push(format!("two inputs are called `{}`", value.name));
                continue;
            }
            let port = self.port(value, slot);
            program.inputs.push(port);
        }
        let mut nodes = vec![];
        for node in &mut graph.node {
            let label = label(node);
            for output in node.output.iter().filter(|output| !output.is_empty()) {
                let slot = places.add(output);
                if let Some(other) = given.insert(slot, label.clone()) {
                    self.wrong.push(format!("{label}: its output `{output}` is also that of {other}"));
                }
            }
            nodes.push(node);
        }
        let nodes: Vec<Node> = nodes.into_iter().filter_map(|node| self.node(node, &mut places, depth)).collect();
        for value in &graph.output {
            let slot = places.add(&value.name);
            let port = self.port(value, slot);
            program.outputs.push(port);
        }
        for (slot, name) in places.names.iter().enumerate() {
            if given.contains_key(&slot) {
                continue;
            }
            if is_inner {
                program.captures.push((name.clone(), slot));
            } else {
                self.wrong.push(format!("`{name}` is used, but nothing gives it"));
            }
        }
        program.nodes = self.sorted(nodes, places.names.len());
        program.names = places.names;
        program
    }

    fn port(&mut self, value: &ValueProto, slot: usize) -> Port {
        let mut port = Port { name: value.name.clone(), slot, elem: None, dims: None };
        let Some(kind) = &value.kind else { return port };
        let Some(tensor) = &kind.tensor_type else {
            let kinds = [
                (kind.sequence_type.is_some(), "a sequence"),
                (kind.optional_type.is_some(), "an optional value"),
                (kind.map_type.is_some(), "a map"),
                (kind.sparse_tensor_type.is_some(), "a sparse tensor"),
            ];
            if let Some((_, name)) = kinds.iter().find(|(is, _)| *is) {
                self.missing.push(format!("`{}` is {name}", value.name));
            }
            return port;
        };
        if tensor.elem_type != 0 {
            match Elem::of(tensor.elem_type) {
                Ok(elem) => port.elem = Some(elem),
                Err(name) => self.missing.push(format!("`{}` is of {name}", value.name)),
            }
        }
        let axis = |axis: &super::proto::DimProto| match usize::try_from(axis.dim_value) {
            Ok(length) if axis.dim_param.is_empty() && length > 0 => Ok(length),
            _ => Err(axis.dim_param.clone()),
        };
        port.dims = tensor.shape.as_ref().map(|shape| shape.dim.iter().map(axis).collect());
        port
    }

    fn node(&mut self, node: &mut NodeProto, places: &mut Places, depth: usize) -> Option<Node> {
        let label = label(node);
        let domain = if node.domain == "ai.onnx" { "" } else { node.domain.as_str() };
        let row = (self.find)(domain, &node.op_type);
        let Some(row) = row else {
            let of = if domain.is_empty() { String::new() } else { format!(" of domain `{domain}`") };
            self.missing.push(format!("{label}: Kiln has no op `{}`{of}", node.op_type));
            return None;
        };
        // Turns of turns would have no bound.
        if depth > 0 && matches!(row.name, "Loop" | "Scan") {
            self.missing.push(format!("{label}: a loop within a graph of another op"));
            return None;
        }
        let Some(&version) = self.versions.get(domain) else {
            self.wrong.push(format!("{label}: the model names no version of the ops of domain `{domain}`"));
            return None;
        };
        let mut inputs: Vec<Option<usize>> =
            node.input.iter().map(|name| (!name.is_empty()).then(|| places.add(name))).collect();
        let own = inputs.len();
        let mut attributes = BTreeMap::new();
        for attribute in &mut node.attribute {
            if !row.attributes.contains(&attribute.name.as_str()) {
                self.missing.push(format!("{label}: attribute `{}`", attribute.name));
                continue;
            }
            match self.attribute(attribute, depth) {
                Ok(mut value) => {
                    if let Attribute::Graph(inner, first) = &mut value {
                        *first = inputs.len() - own;
                        inputs.extend(inner.captures.iter().map(|(name, _)| Some(places.add(name))));
                    }
                    attributes.insert(attribute.name.clone(), value);
                }
                Err(trouble) => self.note(&label, trouble),
            }
        }
        let outputs = node.output.iter().map(|name| (!name.is_empty()).then(|| places.add(name))).collect();
        Some(Node { label, row, version, attributes, inputs, own, outputs })
    }

    fn attribute(&mut self, from: &mut AttributeProto, depth: usize) -> Result<Attribute, Trouble> {
        let name = &from.name;
        if !from.ref_attr_name.is_empty() {
            return unsupported(format!("attribute `{name}` is that of a function"));
        }
        let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
        Ok(match from.kind {
            attribute::FLOAT => Attribute::Float(f64::from(from.f)),
            attribute::INT => Attribute::Int(from.i),
            attribute::STRING => Attribute::Text(text(&from.s)),
            attribute::FLOATS => Attribute::Floats(from.floats.iter().map(|&value| f64::from(value)).collect()),
            attribute::INTS => Attribute::Ints(from.ints.clone()),
            attribute::STRINGS => Attribute::Texts(from.strings.iter().map(text).collect()),
            attribute::TENSOR => match &from.t {
                Some(tensor) => Attribute::Numbers(Arc::new(decode::numbers(tensor, self.folder)?)),
                None => return wrong(format!("attribute `{name}` has no tensor")),
            },
            attribute::GRAPH if depth >= DEPTH => return wrong(format!("graphs are nested more than {DEPTH} deep")),
            attribute::GRAPH => match &mut from.g {
                Some(graph) => Attribute::Graph(Arc::new(self.program(graph, true, depth + 1)), 0),
                None => return wrong(format!("attribute `{name}` has no graph")),
            },
            kind => return unsupported(format!("attribute `{name}` is of kind {kind}")),
        })
    }

    /// The nodes in an order in which each comes behind those that it takes from; a circle is noted.
    fn sorted(&mut self, nodes: Vec<Node>, slots: usize) -> Vec<Node> {
        let mut ready = vec![false; slots];
        let mut from_nodes = vec![false; slots];
        for slot in nodes.iter().flat_map(|node| node.outputs.iter().flatten()) {
            if let Some(of) = from_nodes.get_mut(*slot) {
                *of = true;
            }
        }
        for (slot, ready) in ready.iter_mut().enumerate() {
            *ready = !from_nodes.get(slot).copied().unwrap_or(false);
        }
        let mut rest: Vec<Option<Node>> = nodes.into_iter().map(Some).collect();
        // Who waits for a value, and for how many each node still does.
        let mut waiting: HashMap<usize, Vec<usize>> = HashMap::new();
        let mut open = vec![0usize; rest.len()];
        let mut free = std::collections::BTreeSet::new();
        for (number, node) in rest.iter().enumerate() {
            let Some(node) = node else { continue };
            let mut wanted: Vec<usize> = node.inputs.iter().flatten().copied().collect();
            wanted.sort_unstable();
            wanted.dedup();
            for slot in wanted {
                if !ready.get(slot).copied().unwrap_or(true) {
                    waiting.entry(slot).or_default().push(number);
                    if let Some(open) = open.get_mut(number) {
                        *open += 1;
                    }
                }
            }
            if open.get(number) == Some(&0) {
                free.insert(number);
            }
        }
        let mut order = vec![];
        while let Some(number) = free.pop_first() {
            let Some(node) = rest.get_mut(number).and_then(Option::take) else { continue };
            for slot in node.outputs.iter().flatten() {
                for other in waiting.remove(slot).unwrap_or_default() {
                    if let Some(open) = open.get_mut(other) {
                        *open = open.saturating_sub(1);
                        if *open == 0 {
                            free.insert(other);
                        }
                    }
                }
            }
            order.push(node);
        }
        let tied: Vec<&str> = rest.iter().flatten().map(|node| node.label.as_str()).take(4).collect();
        if !tied.is_empty() && self.missing.is_empty() {
            self.wrong.push(format!("nodes wait for each other in a circle: {}", tied.join(", ")));
        }
        order
    }
}

/// What a node is called in messages.
fn label(node: &NodeProto) -> String {
    let name = if node.name.is_empty() { node.output.first().map_or("", String::as_str) } else { &node.name };
    format!("{} `{name}`", node.op_type)
}

/// The numbers that an attribute holds, for ops that fill with one.
pub fn numbers_of(attribute: Option<&Attribute>) -> Option<Arc<Numbers>> {
    match attribute {
        Some(Attribute::Numbers(numbers)) => Some(numbers.clone()),
        _ => None,
    }
}
