//! Writes the shader texts that a large GPU gets for the kernels that training spends its time in, a file each, for
//! `make kernel-stats` to show to a GPU's compiler. Needs no driver: nothing runs.
//!
//! `cargo bench --profile checks --bench kernel_texts -- FOLDER`; a word behind it: the workloads whose name has it.
//! `--variant NAME` takes that variant wherever an op lists it.

use std::collections::HashSet;
use std::path::PathBuf;

use kiln::kernel::Capabilities;
use kiln::ops::attention::{AttentionForm, AttentionOptions};
use kiln::ops::conv2d::Conv2dOptions;
use kiln::optim::{AdafactorConfig, LambConfig, LarsConfig, Rule, Stepper};
use kiln::plan::{Choices, Plan, Target};
use kiln::prelude::*;
use kiln::{Array, Shape};

/// A workload: its name, the kernels that are wanted of it (all whose names begin so), and its plan.
type Workload = (String, &'static [&'static str], Box<dyn Fn(&Device, &Target) -> Result<Plan>>);

/// A stored tensor; values do not matter, for nothing runs.
fn stored(device: &Device, shape: &[usize]) -> Tensor {
    device.tensor(&vec![0.5f32; shape.iter().product()], shape)
}

fn half(device: &Device, shape: &[usize]) -> Tensor {
    let shape = Shape::new(shape).expect("a shape");
    device.array(&Array { shape, dtype: DType::F16, data: vec![0.5; shape.elements()] })
}

/// What a function of stored tensors and its gradients take, unfused, so that a kernel is seen as it is.
fn passes(device: &Device, target: &Target, shapes: &[&[usize]], build: impl Fn(&[Tensor]) -> Tensor) -> Result<Plan> {
    let inputs: Vec<Tensor> = shapes.iter().map(|shape| stored(device, shape).variable()).collect();
    let result = build(&inputs);
    let slope = stored(device, result.shape()?);
    let wrt: Vec<&Tensor> = inputs.iter().collect();
    let gradients = (&result * slope).sum_all().gradients(&wrt)?;
    let roots: Vec<&Tensor> = std::iter::once(&result).chain(&gradients).collect();
    device.plan_with(&roots, target, false)
}

fn product(name: &str, left: &[usize], right: &[usize], is_half: bool) -> Workload {
    let (left, right) = (left.to_vec(), right.to_vec());
    let plan = move |device: &Device, target: &Target| {
        let make = if is_half { half } else { stored };
        device.plan_with(&[&make(device, &left).matmul(&make(device, &right))], target, false)
    };
    (format!("matmul_{name}"), &["matmul"], Box::new(plan))
}

/// The three passes of a convolution of square images.
fn convolution(channels: [usize; 2], size: usize, kernel: usize, stride: usize) -> Workload {
    let [from, to] = channels;
    let name = match stride {
        1 => format!("conv_{kernel}x{kernel}_{from}_{to}"),
        _ => format!("conv_{kernel}x{kernel}_{from}_{to}_stride{stride}"),
    };
    let plan = move |device: &Device, target: &Target| {
        let options = Conv2dOptions { stride: [stride; 2], padding: [kernel / 2; 2], ..Default::default() };
        passes(device, target, &[&[16, from, size, size], &[to, from, kernel, kernel]], |x| {
            x[0].conv2d(&x[1], &options)
        })
    };
    (name, &["conv2d"], Box::new(plan))
}

fn of_ops(
    name: &str,
    kernels: &'static [&'static str],
    shapes: &'static [&'static [usize]],
    build: fn(&[Tensor]) -> Tensor,
) -> Workload {
    (name.to_string(), kernels, Box::new(move |device, target| passes(device, target, shapes, build)))
}

/// The update of 20 parameters of 300 x 700 by a rule as it is by default.
fn update<R: Rule + Default>(name: &str, kernels: &'static [&'static str]) -> Workload {
    let plan = |device: &Device, target: &Target| {
        let params = ParamStore::new(device, 1);
        let all = (0..20).map(|i| params.root().param(format!("p{i}"), &[300, 700], Init::Ones));
        let loss = all.map(|param| param.tensor().square().sum_all()).reduce(|a, b| a + b).expect("parameters");
        Stepper::new(&params, R::default()).plan_with(&loss, true, target, true)
    };
    (name.into(), kernels, Box::new(plan))
}

