//! Windows: which events count at an instant, and when that changes by itself.
//!
//! Every window is a suffix of an entity's events up to the instant, so all that a kind of window decides is
//! its lower edge.

use ingest::Millis;
use jiff::{Timestamp, ToSpan, Zoned, tz::TimeZone};

use crate::events::Timeline;

const HOUR: Millis = 3_600_000;
const DAY: Millis = 24 * HOUR;

/// How long a session can get: what is older than this does not count, be the gaps as they may.
pub const LONGEST_SESSION: Millis = 7 * DAY;

/// Further back than any signal, yet safe to subtract.
pub const FOR_EVER: Millis = Millis::MAX / 4;

/// A look-back span of a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// As it ends a feature's name: `24h`.
    pub label: String,
    /// What it spans.
    pub span: Span,
}

/// Which signals count at an instant `t`, all of them with `time <= t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// Those with `t - ms < time`; with a resolution, `t - ms` falls to a multiple of that.
    Sliding(Millis),
    /// Those since the begin of the day, week (Monday) or month of `t` in the person's time zone at `t`.
    Calendar(Period),
    /// The run of signals with at most `ms` between neighbours that still goes on: its last signal is at most
    /// `ms` old. Nothing once it has ended. See [`LONGEST_SESSION`].
    Session(Millis),
    /// All.
    Lifetime,
}

/// A stretch of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// From midnight.
    Day,
    /// From Monday.
    Week,
    /// From the first.
    Month,
}

impl Period {
    /// When the period of `at` began in `zone`, and when the next one begins.
    pub fn bounds(self, at: Millis, zone: &TimeZone) -> (Millis, Millis) {
        // Where the calendar cannot be computed (before year -9999), days of UTC do.
        self.try_bounds(at, zone).unwrap_or_else(|_| (at - at.rem_euclid(DAY), at - at.rem_euclid(DAY) + DAY))
    }

    fn try_bounds(self, at: Millis, zone: &TimeZone) -> Result<(Millis, Millis), jiff::Error> {
        let date = Timestamp::from_millisecond(at)?.to_zoned(zone.clone()).date();
        let (first, next) = match self {
            Period::Day => (date, date.checked_add(1.day())?),
            Period::Week => {
                let monday = date.checked_sub(i32::from(date.weekday().to_monday_zero_offset()).days())?;
                (monday, monday.checked_add(7.days())?)
            }
            Period::Month => (date.first_of_month(), date.first_of_month().checked_add(1.month())?),
        };
        let begin = |z: Result<Zoned, jiff::Error>| z.map(|z| z.timestamp().as_millisecond());
        Ok((begin(first.to_zoned(zone.clone()))?, begin(next.to_zoned(zone.clone()))?))
    }
}

impl Span {
    /// How far back it can reach, at most.
    pub fn reach(&self) -> Millis {
        match self {
            Span::Sliding(ms) => *ms,
            // Zones move clocks by up to a day at a time.
            Span::Calendar(Period::Day) => 2 * DAY,
            Span::Calendar(Period::Week) => 8 * DAY,
            Span::Calendar(Period::Month) => 32 * DAY,
            Span::Session(_) => LONGEST_SESSION,
            Span::Lifetime => FOR_EVER,
        }
    }

    /// How many of the first `upper` events, those up to `at`, lie before the window.
    pub fn lower(&self, events: &impl Timeline, upper: usize, at: Millis, given: &Given) -> usize {
        match self {
            Span::Sliding(ms) => {
                let edge = at.saturating_sub(*ms);
                events.count_until(edge - edge.rem_euclid(given.resolution)).min(upper)
            }
            Span::Calendar(period) => {
                events.count_until(period.bounds(at, &given.zone).0.saturating_sub(1)).min(upper)
            }
            Span::Session(gap) => {
                if upper == 0 || at.saturating_sub(events.time(upper - 1)) > *gap {
                    return upper;
                }
                let oldest = events.count_until(at.saturating_sub(LONGEST_SESSION));
                events.run_start(oldest.min(upper - 1), upper, *gap)
            }
            Span::Lifetime => 0,
        }
    }

    /// Whether a signal of `time`, the newest up to `at`, is in the window at `at`.
    pub fn holds(&self, time: Millis, at: Millis, given: &Given) -> bool {
        match self {
            Span::Sliding(ms) => {
                let edge = at.saturating_sub(*ms);
                time > edge - edge.rem_euclid(given.resolution)
            }
            Span::Calendar(period) => time >= period.bounds(at, &given.zone).0,
            Span::Session(gap) => at.saturating_sub(time) <= *gap,
            Span::Lifetime => true,
        }
    }

