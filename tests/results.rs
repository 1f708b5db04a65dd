//! Ops of several results: of different dtypes, read together or alone, held, dropped, recomputed and differentiated through.

mod common;

use kiln::kernel::{Binding, Capabilities, Kernel};
use kiln::ops::{Backward, Case, Draw, Lowering, Meta, Op, Problem, Tolerance};
use kiln::prelude::*;
use kiln::{Array, Shape, recompute};

/// exp(x) and exp(-x): two floats, whose gradients read both results. The kernel hands over what it computes.
#[derive(Debug)]
struct BothExps;

/// The integer below x, i32, and the rest: the kernel stores both itself.
#[derive(Debug)]
struct Split;

const HEAD: &str = "
struct Params { count: u32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(15) var<uniform> p: Params;
";

const MAIN: &str = "
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let i = (group.x + group.y * groups.x) * 64u + lane;
    if i >= p.count { return; }
";

fn kernel(name: &'static str, globals: &str, body: &str, output: &Meta) -> Kernel {
    let mut kernel = Kernel::new(name, format!("{HEAD}{globals}{MAIN}{body}}}\n"));
    kernel.bindings = vec![Binding::input(0)];
    kernel.params = vec![output.elements() as u32, 0, 0, 0];
    kernel.workgroups = (output.elements() as u64).div_ceil(64);
    kernel
}

fn float(inputs: &[Meta]) -> Result<Meta, Problem> {
    match inputs[0].dtype {
        DType::F32 => Ok(inputs[0]),
        other => Err(Problem::DType(format!("it takes f32, not {other}"))),
    }
}

fn map(input: &Array, dtype: DType, f: impl Fn(f64) -> f64 + Sync) -> Array {
    Array::build(input.shape, dtype, |i| f(input.data[i]))
}

impl Op for BothExps {
    fn name(&self) -> &'static str {
        "both_exps"
    }

    fn attributes(&self, _: &mut Vec<u64>) {}

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        Ok(vec![float(inputs)?; 2])
    }

    fn gradient(&self, Backward { outputs, grads, .. }: &Backward<'_>) -> Vec<Option<Tensor>> {
        let up = grads[0].as_ref().map(|grad| grad * &outputs[0]);
        let down = grads[1].as_ref().map(|grad| -(grad * &outputs[1]));
        vec![up.into_iter().chain(down).reduce(|a, b| a + b)]
    }

    fn reference(&self, inputs: &[&Array], _: &Meta) -> Vec<Array> {
        vec![map(inputs[0], DType::F32, f64::exp), map(inputs[0], DType::F32, |x| (-x).exp())]
    }

    fn lowering(&self, _: &[Meta], output: &Meta, _: &Capabilities) -> Lowering {
        let mut kernel = kernel("both_exps", "", "    result_0(exp(x[i]), i);\n    result_1(exp(-x[i]), i);\n", output);
        kernel.results = vec![0, 1];
        Lowering::kernel(kernel)
    }

    fn cases() -> Vec<Case> {
        let bound = Tolerance::Pointwise { absolute: 4e-6, relative: 4e-6 };
        let plain = Case::new("plain", |x| Tensor::apply(BothExps, &[&x[0]])).normal(&[37, 5]);
        let behind = Case::new("behind", |x| {
            let [up, down] = Tensor::apply_many(BothExps, &[&(&x[0] * 0.5)]);
            up.square() * (down + 1.0).log()
        });
        [plain, behind.normal(&[131, 12])].map(|case| case.tolerance(bound)).into()
    }
}

