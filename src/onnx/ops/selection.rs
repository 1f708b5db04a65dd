//! Ops whose results are as long as the numbers say: the numbers are read, and what comes out is known.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::dtype::DType;
use crate::onnx::call::{Call, Outcome, Row, Value, known, sizes};
use crate::onnx::elem::Elem;
use crate::onnx::numbers::{Data, MOST, Numbers, count, strides};
use crate::onnx::trouble::wrong;

fn top_k(call: &Call<'_>) -> Outcome {
    let shape = call.shape(0)?;
    let axis = call.axis("axis", -1, shape.len())?;
    let k = match call.has(1) {
        true => sizes(&call.wholes(1)?, "k")?.first().copied().unwrap_or(0),
        false => usize::try_from(call.int("k", 0)?).unwrap_or(0),
    };
    let elem = call.elem(0)?;
    let (values, places) = call.tensor(0)?.topk(k, axis, call.flag("largest", true)?);
    Ok(vec![Value::Tensor(values, elem), Value::Tensor(places.cast(DType::I32), Elem::I64)])
}

fn non_zero(call: &Call<'_>) -> Outcome {
    let numbers = call.known(0)?;
    let along = strides(&numbers.shape);
    let found: Vec<usize> =
        numbers.reals().iter().enumerate().filter(|(_, value)| **value != 0.0).map(|(at, _)| at).collect();
    let mut indices = vec![];
    for (&stride, &length) in along.iter().zip(&numbers.shape) {
        indices.extend(found.iter().map(|&at| (at / stride.max(1) % length.max(1)) as i64));
    }
    known(Numbers::new(Elem::I64, vec![numbers.shape.len(), found.len()], Data::Whole(indices)))
}

/// The different slices along an axis, or the different elements; where each was first, which each is, how often it is there.
fn unique(call: &Call<'_>) -> Outcome {
    let numbers = call.known(0)?;
    let shape = numbers.shape.clone();
    let axis = if call.says("axis") { Some(call.axis("axis", 0, shape.len())?) } else { None };
    let values = numbers.reals();
    // Each slice as a row.
    let (length, inner) = match axis {
        Some(axis) => (shape.get(axis).copied().unwrap_or(0), count(shape.get(axis + 1..).unwrap_or_default())?),
        None => (values.len(), 1),
    };
    let outer = if axis.is_some() { values.len() / (length * inner).max(1) } else { 1 };
    let place =
        |row: usize, element: usize| (element / inner.max(1)) * length * inner + row * inner + element % inner.max(1);
    let rows: Vec<Vec<f64>> = (0..length)
        .map(|row| (0..outer * inner).filter_map(|element| values.get(place(row, element)).copied()).collect())
        .collect();
    // A NaN is like no other element, itself included.
    let compare = |a: &Vec<f64>, b: &Vec<f64>| {
        a.iter().zip(b).map(|(x, y)| x.total_cmp(y)).find(|order| *order != Ordering::Equal).unwrap_or(Ordering::Equal)
    };
    let mut order: Vec<usize> = (0..length).collect();
    let at = |row: usize| rows.get(row).cloned().unwrap_or_default();
    order.sort_by(|&a, &b| match (rows.get(a), rows.get(b)) {
        (Some(a), Some(b)) => compare(a, b),
        _ => Ordering::Equal,
    });
    // Groups of equal rows: the first of each, and its members.
    let mut groups: Vec<(usize, Vec<usize>)> = vec![];
    for row in order {
        let is_same = |first: usize| {
            let (a, b) = (at(first), at(row));
            !a.iter().any(|value| value.is_nan()) && compare(&a, &b) == Ordering::Equal
        };
        match groups.last_mut() {
            Some((first, members)) if is_same(*first) => members.push(row),
            _ => groups.push((row, vec![row])),
        }
    }
    if !call.flag("sorted", true)? {
        groups.sort_by_key(|(first, _)| *first);
    }
    let mut inverse = vec![0i64; length];
    for (number, (_, members)) in groups.iter().enumerate() {
        for &member in members {
            if let Some(inverse) = inverse.get_mut(member) {
                *inverse = number as i64;
            }
        }
    }
    let mut to = if axis.is_some() { shape } else { vec![length] };
    if let Some(length) = to.get_mut(axis.unwrap_or(0)) {
        *length = groups.len();
    }
    let firsts: Vec<usize> = groups.iter().map(|(first, _)| *first).collect();
    let picks: Vec<usize> = (0..outer)
        .flat_map(|before| {
            firsts.iter().flat_map(move |&row| (0..inner).map(move |element| place(row, before * inner + element)))
        })
        .collect();
    let distinct = numbers.pick(&picks, to)?;
    let vector = |values: Vec<i64>| Value::Known(Arc::new(Numbers::vector(values)));
    Ok(vec![
        Value::Known(Arc::new(distinct)),
        vector(firsts.iter().map(|&first| first as i64).collect()),
        vector(inverse),
        vector(groups.iter().map(|(_, members)| members.len() as i64).collect()),
    ])
}

