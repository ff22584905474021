//! Names of what the job measures.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Signals applied, by type.
pub const SIGNALS: &str = "kairos_stream_signals_total";
/// Repeats left out.
pub const DUPLICATES: &str = "kairos_stream_duplicates_total";
/// Signals later than their view allows, by type and view; they count in values and in history all the same while
/// a window can still reach them.
pub const LATE: &str = "kairos_stream_late_total";
/// Records of types that are no longer declared, left out.
pub const UNDECLARED: &str = "kairos_stream_undeclared_total";
/// Times the online store took no rows, and the job waited for it.
pub const ONLINE_FAILURES: &str = "kairos_stream_online_failures_total";
/// Records between the log's end and the job.
pub const LAG: &str = "kairos_stream_lag_records";
/// How long the oldest record that is not applied has waited, in seconds.
pub const UNAPPLIED: &str = "kairos_stream_unapplied_seconds";
/// Newest event time, by partition, in seconds since the epoch.
pub const WATERMARK: &str = "kairos_stream_watermark_seconds";
/// From arrival at the door to a readable value, in seconds.
pub const FRESHNESS: &str = "kairos_feature_freshness_seconds";
/// Time a micro-batch takes, in seconds.
pub const BATCH: &str = "kairos_stream_batch_seconds";
/// Time a checkpoint takes to become durable, in seconds.
pub const CHECKPOINT: &str = "kairos_stream_checkpoint_seconds";
/// Checkpoints that failed; the next one includes what they would have written.
pub const CHECKPOINT_FAILURES: &str = "kairos_stream_checkpoint_failures_total";
/// Rows of entities and views held.
pub const ROWS: &str = "kairos_stream_rows";
/// Signals that the backfill of a view has still to go through, by view.
pub const BACKFILL_LEFT: &str = "kairos_backfill_signals_left";

/// Bytes of events held in memory.
pub const STATE_BYTES: &str = "kairos_stream_state_bytes";
/// Bytes of events that are in the checkpoint alone, to be read when a window's edge needs them.
pub const SPILLED_BYTES: &str = "kairos_stream_spilled_bytes";
/// Chunks of events, in memory or not.
pub const CHUNKS: &str = "kairos_stream_chunks";
/// For how long a checkpoint keeps the job from its signals, in seconds.
pub const CHECKPOINT_PAUSE: &str = "kairos_stream_checkpoint_pause_seconds";

/// Describes all of them to the recorder.
pub fn describe() {
    describe_counter!(SIGNALS, Unit::Count, "Signals applied to feature views, by type");
    describe_counter!(DUPLICATES, Unit::Count, "Repeated signals left out by the stream job");
    describe_counter!(
        LATE,
        Unit::Count,
        "Signals later than their view's allowed lateness, by type and view"
    );
    describe_counter!(UNDECLARED, Unit::Count, "Log records of undeclared types left out");
    describe_counter!(ONLINE_FAILURES, Unit::Count, "Times the online store took no rows and the job waited");
    describe_gauge!(LAG, Unit::Count, "Records between the end of the log and the stream job");
    describe_gauge!(UNAPPLIED, Unit::Seconds, "How long the oldest record that is not applied has waited");
    describe_gauge!(WATERMARK, Unit::Seconds, "Newest event time by partition, since the epoch");
    describe_histogram!(FRESHNESS, Unit::Seconds, "From arrival at the door to a readable value");
    describe_histogram!(BATCH, Unit::Seconds, "Duration of a micro-batch");
    describe_histogram!(CHECKPOINT, Unit::Seconds, "Duration of a checkpoint");
    describe_counter!(CHECKPOINT_FAILURES, Unit::Count, "Checkpoints that failed");
    describe_histogram!(CHECKPOINT_PAUSE, Unit::Seconds, "Pause of the job for a checkpoint");
    describe_gauge!(STATE_BYTES, Unit::Bytes, "Events held in memory");
    describe_gauge!(SPILLED_BYTES, Unit::Bytes, "Events held in the checkpoint alone");
    describe_gauge!(CHUNKS, Unit::Count, "Chunks of events, in memory or not");
    describe_gauge!(BACKFILL_LEFT, Unit::Count, "Signals a backfill has still to go through, by view");
    describe_gauge!(ROWS, Unit::Count, "Rows of entities and views held in state");
}
