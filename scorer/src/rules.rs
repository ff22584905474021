//! When to be silent, and which tips to leave out: explicit rules, before any policy is asked.

use ingest::Millis;
use serde::{Deserialize, Serialize};

use crate::{
    memory::{Person, Showing},
    record::ReactionKind,
    tips::Tip,
};

const MINUTE: Millis = 60_000;
const HOUR: Millis = 60 * MINUTE;

/// The rules. Each can be turned off by a number out of reach.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// At most this many tips to one person within an hour.
    pub tips_per_hour: usize,
    /// At most this many tips to one person within 24 hours.
    pub tips_per_day: usize,
    /// After this many dismissals in a row there is silence …
    pub dismissals: usize,
    /// … for this many minutes after the last.
    pub dismissal_pause_minutes: i64,
    /// The same tip is not shown again to the same person for this many hours.
    pub repeat_hours: f64,
    /// A snoozed tip may come again after this many minutes.
    pub snooze_minutes: i64,
    /// At most this many tips of one category to one person within 24 hours.
    pub category_per_day: usize,
    /// The same tip at most this often to one person within 24 hours, whatever else is left; unset for no cap
    /// beside `repeat_hours`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tip_per_day: Option<usize>,
    /// Tips that are shown to nobody, by their ids.
    pub blocked: Vec<String>,
    /// Repeats and full categories are allowed after all when fewer than this many tips would be left.
    pub keep_at_least: usize,
    /// A category is left out once this many of its tips were muted.
    pub mutes_for_category: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            tips_per_hour: 6,
            tips_per_day: 24,
            dismissals: 3,
            dismissal_pause_minutes: 60,
            repeat_hours: 24.0,
            snooze_minutes: 60,
            category_per_day: 6,
            tip_per_day: None,
            blocked: Vec::new(),
            keep_at_least: 3,
            mutes_for_category: 2,
        }
    }
}

/// Why there is no tip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Silence {
    /// No tip applies.
    NoCandidate,
    /// Enough within the hour.
    HourFull,
    /// Enough within the day.
    DayFull,
    /// The last tips were all dismissed.
    Dismissed,
}

impl Silence {
    /// A stable word for metrics and programs.
    pub fn code(self) -> &'static str {
        match self {
            Silence::NoCandidate => "no_candidate",
            Silence::HourFull => "hour_full",
            Silence::DayFull => "day_full",
            Silence::Dismissed => "dismissed",
        }
    }
}

impl Rules {
    /// Whether this person should be left alone at `now`.
    pub fn silence(&self, person: &Person, now: Millis) -> Option<Silence> {
        // In order of time, so it is full when the first of the latest `most` lies within.
        let full = |span, most: usize| match person.shown.len().checked_sub(most) {
            Some(first) => person.shown.get(first).is_none_or(|s| s.at > now - span),
            None => false,
        };
        if full(HOUR, self.tips_per_hour) {
            return Some(Silence::HourFull);
        }
        if full(24 * HOUR, self.tips_per_day) {
            return Some(Silence::DayFull);
        }
        let refused = |kind: &ReactionKind| matches!(kind, ReactionKind::Dismissed | ReactionKind::Muted);
        let streak = person.reactions.iter().rev().take_while(|(_, kind)| refused(kind)).count();
        let last = person.reactions.back().map_or(Millis::MIN / 2, |(at, _)| *at);
        let pausing = now - last < self.dismissal_pause_minutes * MINUTE;
        (self.dismissals > 0 && streak >= self.dismissals && pausing).then_some(Silence::Dismissed)
    }

    /// Those of `tips` that may be shown to this person at `now`, in their order.
    pub fn allowed(&self, person: &Person, now: Millis, tips: &[Tip], candidates: Vec<usize>) -> Vec<usize> {
        let not_muted = |i: &usize| {
            let tip = &tips[*i];
            let category_muted =
                person.muted.get(tip.category.as_str()).is_some_and(|n| *n >= self.mutes_for_category);
            !category_muted
                && !person.tips.get(tip.id.as_str()).is_some_and(|t| t.muted)
                && !self.blocked.contains(&tip.id)
                && !self.tip_full(person, now, &tip.id)
        };
        let candidates: Vec<usize> = candidates.into_iter().filter(not_muted).collect();
        if candidates.len() < self.keep_at_least {
            return candidates;
        }
        let fresh = |i: &usize| {
            let tip = &tips[*i];
            !self.repeats(person, now, tip) && !self.category_full(person, now, &tip.category)
        };
        let fresh: Vec<usize> = candidates.iter().copied().filter(fresh).collect();
        if fresh.len() >= self.keep_at_least { fresh } else { candidates }
    }

    fn repeats(&self, person: &Person, now: Millis, tip: &Tip) -> bool {
        let Some(memory) = person.tips.get(tip.id.as_str()) else { return false };
        let snooze_over = memory
            .snoozed_at
            .is_some_and(|at| at >= memory.shown_at && now - at >= self.snooze_minutes * MINUTE);
        (now - memory.shown_at) as f64 <= self.repeat_hours * HOUR as f64 && !snooze_over
    }

    fn category_full(&self, person: &Person, now: Millis, category: &str) -> bool {
        let same = today(person, now).filter(|s| &*s.category == category);
        same.take(self.category_per_day).count() == self.category_per_day
    }

    fn tip_full(&self, person: &Person, now: Millis, tip: &str) -> bool {
        let shown = |most| today(person, now).filter(|s| &*s.tip == tip).take(most).count();
        self.tip_per_day.is_some_and(|most| shown(most) == most)
    }
}

