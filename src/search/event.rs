//! What a line of a study says, and what it changes.

use serde_json::{Value as Json, json};

use super::point::Point;
use super::record::{Record, State};
use super::space::Space;
use super::worker::is_name;

/// A trial has begun.
pub(super) fn start(number: u64, [draw, attempt]: [u64; 2], point: &Point, worker: Option<&str>) -> Json {
    json!({ "event": "start", "trial": number, "draw": draw, "attempt": attempt, "point": point.json(), "worker": worker })
}

/// A trial has come to a step. Numbers that are not finite are `null`, for JSON has none.
pub(super) fn report(number: u64, step: u64, value: f64) -> Json {
    json!({ "event": "report", "trial": number, "step": step, "value": value })
}

/// A trial has something to remember.
pub(super) fn note(number: u64, name: &str, value: f64) -> Json {
    json!({ "event": "note", "trial": number, "name": name, "value": value })
}

/// A trial has ended.
pub(super) fn end(number: u64, state: &State, value: Option<f64>, seconds: Option<f64>) -> Json {
    let mut event =
        json!({ "event": "end", "trial": number, "state": state.name(), "value": value, "seconds": seconds });
    if let State::Failed(why) = state {
        event["why"] = why.as_str().into();
    }
    event
}

/// A line as JSON.
pub(super) fn parse(line: &[u8]) -> Result<Json, String> {
    let event: Json = serde_json::from_slice(line).map_err(|error| format!("a line that is no JSON ({error})"))?;
    if event.is_object() { Ok(event) } else { Err("a line that is no object".into()) }
}

/// Changes the records as a line says; `Err` says why it cannot be.
pub(super) fn apply(records: &mut Vec<Record>, space: &Space, event: &Json) -> Result<(), String> {
    let number = whole(event, "trial")?;
    if event["event"] == "start" {
        let record = started(space, event).map_err(|what| format!("trial {number}: {what}"))?;
        if number != records.len() as u64 {
            return Err(format!("trial {number} begins behind {} others", records.len()));
        }
        records.push(record);
        return Ok(());
    }
    let count = records.len();
    let record = usize::try_from(number).ok().and_then(|number| records.get_mut(number));
    let record = record.ok_or_else(|| format!("trial {number} of {count}"))?;
    let value = event.get("value").and_then(Json::as_f64);
    // What comes from a trial that has ended is late: its process was taken for dead, and was not.
    let is_late = !matches!(record.state, State::Running | State::Killed);
    match event["event"].as_str() {
        _ if is_late => {}
        Some("report") => record.reports.push((whole(event, "step")?, value.unwrap_or(f64::NAN))),
        Some("note") => {
            let name = event["name"].as_str().ok_or("a note without a name")?;
            record.notes.insert(name.into(), value.unwrap_or(f64::NAN));
        }
        Some("end") => {
            let why = || event["why"].as_str().unwrap_or("of a cause that the file does not tell").to_string();
            record.state = match event["state"].as_str() {
                Some("complete") if value.is_some() => State::Complete,
                Some("pruned") => State::Pruned,
                Some("failed") => State::Failed(why()),
                Some("killed") => State::Killed,
                _ => return Err(format!("trial {number} ends as {} with {}", event["state"], event["value"])),
            };
            (record.value, record.seconds) = (value, event["seconds"].as_f64());
        }
        _ => return Err(format!("an event {}", event["event"])),
    }
    Ok(())
}

fn started(space: &Space, event: &Json) -> Result<Record, String> {
    let worker = match &event["worker"] {
        Json::Null => None,
        Json::String(name) if is_name(name) => Some(name.clone()),
        other => return Err(format!("its worker is {other}")),
    };
    let (number, draw) = (whole(event, "trial")?, whole(event, "draw")?);
    if draw > number {
        return Err(format!("its draw is {draw}"));
    }
    Ok(Record {
        number,
        draw,
        attempt: u32::try_from(whole(event, "attempt")?).map_err(|_| "its attempts are too many")?,
        point: space.parse(&event["point"])?,
        state: State::Running,
        value: None,
        reports: vec![],
        notes: Default::default(),
        seconds: None,
        worker,
    })
}

fn whole(event: &Json, name: &str) -> Result<u64, String> {
    event[name].as_u64().ok_or_else(|| format!("its {name} is {}", event[name]))
}
