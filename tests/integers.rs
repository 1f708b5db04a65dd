//! Integers are exact on a GPU and on the reference alike, and host numbers beside tensors follow one rule on both.

mod common;

use kiln::kernel::Capabilities;
use kiln::ops::{Backward, Case, Lowering, Meta, Op, Problem};
use kiln::prelude::*;
use kiln::rng::Philox;
use kiln::{Array, Element, Shape};

/// What `build` gives on the GPU and on the reference, which must be the same; the GPU's buffers are full of NaN before the
/// second of two runs, which counts.
fn both<T: Element + PartialEq + std::fmt::Debug>(build: impl Fn(&Device) -> Tensor) -> Vec<T> {
    let gpu = common::gpu();
    build(&gpu).to_vec::<T>().expect("a value");
    gpu.poison_buffers().expect("poison");
    let [got, want] = [gpu, Device::cpu()].map(|device| build(&device).to_vec::<T>().expect("a value"));
    assert_eq!(got, want, "the GPU and the reference differ");
    got
}

/// The error that `build` carries on the GPU and on the reference.
fn error(build: impl Fn(&Device) -> Tensor) -> Error {
    let [one, other] = [common::gpu(), Device::cpu()].map(|device| match build(&device).to_array() {
        Ok(array) => panic!("no error, but {array:?}"),
        Err(error) => error,
    });
    assert_eq!(one.to_string(), other.to_string());
    one
}

const INTS: [i32; 9] = [0, 1, -1, i32::MIN, i32::MIN + 1, i32::MAX, i32::MAX - 1, 16_777_217, -16_777_217];
const WORDS: [u32; 7] = [0, 1, 2, u32::MAX, u32::MAX - 1, 16_777_217, 1 << 31];
const NUMBERS: [f64; 19] = [
    0.0,
    -0.0,
    0.5,
    -0.5,
    1.0,
    1.5,
    -1.0,
    -1e-300,
    16_777_216.0,
    16_777_216.5,
    2_147_483_647.0,
    2_147_483_647.5,
    -2_147_483_648.0,
    -2_147_483_648.5,
    4_294_967_295.0,
    4_294_967_296.0,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
];

type Comparison = (fn(&Tensor, f64) -> Tensor, fn(&f64, &f64) -> bool);
const COMPARISONS: [Comparison; 6] = [
    (|x, n| x.lt(n), f64::lt),
    (|x, n| x.le(n), f64::le),
    (|x, n| x.gt(n), f64::gt),
    (|x, n| x.ge(n), f64::ge),
    (|x, n| x.eq(n), f64::eq),
    (|x, n| x.ne(n), f64::ne),
];

#[test]
fn integers_are_compared_with_numbers_as_real_numbers() {
    for (compare, real) in COMPARISONS {
        for number in NUMBERS {
            let found = both::<bool>(|device| compare(&device.tensor(&INTS, &[9]), number));
            assert_eq!(found, INTS.map(|x| real(&f64::from(x), &number)), "i32 beside {number}");
            let found = both::<bool>(|device| compare(&device.tensor(&WORDS, &[7]), number));
            assert_eq!(found, WORDS.map(|x| real(&f64::from(x), &number)), "u32 beside {number}");
            let found = both::<bool>(|device| compare(&device.tensor(&[false, true], &[2]), number));
            assert_eq!(found, [0.0, 1.0].map(|x| real(&x, &number)), "bool beside {number}");
        }
    }
}

#[test]
fn labels_are_below_a_fraction_where_they_are() {
    assert_eq!(both::<bool>(|device| device.tensor(&[0i32, 1, -1], &[3]).lt(0.5)), [true, false, true]);
    assert_eq!(both::<bool>(|device| device.tensor(&[1i32, 2], &[2]).eq(1.5)), [false, false]);
}

