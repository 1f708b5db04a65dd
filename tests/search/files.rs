//! The file of a study: kills, several processes, damage, other spaces.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use kiln::Error;
use kiln::rng::Philox;
use kiln::search::{Goal, Random, Record, Sampler, Space, State, Study, StudyConfig, Tpe};

use super::{loss, space, studied};

/// A path for a study that no other test has.
fn path(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("search");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("{name}.jsonl"));
    let _ = fs::remove_file(&path);
    path
}

fn open(path: &Path, sampler: impl Sampler + 'static) -> kiln::Result<Study> {
    Study::open(path, space(), sampler, StudyConfig::default())
}

/// What does not differ between two runs of the same trials.
fn told(trials: &[Record]) -> Vec<String> {
    let told = |trial: &Record| format!("{} {} {:?} {:?}", trial.draw, trial.point, trial.value, trial.reports);
    trials.iter().map(told).collect()
}

#[test]
fn a_study_goes_on_where_its_file_ends() {
    let path = path("resumed");
    for trials in [7, 15, 15, 20] {
        let mut study = open(&path, Tpe::default()).unwrap();
        study.run(trials, loss).unwrap();
        assert_eq!(study.trials().len() as u64, trials);
    }
    let study = open(&path, Tpe::default()).unwrap();
    // To the same bits as a study that was never closed.
    assert_eq!(told(study.trials()), told(studied(Tpe::default(), 0, 20).trials()));
    assert_eq!(
        fs::read_dir(path.parent().unwrap())
            .unwrap()
            .filter(|entry| { entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("resumed.jsonl.") })
            .count(),
        0,
        "no lock is left"
    );
}

#[test]
fn a_last_line_that_was_cut_short_is_cut_off() {
    let path = path("torn");
    open(&path, Tpe::default()).unwrap().run(12, loss).unwrap();
    let text = fs::read(&path).unwrap();
    let last = text[..text.len() - 1].iter().rposition(|&byte| byte == b'\n').unwrap() + 1;
    for length in [last + 1, (last + text.len()) / 2, text.len() - 1] {
        fs::write(&path, &text[..length]).unwrap();
        let mut study = open(&path, Tpe::default()).unwrap();
        // Its end was lost, so the trial counts as killed, and its point is tried again.
        assert_eq!(study.trials().len(), 12);
        study.run(14, loss).unwrap();
        assert_eq!(study.trials().len(), 15);
        assert_eq!(study.trials()[11].state, State::Killed);
        assert_eq!((study.trials()[12].draw, study.trials()[12].attempt), (11, 1));
        let whole = studied(Tpe::default(), 0, 14);
        assert_eq!(told(&study.trials()[12..]), told(&whole.trials()[11..]), "as if nothing had been");
    }
    // Within the first line.
    for length in [0, 5, 30] {
        fs::write(&path, &text[..length]).unwrap();
        assert_eq!(open(&path, Random).unwrap().trials().len(), 0);
        assert!(fs::read(&path).unwrap().ends_with(b"\n"));
    }
}

