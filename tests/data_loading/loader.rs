//! The loader: order, chance, workers, resuming, and what goes wrong.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use kiln::data::{self, Bucketed, DataLoader, Dataset, Position, Sequence, Sharded, Shuffled, Weighted};
use kiln::train::checkpoint::Checkpoint;
use kiln::{Error, Result};

const ITEMS: u32 = 103;

fn numbers() -> data::Items<u32> {
    data::items((0..ITEMS).collect::<Vec<_>>())
}

/// Batches of a number and what chance makes of it.
fn loader(workers: usize) -> DataLoader<(u32, f64)> {
    DataLoader::new(numbers(), 8).shuffle(42).map(|n, random| (n, f64::from(n) + random.normal())).workers(workers)
}

type Batch = (Vec<u32>, Vec<u64>);

fn bits(loader: impl Iterator<Item = Result<(data::HostArray<u32>, data::HostArray<f64>)>>) -> Vec<Batch> {
    let batches = loader.map(Result::unwrap);
    batches.map(|(n, x)| (n.values, x.values.iter().map(|x| x.to_bits()).collect())).collect()
}

#[test]
fn any_number_of_workers_gives_the_same_bits() {
    let mut alone = loader(0);
    let two_epochs = [bits(alone.by_ref()), bits(alone.by_ref())];
    assert_ne!(two_epochs[0], two_epochs[1]);
    for workers in [1, 2, 7] {
        let mut loader = loader(workers).prefetch(1 + workers % 3);
        for epoch in &two_epochs {
            assert_eq!(bits(loader.by_ref()), *epoch, "{workers} workers");
        }
    }
}

