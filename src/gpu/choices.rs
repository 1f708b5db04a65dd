//! The kernels that tuning chose: read when a device is opened, fixed while it lives, written when something was measured.
//!
//! `KILN_TUNE`: `off` takes the built-in defaults, `cached` (the default) what an earlier program measured, `on` measures
//! what is missing, for at most `KILN_TUNE_SECONDS` in all.

use std::collections::BTreeMap;
use std::time::Duration;

use super::driver::{Gpu, lock};
use crate::target::Choice;

const KIND: &str = "tuning";

/// The choices in a file's data: `class`, tab, `variant hash`, a line each.
pub fn parse(data: &[u8]) -> Option<BTreeMap<String, Choice>> {
    let lines = std::str::from_utf8(data).ok()?.lines();
    lines
        .map(|line| line.split_once('\t').and_then(|(class, rest)| Some((class.into(), parse_choice(rest)?))))
        .collect()
}

fn parse_choice(text: &str) -> Option<Choice> {
    let (variant, hash) = text.rsplit_once(' ')?;
    Some(Choice { variant: variant.into(), shader: u64::from_str_radix(hash, 16).ok()? })
}

impl Gpu {
    /// Reads what an earlier program measured on this adapter and driver.
    pub(super) fn load_choices(&self) {
        let tuning = *lock(&self.0.tuning);
        let stored = match tuning.read {
            true => self.0.cache.read(KIND, &self.cache_key()).unwrap_or_else(|why| {
                self.warn(&why);
                None
            }),
            false => None,
        };
        let choices = stored.and_then(|data| parse(&data));
        self.change(|target| {
            target.choices.measured = choices.unwrap_or_default();
            target.choices.measure = tuning.measure;
            Some(())
        });
    }

    /// Takes these variants wherever an op lists them.
    pub fn force(&self, variants: &[&'static str]) {
        self.change(|target| {
            target.choices.forced = variants.to_vec();
            Some(())
        });
    }

    /// Writes what this program knows.
    pub fn save_choices(&self) {
        let line = |(class, choice): (&String, &Choice)| format!("{class}\t{choice}\n");
        let text: String = self.target().choices.measured.iter().map(line).collect();
        if let Err(why) = self.0.cache.write(KIND, &self.cache_key(), text.as_bytes()) {
            self.warn(&why);
        }
    }

    /// True if the variant for this class is decided, for as long as the device lives.
    pub fn is_settled(&self, class: &str) -> bool {
        self.target().choices.settled.contains(class)
    }

    /// Decides a class; `None` for the built-in default, which is not written.
    pub fn settle(&self, class: &str, choice: Option<Choice>) {
        self.change(|target| {
            target.choices.settled.insert(class.into());
            if let Some(choice) = choice {
                target.choices.measured.insert(class.into(), choice);
            }
            Some(())
        });
    }

    /// Time that measuring may still take.
    pub fn tuning_left(&self) -> Duration {
        lock(&self.0.tuning).left
    }

    pub fn spend_tuning(&self, time: Duration) {
        let mut tuning = lock(&self.0.tuning);
        tuning.left = tuning.left.saturating_sub(time);
    }

    /// The choices with whose they are, for a checkpoint.
    pub fn choices(&self) -> (String, BTreeMap<String, String>) {
        let target = self.target();
        let all = target.choices.measured.iter().map(|(class, choice)| (class.clone(), choice.to_string()));
        (self.cache_key(), all.collect())
    }

    /// Takes the choices of a checkpoint, if they are of this adapter and driver, in place of its own: a resumed run has the
    /// kernels of the one that was stopped. True if that changed something.
    pub fn adopt_choices(&self, owner: &str, all: &BTreeMap<String, String>) -> bool {
        if owner != self.cache_key() {
            return false;
        }
        let parsed = all.iter().filter_map(|(class, text)| Some((class.clone(), parse_choice(text)?)));
        let parsed: BTreeMap<String, Choice> = parsed.collect();
        let changed = self.change(|target| {
            let same = target.choices.measured == parsed;
            target.choices.measured = parsed;
            // What that run left at the default stays there.
            target.choices.measure = false;
            Some(!same)
        });
        changed == Some(true)
    }
}

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:016x}", self.variant, self.shader)
    }
}
