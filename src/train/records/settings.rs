//! What a run must be repeated with.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::clock::{SystemTime, UNIX_EPOCH};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::file;

/// The settings of a run, and what it ran on: all that repeating it takes.
///
/// ```
/// use kiln::Device;
/// use kiln::train::records::Settings;
///
/// let settings = Settings::new(&Device::cpu()).with("seed", 42).with("lr", 3e-3).with("data", "digits");
/// # let folder = std::env::temp_dir().join(format!("kiln-doc-{}-settings", std::process::id()));
/// settings.write(&folder)?; // FOLDER/settings.json
/// assert_eq!(Settings::read(&folder)?, settings);
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings {
    entries: Map<String, Value>,
    environment: Map<String, Value>,
}

impl Settings {
    /// The device, Kiln's version, the system, the command line, the `KILN_` variables that are set, and the time.
    pub fn new(device: &Device) -> Settings {
        let info = device.info();
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let variables: Map<String, Value> = std::env::vars_os()
            .map(|(name, value)| (text(name), text(value).into()))
            .filter(|(name, _)| name.starts_with("KILN_"))
            .collect();
        let environment = json!({
            "adapter": info.name,
            "backend": info.backend,
            "kind": info.kind,
            "driver": info.driver,
            "kiln": env!("CARGO_PKG_VERSION"),
            "optimized": !cfg!(debug_assertions),
            "system": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            "command": std::env::args_os().map(text).collect::<Vec<_>>(),
            "variables": variables,
            "started": utc(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())),
        });
        let environment = match environment {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        Settings { entries: Map::new(), environment }
    }

    /// Adds a setting of the program: the seed, the learning rate, the data. A number that is not finite becomes null, for
    /// JSON has none.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Settings {
        self.entries.insert(name.into(), value.into());
        self
    }

    /// The program's settings.
    pub fn entries(&self) -> &Map<String, Value> {
        &self.entries
    }

    /// What the run ran on: `adapter`, `backend`, `kind`, `driver`, `kiln` (its version), `optimized`, `system`, `command`,
    /// `variables`, `started` (UTC).
    pub fn environment(&self) -> &Map<String, Value> {
        &self.environment
    }

    /// As JSON: `{"settings": .., "environment": ..}`.
    pub fn to_json(&self) -> Value {
        json!({"settings": self.entries, "environment": self.environment})
    }

    /// Writes `settings.json` into a folder, which is made if it is not there.
    ///
    /// # Errors
    /// [`Error::Io`]; an old file is then still whole.
    pub fn write(&self, folder: impl AsRef<Path>) -> Result<()> {
        file::write_text(&folder.as_ref().join("settings.json"), &format!("{:#}\n", self.to_json()))
    }

    /// Reads `settings.json` of a folder.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::File`] if it is no such file.
    pub fn read(folder: impl AsRef<Path>) -> Result<Settings> {
        let path = folder.as_ref().join("settings.json");
        let bytes = std::fs::read(&path).map_err(|error| Error::io(&path, "read", error))?;
        let next = "take another copy of the file, or remove it";
        let value: Value = serde_json::from_slice(&bytes).map_err(|error| Error::File {
            path: path.clone(),
            offset: 0,
            what: format!("it is no JSON: {error}"),
            next,
        })?;
        let part = |name: &str| value[name].as_object().cloned();
        match (part("settings"), part("environment")) {
            (Some(entries), Some(environment)) => Ok(Settings { entries, environment }),
            _ => {
                let what = "it has no settings and environment".into();
                Err(Error::File { path, offset: 0, what, next })
            }
        }
    }
}

/// Seconds since 1970 as a date and time.
fn utc(seconds: u64) -> String {
    let (mut days, rest) = (seconds / 86_400, seconds % 86_400);
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    format!("{year}-{:02}-{:02} {:02}:{:02}:{:02} UTC", month + 1, days + 1, rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_dates() {
        // `date -u -d @SECONDS`.
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_399), "2000-02-28 23:59:59 UTC");
        assert_eq!(utc(1_709_208_000), "2024-02-29 12:00:00 UTC");
        assert_eq!(utc(1_798_761_599), "2026-12-31 23:59:59 UTC");
    }
}
