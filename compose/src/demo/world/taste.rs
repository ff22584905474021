//! What people like: hidden from the policy, which sees only signals and reactions.
//!
//! A tip is taken up with a probability that depends on its theme and on how the person fares at that
//! moment (that part can be learned from features), on the temperament of the person (which shows in their
//! reactions alone) and on the effort the tip asks for.

use rand::{Rng, rngs::SmallRng};
use scorer::learn::RewardTable;

use super::Moment;

/// What a tip is about, as people feel it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Theme {
    Sleep,
    Pause,
    Move,
    Work,
    Cheer,
    Order,
    Habit,
}

const THEMES: usize = 7;
/// Temperaments: what a cluster of people likes more or less than others, by theme, as a shift of the logit.
const TEMPERAMENTS: [[f64; THEMES]; 4] = [
    [0.5, 0.4, -0.3, 0.0, 0.0, -0.2, 0.1],
    [-0.4, -0.4, 0.6, 0.2, 0.1, 0.0, 0.2],
    [0.0, -0.3, -0.2, 0.6, -0.3, 0.4, -0.1],
    [0.1, 0.3, 0.1, -0.5, 0.6, -0.2, 0.0],
];

/// Without any need for it hardly anybody takes up a tip.
const INDIFFERENT: f64 = -3.4;
/// How much a full need adds.
const NEED: f64 = 5.2;
/// How much the greatest effort takes away, for somebody at their freshest.
const EFFORT: f64 = 0.7;

/// Of the tips taken up, the share that is done at once.
const DONE: f64 = 0.3;
/// Of ten tips not taken up, so many are dismissed …
const DISMISSED: u32 = 5;
/// … and so many put off; the rest is met with silence.
const SNOOZED: u32 = 2;

/// The tastes of one person.
#[derive(Debug, Clone)]
pub struct Tastes {
    willing: f64,
    by_theme: [f64; THEMES],
}

/// What a person does with a tip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// Takes it up.
    Accepted,
    /// Takes it up and has done it.
    Done,
    /// Not for them.
    Dismissed,
    /// Later.
    Snoozed,
    /// Does not react.
    Nothing,
}

impl Tastes {
    /// Draws a temperament and a person of it.
    pub fn new(rng: &mut SmallRng) -> Tastes {
        let temperament = TEMPERAMENTS[rng.random_range(0..TEMPERAMENTS.len())];
        let by_theme = temperament.map(|t| t + rng.random_range(-0.4..0.4));
        Tastes { willing: rng.random_range(-0.5..0.5), by_theme }
    }

    /// The probability that a tip of this category and effort (0 to 1) is taken up at this moment.
    pub fn likes(&self, category: &str, effort: f64, moment: &Moment) -> f64 {
        let theme = theme(category);
        let logit = INDIFFERENT + NEED * need(theme, moment) + self.by_theme[theme as usize] + self.willing
            - EFFORT * effort * (0.5 + moment.tired);
        1.0 / (1.0 + (-logit).exp())
    }
}

impl Reply {
    /// Draws a reply of somebody who takes it up with probability `likes`.
    pub fn draw(likes: f64, rng: &mut SmallRng) -> Reply {
        if rng.random_bool(likes.clamp(0.0, 1.0)) {
            return if rng.random_bool(DONE) { Reply::Done } else { Reply::Accepted };
        }
        match rng.random_range(0..10) {
            turn if turn < DISMISSED => Reply::Dismissed,
            turn if turn < DISMISSED + SNOOZED => Reply::Snoozed,
            _ => Reply::Nothing,
        }
    }

    /// The mean reward of [`Reply::draw`] with these `likes`.
    pub fn worth(likes: f64, rewards: &RewardTable) -> f64 {
        let taken = DONE * rewards.done + (1.0 - DONE) * rewards.accepted;
        let (dismissed, snoozed) = (f64::from(DISMISSED) / 10.0, f64::from(SNOOZED) / 10.0);
        let left = dismissed * rewards.dismissed
            + snoozed * rewards.snoozed
            + (1.0 - dismissed - snoozed) * rewards.ignored;
        likes * taken + (1.0 - likes) * left
    }

    /// Whether the tip was taken up.
    pub fn took_up(self) -> bool {
        matches!(self, Reply::Accepted | Reply::Done)
    }

