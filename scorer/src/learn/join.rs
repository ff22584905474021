//! The join of impressions and reactions: a state machine, without log or clock.

use std::collections::{BTreeMap, VecDeque};

use hashbrown::HashMap;
use ingest::{
    Millis,
    log::{Offset, Partition, Position},
    record::RecordRef,
};
use prost::Message;

use super::{IGNORED, LearnConfig};
use crate::record::{IMPRESSION, REACTION, Reaction, ReactionKind, Reward, names_hash};

/// A reward and whom it is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// The person.
    pub user: String,
    /// The reward.
    pub reward: Reward,
}

/// What a reward needs of an [`Impression`](crate::record::Impression). The candidates are most of one; they
/// are passed over.
#[derive(Clone, PartialEq, Message)]
struct Shown {
    #[prost(string, optional, tag = "1")]
    tip: Option<String>,
    #[prost(string, optional, tag = "2")]
    category: Option<String>,
    #[prost(string, optional, tag = "4")]
    policy: Option<String>,
    #[prost(string, optional, tag = "5")]
    policy_version: Option<String>,
    #[prost(double, optional, tag = "6")]
    propensity: Option<f64>,
    #[prost(string, repeated, tag = "8")]
    context_names: Vec<String>,
    #[prost(double, repeated, tag = "9")]
    context: Vec<f64>,
}

/// Reactions kept whose impression has not been seen; it may be a little behind.
const ORPHANS: usize = 4096;

/// Joins the impressions and reactions of some partitions. An impression and its reactions are about one
/// subject, so they share a partition, and each partition keeps a time of its own: the latest arrival seen.
pub struct Join {
    window: Millis,
    grace: Millis,
    config: LearnConfig,
    partitions: BTreeMap<Partition, Lane>,
}

#[derive(Default)]
struct Lane {
    /// Latest arrival seen.
    time: Millis,
    next: Offset,
    open: HashMap<String, Open>,
    /// By end of window, then offset.
    deadlines: BTreeMap<(Millis, Offset), String>,
    orphans: VecDeque<(String, ReactionKind, Millis)>,
}

struct Open {
    settled: Settled,
    deadline: Millis,
    offset: Offset,
    /// A reaction that counts unless another settles.
    held: Option<ReactionKind>,
}

impl Join {
    /// With this window and these rewards, about to read from `from`.
    pub fn new(config: &LearnConfig, from: &Position) -> Join {
        let ms = |x: f64, unit: f64| (x * unit) as Millis;
        let lane = |next: &Offset| Lane { next: *next, ..Lane::default() };
        Join {
            window: ms(config.window_minutes, 60_000.0),
            grace: ms(config.grace_seconds, 1000.0),
            config: config.clone(),
            partitions: from.0.iter().map(|(partition, next)| (*partition, lane(next))).collect(),
        }
    }

    /// Takes the next record of a partition, of whatever type, and adds what it settles to `out`.
    pub fn apply(
        &mut self,
        partition: Partition,
        offset: Offset,
        record: &RecordRef<'_>,
        out: &mut Vec<Settled>,
    ) {
        let lane = self.partitions.entry(partition).or_default();
        lane.next = lane.next.max(offset + 1);
        match record.kind {
            // A record that does not decode was checked at the door by the same declaration, so it can only
            // come from a newer program; there is nothing to learn from it.
            IMPRESSION => {
                if let Ok(shown) = Shown::decode(record.data) {
                    lane.open(offset, record, shown, self.window);
                    let (mine, others): (VecDeque<_>, VecDeque<_>) =
                        std::mem::take(&mut lane.orphans).into_iter().partition(|(id, ..)| id == record.id);
                    lane.orphans = others;
                    for (id, kind, at) in mine {
                        lane.react(&id, kind, at, &self.config, out);
                    }
                }
            }
            REACTION => {
                let reaction = Reaction::decode(record.data).unwrap_or_default();
                let kind = reaction.reaction.as_deref().and_then(|word| word.parse().ok());
                if let (Some(id), Some(kind)) = (reaction.impression, kind)
                    && !lane.react(&id, kind, record.received_at, &self.config, out)
                {
                    lane.orphans.push_back((id, kind, record.received_at));
                    while lane.orphans.len() > ORPHANS {
                        lane.orphans.pop_front();
                    }
                }
            }
            _ => {}
        }
        lane.time = lane.time.max(record.received_at);
        let time = lane.time - self.grace;
        lane.expire(time, &self.config, out);
    }

    /// Time has come to `now` in all partitions and nothing earlier is on its way, except within the grace.
    pub fn tick(&mut self, now: Millis, out: &mut Vec<Settled>) {
        for lane in self.partitions.values_mut() {
            lane.time = lane.time.max(now);
            lane.expire(now - self.grace, &self.config, out);
        }
    }

    /// From where to read again after a restart: the oldest open impression of each partition.
    pub fn resume_from(&self) -> Position {
        let oldest = |lane: &Lane| lane.open.values().map(|o| o.offset).min().unwrap_or(lane.next);
        Position(self.partitions.iter().map(|(p, lane)| (*p, oldest(lane))).collect())
    }

