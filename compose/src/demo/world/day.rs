//! One day of one person: how the night was, what the day brings, and the signals of all that.

use ingest::Millis;
use rand::{Rng, rngs::SmallRng};
use serde_json::{Value, json};

use super::{DAY, HOUR, MINUTE, Person, Posted};

const PROJECTS: [&str; 6] = ["house", "launch", "thesis", "garden", "taxes", "hiring"];
const HABITS: [&str; 4] = ["read", "stretch", "write", "water"];
const PLACES: [&str; 3] = ["home", "work", "out"];
const GENRES: [&str; 4] = ["ambient", "jazz", "rock", "folk"];

/// What a day is like; known to the simulation alone, but for the signals.
#[derive(Default)]
pub struct Day {
    pub midnight: Millis,
    pub woke: f64,
    pub retires: f64,
    pub slept: f64,
    pub tasks: u32,
    pub meetings: u32,
    pub calm: f64,
    pub mood: f64,
    pub steps: Vec<f64>,
    pub signals: Vec<Posted>,
}

/// Plans the day that begins at `midnight`; the person's state drifts a day on.
pub fn plan(person: &mut Person, midnight: Millis) -> Day {
    let weekend = (midnight / DAY + 4).rem_euclid(7) >= 5;
    let (rhythm, drift, rng) = (&person.rhythm, &mut person.drift, &mut person.rng);
    drift.sleep = 0.8 * drift.sleep + noise(rng, 40.0);
    drift.load = 0.7 * drift.load + noise(rng, 2.5);
    drift.calm = 0.7 * drift.calm + noise(rng, 0.7);
    let slept = (rhythm.sleeps + drift.sleep + noise(rng, 20.0) + if weekend { 35.0 } else { 0.0 })
        .clamp(180.0, 620.0);
    let woke = (rhythm.wakes + if weekend { 1.0 } else { 0.0 } + noise(rng, 0.3)).clamp(4.0, 11.0);
    let work = if weekend { 0.3 } else { 1.0 };
    let tasks = count(rng, (rhythm.tasks + drift.load).max(0.5) * work);
    let meetings = count(rng, rhythm.meetings * work);
    let calm = (rhythm.calm + drift.calm - 0.06 * f64::from(meetings) + noise(rng, 0.3)).clamp(1.0, 5.0);
    let mood = (rhythm.mood + 0.3 * drift.calm + (slept - 440.0) / 200.0 + noise(rng, 0.4)).clamp(1.0, 5.0);
    let pace = rhythm.steps * rng.random_range(0.3..1.6);
    let steps =
        (0..24).map(|h| if (h as f64) < woke { 0.0 } else { pace * rng.random_range(0.2..1.8) }).collect();
    let retires = (woke + 24.0 - slept / 60.0).min(23.9);
    let mut day =
        Day { midnight, woke, retires, slept, tasks, meetings, calm, mood, steps, signals: Vec::new() };
    let codes = rhythm.codes && !weekend;
    morning(&mut day, rng);
    work_day(&mut day, rng, codes);
    all_day(&mut day, rng);
    evening(&mut day, rng);
    day.signals.sort_by_key(|s| s.time);
    day
}

fn morning(day: &mut Day, rng: &mut SmallRng) {
    let woke = day.woke;
    let in_bed = day.slept + rng.random_range(15.0..60.0);
    day.post("watch", "sleep.session", woke, json!({
        "start": instant(day.midnight + (woke * HOUR as f64) as Millis - (in_bed * MINUTE as f64) as Millis),
        "end": instant(day.midnight + (woke * HOUR as f64) as Millis),
        "minutes_asleep": day.slept as i64,
        "minutes_in_bed": in_bed as i64,
        "main_sleep": true,
    }));
    day.post("watch", "heart.resting", woke + 0.1, json!({"bpm": (62.0 + noise(rng, 5.0)).round()}));
    day.report_mood(woke + rng.random_range(0.3..1.2), rng);
    for meeting in 0..day.meetings {
        let start = 9.0 + f64::from(meeting) * 1.1;
        let minutes = [30, 45, 60, 90][rng.random_range(0..4)];
        let begins = day.midnight + (start * HOUR as f64) as Millis;
        day.post(
            "calendar",
            "calendar.event",
            woke + rng.random_range(0.2..1.5),
            json!({
                "event": format!("{}-{meeting}", day.midnight / DAY),
                "kind": "meeting",
                "status": "booked",
                "start": instant(begins),
                "end": instant(begins + minutes * MINUTE),
                "minutes": minutes,
                "attendees": rng.random_range(2..10),
            }),
        );
    }
}