fn workloads() -> Vec<Workload> {
    let mut all = vec![
        product("4096", &[4096, 4096], &[4096, 4096], false),
        product("4095", &[4095, 4095], &[4095, 4095], false),
        product("1024", &[1024, 1024], &[1024, 1024], false),
        product("batched", &[64, 256, 64], &[64, 64, 256], false),
        product("64_784_128", &[64, 784], &[784, 128], false),
        product("thin", &[4, 4096], &[4096, 4096], false),
        product("vector", &[1, 4096], &[4096, 4096], false),
        product("4096_half", &[4096, 4096], &[4096, 4096], true),
    ];
    for channels in [64, 128, 256] {
        all.push(convolution([channels; 2], 3584 / channels, 3, 1));
    }
    all.push(convolution([256; 2], 14, 1, 1));
    all.push(convolution([16, 32], 32, 3, 1));
    all.push(convolution([3, 64], 224, 7, 2));
    all.extend([
        of_ops("max_pool_3x3_stride2", &["max_pool2d"], &[&[16, 64, 112, 112]], |x| {
            x[0].max_pool2d([3, 3], [2, 2], [1, 1])
        }),
        of_ops("max_pool_2x2", &["max_pool2d"], &[&[16, 64, 112, 112]], |x| x[0].max_pool2d([2, 2], [2, 2], [0, 0])),
        of_ops("softmax_1024", &["softmax"], &[&[4096, 1024]], |x| x[0].softmax(1)),
        of_ops("cross_entropy_1024", &["cross_entropy"], &[&[4096, 1024]], |x| {
            let labels = x[0].device().labels(&[3; 4096]);
            x[0].cross_entropy_rows(&labels)
        }),
        of_ops("layer_norm_768", &["layer_norm"], &[&[4096, 768], &[768], &[768]], |x| {
            x[0].layer_norm(1, Some(&x[1]), Some(&x[2]), 1e-5)
        }),
        of_ops("batch_norm_64", &["batch_norm"], &[&[16, 64, 56, 56], &[64], &[64]], |x| {
            x[0].batch_norm(Some(&x[1]), Some(&x[2]), 1e-5)
        }),
        of_ops("attention_1024", &["attention"], &[&[8, 8, 1024, 64], &[8, 8, 1024, 64], &[8, 8, 1024, 64]], |x| {
            let options = AttentionOptions { form: AttentionForm::Blocks, ..Default::default() };
            x[0].scaled_dot_product_attention(&x[1], &x[2], &options)
        }),
        of_ops("sums_of_rows", &["sum"], &[&[4096, 1024]], |x| x[0].sum(1)),
        update::<AdamWConfig>("adamw", &["adamw"]),
        update::<LambConfig>("lamb", &["lamb", "measure"]),
        update::<LarsConfig>("lars", &["lars", "measure"]),
        update::<AdafactorConfig>("adafactor", &["adafactor", "factors", "measure"]),
    ]);
    all
}

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench").peekable();
    let (mut forced, mut plain) = (vec![], vec![]);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--variant" => {
                let name = words.next().unwrap_or_default();
                let known = kiln::ops::all_variants().into_iter().find(|known| *known == name);
                forced.push(known.unwrap_or_else(|| panic!("no op lists a variant {name:?}")));
            }
            _ => plain.push(word),
        }
    }
    let folder = PathBuf::from(plain.first().map_or("target/kernel-texts", String::as_str));
    let wanted = plain.get(1).cloned().unwrap_or_default();
    std::fs::create_dir_all(&folder).expect("a folder");
    // What a large GPU reports; subgroups of 32 are NVIDIA's, and the smallest of AMD's RDNA.
    let capabilities = Capabilities { f16: true, subgroup: Some(32), storage_buffers: 16, ..Capabilities::default() };
    let target = Target { capabilities, choices: Choices { forced, ..Choices::default() } };
    let device = Device::cpu();
    for (name, kernels, plan) in workloads().into_iter().filter(|(name, ..)| name.contains(&wanted)) {
        let mut seen = HashSet::new();
        for dispatch in plan(&device, &target)?.dispatches {
            let kernel = dispatch.name();
            if kernels.iter().any(|own| kernel.starts_with(own)) && seen.insert(dispatch.source().clone()) {
                let plain = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' };
                let kernel: String = kernel.chars().map(plain).collect();
                let path = folder.join(format!("{name}__{kernel}.wgsl"));
                std::fs::write(&path, &**dispatch.source()).expect("the folder");
                println!("{} ({} workgroups)", path.display(), dispatch.grid[0] * dispatch.grid[1]);
            }
        }
    }
    Ok(())
}
