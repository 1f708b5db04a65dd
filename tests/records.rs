//! What remains of a run: event files byte by byte as TensorBoard's own classes write them, tables that come back to the
//! bit, pages that stand alone, and disks that are full.

use std::fs;
use std::path::{Path, PathBuf};

use kiln::train::metrics::ConfusionMatrix;
use kiln::train::records::{Comparison, CsvLog, JsonLines, Picture, Report, Sample, Settings, TensorBoard};
use kiln::train::{Callback, Record};
use kiln::{Device, Error};
use serde_json::{Value, json};

/// An empty folder that goes with its owner.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("kiln-records-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn record(epoch: u64, values: &[(&str, f64)]) -> Record {
    let values = values.iter().map(|(name, value)| (name.to_string(), *value)).collect();
    Record { epoch, step: 23 * (epoch + 1), values, seconds: 0.5 * (epoch + 1) as f64 }
}

/// The one event file of a folder.
fn event_file(folder: &Path) -> PathBuf {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.to_string_lossy().contains("tfevents")).collect();
    assert_eq!(files.len(), 1);
    files.pop().unwrap()
}

/// The messages of an event file, without their time; its framing must be whole.
fn messages(path: &Path) -> Vec<Vec<u8>> {
    let (bytes, mut at, mut found) = (fs::read(path).unwrap(), 0, vec![]);
    while at < bytes.len() {
        let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
        let message = &bytes[at + 12..at + 12 + length];
        // Field 1, 64 bits: the time.
        assert_eq!(message[0], 0x09);
        found.push(message[9..].to_vec());
        at += length + 16;
    }
    assert_eq!(at, bytes.len());
    found
}

#[test]
fn event_files_have_the_bytes_of_tensorboard_s_own_classes() {
    let folder = Folder::new("events");
    let mut board = TensorBoard::new(&folder.0);
    board.scalar("train/loss", 7, 0.1).unwrap();
    board.scalar("train/loss", 300, f64::INFINITY).unwrap();
    board.histogram("weights", 7, &[-1.0, 0.25, f64::NAN, 0.5, 3.0]).unwrap();
    board.text("note", 7, "naïve").unwrap();
    let settings = json!({"adam": true, "lr": 0.5, "net": "cnn"});
    board.hyperparameters(settings.as_object().unwrap(), &["validation/loss"]).unwrap();
    board.resume_at(8).unwrap();

    let stored = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/events.bin")).unwrap();
    let (mut at, mut wanted) = (0, vec![]);
    while at < stored.len() {
        let length = u32::from_le_bytes(stored[at..at + 4].try_into().unwrap()) as usize;
        wanted.push(stored[at + 4..at + 4 + length].to_vec());
        at += 4 + length;
    }
    let found = messages(&event_file(&folder.0));
    assert_eq!(found.len(), wanted.len());
    for (number, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
        assert_eq!(found, wanted, "message {number}");
    }
}

#[test]
fn histograms_of_one_value_and_of_none_are_written() {
    let folder = Folder::new("histograms");
    let mut board = TensorBoard::new(&folder.0);
    board.histogram("same", 1, &[2.0; 5]).unwrap();
    board.histogram("none", 1, &[f64::NAN]).unwrap();
    assert_eq!(messages(&event_file(&folder.0)).len(), 3);
}

/// The chunks of a PNG file, their checksums looked at.
fn chunks(png: &[u8]) -> Vec<(String, Vec<u8>)> {
    assert_eq!(png[..8], *b"\x89PNG\r\n\x1a\n");
    let (mut at, mut found) = (8, vec![]);
    while at < png.len() {
        let length = u32::from_be_bytes(png[at..at + 4].try_into().unwrap()) as usize;
        let (kind, data) = (&png[at + 4..at + 8], &png[at + 8..at + 8 + length]);
        let mut checksum = flate2::Crc::new();
        checksum.update(&png[at + 4..at + 8 + length]);
        assert_eq!(png[at + 8 + length..at + 12 + length], checksum.sum().to_be_bytes());
        found.push((String::from_utf8(kind.to_vec()).unwrap(), data.to_vec()));
        at += 12 + length;
    }
    found
}

