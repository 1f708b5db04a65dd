//! Seeded damage to files that knows their format: most inputs get past the first check.

use kiln::rng::Philox;
use serde_json::{Value, json};

/// Lengths and counts at which arithmetic goes wrong.
const NUMBERS: [u64; 16] =
    [0, 1, 2, 3, 7, 8, 127, 128, 255, 65_535, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 53, (1 << 63) - 1, u64::MAX];
/// What a text of a header may be replaced by.
const TEXTS: [&str; 33] = [
    "",
    "F64",
    "F32",
    "F16",
    "BF16",
    "I64",
    "I32",
    "U32",
    "BOOL",
    "F8_E4M3",
    "fc.weight",
    "fc.bias",
    "optimizer/m.fc.weight",
    "optimizer/model/m.fc.weight",
    "store/second/fc.bias",
    "record/kept/sums",
    "version",
    "parts",
    "store/model",
    "store/second",
    "optimizer/second",
    "value/note",
    "norm.running_mean",
    "adamw",
    "sgd",
    "NaN",
    "inf",
    "-0.5",
    "1e999",
    "0.1",
    "__metadata__",
    "kiln",
    "\u{0}\u{fffd}",
];
/// Floats that a model cannot have, and some that it can.
const FLOATS: [f64; 8] = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e39, 5e-324, 0.0, -1.5];

/// The damaged form of one of the `seeds` for `target`, the same for the same `rng`.
pub fn file(target: &str, seeds: &[Vec<u8>], rng: &mut Philox) -> Vec<u8> {
    let seed = &seeds[below(rng, seeds.len())];
    match target {
        "weights" | "checkpoint" | "parts" if rng.below(4) > 0 => tensors(seed, rng),
        _ => bytes(seed.clone(), rng),
    }
}

fn below(rng: &mut Philox, bound: usize) -> usize {
    rng.below(bound.max(1) as u32) as usize
}

fn pick<T: Copy>(rng: &mut Philox, list: &[T]) -> T {
    list[below(rng, list.len())]
}

/// One to four edits of bytes.
fn bytes(mut file: Vec<u8>, rng: &mut Philox) -> Vec<u8> {
    for _ in 0..=rng.below(4) {
        let at = below(rng, file.len() + 1);
        let end = (at + 1 + below(rng, 24)).min(file.len());
        match rng.below(10) {
            0 => file.truncate(at),
            1 => file.extend((0..=below(rng, 40)).map(|_| rng.next_u32() as u8)),
            2 => drop(file.drain(at..end)),
            3 => drop(file.splice(at..at, (0..=below(rng, 24)).map(|_| rng.next_u32() as u8).collect::<Vec<_>>())),
            4 => {
                let copy = file[at..end].to_vec();
                let to = below(rng, file.len() + 1);
                drop(file.splice(to..to, copy));
            }
            5 | 6 => {
                let number = pick(rng, &NUMBERS).wrapping_add(u64::from(rng.below(3))).wrapping_sub(1);
                let words: [Vec<u8>; 4] = [
                    number.to_le_bytes().to_vec(),
                    number.to_be_bytes().to_vec(),
                    (number as u32).to_le_bytes().to_vec(),
                    (number as u32).to_be_bytes().to_vec(),
                ];
                // Fields are aligned more often than not.
                let at = if rng.below(2) == 0 { at / 4 * 4 } else { at };
                let word = &words[below(rng, 4)];
                file.iter_mut().skip(at).zip(word).for_each(|(byte, &new)| *byte = new);
            }
            7 => file
                .iter_mut()
                .skip(at)
                .take(1)
                .for_each(|byte| *byte = pick(rng, b"\0\x01\x7f\x80\xff\"{}[],:\t\n 09eE-.")),
            _ => file.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << rng.below(8)),
        }
    }
    file
}