/// A box by its corners, in order.
fn corners(values: &[f64], is_center: bool) -> Option<[f64; 4]> {
    let &[a, b, c, d] = values else { return None };
    Some(match is_center {
        true => [b - d / 2.0, a - c / 2.0, b + d / 2.0, a + c / 2.0],
        false => [a.min(c), b.min(d), a.max(c), b.max(d)],
    })
}

/// The share of two boxes that both have.
fn overlap(a: &[f64; 4], b: &[f64; 4]) -> f64 {
    let area = |[y, x, bottom, right]: &[f64; 4]| (bottom - y) * (right - x);
    let side = |low: usize, high: usize| {
        let (Some(low), Some(high)) = (a.get(low).zip(b.get(low)), a.get(high).zip(b.get(high))) else { return 0.0 };
        (high.0.min(*high.1) - low.0.max(*low.1)).max(0.0)
    };
    let both = side(0, 2) * side(1, 3);
    let all = area(a) + area(b) - both;
    if all > 0.0 { both / all } else { 0.0 }
}

/// The best boxes of each class that overlap no better one by too much: `[found, (batch, class, box)]`.
fn non_max_suppression(call: &Call<'_>) -> Outcome {
    let (boxes, scores) = (call.known(0)?, call.known(1)?);
    let (&[batches, there, 4], &[same, classes, also]) = (&boxes.shape[..], &scores.shape[..]) else {
        return wrong(format!("boxes of shape {:?} and scores of shape {:?}", boxes.shape, scores.shape));
    };
    if (same, also) != (batches, there) {
        return wrong(format!("boxes of shape {:?} and scores of shape {:?}", boxes.shape, scores.shape));
    }
    let number = |i: usize, default: f64| if call.has(i) { call.number(i) } else { Ok(default) };
    let (most, share, least) = (number(2, 0.0)?, number(3, 0.0)?, number(4, f64::NEG_INFINITY)?);
    let is_center = call.flag("center_point_box", false)?;
    let (places, scores) = (boxes.reals(), scores.reals());
    let mut found = vec![];
    for batch in 0..batches {
        let corners: Vec<[f64; 4]> = (0..there)
            .filter_map(|number| {
                let first = (batch * there + number) * 4;
                corners(places.get(first..first + 4)?, is_center)
            })
            .collect();
        for class in 0..classes {
            let first = (batch * classes + class) * there;
            let mut by_score: Vec<(f64, usize)> =
                scores.get(first..first + there).unwrap_or_default().iter().copied().zip(0..).collect();
            by_score.retain(|(score, _)| *score > least);
            by_score.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            let mut kept: Vec<usize> = vec![];
            for (_, number) in by_score {
                if kept.len() as f64 >= most {
                    break;
                }
                let Some(mine) = corners.get(number) else { continue };
                if kept.iter().filter_map(|&other| corners.get(other)).all(|other| overlap(mine, other) <= share) {
                    kept.push(number);
                    found.extend([batch as i64, class as i64, number as i64]);
                }
            }
        }
    }
    known(Numbers::new(Elem::I64, vec![found.len() / 3, 3], Data::Whole(found)))
}