#[test]
fn pictures_are_png_files_of_their_pixels() {
    let grey = Picture::new(&[0.0, 0.5, 1.0, 0.25, 2.0, -1.0], [1, 2, 3], 0.0, 1.0).unwrap();
    let chunks = chunks(&grey.png());
    let kinds: Vec<&str> = chunks.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["IHDR", "IDAT", "IEND"]);
    assert_eq!(chunks[0].1, [0, 0, 0, 3, 0, 0, 0, 2, 8, 0, 0, 0, 0]);
    let mut pixels = vec![];
    std::io::Read::read_to_end(&mut flate2::read::ZlibDecoder::new(&chunks[1].1[..]), &mut pixels).unwrap();
    assert_eq!(pixels, [0, 0, 128, 255, 0, 64, 255, 0]);
    assert!(Picture::new(&[], [1, 0, 3], 0.0, 1.0).is_err());
}

#[test]
fn a_table_comes_back_to_the_bit_and_takes_new_columns() {
    let folder = Folder::new("csv");
    let path = folder.join("deep/log.csv");
    let mut log = CsvLog::new(&path);
    log.write(&record(0, &[("loss", 0.1 + 0.2), ("a,\"b\"", f64::NAN)])).unwrap();
    log.write(&record(1, &[("loss", f64::NEG_INFINITY)])).unwrap();
    log.write(&record(2, &[("loss", 1e-300), ("val_loss", 2.0)])).unwrap();
    // Another program goes on with the same file.
    CsvLog::new(&path).write(&record(3, &[("val_loss", 1.0)])).unwrap();
    let wanted = [
        "epoch,step,seconds,\"a,\"\"b\"\"\",loss,val_loss",
        "0,23,0.5,NaN,0.30000000000000004,",
        "1,46,1,,-inf,",
        "2,69,1.5,,1e-300,2",
        "3,92,2,,,1",
    ];
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text, wanted.map(|line| format!("{line}\r\n")).concat());
}

#[test]
fn lines_come_back_to_the_bit() {
    let folder = Folder::new("lines");
    let mut log = JsonLines::new(folder.join("log.jsonl"));
    log.settings(&Settings::new(&Device::cpu()).with("lr", 0.1)).unwrap();
    let records = [record(0, &[("loss", 0.1 + 0.2), ("odd", f64::NEG_INFINITY)]), record(1, &[("loss", 1e-300)])];
    log.write("logged", &record(0, &[("loss", 3.0)])).unwrap();
    records.iter().for_each(|record| log.write("epoch", record).unwrap());
    assert_eq!(JsonLines::read(log.path(), "epoch").unwrap(), records);
    fs::write(log.path(), "{\"event\": \"epoch\"}\n").unwrap();
    assert!(matches!(JsonLines::read(log.path(), "epoch"), Err(Error::File { offset: 0, .. })));
}

#[test]
fn a_run_that_goes_on_takes_back_what_was_logged_after_its_checkpoint() {
    let folder = Folder::new("rewind");
    let (mut table, mut lines) = (CsvLog::new(folder.join("log.csv")), JsonLines::new(folder.join("log.jsonl")));
    for epoch in 0..4 {
        table.write(&record(epoch, &[("loss", epoch as f64)])).unwrap();
        lines.write("epoch", &record(epoch, &[("loss", epoch as f64)])).unwrap();
    }
    // A line that a killed program has left.
    for path in [table.path(), lines.path()] {
        let mut text = fs::read(path).unwrap();
        text.extend(b"{\"event\":\"epo");
        fs::write(path, text).unwrap();
    }
    let (mut table, mut lines) = (CsvLog::new(table.path()), JsonLines::new(lines.path()));
    table.rewind(46).unwrap();
    lines.rewind(46).unwrap();
    table.write(&record(2, &[("loss", 9.0)])).unwrap();
    lines.write("epoch", &record(2, &[("loss", 9.0)])).unwrap();
    let losses: Vec<f64> =
        JsonLines::read(lines.path(), "epoch").unwrap().iter().map(|record| record.values["loss"]).collect();
    assert_eq!(losses, [0.0, 1.0, 9.0]);
    let rows = fs::read_to_string(table.path()).unwrap();
    let cells: Vec<&str> = rows.lines().skip(1).map(|row| row.rsplit(',').next().unwrap()).collect();
    assert_eq!(cells, ["0", "1", "9"]);
    // Of a file that is not there nothing is taken back.
    JsonLines::new(folder.join("other")).rewind(1).unwrap();
}

