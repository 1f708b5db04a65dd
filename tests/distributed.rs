//! Steps of several ranks, which are threads here: the bits of one rank that accumulates, and errors that reach all.

#[path = "distributed/buckets.rs"]
mod buckets;
#[path = "distributed/errors.rs"]
mod errors;
#[path = "distributed/net.rs"]
mod net;
#[path = "distributed/synced.rs"]
mod synced;
#[path = "distributed/trainer.rs"]
mod trainer;

use kiln::distributed::{Traffic, World};
use kiln::optim::{MuonConfig, Rule};
use kiln::prelude::*;
use net::{Digits, Outcome, RANKS, on_ranks, rules, train};

/// One rank with the micro-batches of `ranks` others.
fn alone(device: &Device, plan: &Digits, rule: impl Rule) -> Outcome {
    train(&World::alone(), device, plan, rule).unwrap()
}

fn of_ranks<R: Rule + Clone + Sync>(device: &Device, ranks: usize, plan: &Digits, rule: &R) -> Vec<Outcome> {
    on_ranks(ranks, |world| {
        world.keep_order(plan.keeps_order);
        train(&world, device, plan, rule.clone()).unwrap()
    })
}

fn assert_equal(one: &Outcome, all: &[Outcome], what: &str) {
    for (rank, own) in all.iter().enumerate() {
        let differs = one.differs_from(own);
        assert!(differs.is_none(), "{what}, rank {rank}: {}", differs.unwrap_or_default());
    }
}

#[test]
fn ranks_have_the_bits_of_one_that_accumulates() {
    let device = net::gpu();
    for precision in [Precision::Full, Precision::Mixed] {
        for ranks in RANKS {
            let plan = Digits { micro_batches: ranks, of_rank_0: ranks, precision, ..Digits::short() };
            let what = format!("{ranks} ranks, {precision}");
            let one = alone(&device, &plan, rules().0);
            assert_equal(&one, &of_ranks(&device, ranks, &plan, &rules().0), &format!("{what}, AdamW"));
            let one = alone(&device, &plan, rules().1);
            assert_equal(&one, &of_ranks(&device, ranks, &plan, &rules().1), &format!("{what}, Muon"));
        }
    }
}

#[test]
fn two_runs_are_equal_and_the_reference_adds_in_order_too() {
    let device = Device::cpu();
    let plan = Digits { micro_batches: 3, of_rank_0: 3, steps: 3, ..Digits::short() };
    let first = of_ranks(&device, 3, &plan, &MuonConfig::default());
    assert_equal(&first[0], &of_ranks(&device, 3, &plan, &MuonConfig::default()), "again");
    assert_equal(&alone(&device, &plan, MuonConfig::default()), &first, "one rank");
}

#[test]
fn micro_batches_that_are_kept_apart_are_added_in_the_order_of_their_numbers() {
    let device = net::gpu();
    let plan = Digits { micro_batches: 4, of_rank_0: 2, keeps_order: true, ..Digits::short() };
    let one = alone(&device, &plan, AdamWConfig::default());
    assert_equal(&one, &of_ranks(&device, 2, &plan, &AdamWConfig::default()), "4 micro-batches of 2 ranks");
    // Added up on each rank first they are the same but for rounding, and repeat.
    let plan = Digits { keeps_order: false, ..plan };
    let fast = of_ranks(&device, 2, &plan, &AdamWConfig::default());
    assert_equal(&fast[0], &of_ranks(&device, 2, &plan, &AdamWConfig::default()), "added up first");
    let far = one.weights.iter().zip(&fast[0].weights).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(far > 0.0 && far < 1e-2, "{far}");
}

#[test]
fn a_rank_without_a_batch_takes_the_step_too() {
    let device = net::gpu();
    // The last step has two micro-batches for three ranks.
    let plan = Digits { micro_batches: 3, of_rank_0: 3, last: Some(2), ..Digits::short() };
    let one = alone(&device, &plan, AdamWConfig::default());
    assert_equal(&one, &of_ranks(&device, 3, &plan, &AdamWConfig::default()), "a short last step");
}

#[test]
fn a_run_goes_on_with_another_number_of_ranks() {
    let device = net::gpu();
    let rule = AdamWConfig::default();
    // Four ranks, then two with twice the micro-batches, all in their order: one rank has the same bits.
    let whole = Digits { micro_batches: 4, of_rank_0: 4, keeps_order: true, steps: 6, ..Digits::short() };
    let first = Digits { steps: 3, ..whole.clone() };
    let saved = of_ranks(&device, 4, &first, &rule).swap_remove(0);
    let rest = Digits { from: Some(saved.checkpoint), of_rank_0: 2, ..whole.clone() };
    let resumed = of_ranks(&device, 2, &rest, &rule);
    let one = alone(&device, &first, rule.clone());
    let one = alone(&device, &Digits { from: Some(one.checkpoint), ..rest }, rule.clone());
    assert_equal(&one, &resumed, "4 ranks, then 2");
    // And the same as without the stop, but for whose the running statistics are.
    let unstopped = alone(&device, &whole, rule);
    assert_eq!(unstopped.weights, one.weights);
}

#[test]
fn gradients_of_f16_take_half_the_bytes_and_train_as_well() {
    let device = net::gpu();
    let plan = Digits { micro_batches: 2, of_rank_0: 2, steps: 40, ..Digits::short() };
    let run = |half| {
        on_ranks(2, |world| {
            world.send_half(half);
            (train(&world, &device, &plan, AdamWConfig::default()).unwrap(), world.traffic().sent)
        })
    };
    let (whole, half) = (run(false), run(true));
    assert!(half[0].0.differs_from(&half[1].0).is_none());
    assert_eq!(half[0].0.weights, run(true)[0].0.weights, "two runs");
    let mean = |outcome: &Outcome| outcome.losses[30..].iter().sum::<f64>() / 10.0;
    assert!((mean(&whole[0].0) - mean(&half[0].0)).abs() < 0.05, "{} {}", mean(&whole[0].0), mean(&half[0].0));
    // The start, with all weights, is in both.
    assert!((half[0].1 as f64) < 0.62 * whole[0].1 as f64, "{} of {} bytes", half[0].1, whole[0].1);
}

#[test]
fn a_step_moves_four_eight_and_four_bytes_a_parameter_at_most() {
    let device = net::gpu();
    for ranks in RANKS {
        let traffic = |steps| {
            let plan = Digits { micro_batches: ranks, of_rank_0: ranks, steps, ..Digits::short() };
            on_ranks(ranks, |world| {
                let outcome = train(&world, &device, &plan, AdamWConfig::default()).unwrap();
                (world.traffic(), outcome.room)
            })
        };
        for ((few, room), (many, _)) in traffic(2).into_iter().zip(traffic(6)) {
            let a_step = |of: fn(&Traffic) -> u64| (of(&many) - of(&few)) as f64 / 4.0 / room as f64;
            let (read, sent, written) = (a_step(|t| t.read), a_step(|t| t.sent), a_step(|t| t.written));
            let bound = 8.0 * (ranks as f64 - 1.0) / ranks as f64;
            // Besides gradients there are heads, and the running statistics of rank 0: 16 numbers for each other rank.
            let beside = 400.0 * ranks as f64 / room as f64;
            assert_eq!((read, written), if ranks == 1 { (0.0, 0.0) } else { (4.0, 4.0) });
            assert!(
                sent <= bound + beside && sent >= bound,
                "{ranks} ranks send {sent} bytes a parameter, not {bound}"
            );
        }
    }
}
