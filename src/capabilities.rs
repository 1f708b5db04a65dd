//! What an adapter can do, as far as kernels care: facts, and nothing that anybody chose.

/// What a device can do, as far as kernels care. The default is the lowest common set of adapters.
#[derive(Debug, Clone, PartialEq)]
pub struct Capabilities {
    /// True if `f16` may be stored and computed with.
    pub f16: bool,
    /// True for drivers that run shaders on the CPU.
    pub software: bool,
    /// True for GPUs that share the processor's chip and memory: they have a tenth of the compute units.
    pub integrated: bool,
    /// True if eight elements had better be moved at once as four integers of 64 bits: a software driver runs a load or a
    /// store as a loop over the lanes, which takes hardly longer for twice the bytes.
    pub pairs: bool,
    /// Threads of a software driver that cuts each dispatch into equal parts for them: kernels there had better share out their
    /// work while they run.
    pub workers: Option<u32>,
    /// Lanes of a subgroup where every subgroup has this many and subgroup operations exist.
    pub subgroup: Option<u32>,
    /// Side of the square f16 matrices that the adapter multiplies with sums in f32, if it has units for that.
    pub cooperative: Option<u32>,
    /// Most storage buffers a kernel may bind.
    pub storage_buffers: usize,
    /// Most bytes of one binding.
    pub binding_bytes: u64,
}

impl Default for Capabilities {
    fn default() -> Self {
        Capabilities {
            f16: false,
            software: false,
            integrated: false,
            pairs: false,
            workers: None,
            subgroup: None,
            cooperative: None,
            storage_buffers: 8,
            binding_bytes: 128 << 20,
        }
    }
}

/// What an adapter may list and yet fail at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feature {
    /// Products of matrices by units of their own.
    Cooperative,
    /// Operations among the lanes of a subgroup.
    Subgroup,
    /// Integers of 64 bits.
    Pairs,
}

impl Capabilities {
    /// Without a feature; false if it was not there.
    pub(crate) fn drop_feature(&mut self, feature: Feature) -> bool {
        match feature {
            Feature::Cooperative => self.cooperative.take().is_some(),
            Feature::Subgroup => self.subgroup.take().is_some(),
            Feature::Pairs => std::mem::take(&mut self.pairs),
        }
    }
}
