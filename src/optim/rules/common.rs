//! What most rules have in common.

/// What is the same of all rules with a field `lr` and a field `weight_decay`.
macro_rules! common {
    ($name:literal) => {
        fn name(&self) -> &'static str {
            $name
        }

        fn lr(&self) -> f64 {
            self.lr
        }

        fn weight_decay(&self) -> f64 {
            self.weight_decay
        }
    };
}

pub(super) use common;
