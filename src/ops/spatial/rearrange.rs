//! Channels and pixels exchanged: views, which their consumer reads or a copy lays out.

use crate::error::Problem;
use crate::op::{Case, Tolerance};
use crate::tensor::Tensor;

impl Tensor {
    /// `[.., C r^2, H, W]` as `[.., C, r H, r W]`: each pixel's r x r block from r^2 channels, as
    /// `torch.nn.functional.pixel_shuffle` (Shi et al. 2016). Any dtype.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless there are three axes or more and `factor`^2 divides the channels,
    /// [`crate::Error::Value`] for a factor of 0.
    #[track_caller]
    pub fn pixel_shuffle(&self, factor: usize) -> Tensor {
        const OP: &str = "pixel_shuffle";
        self.blocks(OP, factor, |lead, [channels, height, width], r| {
            let square = r.checked_mul(r).filter(|&square| channels.is_multiple_of(square))?;
            let channels = channels / square;
            let blocks = self.reshape(&[lead, channels, r, r, height, width]).permute(&[0, 1, 4, 2, 5, 3]);
            Some((blocks, [channels, height * r, width * r]))
        })
    }

    /// `[.., C, r H, r W]` as `[.., C r^2, H, W]`: the inverse of [`Tensor::pixel_shuffle`], as
    /// `torch.nn.functional.pixel_unshuffle`. Any dtype.
    ///
    /// # Errors
    /// As there, unless `factor` divides height and width.
    #[track_caller]
    pub fn pixel_unshuffle(&self, factor: usize) -> Tensor {
        const OP: &str = "pixel_unshuffle";
        self.blocks(OP, factor, |lead, [channels, height, width], r| {
            let fits = height.is_multiple_of(r) && width.is_multiple_of(r);
            let [height, width] = [height / r, width / r];
            let blocks = || self.reshape(&[lead, channels, height, r, width, r]).permute(&[0, 1, 3, 5, 2, 4]);
            fits.then(|| (blocks(), [channels * r * r, height, width]))
        })
    }

    /// The last three axes taken apart and put together by `form`, or an error where that gives nothing.
    #[track_caller]
    fn blocks(
        &self,
        op: &'static str,
        factor: usize,
        form: impl FnOnce(usize, [usize; 3], usize) -> Option<(Tensor, [usize; 3])>,
    ) -> Tensor {
        if self.error().is_some() {
            return self.clone();
        }
        if factor == 0 {
            return self.problem(op, Problem::Value("a factor of 0".into(), "pass a factor of at least 1"));
        }
        let dims = *self.dims();
        let formed = match dims.split_last_chunk() {
            Some((lead, &last)) => form(lead.iter().product(), last, factor).map(|formed| (lead.to_vec(), formed)),
            None => None,
        };
        match formed {
            Some((lead, (blocks, last))) => blocks.reshape(&[&lead[..], &last].concat()),
            None => {
                let what = format!("blocks of {factor} x {factor} pixels of shape {dims}");
                self.problem(op, Problem::Shape(what, "pass [.., channels, height, width] that the factor divides"))
            }
        }
    }

    /// The channels of `[batch, channels, ..]`, in `groups` groups, dealt out in turn: as `torch.nn.functional.channel_shuffle`
    /// (Zhang et al. 2018). Any dtype.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless there are channels that `groups` divides.
    #[track_caller]
    pub fn channel_shuffle(&self, groups: usize) -> Tensor {
        if self.error().is_some() {
            return self.clone();
        }
        let dims = *self.dims();
        if dims.rank() < 2 || groups == 0 || !dims[1].is_multiple_of(groups) {
            let what = format!("{groups} groups of the channels of shape {dims}");
            let problem = Problem::Shape(what, "pass [batch, channels, ..] and a divisor of channels");
            return self.problem("channel_shuffle", problem);
        }
        let rest: usize = dims.iter().skip(2).product();
        self.reshape(&[dims[0], groups, dims[1] / groups, rest]).transpose(1, 2).reshape(&dims)
    }
}

pub(super) fn cases() -> Vec<Case> {
    let exact = |name: &str, shape: &[usize], build: fn(&[Tensor]) -> Tensor| {
        Case::new(name, build).normal(shape).tolerance(Tolerance::Exact)
    };
    vec![
        exact("pixel_shuffle", &[2, 18, 5, 7], |x| x[0].pixel_shuffle(3)),
        exact("pixel_unshuffle", &[2, 3, 6, 10], |x| x[0].pixel_unshuffle(2)),
        exact("channel_shuffle", &[2, 6, 37], |x| x[0].channel_shuffle(3)),
    ]
}

#[cfg(test)]
mod tests {
    use crate::{Device, Error};

    #[test]
    fn what_does_not_divide_is_refused() {
        let x = Device::cpu().zeros(&[2, 6, 4, 3]);
        assert!(matches!(x.pixel_shuffle(2).error(), Some(Error::Shape { op: "pixel_shuffle", .. })));
        assert!(matches!(x.pixel_shuffle(0).error(), Some(Error::Value { .. })));
        assert!(matches!(x.pixel_unshuffle(2).error(), Some(Error::Shape { op: "pixel_unshuffle", .. })));
        assert!(matches!(x.channel_shuffle(4).error(), Some(Error::Shape { op: "channel_shuffle", .. })));
        assert!(matches!(x.flatten(1).pixel_unshuffle(1).error(), Some(Error::Shape { .. })));
    }
}