#[test]
fn the_number_beside_an_integer_is_not_part_of_the_plan() {
    // A device of its own: other tests make plans on the shared one.
    for device in [common::backend("vulkan"), Device::cpu()] {
        let x = device.tensor(&INTS, &[3, 3]);
        let masked = |number: f64| x.lt(number).logical_or(&x.eq(number)).to_vec::<bool>().expect("a mask");
        // An upload that many runs use gets a buffer, which is another plan.
        (0..12).for_each(|_| drop(masked(3.0)));
        let before = device.statistics().plans_made;
        NUMBERS.iter().for_each(|&number| drop(masked(number)));
        assert_eq!(device.statistics().plans_made, before, "a number made a plan");
    }
}

#[test]
fn arithmetic_with_a_number_that_an_integer_does_not_hold_is_an_error_that_says_to_cast() {
    type Build = fn(&Tensor, f64) -> Tensor;
    let arithmetic: [Build; 10] = [
        |x, n| x + n,
        |x, n| x - n,
        |x, n| x * n,
        |x, n| x / n,
        |x, n| n - x,
        |x, n| x.maximum(n),
        |x, n| x.minimum(n),
        |x, n| x.clamp(n, 100.0),
        |x, n| x.clamp(0.0, n),
        |x, n| x.device().full(&[37], n, x.dtype().unwrap()),
    ];
    for build in arithmetic {
        for number in [0.5, 2_147_483_648.0, f64::NAN, -1e30] {
            let found = error(|device| build(&device.tensor(&INTS, &[9]), number));
            assert!(matches!(found, Error::DType { at, .. } if at.file() == file!()), "{found:?}");
            assert!(found.to_string().contains("cast"), "{found}");
        }
        for number in [-1.0, 0.25, 4_294_967_296.0] {
            let found = error(|device| build(&device.tensor(&WORDS, &[7]), number));
            assert!(found.to_string().contains("u32") && found.to_string().contains("cast"), "{found}");
        }
    }
    assert!(matches!(error(|device| device.full(&[3], 0.5, DType::Bool)), Error::DType { .. }));
    for (low, high) in [(f64::NAN, 1.0), (0.0, f64::NAN)] {
        assert!(matches!(error(|device| device.ones(&[3]).clamp(low, high)), Error::Value { op: "clamp", .. }));
    }
}

#[test]
fn arithmetic_with_a_number_that_an_integer_holds_is_exact() {
    assert_eq!(both::<u32>(|device| device.tensor(&WORDS, &[7]) + 4_294_967_295u32), WORDS.map(|x| x.wrapping_sub(1)));
    assert_eq!(both::<i32>(|device| device.tensor(&INTS, &[9]) * 16_777_217), INTS.map(|x| x.wrapping_mul(16_777_217)));
    assert_eq!(
        both::<i32>(|device| 16_777_217.0 - device.tensor(&INTS, &[9])),
        INTS.map(|x| 16_777_217i32.wrapping_sub(x))
    );
    assert_eq!(
        both::<i32>(|device| device.tensor(&INTS, &[9]).clamp(-16_777_217.0, 16_777_217.0)),
        INTS.map(|x| x.clamp(-16_777_217, 16_777_217))
    );
    let unbounded = |device: &Device| device.tensor(&INTS, &[9]).clamp(f64::NEG_INFINITY, f64::INFINITY);
    assert_eq!(both::<i32>(unbounded), INTS);
    for value in [16_777_217, i32::MIN, i32::MAX] {
        assert_eq!(both::<i32>(|device| device.full(&[37], f64::from(value), DType::I32)), [value; 37]);
    }
    assert_eq!(both::<u32>(|device| device.full(&[5], 4_294_967_295.0, DType::U32)), [u32::MAX; 5]);
}

/// Pairs of any bits, with the edges among them.
fn pairs() -> (Vec<u32>, Vec<u32>) {
    let mut rng = Philox::new(11, 0);
    let edges = [0, 1, 2, u32::MAX, 1 << 31, (1 << 31) - 1, (1 << 31) + 1, 16_777_217, 65_537];
    let mut all: Vec<(u32, u32)> = edges.iter().flat_map(|&a| edges.map(|b| (a, b))).collect();
    all.extend((0..50).map(|_| (rng.next_u32(), rng.next_u32() >> rng.below(32))));
    all.into_iter().unzip()
}