impl Op for Split {
    fn name(&self) -> &'static str {
        "split"
    }

    fn attributes(&self, _: &mut Vec<u64>) {}

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let rest = float(inputs)?;
        Ok(vec![Meta { dtype: DType::I32, ..rest }, rest])
    }

    fn gradient(&self, Backward { grads, .. }: &Backward<'_>) -> Vec<Option<Tensor>> {
        assert!(grads[0].is_none(), "no gradient flows through integers");
        vec![grads[1].clone()]
    }

    fn reference(&self, inputs: &[&Array], _: &Meta) -> Vec<Array> {
        vec![map(inputs[0], DType::I32, f64::floor), map(inputs[0], DType::F32, |x| x - x.floor())]
    }

    fn lowering(&self, _: &[Meta], output: &Meta, _: &Capabilities) -> Lowering {
        let globals = "@group(0) @binding(1) var<storage, read_write> whole: array<i32>;\n\
                       @group(0) @binding(2) var<storage, read_write> rest: array<f32>;\n";
        let body = "    whole[i] = i32(floor(x[i]));\n    rest[i] = x[i] - floor(x[i]);\n";
        let mut kernel = kernel("split", globals, body, output);
        kernel.bindings.extend([Binding::result(0), Binding::result(1)]);
        Lowering::kernel(kernel)
    }

    fn cases() -> Vec<Case> {
        let case = |name: &str, build: fn(&[Tensor]) -> Tensor| {
            Case::new(name, build).input(&[37, 5], DType::F32, Draw::Distinct)
        };
        vec![
            case("plain", |x| Tensor::apply(Split, &[&x[0]])),
            case("whole_alone", |x| Tensor::apply(Split, &[&x[0]]).results()[0].cast(DType::F32) * &x[0]),
            case("rest_alone", |x| Tensor::apply(Split, &[&x[0]]).results()[1].square()),
        ]
    }
}

fn devices() -> [Device; 3] {
    let unfused = Device::named("vulkan").expect("a Vulkan driver");
    unfused.set_fusion(false);
    [Device::cpu(), common::gpu(), unfused]
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_array().unwrap().data
}

fn close(got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() <= 1e-5 * (1.0 + want.abs()), "{got} instead of {want}");
    }
}

#[test]
fn ops_of_users_with_two_results_agree_with_their_references_fused_and_not() {
    let [_, fused, unfused] = devices();
    for case in BothExps::cases().into_iter().chain(Split::cases()) {
        for device in [&fused, &unfused] {
            common::parity(device, &case).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        }
    }
}

#[test]
fn pooling_gives_the_first_of_equal_elements_and_the_last_nan_as_pytorch_does() {
    let nan = f32::NAN;
    for device in devices() {
        let x = device.tensor(&[1.0, 1.0, nan, 0.0, 1.0, 0.5, nan, 7.0], &[1, 1, 2, 4]);
        let (values, indices) = x.max_pool2d_with_indices([2, 2], [2, 2], [0, 0]);
        assert_eq!(indices.dtype().unwrap(), DType::U32);
        assert_eq!(indices.to_vec::<u32>().unwrap(), [0, 6]);
        let values = values.to_vec::<f32>().unwrap();
        assert!(values[0] == 1.0 && values[1].is_nan(), "{values:?}");
    }
}

#[test]
fn an_index_picks_its_value_out_of_the_plane() {
    for device in devices() {
        let x = device.array(&common::normals(&[2, 3, 11, 13], 1));
        let (values, indices) = x.max_pool2d_with_indices([3, 3], [2, 2], [1, 1]);
        let picked = x.reshape(&[2, 3, 143]).gather(2, &indices.reshape(&[2, 3, 42]));
        assert_eq!(picked.reshape(&[2, 3, 6, 7]).to_vec::<f32>().unwrap(), values.to_vec::<f32>().unwrap());
    }
}

