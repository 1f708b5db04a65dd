//! What a space may be, and what its points are.

use kiln::Error;
use kiln::search::{Point, Random, Space, Study, StudyConfig, Value};

/// What is wrong with a space: the parameter at fault, and the message.
fn refused(space: Space) -> (String, String) {
    let error = Study::new(space, Random, StudyConfig::default()).unwrap_err();
    let message = error.to_string();
    let Error::Setting { name, .. } = error else { panic!("{message}") };
    (name, message)
}

#[test]
fn a_space_without_parameters_is_refused() {
    assert_eq!(refused(Space::new()).0, "space");
}

#[test]
fn bounds_that_are_not_finite_or_in_the_wrong_order_are_refused() {
    let (nan, infinite) = (f64::NAN, f64::INFINITY);
    for (low, high) in [(nan, 1.0), (0.0, nan), (0.0, infinite), (-infinite, 0.0), (-1.7e308, 1.7e308), (1.0, 0.0)] {
        assert_eq!(refused(Space::new().uniform("x", low, high)).0, "x", "{low}..{high}");
    }
    for (low, high) in [(0.0, 1.0), (-1.0, 1.0), (nan, 1.0), (1.0, infinite), (2.0, 1.0)] {
        assert_eq!(refused(Space::new().log_uniform("x", low, high)).0, "x", "{low}..{high}");
    }
    assert!(refused(Space::new().integer("n", 3, 2)).1.contains("swap the bounds"));
    assert!(refused(Space::new().integer("n", i64::MIN, i64::MAX)).1.contains("2^53"));
    assert!(refused(Space::new().log_integer("n", 0, 9)).1.contains("at least 1"));
}

#[test]
fn choices_names_and_conditions_must_make_sense() {
    let optimizer = || Space::new().choice("optimizer", ["sgd", "adamw"]);
    assert!(refused(Space::new().choice("c", [""; 0])).1.contains("without options"));
    assert!(refused(Space::new().choice("c", ["a", "b", "a"])).1.contains("twice"));
    assert!(refused(optimizer().uniform("optimizer", 0.0, 1.0)).1.contains("this name"));
    let depends = |space: Space, on: &str, option: &str| space.when(on, [option], |space| space.uniform("m", 0.0, 1.0));
    assert!(refused(depends(optimizer(), "optimiser", "sgd")).1.contains("no choice before it"));
    assert!(refused(depends(optimizer(), "optimizer", "adam")).1.contains("options that the choice has"));
    assert!(refused(depends(Space::new().uniform("x", 0.0, 1.0), "x", "1")).1.contains("no choice before it"));
}

#[test]
fn a_point_has_the_parameters_that_are_active() {
    let space = Space::new()
        .choice("a", ["p", "q"])
        .when("a", ["q"], |space| space.choice("b", ["r", "s"]).when("b", ["s"], |space| space.uniform("c", 0.0, 1.0)));
    let names = |units: [f64; 3]| space.at(&units).iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>();
    assert_eq!(names([0.1, 0.9, 0.5]), ["a"]);
    assert_eq!(names([0.9, 0.1, 0.5]), ["a", "b"]);
    assert_eq!(names([0.9, 0.9, 0.5]), ["a", "b", "c"]);
}

#[test]
fn values_and_places_are_each_other_s_inverse() {
    let space = Space::new()
        .uniform("u", -3.0, 7.0)
        .log_uniform("l", 1e-6, 1e3)
        .integer("i", -5, 5)
        .log_integer("w", 1, 1024)
        .choice("c", ["x", "y", "z"]);
    for place in 0..=100 {
        let point = space.at(&[f64::from(place) / 100.0; 5]);
        let units: Vec<f64> = space.units(&point).into_iter().flatten().collect();
        let again = space.at(&units);
        for ((name, value), (_, other)) in point.iter().zip(again.iter()) {
            match (value, other) {
                (Value::Float(value), Value::Float(other)) => {
                    assert!((value - other).abs() <= 1e-12 * value.abs().max(1.0), "{name}: {value} {other}");
                }
                _ => assert_eq!(value, other, "{name}"),
            }
        }
    }
    // Both ends are values; what lies outside, or nowhere, counts as one.
    for (unit, value) in [(0.0, -3.0), (1.0, 7.0), (-9.0, -3.0), (9.0, 7.0), (f64::NAN, 2.0)] {
        assert_eq!(space.at(&[unit; 5]).float("u").unwrap(), value);
    }
    assert_eq!(space.at(&[0.0; 5]).integer("w").unwrap(), 1);
    assert_eq!(space.at(&[1.0; 5]).integer("w").unwrap(), 1024);
}

#[test]
fn every_integer_and_option_has_its_share() {
    let space = Space::new().integer("i", 1, 4).choice("c", ["x", "y"]).log_integer("w", 1, 100);
    let mut counts = [0; 6];
    let mut small = 0;
    for draw in 0..4000 {
        let unit = (f64::from(draw) + 0.5) / 4000.0;
        let point = space.at(&[unit; 3]);
        counts[point.integer("i").unwrap() as usize - 1] += 1;
        counts[if point.choice("c").unwrap() == "x" { 4 } else { 5 }] += 1;
        small += i32::from(point.integer("w").unwrap() <= 10);
    }
    assert_eq!(counts, [1000, 1000, 1000, 1000, 2000, 2000]);
    // A factor of 21 (from 0.5 to 10.5) of the 201 in all.
    assert!((f64::from(small) / 4000.0 - 21f64.ln() / 201f64.ln()).abs() < 0.01, "{small}");
}

#[test]
fn what_a_point_has_not_is_an_error() {
    let point = Space::new().integer("width", 1, 1).at(&[0.5]);
    assert!(matches!(point.float("width"), Err(Error::Setting { name, .. }) if name == "width"));
    assert!(matches!(point.integer("depth"), Err(Error::Setting { name, .. }) if name == "depth"));
    assert!(matches!(Point::default().choice("width"), Err(Error::Setting { .. })));
}
