//! Data sets made of data sets, and their parts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kiln::Result;
use kiln::data::{self, Dataset, Split};

fn numbers(count: u32) -> data::Items<u32> {
    data::items((0..count).collect::<Vec<_>>())
}

fn all<D: Dataset>(set: &D) -> Vec<D::Item> {
    (0..set.len()).map(|index| set.get(index).unwrap()).collect()
}

#[test]
fn sets_are_mapped_cut_joined_and_paired() {
    let doubled = numbers(4).map(|n| 2 * n);
    let joined = doubled.concat(numbers(3).subset([2, 0]).unwrap().map(|n| n + 100));
    let _: Vec<u32> = all(&numbers(2));
    let joined = all(&joined.map(|n| n));
    assert_eq!(joined, [0, 2, 4, 6, 102, 100]);
    assert_eq!(all(&numbers(2).zip(numbers(2).map(|n| n as f32)).unwrap()), [(0, 0.0), (1, 1.0)]);
    assert!(numbers(2).zip(numbers(3)).is_err() && numbers(3).subset([3]).is_err());
    assert!(numbers(3).get(3).unwrap_err().to_string().contains("no item 3 among 3"));
}

#[test]
fn a_cache_loads_an_item_once() {
    let loads = Arc::new(AtomicUsize::new(0));
    let counter = loads.clone();
    let set = numbers(5).map(move |_| counter.fetch_add(1, Ordering::Relaxed) as u32).cache();
    assert_eq!(set.loaded(), 0);
    assert_eq!((set.get(2).unwrap(), set.get(2).unwrap(), set.loaded()), (0, 0, 1));
    assert_eq!(loads.load(Ordering::Relaxed), 1);
}

fn sorted(parts: &[&[usize]]) -> Vec<usize> {
    let mut items = parts.concat();
    items.sort_unstable();
    items
}

#[test]
fn a_split_is_a_partition_that_the_seed_chooses() {
    let cut = |seed| data::split(numbers(101), Split::Random, &[0.7, 0.3], seed).unwrap();
    let parts = cut(1);
    assert_eq!((parts[0].len(), parts[1].len()), (71, 30));
    assert_eq!(sorted(&[parts[0].indices(), parts[1].indices()]), (0..101).collect::<Vec<_>>());
    assert_eq!(parts[0].indices(), cut(1)[0].indices());
    assert_ne!(parts[0].indices(), cut(2)[0].indices());
}

#[test]
fn a_stratified_split_gives_each_part_its_share_of_each_class() {
    let classes: Vec<u32> = (0..200).map(|n| u32::from(n % 10 == 0)).collect();
    let parts = data::split(numbers(200), Split::Stratified(&classes), &[0.75, 0.25], 1).unwrap();
    let ones = |part: &data::Portion<_>| part.indices().iter().filter(|&&index| classes[index] == 1).count();
    assert_eq!((ones(&parts[0]), ones(&parts[1])), (15, 5));
}

#[test]
fn a_class_of_one_item_cannot_be_in_two_parts() {
    let error = data::split(numbers(5), Split::Stratified(&[0, 0, 0, 0, 3]), &[0.5, 0.5], 1).unwrap_err();
    assert!(error.to_string().starts_with("class 3: 1 items for 2 parts; leave the class out"), "{error}");
}

#[test]
fn groups_stay_whole() {
    let groups: Vec<u32> = (0..90).map(|n| n / 7).collect();
    let parts = data::split(numbers(90), Split::Groups(&groups), &[0.5, 0.5], 4).unwrap();
    let of = |part: &data::Portion<_>| part.indices().iter().map(|&index| groups[index]).collect::<Vec<_>>();
    assert!(of(&parts[0]).iter().all(|group| !of(&parts[1]).contains(group)));
    assert!(parts[0].len().abs_diff(parts[1].len()) <= 7);
    assert!(data::split(numbers(4), Split::Groups(&[1, 1, 1, 1]), &[0.5, 0.5], 4).is_err());
}

#[test]
fn each_item_is_tested_in_one_fold() -> Result<()> {
    let folds = data::k_fold(numbers(11), Split::Random, 3, 8)?;
    let tests: Vec<&[usize]> = folds.iter().map(|(_, test)| test.indices()).collect();
    assert_eq!(sorted(&tests), (0..11).collect::<Vec<_>>());
    for (train, test) in &folds {
        assert_eq!(sorted(&[train.indices(), test.indices()]), (0..11).collect::<Vec<_>>());
    }
    Ok(())
}

#[test]
fn folds_shares_and_lists_that_do_not_fit_are_errors() {
    for k in [0, 1, 12] {
        let error = data::k_fold(numbers(11), Split::Random, k, 8).unwrap_err();
        assert!(error.to_string().contains(&format!("{k} folds of 11 items")), "{error}");
    }
    for shares in [&[][..], &[0.0, 1.0], &[0.9, 0.2], &[f64::NAN]] {
        assert!(data::split(numbers(11), Split::Random, shares, 1).is_err(), "{shares:?}");
    }
    let error = data::split(numbers(3), Split::Stratified(&[0, 1]), &[0.5], 1).unwrap_err();
    assert!(error.to_string().contains("2 classes for 3 items"), "{error}");
}

#[test]
fn windows_are_whole_and_lie_side_by_side() {
    let windows = data::window(numbers(10), 4, 3).unwrap();
    assert_eq!(all(&windows), [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]);
    assert_eq!(data::window(numbers(3), 4, 1).unwrap().len(), 0);
    assert!(data::window(numbers(3), 0, 1).is_err() && windows.get(3).is_err());
}
