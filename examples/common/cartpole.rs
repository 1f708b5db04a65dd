//! Poles on carts: a cart on a track is pushed left or right, and a pole that stands on it must not fall.
//!
//! The equations are those of A. Barto, R. Sutton and C. Anderson, "Neuronlike adaptive elements that can solve difficult
//! learning control problems", IEEE Transactions on Systems, Man, and Cybernetics 13, 1983, without friction. Each push
//! that the pole survives earns 1; an episode ends when it falls, when the cart leaves the track, or after 500 pushes.

use std::collections::VecDeque;

use anyhow::Result;
use kiln::rng::Philox;

/// Numbers of a state: place and speed of the cart, angle and angular speed of the pole (m, m/s, rad, rad/s).
pub const NUMBERS: usize = 4;
/// Left and right.
pub const ACTIONS: usize = 2;
/// Pushes after which an episode ends whatever the pole does.
const LONGEST: u32 = 500;

const GRAVITY: f64 = 9.8;
const CART: f64 = 1.0;
const POLE: f64 = 0.1;
/// Half the length of the pole, in metres.
const HALF: f64 = 0.5;
const FORCE: f64 = 10.0;
/// Seconds of a push.
const TIME: f64 = 0.02;
const TRACK: f64 = 2.4;
const STEEPEST: f64 = 12.0 * std::f64::consts::PI / 180.0;

/// What a push led to.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// The state behind it, before anything is set up anew.
    pub next: [f32; NUMBERS],
    /// The pole fell or the cart left the track: nothing can be earned from here on.
    pub fell: bool,
    /// The episode is over, by a fall or by time; the cart begins another one.
    pub over: bool,
}

#[derive(Debug, Clone, Copy)]
struct Cart {
    state: [f64; NUMBERS],
    pushes: u32,
}

impl Cart {
    fn new(random: &mut Philox) -> Cart {
        Cart { state: [(); NUMBERS].map(|()| 0.1 * random.uniform() - 0.05), pushes: 0 }
    }

    fn push(&mut self, to_the_right: bool) -> Outcome {
        let [x, speed, angle, turn] = self.state;
        let force = if to_the_right { FORCE } else { -FORCE };
        let (sine, cosine) = angle.sin_cos();
        let mass = CART + POLE;
        let pushed = (force + POLE * HALF * turn * turn * sine) / mass;
        let turned = (GRAVITY * sine - cosine * pushed) / (HALF * (4.0 / 3.0 - POLE * cosine * cosine / mass));
        let moved = pushed - POLE * HALF * turned * cosine / mass;
        self.state = [x + TIME * speed, speed + TIME * moved, angle + TIME * turn, turn + TIME * turned];
        self.pushes += 1;
        let fell = self.state[0].abs() > TRACK || self.state[2].abs() > STEEPEST;
        Outcome { next: self.state.map(|x| x as f32), fell, over: fell || self.pushes == LONGEST }
    }
}

/// Several carts, all pushed at once: one forward pass decides for all of them.
pub struct Carts {
    carts: Vec<Cart>,
    random: Philox,
    /// Returns of the last episodes that ended.
    returns: VecDeque<f64>,
}

impl Carts {
    pub fn new(count: usize, seed: u64) -> Carts {
        let mut random = Philox::new(seed, 0);
        Carts { carts: (0..count).map(|_| Cart::new(&mut random)).collect(), random, returns: VecDeque::new() }
    }

    /// All states, `[carts, NUMBERS]`.
    pub fn states(&self) -> Vec<f32> {
        self.carts.iter().flat_map(|cart| cart.state.map(|x| x as f32)).collect()
    }

    /// Pushes each cart to its side: 0 is left, 1 right. One whose episode is over begins another.
    pub fn push(&mut self, actions: &[u32]) -> Vec<Outcome> {
        let push = |(cart, &action): (&mut Cart, &u32)| {
            let outcome = cart.push(action == 1);
            if outcome.over {
                self.returns.push_back(f64::from(cart.pushes));
                *cart = Cart::new(&mut self.random);
            }
            outcome
        };
        let outcomes = self.carts.iter_mut().zip(actions).map(push).collect();
        self.returns.drain(..self.returns.len().saturating_sub(50));
        outcomes
    }

    /// Mean return of the last fifty episodes that ended; 0 before the first.
    pub fn recent(&self) -> f32 {
        (self.returns.iter().sum::<f64>() / self.returns.len().max(1) as f64) as f32
    }
}

/// Mean return of so many whole episodes, played side by side; `act` gives an action for each row of the states.
pub fn mean_return(episodes: usize, seed: u64, mut act: impl FnMut(&[f32]) -> Result<Vec<u32>>) -> Result<f64> {
    let mut carts = Carts::new(episodes, seed);
    let (mut sum, mut still) = (0.0, vec![true; episodes]);
    while still.contains(&true) {
        let actions = act(&carts.states())?;
        for (plays, outcome) in still.iter_mut().zip(carts.push(&actions)) {
            sum += f64::from(u8::from(*plays));
            *plays &= !outcome.over;
        }
    }
    Ok(sum / episodes as f64)
}
