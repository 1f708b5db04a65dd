//! The environment: every `KILN_*` variable, what its values mean, and what is said of others.
//!
//! A variable that is empty, or blank, is as good as unset. Words are taken in any case. What is none of a variable's
//! values is an error that lists them: nothing is guessed.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::profile::Report;

const ON: &[&str] = &["on", "1", "true", "yes"];
const OFF: &[&str] = &["off", "0", "false", "no"];

/// Seconds of measuring where `KILN_TUNE_SECONDS` says nothing.
const TUNE_SECONDS: f64 = 10.0;

/// Where files are kept between programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Keep {
    /// In the platform's folder for caches.
    Default,
    /// Nowhere.
    Nothing,
    /// In this folder.
    In(PathBuf),
}

/// What kernels are chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tune {
    /// The built-in defaults.
    Off,
    /// What an earlier program measured.
    Cached,
    /// The same, and what is missing is measured.
    On,
}

/// What the environment says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// `KILN_DEVICE`: which device [`crate::Device::best`] is.
    pub device: Option<String>,
    /// `KILN_CHECK`: steps look for what is not finite.
    pub check: bool,
    /// `KILN_MEMORY_LIMIT`: bytes of GPU memory that a device may use.
    pub memory_limit: Option<u64>,
    /// `KILN_PROFILE`: what is printed when a device is dropped.
    pub profile: Report,
    /// `KILN_TUNE`.
    pub tune: Tune,
    /// `KILN_TUNE_SECONDS`: what measuring may take in all.
    pub tune_time: Duration,
    /// `KILN_CACHE`.
    pub keep: Keep,
    /// `KILN_AFFINITY`: worker threads of llvmpipe get cores of their own.
    pub affinity: bool,
    /// `KILN_SHOW_SHADERS`: the text of a kernel that is refused is part of the error.
    pub show_shaders: bool,
    /// `KILN_DATA`: the folder of data sets.
    pub data: Option<PathBuf>,
}

impl Settings {
    /// As the environment of this process has them.
    pub fn from_env() -> Result<Settings> {
        Settings::parse(&|name| std::env::var_os(name))
    }

    fn parse(lookup: &dyn Fn(&str) -> Option<OsString>) -> Result<Settings> {
        let env = Env(lookup);
        Ok(Settings {
            device: env.text("KILN_DEVICE")?,
            check: env.switch("KILN_CHECK", false)?,
            memory_limit: env.memory_limit()?,
            profile: env.profile()?,
            tune: env.tune()?,
            tune_time: env.tune_time()?,
            keep: env.keep(),
            affinity: env.switch("KILN_AFFINITY", true)?,
            show_shaders: env.switch("KILN_SHOW_SHADERS", false)?,
            data: env.path("KILN_DATA"),
        })
    }

    /// `KILN_CHECK` alone, for the reference, whose making cannot fail: another value is warned of.
    pub fn check_or_warn() -> bool {
        let env = Env(&|name| std::env::var_os(name));
        env.switch("KILN_CHECK", false).unwrap_or_else(|error| {
            eprintln!("kiln: {error}");
            false
        })
    }

    /// `KILN_DATA` alone.
    pub fn data_folder() -> Option<PathBuf> {
        Env(&|name| std::env::var_os(name)).path("KILN_DATA")
    }
}

/// Variables by name.
struct Env<'a>(&'a dyn Fn(&str) -> Option<OsString>);