#[test]
fn a_file_that_is_no_table_stays() {
    let folder = Folder::new("other");
    let path = folder.join("letter.csv");
    fs::write(&path, "Dear Sir,\n").unwrap();
    let error = CsvLog::new(&path).write(&record(0, &[("loss", 1.0)])).unwrap_err();
    assert!(matches!(&error, Error::File { .. }), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "Dear Sir,\n");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_of_the_writer() {
    // Whatever is written there, the disk is full.
    let mut lines = JsonLines::new("/dev/full");
    for _ in 0..2 {
        let error = lines.write("epoch", &record(0, &[("loss", 1.0)])).unwrap_err();
        assert!(
            matches!(&error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull),
            "{error}"
        );
    }
}

/// A page that stands alone: tags in pairs, nothing loaded from elsewhere, no script.
fn check_page(html: &str) {
    assert!(html.starts_with("<!DOCTYPE html>") && html.contains("width=device-width") && html.contains("dark"));
    // Only names of XML are addresses.
    let addresses = html.matches("http").count();
    assert_eq!(addresses, html.matches("xmlns=\"http://www.w3.org/2000/svg\"").count());
    assert!(
        !html.contains("<script") && !html.contains("url(") && !html.contains("@import") && !html.contains("<link")
    );
    let (mut open, mut rest) = (vec![], html);
    while let Some((_, after)) = rest.split_once('<') {
        let (tag, after) = after.split_once('>').expect("a tag that ends");
        rest = after;
        let name = tag.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap();
        match tag.starts_with('/') {
            true => assert_eq!(open.pop(), Some(name), "</{name}>"),
            false if tag.ends_with('/') || ["!DOCTYPE", "meta", "img", "br", "wbr"].contains(&name) => {}
            false => open.push(name),
        }
        if name == "style" && !tag.starts_with('/') {
            rest = &rest[rest.find("</style").expect("the end of a style")..];
        }
    }
    assert!(open.is_empty(), "{open:?} left open");
}

fn matrix(classes: usize) -> ConfusionMatrix {
    let mut matrix = ConfusionMatrix::new(classes).unwrap();
    matrix.record_all(&[0, 0, 1], &[0, 1, 1]).unwrap();
    matrix
}

#[test]
fn a_report_stands_alone_and_shows_what_it_was_given() {
    let folder = Folder::new("report");
    let report = Report::new("Cats & <dogs>", folder.join("deep/report.html"));
    check_page(&report.html());
    report.settings(&Settings::new(&Device::cpu()).with("lr", 0.003).with("net", "<cnn>"));
    for epoch in 0..3 {
        let loss = 1.0 / (epoch + 1) as f64;
        report.record(&record(epoch, &[("loss", loss), ("val_loss", loss * 1.5), ("lr", 0.003), ("odd", f64::NAN)]));
    }
    report.note("A remark & more");
    report.matrix("Test", &matrix(2).names(["cat", "<dog>"]).unwrap());
    report.matrix("Many", &matrix(60));
    let picture = Picture::new(&[0.5; 4], [1, 2, 2], 0.0, 1.0).unwrap();
    let sample = |picture: Option<Picture>, prediction: &str| Sample {
        picture,
        input: "the <input>".into(),
        target: "cat".into(),
        prediction: prediction.into(),
        confidence: Some(0.75),
    };
    report.sample(sample(Some(picture), "cat"));
    report.sample(sample(None, "dog"));
    report.write().unwrap();
    let html = fs::read_to_string(report.path()).unwrap();
    check_page(&html);
    let shown =
        ["Cats &amp; &lt;dogs&gt;", "&lt;cnn&gt;", "A remark &amp; more", "&lt;dog&gt;", "Most frequent mistakes"];
    for text in
        shown.iter().chain(&["66.667 %", "data:image/png;base64,iVBORw0KGgo", "is cat", "75 %", "reference", "1.5 s"])
    {
        assert!(html.contains(text), "{text}");
    }
    // A chart each for the loss, what is odd, and the learning rate.
    assert_eq!(html.matches("<svg").count(), 3);
}

#[test]
fn a_report_of_what_a_gpu_ran_has_its_kernels() {
    let device = Device::named("vulkan").unwrap();
    device.set_profiling(true).unwrap();
    (device.ones(&[8, 8]) + 1.0).softmax(1).to_vec::<f32>().unwrap();
    let report = Report::new("Kernels", "unwritten");
    report.profile(&device.profile().unwrap());
    let html = report.html();
    check_page(&html);
    assert!(html.contains("softmax") && html.contains("GFLOP/s"));
}

#[test]
fn runs_are_compared_from_their_folders() {
    let folder = Folder::new("compare");
    let mut comparison = Comparison::new("Rates");
    for lr in [0.1, 0.01] {
        let run = folder.join(&format!("lr-{lr}"));
        Settings::new(&Device::cpu()).with("lr", lr).with("seed", 7).write(&run).unwrap();
        let mut lines = JsonLines::new(run.join("log.jsonl"));
        for epoch in 0..3 {
            lines.write("epoch", &record(epoch, &[("loss", lr), ("val_loss", lr * 2.0)])).unwrap();
        }
        comparison = comparison.folder(&run).unwrap();
    }
    let path = folder.join("compare.html");
    comparison.write(&path).unwrap();
    let html = fs::read_to_string(path).unwrap();
    check_page(&html);
    assert_eq!(html.matches("<svg").count(), 2);
    assert!(html.contains("lr-0.01") && html.contains("<tr class=\"differs\"><td>lr</td>"));
    assert!(!html.contains("<tr class=\"differs\"><td>seed</td>"));
    assert!(matches!(Comparison::new("").folder(folder.join("nothing")), Err(Error::Io { .. })));
}

#[test]
fn settings_say_what_repeating_a_run_takes() {
    let folder = Folder::new("settings");
    let settings = Settings::new(&Device::cpu()).with("seed", 42).with("lr", 0.1 + 0.2);
    settings.write(folder.join("run")).unwrap();
    let read = Settings::read(folder.join("run")).unwrap();
    assert_eq!(read, settings);
    assert_eq!(read.entries()["lr"], json!(0.1 + 0.2));
    let environment = read.environment();
    assert_eq!(
        (&environment["backend"], &environment["kiln"]),
        (&json!("reference"), &json!(env!("CARGO_PKG_VERSION")))
    );
    assert!(environment["command"].as_array().is_some_and(|command| !command.is_empty()));
    fs::write(folder.join("settings.json"), "[]").unwrap();
    assert!(matches!(Settings::read(&folder.0), Err(Error::File { .. })));
}

/// They can be given to a trainer.
#[test]
fn every_writer_is_a_callback() {
    let all: [Box<dyn Callback>; 4] = [
        Box::new(TensorBoard::new("board").settings(&Settings::default())),
        Box::new(CsvLog::new("log.csv")),
        Box::new(JsonLines::new("log.jsonl")),
        Box::new(Report::new("run", "report.html")),
    ];
    assert_eq!(
        all.map(|callback| (callback.name(), callback.state())),
        ["TensorBoard", "CsvLog", "JsonLines", "Report"].map(|name| (name.to_string(), Value::Null))
    );
}

/// TensorBoard's own reader, where Python has it.
#[test]
fn tensorboard_reads_the_folder() {
    let folder = Folder::new("python");
    let mut board = TensorBoard::new(&folder.0);
    for step in 0..5 {
        board.scalar("train/loss", step, 1.0 / (step + 1) as f64).unwrap();
    }
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/check_tensorboard.py");
    let Ok(output) = std::process::Command::new(python).arg(script).arg(&folder.0).output() else {
        return println!("skipped: there is no Python");
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.starts_with("skipped") || text.contains("train/loss: 5 points, the last 0.2 at step 4"), "{text}");
}
