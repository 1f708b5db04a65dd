//! Work that the kernels of a software driver share out among its threads: who does it changes nothing.

mod common;

use common::net::{Net, adamw, train};
use kiln::prelude::*;

/// A device whose kernels share out their work, and one on which the driver does; `None` where there is no such driver.
fn devices(test: &str) -> Option<[Device; 2]> {
    let mut shares = false;
    let own = Device::named_as_if("vulkan", |capabilities| shares = capabilities.workers.is_some());
    let plain = Device::named_as_if("vulkan", |capabilities| capabilities.workers = None);
    if !shares {
        println!("skipped {test}: {} shares out work itself", common::gpu().info().name);
        return None;
    }
    Some([own, plain].map(|device| device.expect("a Vulkan driver")))
}

/// Bits of what a few kernels of each kind give, for sizes that divide by nothing; some are so long that one workgroup may
/// not do them alone.
fn results(device: &Device) -> Vec<u32> {
    let uniform = |shape: &[usize], seed| device.uniform(shape, -1.0, 1.0, seed) * 1.0;
    let long = uniform(&[4_000_037], 1);
    let image = uniform(&[3, 5, 37, 41], 2).variable();
    let kernel = uniform(&[7, 5, 3, 3], 3).variable();
    let convolved = image.conv2d(&kernel, &Default::default()).relu();
    let gradients = (&convolved * &convolved).sum_all().gradients(&[&image, &kernel]).unwrap();
    let product = uniform(&[517, 131], 4).matmul(&uniform(&[131, 1031], 5));
    let rows = uniform(&[1031, 37], 6);
    let all = [
        (&long * 1.1 + 0.1).gelu(),
        long.sum_all(),
        rows.softmax(1),
        rows.sum(&[0]),
        rows.transpose(0, 1) + 1.0,
        product,
        convolved.max_pool2d([2, 2], [2, 2], [0, 0]),
    ];
    let values = |tensor: &Tensor| tensor.to_vec::<f32>().unwrap();
    all.iter().chain(&gradients).flat_map(values).map(f32::to_bits).collect()
}

#[test]
fn shared_out_work_gives_the_same_bits() {
    let Some([own, plain]) = devices("shared_out_work_gives_the_same_bits") else { return };
    let expected = results(&plain);
    for _ in 0..3 {
        own.poison_buffers().unwrap();
        assert!(results(&own) == expected, "other bits");
    }
    let losses = |device: &Device| -> Vec<f64> {
        let net = Net::new(device);
        let mut optimizer = adamw(&net);
        (0..20).map(|step| train(device, &net, &mut optimizer, 37, step).item().unwrap()).collect()
    };
    assert_eq!(losses(&own), losses(&plain));
}

#[test]
fn two_devices_at_once_do_not_take_each_others_work() {
    let Some([one, _]) = devices("two_devices_at_once_do_not_take_each_others_work") else { return };
    let Some([other, plain]) = devices("two_devices_at_once_do_not_take_each_others_work") else { return };
    let expected = results(&plain);
    std::thread::scope(|scope| {
        for device in [one, other] {
            scope.spawn(|| {
                let device = device;
                (0..3).for_each(|_| assert!(results(&device) == expected, "other bits"));
            });
        }
    });
}
