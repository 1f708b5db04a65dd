//! The rule by which a search puts parameters somewhere: the "gradient" that it is given is the new value.

use crate::error::Problem;
use crate::kernel::Shader;
use crate::optim::rule::{Now, Numbers, Rule, Update, elementwise};
use crate::shaders::optim::PLACE;

/// theta <- g.
#[derive(Debug)]
pub(super) struct Place;

impl Rule for Place {
    fn name(&self) -> &'static str {
        "lbfgs"
    }

    fn lr(&self) -> f64 {
        0.0
    }

    fn shader(&self) -> Shader {
        elementwise(Shader::of(&[&PLACE]), &[])
    }

    fn numbers(&self, _: &Now) -> Numbers {
        Numbers::default()
    }

    fn reference(&self, update: &mut Update<'_>) {
        update.each(|_, g, []| g);
    }

    fn check(&self) -> Result<(), Problem> {
        Ok(())
    }
}
