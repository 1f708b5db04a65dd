// Adds the partial results of a split sum in ascending order:
//   result[i] = epilogue(sum over s of parts[s, i], i)
//
// binding 0  parts  [splits, elements]
// binding 1  result [elements], through `epilogue`
//
// Grid: ceil(elements / 64) workgroups, folded freely over x and y. Loops: splits iterations an invocation.
// Loops that surely have a round end where one does.

fn work(index: u32) {
    if index >= p.elements {
        return;
    }
    var sum = 0.0;
    var split = 0u;
    loop {
        sum += parts[split * p.elements + index];
        split++;
        if split >= p.splits {
            break;
        }
    }
    result[index] = epilogue(sum, index);
}