    /// Impressions whose window is open.
    pub fn open(&self) -> usize {
        self.partitions.values().map(|lane| lane.open.len()).sum()
    }
}

impl Lane {
    fn open(&mut self, offset: Offset, record: &RecordRef<'_>, seen: Shown, window: Millis) {
        let reward = Reward {
            impression: record.id.to_owned(),
            tip: seen.tip.unwrap_or_default(),
            category: seen.category.unwrap_or_default(),
            reward: 0.0,
            outcome: String::new(),
            propensity: seen.propensity.unwrap_or_default(),
            policy: seen.policy.unwrap_or_default(),
            policy_version: seen.policy_version.unwrap_or_default(),
            names: names_hash(&seen.context_names),
            context: seen.context,
            shown_at: record.time,
            settled_at: 0,
        };
        let deadline = record.received_at + window;
        let settled = Settled { user: record.subject.to_owned(), reward };
        self.deadlines.insert((deadline, offset), record.id.to_owned());
        self.open.insert(record.id.to_owned(), Open { settled, deadline, offset, held: None });
    }

    /// `false` when the impression is not open.
    fn react(
        &mut self,
        id: &str,
        kind: ReactionKind,
        at: Millis,
        config: &LearnConfig,
        out: &mut Vec<Settled>,
    ) -> bool {
        let Some(open) = self.open.get_mut(id) else { return false };
        if at > open.deadline {
            return true;
        }
        if kind == ReactionKind::Snoozed {
            open.held = Some(kind);
        } else if let Some(open) = self.open.remove(id) {
            self.deadlines.remove(&(open.deadline, open.offset));
            out.push(open.settle(Some(kind), at, config));
        }
        true
    }

    /// Settles what had until before `time`.
    fn expire(&mut self, time: Millis, config: &LearnConfig, out: &mut Vec<Settled>) {
        while let Some(entry) = self.deadlines.first_entry().filter(|e| e.key().0 < time) {
            let id = entry.remove();
            if let Some(open) = self.open.remove(&id) {
                let (held, deadline) = (open.held, open.deadline);
                out.push(open.settle(held, deadline, config));
            }
        }
        while self.orphans.front().is_some_and(|(_, _, at)| *at < time) {
            self.orphans.pop_front();
        }
    }
}

