//! What plans look like: how many kernels known graphs become, and what a cached plan costs.

mod common;

use kiln::kernel::Capabilities;
use kiln::nn::{Conv2d, Linear, Mode, Module};
use kiln::optim::{AdamW, AdamWConfig};
use kiln::{DType, Device, ParamStore, Tensor};

fn dispatches(roots: &[&Tensor]) -> usize {
    let capabilities = Capabilities { storage_buffers: 8, ..Capabilities::default() };
    Device::cpu().plan_for(roots, &capabilities, true).expect("a plan").dispatches.len()
}

fn input(shape: &[usize], seed: u64) -> Tensor {
    Device::cpu().array(&common::normals(shape, seed))
}

#[test]
fn a_pointwise_region_of_twelve_ops_is_one_kernel() {
    let (a, b) = (input(&[37, 5], 1), input(&[37, 5], 2));
    let mut y = &a + &b;
    for _ in 0..3 {
        y = (&y * &a).tanh() - &b;
    }
    let y = (y.exp() + &a).sqrt();
    assert_eq!(dispatches(&[&y]), 1);
}

#[test]
fn a_diamond_with_broadcasts_is_one_kernel() {
    let (x, row, column) = (input(&[37, 5], 1), input(&[5], 2), input(&[37, 1], 3));
    let scaled = &x * row.exp();
    let y = scaled.relu() + (&scaled - column.tanh()).square() * 0.5;
    assert_eq!(dispatches(&[&y]), 1);
}

#[test]
fn several_results_of_one_region_are_one_kernel() {
    let x = input(&[131], 1);
    let a = x.exp();
    let b = &a * 2.0;
    let c = (&a + &b).tanh();
    assert_eq!(dispatches(&[&a, &b, &c]), 1);
}

#[test]
fn pointwise_ops_before_and_after_a_reduction_run_inside_it() {
    let (x, y) = (input(&[37, 5], 1), input(&[37, 5], 2));
    let loss = ((&x - &y).square().mean(&[1]) + 1.0).sqrt();
    assert_eq!(dispatches(&[&loss]), 1);
}

#[test]
fn a_small_product_takes_the_tile_that_compiles_fast_for_any_batch() {
    let capabilities =
        Capabilities { software: true, subgroup: Some(8), storage_buffers: 8, ..Capabilities::default() };
    let name = |m: usize, k: usize, n: usize, transposed: bool| {
        let a = if transposed { input(&[k, m], 1).permute(&[1, 0]) } else { input(&[m, k], 1) };
        let y = a.matmul(&input(&[k, n], 2));
        Device::cpu().plan_for(&[&y], &capabilities, true).expect("a plan").dispatches[0].names[0].to_string()
    };
    for batch in [5, 32, 64, 2048] {
        assert_eq!(name(batch, 32, 16, false), "matmul.subgroup.thin", "forward, {batch}");
        assert_eq!(name(32, batch, 16, true), "matmul.subgroup.thin", "a weight's gradient, {batch}");
        // Weights that are larger take another, for any batch too.
        assert_eq!(name(batch, 128, 12, false), "matmul.wide", "{batch}");
        assert_eq!(name(128, batch, 12, true), "matmul.wide", "{batch}");
    }
    assert_eq!(name(64, 32, 64, false), "matmul.wide");
}

#[test]
fn a_product_reads_eight_elements_a_load_where_integers_of_64_bits_exist() {
    let without = Capabilities { software: true, subgroup: Some(8), storage_buffers: 8, ..Capabilities::default() };
    let name = |capabilities: &Capabilities, y: &Tensor| {
        Device::cpu().plan_for(&[y], capabilities, true).expect("a plan").dispatches[0].names[0].to_string()
    };
    let with = Capabilities { pairs: true, ..without.clone() };
    let (x, w) = (input(&[37, 64], 1), input(&[72, 64], 2));
    let y = x.matmul(&w.transpose(0, 1));
    assert_eq!(name(&with, &y), "matmul.eights");
    assert_eq!(name(&without, &y), "matmul.wide");
    // Along k the left operand has to be contiguous.
    let turned = input(&[64, 40], 3).transpose(0, 1).matmul(&input(&[64, 72], 4));
    assert_eq!(name(&with, &turned), "matmul.wide");
}