#[test]
fn a_loader_that_is_resumed_in_mid_epoch_gives_the_rest_of_it() {
    let path = std::env::temp_dir().join(format!("kiln-data-{}.safetensors", std::process::id()));
    let mut whole = loader(2);
    bits(whole.by_ref());
    bits(whole.by_ref().take(5));
    assert_eq!(whole.position(), Position { epoch: 1, batch: 5 });
    Checkpoint::parts().part("data", &whole).save(&path).unwrap();
    let rest = bits(whole.by_ref());
    for workers in [0, 2, 7] {
        let mut resumed = loader(workers);
        Checkpoint::open(&path).unwrap().load().part("data", &mut resumed).finish().unwrap();
        assert_eq!(bits(resumed.by_ref()), rest, "{workers} workers");
    }
    let mut short = DataLoader::new(data::items([1u32, 2]), 1);
    let error = Checkpoint::open(&path).unwrap().load().part("data", &mut short).finish().unwrap_err();
    assert!(error.to_string().contains("batch 5 of an epoch that has 2"), "{error}");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn chance_depends_on_the_item_and_not_on_its_place() {
    let value_of = |batches: &[Batch]| -> BTreeMap<u32, u64> {
        batches.iter().flat_map(|(n, x)| n.iter().copied().zip(x.iter().copied())).collect()
    };
    let other_order = DataLoader::new(numbers(), 5).sample(data::InOrder, 42);
    let other = other_order.map(|n, random| (n, f64::from(n) + random.normal()));
    assert_eq!(value_of(&bits(loader(0))), value_of(&bits(other)));
}

#[test]
fn an_item_that_is_drawn_twice_is_changed_in_two_ways() {
    let weights = Weighted::new(&[1.0, 0.0], 64).unwrap();
    let loader = DataLoader::new(data::items([1u32, 2]), 64).sample(weights, 1).map(|n, random| (n, random.uniform()));
    let [(n, x)] = &bits(loader)[..] else { panic!("one batch") };
    assert!(n.iter().all(|&n| n == 1) && x[0] != x[1]);
}

#[test]
fn loaders_of_images_and_of_data_sets_have_the_same_order() {
    let digits = data::digits().train.limit(50);
    let plain: Vec<Vec<u32>> = digits.batches(16).shuffle(3).map(|batch| batch.labels).collect();
    let loader = DataLoader::new(digits, 16).shuffle(3).workers(2);
    let (mut labels, mut shapes) = (vec![], vec![]);
    for batch in loader {
        let (images, own) = batch.unwrap();
        labels.push(own.values);
        shapes.push(images.shape);
    }
    assert_eq!(labels, plain);
    assert_eq!((shapes[0].as_slice(), shapes[3].as_slice()), (&[16, 1, 8, 8][..], &[2, 1, 8, 8][..]));
}

/// Fails at 13, panics at 77.
struct Faulty;

impl Dataset for Faulty {
    type Item = u32;

    fn len(&self) -> usize {
        100
    }

    fn get(&self, index: usize) -> Result<u32> {
        match index {
            13 => Err(Error::Data { what: "it is unlucky".into(), next: "take another" }),
            77 => panic!("it is {index}"),
            _ => Ok(index as u32),
        }
    }

    fn name(&self, index: usize) -> Option<String> {
        Some(format!("folder/{index}.png"))
    }
}

#[test]
fn an_item_that_fails_ends_the_epoch_with_its_name() {
    for workers in [0, 1, 3] {
        let mut loader = DataLoader::new(Faulty, 10).workers(workers);
        assert!(loader.next().unwrap().is_ok());
        let error = loader.next().unwrap().unwrap_err();
        assert!(matches!(&error, Error::Item { index: 13, .. }), "{error}");
        assert_eq!(error.to_string(), "item 13 (folder/13.png): it is unlucky; take another");
        assert!(loader.next().is_none());
        loader.seek(Position { epoch: 0, batch: 7 }).unwrap();
        let error = loader.next().unwrap().unwrap_err();
        assert!(error.to_string().contains("folder/77.png") && error.to_string().contains("it is 77"), "{error}");
        assert!(loader.next().is_none());
    }
}

#[test]
fn items_that_fail_are_left_out_and_counted_on_request() {
    for workers in [0, 3] {
        let mut loader = DataLoader::new(Faulty, 10).skip_failed(true).workers(workers);
        let sizes: Vec<usize> = loader.by_ref().map(|batch| batch.unwrap().values.len()).collect();
        assert_eq!(sizes, [10, 9, 10, 10, 10, 10, 10, 9, 10, 10]);
        assert_eq!(loader.skipped(), 2);
        assert!(loader.last_skipped().unwrap().to_string().contains("item 77"));
        assert_eq!(loader.position(), Position { epoch: 1, batch: 0 });
    }
}

#[test]
fn a_batch_without_items_is_left_out() {
    let mut loader = DataLoader::new(Faulty, 1).skip_failed(true).workers(2);
    assert_eq!(loader.by_ref().map(Result::unwrap).count(), 98);
}

/// Counts the threads that hold it.
struct Held(Arc<AtomicUsize>);

impl Dataset for Held {
    type Item = u32;

    fn len(&self) -> usize {
        1000
    }

    fn get(&self, index: usize) -> Result<u32> {
        self.0.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(1));
        self.0.fetch_sub(1, Ordering::SeqCst);
        Ok(index as u32)
    }
}

#[test]
fn dropping_a_loader_in_mid_epoch_joins_its_threads() {
    let busy = Arc::new(AtomicUsize::new(0));
    let mut loader = DataLoader::new(Held(busy.clone()), 10).workers(4);
    assert!(loader.next().unwrap().is_ok());
    drop(loader);
    // Nobody is loading, and all that held the data set have let it go.
    assert_eq!((busy.load(Ordering::SeqCst), Arc::strong_count(&busy)), (0, 1));
}

/// Item 3 waits for a bell.
struct Waiting(Arc<(Mutex<bool>, Condvar)>);

impl Dataset for Waiting {
    type Item = u32;

    fn len(&self) -> usize {
        4
    }

    fn get(&self, index: usize) -> Result<u32> {
        let (rung, bell) = &*self.0;
        if index == 3 {
            drop(bell.wait_while(rung.lock().unwrap(), |rung| !*rung).unwrap());
        }
        Ok(index as u32)
    }
}

#[test]
fn a_worker_that_blocks_is_named_when_time_is_over_and_does_not_hold_the_loader() {
    let bell = Arc::new((Mutex::new(false), Condvar::new()));
    let mut loader = DataLoader::new(Waiting(bell.clone()), 1).workers(2).timeout(Duration::from_millis(200));
    assert_eq!(loader.by_ref().take(3).filter(Result::is_ok).count(), 3);
    let error = loader.next().unwrap().unwrap_err();
    assert!(error.to_string().contains("workers are at item 3"), "{error}");
    drop(loader);
    *bell.0.lock().unwrap() = true;
    bell.1.notify_all();
}