    /// When the window at `at`, which begins at event `first`, next loses an event.
    fn next_exit(
        &self,
        events: &impl Timeline,
        first: usize,
        upper: usize,
        at: Millis,
        given: &Given,
    ) -> Millis {
        if first >= upper {
            return Millis::MAX;
        }
        let oldest = events.time(first);
        match self {
            Span::Sliding(ms) => {
                let resolution = given.resolution;
                // The first multiple of the resolution that is not below the event's time.
                let leaves = oldest.saturating_add(oldest.wrapping_neg().rem_euclid(resolution));
                leaves.saturating_add(*ms)
            }
            Span::Calendar(period) => period.bounds(at, &given.zone).1,
            Span::Session(gap) => {
                let ends = events.time(upper - 1).saturating_add(*gap + 1);
                ends.min(oldest.saturating_add(LONGEST_SESSION))
            }
            Span::Lifetime => Millis::MAX,
        }
    }
}

/// What edges depend on beside the events.
#[derive(Debug, Clone)]
pub struct Given {
    /// The person's time zone at the instant.
    pub zone: TimeZone,
    /// See [`Definition::resolution_ms`](super::Definition::resolution_ms).
    pub resolution: Millis,
}

/// When the values at `at` stop to hold: an event enters a window or leaves one.
pub fn next_change(windows: &[Window], events: &impl Timeline, at: Millis, given: &Given) -> Millis {
    let upper = events.count_until(at);
    let entry = if upper < events.len() { events.time(upper) } else { Millis::MAX };
    let exit = |w: &Window| {
        let first = w.span.lower(events, upper, at, given);
        w.span.next_exit(events, first, upper, at, given)
    };
    windows.iter().map(exit).min().unwrap_or(Millis::MAX).min(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{EventBuffer, EventList};

    fn buffer(times: &[Millis]) -> EventBuffer {
        let mut events: Vec<(Millis, &[u8])> = times.iter().map(|t| (*t, &b""[..])).collect();
        EventBuffer::merge(EventList::default(), &mut events, Millis::MIN)
    }

    fn window(span: Span) -> Window {
        Window { label: String::new(), span }
    }

    fn given(zone: &str, resolution: Millis) -> Given {
        Given { zone: TimeZone::get(zone).unwrap(), resolution }
    }

    #[test]
    fn values_hold_until_an_event_enters_or_leaves() {
        let list = buffer(&[10, 20, 50]);
        let windows = [window(Span::Sliding(10)), window(Span::Sliding(100))];
        let next = |at| next_change(&windows, &list.as_list(), at, &given("UTC", 1));
        assert_eq!(next(25), 30, "20 leaves the short window at 30");
        assert_eq!(next(30), 50, "50 enters");
        assert_eq!(next(60), 110);
        assert_eq!(next(200), Millis::MAX);
    }

    /// What `next_change` promises, tried at every instant: the edges do not move before it.
    #[test]
    fn edges_stay_until_the_next_change() {
        let list = buffer(&[3, 7, 7, 20, 21, 22, 60]);
        let list = list.as_list();
        for span in [Span::Sliding(10), Span::Session(4), Span::Session(13), Span::Lifetime] {
            for resolution in [1, 5, 8] {
                let given = given("UTC", resolution);
                let edges = |at| {
                    let upper = list.count_until(at);
                    (upper, span.lower(&list, upper, at, &given))
                };
                for at in 0..90 {
                    let until = next_change(&[window(span)], &list, at, &given).min(200);
                    let empty = |(upper, lower)| upper == lower;
                    for later in at..until {
                        let (a, b) = (edges(at), edges(later));
                        assert!(
                            a == b || (empty(a) && empty(b)),
                            "{span:?}/{resolution} {at}..{later}: {a:?} {b:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn days_begin_at_the_persons_midnight() {
        let at: Timestamp = "2024-03-31T10:00:00Z".parse().unwrap();
        let text = |ms| Timestamp::from_millisecond(ms).unwrap().to_string();
        let zone = TimeZone::get("Europe/Oslo").unwrap();
        let (begin, end) = Period::Day.bounds(at.as_millisecond(), &zone);
        // The clocks went forward that night: a day of 23 hours.
        assert_eq!((text(begin), text(end)), ("2024-03-30T23:00:00Z".into(), "2024-03-31T22:00:00Z".into()));
        let (begin, _) = Period::Week.bounds(at.as_millisecond(), &zone);
        assert_eq!(text(begin), "2024-03-24T23:00:00Z");
        let (begin, end) = Period::Month.bounds(at.as_millisecond(), &zone);
        assert_eq!((text(begin), text(end)), ("2024-02-29T23:00:00Z".into(), "2024-03-31T22:00:00Z".into()));
    }
}
