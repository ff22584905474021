//! One person: a rhythm of life, a state that drifts from day to day, and the plan of the current day.

use ingest::Millis;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use scorer::learn::RewardTable;

use super::{DAY, HOUR, MINUTE, Moment, Posted, Reply, day, taste::Tastes};

const NAMES: [&str; 40] = [
    "ada", "amir", "ana", "bela", "bo", "carl", "chen", "dana", "dario", "eda", "elif", "emil", "fay",
    "finn", "gil", "hana", "ida", "ines", "ivo", "jin", "joss", "kai", "kira", "lara", "leo", "lin", "mara",
    "mika", "nia", "noa", "omar", "pia", "quin", "ravi", "rosa", "sami", "tara", "uma", "vera", "yara",
];

/// Habits that stay.
#[derive(Debug, Clone)]
pub struct Rhythm {
    /// Hour of waking.
    pub wakes: f64,
    /// Minutes of sleep on a usual night.
    pub sleeps: f64,
    /// New tasks on a work day.
    pub tasks: f64,
    /// Meetings on a work day.
    pub meetings: f64,
    /// Steps in a waking hour.
    pub steps: f64,
    /// Usual mood, 1 to 5.
    pub mood: f64,
    /// Usual calm, 1 to 5.
    pub calm: f64,
    /// Whether they write code.
    pub codes: bool,
}

/// What drifts from day to day, each around the person's usual.
#[derive(Debug, Clone)]
pub struct Drift {
    /// Sleep gained or lost a night, in minutes.
    pub sleep: f64,
    /// Tasks above the usual.
    pub load: f64,
    /// Calm above the usual.
    pub calm: f64,
}

/// Somebody who lives in the simulation.
pub struct Person {
    /// Who it is, as signals name them.
    pub id: String,
    pub(super) rhythm: Rhythm,
    pub(super) drift: Drift,
    pub(super) rng: SmallRng,
    tastes: Tastes,
    today: day::Day,
    posted: usize,
    next_look: Millis,
    counter: u64,
}

/// `count` people who begin their life at `start`, all from one seed.
pub fn people(count: usize, seed: u64, start: Millis) -> Vec<Person> {
    (0..count).map(|i| Person::new(i, seed, start)).collect()
}