impl Env<'_> {
    /// A value that is not blank.
    fn raw(&self, name: &str) -> Option<OsString> {
        (self.0)(name).filter(|value| !value.to_str().is_some_and(|text| text.trim().is_empty()))
    }

    fn text(&self, name: &'static str) -> Result<Option<String>> {
        let Some(value) = self.raw(name) else { return Ok(None) };
        match value.to_str() {
            Some(text) => Ok(Some(text.trim().to_string())),
            None => Err(refuse(name, &value.to_string_lossy(), "it is not valid UTF-8", "correct or unset it")),
        }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.raw(name).map(PathBuf::from)
    }

    fn switch(&self, name: &'static str, default: bool) -> Result<bool> {
        match self.text(name)? {
            None => Ok(default),
            Some(text) if is(&text, ON) => Ok(true),
            Some(text) if is(&text, OFF) => Ok(false),
            Some(text) => Err(refuse(
                name,
                &text,
                "it is neither on (1, true, yes) nor off (0, false, no)",
                "set it to on or off, or unset it",
            )),
        }
    }

    fn memory_limit(&self) -> Result<Option<u64>> {
        let name = "KILN_MEMORY_LIMIT";
        let Some(text) = self.text(name)? else { return Ok(None) };
        let bytes = text.parse().ok().filter(|_| text.starts_with(|first: char| first.is_ascii_digit()));
        bytes.map(Some).ok_or_else(|| {
            let next = "set it to a whole number of bytes (2000000000 for 2 GB), or unset it";
            refuse(name, &text, "it is not a number of bytes", next)
        })
    }

    fn profile(&self) -> Result<Report> {
        let name = "KILN_PROFILE";
        match self.text(name)? {
            None => Ok(Report::Nothing),
            Some(text) if is(&text, OFF) => Ok(Report::Nothing),
            Some(text) if is(&text, ON) => Ok(Report::ByName),
            Some(text) if text == "2" => Ok(Report::ByGrid),
            Some(text) => {
                let next = "set it to 1 for a table of kernels, to 2 for a line for each of their grids, or unset it";
                Err(refuse(name, &text, "it is none of off (0, false, no), on (1, true, yes) and 2", next))
            }
        }
    }

    fn tune(&self) -> Result<Tune> {
        let name = "KILN_TUNE";
        match self.text(name)? {
            None => Ok(Tune::Cached),
            Some(text) if is(&text, &["cached"]) => Ok(Tune::Cached),
            Some(text) if is(&text, OFF) => Ok(Tune::Off),
            Some(text) if is(&text, ON) => Ok(Tune::On),
            Some(text) => {
                let what = "it is none of off (0, false, no), cached and on (1, true, yes)";
                Err(refuse(name, &text, what, "set it to off, cached or on, or unset it"))
            }
        }
    }

    fn tune_time(&self) -> Result<Duration> {
        let name = "KILN_TUNE_SECONDS";
        let Some(text) = self.text(name)? else { return Ok(Duration::from_secs_f64(TUNE_SECONDS)) };
        match text.parse() {
            Ok(seconds) if (0.0..=1e6).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
            _ => Err(refuse(
                name,
                &text,
                "it is not a number of seconds from 0 to 1000000",
                "set it to such a number, or unset it",
            )),
        }
    }

    fn keep(&self) -> Keep {
        let Some(value) = self.raw("KILN_CACHE") else { return Keep::Default };
        match value.to_str().map(str::trim) {
            Some(text) if is(text, OFF) => Keep::Nothing,
            // A folder of that name is `./on`.
            Some(text) if is(text, ON) => Keep::Default,
            _ => Keep::In(value.into()),
        }
    }
}

fn is(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.eq_ignore_ascii_case(word))
}