#[test]
fn a_file_of_another_space_goal_or_seed_is_refused() {
    let path = path("another");
    open(&path, Random).unwrap().run(3, loss).unwrap();
    let before = fs::read(&path).unwrap();
    let refused = |space: Space, config: StudyConfig| {
        let error = Study::open(&path, space, Random, config).unwrap_err();
        assert!(matches!(error, Error::Checkpoint { .. }), "{error}");
        error.to_string()
    };
    let config = StudyConfig::default();
    assert!(refused(space().uniform("more", 0.0, 1.0), config).contains("its space is"));
    assert!(refused(Space::new().log_uniform("lr", 1e-4, 0.5), config).contains("its space is"));
    assert!(refused(space(), StudyConfig { goal: Goal::Maximize, ..config }).contains("its goal is \"minimize\""));
    assert!(refused(space(), StudyConfig { seed: 1, ..config }).contains("its seed is 0"));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_file_that_is_no_study_is_refused_and_left_alone() {
    for (name, text) in
        [("prose", "Dear diary"), ("json", "{\"a\": 1}\n"), ("lines", "no\njson\n"), ("bytes", "\u{0}\u{1}\n")]
    {
        let path = path(name);
        fs::write(&path, text).unwrap();
        let error = open(&path, Random).unwrap_err();
        assert!(matches!(error, Error::File { offset: 0, .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    assert!(matches!(open(&folder, Random), Err(Error::Io { .. })));
    assert!(matches!(open(&folder.join("not/there.jsonl"), Random), Err(Error::Io { .. })));
}

#[test]
fn a_damaged_line_is_named_by_its_place() {
    let path = path("damaged");
    open(&path, Random).unwrap().run(2, loss).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let damages = [
        (1, "{\"event\":\"start\",\"trial\":9,\"draw\":0,\"attempt\":0,\"point\":{}}"),
        (
            1,
            "{\"event\":\"start\",\"trial\":0,\"draw\":18446744073709551615,\"attempt\":0,\"point\":{},\"worker\":null}",
        ),
        (1, "{\"event\":\"start\",\"trial\":0,\"draw\":0,\"attempt\":0,\"point\":{},\"worker\":\"../../etc/passwd\"}"),
        (1, "{\"event\":\"start\",\"trial\":0,\"draw\":0,\"attempt\":0,\"point\":{\"lr\":7.0},\"worker\":null}"),
        (2, "{\"event\":\"end\",\"trial\":77,\"state\":\"complete\",\"value\":1}"),
        (2, "{\"event\":\"end\",\"trial\":0,\"state\":\"complete\",\"value\":null}"),
        (2, "{\"event\":\"end\",\"trial\":0,\"state\":\"won\",\"value\":1}"),
        (2, "{\"event\":\"dance\",\"trial\":0}"),
        (2, "[1, 2]"),
        (2, "{\"event\":\"end\",\"tri"),
    ];
    for (line, damage) in damages {
        let mut lines = lines.clone();
        lines[line] = damage;
        fs::write(&path, lines.join("\n") + "\n").unwrap();
        let at: usize = lines[..line].iter().map(|line| line.len() + 1).sum();
        let error = open(&path, Random).unwrap_err();
        assert!(matches!(error, Error::File { offset, .. } if offset == at as u64), "{damage}: {error}");
    }
}

#[test]
fn any_damage_is_an_error_or_a_study_that_goes_on() {
    let path = path("flipped");
    open(&path, Random).unwrap().run(12, loss).unwrap();
    let whole = fs::read(&path).unwrap();
    let (mut random, mut refused) = (Philox::new(7, 0), 0);
    for _ in 0..300 {
        let mut text = whole.clone();
        for _ in 0..=random.below(3) {
            let place = random.below(text.len() as u32) as usize;
            // A digit, a letter, or any byte.
            text[place] = [b"0123456789eE-."[random.below(14) as usize], random.next_u32() as u8][place % 2];
        }
        fs::write(&path, text).unwrap();
        match open(&path, Tpe::default()) {
            Ok(mut study) => {
                let page = study.report("damaged");
                assert!(page.ends_with("</html>\n"));
                study.run(14, loss).unwrap();
            }
            Err(error) => {
                assert!(matches!(error, Error::File { .. } | Error::Checkpoint { .. }), "{error}");
                refused += 1;
            }
        }
    }
    assert!((100..300).contains(&refused), "{refused} of 300 refused");
}

#[test]
fn a_file_that_shrinks_while_it_is_open_is_an_error() {
    let path = path("shrunk");
    let mut study = open(&path, Random).unwrap();
    study.run(2, loss).unwrap();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(10).unwrap();
    assert!(matches!(study.run(3, loss), Err(Error::File { .. })));
}

#[test]
fn two_handles_see_each_other_s_trials() {
    let path = path("handles");
    let (mut one, mut other) = (open(&path, Random).unwrap(), open(&path, Random).unwrap());
    let trial = one.ask().unwrap().unwrap();
    other.run(3, loss).unwrap();
    // The first draw runs in `one`, which is alive.
    let states: Vec<&State> = other.trials().iter().map(|trial| &trial.state).collect();
    assert_eq!(states, [&State::Running, &State::Complete, &State::Complete]);
    trial.finish(Ok::<f64, Error>(0.5)).unwrap();
    other.refresh().unwrap();
    assert_eq!(told(other.trials()), told(one.trials()));
    assert!(other.trials().iter().all(|trial| trial.state == State::Complete));
}

/// Runs this test binary again, for `worker` alone.
fn process(path: &Path, what: &str) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["files::worker", "--exact", "--ignored"])
        .env("SEARCH_STUDY", path)
        .env("SEARCH_WORKER", what)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// What another process does.
#[test]
#[ignore = "another process of tests below"]
fn worker() {
    let Ok(path) = std::env::var("SEARCH_STUDY") else { return };
    let hangs = std::env::var("SEARCH_WORKER").is_ok_and(|what| what == "hang");
    let mut study = open(Path::new(&path), Random).unwrap();
    study
        .run(40, |trial| {
            if hangs && trial.number() == 2 {
                std::thread::sleep(Duration::from_secs(600));
            }
            loss(trial)
        })
        .unwrap();
}

#[test]
fn several_processes_share_the_trials() {
    let path = path("shared");
    let workers: Vec<_> = (0..3).map(|_| process(&path, "work")).collect();
    for mut worker in workers {
        assert!(worker.wait().unwrap().success());
    }
    let study = open(&path, Random).unwrap();
    // Each point once, the same as one process would have drawn.
    assert_eq!(told(study.trials()), told(studied(Random, 0, 40).trials()));
    assert!(study.trials().iter().all(|trial| trial.state == State::Complete));
}

#[test]
fn a_killed_trial_is_recorded_and_tried_again_but_not_for_ever() {
    let path = path("killed");
    let mut worker = process(&path, "hang");
    // Until it hangs in its third trial.
    let begun = |text: String| text.matches("\"event\":\"start\"").count();
    for waited in 0.. {
        if fs::read_to_string(&path).is_ok_and(|text| begun(text) == 3) {
            break;
        }
        assert!(waited < 1500, "the worker does not come to its third trial");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut study = open(&path, Random).unwrap();
    study.refresh().unwrap();
    assert_eq!(study.trials()[2].state, State::Running);
    worker.kill().unwrap();
    worker.wait().unwrap();
    study.refresh().unwrap();
    assert_eq!(study.trials()[2].state, State::Killed);

    let trial = study.ask().unwrap().unwrap();
    assert_eq!((trial.record().draw, trial.record().attempt, trial.number()), (2, 1, 3));
    assert_eq!(trial.point(), &studied(Random, 0, 3).trials()[2].point);
    // As a kill leaves it.
    std::mem::forget(trial);
    drop(study);
    let mut study = open(&path, Random).unwrap();
    study.run(5, loss).unwrap();
    assert_eq!(study.trials()[3].state, State::Killed);
    // Killed twice, its point is left alone.
    assert_eq!(study.trials()[4..].iter().map(|trial| trial.draw).collect::<Vec<_>>(), [3, 4]);
}
