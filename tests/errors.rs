//! Bad input: each gives an error that says what, where and what to do, and nothing panics.

mod common;

use kiln::Array;
use kiln::kernel::Capabilities;
use kiln::ops::{Backward, Case, Lowering, Meta, Op, Problem, ViewKind};
use kiln::prelude::*;

fn x(shape: &[usize]) -> Tensor {
    Device::cpu().array(&common::normals(shape, 1))
}

/// The error's text, which must name this file where it comes from an op.
fn text(tensor: &Tensor) -> String {
    let error = tensor.to_array().expect_err("an invalid op");
    let text = error.to_string();
    assert!(text.contains("errors.rs"), "no source line in: {text}");
    text
}

#[test]
fn shapes_that_do_not_match_name_both() {
    let text = text(&(&x(&[3, 4]) + x(&[5])));
    assert!(text.contains("[3, 4]") && text.contains("[5]") && text.contains("add"), "{text}");
}

#[test]
fn an_error_travels_through_later_ops_to_the_read() {
    let bad = &x(&[3]) + x(&[4]);
    let later = (bad.exp() * 2.0).sum_all().reshape(&[1]).flatten(0);
    assert!(matches!(later.to_vec::<f32>(), Err(Error::Shape { op: "add", .. })));
    assert!(matches!(later.item(), Err(Error::Shape { op: "add", .. })));
    assert!(matches!(later.shape(), Err(Error::Shape { op: "add", .. })));
    assert!(matches!(later.gradients(&[&x(&[3])]), Err(Error::Shape { op: "add", .. })));
}

#[test]
fn an_axis_out_of_range_names_the_rank() {
    for bad in [x(&[3, 4]).sum(&[2]), x(&[3, 4]).argmax(5), x(&[3]).transpose(0, 1), x(&[3]).slice(1, 0, 1)] {
        let text = text(&bad);
        assert!(text.contains("axis") && text.contains("rank"), "{text}");
    }
}

#[test]
fn an_axis_beyond_the_back_is_named_as_it_was_passed() {
    let y = x(&[3, 4]);
    let pieces = y.split(-3, &[3]);
    for bad in [
        y.sum(-3),
        y.sum(&[0, -3]),
        y.var(-3, 1),
        y.argmax(-3),
        y.softmax(-3),
        y.cumsum(-3),
        y.transpose(-3, 0),
        y.permute(&[-3, 0]),
        y.slice(-3, 0, 1),
        y.squeeze(-3),
        y.flatten(-3),
        y.index_select(-3, &Device::cpu().tensor(&[0u32], &[1])),
        Tensor::concat(&[&y, &y], -3),
        pieces[0].clone(),
    ] {
        assert!(text(&bad).contains("axis -3 is out of range for rank 2"), "{}", text(&bad));
    }
    assert!(text(&y.unsqueeze(-4)).contains("axis -4 is out of range for rank 3"));
    assert!(text(&Tensor::stack(&[&y, &y], -4)).contains("axis -4 is out of range for rank 3"));
    assert!(text(&y.sum(i64::MAX)).contains("out of range") && text(&y.sum(isize::MIN)).contains("out of range"));
}

#[test]
fn mixed_dtypes_are_refused_and_name_the_cast() {
    let bad = x(&[3]) + Device::cpu().tensor(&[1i32, 2, 3], &[3]);
    let text = text(&bad);
    assert!(text.contains("f32") && text.contains("i32") && text.contains("cast"), "{text}");
}

#[test]
fn tensors_of_two_devices_are_refused() {
    let gpu = common::gpu();
    let bad = x(&[3]) + gpu.zeros(&[3]);
    let text = text(&bad);
    assert!(text.contains("cpu") && text.contains(gpu.name()), "{text}");
}

#[test]
fn empty_batches_are_refused() {
    let empty = Device::cpu().tensor::<f32>(&[], &[0, 3]);
    assert!(text(&empty).contains("no elements"));
    assert!(text(&x(&[4]).slice(0, 1, 0)).contains("none"));
}

#[test]
fn data_that_do_not_fill_a_shape_are_refused() {
    assert!(text(&Device::cpu().tensor(&[1.0f32, 2.0], &[3])).contains("do not fill"));
}