impl Person {
    fn new(index: usize, seed: u64, start: Millis) -> Person {
        let mut rng = SmallRng::seed_from_u64(seed ^ (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let rhythm = Rhythm {
            wakes: rng.random_range(5.5..8.5),
            sleeps: rng.random_range(370.0..500.0),
            tasks: rng.random_range(2.0..12.0),
            meetings: rng.random_range(0.0..6.0),
            steps: rng.random_range(150.0..900.0),
            mood: rng.random_range(2.4..4.2),
            calm: rng.random_range(1.8..4.4),
            codes: rng.random_bool(0.4),
        };
        let tastes = Tastes::new(&mut rng);
        let name = NAMES[index % NAMES.len()];
        let mut person = Person {
            id: format!("{name}-{}", index / NAMES.len() + 1),
            rhythm,
            drift: Drift { sleep: 0.0, load: 0.0, calm: 0.0 },
            rng,
            tastes,
            today: day::Day::default(),
            posted: 0,
            next_look: start,
            counter: 0,
        };
        let midnight = start - start.rem_euclid(DAY);
        person.today = day::plan(&mut person, midnight);
        person
    }

    /// The signals that happened up to `now` and were not given out yet, in order of time.
    pub fn signals_until(&mut self, now: Millis) -> Vec<Posted> {
        let mut due = Vec::new();
        loop {
            while let Some(signal) = self.today.signals.get(self.posted).filter(|s| s.time <= now) {
                due.push(signal.clone());
                self.posted += 1;
            }
            let next = self.today.midnight + DAY;
            // A night's sleep ends after midnight, so the next day's plan is always the one to wait for.
            if now < next {
                return due;
            }
            self.today = day::plan(self, next);
            self.posted = 0;
        }
    }

    /// A number no other signal of this person has.
    pub fn next_number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// Whether the person looks for a tip now; they look about every `every` while awake.
    pub fn looks(&mut self, now: Millis, every: Millis) -> bool {
        if now < self.next_look {
            return false;
        }
        let pause = every as f64 * -self.rng.random_range(1e-3f64..1.0).ln().clamp(-4.0, -0.2);
        let overdue = now - self.next_look > 2 * every;
        self.next_look = now + pause as Millis;
        // After a night many are overdue at once: spread them.
        !overdue && self.awake(now)
    }

    /// Whether they are up.
    pub fn awake(&self, now: Millis) -> bool {
        let hour = (now - self.today.midnight) as f64 / HOUR as f64;
        hour >= self.today.woke && hour < self.today.retires
    }

    /// How they fare.
    pub fn moment(&self, now: Millis) -> Moment {
        let hour = ((now - self.today.midnight) as f64 / HOUR as f64).clamp(0.0, 24.0);
        let unit = |x: f64| x.clamp(0.0, 1.0);
        let steps_by_now: f64 = self.today.steps.iter().take(hour as usize).sum();
        let awake_hours = (hour - self.today.woke).max(1.0);
        Moment {
            tired: unit((480.0 - self.today.slept - self.drift.sleep.min(0.0)) / 150.0),
            loaded: unit(self.today.tasks as f64 / 12.0),
            tense: unit((4.0 - self.today.calm) / 3.0),
            still: unit(1.0 - steps_by_now / awake_hours / 700.0),
            booked: unit(self.today.meetings as f64 / 6.0),
            low: unit((4.0 - self.today.mood) / 2.5),
            hour,
        }
    }

    /// How likely they are to take up a tip of this category now.
    pub fn likes(&self, category: &str, effort: f64, now: Millis) -> f64 {
        self.tastes.likes(category, effort, &self.moment(now))
    }

    /// The mean reward of showing them a tip of this category now.
    pub fn worth(&self, category: &str, effort: f64, now: Millis, rewards: &RewardTable) -> f64 {
        Reply::worth(self.likes(category, effort, now), rewards)
    }

    /// What they do with a tip of this category, and after how long.
    pub fn reply(&mut self, category: &str, effort: f64, now: Millis) -> (Reply, Millis) {
        let likes = self.likes(category, effort, now);
        let reply = Reply::draw(likes, &mut self.rng);
        (reply, MINUTE * self.rng.random_range(1..20))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Millis = 1_760_000_000_000;

    #[test]
    fn one_seed_is_one_life_however_it_is_cut() {
        let whole =
            people(3, 7, START).iter_mut().map(|p| p.signals_until(START + 3 * DAY)).collect::<Vec<_>>();
        let mut again = people(3, 7, START);
        let mut pieces = vec![Vec::new(); 3];
        for step in 0..=300 {
            for (p, all) in again.iter_mut().zip(&mut pieces) {
                all.extend(p.signals_until(START + 3 * DAY * step / 300));
            }
        }
        assert_eq!(whole, pieces);
        assert!(whole.iter().all(|w| w.len() > 60), "three days bring many signals");
        assert!(whole.iter().all(|w| w.windows(2).all(|s| s[0].time <= s[1].time)));
    }

    #[test]
    fn other_seeds_are_other_lives() {
        let life = |seed| people(1, seed, START)[0].signals_until(START + DAY);
        assert_ne!(life(1), life(2));
    }

    #[test]
    fn names_are_unique() {
        let all = people(300, 1, START);
        let names: std::collections::BTreeSet<_> = all.iter().map(|p| &p.id).collect();
        assert_eq!(names.len(), 300);
    }

    #[test]
    fn people_look_while_awake_and_only_now_and_then() {
        let mut all = people(50, 3, START);
        let (mut looks, mut asleep) = (0, 0);
        for minute in 0..(2 * 24 * 60) {
            let now = START + minute * MINUTE;
            for p in &mut all {
                p.signals_until(now);
                if p.looks(now, 2 * HOUR) {
                    looks += 1;
                    asleep += usize::from(!p.awake(now));
                }
            }
        }
        assert_eq!(asleep, 0);
        let a_day = f64::from(looks) / 100.0;
        assert!((4.0..14.0).contains(&a_day), "{a_day} looks a day");
    }
}
