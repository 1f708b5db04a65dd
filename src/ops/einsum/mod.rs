//! Sums of products by an equation (Einstein's convention, as in NumPy and PyTorch), composed of permutations, sums and
//! matrix products: two operands at a time, those first whose product is smallest.

mod products;

use crate::dtype::DType;
use crate::error::Problem;
use crate::op::{Case, Draw, Tolerance};
use crate::tensor::Tensor;

const OP: &str = "einsum";

/// An axis of an equation: a letter, or an axis of the ellipsis, the last one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Label {
    Ellipsis(usize),
    Letter(char),
}

/// A tensor whose axes have labels, each once.
#[derive(Clone)]
pub(super) struct Labelled {
    pub tensor: Tensor,
    pub labels: Vec<Label>,
}

impl Tensor {
    /// The sum of products that `equation` says, as `torch.einsum`: `"bij,bjk->bik"` is a batch of matrix products,
    /// `"ii->i"` a diagonal, `"ij->"` the sum of all. Letters name axes, equal ones have equal lengths or one of length 1, which
    /// stretches; those that the result lacks are summed over. `...` stands for the axes that no letter names, which broadcast.
    /// Without `->` the result has the axes of the ellipsis, then the letters that occur once, in alphabetical order.
    ///
    /// Operands are multiplied two at a time, those first whose product has the fewest elements: as matrix products where axes
    /// are summed, so f32, or all f16.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Value`] for an equation that is none and [`crate::Error::Shape`] where lengths do not
    /// fit; else as [`Tensor::matmul`]. Without operands it is [`crate::Error::Value`] on the CPU reference.
    #[track_caller]
    pub fn einsum(equation: &str, operands: &[&Tensor]) -> Tensor {
        let Some(first) = operands.first() else {
            return crate::device::Device::cpu()
                .zeros(&[])
                .problem(OP, value("no operands", "pass a tensor for each term"));
        };
        if let Some(broken) = operands.iter().find(|x| x.error().is_some()) {
            return (*broken).clone();
        }
        match planned(equation, operands) {
            Ok((terms, output, lengths)) => summed(terms, &output, &lengths),
            Err(problem) => first.problem(OP, problem),
        }
    }
}

fn value(what: impl Into<String>, next: &'static str) -> Problem {
    Problem::Value(what.into(), next)
}

/// Letters of a term, with the place of its ellipsis among them.
fn letters(term: &str) -> Result<(Vec<char>, Option<usize>), Problem> {
    let (mut found, mut ellipsis) = (vec![], None);
    let mut rest = term;
    while let Some(next) = rest.chars().next() {
        if let Some(behind) = rest.strip_prefix("...") {
            if ellipsis.replace(found.len()).is_some() {
                return Err(value(format!("two ellipses in `{term}`"), "write one at most in a term"));
            }
            rest = behind;
        } else if next.is_ascii_alphabetic() {
            found.push(next);
            rest = &rest[1..];
        } else {
            return Err(value(format!("`{next}` in `{term}`"), "write letters, and `...` for all other axes"));
        }
    }
    Ok((found, ellipsis))
}

/// Lengths of the labels, in no order.
type Lengths = Vec<(Label, usize)>;

fn length_of(lengths: &Lengths, label: Label) -> usize {
    lengths.iter().find(|(known, _)| *known == label).map_or(1, |(_, length)| *length)
}

