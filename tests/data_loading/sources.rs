//! Files and text, and what can be wrong with them.

use std::path::PathBuf;

use kiln::data::{
    self, Classes, DataLoader, Dataset, Feature, Features, HostArray, Missing, Split, Table, TextWindows, Vocabulary,
};

/// A file of the test that is gone when this is dropped.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str, bytes: &[u8]) -> Scratch {
        let path = std::env::temp_dir().join(format!("kiln-sources-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn npy_bytes(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    let header = format!("{header:<117}\n");
    [b"\x93NUMPY\x01\x00".as_slice(), &(header.len() as u16).to_le_bytes(), header.as_bytes(), data].concat()
}

#[test]
fn arrays_of_numpy_are_read_in_any_type_that_holds_them() {
    let data: Vec<u8> = [1i64, -2, 3, 4, 5, 6].iter().flat_map(|x| x.to_le_bytes()).collect();
    let file = Scratch::new("whole.npy", &npy_bytes("<i8", "(2, 3)", &data));
    let array = data::npy::<i32>(&file.0).unwrap();
    assert_eq!(array, HostArray::new([2, 3], vec![1, -2, 3, 4, 5, 6]).unwrap());
    assert_eq!(data::npy::<f32>(&file.0).unwrap().values[1], -2.0);
    let error = data::npy::<u32>(&file.0).unwrap_err();
    assert!(error.to_string().contains("element 1 is -2"), "{error}");
    let rows = data::rows(array).unwrap();
    assert_eq!((rows.len(), rows.get(1).unwrap().values), (2, vec![4, 5, 6]));
}

#[test]
fn damaged_arrays_are_errors() {
    let good = npy_bytes("<f4", "(2,)", &[0; 8]);
    assert_eq!(data::npy::<f32>(&Scratch::new("good.npy", &good).0).unwrap().values, [0.0; 2]);
    for (number, bytes) in [
        b"PK".to_vec(),
        good[..9].to_vec(),
        good[..good.len() - 4].to_vec(),
        good[..good.len() - 1].to_vec(),
        npy_bytes(">f4", "(2,)", &[0; 8]),
        npy_bytes("<c8", "(1,)", &[0; 8]),
        npy_bytes("<f4", "(18446744073709551615, 2)", &[0; 8]),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(data::npy::<f32>(&Scratch::new(&format!("{number}.npy"), &bytes).0).is_err(), "{number}");
    }
    assert!(data::npy::<f32>("no such file").unwrap_err().to_string().contains("nothing is there"));
}

fn wav_bytes(code: u16, channels: u16, bits: u16, data: &[u8]) -> Vec<u8> {
    let word = |x: u16| x.to_le_bytes().to_vec();
    let long = |x: u32| x.to_le_bytes().to_vec();
    let frame = channels * bits / 8;
    let format =
        [word(code), word(channels), long(8000), long(8000 * u32::from(frame)), word(frame), word(bits)].concat();
    let body = [b"WAVEfmt ".to_vec(), long(16), format, b"data".to_vec(), long(data.len() as u32), data.to_vec()];
    let body = body.concat();
    [b"RIFF".to_vec(), long(body.len() as u32), body].concat()
}

#[test]
fn sound_is_read_channel_by_channel() {
    let stereo: Vec<u8> = [0i16, 16_384, -32_768, 8192].iter().flat_map(|x| x.to_le_bytes()).collect();
    let sound = data::wav(&Scratch::new("stereo.wav", &wav_bytes(1, 2, 16, &stereo)).0).unwrap();
    assert_eq!((sound.rate, sound.samples.shape), (8000, vec![2, 2]));
    assert_eq!(sound.samples.values, [0.0, -1.0, 0.5, 0.25]);
    let floats: Vec<u8> = [0.5f32, -0.25].iter().flat_map(|x| x.to_le_bytes()).collect();
    let sound = data::wav(&Scratch::new("float.wav", &wav_bytes(3, 1, 32, &floats)).0).unwrap();
    assert_eq!(sound.samples.values, [0.5, -0.25]);
}

#[test]
fn damaged_sound_is_an_error() {
    let good = wav_bytes(1, 1, 16, &[0; 8]);
    let mut none = good.clone();
    none[22] = 0;
    for (number, bytes) in
        [good[..good.len() - 2].to_vec(), good[..30].to_vec(), b"RIFF".to_vec(), wav_bytes(6, 1, 8, &[0; 8]), none]
            .into_iter()
            .enumerate()
    {
        assert!(data::wav(&Scratch::new(&format!("{number}.wav"), &bytes).0).is_err(), "{number}");
    }
}

#[test]
fn cifar_files_become_images() {
    let dir = std::env::temp_dir().join(format!("kiln-cifar-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let record = |label: u8| [vec![9, label], vec![51; 3072]].concat();
    std::fs::write(dir.join("train.bin"), [record(7), record(99)].concat()).unwrap();
    std::fs::write(dir.join("test.bin"), record(3)).unwrap();
    let splits = data::cifar100(&dir).unwrap();
    assert_eq!((splits.train.labels(), splits.train.shape(), splits.train.classes()), (&[7, 99][..], [3, 32, 32], 100));
    assert_eq!((splits.train.images()[0], splits.test.len()), (0.2, 1));
    std::fs::write(dir.join("test.bin"), record(100)).unwrap();
    assert!(data::cifar100(&dir).unwrap_err().to_string().contains("label 100 of image 0"));
    std::fs::write(dir.join("test.bin"), &record(1)[1..]).unwrap();
    assert!(data::cifar100(&dir).unwrap_err().to_string().contains("no whole number of records"));
    let missing = data::cifar10(&dir).unwrap_err().to_string();
    assert!(missing.contains("test_batch.bin"), "{missing}");
    // A part of the five files is a smaller training part, which says so.
    let record = |label: u8| [vec![label], vec![51; 3072]].concat();
    std::fs::write(dir.join("test_batch.bin"), record(4)).unwrap();
    let missing = data::cifar10(&dir).unwrap_err().to_string();
    assert!(missing.contains("data_batch_1.bin"), "{missing}");
    std::fs::write(dir.join("data_batch_3.bin"), [record(1), record(2)].concat()).unwrap();
    let splits = data::cifar10(&dir).unwrap();
    assert_eq!((splits.train.labels(), splits.train.name()), (&[1, 2][..], "cifar10, 1 of 5 files"));
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn vocabularies_encode_and_decode() {
    let text = "the cat, the hat; the end";
    let words = Vocabulary::words(text, 1, 4);
    assert_eq!(words.decode(&words.encode("the cat end")).unwrap(), "the cat <unknown>");
    assert_eq!((words.len(), words.encode("the")), (5, vec![1]));
    let letters = Vocabulary::characters("añb");
    assert_eq!(letters.decode(&letters.encode("baña")).unwrap(), "baña");
    assert_eq!(letters.encode("z"), [0]);
    let bytes = Vocabulary::bytes();
    assert_eq!((bytes.len(), bytes.decode(&bytes.encode("ñ")).unwrap().as_str()), (256, "ñ"));
    assert!(letters.decode(&[4]).unwrap_err().to_string().contains("token 4 of a vocabulary of 4"));
}

#[test]
fn a_million_windows_over_text_copy_nothing() {
    let tokens: std::sync::Arc<[u32]> = (0..1_000_100u32).collect();
    let windows = TextWindows::new(tokens.clone(), 100, 1).unwrap();
    assert_eq!(windows.len(), 1_000_000);
    let items: Vec<_> = (0..1000).map(|index| windows.get(index * 999).unwrap()).collect();
    // Each is where the text is.
    for (number, item) in items.iter().enumerate() {
        assert!(std::ptr::eq(item.inputs(), &tokens[number * 999..][..100]));
        assert_eq!(item.targets()[0], item.inputs()[0] + 1);
    }
    let (inputs, targets) = DataLoader::new(windows, 3).shuffle(1).workers(2).next().unwrap().unwrap();
    assert_eq!((inputs.shape, targets.shape), (vec![3, 100], vec![3, 100]));
    assert_eq!(targets.values[0], inputs.values[1]);
    assert!(TextWindows::new(vec![1, 2], 2, 1).is_err() && TextWindows::new(vec![1, 2], 1, 0).is_err());
}

fn table(rows: &[[&str; 3]]) -> Table {
    Table::new(["x", "kind", "y"], rows.iter().map(|row| row.map(String::from).to_vec()).collect()).unwrap()
}

#[test]
fn what_is_fitted_sees_the_training_part_alone() {
    let table = table(&[["1", "a", "0.5"], ["3", "b", "1"], ["100", "a", "2"], ["NA", "b", "3"]]);
    let train = table.select(&[0, 1]).unwrap();
    let columns = [Feature::number("x").missing(Missing::Mean), Feature::class("kind"), Feature::raw("y")];
    let features = Features::fit(&train, columns).unwrap();
    assert_eq!(features.names(), ["x", "kind=a", "kind=b", "y"]);
    let rows = features.apply(&table).unwrap();
    assert_eq!(rows.array().values[..8], [-1.0, 1.0, 0.0, 0.5, 1.0, 0.0, 1.0, 1.0]);
    assert_eq!(rows.array().values[8..], [98.0, 1.0, 0.0, 2.0, 0.0, 0.0, 1.0, 3.0]);
    assert_eq!(table.target("y").unwrap().as_slice(), [0.5, 1.0, 2.0, 3.0]);
}

#[test]
fn values_that_do_not_fit_their_column_are_errors() {
    let table = table(&[["1", "a", "0"], ["two", "a", ""], ["3", "b", "1"]]);
    let error = table.numbers("x").unwrap_err();
    assert_eq!(
        error.to_string(),
        "`two` in row 1 of column `x` is no number; correct it, or read the column as classes"
    );
    let error = table.target("y").unwrap_err();
    assert!(error.to_string().contains("row 1 of column `y` has no value"), "{error}");
    assert!(table.numbers("z").unwrap_err().to_string().contains("no column `z`"));
    // A class that the test part alone has, and a column that is missing throughout the training part.
    let train = table.select(&[0, 1]).unwrap();
    let error = Classes::fit(&train, "kind").unwrap().apply(&table).unwrap_err();
    assert!(error.to_string().contains("`b` in row 2 of column `kind` is no class of the training part"), "{error}");
    assert!(Features::fit(&table.select(&[1]).unwrap(), [Feature::number("y")]).is_err());
    let strict = Features::fit(&table, [Feature::number("y")]).unwrap();
    assert!(strict.apply(&table).unwrap_err().to_string().contains("has no value"));
    assert!(Table::new(["a", "a"], vec![]).is_err() && Table::new(["a"], vec![vec![]]).is_err());
}

#[test]
fn rows_and_classes_are_split_together() {
    let table = table(&[["1", "a", "0"], ["2", "a", "1"], ["3", "b", "0"], ["4", "b", "1"]]);
    let classes = Classes::fit(&table, "kind").unwrap().apply(&table).unwrap();
    let labels = classes.as_slice().to_vec();
    let set = Features::fit(&table, [Feature::raw("x")]).unwrap().apply(&table).unwrap().zip(classes).unwrap();
    let parts = data::split(set, Split::Stratified(&labels), &[0.5, 0.5], 3).unwrap();
    let (x, y) = DataLoader::new(parts[0].clone(), 0).next().unwrap().unwrap();
    assert_eq!((x.shape, y.values), (vec![2, 1], vec![0, 1]));
}

#[cfg(feature = "csv")]
#[test]
fn tables_are_read_from_csv_files() {
    let file = Scratch::new("good.csv", b"\xef\xbb\xbfx,name\r\n1,\"a, \"\"b\"\"\"\r\n2,\"two\nlines\"\r\nNA,c\r\n");
    let table = Table::read(&file.0, b',').unwrap();
    assert_eq!((table.rows(), table.columns()), (3, &["x".to_string(), "name".into()][..]));
    assert_eq!(table.text("name").unwrap(), [Some("a, \"b\""), Some("two\nlines"), Some("c")]);
    assert_eq!(table.numbers("x").unwrap(), [Some(1.0), Some(2.0), None]);
    let error = table.target("x").unwrap_err().to_string();
    assert!(error.contains("good.csv: line 5 of column `x` has no value"), "{error}");
    let none = Table::read(&Scratch::new("none.csv", b"x\ty\n").0, b'\t').unwrap();
    assert_eq!((none.rows(), none.columns().len()), (0, 2));
    assert!(Features::fit(&none, [Feature::number("x")]).unwrap_err().to_string().contains("has no value"));
}

#[cfg(feature = "csv")]
#[test]
fn csv_files_that_are_no_tables_are_errors_that_name_the_line() {
    let refused = |name: &str, bytes: &[u8]| {
        let file = Scratch::new(name, bytes);
        let text = Table::read(&file.0, b',').unwrap_err().to_string();
        assert!(text.starts_with(file.0.to_str().unwrap()), "{text}");
        text
    };
    for (name, bytes, wanted) in [
        ("ragged.csv", &b"x,y\n1,2\n3\n"[..], "at byte 8: line 3 has 1 values, of 2"),
        ("long.csv", b"x,y\n1,2,3\n", "line 2 has 3 values, of 2"),
        ("latin.csv", b"x,y\n1,2\n1,\xff\n", "value 2 of line 3 is no UTF-8"),
        ("twice.csv", b"x,x\n1,2\n", "two columns are called `x`"),
        ("empty.csv", b"", "it is empty"),
    ] {
        let text = refused(name, bytes);
        assert!(text.contains(wanted), "{text}");
    }
    let file = Scratch::new("types.csv", b"x,kind\n1,a\n\n2.5,a\nthree,b\n");
    let table = Table::read(&file.0, b',').unwrap();
    let error = table.numbers("x").unwrap_err().to_string();
    assert!(error.contains("types.csv: `three` in line 5 of column `x` is no number"), "{error}");
    let train = table.select(&[0, 1]).unwrap();
    let error = Classes::fit(&train, "kind").unwrap().apply(&table).unwrap_err().to_string();
    assert!(error.contains("`b` in line 5 of column `kind` is no class of the training part"), "{error}");
    assert!(Table::read("no such file.csv", b',').unwrap_err().to_string().contains("nothing is there"));
}