fn signed(words: &[u32]) -> Vec<i32> {
    words.iter().map(|&word| word as i32).collect()
}

#[test]
fn integer_arithmetic_wraps() {
    let (a, b) = pairs();
    let n = a.len();
    let check = |op: fn(&Tensor, &Tensor) -> Tensor, word: fn(u32, u32) -> u32, int: fn(i32, i32) -> i32| {
        let found = both::<u32>(|device| op(&device.tensor(&a, &[n]), &device.tensor(&b, &[n])));
        assert_eq!(found, a.iter().zip(&b).map(|(&a, &b)| word(a, b)).collect::<Vec<_>>());
        let (a, b) = (signed(&a), signed(&b));
        let found = both::<i32>(|device| op(&device.tensor(&a, &[n]), &device.tensor(&b, &[n])));
        assert_eq!(found, a.iter().zip(&b).map(|(&a, &b)| int(a, b)).collect::<Vec<_>>());
    };
    check(|a, b| a + b, u32::wrapping_add, i32::wrapping_add);
    check(|a, b| a - b, u32::wrapping_sub, i32::wrapping_sub);
    check(|a, b| a * b, u32::wrapping_mul, i32::wrapping_mul);
    check(
        |a, b| a * b + a.square() - b,
        |a, b| a.wrapping_mul(b).wrapping_add(a.wrapping_mul(a)).wrapping_sub(b),
        |a, b| a.wrapping_mul(b).wrapping_add(a.wrapping_mul(a)).wrapping_sub(b),
    );
    check(|a, b| a.minimum(b), u32::min, i32::min);
    check(|a, b| a.maximum(b), u32::max, i32::max);
    check(|a, _| a.abs(), |a, _| a, |a, _| a.wrapping_abs());
    let ints = signed(&a);
    let unary = |op: fn(&Tensor) -> Tensor| both::<i32>(|device| op(&device.tensor(&ints, &[n])));
    assert_eq!(unary(Tensor::negative), ints.iter().map(|x| x.wrapping_neg()).collect::<Vec<_>>());
    assert_eq!(unary(Tensor::sign), ints.iter().map(|x| x.signum()).collect::<Vec<_>>());
    assert_eq!(unary(Tensor::relu), ints.iter().map(|&x| x.max(0)).collect::<Vec<_>>());
}

#[test]
fn integer_sums_wrap() {
    let mut rng = Philox::new(3, 1);
    for (shape, axes) in [([37, 131], [1].as_slice()), ([131, 36], &[0]), ([5, 7], &[0, 1]), ([2, 9001], &[1])] {
        let words: Vec<u32> = (0..shape[0] * shape[1]).map(|_| rng.next_u32()).collect();
        let ints = signed(&words);
        let mut sums = vec![0u32; shape[0] * shape[1]];
        let place = |i: usize| match axes {
            [1] => i / shape[1],
            [0] => i % shape[1],
            _ => 0,
        };
        words.iter().enumerate().for_each(|(i, &word)| sums[place(i)] = sums[place(i)].wrapping_add(word));
        sums.truncate(match axes {
            [1] => shape[0],
            [0] => shape[1],
            _ => 1,
        });
        assert_eq!(both::<u32>(|device| device.tensor(&words, &shape).sum(axes)), sums);
        assert_eq!(both::<i32>(|device| device.tensor(&ints, &shape).sum(axes)), signed(&sums));
    }
}