/// The operands with labels, without axes of length 1 and with diagonals taken; the labels of the result; all lengths.
fn planned(equation: &str, operands: &[&Tensor]) -> Result<(Vec<Labelled>, Vec<Label>, Lengths), Problem> {
    let plain: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match plain.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (&plain[..], None),
    };
    let terms: Vec<&str> = left.split(',').collect();
    if terms.len() != operands.len() {
        let what = format!("{} terms in `{plain}` for {} operands", terms.len(), operands.len());
        return Err(value(what, "write one term for each operand, between commas"));
    }
    let labels_of = |found: &[char], ellipsis: Option<usize>, missing: usize| -> Vec<Label> {
        let letters = |part: &[char]| part.iter().map(|&letter| Label::Letter(letter)).collect::<Vec<_>>();
        let at = ellipsis.unwrap_or(found.len());
        let between = (0..missing).rev().map(Label::Ellipsis).collect();
        [letters(&found[..at]), between, letters(&found[at..])].concat()
    };
    let mut lengths: Lengths = vec![];
    let (mut labelled, mut widest, mut counts) = (vec![], 0, vec![]);
    for (term, &tensor) in terms.iter().zip(operands) {
        let (found, ellipsis) = letters(term)?;
        let rank = tensor.dims().rank();
        if found.len() > rank || ellipsis.is_none() && found.len() < rank {
            let what = format!("`{term}` for an operand of shape {}", tensor.dims());
            return Err(value(what, "write a letter for each axis, or `...` for those that are left"));
        }
        let missing = rank - found.len();
        widest = widest.max(missing);
        counts.extend(found.iter().copied());
        let labels = labels_of(&found, ellipsis, missing);
        for (&label, &length) in labels.iter().zip(tensor.dims().iter()) {
            match lengths.iter_mut().find(|(known, _)| *known == label) {
                None => lengths.push((label, length)),
                Some((_, known)) if *known == 1 || *known == length => *known = length,
                Some(_) if length == 1 => {}
                Some((_, known)) => {
                    let what =
                        format!("`{term}` for shape {}: an axis of {known} elsewhere has {length}", tensor.dims());
                    return Err(Problem::Shape(what, "give axes of one letter one length, or 1"));
                }
            }
        }
        labelled.push(Labelled { tensor: tensor.clone(), labels }.with_diagonals());
    }
    let output = match right {
        Some(right) => {
            let (found, ellipsis) = letters(right)?;
            let labels = labels_of(&found, ellipsis, if ellipsis.is_some() { widest } else { 0 });
            let repeated = (1..labels.len()).find(|&k| labels[..k].contains(&labels[k]));
            let unknown = found.iter().find(|letter| !counts.contains(letter));
            if repeated.is_some() || unknown.is_some() {
                return Err(value(
                    format!("`{right}` as the result of `{left}`"),
                    "name axes of the operands, each once",
                ));
            }
            labels
        }
        None => {
            let mut once: Vec<char> = counts.clone();
            once.retain(|letter| counts.iter().filter(|other| *other == letter).count() == 1);
            once.sort_unstable();
            labels_of(&once, Some(0), widest)
        }
    };
    Ok((labelled, output, lengths))
}

/// The product of all terms, summed over what the result lacks.
#[track_caller]
fn summed(mut terms: Vec<Labelled>, output: &[Label], lengths: &Lengths) -> Tensor {
    terms = terms.into_iter().map(Labelled::without_ones).collect();
    let mut at = 0;
    while terms.len() > 1 || at < terms.len() {
        // What no other term and not the result has is summed at once.
        for k in 0..terms.len() {
            let others: Vec<Label> = needed(&terms, &[k], output);
            terms[k] = terms[k].clone().summed_but(&others);
        }
        if terms.len() == 1 {
            at = 1;
            continue;
        }
        let pairs = (0..terms.len()).flat_map(|i| (i + 1..terms.len()).map(move |j| (i, j)));
        let size = |&(i, j): &(usize, usize)| {
            let keep = needed(&terms, &[i, j], output);
            let mut both = [&terms[i].labels[..], &terms[j].labels[..]].concat();
            both.sort_unstable();
            both.dedup();
            both.iter()
                .filter(|label| keep.contains(label))
                .map(|&label| length_of(lengths, label) as f64)
                .product::<f64>()
        };
        let Some((i, j)) = pairs.min_by(|a, b| size(a).total_cmp(&size(b))) else { break };
        let keep = needed(&terms, &[i, j], output);
        let right = terms.remove(j);
        let left = terms.remove(i);
        terms.insert(i, multiplied(&left, &right, &keep));
    }
    let term = terms.swap_remove(0);
    if term.tensor.error().is_some() {
        return term.tensor;
    }
    // Axes of length 1 come back.
    let order: Vec<usize> =
        output.iter().filter_map(|label| term.labels.iter().position(|known| known == label)).collect();
    let dims: Vec<usize> = output.iter().map(|&label| length_of(lengths, label)).collect();
    term.tensor.permute(&order).reshape(&dims)
}