#[test]
fn a_tile_is_compiled_once_whatever_could_go_with_it() {
    let capabilities =
        Capabilities { software: true, subgroup: Some(8), storage_buffers: 8, ..Capabilities::default() };
    let tiles = |roots: &[&Tensor]| {
        let plan = Device::cpu().plan_for(roots, &capabilities, true).expect("a plan");
        let mut texts: Vec<_> = plan.dispatches.iter().map(|dispatch| dispatch.source().clone()).collect();
        texts.retain(|text| text.contains("subgroupBroadcast("));
        texts.sort();
        texts.dedup();
        (plan.dispatches.len(), texts.len())
    };
    let product = |seed: u64| {
        let x = input(&[131, 300], seed);
        (x.matmul(&input(&[300, 260], seed + 1)), x.sum(&[0]))
    };
    let ((a, a_sum), (b, b_sum)) = (product(1), product(3));
    assert_eq!(tiles(&[&a, &a_sum]), (1, 1), "a sum goes along");
    assert_eq!(tiles(&[&a, &a_sum, &b, &b_sum]), (2, 1), "with both alike");
    assert_eq!(tiles(&[&a, &a_sum, &b]), (3, 1), "with one only it would be another text");
}

#[test]
fn views_cost_no_kernel() {
    let x = input(&[3, 5, 7], 1);
    let y = x.permute(&[2, 0, 1]).slice(0, 1, 4).reshape(&[4, 15]).exp();
    assert_eq!(dispatches(&[&y]), 1);
}

#[test]
fn equal_sub_expressions_are_computed_once() {
    let x = input(&[37, 5], 1);
    let y = x.sum(&[0]) + x.sum(&[0]);
    assert_eq!(dispatches(&[&y]), 1);
}

#[test]
fn a_region_that_would_close_a_cycle_is_split() {
    // y needs the sum of x's exponential: the two pointwise parts cannot be one kernel.
    let x = input(&[37, 5], 1);
    let e = x.exp();
    let y = &e / e.sum_keep(&[1]);
    assert!(dispatches(&[&y]) >= 2);
    let want = y.to_array().unwrap();
    let gpu = common::gpu();
    let x = gpu.array(&common::normals(&[37, 5], 1));
    let e = x.exp();
    let got = (&e / e.sum_keep(&[1])).to_array().unwrap();
    for (g, w) in got.data.iter().zip(&want.data) {
        assert!((g - w).abs() < 1e-6);
    }
}

#[test]
fn more_inputs_than_an_adapter_binds_split_the_region() {
    let inputs: Vec<Tensor> = (0..20).map(|i| input(&[131], i)).collect();
    let sum = inputs[1..].iter().fold(inputs[0].clone(), |sum, x| sum + x);
    let count = dispatches(&[&sum]);
    assert!((3..=6).contains(&count), "{count} kernels for 20 inputs at 8 buffers each");
    let gpu = common::gpu();
    let on_gpu: Vec<Tensor> = (0..20).map(|i| gpu.array(&common::normals(&[131], i))).collect();
    let got = on_gpu[1..].iter().fold(on_gpu[0].clone(), |sum, x| sum + x).to_array().unwrap();
    for (g, w) in got.data.iter().zip(&sum.to_array().unwrap().data) {
        assert!((g - w).abs() < 1e-5);
    }
}

fn program(device: &Device, rows: usize, scale: f64, seed: u64) -> Vec<f64> {
    let x = device.array(&common::normals(&[rows, 5], seed)).variable();
    let y = ((&x * scale).tanh() + x.slice(0, seed as usize % 3, 1)).square().mean(&[0]).sum_all();
    let gradient = y.gradients(&[&x]).expect("gradients").remove(0);
    gradient.to_array().expect("a value").data
}

