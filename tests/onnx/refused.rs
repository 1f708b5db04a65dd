//! Files that are not what they should be: each is an error that says where, none a panic.

use kiln::prelude::*;

use super::write::*;

fn load(graph: &[u8]) -> Result<kiln::onnx::Model> {
    kiln::onnx::load_bytes(&model(graph, 21), &Device::cpu())
}

/// The text of what is wrong with a model.
fn wrong(graph: &[u8]) -> String {
    match load(graph) {
        Err(Error::Onnx { what, .. }) => what,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("it was taken"),
    }
}

fn missing(graph: &[u8]) -> String {
    match load(graph) {
        Err(Error::Unsupported { what }) => what,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("it was taken"),
    }
}

/// A graph from `x` to `y`.
fn simple(nodes: &[Vec<u8>], stored: &[Vec<u8>]) -> Vec<u8> {
    graph(nodes, stored, &[port("x", &[2])], &[port("y", &[2])])
}

#[test]
fn a_small_model_runs() {
    let add = node("Add", &["x", "b"], &["y"], &[]);
    let model = load(&simple(&[add], &[tensor("b", &[2], &[10.0, 20.0])])).unwrap();
    assert_eq!(model.params().names(), ["b"]);
    let y = &model.forward(&[model.params().device().tensor(&[1.0f32, 2.0], &[2])], Mode::Eval)[0];
    assert_eq!(y.to_vec::<f32>().unwrap(), [11.0, 22.0]);
}

#[test]
fn nodes_run_in_the_order_that_they_need() {
    let nodes = [node("Neg", &["h"], &["y"], &[]), node("Abs", &["x"], &["h"], &[])];
    let model = load(&simple(&nodes, &[])).unwrap();
    let y = &model.forward(&[model.params().device().tensor(&[1.0f32, -2.0], &[2])], Mode::Eval)[0];
    assert_eq!(y.to_vec::<f32>().unwrap(), [-1.0, -2.0]);
}

#[test]
fn a_circle_is_named() {
    let nodes =
        [node("Add", &["x", "b"], &["a"], &[]), node("Neg", &["a"], &["b"], &[]), node("Abs", &["a"], &["y"], &[])];
    let what = wrong(&simple(&nodes, &[]));
    assert!(what.contains("circle") && what.contains("Add `the Add`"), "{what}");
}

#[test]
fn a_name_that_nothing_gives_is_named() {
    let what = wrong(&simple(&[node("Add", &["x", "z"], &["y"], &[])], &[]));
    assert!(what.contains("`z` is used, but nothing gives it"), "{what}");
    let what = wrong(&simple(&[], &[]));
    assert!(what.contains("`y` is used"), "{what}");
}

#[test]
fn a_name_that_is_given_twice_is_named() {
    let twice = [node("Neg", &["x"], &["y"], &[]), node("Abs", &["x"], &["y"], &[])];
    assert!(wrong(&simple(&twice, &[])).contains("`y` is also that of Neg"));
    let stored = [tensor("b", &[2], &[1.0, 2.0]), tensor("b", &[2], &[1.0, 2.0])];
    assert!(wrong(&simple(&[node("Add", &["x", "b"], &["y"], &[])], &stored)).contains("two stored tensors"));
    let inputs =
        graph(&[node("Neg", &["x"], &["y"], &[])], &[], &[port("x", &[2]), port("x", &[2])], &[port("y", &[2])]);
    assert!(wrong(&inputs).contains("two inputs are called `x`"));
}

#[test]
fn all_that_kiln_has_not_is_said_at_once() {
    let nodes = [
        node("Frobnicate", &["x"], &["a"], &[]),
        node("Softmax", &["a"], &["b"], &[int("temperature", 3)]),
        node("SequenceMap", &["b"], &["y"], &[]),
    ];
    let what = missing(&simple(&nodes, &[]));
    for part in ["Frobnicate `the Frobnicate`", "Softmax `the Softmax`: attribute `temperature`", "`SequenceMap`"] {
        assert!(what.contains(part), "{part} is not in {what}");
    }
    let error = kiln::onnx::load_bytes(&model(&simple(&[node("Neg", &["x"], &["y"], &[])], &[]), 99), &Device::cpu());
    assert!(matches!(error, Err(Error::Unsupported { what }) if what.contains("version 99")));
    let quantised = [number(1, 2), number(2, 22), bytes(8, "q"), bytes(9, [0u8])].concat();
    assert!(missing(&simple(&[node("Cast", &["q"], &["y"], &[])], &[quantised])).contains("int4"));
}