    /// As feedback names it; silence has no name.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Reply::Accepted => Some("accepted"),
            Reply::Done => Some("done"),
            Reply::Dismissed => Some("dismissed"),
            Reply::Snoozed => Some("snoozed"),
            Reply::Nothing => None,
        }
    }
}

/// How much a person needs a theme at this moment, 0 to 1.
fn need(theme: Theme, m: &Moment) -> f64 {
    let evening = if m.hour >= 18.0 { 1.0 } else { 0.0 };
    let morning = if m.hour < 12.0 { 1.0 } else { 0.0 };
    let need = match theme {
        Theme::Sleep => 0.8 * m.tired + 0.35 * evening - 0.2 * morning,
        Theme::Pause => 0.95 * m.tense + 0.1 * evening,
        Theme::Move => 0.9 * m.still - 0.3 * m.tired + 0.15 * (1.0 - evening),
        Theme::Work => 0.85 * m.loaded + 0.3 * morning - 0.5 * evening,
        Theme::Cheer => 0.95 * m.low,
        Theme::Order => 0.95 * m.booked + 0.1 * morning - 0.4 * evening,
        Theme::Habit => 0.35 + 0.3 * evening - 0.2 * m.loaded,
    };
    need.clamp(0.0, 1.0)
}

/// The theme of a tip's category; categories nobody knows here feel like a habit.
fn theme(category: &str) -> Theme {
    match category {
        "sleep" => Theme::Sleep,
        "rest" => Theme::Pause,
        "movement" => Theme::Move,
        "tasks" | "focus" | "code" => Theme::Work,
        "mood" | "social" | "music" => Theme::Cheer,
        "calendar" | "mail" => Theme::Order,
        _ => Theme::Habit,
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const AT_EASE: Moment =
        Moment { tired: 0.0, loaded: 0.0, tense: 0.0, still: 0.0, booked: 0.0, low: 0.0, hour: 15.0 };

    fn plain() -> Tastes {
        Tastes { willing: 0.0, by_theme: [0.0; THEMES] }
    }

    #[test]
    fn need_makes_a_tip_welcome() {
        for (category, moment) in [
            ("sleep", Moment { tired: 1.0, ..AT_EASE }),
            ("movement", Moment { still: 1.0, ..AT_EASE }),
            ("tasks", Moment { loaded: 1.0, ..AT_EASE }),
            ("rest", Moment { tense: 1.0, ..AT_EASE }),
            ("mood", Moment { low: 1.0, ..AT_EASE }),
            ("calendar", Moment { booked: 1.0, ..AT_EASE }),
        ] {
            assert!(plain().likes(category, 0.0, &AT_EASE) < 0.15, "{category} is not wanted at ease");
            assert!(plain().likes(category, 0.0, &moment) > 0.5, "{category} is wanted in need");
        }
    }

    #[test]
    fn effort_puts_off_the_tired_most() {
        let tired = Moment { tired: 1.0, ..AT_EASE };
        let loss = |m: &Moment| plain().likes("habits", 0.0, m) / plain().likes("habits", 1.0, m);
        assert!(loss(&tired) > loss(&AT_EASE));
    }

    #[test]
    fn replies_follow_the_probability() {
        let mut rng = SmallRng::seed_from_u64(1);
        let taken = (0..10_000).filter(|_| Reply::draw(0.3, &mut rng).took_up()).count();
        assert!((2_850..3_150).contains(&taken), "{taken}");
    }

    #[test]
    fn the_worth_is_the_mean_reward_of_replies() {
        let rewards =
            RewardTable { accepted: 0.9, done: 1.0, snoozed: 0.5, ignored: 0.1, ..RewardTable::default() };
        let mut rng = SmallRng::seed_from_u64(2);
        let draws = 200_000;
        for likes in [0.0, 0.3, 1.0] {
            let drawn = (0..draws).map(|_| {
                let name = Reply::draw(likes, &mut rng).name();
                rewards.of(name.map(|name| name.parse().unwrap()))
            });
            let (mean, worth) = (drawn.sum::<f64>() / f64::from(draws), Reply::worth(likes, &rewards));
            assert!((mean - worth).abs() < 0.005, "{mean} for {worth}");
        }
    }
}
