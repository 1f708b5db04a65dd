// What is there before the first step forward: the initial state in its slot, and with it the initial cell where there are cells.
//
// start   [rows, hidden]
// states  [steps + 1, rows, hidden]
// Asks for: `start_cell(i)`, the same of an element of the cell.
// Grid: ceil(elements / 64), folded.

fn work(i: u32) {
    if i < p.elements {
        states[p.first + i] = start[i];
        start_cell(i);
    }
}