#[test]
fn shapes_that_lie_are_refused() {
    let neg = || node("Add", &["x", "b"], &["y"], &[]);
    let lies = |dims: &[i64]| wrong(&simple(&[neg()], &[tensor("b", dims, &[1.0, 2.0])]));
    assert!(lies(&[3]).contains("comes with 2 elements"));
    assert!(lies(&[-1]).contains("length -1"));
    for absurd in [&[i64::MAX][..], &[1 << 31, 1 << 31], &[1 << 20, 1 << 20, 1 << 20]] {
        let what = lies(absurd);
        assert!(what.contains("more elements") || what.contains("comes with"), "{what}");
    }
    let what = wrong(&simple(&[neg()], &[tensor("b", &[0, 5], &[1.0])]));
    assert!(what.contains("comes with 1"), "{what}");
}

#[test]
fn absurd_sizes_are_refused_while_recording() {
    let device = Device::cpu();
    for (op, shape) in [("ConstantOfShape", [1i64 << 40].as_slice()), ("ConstantOfShape", &[-3])] {
        let graph = graph(&[node(op, &["s"], &["y"], &[])], &[wholes("s", shape)], &[], &[port("y", &[])]);
        let model = kiln::onnx::load_bytes(&model(&graph, 21), &device).unwrap();
        assert!(model.forward(&[], Mode::Eval)[0].error().is_some());
    }
    let range = graph(
        &[node("Range", &["a", "b", "c"], &["y"], &[])],
        &[wholes("a", &[0]), wholes("b", &[i64::MAX]), wholes("c", &[1])],
        &[],
        &[port("y", &[])],
    );
    let model = kiln::onnx::load_bytes(&model(&range, 21), &device).unwrap();
    assert!(model.forward(&[], Mode::Eval)[0].error().is_some());
}

#[test]
fn sizes_within_a_node_that_are_absurd_are_refused_before_anything_is_set_aside() {
    let device = Device::cpu();
    let error = |node: Vec<u8>, stored: &[Vec<u8>], input: &[i64]| {
        let file = graph(&[node], stored, &[port("x", input)], &[port("y", &[])]);
        let model = kiln::onnx::load_bytes(&model(&file, 21), &device).unwrap();
        let shape: Vec<usize> = input.iter().map(|&length| length as usize).collect();
        model.forward(&[device.zeros(&shape)], Mode::Eval)[0].error().expect("a refusal").to_string()
    };
    let sides = [tensor("s", &[3], &[1.0; 3]), tensor("b", &[3], &[0.0; 3])];
    let groups = node("GroupNormalization", &["x", "s", "b"], &["y"], &[int("num_groups", 3)]);
    assert!(error(groups, &sides, &[3]).contains("groups of"));
    let region = [tensor("r", &[1, 4], &[0.0, 0.0, 2.0, 2.0]), wholes("i", &[0])];
    let many = [int("output_height", 1 << 62), int("output_width", 1), int("sampling_ratio", 4)];
    assert!(error(node("RoiAlign", &["x", "r", "i"], &["y"], &many), &region, &[1, 1, 4, 4]).contains("a region of"));
    let mel = ["a", "b", "c", "d", "e"];
    let numbers = [65_536, 1 << 20, 16_000, 0, 8_000];
    let stored: Vec<Vec<u8>> = mel.iter().zip(numbers).map(|(name, value)| wholes(name, &[value])).collect();
    let file = graph(&[node("MelWeightMatrix", &mel, &["y"], &[])], &stored, &[], &[port("y", &[])]);
    let model = kiln::onnx::load_bytes(&model(&file, 21), &device).unwrap();
    assert!(model.forward(&[], Mode::Eval)[0].error().is_some());
}