/// Labels that the result has, or a term that is not one of `but`.
fn needed(terms: &[Labelled], but: &[usize], output: &[Label]) -> Vec<Label> {
    let others = terms.iter().enumerate().filter(|(k, _)| !but.contains(k));
    others.flat_map(|(_, term)| term.labels.clone()).chain(output.iter().copied()).collect()
}

impl Labelled {
    /// With each label once: axes that share one become their diagonal.
    fn with_diagonals(mut self) -> Labelled {
        while let Some((a, b)) = (1..self.labels.len())
            .find_map(|b| Some((self.labels[..b].iter().position(|label| *label == self.labels[b])?, b)))
        {
            let dims = self.tensor.dims().to_vec();
            if dims[a] != dims[b] {
                // One of them has length 1 and stretches.
                let mut both = dims.clone();
                (both[a], both[b]) = (dims[a].max(dims[b]), dims[a].max(dims[b]));
                self.tensor = self.tensor.expand(&both);
            }
            self.tensor = diagonal(&self.tensor, a, b);
            let label = self.labels.remove(b);
            self.labels.remove(a);
            self.labels.push(label);
        }
        self
    }

    fn without_ones(self) -> Labelled {
        let dims = self.tensor.dims().to_vec();
        let kept: Vec<usize> = (0..dims.len()).filter(|&axis| dims[axis] != 1).collect();
        let lengths: Vec<usize> = kept.iter().map(|&axis| dims[axis]).collect();
        Labelled { tensor: self.tensor.reshape(&lengths), labels: kept.iter().map(|&axis| self.labels[axis]).collect() }
    }

    /// Summed over what is not in `keep`.
    fn summed_but(self, keep: &[Label]) -> Labelled {
        let axes: Vec<usize> = (0..self.labels.len()).filter(|&axis| !keep.contains(&self.labels[axis])).collect();
        if axes.is_empty() {
            return self;
        }
        let labels = self.labels.iter().copied().filter(|label| keep.contains(label)).collect();
        Labelled { tensor: self.tensor.sum(&axes), labels }
    }

    /// The axes of these labels in this order, merged to one of each group.
    fn grouped(&self, groups: &[&[Label]], lengths: &[usize]) -> Tensor {
        let place = |label: &Label| self.labels.iter().position(|known| known == label);
        let order: Vec<usize> = groups.concat().iter().filter_map(place).collect();
        self.tensor.permute(&order).reshape(lengths)
    }

    fn lengths(&self, labels: &[Label]) -> Vec<usize> {
        let place = |label: &Label| self.labels.iter().position(|known| known == label);
        labels.iter().filter_map(place).map(|axis| self.tensor.dims()[axis]).collect()
    }
}

/// The product of two terms, summed over what is not in `keep`: labels of both that are kept, of the left, of the right.
#[track_caller]
pub(super) fn multiplied(a: &Labelled, b: &Labelled, keep: &[Label]) -> Labelled {
    if let Some(broken) = [a, b].into_iter().find(|term| term.tensor.error().is_some()) {
        return broken.clone();
    }
    let of = |term: &Labelled, is_in: &dyn Fn(&Label) -> bool| -> Vec<Label> {
        term.labels.iter().copied().filter(|label| is_in(label)).collect()
    };
    let batch = of(a, &|label| b.labels.contains(label) && keep.contains(label));
    let sum = of(a, &|label| b.labels.contains(label) && !keep.contains(label));
    let left = of(a, &|label| !b.labels.contains(label));
    let right = of(b, &|label| !a.labels.contains(label));
    let count = |term: &Labelled, labels: &[Label]| term.lengths(labels).iter().product::<usize>();
    let (n, m, k) = (count(a, &batch), count(a, &left), count(b, &right));
    let depth = count(a, &sum);
    let product = if sum.is_empty() {
        a.grouped(&[&batch, &left], &[n, m, 1]) * b.grouped(&[&batch, &right], &[n, 1, k])
    } else if m == 1 && k == 1 {
        (a.grouped(&[&batch, &left, &sum], &[n, depth]) * b.grouped(&[&batch, &right, &sum], &[n, depth])).sum(&[1])
    } else {
        a.grouped(&[&batch, &left, &sum], &[n, m, depth]).matmul(&b.grouped(&[&batch, &sum, &right], &[n, depth, k]))
    };
    let dims = [a.lengths(&batch), a.lengths(&left), b.lengths(&right)].concat();
    Labelled { tensor: product.reshape(&dims), labels: [batch, left, right].concat() }
}