#[test]
fn an_absurd_shape_is_refused_without_allocating() {
    assert!(text(&Device::cpu().zeros(&[usize::MAX, 2])).contains("more than"));
    assert!(text(&x(&[3]).expand(&[1 << 40, 3])).contains("too large"));
    assert!(text(&x(&[3]).reshape(&[1; 9])).contains("too large"));
}

#[test]
fn a_read_of_another_dtype_or_size_is_refused() {
    let error = x(&[3]).to_vec::<i32>().unwrap_err().to_string();
    assert!(error.contains("errors.rs") && error.contains("i32"), "{error}");
    let error = x(&[3]).item().unwrap_err().to_string();
    assert!(error.contains("[3]"), "{error}");
}

#[test]
fn what_needs_a_sign_is_refused_for_numbers_without() {
    let number = Device::cpu().tensor(&[3u32], &[1]);
    for result in [number.negative(), number.sign(), number.relu()] {
        assert!(matches!(result.error(), Some(Error::DType { what, .. }) if what.contains("u32")), "{result:?}");
    }
}

/// Its gradient rule looks at a value, which no rule may.
#[derive(Debug)]
struct Peeking;

impl Op for Peeking {
    fn name(&self) -> &'static str {
        "peeking"
    }
    fn attributes(&self, _: &mut Vec<u64>) {}
    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        Ok(vec![inputs[0]])
    }
    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let error = backward.grad.to_vec::<f32>().unwrap_err();
        assert!(matches!(error, Error::Value { op: "read", .. }), "{error}");
        let error = backward.inputs[0].device().eval(&[backward.grad]).unwrap_err();
        assert!(error.to_string().contains("gradient rule"), "{error}");
        vec![Some(backward.grad.clone())]
    }
    fn reference(&self, inputs: &[&Array], _: &Meta) -> Vec<Array> {
        vec![inputs[0].clone()]
    }
    fn lowering(&self, _: &[Meta], _: &Meta, _: &Capabilities) -> Lowering {
        Lowering::View(ViewKind::Reshape)
    }
    fn cases() -> Vec<Case> {
        vec![]
    }
}

#[test]
fn a_gradient_rule_that_reads_gets_an_error_and_no_deadlock() {
    for device in [Device::cpu(), common::gpu()] {
        let params = ParamStore::new(&device, 1);
        let w = params.root().param("w", &[3], Init::Ones);
        let loss = Tensor::apply(Peeking, &[&w.tensor()]).sum_all();
        Sgd::new(&params, SgdConfig { lr: 0.5, ..Default::default() }).step(&loss).unwrap();
        assert_eq!(w.values().unwrap(), [0.5; 3]);
    }
}

#[test]
fn a_loss_that_is_no_scalar_has_no_gradient() {
    let v = x(&[3]).variable();
    let error = v.exp().gradients(&[&v]).unwrap_err().to_string();
    assert!(error.contains("one float") && error.contains("mean"), "{error}");
}

#[test]
fn a_dropout_probability_out_of_range_is_refused() {
    assert!(text(&x(&[3]).dropout(1.5, Device::cpu().draws())).contains("probability"));
}

#[test]
fn an_unknown_device_lists_the_known_ones() {
    let error = Device::named("no such adapter").unwrap_err().to_string();
    assert!(error.contains("no such adapter") && error.contains("cpu"), "{error}");
}

#[test]
fn a_tensor_beyond_the_adapter_s_binding_is_refused() {
    let gpu = common::gpu();
    // 4 GiB: more than any adapter of the lowest common set binds.
    let big = gpu.zeros(&[1 << 15, 1 << 15]) + gpu.ones(&[1 << 15, 1]);
    let refused = |error: Error| match &error {
        Error::Limit { limit, .. } => {
            let text = error.to_string();
            assert!(text.contains(&limit.to_string()) && text.contains("tensor of shape ["), "{text}");
        }
        other => panic!("{other}"),
    };
    refused(big.reshape(&[1 << 30]).to_vec::<f32>().unwrap_err());
    refused((gpu.ones(&[1 << 30]) * 2.0).to_vec::<f32>().unwrap_err());
    // The device still works.
    assert_eq!(gpu.ones(&[3]).to_vec::<f32>().unwrap(), [1.0; 3]);
}