#[test]
fn integer_division_has_the_values_that_wgsl_defines() {
    let (a, b) = pairs();
    let n = a.len();
    let found = both::<u32>(|device| device.tensor(&a, &[n]) / &device.tensor(&b, &[n]));
    assert_eq!(found, a.iter().zip(&b).map(|(&a, &b)| a.checked_div(b).unwrap_or(a)).collect::<Vec<_>>());
    let (a, b) = (signed(&a), signed(&b));
    let want = |a: i32, b: i32| if b == 0 { a } else { a.wrapping_div(b) };
    let found = both::<i32>(|device| device.tensor(&a, &[n]) / &device.tensor(&b, &[n]));
    assert_eq!(found, a.iter().zip(&b).map(|(&a, &b)| want(a, b)).collect::<Vec<_>>());
    // Beside a number, and four elements at a time.
    for divisor in [0, -1, 1, 7, i32::MIN] {
        let found = both::<i32>(|device| device.tensor(&a[..48], &[12, 4]) / divisor);
        assert_eq!(found, a[..48].iter().map(|&a| want(a, divisor)).collect::<Vec<_>>(), "over {divisor}");
        let found = both::<i32>(|device| f64::from(divisor) / device.tensor(&b[..48], &[12, 4]));
        assert_eq!(found, b[..48].iter().map(|&b| want(divisor, b)).collect::<Vec<_>>(), "{divisor} over");
    }
}

#[test]
fn no_division_of_integers_is_left_to_the_driver() {
    let device = common::gpu();
    let a = device.tensor(&[1i32, 2], &[2]);
    let plan = device.plan_for(&[&(&a / &(&a - 1))], &Capabilities::default(), true).expect("a plan");
    assert!(plan.dispatches.iter().any(|dispatch| dispatch.source().contains("signed_quotient")), "{plan:?}");
}

/// Remainder, as an op of a user's own: a pointwise expression that our kernels take in.
#[derive(Debug)]
struct Remainder;

impl Op for Remainder {
    fn name(&self) -> &'static str {
        "remainder"
    }
    fn attributes(&self, _: &mut Vec<u64>) {}
    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        Ok(vec![inputs[0]])
    }
    fn gradient(&self, _: &Backward<'_>) -> Vec<Option<Tensor>> {
        vec![None, None]
    }
    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let [a, b] = [0, 1].map(|k| &inputs[k].data);
        vec![Array::build(output.shape, output.dtype, |i| match (a[i] as i64, b[i] as i64) {
            (_, 0) => 0.0,
            (a, b) => output.dtype.wrap(a % b),
        })]
    }
    fn lowering(&self, _: &[Meta], _: &Meta, _: &Capabilities) -> Lowering {
        Lowering::Pointwise { expression: "a % b", helpers: "", constants: vec![] }
    }
    fn cases() -> Vec<Case> {
        vec![]
    }
}

#[test]
fn what_a_user_writes_into_a_fused_kernel_stays_checked() {
    let (a, b) = pairs();
    let n = a.len();
    let (a, b) = (signed(&a), signed(&b));
    let fused = |device: &Device| {
        let (a, b) = (device.tensor(&a, &[n]), device.tensor(&b, &[n]));
        Tensor::apply(Remainder, &[&(&a + 0), &b]) + 1
    };
    let want = |(&a, &b): (&i32, &i32)| if b == 0 { 1 } else { a.wrapping_rem(b).wrapping_add(1) };
    // The shader compiler has no such checks for GL.
    let device = common::backend("vulkan");
    for device in [&device, &Device::cpu()] {
        assert_eq!(fused(device).to_vec::<i32>().unwrap(), a.iter().zip(&b).map(want).collect::<Vec<_>>());
    }
    let plan = |root: &Tensor| device.plan_for(&[root], &Capabilities::default(), true).expect("a plan");
    let (theirs, ours) = (plan(&fused(&device)), plan(&(device.tensor(&a, &[n]) + 1)));
    assert!(theirs.dispatches.iter().all(|dispatch| dispatch.checked), "{theirs:?}");
    assert!(ours.dispatches.iter().all(|dispatch| !dispatch.checked), "{ours:?}");
    // And where it ends up in front of a reduction.
    let summed = plan(&fused(&device).sum_all());
    assert!(summed.dispatches.iter().any(|dispatch| dispatch.checked), "{summed:?}");
}