fn work_day(day: &mut Day, rng: &mut SmallRng, codes: bool) {
    let (from, to) = (day.woke + 0.5, (day.woke + 11.0).min(day.retires));
    for task in 0..day.tasks {
        let name = format!("{}-{task}", day.midnight / DAY);
        let project = PROJECTS[rng.random_range(0..PROJECTS.len())];
        let priority = ["low", "normal", "normal", "high", "urgent"][rng.random_range(0..5)];
        let made = rng.random_range(from..(from + to) / 2.0);
        let minutes = rng.random_range(10..90);
        day.post(
            "tasks",
            "task.created",
            made,
            json!({
                "task": name, "project": project, "priority": priority, "estimate_minutes": minutes,
                "due": instant(day.midnight + rng.random_range(12..72) * HOUR),
            }),
        );
        let later = rng.random_range(made..to);
        // A loaded day gets less of itself done.
        if rng.random_bool((0.9 - f64::from(day.tasks) * 0.04).clamp(0.2, 0.9)) {
            day.post(
                "tasks",
                "task.completed",
                later,
                json!({
                    "task": name, "project": project, "minutes": minutes, "priority": priority,
                }),
            );
        } else if rng.random_bool(0.6) {
            day.post("tasks", "task.snoozed", later, json!({"task": name, "project": project, "times": 1}));
        }
    }
    if codes {
        for _ in 0..rng.random_range(0..5) {
            let hour = rng.random_range(from..to);
            let repo = PROJECTS[rng.random_range(0..PROJECTS.len())];
            day.post(
                "git",
                "code.pushed",
                hour,
                json!({
                    "repo": repo, "files": rng.random_range(1..12), "commits": rng.random_range(1..5),
                }),
            );
        }
    }
    for _ in 0..rng.random_range(2..8) {
        let hour = rng.random_range(from..to);
        day.post(
            "mail",
            "mail.received",
            hour,
            json!({"reply": rng.random_bool(0.4), "bulk": rng.random_bool(0.3)}),
        );
    }
}

fn all_day(day: &mut Day, rng: &mut SmallRng) {
    for hour in (day.woke.ceil() as usize)..(day.retires as usize) {
        let steps = day.steps[hour] as i64;
        let start = day.midnight + hour as Millis * HOUR;
        day.post(
            "watch",
            "steps.counted",
            hour as f64 + 1.0,
            json!({"start": instant(start), "steps": steps}),
        );
    }
    for _ in 0..rng.random_range(1..5) {
        let hour = rng.random_range(day.woke..day.retires);
        let place = PLACES[rng.random_range(0..PLACES.len())];
        day.post("phone", "context.changed", hour, json!({"place": place, "focusing": rng.random_bool(0.3)}));
    }
    if rng.random_bool(0.4) {
        let hour = rng.random_range(day.woke + 1.0..day.retires);
        let genre = GENRES[rng.random_range(0..GENRES.len())];
        let minutes = rng.random_range(3.0..40.0f64).round();
        day.post("music", "listen.played", hour, json!({"genre": genre, "minutes": minutes}));
    }
}

fn evening(day: &mut Day, rng: &mut SmallRng) {
    let hour = (day.retires - rng.random_range(0.5..2.5)).max(day.woke + 1.0);
    for habit in HABITS {
        if rng.random_bool(0.5) {
            let done = rng.random_bool(0.7);
            day.post(
                "habits",
                "habit.checked",
                hour + rng.random_range(0.0..0.3),
                json!({"habit": habit, "done": done}),
            );
        }
    }
    if rng.random_bool(0.3) {
        let minutes = rng.random_range(15.0..75.0f64).round();
        day.post("watch", "exercise.session", hour - 0.5, json!({"activity": "run", "minutes": minutes}));
    }
    if rng.random_bool(0.5) {
        day.report_mood(hour, rng);
    }
}

impl Day {
    fn post(&mut self, source: &'static str, kind: &'static str, hour: f64, data: Value) {
        // Everything of a day stays within it, so that days follow one another in order.
        let time = self.midnight + ((hour * HOUR as f64) as Millis).clamp(0, DAY - 1);
        self.signals.push(Posted { time, kind, source, data });
    }

    fn report_mood(&mut self, hour: f64, rng: &mut SmallRng) {
        let scale = |x: f64| x.round().clamp(1.0, 5.0) as i64;
        let fresh = 1.0 + (self.slept - 240.0) / 70.0;
        let data = json!({
            "mood": scale(self.mood + noise(rng, 0.2)),
            "stress": scale(self.calm + noise(rng, 0.2)),
            "fatigue": scale(fresh),
            "readiness": (2.0 * fresh).round().clamp(1.0, 10.0) as i64,
            "sleep_hours": (self.slept / 6.0).round() / 10.0,
        });
        self.post("diary", "mood.reported", hour, data);
    }
}

/// Bell-shaped noise of this standard deviation (the sum of twelve uniform draws).
fn noise(rng: &mut SmallRng, deviation: f64) -> f64 {
    let sum: f64 = (0..12).map(|_| rng.random::<f64>()).sum();
    (sum - 6.0) * deviation
}

/// A count around `mean`.
fn count(rng: &mut SmallRng, mean: f64) -> u32 {
    (mean + noise(rng, mean.sqrt())).round().max(0.0) as u32
}

fn instant(at: Millis) -> String {
    jiff::Timestamp::from_millisecond(at).map(|t| t.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::people;
    use super::*;

    #[test]
    fn signals_stay_within_their_day_and_are_of_many_types() {
        let start = 20_000 * DAY;
        let mut kinds = std::collections::BTreeSet::new();
        for person in &mut people(20, 5, start) {
            for ahead in 1..8 {
                let day = plan(person, start + ahead * DAY);
                assert!(day.signals.iter().all(|s| (day.midnight..day.midnight + DAY).contains(&s.time)));
                assert!(day.woke < day.retires);
                kinds.extend(day.signals.iter().map(|s| s.kind));
            }
        }
        assert!(kinds.len() >= 13, "{kinds:?}");
    }
}