/// How often each sequence of numbers of a pool is in each row, with gaps of up to so many elements.
fn tf_idf(call: &Call<'_>) -> Outcome {
    use crate::onnx::call::Attribute;
    let numbers = call.known(0)?;
    let (rows, length) = match numbers.shape[..] {
        [length] => (None, length),
        [rows, length] => (Some(rows), length),
        _ => return wrong(format!("shape {:?} is no row, and no matrix", numbers.shape)),
    };
    let (Some(starts), Some(columns), Some(pool)) =
        (call.sizes("ngram_counts")?, call.sizes("ngram_indexes")?, call.ints("pool_int64s")?)
    else {
        return wrong("it has no pool of numbers");
    };
    let (shortest, longest) = (call.int("min_gram_length", 1)?, call.int("max_gram_length", 1)?);
    let skips = call.int("max_skip_count", 0)?;
    let weights = match call.node.attributes.get("weights") {
        Some(Attribute::Floats(weights)) => Some(weights.clone()),
        _ => None,
    };
    let mut column: BTreeMap<Vec<i64>, usize> = BTreeMap::new();
    let mut next = 0;
    for (number, &start) in starts.iter().enumerate() {
        let end = starts.get(number + 1).copied().unwrap_or(pool.len());
        for gram in pool.get(start..end).unwrap_or_default().chunks_exact(number + 1) {
            column.insert(gram.to_vec(), next);
            next += 1;
        }
    }
    let width = columns.iter().max().map_or(0, |most| most + 1);
    let (values, mode) = (numbers.wholes()?, call.text("mode", "TF")?);
    let elements = count(&[rows.unwrap_or(1), width])?;
    if elements > MOST {
        return wrong(format!("{width} columns"));
    }
    let mut counts = vec![0f64; elements];
    for row in 0..rows.unwrap_or(1) {
        let line = values.get(row * length..(row + 1) * length).unwrap_or_default();
        for gram in shortest.max(1)..=longest.min(length as i64) {
            // A single number has no gaps.
            let gaps = if gram == 1 { 0 } else { skips.clamp(0, length as i64) };
            for step in 1..=gaps as usize + 1 {
                for first in 0..length {
                    let found: Vec<i64> = line.iter().skip(first).step_by(step).take(gram as usize).copied().collect();
                    let at = column.get(&found).filter(|_| found.len() == gram as usize);
                    let at = at.and_then(|number| columns.get(*number));
                    if let Some(count) = at.and_then(|at| counts.get_mut(row * width + at)) {
                        *count += 1.0;
                    }
                }
            }
        }
    }
    let weight = |at: usize| {
        weights
            .as_ref()
            .and_then(|weights| {
                columns.iter().position(|&column| column == at).and_then(|number| weights.get(number).copied())
            })
            .unwrap_or(1.0)
    };
    for (at, count) in counts.iter_mut().enumerate() {
        *count = match mode.as_str() {
            "IDF" => {
                if *count > 0.0 {
                    weight(at % width.max(1))
                } else {
                    0.0
                }
            }
            "TFIDF" => *count * weight(at % width.max(1)),
            _ => *count,
        };
    }
    let shape = rows.into_iter().chain([width]).collect();
    known(Numbers::new(Elem::F32, shape, Data::Real(counts)))
}

/// What is chosen by its numbers.
pub const ROWS: &[Row] = &[
    Row::new("TopK", top_k).with(&["axis", "largest", "sorted", "k"]).knows(&[1]),
    Row::new("NonZero", non_zero).native(),
    Row::new("Unique", unique).with(&["axis", "sorted"]).native(),
    Row::new("NonMaxSuppression", non_max_suppression).with(&["center_point_box"]).knows(&[0, 1, 2, 3, 4]).native(),
    Row::new("TfIdfVectorizer", tf_idf)
        .with(&[
            "max_gram_length",
            "max_skip_count",
            "min_gram_length",
            "mode",
            "ngram_counts",
            "ngram_indexes",
            "pool_int64s",
            "weights",
        ])
        .native(),
];