#[test]
fn no_integer_passes_through_f32() {
    let large = [1i32 << 24, (1 << 24) + 1, (1 << 24) + 3, 1 << 24];
    let words = large.map(|x| x as u32 + (1 << 31));
    assert_eq!(both::<u32>(|device| device.tensor(&large[..2], &[2]).argmax(0)), [1]);
    assert_eq!(both::<u32>(|device| device.tensor(&words, &[2, 2]).argmax(1)), [1, 0]);
    assert_eq!(both::<u32>(|device| device.tensor(&large, &[2, 2]).negative().argmax(1)), [0, 1]);
    assert_eq!(both::<u32>(|device| device.tensor(&[false, true, true], &[3]).argmax(0)), [1]);
    assert_eq!(both::<i32>(|device| device.tensor(&large, &[4]).max_all()), [(1 << 24) + 3]);
    assert_eq!(both::<u32>(|device| device.tensor(&words, &[4]).min_all()), [words[0]]);
    assert_eq!(both::<i32>(|device| device.tensor(&large, &[4]).sum_all()), [large.iter().sum::<i32>()]);
    let last = |device: &Device| device.tensor(&large, &[4]).slice(0, 1, 1);
    for device in [common::gpu(), Device::cpu()] {
        assert_eq!(last(&device).item().unwrap(), 16_777_217.0);
        assert_eq!(last(&device).to_array().unwrap().data, [16_777_217.0]);
    }
    let index = |device: &Device| device.tensor(&[1u32, 0, 2], &[3]);
    assert_eq!(
        both::<i32>(|device| device.tensor(&large, &[4]).gather(0, &index(device))),
        [large[1], large[0], large[2]]
    );
    assert_eq!(
        both::<u32>(|device| device.tensor(&words, &[4]).index_select(0, &index(device))),
        [words[1], words[0], words[2]]
    );
    let joined = |device: &Device| {
        Tensor::concat(&[&device.tensor(&large, &[4]), &device.full(&[1], 16_777_217.0, DType::I32)], 0)
    };
    assert_eq!(both::<i32>(joined), [large[0], large[1], large[2], large[3], 16_777_217]);
    let chosen = |device: &Device| {
        let x = device.tensor(&large, &[4]);
        x.eq(16_777_217).where_(&x, &device.full(&[4], -16_777_217.0, DType::I32))
    };
    assert_eq!(both::<i32>(chosen), [-16_777_217, 16_777_217, -16_777_217, -16_777_217]);
    let ones = |device: &Device| device.tensor(&words, &[4]).ones_like() + &device.tensor(&words, &[4]);
    assert_eq!(both::<u32>(ones), words.map(|x| x + 1));
    assert_eq!(both::<u32>(|device| device.tensor(&large, &[4]).cast(DType::U32)), large.map(|x| x as u32));
    // The float next to it is the same on both.
    assert_eq!(both::<f32>(|device| device.tensor(&large, &[4]).cast(DType::F32)), large.map(|x| x as f32));
    let equal = |device: &Device| device.tensor(&large, &[4]).cast(DType::F32).eq(16_777_217.0);
    assert_eq!(both::<bool>(equal), [true, true, false, true]);
}

#[test]
fn a_range_and_a_constant_beyond_f32_are_exact() {
    const N: usize = (1 << 24) + 5;
    // A device of its own, for its buffers are large.
    let gpu = common::backend("vulkan");
    for dtype in [DType::I32, DType::U32] {
        let tail = |device: &Device| device.arange(N, dtype).slice(0, N - 5, 5).cast(DType::U32);
        assert_eq!(tail(&gpu).to_vec::<u32>().unwrap(), (N as u32 - 5..N as u32).collect::<Vec<_>>());
    }
    // A constant that a rule makes: where the second piece of a split has its gradient.
    let x = gpu.zeros(&[N]).variable();
    let loss = x.split(0, &[N - 4, 4])[1].times(3.0).sum_all();
    let gradient = loss.gradients(&[&x]).expect("a gradient").remove(0);
    assert_eq!(gradient.slice(0, N - 6, 6).to_vec::<f32>().unwrap(), [0.0, 0.0, 3.0, 3.0, 3.0, 3.0]);
}

