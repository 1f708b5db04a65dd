//! Charts: their text is XML that stands alone, and shows every line.

use kiln::plot::Chart;
use kiln::schedule;

/// Names of the elements of an XML text; panics where it is not well-formed.
fn elements(text: &str) -> Vec<String> {
    let (mut open, mut found, mut rest) = (vec![], vec![], text);
    while let Some((before, after)) = rest.split_once('<') {
        check_text(before);
        let (tag, after) = after.split_once('>').expect("a tag that ends");
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "</{name}>");
            continue;
        }
        let closed = tag.strip_suffix('/');
        let (name, attributes) = closed.unwrap_or(tag).split_once(' ').unwrap_or((closed.unwrap_or(tag), ""));
        assert!(!name.is_empty() && name.chars().all(|c| c.is_ascii_alphabetic()), "<{tag}>");
        check_attributes(attributes);
        found.push(name.to_string());
        if closed.is_none() {
            open.push(name);
        }
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} left open, {rest:?} behind");
    assert_eq!(found.iter().filter(|name| *name == "svg").count(), 1, "one root");
    found
}

fn check_text(text: &str) {
    for entity in text.split('&').skip(1) {
        let name = entity.split_once(';').map(|(name, _)| name);
        assert!(name.is_some_and(|name| ["amp", "lt", "gt", "quot"].contains(&name)), "&{entity}");
    }
    assert!(!text.contains('>') && !text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
}

fn check_attributes(mut rest: &str) {
    let mut names = vec![];
    while !rest.trim().is_empty() {
        let (name, value) = rest.split_once("=\"").expect("an attribute in quotes");
        let (value, after) = value.split_once('"').expect("a closing quote");
        check_text(value);
        let name = name.trim();
        assert!(!names.contains(&name) && !name.contains([' ', '"']), "{name} twice, or odd");
        assert!(!value.contains("NaN") && !value.contains("inf"), "{name}={value}");
        names.push(name);
        rest = after;
    }
}

/// The paths of lines, by the name that they have in the chart.
fn lines(text: &str) -> Vec<(&str, &str)> {
    let tails = text.split("<path class=\"line s").skip(1);
    tails
        .filter_map(|tail| {
            let (path, behind) = tail.split_once("d=\"")?.1.split_once('"')?;
            let (name, _) = behind.strip_prefix("><title>")?.split_once("</title>")?;
            Some((name, path))
        })
        .collect()
}

#[test]
fn a_chart_is_well_formed_and_has_every_line() {
    let (cosine, noam) = (schedule::cosine(1e-3, 1000).warm_up(100), schedule::noam(512, 400));
    let mut chart = Chart::new("Rates").axes("step", "rate");
    for (name, schedule) in [("cosine", &cosine), ("noam", &noam)] {
        chart = chart.line(name, schedule.points(1000));
    }
    let text = chart.svg();
    let elements = elements(&text);
    assert!(!elements.iter().any(|name| ["script", "image", "a", "foreignObject"].contains(&name.as_str())));
    assert!(text.contains("prefers-color-scheme:dark") && !text.contains("url("));
    let names: Vec<&str> = lines(&text).iter().map(|line| line.0).collect();
    assert_eq!(names, ["cosine", "noam"]);
    // In the legend, and on the axes.
    for words in [">cosine</text>", ">noam</text>", ">step</text>", ">rate</text>", ">200</text>", ">0.0005</text>"] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn a_line_goes_where_its_numbers_are() {
    let text = Chart::new("").line("up", [(0.0, 0.0), (10.0, 10.0)]).line("down", [(0.0, 10.0), (10.0, 0.0)]).svg();
    elements(&text);
    // 72 from the left for labels, 28 from the right; the title and a row of names above, 52 below.
    assert_eq!(lines(&text), [("up", "M72.0 388.0h0L692.0 64.0"), ("down", "M72.0 64.0h0L692.0 388.0")]);
}

#[test]
fn a_schedule_draws_itself() {
    let text = schedule::cosine_restarts(1e-3, 100, Default::default()).plot(1000);
    elements(&text);
    let [(name, path)] = lines(&text)[..] else { panic!("{text}") };
    assert!(name == "rate" && path.matches('L').count() > 500, "{path}");
    elements(&schedule::cosine(1e-3, u64::MAX).plot(u64::MAX));
    elements(&schedule::constant(0.0).plot(0));
}

#[test]
fn hostile_names_stay_text() {
    let name = "</title><script>alert(\"1\")</script>&\u{0}\u{7}\u{ffff}\n";
    let text = Chart::new(name).axes(name, name).line(name, [(0.0, 1.0)]).line(name, []).svg();
    assert!(!elements(&text).contains(&"script".to_string()));
}

#[test]
fn what_cannot_be_drawn_leaves_a_gap() {
    let nan = f64::NAN;
    let points = [(0.0, 1.0), (1.0, 2.0), (2.0, nan), (3.0, 1.0), (4.0, f64::INFINITY), (nan, 1.0), (6.0, 2.0)];
    let text = Chart::new("").line("a", points).svg();
    elements(&text);
    let path = lines(&text)[0].1;
    assert_eq!((path.matches('M').count(), path.matches('L').count()), (3, 1), "{path}");

    let text = Chart::new("").log().line("a", [(0.0, 1.0), (1.0, 0.0), (2.0, -1.0), (3.0, 1e-3)]).svg();
    elements(&text);
    let path = lines(&text)[0].1;
    assert_eq!((path.matches('M').count(), path.matches('L').count()), (2, 0), "{path}");
    for label in ["1", "0.1", "0.01", "0.001"] {
        assert!(text.contains(&format!(">{label}</text>")), "{label}");
    }
}

#[test]
fn odd_numbers_give_charts_too() {
    let odd = [0.0, -0.0, 1e-320, -1e-320, 1e-300, 5.0, -5.0, 5.0 + 1e-14, 1e299, -1e299, f64::MAX, f64::MIN, 1e18];
    for a in odd {
        for b in odd {
            for chart in [Chart::new("odd"), Chart::new("odd").log()] {
                let text = chart.line("ab", [(a, b), (b, a), (0.5, a)]).svg();
                elements(&text);
                assert!(text.len() < 20_000, "{} bytes for {a:e} and {b:e}", text.len());
            }
        }
    }
    elements(&Chart::new("").svg());
    elements(&Chart::new("").line("", []).svg());
}

#[test]
fn a_long_line_has_a_short_text_and_keeps_its_peaks() {
    let number = |n| match n {
        345_678 => 100.0,
        543_210 => -100.0,
        _ => f64::from(n % 10),
    };
    let text = Chart::new("").line("loss", (0..1_000_000).map(|n| (f64::from(n), number(n)))).svg();
    elements(&text);
    let path = lines(&text)[0].1;
    assert!(path.len() < 60_000, "{} bytes", path.len());
    // Top and bottom of the chart.
    assert!(path.contains(" 44.0L") && path.contains(" 368.0L"), "{path}");
}

#[test]
fn many_lines_have_many_names() {
    let chart =
        (0..40).fold(Chart::new("many"), |chart, n| chart.line(format!("line {n}"), [(0.0, 0.0), (1.0, n.into())]));
    let text = chart.svg();
    elements(&text);
    assert_eq!(lines(&text).len(), 40);
    assert!((0..40).all(|n| text.contains(&format!(">line {n}</text>"))));
    assert!(text.contains("s0 dashed"));
}
