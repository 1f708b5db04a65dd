//! Units as a graph that must stay without cycles: which two may become one.
//!
//! Units are kept in an order in which each comes after what it needs. A path between two of them stays between their
//! places in it, and is looked for from both ends at once, an edge at a time: in a deep graph one of the two soon has
//! nowhere to go, or they meet, so that a question costs about the same however large the graph is. Where there is no path,
//! what the end that came to nothing has seen is moved past the other, and the order holds for the joined unit
//! (cf. Bender, Fineman, Gilbert and Tarjan 2015, "A new approach to incremental cycle detection").

use super::graph::{Graph, Work};
use super::units::Unit;

/// Vertices (units, and nodes that are in none) in order, as a list with labels that grow along it.
struct Order {
    next: Vec<usize>,
    before: Vec<usize>,
    label: Vec<u64>,
}

/// Between labels at first.
const GAP: u64 = 1 << 32;

/// What is known after a search that found no path: what has to move, so that two units can become one.
pub struct Room {
    /// What comes after the earlier unit (or before the later one) and lies between them, in order.
    between: Vec<usize>,
    ends: [usize; 2],
    /// True if it comes after the earlier one.
    forward: bool,
}

pub struct Contraction {
    order: Order,
    /// Nodes that need a node, for reading or otherwise.
    dependents: Vec<Vec<usize>>,
    /// The vertex of a node that is in no unit, or alone in one.
    home: Vec<usize>,
    /// The node that began a vertex.
    origin: Vec<usize>,
    /// The last search that saw a vertex, from its earlier and from its later end.
    seen: [Vec<u32>; 2],
    search: u32,
}

/// One end of a search.
struct Side {
    queue: Vec<usize>,
    at: usize,
    member: usize,
    edge: usize,
}

impl Order {
    /// Vertices in the order of `list`; the last vertex number is the list's head.
    fn new(list: &[usize]) -> Order {
        let head = list.len();
        let mut order =
            Order { next: vec![usize::MAX; head + 1], before: vec![usize::MAX; head + 1], label: vec![0; head + 1] };
        let mut last = head;
        for (place, &vertex) in list.iter().enumerate() {
            (order.next[last], order.before[vertex]) = (vertex, last);
            order.label[vertex] = (place as u64 + 1) * GAP;
            last = vertex;
        }
        order
    }

    fn limit(&self, vertex: usize) -> u64 {
        self.label.get(vertex).copied().unwrap_or(u64::MAX)
    }

    fn remove(&mut self, vertex: usize) {
        let (before, next) = (self.before[vertex], self.next[vertex]);
        self.next[before] = next;
        if let Some(link) = self.before.get_mut(next) {
            *link = before;
        }
    }

    fn insert_after(&mut self, place: usize, vertex: usize) {
        if self.limit(self.next[place]) - self.label[place] < 2 {
            self.spread(place);
        }
        let next = self.next[place];
        self.label[vertex] = self.label[place] + ((self.limit(next) - self.label[place]) / 2).min(GAP);
        (self.next[place], self.before[vertex], self.next[vertex]) = (vertex, place, next);
        if let Some(link) = self.before.get_mut(next) {
            *link = vertex;
        }
    }

    /// Makes room after `place`: as many labels are set anew as lie too close together (Dietz and Sleator 1987).
    fn spread(&mut self, place: usize) {
        let first = self.label[place];
        let (mut end, mut count) = (self.next[place], 1);
        while self.limit(end) - first <= 4 * count * count {
            end = self.next[end];
            count += 1;
        }
        let step = (self.limit(end) - first).min(count * GAP) / count;
        let (mut vertex, mut label) = (self.next[place], first);
        while vertex != end {
            label += step;
            self.label[vertex] = label;
            vertex = self.next[vertex];
        }
    }
}

impl Side {
    fn new(start: usize) -> Side {
        Side { queue: vec![start], at: 0, member: 0, edge: 0 }
    }
}

impl Contraction {
    /// Every node for itself; `unit_of` says which nodes begin a unit.
    pub fn new(graph: &Graph, units: usize, unit_of: &[Option<usize>]) -> Contraction {
        let count = graph.nodes.len();
        let (mut home, mut next) = (vec![], units);
        let mut origin = vec![0; count];
        for (node, unit) in unit_of.iter().enumerate() {
            let vertex = unit.unwrap_or(next);
            next += usize::from(unit.is_none());
            home.push(vertex);
            if !matches!(graph.nodes[node].work, Work::Result { .. }) {
                origin[vertex] = node;
            }
        }
        let mut dependents = vec![vec![]; count];
        for node in 0..count {
            graph.dependencies(node).iter().for_each(|&needed| dependents[needed].push(node));
        }
        // Nodes are recorded after what they need.
        // A kernel's further results come right behind it, in its unit.
        let mut vertices = home.clone();
        vertices.dedup();
        let order = Order::new(&vertices);
        Contraction { order, dependents, home, origin, seen: [vec![0; count], vec![0; count]], search: 0 }
    }