/// The diagonal of axes `a` and `b`, of one length, as the last axis: every (n + 1)th of n n elements.
#[track_caller]
pub(super) fn diagonal(x: &Tensor, a: usize, b: usize) -> Tensor {
    let dims = x.dims().to_vec();
    let rest: Vec<usize> = (0..dims.len()).filter(|axis| ![a, b].contains(axis)).collect();
    let lead: Vec<usize> = rest.iter().map(|&axis| dims[axis]).collect();
    let (n, rows) = (dims[a], lead.iter().product::<usize>());
    let flat = x.permute(&[rest, vec![a, b]].concat()).reshape(&[rows, n * n]);
    let longer = flat.pad(&[(0, 0), (0, n)], 0.0).reshape(&[rows, n, n + 1]);
    longer.slice_fixed(2, 0, 1).reshape(&[lead, vec![n]].concat())
}

/// Cases of the method; there is no op of its name.
pub(super) fn cases() -> Vec<Case> {
    let mut all = products::cases();
    let case = |equation: &'static str, shapes: &[&[usize]], terms: usize| {
        let build = move |x: &[Tensor]| Tensor::einsum(equation, &x.iter().collect::<Vec<_>>());
        let case = Case::new(format!("einsum/{equation}"), build).tolerance(Tolerance::Sum { terms });
        shapes.iter().fold(case, |case, shape| case.input(shape, DType::F32, Draw::Normal))
    };
    all.extend([
        case("bij,bjk->bik", &[&[2, 5, 37], &[2, 37, 3]], 37),
        case("...ij,kj->k...i", &[&[2, 3, 5, 7], &[4, 7]], 7),
        case("iij,jk->ki", &[&[5, 5, 7], &[7, 3]], 7),
        case("ab,bc,cd,a->d", &[&[3, 37], &[37, 4], &[4, 5], &[3]], 131),
        case("i,j->ji", &[&[5], &[131]], 1),
        case("bi,bi->b", &[&[3, 131], &[3, 131]], 131),
        case("ij,ij->ij", &[&[1, 5], &[3, 1]], 3),
    ]);
    all
}

#[cfg(test)]
mod tests {
    use crate::{Device, Error, Tensor};

    #[test]
    fn an_equation_that_is_none_is_refused_by_what_is_wrong() {
        let device = Device::cpu();
        let (a, b) = (device.zeros(&[2, 3]), device.zeros(&[3, 4]));
        for equation in
            ["ij", "ij,jk,kl", "ijk,jk->i", "i,jk", "ij,jk->il", "ij,jk->ii", "i1,jk", "......i,jk", "i..,jk"]
        {
            let y = Tensor::einsum(equation, &[&a, &b]);
            assert!(matches!(y.error(), Some(Error::Value { op: "einsum", .. })), "{equation}: {y:?}");
        }
        assert!(matches!(Tensor::einsum("ij,ik->jk", &[&a, &b]).error(), Some(Error::Shape { op: "einsum", .. })));
        assert!(matches!(Tensor::einsum("", &[]).error(), Some(Error::Value { .. })));
    }

    #[test]
    fn a_result_without_an_arrow_has_what_occurs_once_in_alphabetical_order() {
        let device = Device::cpu();
        let a = device.tensor(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]);
        assert_eq!(Tensor::einsum("ba", &[&a]).to_vec::<f32>().unwrap(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        let square = device.tensor(&[1.0f32, 2.0, 3.0, 4.0], &[2, 2]);
        assert_eq!(Tensor::einsum("ii", &[&square]).to_vec::<f32>().unwrap(), [5.0]);
    }
}