#[test]
fn a_stored_tensor_that_kiln_has_not_is_named_even_where_it_is_listed_among_the_inputs() {
    let float8 = [number(1, 2), number(2, 17), bytes(8, "q"), bytes(9, [0u8; 2])].concat();
    let cast = node("Cast", &["q"], &["y"], &[int("to", 1)]);
    let listed = graph(std::slice::from_ref(&cast), &[float8], &[port("q", &[2])], &[port("y", &[2])]);
    assert!(missing(&listed).contains("float8"));
    let sparse = bytes(15, bytes(1, tensor("q", &[2], &[1.0, 2.0])));
    let graph = [graph(&[cast], &[], &[], &[port("y", &[2])]), sparse].concat();
    assert!(missing(&graph).contains("`q` is sparse"));
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let model = load(&simple(&[node("Neg", &["x"], &["y"], &[])], &[])).unwrap();
    let device = model.params().device();
    let error = |inputs: &[Tensor]| model.forward(inputs, Mode::Eval)[0].error().cloned().unwrap().to_string();
    assert!(error(&[]).contains("0 inputs for a model that takes 1: x"));
    assert!(error(&[device.zeros(&[3])]).contains("input `x`: shape [3] where [2] is wanted"));
    assert!(error(&[device.labels(&[1, 2])]).contains("a tensor of u32 where float32 (f32) is wanted"));
}

#[test]
fn the_error_of_an_op_names_its_node() {
    let bad = node("MatMul", &["x", "b"], &["y"], &[]);
    let model = load(&simple(&[bad], &[tensor("b", &[3, 2], &[0.0; 6])])).unwrap();
    let y = &model.forward(&[model.params().device().zeros(&[2])], Mode::Eval)[0];
    let error = y.error().unwrap().to_string();
    assert!(error.contains("MatMul `the MatMul`"), "{error}");
}

#[test]
fn a_condition_that_is_known_chooses_a_graph() {
    let branch_of = |op: &str| graph(&[node(op, &["x"], &["r"], &[])], &[], &[], &[port("r", &[2])]);
    let choose = node(
        "If",
        &["c"],
        &["y"],
        &[branch("then_branch", &branch_of("Neg")), branch("else_branch", &branch_of("Abs"))],
    );
    let condition = |value: u8| [number(2, 9), bytes(8, "c"), bytes(9, [value])].concat();
    for (value, wanted) in [(1, [-1.0, 2.0]), (0, [1.0, 2.0])] {
        let model = load(&simple(std::slice::from_ref(&choose), &[condition(value)])).unwrap();
        let y = &model.forward(&[model.params().device().tensor(&[1.0f32, -2.0], &[2])], Mode::Eval)[0];
        assert_eq!(y.to_vec::<f32>().unwrap(), wanted);
    }
}

#[test]
fn a_condition_that_is_passed_may_be_a_number_of_the_program() {
    let branch_of = |op: &str| graph(&[node(op, &["x"], &["r"], &[])], &[], &[], &[port("r", &[2])]);
    let choose = node(
        "If",
        &["c"],
        &["y"],
        &[branch("then_branch", &branch_of("Neg")), branch("else_branch", &branch_of("Abs"))],
    );
    let condition = bytes(1, "c").into_iter().chain(bytes(2, bytes(1, [number(1, 9), bytes(2, vec![])].concat())));
    let file = graph(&[choose], &[], &[port("x", &[2]), condition.collect()], &[port("y", &[2])]);
    for device in [Device::cpu(), Device::best().unwrap()] {
        let model = kiln::onnx::load_bytes(&super::write::model(&file, 21), &device).unwrap();
        for (value, wanted) in [(true, [-1.0, 2.0]), (false, [1.0, 2.0])] {
            let x = device.tensor(&[1.0f32, -2.0], &[2]);
            let filled = device.full(&[], f64::from(u8::from(value)), DType::Bool);
            for condition in [device.tensor(&[value], &[]), filled] {
                let y = &model.forward(&[x.clone(), condition], Mode::Eval)[0];
                assert_eq!(y.to_vec::<f32>().unwrap(), wanted);
            }
        }
        assert_eq!(device.full(&[], 2.0, DType::F32).to_vec::<f32>().unwrap(), [2.0]);
    }
}