/// Edits of a safetensors file as what it is: a JSON header of so many bytes, and data.
fn tensors(file: &[u8], rng: &mut Philox) -> Vec<u8> {
    let length = u64::from_le_bytes(file[..8].try_into().expect("eight bytes")) as usize;
    let (mut text, mut data) = (file[8..8 + length].to_vec(), file[8 + length..].to_vec());
    for _ in 0..=rng.below(2) {
        match rng.below(8) {
            0 => text = bytes(text, rng),
            1 => damage(&mut data, rng),
            2 => {
                // A key twice.
                if let Ok(Value::Object(entries)) = serde_json::from_slice::<Value>(&text)
                    && let Some((name, entry)) = entries.iter().nth(below(rng, entries.len()))
                {
                    let twice = format!("{{{}:{entry},", Value::from(name.as_str()));
                    text = [twice.as_bytes(), &text[1..]].concat();
                }
            }
            3 => data = bytes(data, rng),
            _ => {
                if let Ok(mut header) = serde_json::from_slice::<Value>(&text) {
                    edit(&mut header, rng);
                    text = header.to_string().into_bytes();
                }
            }
        }
    }
    [&(text.len() as u64).to_le_bytes(), &text[..], &data[..]].concat()
}

/// Puts a float of either width somewhere.
fn damage(data: &mut [u8], rng: &mut Philox) {
    let value = pick(rng, &FLOATS);
    let narrow = (value as f32).to_le_bytes();
    let word: &[u8] = if rng.below(2) == 0 { &value.to_le_bytes() } else { &narrow };
    let at = below(rng, data.len()) / word.len() * word.len();
    data.iter_mut().skip(at).zip(word).for_each(|(byte, &new)| *byte = new);
}

/// One edit somewhere in a JSON tree; texts that are JSON themselves are trees too.
fn edit(value: &mut Value, rng: &mut Philox) {
    let deeper = rng.below(8) > 0;
    match value {
        Value::Object(entries) if deeper && !entries.is_empty() => {
            let number = below(rng, entries.len());
            let name = entries.keys().nth(number).cloned().unwrap_or_default();
            match rng.below(10) {
                0 => drop(entries.remove(&name)),
                1 => {
                    let entry = entries.remove(&name).unwrap_or_default();
                    entries.insert(pick(rng, &TEXTS).into(), entry);
                }
                2 => {
                    let copy = entries[&name].clone();
                    entries.insert(pick(rng, &TEXTS).into(), copy);
                }
                3 => {
                    let other = entries.keys().nth(below(rng, entries.len())).cloned().unwrap_or_default();
                    let (a, b) = (entries[&name].clone(), entries[&other].clone());
                    entries.insert(name, b);
                    entries.insert(other, a);
                }
                _ => edit(&mut entries[&name], rng),
            }
        }
        Value::Array(items) if deeper && !items.is_empty() => {
            let at = below(rng, items.len());
            match rng.below(8) {
                0 => drop(items.remove(at)),
                1 => items.insert(at, items[at].clone()),
                2 => items.swap(0, at),
                _ => edit(&mut items[at], rng),
            }
        }
        Value::String(text) if deeper && text.starts_with('{') => {
            if let Ok(mut inner) = serde_json::from_str::<Value>(text) {
                edit(&mut inner, rng);
                *text = inner.to_string();
            }
        }
        Value::Number(number) if deeper => {
            let near = number.as_u64().unwrap_or(0);
            *value = match rng.below(6) {
                0 => json!(near.wrapping_add(1)),
                1 => json!(near.wrapping_sub(1)),
                2 => json!(near.wrapping_mul(2)),
                3 => json!(-(near as f64)),
                4 => json!(near as f64 + 0.5),
                _ => json!(pick(rng, &NUMBERS)),
            };
        }
        _ => {
            *value = match rng.below(10) {
                0 => Value::Null,
                1 => json!(true),
                2 => json!([]),
                3 => json!({}),
                4 => (0..1 + rng.below(200)).fold(json!(0), |inner, _| json!([inner])),
                5 => json!(vec![1; 1 + below(rng, 12)]),
                6 => json!("x".repeat(below(rng, 5000))),
                7 => json!(pick(rng, &NUMBERS)),
                8 => json!(-1),
                _ => json!(pick(rng, &TEXTS)),
            };
        }
    }
}
