//! Names of the keys. Those of a partition of the log share a hash tag, so that a script may touch all of them:
//!
//! | key | value |
//! |---|---|
//! | `kairos:{P}:v:<view>@<version>:<entity>` | a row, [`Row::to_bytes`](crate::Row::to_bytes) |
//! | `kairos:{P}:applied` | the offset below which every signal is in the rows, as text; absent until all are there |
//! | `kairos:{P}:owner` | who writes, for as long as their lease runs |
//! | `kairos:{P}:store` | hash: `writer`, who may write; `writes`, number of their last write; `of`, format of the rows and the state they come from |

use ingest::log::{Partition, partition_of};

use crate::view::View;

/// Names keys; see the module.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    /// `kairos`
    prefix: String,
    pub partitions: u32,
}

impl Keys {
    pub fn new(prefix: &str, partitions: u32) -> Keys {
        Keys { prefix: prefix.to_owned(), partitions }
    }

    pub fn partition(&self, entity: &str) -> Partition {
        partition_of(entity, self.partitions)
    }

    fn of(&self, partition: Partition, rest: &str) -> String {
        format!("{}:{{{partition}}}:{rest}", self.prefix)
    }

    pub fn applied(&self, partition: Partition) -> String {
        self.of(partition, "applied")
    }

    pub fn owner(&self, partition: Partition) -> String {
        self.of(partition, "owner")
    }

    pub fn store(&self, partition: Partition) -> String {
        self.of(partition, "store")
    }

    pub fn row(&self, partition: Partition, view: &View, entity: &str) -> String {
        format!("{}:{{{partition}}}:v:{}@{}:{entity}", self.prefix, view.name, view.version_text)
    }

    /// Finds keys of rows; what is not named is any.
    pub fn pattern(
        &self,
        partition: Option<Partition>,
        view: Option<&View>,
        entity: Option<&str>,
    ) -> Vec<u8> {
        let partition = partition.map_or_else(|| "*".to_owned(), |p| p.to_string());
        let view = view.map_or_else(|| "*".to_owned(), |v| format!("{}@{}", v.name, v.version_text));
        let entity = entity.map_or_else(|| "*".to_owned(), escaped);
        format!("{}:{{{partition}}}:v:{view}:{entity}", escaped(&self.prefix)).into_bytes()
    }

    /// The partition and the entity of the key of a row.
    pub fn parse<'k>(&self, key: &'k [u8]) -> Option<(Partition, &'k str)> {
        let key = std::str::from_utf8(key).ok()?;
        let rest = key.strip_prefix(&self.prefix)?.strip_prefix(":{")?;
        let (partition, rest) = rest.split_once("}:v:")?;
        let (_, entity) = rest.split_once(':')?;
        Some((partition.parse().ok()?, entity))
    }
}

/// Text that a pattern takes as it is.
fn escaped(text: &str) -> String {
    let mut to = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
            to.push('\\');
        }
        to.push(c);
    }
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_its_partition_and_entity() {
        let keys = Keys::new("kairos", 4);
        assert_eq!(keys.parse(b"kairos:{3}:v:tasks@00ff:a:b}:v:c"), Some((3, "a:b}:v:c")));
        assert_eq!(keys.parse(b"kairos:{3}:v:tasks@00ff:"), Some((3, "")));
        for other in [&b"kairos:{3}:applied"[..], b"kairos:{x}:v:t:a", b"other:{3}:v:t:a", b"\xff", b""] {
            assert_eq!(keys.parse(other), None);
        }
        assert_eq!(keys.applied(3), "kairos:{3}:applied");
        assert_eq!(keys.pattern(Some(1), None, Some("a*[b]?\\")), b"kairos:{1}:v:*:a\\*\\[b\\]\\?\\\\");
    }
}
