//! The clock of the simulation: days at the speed asked for, nights much faster, since little happens then.

use std::{sync::Arc, time::Instant};

use ingest::{Clock, Millis};

use super::world::{DAY, HOUR};

/// When the people get up; the simulation begins at this hour.
const MORNING: Millis = 7 * HOUR;
/// From here on it is night.
const NIGHT: Millis = 23 * HOUR;
/// How many times as fast as the day the night passes.
const HURRY: Millis = 10;
const LENGTH_OF_DAY: Millis = NIGHT - MORNING;
const LENGTH_OF_NIGHT: Millis = DAY - LENGTH_OF_DAY;

/// A clock that begins in the morning of the day of `now` and runs `speed` times as fast as the wall's.
pub fn clock(now: Millis, speed: f64) -> Clock {
    let (first, began) = (now - now.rem_euclid(DAY) + MORNING, Instant::now());
    Arc::new(move || first + passed((began.elapsed().as_secs_f64() * speed * 1_000.0) as Millis))
}

/// The time that passes in the simulation, from a morning on, while a clock without nights runs on by `ticked`.
fn passed(ticked: Millis) -> Millis {
    let round = LENGTH_OF_DAY + LENGTH_OF_NIGHT / HURRY;
    let (days, rest) = (ticked.div_euclid(round), ticked.rem_euclid(round));
    let of_night = (rest - LENGTH_OF_DAY).max(0);
    days * DAY + rest + of_night * (HURRY - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_take_their_time_and_nights_hurry() {
        assert_eq!(passed(0), 0);
        assert_eq!(passed(LENGTH_OF_DAY), LENGTH_OF_DAY);
        assert_eq!(passed(LENGTH_OF_DAY + LENGTH_OF_NIGHT / HURRY), DAY);
        assert_eq!(passed(2 * (LENGTH_OF_DAY + LENGTH_OF_NIGHT / HURRY) + HOUR), 2 * DAY + HOUR);
    }

    #[test]
    fn time_never_stands_or_jumps() {
        for ticked in (0..4 * DAY).step_by(7 * 60_000) {
            let step = passed(ticked + 60_000) - passed(ticked);
            assert!((60_000..=60_000 * HURRY).contains(&step), "{step} ms at {ticked}");
        }
    }

    #[test]
    fn it_begins_in_the_morning() {
        let begins = clock(20_000 * DAY + 15 * HOUR, 600.0)();
        assert!((MORNING..MORNING + HOUR).contains(&(begins - 20_000 * DAY)));
    }
}