#[test]
fn host_numbers_and_slice_starts_make_no_new_plan() {
    let gpu = Device::named("vulkan").expect("a Vulkan driver");
    program(&gpu, 37, 0.5, 1);
    let made = gpu.statistics().plans_made;
    for (scale, seed) in [(0.25, 2), (1.0, 3), (0.5, 4)] {
        let got = program(&gpu, 37, scale, seed);
        let want = program(&Device::cpu(), 37, scale, seed);
        got.iter().zip(&want).for_each(|(g, w)| assert!((g - w).abs() < 1e-6));
    }
    assert_eq!(gpu.statistics().plans_made, made);
}

#[test]
fn two_operands_that_agree_today_are_not_merged() {
    let gpu = Device::named("vulkan").expect("a Vulkan driver");
    let run = |a: f64, b: f64| {
        let x = gpu.tensor(&[1.0f32, 2.0], &[2]);
        (x.exp() * a + x.exp() * b).to_vec::<f32>().unwrap()[0]
    };
    let same = run(2.0, 2.0);
    let made = gpu.statistics().plans_made;
    let other = run(2.0, 3.0);
    assert_eq!(gpu.statistics().plans_made, made);
    assert!((same - 4.0 * 1f32.exp()).abs() < 1e-5 && (other - 5.0 * 1f32.exp()).abs() < 1e-5);
}

#[test]
fn a_cached_plan_equals_a_fresh_one() {
    let gpu = Device::named("vulkan").expect("a Vulkan driver");
    let first = program(&gpu, 37, 0.5, 1);
    let cached = program(&gpu, 37, 0.5, 1);
    gpu.forget_plans();
    let fresh = program(&gpu, 37, 0.5, 1);
    assert_eq!(first, cached);
    assert_eq!(first, fresh);
}

#[test]
fn changing_only_the_batch_size_compiles_no_pipeline() {
    let gpu = Device::named("vulkan").expect("a Vulkan driver");
    // Odd sizes all: a multiple of four would take the wide variant of a kernel.
    program(&gpu, 37, 0.5, 1);
    let [_, _, pipelines] = gpu.objects_made();
    for rows in [35, 131, 11] {
        let got = program(&gpu, rows, 0.5, 1);
        let want = program(&Device::cpu(), rows, 0.5, 1);
        got.iter().zip(&want).for_each(|(g, w)| assert!((g - w).abs() < 1e-6));
    }
    assert_eq!(gpu.objects_made()[2], pipelines);
}

#[test]
fn the_order_of_recording_does_not_enter_the_key() {
    let gpu = Device::named("vulkan").expect("a Vulkan driver");
    let run = |swap: bool| {
        let x = gpu.tensor(&[1.0f32, 2.0, 3.0], &[3]);
        let (a, b) = if swap {
            let b = x.sqrt();
            (x.exp(), b)
        } else {
            let a = x.exp();
            (a, x.sqrt())
        };
        let y = a.tanh() - b.log();
        drop((a, b));
        y.to_vec::<f32>().unwrap()
    };
    let first = run(false);
    let made = gpu.statistics().plans_made;
    assert_eq!(run(true), first);
    assert_eq!(gpu.statistics().plans_made, made);
}

#[test]
fn a_structure_that_differs_in_one_attribute_is_another_plan() {
    let gpu = Device::named("vulkan").expect("a Vulkan driver");
    let x = gpu.array(&common::normals(&[6, 6], 1));
    let rows = x.sum(&[0]).to_vec::<f32>().unwrap();
    let columns = x.sum(&[1]).to_vec::<f32>().unwrap();
    assert_ne!(rows, columns);
    let half = x.cast(DType::F16).to_vec::<half::f16>().unwrap();
    assert_eq!(half.len(), 36);
}

