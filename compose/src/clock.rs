//! The only place that reads the machine's clock.

use std::{
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use ingest::{Clock, Millis};

/// The machine's time.
pub fn system() -> Clock {
    Arc::new(now)
}

/// The machine's time, once.
pub fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}

/// A clock that starts at `start` and runs `speed` times as fast as the wall's.
pub fn accelerated(start: Millis, speed: f64) -> Clock {
    let began = Instant::now();
    Arc::new(move || start + (began.elapsed().as_secs_f64() * speed * 1_000.0) as Millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accelerated_clock_runs_ahead_and_never_back() {
        let clock = accelerated(1_000, 600.0);
        let first = clock();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let second = clock();
        assert!(first >= 1_000);
        assert!(second - first >= 12_000, "20 ms are 12 s on this clock, but it moved {} ms", second - first);
    }
}