#[test]
fn what_nobody_reads_is_not_stored() {
    let device = Device::cpu();
    let x = device.array(&common::normals(&[2, 3, 8, 8], 1));
    let writes = |roots: &[&Tensor]| -> usize {
        let plan = device.plan_for(roots, &Capabilities::default(), true).unwrap();
        assert_eq!(plan.dispatches.len(), 1, "{plan}");
        plan.dispatches[0].bindings.iter().filter(|binding| binding.2).count()
    };
    let pool = || x.max_pool2d_with_indices([2, 2], [2, 2], [0, 0]);
    // What a user holds is computed, so the other one must be dropped first.
    let (values, _) = pool();
    assert_eq!(writes(&[&values]), 1);
    let (_, indices) = pool();
    assert_eq!(writes(&[&indices]), 1);
    assert_eq!(writes(&[&x.max_pool2d([2, 2], [2, 2], [0, 0])]), 1);
    let (values, indices) = pool();
    assert_eq!(writes(&[&values, &indices]), 2);
    // Each result has what follows it in the same kernel.
    let next = {
        let (values, indices) = pool();
        [values.relu() + 1.0, indices + 1.0]
    };
    assert_eq!(writes(&next.each_ref()), 2);
}

#[test]
fn one_run_computes_all_results_that_are_held() {
    for device in [Device::named("vulkan").unwrap(), Device::cpu()] {
        let x = device.array(&common::normals(&[37], 1));
        let [up, down] = Tensor::apply_many(BothExps, &[&x]);
        let first = values(&up);
        let runs = device.statistics().runs;
        let second = values(&down);
        assert_eq!(device.statistics().runs, runs, "the second was there already");
        let products: Vec<f64> = first.iter().zip(&second).map(|(a, b)| a * b).collect();
        close(&products, &[1.0; 37]);
    }
}

#[test]
fn the_second_result_outlives_the_first() {
    for device in devices() {
        let x = device.array(&common::normals(&[37], 1)).variable();
        let want: Vec<f64> = values(&x).iter().map(|x| (-x).exp()).collect();
        let down = {
            let [_, down] = Tensor::apply_many(BothExps, &[&x]);
            down
        };
        close(&values(&down), &want);
        // Its gradient reads the first one, which is computed again.
        let [gradient] = &down.sum_all().gradients(&[&x]).unwrap()[..] else { panic!() };
        let want: Vec<f64> = want.iter().map(|y| -y).collect();
        close(&values(gradient), &want);
    }
}

#[test]
fn gradients_flow_through_both_results_one_or_none() {
    for device in devices() {
        let x = device.array(&common::normals(&[37], 1)).variable();
        let exps = |sign: f64| -> Vec<f64> { values(&x).iter().map(|x| (sign * x).exp()).collect() };
        let gradient = |loss: &dyn Fn([Tensor; 2]) -> Tensor| -> Vec<f64> {
            let loss = loss(Tensor::apply_many(BothExps, &[&x]));
            values(&loss.gradients(&[&x]).unwrap()[0])
        };
        let (up, down) = (exps(1.0), exps(-1.0));
        close(&gradient(&|[a, _]| a.sum_all()), &up);
        close(&gradient(&|[_, b]| (b * 2.0).sum_all()), &down.iter().map(|y| -2.0 * y).collect::<Vec<_>>());
        let both: Vec<f64> = up.iter().zip(&down).map(|(a, b)| a - b).collect();
        close(&gradient(&|[a, b]| (a + b).sum_all()), &both);
        // d/dx (a b) = 0.
        close(&gradient(&|[a, b]| (a * b).sum_all()), &[0.0; 37]);
        close(&gradient(&|[_, _]| x.sum_all()), &[1.0; 37]);
        let [whole, _] = Tensor::apply_many(Split, &[&x]);
        assert!(!whole.requires_grad());
        let loss = (whole.cast(DType::F32) * &x).sum_all();
        let floors: Vec<f64> = values(&x).iter().map(|x| x.floor()).collect();
        close(&values(&loss.gradients(&[&x]).unwrap()[0]), &floors);
        // A result is a target like any other tensor, and gradients of gradients pass.
        let [up, down] = Tensor::apply_many(BothExps, &[&x]);
        let loss = (&up * &down.square()).sum_all();
        let first = loss.gradients(&[&x, &up, &down]).unwrap();
        close(&values(&first[1]), &values(&down.square()));
        close(&values(&first[2]), &values(&(&up * &down * 2.0)));
        let second = first[0].sum_all().gradients(&[&x]).unwrap();
        close(&values(&second[0]), &exps(-1.0));
    }
}