/// What was shown to a person within 24 hours.
fn today(person: &Person, now: Millis) -> impl Iterator<Item = &Showing> {
    person.shown.iter().rev().take_while(move |s| s.at > now - 24 * HOUR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{memory::Memory, testing::tips};

    const NOW: Millis = 1_700_000_000_000;

    fn shown(memory: &Memory, id: &str, tip: &str, category: &str, ago: Millis) {
        memory.impression(id, "ann", tip, category, NOW - ago);
    }

    fn silence(rules: &Rules, memory: &Memory) -> Option<Silence> {
        memory.with_person("ann", |p| rules.silence(p, NOW))
    }

    fn allowed(rules: &Rules, memory: &Memory) -> Vec<String> {
        let catalogue = tips();
        let all = (0..catalogue.len()).collect();
        let left = memory.with_person("ann", |p| rules.allowed(p, NOW, catalogue.tips(), all));
        left.into_iter().map(|i| catalogue.tips()[i].id.clone()).collect()
    }

    #[test]
    fn an_hour_and_a_day_fill_up_and_empty_again() {
        let rules = Rules { tips_per_hour: 2, tips_per_day: 3, ..Rules::default() };
        let memory = Memory::new(100);
        assert_eq!(silence(&rules, &memory), None);
        shown(&memory, "1", "walk", "movement", 10 * MINUTE);
        assert_eq!(silence(&rules, &memory), None);
        shown(&memory, "2", "nap", "rest", 59 * MINUTE);
        assert_eq!(silence(&rules, &memory), Some(Silence::HourFull));
        let memory = Memory::new(100);
        for (i, ago) in [2, 5, 23].into_iter().enumerate() {
            shown(&memory, &i.to_string(), "walk", "movement", ago * HOUR);
        }
        assert_eq!(silence(&rules, &memory), Some(Silence::DayFull));
        let later = memory.with_person("ann", |p| rules.silence(p, NOW + HOUR));
        assert_eq!(later, None, "the oldest has left the day");
    }

    #[test]
    fn dismissals_in_a_row_bring_a_pause_that_ends() {
        let rules = Rules { dismissals: 2, ..Rules::default() };
        let memory = Memory::new(100);
        for (i, kind) in [ReactionKind::Accepted, ReactionKind::Dismissed].into_iter().enumerate() {
            shown(&memory, &i.to_string(), "walk", "movement", 30 * HOUR);
            memory.reaction(&i.to_string(), kind, NOW - 20 * MINUTE + i as i64);
        }
        assert_eq!(silence(&rules, &memory), None, "one is no streak");
        shown(&memory, "3", "nap", "rest", 30 * HOUR);
        memory.reaction("3", ReactionKind::Muted, NOW - 10 * MINUTE);
        assert_eq!(silence(&rules, &memory), Some(Silence::Dismissed));
        assert_eq!(memory.with_person("ann", |p| rules.silence(p, NOW + HOUR)), None);
    }

    #[test]
    fn repeats_and_full_categories_step_aside_unless_little_is_left() {
        let rules = Rules { category_per_day: 2, keep_at_least: 1, ..Rules::default() };
        let memory = Memory::new(100);
        assert_eq!(allowed(&rules, &memory), ["walk", "stretch", "nap"]);
        shown(&memory, "1", "walk", "movement", 2 * HOUR);
        assert_eq!(allowed(&rules, &memory), ["stretch", "nap"]);
        shown(&memory, "2", "walk", "movement", HOUR);
        assert_eq!(allowed(&rules, &memory), ["nap"], "movement is full");
        let generous = Rules { keep_at_least: 2, ..rules };
        assert_eq!(allowed(&generous, &memory), ["walk", "stretch", "nap"]);
    }

    #[test]
    fn what_an_operator_blocks_or_caps_stays_away_whatever_is_left() {
        let blocked = Rules { blocked: vec!["walk".into()], ..Rules::default() };
        assert_eq!(allowed(&blocked, &Memory::new(100)), ["stretch", "nap"]);
        let capped = Rules { tip_per_day: Some(2), repeat_hours: 0.0, ..Rules::default() };
        let memory = Memory::new(100);
        shown(&memory, "1", "nap", "rest", 23 * HOUR);
        assert_eq!(allowed(&capped, &memory), ["walk", "stretch", "nap"]);
        shown(&memory, "2", "nap", "rest", HOUR);
        assert_eq!(allowed(&capped, &memory), ["walk", "stretch"], "fewer than `keep_at_least` all the same");
        let later = memory.with_person("ann", |p| capped.allowed(p, NOW + 2 * HOUR, tips().tips(), vec![2]));
        assert_eq!(later, [2], "the first is a day ago");
    }

    #[test]
    fn snoozed_tips_come_again_and_muted_ones_never() {
        let rules = Rules { keep_at_least: 0, mutes_for_category: 2, ..Rules::default() };
        let memory = Memory::new(100);
        shown(&memory, "1", "walk", "movement", 2 * HOUR);
        memory.reaction("1", ReactionKind::Snoozed, NOW - 90 * MINUTE);
        assert_eq!(allowed(&rules, &memory), ["walk", "stretch", "nap"]);
        shown(&memory, "2", "walk", "movement", 40 * MINUTE);
        memory.reaction("2", ReactionKind::Snoozed, NOW - 30 * MINUTE);
        assert_eq!(allowed(&rules, &memory), ["stretch", "nap"], "snoozed anew");
        shown(&memory, "3", "nap", "rest", 48 * HOUR);
        memory.reaction("3", ReactionKind::Muted, NOW - 48 * HOUR);
        assert_eq!(allowed(&rules, &memory), ["stretch"]);
        memory.reaction("2", ReactionKind::Muted, NOW);
        shown(&memory, "4", "stretch", "movement", 48 * HOUR);
        memory.reaction("4", ReactionKind::Muted, NOW);
        assert_eq!(allowed(&rules, &memory), Vec::<String>::new(), "both of a category muted");
    }
}