#[test]
fn held_results_rotate_and_released_ones_are_used_again() {
    let gpu = Device::named("vulkan").expect("a Vulkan driver");
    let x = gpu.array(&common::normals(&[1000], 5));
    let mut held: Vec<Tensor> = vec![];
    let mut expected = vec![];
    for i in 0..12 {
        let y = &x * f64::from(i);
        gpu.eval(&[&y]).unwrap();
        expected.push(f64::from(i));
        held.push(y);
    }
    let base = x.to_vec::<f32>().unwrap();
    for (y, factor) in held.iter().zip(expected) {
        let got = y.to_vec::<f32>().unwrap();
        assert!(got.iter().zip(&base).all(|(g, b)| (f64::from(*g) - f64::from(*b) * factor).abs() < 1e-5));
    }
    drop(held);
    let [buffers, ..] = gpu.objects_made();
    for i in 0..20 {
        let y = &x * f64::from(i);
        gpu.eval(&[&y]).unwrap();
    }
    assert_eq!(gpu.objects_made()[0], buffers, "released results must be used again");
}

#[test]
fn a_grid_beyond_one_dimension_is_folded() {
    let gpu = Device::named("vulkan").expect("a Vulkan driver");
    // 65,535 workgroups of 64 invocations of one element each cover 4,194,240 elements.
    let count = 4_194_240 + 131;
    let x = gpu.arange(count, DType::U32);
    let y = (x + gpu.full(&[1], 1.0, DType::U32)).to_vec::<u32>().unwrap();
    assert!(y.iter().enumerate().all(|(i, &v)| v as usize == i + 1));
}

/// A length that does not divide by what an invocation takes costs its tail and no more.
#[test]
fn a_length_that_divides_by_nothing_takes_the_kernel_of_one_that_does() {
    let software = Capabilities { software: true, subgroup: Some(8), pairs: true, ..Capabilities::default() };
    for kind in [software, Capabilities::default()] {
        let kernel = |elements: usize| {
            let x = Device::cpu().uniform(&[elements], -1.0, 1.0, 1) * 1.0;
            Device::cpu().eval(&[&x]).unwrap();
            let y = (&x * 1.1 + 0.1).gelu() * x.sigmoid() + &x;
            let mut plan = Device::cpu().plan_for(&[&y], &kind, true).unwrap();
            assert_eq!(plan.dispatches.len(), 1);
            let dispatch = plan.dispatches.remove(0);
            (dispatch.source().clone(), dispatch.grid)
        };
        assert_eq!(kernel((1 << 18) + 7), kernel((1 << 18) + 8));
    }
}

#[test]
fn lengths_that_divide_by_nothing_have_the_values_of_the_reference() {
    for (seed, rest) in (1..8).enumerate() {
        let shape = [(1 << 18) + rest];
        let (a, b) = (common::normals(&shape, seed as u64), common::normals(&shape, 100 + seed as u64));
        let [found, other] = [common::gpu(), Device::cpu()].map(|device| {
            let (x, y) = (device.array(&a), device.array(&b));
            let whole = device.arange(shape[0], DType::I32) * 3.0 + x.lt(&y).cast(DType::I32);
            let chosen = x.lt(&y).where_(&x, &y);
            let values = (&x + &y).to_vec::<f32>().unwrap();
            (values, whole.to_vec::<i32>().unwrap(), chosen.to_vec::<f32>().unwrap())
        });
        assert!(found == other, "{shape:?}");
    }
}

/// Kernels of a training step, by kind of device: a software driver, a GPU, the lowest common set.
fn step_dispatches(params: &ParamStore, loss: &Tensor) -> [usize; 3] {
    let mut optimizer = AdamW::new(params, AdamWConfig::default());
    let software = Capabilities { software: true, subgroup: Some(8), storage_buffers: 16, ..Capabilities::default() };
    let gpu = Capabilities { subgroup: Some(32), storage_buffers: 16, ..Capabilities::default() };
    [software, gpu, Capabilities::default()]
        .map(|kind| optimizer.plan_for(loss, true, &kind, true).expect("a plan").dispatches.len())
}