/// Two parameters, and a loss that reads both results of ops on the first and one of an op on the second.
struct Model {
    params: ParamStore,
    a: Param,
    b: Param,
}

impl Model {
    fn new(device: &Device) -> Model {
        let params = ParamStore::new(device, 7);
        let init = Init::Normal { mean: 0.0, deviation: 0.5 };
        let [a, b] = ["a", "b"].map(|name| params.root().param(name, &[1, 3, 8, 6], init));
        Model { params, a, b }
    }

    fn outputs(&self) -> [Tensor; 4] {
        let [up, down] = Tensor::apply_many(BothExps, &[&self.a.tensor()]);
        let (values, indices) = self.b.tensor().max_pool2d_with_indices([2, 2], [2, 2], [0, 0]);
        [up, down, values, indices]
    }

    fn loss([up, down, values, _]: &[Tensor; 4]) -> Tensor {
        (up.square() + down).mean_all() + values.sum_all() * 0.1
    }
}

#[test]
fn results_that_are_held_over_an_update_keep_their_values() {
    let mut all = vec![];
    for device in devices() {
        let model = Model::new(&device);
        let mut sgd = Sgd::new(&model.params, SgdConfig { lr: 0.1, momentum: 0.9, ..Default::default() });
        let mut seen = vec![];
        for _ in 0..3 {
            let held = model.outputs();
            let alone = Tensor::apply_many::<2>(BothExps, &[&model.b.tensor()])[1].clone();
            let want: Vec<f64> = values(&model.b.tensor()).iter().map(|x| (-x).exp()).collect();
            sgd.step(&Model::loss(&held)).unwrap();
            close(&values(&alone), &want);
            seen.extend(held.iter().map(values));
        }
        seen.push(values(&model.a.tensor()));
        seen.push(values(&model.b.tensor()));
        all.push(seen);
    }
    for other in &all[1..] {
        other.iter().zip(&all[0]).for_each(|(got, want)| close(got, want));
    }
}

#[test]
fn a_gradient_through_a_result_of_parameters_that_have_changed_is_an_error() {
    for device in devices() {
        let model = Model::new(&device);
        let mut sgd = Sgd::new(&model.params, SgdConfig { lr: 0.1, ..Default::default() });
        let held = model.outputs();
        let loss = Model::loss(&held);
        sgd.step(&loss).unwrap();
        assert!(matches!(sgd.step(&(&held[1] * 2.0).sum_all()), Err(Error::History { .. })));
        // Its value goes on.
        values(&held[1]);
        sgd.step(&(held[1].detach() * model.a.tensor()).sum_all()).unwrap();
    }
}

#[test]
fn a_refused_step_leaves_results_and_parameters_alone() {
    for device in devices() {
        let model = Model::new(&device);
        let mut sgd = Sgd::new(&model.params, SgdConfig { lr: 0.1, momentum: 0.9, ..Default::default() });
        let before = [values(&model.a.tensor()), values(&model.b.tensor())];
        let held = model.outputs();
        let nan = device.tensor(&[f32::NAN], &[1]).sum_all();
        let refused = sgd.step(&(Model::loss(&held) * nan)).and_then(|()| device.synchronize());
        assert!(matches!(refused, Err(Error::NonFinite { .. })), "{refused:?}");
        close(&values(&held[1]), &before[0].iter().map(|x| (-x).exp()).collect::<Vec<_>>());
        values(&held[3]);
        close(&values(&model.a.tensor()), &before[0]);
        close(&values(&model.b.tensor()), &before[1]);
        sgd.step(&Model::loss(&model.outputs())).unwrap();
        device.synchronize().unwrap();
        assert_ne!(values(&model.a.tensor()), before[0]);
    }
}