impl Open {
    fn settle(self, outcome: Option<ReactionKind>, at: Millis, config: &LearnConfig) -> Settled {
        let mut settled = self.settled;
        settled.reward.reward = config.rewards.of(outcome);
        settled.reward.outcome = outcome.map_or(IGNORED, ReactionKind::name).to_owned();
        settled.reward.settled_at = at;
        settled
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{impression, reaction};

    const T0: Millis = 1_700_000_000_000;
    const MINUTE: Millis = 60_000;

    /// Runs one impression and reactions at minutes after it; returns outcome, reward and minute settled.
    fn outcome(reactions: &[(f64, ReactionKind)]) -> (String, f64, f64) {
        let mut join = Join::new(&LearnConfig::default(), &Position::default());
        let mut out = Vec::new();
        join.apply(0, 0, &impression("i", "ann", "walk", T0).borrowed(), &mut out);
        for (n, (minute, kind)) in reactions.iter().enumerate() {
            let at = T0 + (minute * MINUTE as f64) as Millis;
            join.apply(0, n as u64 + 1, &reaction("i", "ann", *kind, at).borrowed(), &mut out);
        }
        join.tick(T0 + 31 * MINUTE, &mut out);
        assert_eq!(out.len(), 1, "one reward for an impression");
        assert_eq!(join.open(), 0);
        let reward = &out[0].reward;
        (reward.outcome.clone(), reward.reward, (reward.settled_at - T0) as f64 / MINUTE as f64)
    }

    #[test]
    fn the_table_of_outcomes() {
        use ReactionKind::*;
        let table: &[(&[(f64, ReactionKind)], (&str, f64, f64))] = &[
            (&[], ("ignored", 0.0, 30.0)),
            (&[(1.0, Accepted)], ("accepted", 1.0, 1.0)),
            (&[(2.0, Done)], ("done", 1.0, 2.0)),
            (&[(2.0, Dismissed)], ("dismissed", 0.0, 2.0)),
            (&[(2.0, Muted)], ("muted", 0.0, 2.0)),
            (&[(2.0, Snoozed)], ("snoozed", 0.3, 30.0)),
            (&[(2.0, Snoozed), (20.0, Done)], ("done", 1.0, 20.0)),
            (&[(2.0, Snoozed), (3.0, Dismissed)], ("dismissed", 0.0, 3.0)),
            (&[(2.0, Accepted), (3.0, Dismissed)], ("accepted", 1.0, 2.0)),
            (&[(2.0, Dismissed), (3.0, Accepted)], ("dismissed", 0.0, 2.0)),
            (&[(30.0, Accepted)], ("accepted", 1.0, 30.0)),
            (&[(30.01, Accepted)], ("ignored", 0.0, 30.0)),
            (&[(2.0, Snoozed), (31.0, Done)], ("snoozed", 0.3, 30.0)),
            (&[(2.0, Accepted), (2.0, Accepted)], ("accepted", 1.0, 2.0)),
        ];
        for (reactions, (word, worth, minute)) in table {
            assert_eq!(outcome(reactions), ((*word).to_owned(), *worth, *minute), "{reactions:?}");
        }
    }

    #[test]
    fn other_traffic_moves_the_time_of_its_own_partition_only() {
        let mut join = Join::new(&LearnConfig::default(), &Position::default());
        let mut out = Vec::new();
        join.apply(0, 0, &impression("i", "ann", "walk", T0).borrowed(), &mut out);
        join.apply(1, 0, &impression("j", "bob", "walk", T0).borrowed(), &mut out);
        let mut other = impression("x", "cat", "walk", T0 + 40 * MINUTE);
        other.kind = "task.completed".into();
        join.apply(0, 1, &other.borrowed(), &mut out);
        assert_eq!(out.len(), 1);
        assert_eq!(out[0].reward.impression, "i");
        assert_eq!(join.resume_from().to_string(), "0:2,1:0");
    }

    #[test]
    fn a_partition_without_news_resumes_where_it_was() {
        let from: Position = "0:7,1:9".parse().unwrap();
        let mut join = Join::new(&LearnConfig::default(), &from);
        join.apply(0, 7, &impression("i", "ann", "walk", T0).borrowed(), &mut Vec::new());
        join.apply(0, 8, &impression("j", "ann", "walk", T0).borrowed(), &mut Vec::new());
        assert_eq!(join.resume_from(), from);
    }

    #[test]
    fn the_grace_lets_late_records_in_but_not_late_reactions() {
        let mut join = Join::new(&LearnConfig::default(), &Position::default());
        let mut out = Vec::new();
        join.apply(0, 0, &impression("i", "ann", "walk", T0).borrowed(), &mut out);
        join.tick(T0 + 30 * MINUTE + 5000, &mut out);
        assert!(out.is_empty(), "still within the grace");
        let in_time = reaction("i", "ann", ReactionKind::Accepted, T0 + 30 * MINUTE);
        join.apply(0, 1, &in_time.borrowed(), &mut out);
        assert_eq!(out[0].reward.outcome, "accepted");
    }

    #[test]
    fn a_reaction_just_ahead_of_its_impression_counts() {
        let mut join = Join::new(&LearnConfig::default(), &Position::default());
        let mut out = Vec::new();
        join.apply(0, 0, &reaction("i", "ann", ReactionKind::Accepted, T0 + 3).borrowed(), &mut out);
        join.apply(0, 1, &impression("i", "ann", "walk", T0).borrowed(), &mut out);
        assert_eq!(out.len(), 1);
        assert_eq!(out[0].reward.outcome, "accepted");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// When ticks come, and where a restart resumes, changes no outcome.
        #[test]
        fn outcomes_do_not_depend_on_ticks_or_restarts(
            events in prop::collection::vec((0usize..6, 0i64..90, 0usize..6), 1..40),
            ticks in any::<u64>(), restart in 0usize..40,
        ) {
            let mut events = events;
            events.sort_by_key(|e| e.1);
            let mut shown = std::collections::HashSet::new();
            let records: Vec<_> = events.iter().map(|(i, minute, kind)| {
                let (id, at) = (format!("i{i}"), T0 + minute * MINUTE);
                if shown.insert(*i) {
                    impression(&id, "ann", "walk", at)
                } else {
                    reaction(&id, "ann", ReactionKind::ALL[kind % 5], at)
                }
            }).collect();
            let end = T0 + 1000 * MINUTE;
            let mut plain = Vec::new();
            let mut join = Join::new(&LearnConfig::default(), &Position::default());
            for (n, r) in records.iter().enumerate() {
                join.apply(0, n as u64, &r.borrowed(), &mut plain);
            }
            join.tick(end, &mut plain);

            let mut ticked = Vec::new();
            let mut join = Join::new(&LearnConfig::default(), &Position::default());
            for (n, r) in records.iter().enumerate() {
                if n == restart {
                    let from = join.resume_from().get(0);
                    join = Join::new(&LearnConfig::default(), &Position::default());
                    for (m, r) in records.iter().enumerate().take(n).skip(from as usize) {
                        join.apply(0, m as u64, &r.borrowed(), &mut ticked);
                    }
                }
                join.apply(0, n as u64, &r.borrowed(), &mut ticked);
                if ticks >> (n % 64) & 1 == 1 {
                    join.tick(r.received_at, &mut ticked);
                }
            }
            join.tick(end, &mut ticked);
            let by_id = |settled: Vec<Settled>| -> BTreeMap<String, Settled> {
                // The log keeps the first of a key.
                let mut map = BTreeMap::new();
                for s in settled {
                    map.entry(s.reward.impression.clone()).or_insert(s);
                }
                map
            };
            prop_assert_eq!(by_id(plain), by_id(ticked));
        }
    }
}