#[test]
fn a_step_of_a_tiny_mlp_is_at_most_ten_dispatches() {
    let cpu = Device::cpu();
    let params = ParamStore::new(&cpu, 1);
    let layer = |name: &str, from, to| Linear::new(&params.root().child(name), from, to);
    let [a, b, c] = [layer("a", 16, 32), layer("b", 32, 32), layer("c", 32, 4)];
    let hidden = b.forward(&a.forward(&input(&[8, 16], 1), Mode::Train).relu(), Mode::Train).relu();
    let loss = c.forward(&hidden, Mode::Train).mse_loss(&input(&[8, 4], 2));
    let counts = step_dispatches(&params, &loss);
    assert!(counts.iter().all(|&count| count <= 10), "{counts:?}");
}

#[test]
fn a_step_of_a_small_cnn_is_at_most_24_dispatches() {
    let cpu = Device::cpu();
    let params = ParamStore::new(&cpu, 1);
    let root = params.root();
    let conv = |name: &str, from, to| Conv2d::new(&root.child(name), from, to, 3).padding(1);
    let (c1, c2) = (conv("c1", 1, 32), conv("c2", 32, 64));
    let (f1, f2) = (Linear::new(&root.child("f1"), 3136, 128), Linear::new(&root.child("f2"), 128, 10));
    let mut x = input(&[64, 1, 28, 28], 1);
    for layer in [&c1, &c2] {
        x = layer.forward(&x, Mode::Train).relu().max_pool2d([2, 2], [2, 2], [0, 0]);
    }
    let hidden = f1.forward(&x.flatten(1), Mode::Train).relu();
    let labels = cpu.labels(&(0..64).map(|i| i % 10).collect::<Vec<u32>>());
    let counts = step_dispatches(&params, &f2.forward(&hidden, Mode::Train).cross_entropy(&labels));
    assert!(counts[0] <= 24, "{counts:?}");
}

#[test]
fn the_gradient_that_a_mean_passes_on_costs_no_dispatch() {
    let logits = input(&[37, 10], 1).variable();
    let labels = Device::cpu().labels(&[3; 37]);
    let loss = logits.cross_entropy(&labels);
    let gradient = loss.gradients(&[&logits]).unwrap().remove(0);
    // The logits are held, so they are copied; the gradient itself is one kernel.
    assert_eq!(dispatches(&[&gradient]), 2);
}

#[test]
fn the_kernel_of_normalised_rows_leaves_the_gradients_of_the_weights_behind() {
    let capabilities =
        Capabilities { software: true, subgroup: Some(8), storage_buffers: 16, ..Capabilities::default() };
    let [x, scale, bias] =
        [(&[37, 260][..], 1), (&[260], 2), (&[260], 3)].map(|(shape, seed)| input(shape, seed).variable());
    let names = |x: &Tensor, wrt: &[&Tensor]| {
        let loss = x.layer_norm(1, Some(&scale), Some(&bias), 1e-5).square().sum_all();
        let gradients = loss.gradients(wrt).unwrap();
        let plan = Device::cpu().plan_for(&gradients.iter().collect::<Vec<_>>(), &capabilities, true).expect("a plan");
        plan.dispatches.into_iter().map(|dispatch| dispatch.name()).collect::<Vec<_>>().join(" ")
    };
    let [all, weights] = [names(&x, &[&scale, &x, &bias]), names(&input(&[37, 260], 4), &[&scale, &bias])];
    assert!(all.contains("layer_norm_backward.block") && !all.contains("weight_grad"), "{all}");
    // What formed the moments for the weights' own kernel is not needed either.
    assert!(!all.contains("statistics"), "{all}");
    assert!(!weights.contains("backward.block") && weights.contains("weight_grad"), "{weights}");
}

