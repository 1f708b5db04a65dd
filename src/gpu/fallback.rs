//! What a driver lists and then fails at is given up: the plan is made again without it, and the user warned once.

use std::sync::Arc;

use super::driver::{Gpu, later, lock};
use crate::dispatch::Dispatch;
use crate::error::{Error, Result};
use crate::kernel::Feature;
use crate::target::Target;

/// A kernel in half precision, as small as can be.
const HALF: &str = "enable f16;
@group(0) @binding(0) var<storage, read_write> x: array<f16>;
@compute @workgroup_size(1) fn main() {
    x[0] = x[0] * 2.0h + f16(1.5);
}
";

/// The kernels of a dispatch: several where small ones were merged.
fn kernels(dispatch: &Dispatch) -> impl Iterator<Item = &str> {
    dispatch.names.iter().map(|name| name.kernel.as_ref())
}

impl Gpu {
    /// Gives up what the driver has just failed at, if there is another way: the feature that the kernel needs, else the
    /// variant, if it is one of those beside which the plan could have taken others. The target of plans changes where there is something to be tried.
    pub(super) fn retreat(&self, dispatch: &Dispatch, variants: &[&'static str], error: &Error) {
        // Neither a lost device nor memory that is used up is the kernel's fault; a user's kernel has one form.
        if !matches!(error, Error::Driver { .. }) || dispatch.checked {
            return;
        }
        let given_up = self.change(|target| match Feature::of(&dispatch.program.shader) {
            Some(feature) => {
                let dropped = target.capabilities.drop_feature(feature);
                dropped.then(|| format!("{feature:?} operations").to_lowercase())
            }
            None => {
                let is_new = |name: &&str| variants.contains(name) && target.choices.refused.insert(name.to_string());
                let new: Vec<&str> = kernels(dispatch).filter(is_new).collect();
                (!new.is_empty()).then(|| format!("kernel {}", new.join(", ")))
            }
        });
        if let Some(what) = given_up {
            self.warn(&format!("{what} will not be used, for the driver fails at it ({})", first_line(error)));
        }
    }

    /// Makes a kernel of which the browser tells later whether it takes it. If not, the next call gets the error, and
    /// plans to come do without it.
    pub(super) fn make_unjudged<T>(
        &self,
        what: String,
        dispatch: &Dispatch,
        variants: &[&'static str],
        make: impl FnOnce() -> T,
    ) -> Result<T> {
        // What was refused late is told elsewhere: here it would pass for a refusal of this kernel.
        self.check_lost()?;
        let (made, verdict) = self.judged(make);
        let (gpu, dispatch, variants, kernel) = (self.clone(), dispatch.clone(), variants.to_vec(), what.clone());
        later(async move {
            if let Some(error) = verdict.0.await {
                let error = gpu.translated(&kernel, error);
                gpu.retreat(&dispatch, &variants, &error);
                gpu.note_late(error);
            }
        });
        made.map_err(|message| self.refused(&what, message))
    }

    /// Leaves sharing out work to the driver from now on: it takes a kernel as it is, and not with the queue.
    pub(super) fn give_up_balance(&self, error: &Error) {
        if self.change(|target| target.capabilities.workers.take()).is_some() {
            self.warn(&format!(
                "work will not be shared out by kernels, for the driver fails at it ({})",
                first_line(error)
            ));
        }
    }

    /// Changes the target of the plans to come.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Target) -> Option<T>) -> Option<T> {
        let mut current = lock(&self.0.target);
        let mut new = (**current).clone();
        let done = change(&mut new);
        if done.is_some() {
            *current = Arc::new(new);
        }
        done
    }

    /// Gives up half precision if the driver does not compile it. This cannot wait for the first kernel that uses it, for
    /// what is stored depends on it.
    pub(super) async fn probe(&mut self) {
        if !self.0.f16 {
            return;
        }
        let text = if self.has_fault("f16") { "an injected fault" } else { HALF };
        let (made, verdict) = self.judged(|| {
            // A layout of its own: wgpu's derived ones panic on its no-op back end.
            let group = self.0.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: None,
                entries: &[wgpu::BindGroupLayoutEntry {
                    binding: 0,
                    visibility: wgpu::ShaderStages::COMPUTE,
                    ty: wgpu::BindingType::Buffer {
                        ty: wgpu::BufferBindingType::Storage { read_only: false },
                        has_dynamic_offset: false,
                        min_binding_size: None,
                    },
                    count: None,
                }],
            });
            let layout = self.0.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: None,
                bind_group_layouts: &[Some(&group)],
                immediate_size: 0,
            });
            let source = wgpu::ShaderSource::Wgsl(text.into());
            let module = self.0.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
            self.0.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: None,
                layout: Some(&layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: Default::default(),
                cache: None,
            })
        });
        let refused = verdict.0.await.map(|error| self.translated("half precision", error));
        if let Some(error) = refused.or(made.err().map(|message| self.refused("half precision", message))) {
            self.pretend(|capabilities| capabilities.f16 = false);
            self.warn(&format!("half precision is listed but fails, so it is stored as f32 ({})", first_line(&error)));
        }
    }

    /// True if a test wants this kernel to fail, or this form of it.
    pub(super) fn is_to_fail(&self, dispatch: &Dispatch, source: &str) -> bool {
        let faults = lock(&self.0.faults);
        if *source != **dispatch.source() && faults.iter().any(|fault| fault == "balance") {
            return true;
        }
        let feature = || Feature::of(&dispatch.program.shader).map(|feature| format!("{feature:?}").to_lowercase());
        !faults.is_empty()
            && faults
                .iter()
                .any(|fault| kernels(dispatch).any(|name| name == fault) || Some(fault) == feature().as_ref())
    }
}

/// The first of the driver's words.
fn first_line(error: &Error) -> String {
    let text = match error {
        Error::Driver { message, .. } => message.clone(),
        other => other.to_string(),
    };
    let says_something = |line: &&str| !["", "Validation Error", "Caused by:"].contains(line);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(says_something).take(2).collect();
    lines.join(" ")
}
