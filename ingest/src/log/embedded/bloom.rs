//! Split-block Bloom filter over keys that are already evenly spread: one cache line per question.
//!
//! Putze, Sanders, Singler: "Cache-, Hash- and Space-Efficient Bloom Filters" (2007), in the form with eight
//! words of 32 bits that Parquet specifies.

/// Odd multipliers, one for each word of a block.
const SALTS: [u32; 8] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];
const BITS_PER_KEY: u64 = 12;

/// A set that may answer "maybe" for about one key in two hundred it does not hold.
pub struct Bloom {
    blocks: Vec<[u32; 8]>,
}

impl Bloom {
    /// A filter sized for `keys` keys.
    pub fn for_keys(keys: u64) -> Self {
        Bloom { blocks: vec![[0; 8]; (keys * BITS_PER_KEY / 256 + 1) as usize] }
    }

    /// Adds a key.
    pub fn insert(&mut self, key: u128) {
        let at = index(key, self.blocks.len());
        let block = &mut self.blocks[at];
        block.iter_mut().zip(mask(key)).for_each(|(word, bit)| *word |= bit);
    }

    /// Whether the key may have been added.
    pub fn may_contain(&self, key: u128) -> bool {
        let block = &self.blocks[index(key, self.blocks.len())];
        block.iter().zip(mask(key)).all(|(word, bit)| word & bit != 0)
    }

    /// Its bits, to be stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.blocks.as_flattened().iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    /// The filter these bytes were made from; none if the length is wrong.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<4>();
        let words: Vec<u32> = words.iter().map(|w| u32::from_le_bytes(*w)).collect();
        let (blocks, odd) = words.as_chunks::<8>();
        (rest.is_empty() && odd.is_empty() && !blocks.is_empty()).then(|| Bloom { blocks: blocks.to_vec() })
    }
}

fn index(key: u128, blocks: usize) -> usize {
    let high = (key >> 32) as u32;
    ((u64::from(high) * blocks as u64) >> 32) as usize
}

fn mask(key: u128) -> [u32; 8] {
    SALTS.map(|salt| 1 << ((key as u32).wrapping_mul(salt) >> 27))
}
