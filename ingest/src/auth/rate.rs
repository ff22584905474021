//! Rate limits: a token bucket for each key, and one for each address that comes without a key.

use std::{
    net::IpAddr,
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock as _};
use serde::{Deserialize, Serialize};

use super::keys::Keys;

/// Between two sweeps at most so many new addresses are remembered.
const SWEEP_EVERY: u32 = 4096;
/// Least and most requests a second that a rate may say.
const SLOWEST: f64 = 0.001;
const FASTEST: f64 = 1e6;

/// Requests allowed: `burst` at once, `per_second` in the long run (may be below one).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Requests a second in the long run.
    pub per_second: f64,
    /// Requests at once after a rest.
    pub burst: u32,
}

impl Rate {
    /// What is wrong with it, if something is.
    pub fn problem(&self) -> Option<String> {
        let right = (SLOWEST..=FASTEST).contains(&self.per_second) && self.burst > 0;
        (!right).then(|| {
            format!("a rate needs `per_second` from {SLOWEST} to {FASTEST} and `burst` of at least 1")
        })
    }

    /// A rate with a problem becomes the nearest one without, never no limit at all.
    fn quota(&self) -> Quota {
        #[expect(clippy::manual_clamp, reason = "what is no number must become a rate too")]
        let per_second = self.per_second.max(SLOWEST).min(FASTEST);
        let burst = NonZeroU32::new(self.burst).unwrap_or(NonZeroU32::MIN);
        Quota::with_period(Duration::from_secs_f64(1.0 / per_second))
            .unwrap_or(Quota::per_second(NonZeroU32::MIN))
            .allow_burst(burst)
    }
}

/// All limiters of a server.
#[derive(Debug)]
pub(super) struct Limits {
    /// In the order of the keys.
    keys: Vec<Option<DefaultDirectRateLimiter>>,
    addresses: Option<DefaultKeyedRateLimiter<Option<IpAddr>>>,
    since_sweep: AtomicU32,
}

impl Limits {
    pub(super) fn new(keys: &Keys, key_rate: Option<Rate>, address_rate: Option<Rate>) -> Limits {
        let quota = |rate: Option<Rate>| rate.map(|rate| rate.quota());
        Limits {
            keys: keys.iter().map(|key| quota(key.rate.or(key_rate)).map(RateLimiter::direct)).collect(),
            addresses: quota(address_rate).map(RateLimiter::keyed),
            since_sweep: AtomicU32::new(0),
        }
    }

    /// Counts a request of the key at `index`; an error is how long to wait.
    pub(super) fn check_key(&self, index: usize) -> Result<(), Duration> {
        match self.keys.get(index) {
            Some(Some(limiter)) => limiter.check().map_err(|no| no.wait_time_from(limiter.clock().now())),
            _ => Ok(()),
        }
    }

    /// Counts a request of an address; an error is how long to wait. Requests whose address is not known
    /// share one bucket.
    pub(super) fn check_address(&self, address: Option<IpAddr>) -> Result<(), Duration> {
        let Some(limiter) = &self.addresses else { return Ok(()) };
        if self.since_sweep.fetch_add(1, Ordering::Relaxed) + 1 >= SWEEP_EVERY {
            self.since_sweep.store(0, Ordering::Relaxed);
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
        let verdict = limiter.check_key(&address.map(network));
        verdict.map_err(|no| no.wait_time_from(limiter.clock().now()))
    }
}

/// One home or one machine owns a whole IPv6 /64, so that is what counts as an address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Rate = Rate { per_second: 0.001, burst: 2 };

    #[test]
    fn an_address_is_stopped_after_its_burst_and_others_are_not() {
        let limits = Limits::new(&Keys::open(), None, Some(SLOW));
        let one: IpAddr = "10.0.0.1".parse().unwrap();
        assert!(limits.check_address(Some(one)).is_ok());
        assert!(limits.check_address(Some(one)).is_ok());
        let wait = limits.check_address(Some(one)).unwrap_err();
        assert!(wait > Duration::from_secs(900), "{wait:?}");
        assert!(limits.check_address(Some("10.0.0.2".parse().unwrap())).is_ok());
        assert!(
            limits.check_address(Some("::ffff:10.0.0.1".parse().unwrap())).is_err(),
            "the same address mapped"
        );
    }

    #[test]
    fn addresses_of_one_ipv6_network_share_a_bucket() {
        let limits = Limits::new(&Keys::open(), None, Some(SLOW));
        for last in 1..=2u16 {
            assert!(limits.check_address(Some(format!("2001:db8::{last}").parse().unwrap())).is_ok());
        }
        assert!(limits.check_address(Some("2001:db8::3".parse().unwrap())).is_err());
        assert!(limits.check_address(Some("2001:db8:0:1::1".parse().unwrap())).is_ok());
    }

    #[test]
    fn a_senseless_rate_is_named_and_still_limits() {
        for per_second in [f64::NAN, -1.0, 0.0, f64::INFINITY] {
            let rate = Rate { per_second, burst: 0 };
            assert!(rate.problem().is_some());
            let limits = Limits::new(&Keys::open(), None, Some(rate));
            assert!(limits.check_address(None).is_ok());
            assert!(per_second > 1.0 || limits.check_address(None).is_err(), "{per_second}");
        }
        assert_eq!(SLOW.problem(), None);
    }

    #[test]
    fn memory_is_given_back() {
        let limits = Limits::new(&Keys::open(), None, Some(Rate { per_second: 1e6, burst: 1 }));
        for n in 0..3 * SWEEP_EVERY {
            let _ = limits.check_address(Some(IpAddr::V4((0x0a00_0000 + n).into())));
        }
        let kept = limits.addresses.as_ref().unwrap().len();
        assert!(kept <= SWEEP_EVERY as usize + 1, "{kept} addresses kept");
    }
}