fn refuse(name: &str, value: &str, what: &str, next: &'static str) -> Error {
    Error::Setting { name: name.into(), value: value.into(), what: what.into(), next }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, value: &str) -> Result<Settings> {
        Settings::parse(&|asked| (asked == name).then(|| value.into()))
    }

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    type Change = fn(&mut Settings);

    /// What each value of each variable changes.
    const TAKEN: &[(&str, &[&str], Change)] = &[
        ("KILN_DEVICE", &["", "  "], |_| {}),
        ("KILN_DEVICE", &["vulkan", " vulkan "], |it| it.device = Some("vulkan".into())),
        ("KILN_DEVICE", &["off"], |it| it.device = Some("off".into())),
        ("KILN_CHECK", &["", " ", "off", "0", "false", "no", "OFF", " Off "], |_| {}),
        ("KILN_CHECK", &["on", "1", "true", "yes", "ON"], |it| it.check = true),
        ("KILN_MEMORY_LIMIT", &["", "\t"], |_| {}),
        ("KILN_MEMORY_LIMIT", &["0"], |it| it.memory_limit = Some(0)),
        ("KILN_MEMORY_LIMIT", &["1000000", " 1000000\n"], |it| it.memory_limit = Some(1_000_000)),
        ("KILN_MEMORY_LIMIT", &["18446744073709551615"], |it| it.memory_limit = Some(u64::MAX)),
        ("KILN_PROFILE", &["", "off", "0", "false", "No"], |_| {}),
        ("KILN_PROFILE", &["on", "1", "true", "yes"], |it| it.profile = Report::ByName),
        ("KILN_PROFILE", &["2"], |it| it.profile = Report::ByGrid),
        ("KILN_TUNE", &["", "cached", "CACHED"], |_| {}),
        ("KILN_TUNE", &["off", "0", "false", "no"], |it| it.tune = Tune::Off),
        ("KILN_TUNE", &["on", "1", "true", "yes"], |it| it.tune = Tune::On),
        ("KILN_TUNE_SECONDS", &["", "10", "1e1"], |_| {}),
        ("KILN_TUNE_SECONDS", &["0", "0.0"], |it| it.tune_time = seconds(0.0)),
        ("KILN_TUNE_SECONDS", &["2.5"], |it| it.tune_time = seconds(2.5)),
        ("KILN_CACHE", &["", "on", "1", "yes"], |_| {}),
        ("KILN_CACHE", &["off", "0", "OFF", "false", "no"], |it| it.keep = Keep::Nothing),
        ("KILN_CACHE", &["./off"], |it| it.keep = Keep::In("./off".into())),
        ("KILN_CACHE", &["/a/folder"], |it| it.keep = Keep::In("/a/folder".into())),
        ("KILN_AFFINITY", &["", "on", "1", "true", "yes"], |_| {}),
        ("KILN_AFFINITY", &["off", "0", "false", "no"], |it| it.affinity = false),
        ("KILN_SHOW_SHADERS", &["", "off", "0", "false", "no"], |_| {}),
        ("KILN_SHOW_SHADERS", &["on", "1", "true", "yes"], |it| it.show_shaders = true),
        ("KILN_DATA", &["", " "], |_| {}),
        ("KILN_DATA", &["folder"], |it| it.data = Some("folder".into())),
    ];

    /// Values that are refused, and a word that the error must have of what would be right.
    const REFUSED: &[(&str, &[&str], &str)] = &[
        ("KILN_CHECK", &["2", "oof", "none", "on off"], "on (1, true, yes)"),
        (
            "KILN_MEMORY_LIMIT",
            &["2 GB", "-1", "+1", "1e9", "18446744073709551616", "0x10", "off"],
            "whole number of bytes",
        ),
        ("KILN_PROFILE", &["3", "-1", "table"], "and 2"),
        ("KILN_TUNE", &["2", "cache", "always"], "cached"),
        ("KILN_TUNE_SECONDS", &["-1", "inf", "NaN", "10s", "2e6", "off"], "number of seconds"),
        ("KILN_AFFINITY", &["2", "none"], "off (0, false, no)"),
        ("KILN_SHOW_SHADERS", &["2", "all"], "off (0, false, no)"),
    ];

    #[test]
    fn each_value_of_each_variable_means_what_it_says() {
        let unset = Settings::parse(&|_| None).unwrap();
        for (name, values, change) in TAKEN {
            let mut expected = unset.clone();
            change(&mut expected);
            for value in *values {
                assert_eq!(with(name, value).unwrap(), expected, "{name}={value}");
            }
        }
        for (name, values, allowed) in REFUSED {
            for value in *values {
                let error = with(name, value).expect_err(value);
                assert!(
                    matches!(&error, Error::Setting { name: n, value: v, .. } if n == name && v == value),
                    "{error}"
                );
                assert!(error.to_string().contains(allowed), "{error} does not say {allowed}");
            }
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_value_that_is_not_text_is_refused_where_a_word_is_expected_and_taken_as_a_folder() {
        use std::os::unix::ffi::OsStringExt;
        let broken = || OsString::from_vec(vec![b'/', 0xff]);
        for name in ["KILN_DEVICE", "KILN_CHECK", "KILN_MEMORY_LIMIT", "KILN_PROFILE", "KILN_TUNE", "KILN_AFFINITY"] {
            let error = Settings::parse(&|asked| (asked == name).then(broken)).unwrap_err();
            assert!(error.to_string().contains("UTF-8") && error.to_string().contains(name), "{error}");
        }
        let settings = Settings::parse(&|name| ["KILN_CACHE", "KILN_DATA"].contains(&name).then(broken)).unwrap();
        assert_eq!((settings.keep, settings.data), (Keep::In(broken().into()), Some(broken().into())));
    }

    #[test]
    fn the_readme_and_the_tests_name_every_variable() {
        let own = include_str!("settings.rs");
        let readme = include_str!("../README.md");
        let code = &own[..own.find("#[cfg(test)]").unwrap()];
        let names: std::collections::BTreeSet<&str> =
            code.match_indices("\"KILN_").map(|(at, _)| code[at + 1..].split('"').next().unwrap()).collect();
        assert_eq!(names.len(), 10, "{names:?}");
        for name in names {
            assert!(readme.contains(&format!("| `{name}` |")), "README.md has no row for {name}");
            assert!(TAKEN.iter().any(|(known, ..)| *known == name), "no test sets {name}");
        }
    }
}
