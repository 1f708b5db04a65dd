//! What a cached training step costs the host, beside bare wgpu encoding as many dispatches, on wgpu's no-op back end
//! (nothing is computed, everything is recorded, keyed, encoded and submitted).
//!
//! `cargo bench --bench host` prints the medians of the same run and their difference a dispatch.

use std::time::Instant;

use kiln::nn::{Conv2d, Linear, Mode, Module};
use kiln::prelude::*;

const ROUNDS: usize = 40;
const STEPS: usize = 50;

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Microseconds a step of `run`, as the median over rounds.
fn microseconds(mut run: impl FnMut()) -> f64 {
    (0..5 * STEPS).for_each(|_| run());
    let round = |run: &mut dyn FnMut()| {
        let started = Instant::now();
        (0..STEPS).for_each(|_| run());
        started.elapsed().as_secs_f64() * 1e6 / STEPS as f64
    };
    median((0..ROUNDS).map(|_| round(&mut run)).collect())
}

struct Cnn(Conv2d, Conv2d, Linear, Linear);

impl Cnn {
    fn forward(&self, x: &Tensor) -> Tensor {
        let x = self.0.forward(x, Mode::Train).relu().max_pool2d([2, 2], [2, 2], [0, 0]);
        let x = self.1.forward(&x, Mode::Train).relu().max_pool2d([2, 2], [2, 2], [0, 0]);
        self.3.forward(&self.2.forward(&x.flatten(1), Mode::Train).relu(), Mode::Train)
    }
}

/// Bare wgpu: as many dispatches in one pass, with as many pipelines and bind groups, one submission.
struct Bare {
    device: wgpu::Device,
    queue: wgpu::Queue,
    steps: Vec<(wgpu::ComputePipeline, wgpu::BindGroup)>,
}

impl Bare {
    fn new(dispatches: usize) -> Bare {
        let mut descriptor = wgpu::InstanceDescriptor {
            backends: wgpu::Backends::NOOP,
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        };
        descriptor.backend_options.noop.enable = true;
        let instance = wgpu::Instance::new(descriptor);
        let adapter = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::NOOP)).remove(0);
        let (device, queue) = pollster::block_on(adapter.request_device(&Default::default())).expect("a no-op device");
        let source = "@group(0) @binding(0) var<storage, read> a: array<f32>;\n\
                      @group(0) @binding(1) var<storage, read> b: array<f32>;\n\
                      @group(0) @binding(2) var<storage, read_write> c: array<f32>;\n\
                      @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) i: vec3<u32>) {\n\
                      c[i.x] = a[i.x] + b[i.x]; }";
        let buffer = || {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: 4096,
                usage: wgpu::BufferUsages::STORAGE,
                mapped_at_creation: false,
            })
        };
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(source.into()),
        });
        let steps = (0..dispatches)
            .map(|_| {
                let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                    label: None,
                    layout: None,
                    module: &module,
                    entry_point: Some("main"),
                    compilation_options: Default::default(),
                    cache: None,
                });
                let buffers = [buffer(), buffer(), buffer()];
                let entries: Vec<wgpu::BindGroupEntry<'_>> = buffers
                    .iter()
                    .enumerate()
                    .map(|(i, b)| wgpu::BindGroupEntry { binding: i as u32, resource: b.as_entire_binding() })
                    .collect();
                let layout = pipeline.get_bind_group_layout(0);
                let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
                    label: None,
                    layout: &layout,
                    entries: &entries,
                });
                (pipeline, group)
            })
            .collect();
        Bare { device, queue, steps }
    }

    fn step(&self) {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            for (pipeline, group) in &self.steps {
                pass.set_pipeline(pipeline);
                pass.set_bind_group(0, group, &[]);
                pass.dispatch_workgroups(4, 1, 1);
            }
        }
        self.queue.submit([encoder.finish()]);
        let _ = self.device.poll(wgpu::PollType::Poll);
    }
}

fn main() {
    let device = Device::noop().expect("wgpu's no-op back end");
    let params = ParamStore::new(&device, 1);
    let root = params.root();
    let net = Cnn(
        Conv2d::new(&root.child("conv1"), 1, 16, 3).padding(1),
        Conv2d::new(&root.child("conv2"), 16, 32, 3).padding(1),
        Linear::new(&root.child("fc1"), 128, 64),
        Linear::new(&root.child("fc2"), 64, 10),
    );
    let mut optimizer = AdamW::new(&params, AdamWConfig::default());
    let images = vec![0.5f32; 64 * 64];
    let labels = vec![3u32; 64];
    let mut step = || {
        let logits = net.forward(&device.tensor(&images, &[64, 1, 8, 8]));
        let loss = logits.cross_entropy(&device.labels(&labels));
        optimizer.step(&loss).expect("a step");
    };
    step();
    let dispatches = device.statistics().dispatches;
    let bare = Bare::new(dispatches);
    // In turn, twice, so that a machine that slows down meanwhile shows.
    let times: Vec<(f64, f64)> = (0..2).map(|_| (microseconds(&mut step), microseconds(|| bare.step()))).collect();
    for (kiln, bare) in times {
        println!(
            "digits CNN, {dispatches} dispatches: a step {kiln:.1} us, bare wgpu {bare:.1} us, above it {:.1} us \
             (1 us a dispatch + 50 us would be {:.1} us)",
            kiln - bare,
            dispatches as f64 + 50.0
        );
    }
}