#[test]
fn a_step_that_was_seen_needs_no_plan() {
    let device = Device::named("vulkan").unwrap();
    let model = Model::new(&device);
    let mut sgd = Sgd::new(&model.params, SgdConfig { lr: 0.1, ..Default::default() });
    let mut plans = vec![];
    for _ in 0..4 {
        sgd.step(&Model::loss(&model.outputs())).unwrap();
        plans.push(device.statistics().plans_made);
    }
    assert_eq!(plans, [1; 4]);
    // Which result is read is part of the structure.
    let x = device.array(&common::normals(&[37], 1));
    let [up, down] = Tensor::apply_many(BothExps, &[&x]);
    let (first, second) = (values(&(up * 2.0)), values(&(down * 2.0)));
    assert!(first.iter().zip(&second).all(|(a, b)| (a * b - 4.0).abs() < 1e-4));
}

#[test]
fn results_of_a_recomputed_region_have_the_same_gradients() {
    for device in devices() {
        let x = device.array(&common::normals(&[1, 3, 8, 6], 1)).variable();
        let gradients = |mark: bool| -> Vec<Vec<f64>> {
            let body = || {
                let [up, down] = Tensor::apply_many(BothExps, &[&x.tanh()]);
                let (values, indices) = (&up * &down.square()).max_pool2d_with_indices([2, 2], [2, 2], [0, 0]);
                (values.exp() * indices.cast(DType::F32), down)
            };
            let (y, down) = if mark { recompute(body) } else { body() };
            // The second result is used outside its region; the first is not.
            let loss = y.sum_all() + down.square().sum_all();
            vec![values(&loss.gradients(&[&x]).unwrap()[0]), values(&loss)]
        };
        for (marked, plain) in gradients(true).iter().zip(&gradients(false)) {
            close(marked, plain);
        }
    }
}

#[test]
fn errors_travel_in_all_results() {
    let device = Device::cpu();
    let wrong = device.zeros(&[3]).cast(DType::I32);
    for result in Tensor::apply_many::<2>(BothExps, &[&wrong]) {
        assert!(matches!(result.error(), Some(Error::DType { op: "both_exps", .. })), "{result:?}");
        assert!(matches!((result + 1.0).error(), Some(Error::DType { op: "both_exps", .. })));
    }
    for result in Tensor::apply_many::<3>(BothExps, &[&device.zeros(&[3])]) {
        assert!(matches!(result.error(), Some(Error::Value { op: "both_exps", .. })), "{result:?}");
    }
    let (values, indices) = device.zeros(&[3, 3]).max_pool2d_with_indices([2, 2], [2, 2], [0, 0]);
    assert!(values.error().is_some() && indices.error().is_some());
}

#[test]
fn mixed_precision_widens_the_inputs_of_an_op_of_two_results() {
    for device in devices() {
        let model = Model::new(&device);
        model.params.set_precision(Precision::Mixed);
        let half = (model.a.tensor() * 2.0).cast(DType::F16);
        let results = Tensor::apply_many::<2>(BothExps, &[&half]);
        assert!(results.iter().all(|result| result.dtype().unwrap() == DType::F32));
        let (values, indices) = half.max_pool2d_with_indices([2, 2], [2, 2], [0, 0]);
        assert_eq!([values.dtype().unwrap(), indices.dtype().unwrap()], [DType::F16, DType::U32]);
        let loss = (&results[0] * &results[1].square()).mean_all() + values.cast(DType::F32).sum_all();
        let gradient = loss.gradients(&[&model.a.tensor()]).unwrap();
        assert!(self::values(&gradient[0]).iter().all(|value| value.is_finite()));
    }
}

#[test]
fn a_result_keeps_its_shape_and_dtype_on_a_device_without_f16() {
    let shape = Shape::new(&[2, 3, 4, 4]).unwrap();
    let device = Device::cpu();
    let x = device.zeros(&shape).cast(DType::F16);
    let (values, indices) = x.max_pool2d_with_indices([2, 2], [2, 2], [0, 0]);
    for f16 in [true, false] {
        let capabilities = Capabilities { f16, ..Capabilities::default() };
        device.plan_for(&[&values, &indices], &capabilities, true).unwrap();
    }
    assert_eq!(values.shape().unwrap(), [2, 3, 2, 2]);
}