    /// What it takes to make units `a` and `b` one; `None` if a path leads from one to the other through a third vertex.
    pub fn room(
        &mut self,
        graph: &Graph,
        units: &[Unit],
        unit_of: &[Option<usize>],
        a: usize,
        b: usize,
    ) -> Option<Room> {
        let later = self.order.label[a] > self.order.label[b];
        let ends = if later { [b, a] } else { [a, b] };
        let labels = ends.map(|end| self.order.label[end]);
        self.search += 1;
        let mut sides = ends.map(Side::new);
        loop {
            for (i, side) in sides.iter_mut().enumerate() {
                let (own, other) = (ends[i], ends[1 - i]);
                let Some((from, node)) = self.step(side, i == 0, graph, units) else {
                    let mut between = std::mem::take(&mut side.queue);
                    between.swap_remove(0);
                    between.sort_unstable_by_key(|&vertex| self.order.label[vertex]);
                    return Some(Room { between, ends, forward: i == 0 });
                };
                let vertex = unit_of[node].unwrap_or(self.home[node]);
                if vertex == other && from != own {
                    return None;
                }
                let outside =
                    if i == 0 { self.order.label[vertex] > labels[1] } else { self.order.label[vertex] < labels[0] };
                if vertex == own || vertex == other || outside || self.seen[i][vertex] == self.search {
                    continue;
                }
                if self.seen[1 - i][vertex] == self.search {
                    return None;
                }
                self.seen[i][vertex] = self.search;
                side.queue.push(vertex);
            }
        }
    }

    /// The next edge of a search: the vertex that it leaves and the node that it leads to.
    fn step(&self, side: &mut Side, forward: bool, graph: &Graph, units: &[Unit]) -> Option<(usize, usize)> {
        loop {
            let vertex = *side.queue.get(side.at)?;
            let member = match units.get(vertex) {
                Some(unit) if !unit.members.is_empty() || unit.kernel.is_some() => unit.nodes().nth(side.member),
                _ => (side.member == 0).then_some(self.origin[vertex]),
            };
            let Some(member) = member else {
                (side.at, side.member, side.edge) = (side.at + 1, 0, 0);
                continue;
            };
            let edges = if forward { &self.dependents[member][..] } else { graph.dependencies(member) };
            if let Some(&node) = edges.get(side.edge) {
                side.edge += 1;
                return Some((vertex, node));
            }
            (side.member, side.edge) = (side.member + 1, 0);
        }
    }

    /// Puts the two units in one place, under the number `into`, which is one of them.
    pub fn join(&mut self, room: Room, into: usize) {
        let Room { between, ends, forward } = room;
        // Where the joined unit goes: to the later one's place, with what comes after the earlier one behind it, or to the
        // earlier one's, with what comes before the later one in front of it.
        let place = ends[usize::from(forward)];
        if place != into {
            self.order.remove(into);
            self.order.insert_after(place, into);
        }
        let gone = ends[usize::from(ends[0] == into)];
        self.order.remove(gone);
        if forward {
            for &vertex in between.iter().rev() {
                self.order.remove(vertex);
                self.order.insert_after(into, vertex);
            }
        } else {
            for &vertex in &between {
                self.order.remove(vertex);
                self.order.insert_after(self.order.before[into], vertex);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_grow_along_the_list_wherever_is_inserted() {
        let mut order = Order::new(&[0, 1, 2]);
        for list in [&mut order.next, &mut order.before] {
            list.resize(5000, usize::MAX);
        }
        order.label.resize(5000, 0);
        // The head of this list stays vertex 3.
        for vertex in 4..5000 {
            let place = match vertex % 3 {
                0 => 1,
                1 => order.before[1],
                _ => vertex - 1,
            };
            order.insert_after(place, vertex);
        }
        let (mut at, mut count) = (order.next[3], 0);
        while at != usize::MAX {
            let before = order.before[at];
            assert!(order.label[at] > order.label[before] || before == 3, "{at}");
            (at, count) = (order.next[at], count + 1);
        }
        assert_eq!(count, 4999);
    }
}