#[test]
fn sequences_are_padded_to_the_longest_of_their_batch() {
    let words = data::items(vec![Sequence(vec![1u32, 2, 3]), Sequence(vec![4]), Sequence(vec![])]);
    let batch = DataLoader::new(words, 3).next().unwrap().unwrap();
    assert_eq!((batch.values.shape, batch.lengths), (vec![3, 3], vec![3, 1, 0]));
    assert_eq!(batch.values.values, [1, 2, 3, 4, 0, 0, 0, 0, 0]);
}

#[test]
fn structs_become_batches_by_a_closure_and_names_by_a_map() {
    struct Item {
        n: u32,
    }
    let mut loader = DataLoader::new(numbers(), 50)
        .map(|n, _| Item { n })
        .collate(|items| Ok(items.iter().map(|item| item.n).sum::<u32>()))
        .workers(2);
    assert_eq!(loader.next().unwrap().unwrap(), (0..50).sum::<u32>());

    let named = |n: u32, _: &mut _| BTreeMap::from([("x".to_string(), n as f32), ("y".to_string(), 1.0)]);
    let batch = DataLoader::new(numbers(), 4).map(named).next().unwrap().unwrap();
    assert_eq!(batch["x"].values, [0.0, 1.0, 2.0, 3.0]);
}

#[test]
fn arrays_of_two_shapes_are_no_batch() {
    let array = |n: usize| data::HostArray::new([n], vec![0.0f32; n]).unwrap();
    let error = DataLoader::new(data::items(vec![array(2), array(3)]), 2).next().unwrap().unwrap_err();
    assert!(error.to_string().contains("item 1 of a batch has shape [3]"), "{error}");
}

#[test]
fn weights_draw_in_proportion_and_balance_classes() {
    let labels: Vec<u32> = (0..1000).map(|n| u32::from(n % 10 == 0)).collect();
    let set = data::items(labels.clone());
    let loader = DataLoader::new(set, 100).sample(Weighted::balanced(&labels).unwrap(), 7);
    let ones: u32 = loader.flat_map(|batch| batch.unwrap().values).sum();
    // Four standard deviations of a binomial count with mean 500.
    assert!(ones.abs_diff(500) < 4 * 16, "{ones}");
    assert!(Weighted::new(&[1.0, f64::NAN], 1).is_err() && Weighted::new(&[0.0], 1).is_err());
    let error = DataLoader::new(numbers(), 4).sample(Weighted::new(&[1.0], 3).unwrap(), 0).next().unwrap();
    assert!(error.unwrap_err().to_string().contains("1 weights for 103 items"));
}

#[test]
fn buckets_hold_items_of_about_one_length_and_all_of_them() {
    let lengths: Vec<usize> = (0..103).map(|n| n * 37 % 101).collect();
    let mut loader = DataLoader::new(numbers(), 10).sample(Bucketed::new(lengths.clone(), 100), 5);
    let batches: Vec<Vec<u32>> = loader.by_ref().map(|batch| batch.unwrap().values).collect();
    for batch in &batches[..10] {
        let lengths: Vec<usize> = batch.iter().map(|&n| lengths[n as usize]).collect();
        assert!(lengths.iter().max().unwrap() - lengths.iter().min().unwrap() < 12, "{lengths:?}");
    }
    let mut all = batches.concat();
    all.sort_unstable();
    assert_eq!(all, (0..ITEMS).collect::<Vec<_>>());
}

#[test]
fn shards_share_an_epoch_evenly() {
    let part = |rank| {
        let loader = DataLoader::new(numbers(), 9).sample(Sharded::new(Shuffled, rank, 4).unwrap(), 2);
        loader.flat_map(|batch| batch.unwrap().values).collect::<Vec<u32>>()
    };
    let parts: Vec<Vec<u32>> = (0..4).map(part).collect();
    assert!(parts.iter().all(|part| part.len() == 26));
    let mut all = parts.concat();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 103);
    assert!(Sharded::new(Shuffled, 4, 4).is_err());
}
