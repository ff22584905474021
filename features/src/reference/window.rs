//! Where a window begins, from its definition alone.

use ingest::Millis;
use jiff::{Timestamp, ToSpan, Zoned, tz::TimeZone};

use crate::view::{
    Window,
    window::{LONGEST_SESSION, Period, Span},
};

/// The signals of a window at `at` are those with `opens_after < time <= at`. `times` are those of the signals
/// that count, up to `at`, oldest first; `zone` is the person's at `at`.
pub(super) fn opens_after(
    window: &Window,
    resolution: Millis,
    zone: &TimeZone,
    times: &[Millis],
    at: Millis,
) -> Result<Millis, jiff::Error> {
    Ok(match window.span {
        Span::Sliding(ms) => (at - ms).div_euclid(resolution) * resolution,
        Span::Calendar(period) => {
            let now = Timestamp::from_millisecond(at)?.to_zoned(zone.clone());
            first_day(period, &now)?.start_of_day()?.timestamp().as_millisecond() - 1
        }
        Span::Session(gap) => {
            let mut begin = at;
            for time in times.iter().rev() {
                if begin - time > gap || at - time >= LONGEST_SESSION {
                    break;
                }
                begin = *time;
            }
            // Nothing happened within the gap, or the session begins with this signal.
            if times.contains(&begin) { begin - 1 } else { at }
        }
        Span::Lifetime => Millis::MIN,
    })
}

fn first_day(period: Period, now: &Zoned) -> Result<Zoned, jiff::Error> {
    match period {
        Period::Day => Ok(now.clone()),
        Period::Week => now.checked_sub(i32::from(now.weekday().since(jiff::civil::Weekday::Monday)).days()),
        Period::Month => now.first_of_month(),
    }
}

/// Whether a window's begin depends on which signals there are.
pub(super) fn goes_by_signals(window: &Window) -> bool {
    matches!(window.span, Span::Session(_))
}

/// Whether a window's begin depends on the person's time zone.
pub(super) fn goes_by_zone(window: &Window) -> bool {
    matches!(window.span, Span::Calendar(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(span: Span, zone: &str, times: &[Millis], at: &str) -> String {
        let window = Window { label: String::new(), span };
        let at: Timestamp = at.parse().unwrap();
        let zone = TimeZone::get(zone).unwrap();
        let after = opens_after(&window, 600_000, &zone, times, at.as_millisecond()).unwrap();
        Timestamp::from_millisecond(after + 1).unwrap().to_string()
    }

    #[test]
    fn calendars_and_resolutions() {
        let at = "2024-03-31T22:30:00Z";
        // Half past midnight on Monday, the first of April, in a zone that changed its clocks on Sunday.
        let oslo = |period| begin(Span::Calendar(period), "Europe/Oslo", &[], at);
        assert_eq!(oslo(Period::Day), "2024-03-31T22:00:00Z");
        assert_eq!((oslo(Period::Week), oslo(Period::Month)), (oslo(Period::Day), oslo(Period::Day)));
        let utc = |period| begin(Span::Calendar(period), "UTC", &[], at);
        assert_eq!(utc(Period::Day), "2024-03-31T00:00:00Z");
        assert_eq!(utc(Period::Week), "2024-03-25T00:00:00Z");
        assert_eq!(utc(Period::Month), "2024-03-01T00:00:00Z");
        let sliding = begin(Span::Sliding(3_600_000), "UTC", &[], "2024-03-31T22:39:59Z");
        assert_eq!(sliding, "2024-03-31T21:30:00.001Z");
    }

    #[test]
    fn a_session_is_the_run_that_still_goes_on() {
        let window = Window { label: String::new(), span: Span::Session(10) };
        let after = |times: &[Millis], at| opens_after(&window, 1, &TimeZone::UTC, times, at).unwrap();
        assert_eq!(after(&[100, 111, 121, 130], 140), 110);
        assert_eq!(after(&[100, 111, 121, 130], 141), 141, "over");
        assert_eq!(after(&[140], 140), 139);
        assert_eq!(after(&[], 140), 140);
        let long: Vec<Millis> = (0..LONGEST_SESSION / 10 + 5).map(|i| 10 * i).collect();
        let at = *long.last().unwrap();
        assert_eq!(after(&long, at), at - LONGEST_SESSION + 9, "no longer than the longest");
    }
}
