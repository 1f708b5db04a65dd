//! Windows that slide along the axes of an image: what convolutions and poolings have in common.

use super::call::Call;
use super::trouble::{Trouble, unsupported, wrong};

/// Windows along the axes behind batch and channels.
#[derive(Debug, Clone)]
pub struct Windows {
    /// Elements of a window.
    pub kernel: Vec<usize>,
    /// Elements between neighbouring windows.
    pub stride: Vec<usize>,
    /// Elements between those of a window.
    pub dilation: Vec<usize>,
    /// Elements put before and behind each axis.
    pub pads: Vec<[usize; 2]>,
    /// Windows along each axis.
    pub output: Vec<usize>,
}

impl Windows {
    /// The windows of a node over an image of `size` (the axes behind the channels). `kernel` is that of a weight, if there is one.
    pub fn of(call: &Call<'_>, size: &[usize], kernel: Option<&[usize]>) -> Result<Windows, Trouble> {
        let axes = size.len();
        if !(1..=3).contains(&axes) {
            return unsupported(format!("windows over {axes} axes"));
        }
        let listed =
            |name: &str| -> Result<Vec<usize>, Trouble> { Ok(call.sizes(name)?.unwrap_or_else(|| vec![1; axes])) };
        let kernel = match (call.sizes("kernel_shape")?, kernel) {
            (Some(said), Some(is)) if said != is => {
                return wrong(format!("kernel_shape {said:?} for a weight of {is:?}"));
            }
            (Some(said), _) => said,
            (None, Some(is)) => is.to_vec(),
            (None, None) => return wrong("it has no kernel_shape"),
        };
        let (stride, dilation) = (listed("strides")?, listed("dilations")?);
        if [&kernel, &stride, &dilation].into_iter().any(|list| list.len() != axes || list.contains(&0)) {
            return wrong(format!("kernel {kernel:?}, strides {stride:?} and dilations {dilation:?} for {axes} axes"));
        }
        let auto = call.text("auto_pad", "NOTSET")?;
        let ceil = call.flag("ceil_mode", false)?;
        let given = match call.sizes("pads")? {
            Some(pads) if pads.len() == axes * 2 => pads,
            Some(pads) => return wrong(format!("pads {pads:?} for {axes} axes")),
            None => vec![0; axes * 2],
        };
        let mut windows = Windows { kernel, stride, dilation, pads: vec![], output: vec![] };
        for (axis, &length) in size.iter().enumerate() {
            let reach = windows.reach(axis);
            let stride = windows.stride.get(axis).copied().unwrap_or(1);
            let at = |i: usize| given.get(i).copied().unwrap_or(0);
            let (pads, output) = match auto.as_str() {
                "SAME_UPPER" | "SAME_LOWER" => {
                    let output = length.div_ceil(stride);
                    let all = ((output.max(1) - 1) * stride + reach).saturating_sub(length);
                    let few = all / 2;
                    (if auto == "SAME_UPPER" { [few, all - few] } else { [all - few, few] }, output)
                }
                "NOTSET" | "VALID" => {
                    let pads = if auto == "VALID" { [0, 0] } else { [at(axis), at(axis + axes)] };
                    let padded = pads.iter().try_fold(length, |sum, &pad| sum.checked_add(pad));
                    let Some(room) = padded.and_then(|padded| padded.checked_sub(reach)) else {
                        return wrong(format!("windows of {reach} elements in an axis of {length} with pads {pads:?}"));
                    };
                    let mut output = if ceil { room.div_ceil(stride) } else { room / stride } + 1;
                    // A window begins in the image, or in what is put before it.
                    if ceil && (output - 1).saturating_mul(stride) >= length + pads[0] {
                        output -= 1;
                    }
                    (pads, output)
                }
                other => return wrong(format!("auto_pad is `{other}`")),
            };
            windows.pads.push(pads);
            windows.output.push(output);
        }
        Ok(windows)
    }

    /// Elements from the first of a window to its last.
    pub fn reach(&self, axis: usize) -> usize {
        let kernel = self.kernel.get(axis).copied().unwrap_or(1);
        (kernel - 1).saturating_mul(self.dilation.get(axis).copied().unwrap_or(1)).saturating_add(1)
    }

    /// What must stand around the image so that all windows are whole: [`Windows::pads`], with more behind where the last window
    /// needs it.
    pub fn around(&self, size: &[usize]) -> Vec<(usize, usize)> {
        let pair = |(axis, &length): (usize, &usize)| {
            let [before, after] = self.pads.get(axis).copied().unwrap_or([0, 0]);
            let windows = self.output.get(axis).copied().unwrap_or(1).max(1);
            let stride = self.stride.get(axis).copied().unwrap_or(1);
            let end = (windows - 1).saturating_mul(stride).saturating_add(self.reach(axis));
            (before, after.max(end.saturating_sub(length + before)))
        };
        size.iter().enumerate().map(pair).collect()
    }

    /// Lists of one length as an array; the caller has seen to the length.
    pub fn array<const D: usize>(list: &[usize]) -> [usize; D] {
        std::array::from_fn(|axis| list.get(axis).copied().unwrap_or(1))
    }
}