#[test]
fn small_independent_kernels_run_in_one_dispatch() {
    let (x, y) = (input(&[7, 5], 1), input(&[41], 2));
    let (a, b, c) = (x.sum_all(), y.max_all(), x.mean(&[0]));
    let kept = a.exp();
    // The product needs all three.
    let after = (&a * &b) * &c;
    assert_eq!(dispatches(&[&a, &b, &c, &kept, &after]), 2);
    let gpu = common::gpu();
    let (x, y) = (gpu.array(&common::normals(&[7, 5], 1)), gpu.array(&common::normals(&[41], 2)));
    let (a, b, c) = (x.sum_all(), y.max_all(), x.mean(&[0]));
    let got = ((&a * &b) * &c).to_array().unwrap();
    for (g, w) in got.data.iter().zip(&after.to_array().unwrap().data) {
        assert!((g - w).abs() < 1e-5 * w.abs().max(1.0), "{g} instead of {w}");
    }
}

#[test]
fn scratch_that_is_outgrown_is_given_back() {
    let bytes = |rows: &[usize]| {
        let device = common::backend("vulkan");
        for &rows in rows {
            let x = device.array(&common::normals(&[rows, 64], 1));
            let y = x.matmul(&x.transpose(0, 1)).softmax(1).matmul(&x).softmax(1);
            y.sum_all().item().unwrap();
        }
        device.memory().1
    };
    // 500 x 500 numbers are two megabytes with their softmax.
    assert!(bytes(&[500, 1000]) < bytes(&[1000]) + 500_000);
}

#[test]
fn a_kernel_s_name_says_how_many_ops_are_fused_into_it() {
    let (x, y) = (input(&[37, 13], 1), input(&[13, 11], 2));
    let name = |tensor: &Tensor| {
        let plan = Device::cpu().plan_for(&[tensor], &Capabilities::default(), true).unwrap();
        plan.dispatches.last().map(|dispatch| dispatch.name().clone()).unwrap()
    };
    assert_eq!(name(&x.matmul(&y)), "matmul.registers");
    assert_eq!(name(&((x.matmul(&y) + 1.0).relu() * 2.0)), "matmul.registers +3");
    let reduced = (x.exp() * 2.0).sum_keep(&[1]).tanh();
    assert_eq!(name(&reduced), "sum +3");
}

/// The epilogue's own name for its place is that of a gather's index, which this one reads too.
#[test]
fn a_merged_gather_may_be_combined_with_its_index() {
    for device in [Device::cpu(), common::gpu()] {
        let (x, index) = (device.tensor(&[3u32, 5, 8, 13], &[4]), device.tensor(&[2u32, 0, 1], &[3]));
        let (picked, other) = (x.gather(0, &index) + &index, &x * &x);
        let merged = device.plan_for(&[&picked, &other], &Capabilities::default(), true).unwrap();
        assert_eq!(merged.dispatches.len(), 1, "{merged}");
        device.eval(&[&picked, &other]).unwrap();
        assert_eq!(picked.to_vec::<u32>().unwrap(), [10, 3, 6]);
        assert_eq!(other.to_vec::<u32>().unwrap(), [9, 25, 64, 169]);
    }
}

#[test]
fn the_gradient_of_slices_in_a_loop_takes_no_more_memory_than_that_of_a_split() {
    let steps = 64;
    let scratch = |pieces: fn(&Tensor) -> Vec<Tensor>| {
        let x = input(&[16, steps, 33], 1).variable();
        let weight = input(&[33], 2);
        let last = pieces(&x).iter().fold(weight.clone(), |state, piece| (piece + &state * &weight).tanh());
        let gradient = last.square().sum_all().gradients(&[&x]).expect("a gradient");
        let plan = Device::cpu().plan_for(&[&gradient[0]], &Capabilities::default(), true).expect("a plan");
        plan.scratch.iter().sum::<u64>()
    };
    let sliced = scratch(|x| (0..64).map(|t| x.slice(1, t, 1)).collect());
    let split = scratch(|x| x.split(1, &[1; 64]));
    assert!(sliced <= split + split / 4, "{sliced} bytes for slices, {split} for a split");
}