#[test]
#[cfg(target_os = "linux")]
fn each_refusal_of_the_system_has_its_own_advice() {
    // Numbers of errno.h, and what the text must say.
    let causes = [
        (1, "own"),                     // EPERM
        (2, "nothing is there"),        // ENOENT
        (4, "try again"),               // EINTR
        (5, "the disk fails"),          // EIO
        (11, "another program"),        // EAGAIN
        (12, "memory"),                 // ENOMEM
        (13, "own"),                    // EACCES
        (16, "another program"),        // EBUSY
        (17, "has that name"),          // EEXIST
        (18, "on one file system"),     // EXDEV
        (20, "not a folder"),           // ENOTDIR
        (21, "name a file"),            // EISDIR
        (22, "cannot be the name"),     // EINVAL
        (23, "ulimit -n"),              // ENFILE
        (24, "ulimit -n"),              // EMFILE
        (27, "ulimit -f"),              // EFBIG
        (28, "make room on that disk"), // ENOSPC
        (30, "read-only"),              // EROFS
        (36, "cannot be the name"),     // ENAMETOOLONG
        (40, "in a circle"),            // ELOOP
        (110, "network"),               // ETIMEDOUT
        (116, "network"),               // ESTALE
        (122, "quota"),                 // EDQUOT
    ];
    let text = |action, number| {
        let source = std::io::Error::from_raw_os_error(number).into();
        Error::Io { path: "a/file".into(), action, source }.to_string()
    };
    for (number, advice) in causes {
        let text = text("read", number);
        assert!(text.starts_with("a/file: cannot read: ") && text.contains(advice), "{number}: {text}");
        assert_eq!(text.contains("check the path"), number == 2, "{text}");
    }
    assert!(text("write", 2).contains("make its folder"));
}

#[test]
#[cfg(target_os = "linux")]
fn a_refused_file_tells_its_cause_and_advice() {
    let folder = std::env::temp_dir().join(format!("kiln-errors-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("file"), "").unwrap();
    std::os::unix::fs::symlink("circle", folder.join("circle")).unwrap();
    let store = ParamStore::new(&Device::cpu(), 1);
    store.root().param("w", &[3], Init::Zeros);
    let profile = Device::cpu().profile().unwrap();
    let write = |name: &str| profile.write_trace(folder.join(name)).unwrap_err().to_string();
    let full = profile.write_trace("/dev/full").unwrap_err().to_string();
    for (text, cause) in [
        (full, "make room on that disk"),
        (write("."), "name a file"),
        (write("file/trace"), "not a folder"),
        (write("none/trace"), "make its folder"),
        (write("circle"), "in a circle"),
        (write(&"x".repeat(300)), "cannot be the name"),
        (store.load(folder.join("none")).unwrap_err().to_string(), "nothing is there"),
        (store.save(folder.join("none/w")).unwrap_err().to_string(), "make its folder"),
        (store.save(folder.join("file/w")).unwrap_err().to_string(), "not a folder"),
    ] {
        assert!(text.contains(cause), "{text}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_lost_device_returns_an_error_from_everything() {
    let gpu = Device::named("vulkan").expect("a Vulkan driver");
    let held = gpu.ones(&[1000]) + 1.0;
    gpu.eval(&[&held]).unwrap();
    gpu.destroy();
    assert!(matches!(held.to_vec::<f32>(), Err(Error::DeviceLost { .. })));
    assert!(matches!((&held * 2.0).to_vec::<f32>(), Err(Error::DeviceLost { .. })));
    assert!(gpu.zeros(&[3]).exp().item().is_err());
    assert!(matches!(gpu.synchronize(), Err(Error::DeviceLost { .. })));
    let error = gpu.synchronize().unwrap_err().to_string();
    assert!(error.contains("create a new Device"), "{error}");
}

#[test]
fn labels_and_indices_keep_their_dtype() {
    let labels = Device::cpu().labels(&[1, 2, 3]);
    assert_eq!(labels.dtype().unwrap(), DType::U32);
    assert_eq!(labels.to_vec::<u32>().unwrap(), [1, 2, 3]);
}
