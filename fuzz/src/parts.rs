//! A file of several parts: two models with their optimizers, and whatever else a run has.

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use kiln::Draws;
use kiln::data::Position;
use kiln::optim::LossScale;
use kiln::prelude::*;
use kiln::train::checkpoint::{Checkpoint, Commit, Part, PartReader, PartWriter};
use serde_json::{Value, json};

use super::files::{A_BYTE, ALWAYS, Contents, Folder, Model, adamw, sgd};
use super::memory;

/// A struct of a program's own.
#[derive(Debug, Clone, PartialEq)]
struct Record {
    sums: Vec<f64>,
    count: u64,
}

impl Part for Record {
    fn kind(&self) -> &str {
        "record"
    }

    fn write(&self, to: &mut PartWriter<'_>) -> Result<()> {
        to.state(self.count);
        to.values("sums", &[self.sums.len()], self.sums.clone())
    }

    fn read<'a>(&'a mut self, from: &PartReader<'a>) -> Result<Commit<'a>> {
        let count = from.state().as_u64().ok_or_else(|| from.refuse("it has no count", "save one"))?;
        let sums = from.values("sums", from.shape("sums").unwrap_or(&[0]))?;
        Ok(Box::new(move || {
            (self.sums, self.count) = (sums, count);
            Ok(())
        }))
    }
}

struct Run {
    first: Model<AdamWConfig>,
    second: Model<SgdConfig>,
    noise: Draws,
    position: Position,
    note: Value,
    record: Record,
}

/// All that a file can change.
type All = ([Contents; 2], (u64, u64), Position, Value, Record);

impl Run {
    fn new(seed: u64) -> Run {
        Run {
            first: Model::new(seed, adamw(), None),
            second: Model::new(seed + 1, sgd(), Some(LossScale::default())),
            noise: Draws::new(seed),
            position: Position { epoch: 1, batch: 2 },
            note: json!({ "best": 0.25, "names": ["a", "b"] }),
            record: Record { sums: vec![0.5, -1.5], count: seed },
        }
    }

    fn save(&self, path: &Path) -> Result<()> {
        Checkpoint::parts()
            .store("model", &self.first.store)
            .store("second", &self.second.store)
            .optimizer("model", &self.first.optimizer)
            .optimizer("second", &self.second.optimizer)
            .part("noise", &self.noise)
            .position("train", self.position)
            .value("note", self.note.clone())
            .part("kept", &self.record)
            .save(path)
    }

    fn load(&mut self, path: &Path) -> Result<()> {
        let file = Checkpoint::open(path)?;
        file.load()
            .store("model", &self.first.store)
            .store("second", &self.second.store)
            .optimizer("model", &mut self.first.optimizer)
            .optimizer("second", &mut self.second.optimizer)
            .part("noise", &mut self.noise)
            .position("train", &mut self.position)
            .value("note", &mut self.note)
            .part("kept", &mut self.record)
            .finish()
    }

    fn all(&self) -> All {
        let contents = [self.first.contents(), self.second.contents()];
        (contents, self.noise.position(), self.position, self.note.clone(), self.record.clone())
    }
}

/// A checkpoint of several parts. True if it was taken.
pub fn parts(bytes: &[u8]) -> bool {
    thread_local! {
        static RUNS: RefCell<(Folder, Run, Run)> = RefCell::new((Folder::new(), Run::new(1), Run::new(5)));
    }
    RUNS.with_borrow_mut(|(folder, run, other)| {
        let path = folder.put("parts.safetensors", bytes);
        let before = run.all();
        let (result, peak) = memory::peak(|| run.load(&path));
        assert!(peak <= ALWAYS + A_BYTE * bytes.len(), "{peak} bytes of memory for a file of {}", bytes.len());
        let after = run.all();
        match result {
            Err(error) => {
                assert_eq!(after, before, "changed by a file that was refused: {error}");
                false
            }
            Ok(()) => {
                after.0.iter().for_each(Contents::check);
                assert!(!after.4.sums.iter().any(|x| x.is_nan()), "sums are NaN: {:?}", after.4);
                let again = folder.0.join("again.safetensors");
                run.save(&again).expect("saved again");
                other.load(&again).expect("loaded again");
                assert_eq!(other.all(), after);
                true
            }
        }
    })
}

/// Inputs to start from.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let (folder, mut run) = (Folder::new(), Run::new(3));
    let path = folder.0.join("seed.safetensors");
    let save = |run: &Run| {
        run.save(&path).expect("saved");
        fs::read(&path).expect("read")
    };
    let new = save(&run);
    run.first.step().and_then(|()| run.second.step()).expect("a step of each");
    vec![new, save(&run)]
}