#[test]
fn classes_and_labels_are_compared_exactly() {
    let labels = [16_777_216i32, 16_777_217, 3];
    let picked = |device: &Device| {
        let labels = device.tensor(&labels, &[3]);
        labels.ne(16_777_217).logical_and(&labels.ge(4))
    };
    assert_eq!(both::<bool>(picked), [true, false, false]);
    let shown = |device: &Device| device.tensor(&[2u32, 0], &[2]).one_hot(3);
    assert_eq!(both::<f32>(shown), [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
}

#[test]
fn a_number_beside_a_float_is_rounded_once_to_its_dtype() {
    let tenth = half::f16::from_f64(0.1);
    assert_eq!(both::<bool>(|device| device.tensor(&[tenth], &[1]).eq(0.1)), [true]);
    assert_eq!(both::<bool>(|device| device.tensor(&[0.1f32], &[1]).eq(0.1)), [true]);
    assert_eq!(both::<bool>(|device| device.tensor(&[0.1f32], &[1]).gt(0.1)), [false]);
    assert_eq!(both::<bool>(|device| device.zeros(&[1]).pad(&[(1, 0)], 0.1).eq(0.1)), [true, false]);
    assert_eq!(both::<bool>(|device| device.tensor(&[0.1f32, 0.3, 1.0 / 3.0], &[3]).le(1.0 / 3.0)), [true; 3]);
    // Just above the middle of two neighbours in half precision, by less than f32 shows.
    let above = 1.0 + 2f64.powi(-11) + 2f64.powi(-40);
    let next = half::f16::from_f32(1.0 + 2f32.powi(-10));
    assert_eq!(both::<half::f16>(|device| device.full(&[3], above, DType::F16)), [next; 3]);
    assert_eq!(both::<bool>(|device| device.tensor(&[next], &[1]).eq(above)), [true]);
    let shape = Shape::new(&[1]).unwrap();
    let uploaded = |device: &Device| device.array(&Array { shape, dtype: DType::F16, data: vec![above] });
    assert_eq!(both::<half::f16>(uploaded), [next]);
    let mut rng = Philox::new(4, 4);
    let numbers: Vec<f64> = (0..131).map(|_| rng.normal() * 2f64.powi(rng.below(40) as i32 - 20)).collect();
    for number in numbers {
        let single = number as f32;
        assert_eq!(both::<f32>(|device| device.full(&[1], number, DType::F32)), [single]);
        let all = |device: &Device| {
            let x = device.tensor(&[single, single.next_up(), single.next_down()], &[3]);
            Tensor::stack(&[&x.eq(number), &x.lt(number), &x.ge(number)], 0)
        };
        assert_eq!(both::<bool>(all), [true, false, false, false, false, true, true, true, false], "{number}");
    }
}

#[test]
fn a_mixed_precision_op_in_f32_takes_its_number_in_f32() {
    let exponent = |device: &Device| {
        let x = device.tensor(&[half::f16::from_f32(2.0)], &[1]);
        kiln::with_precision(kiln::Precision::Mixed, || x.pow(10.1))
    };
    for device in [common::gpu(), Device::cpu()] {
        let found = exponent(&device).item().unwrap();
        assert!((found / 2f64.powf(10.1) - 1.0).abs() < 3e-6, "{found}");
    }
}

#[test]
fn nothing_compares_with_nan() {
    let x = |device: &Device| device.tensor(&[1.0f32, f32::NAN, f32::NEG_INFINITY], &[3]);
    for (compare, real) in COMPARISONS {
        let is_ne = real(&f64::NAN, &f64::NAN);
        assert_eq!(both::<bool>(|device| compare(&x(device), f64::NAN)), [is_ne; 3]);
    }
}

#[test]
fn a_range_of_bools_is_an_error_that_says_so() {
    let found = error(|device| device.arange(4, DType::Bool));
    assert!(matches!(found, Error::DType { op: "arange", at, .. } if at.file() == file!()), "{found}");
    assert!(found.to_string().contains("bool"), "{found}");
    assert!(matches!(error(|device| device.arange((1 << 31) + 1, DType::I32)), Error::Value { op: "arange", .. }));
    assert_eq!(both::<half::f16>(|device| device.arange(3, DType::F16)), [0.0f32, 1.0, 2.0].map(half::f16::from_f32));
}
