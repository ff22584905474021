use std::time::Duration;

/// Settings of the log; the defaults suit one machine.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Partitions of the topic `signals`, 1 to 1024. Fixed when the log is created; the other topics have one.
    pub partitions: u32,
    /// A segment file is closed, and the next begun, once it has this many bytes.
    pub segment_bytes: u64,
    /// Largest payload of one record in bytes.
    pub max_record_bytes: usize,
    /// Bytes of one topic that may wait for the disk before `append` makes its callers wait.
    pub queue_bytes: usize,
    /// Closed segments older than this are dropped by `enforce_retention`.
    pub retain_age: Option<Duration>,
    /// The oldest closed segments of a topic are dropped while it is larger than this many bytes.
    pub retain_bytes: Option<u64>,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions {
            partitions: 4,
            segment_bytes: 64 << 20,
            max_record_bytes: 1 << 20,
            queue_bytes: 64 << 20,
            retain_age: None,
            retain_bytes: None,
        }
    }
}
