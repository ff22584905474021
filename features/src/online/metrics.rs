//! Names of what online stores outside the process count.

use metrics::{Unit, describe_counter, describe_gauge};

/// Rows answered from those read earlier, because the store was away.
pub const STALE: &str = "kairos_online_stale_rows_total";
/// 1 while the store is away, for this process' reads.
pub const AWAY: &str = "kairos_online_away";

/// Describes all of them to the recorder.
pub fn describe() {
    describe_counter!(
        STALE,
        Unit::Count,
        "Rows answered from those read earlier, the online store being away"
    );
    describe_gauge!(AWAY, Unit::Count, "1 while the online store is away for reads");
}