#[test]
fn truncated_files_are_refused_or_taken_without_a_panic() {
    let whole = model(&simple(&[node("Add", &["x", "b"], &["y"], &[])], &[tensor("b", &[2], &[1.0, 2.0])]), 21);
    for length in 0..whole.len() {
        assert!(kiln::onnx::load_bytes(&whole[..length], &Device::cpu()).is_err(), "{length} bytes of {}", whole.len());
    }
}

/// A stored tensor of two f32 whose data are at `location`.
fn beside(location: &str, offset: i64) -> Vec<u8> {
    let entry = |key: &str, value: &str| bytes(13, [bytes(1, key), bytes(2, value)].concat());
    let place = [entry("location", location), entry("offset", &offset.to_string())].concat();
    [number(1, 2), number(2, 1), bytes(8, "b"), place, number(14, 1)].concat()
}

#[test]
fn data_beside_the_file_are_read_and_none_from_elsewhere() {
    let root = std::env::temp_dir().join(format!("kiln-onnx-{}", std::process::id()));
    let folder = root.join("model");
    std::fs::create_dir_all(&folder).unwrap();
    let data: Vec<u8> = [7.0f32, 8.0, 9.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(folder.join("b.bin"), &data).unwrap();
    std::fs::write(root.join("outside.bin"), &data).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(root.join("outside.bin"), folder.join("link.bin")).unwrap();
    let load = |location: &str, offset: i64| {
        let file = model(&simple(&[node("Add", &["x", "b"], &["y"], &[])], &[beside(location, offset)]), 21);
        std::fs::write(folder.join("model.onnx"), file).unwrap();
        kiln::onnx::load(folder.join("model.onnx"), &Device::cpu())
    };
    let model = load("b.bin", 4).unwrap();
    assert_eq!(model.params().get("b").unwrap().values().unwrap(), [8.0, 9.0]);
    for (location, offset, why) in [
        ("../outside.bin", 0, "outside of the model's folder"),
        ("/etc/passwd", 0, "outside of the model's folder"),
        ("b.bin", 8, "leave `b.bin`"),
        ("b.bin", -1, "is no number"),
        ("link.bin", 0, "is a link"),
        ("none.bin", 0, "none.bin"),
    ] {
        if cfg!(not(unix)) && location == "link.bin" {
            continue;
        }
        let error = load(location, offset).unwrap_err().to_string();
        assert!(error.contains(why), "{location}: {error}");
    }
    let file = simple(&[node("Add", &["x", "b"], &["y"], &[])], &[beside("b.bin", 0)]);
    let error = kiln::onnx::load_bytes(&super::write::model(&file, 21), &Device::cpu()).unwrap_err();
    assert!(error.to_string().contains("another file"), "{error}");
    std::fs::remove_dir_all(&root).unwrap();
}

#[test]
fn a_loop_is_as_many_turns_and_one_without_end_is_refused() {
    // Doubles what it carries, and keeps it.
    let flag = |name: &str| bytes(1, name).into_iter().chain(bytes(2, bytes(1, number(1, 9)))).collect::<Vec<u8>>();
    let turns = [
        node("Identity", &["go"], &["on"], &[]),
        node("Add", &["v", "v"], &["w"], &[]),
        node("Identity", &["w"], &["seen"], &[]),
    ];
    let body = graph(
        &turns,
        &[],
        &[bytes(1, "turn"), flag("go"), port("v", &[2])],
        &[flag("on"), port("w", &[2]), port("seen", &[2])],
    );
    let looped = |count: &str| node("Loop", &[count, "", "x"], &["last", "y"], &[branch("body", &body)]);
    let file = |count: &str, stored: &[Vec<u8>]| {
        graph(&[looped(count)], stored, &[port("x", &[2])], &[port("y", &[3, 2]), port("last", &[2])])
    };
    let model = load(&file("n", &[wholes("n", &[3])])).unwrap();
    let x = model.params().device().tensor(&[1.0f32, -2.0], &[2]);
    let results = model.forward(std::slice::from_ref(&x), Mode::Eval);
    assert_eq!(results[0].to_vec::<f32>().unwrap(), [2.0, -4.0, 4.0, -8.0, 8.0, -16.0]);
    assert_eq!(results[1].to_vec::<f32>().unwrap(), [8.0, -16.0]);
    let endless = load(&file("", &[])).unwrap();
    let error = endless.forward(&[x], Mode::Eval)[0].error().unwrap().to_string();
    assert!(error.contains("more than 1024 turns"), "{error}");
    let nested = graph(&[looped("n")], &[wholes("n", &[2])], &[bytes(1, "turn"), flag("go")], &[flag("go")]);
    let outer = node("Loop", &["n", ""], &["y"], &[branch("body", &nested)]);
    assert!(missing(&simple(&[outer], &[wholes("n", &[2])])).contains("a loop within a graph"));
}

#[test]
fn a_graph_of_a_loop_that_takes_or_gives_too_little_is_named() {
    let flag = |name: &str| bytes(1, name).into_iter().chain(bytes(2, bytes(1, number(1, 9)))).collect::<Vec<u8>>();
    let turns = [
        node("Identity", &["go"], &["on"], &[]),
        node("Add", &["v", "v"], &["w"], &[]),
        node("Identity", &["w"], &["seen"], &[]),
    ];
    let error = |node: Vec<u8>| {
        let file = graph(&[node], &[wholes("n", &[3])], &[port("x", &[2])], &[port("y", &[])]);
        let model = load(&file).unwrap();
        let y = &model.forward(&[model.params().device().tensor(&[1.0f32, -2.0], &[2])], Mode::Eval)[0];
        y.error().expect("a refusal").to_string()
    };
    let takes = |inputs: &[Vec<u8>], outputs: &[Vec<u8>]| branch("body", &graph(&turns, &[], inputs, outputs));
    let inputs = [bytes(1, "turn"), flag("go"), port("v", &[2])];
    let outputs = [flag("on"), port("w", &[2]), port("seen", &[2])];
    let looped = |body: Vec<u8>| error(node("Loop", &["n", "", "x"], &["last", "y"], &[body]));
    // The sums that each turn gives are not there, or those that go on are not, or there is no condition.
    let told = looped(takes(&inputs, &outputs[..2]));
    assert!(told.contains("Loop `the Loop`: it has 2 outputs, of which its graph gives 1"), "{told}");
    let told = looped(takes(&inputs, &outputs[..1]));
    assert!(told.contains("its graph gives 1 values, where 2 are wanted at least"), "{told}");
    let told = looped(takes(&inputs, &[]));
    assert!(told.contains("its graph gives 0 values"), "{told}");
    let unused = [node("Identity", &["go"], &["on"], &[]), node("Identity", &["go"], &["w"], &[])];
    let fewer = branch("body", &graph(&unused, &[], &inputs[..2], &[flag("on"), flag("w"), flag("w")]));
    let told = looped(fewer);
    assert!(told.contains("its graph takes 2 inputs and gets 3"), "{told}");
    let scanned = |inputs: &[Vec<u8>], outputs: &[Vec<u8>]| {
        let sums = [node("Add", &["s", "v"], &["t"], &[]), node("Identity", &["v"], &["seen"], &[])];
        let body = branch("body", &graph(&sums, &[], inputs, outputs));
        error(node("Scan", &["x", "x"], &["last", "y"], &[body, int("num_scan_inputs", 1)]))
    };
    let (inputs, outputs) = ([port("s", &[2]), port("v", &[])], [port("t", &[2]), port("seen", &[])]);
    let told = scanned(&inputs, &outputs[..1]);
    assert!(told.contains("Scan `the Scan`: it has 2 outputs, of which its graph gives 1"), "{told}");
    assert!(scanned(&inputs, &[]).contains("its graph gives 0 values, where 1 are wanted"));
    let branches = ["then_branch", "else_branch"]
        .map(|name| branch(name, &graph(&[node("Neg", &["x"], &["r"], &[])], &[], &[], &[port("r", &[2])])));
    let told = error(node("If", &["n"], &["first", "y"], &branches));
    assert!(told.contains("If `the If`: it has 2 outputs, of which its graph gives 1"), "{told}");
}
