//! The file a session is saved in.
//!
//! ```text
//! "KAIROSBD"  version (u32)  xxh3 of the rest (u64)  a protobuf message
//! ```
//! Numbers are little endian.

use std::str::FromStr;

use prost::Message;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    Bandit, Decided, Session,
    encode::{Encoder, Key},
    rounds::Rounds,
};
use crate::{
    ScorerError,
    policy::{self, PolicyConfig, PolicyName, Space},
};

const MAGIC: &[u8; 8] = b"KAIROSBD";
const VERSION: u32 = 1;
const HEAD: usize = 8 + 4 + 8;

pub(super) fn of_session(session: &Session) -> Vec<u8> {
    let rounds = session.rounds.iter().map(|(key, waits)| SavedRound {
        key: key.to_owned(),
        waits: waits.iter().map(decided_message).collect(),
    });
    let message = SavedSession {
        bandit: Some(bandit_message(&session.bandit)),
        rounds: rounds.collect(),
        dropped: session.rounds.dropped(),
    };
    framed(&message.encode_to_vec())
}

/// Changes the session only when all of it can be read.
pub(super) fn to_session(session: &mut Session, bytes: &[u8]) -> Result<(), ScorerError> {
    let saved = SavedSession::decode(unframed(bytes)?).map_err(|e| damaged(&e.to_string()))?;
    let bandit = saved.bandit.ok_or_else(|| damaged("it has no policy"))?;
    let bandit = bandit_of(bandit, session.bandit.config.name)?;
    let mut rounds = Rounds::new(session.rounds.limits());
    for round in saved.rounds {
        rounds.add(&round.key, round.waits.into_iter().map(decided_of).collect());
    }
    // Those that found no room just now, because this session's limits are narrower, are dropped as well.
    rounds.set_dropped(rounds.dropped() + saved.dropped);
    *session = Session { bandit, rounds };
    Ok(())
}

fn decided_message(decided: &Decided) -> SavedDecided {
    SavedDecided {
        context: decided.context.clone(),
        id: decided.id.clone(),
        features: decided.features.clone(),
        propensity: decided.propensity,
    }
}

fn decided_of(saved: SavedDecided) -> Decided {
    let SavedDecided { context, id, features, propensity } = saved;
    Decided { context, id, features, propensity }
}

pub(super) fn of_bandit(bandit: &Bandit) -> Vec<u8> {
    framed(&bandit_message(bandit).encode_to_vec())
}

pub(super) fn to_bandit(bytes: &[u8], policy: PolicyName) -> Result<Bandit, ScorerError> {
    let saved = SavedBandit::decode(unframed(bytes)?).map_err(|e| damaged(&e.to_string()))?;
    bandit_of(saved, policy)
}

fn framed(message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + message.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&xxh3_64(message).to_le_bytes());
    bytes.extend_from_slice(message);
    bytes
}

fn unframed(bytes: &[u8]) -> Result<&[u8], ScorerError> {
    let foreign = || ScorerError::Snapshot("it was not saved by `kairos bandit`".into());
    let (magic, rest) = bytes.split_first_chunk::<8>().ok_or_else(foreign)?;
    if magic != MAGIC {
        return Err(foreign());
    }
    let (version, rest) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("it ends early"))?;
    let version = u32::from_le_bytes(*version);
    if version != VERSION {
        return Err(ScorerError::Snapshot(format!(
            "its format is version {version} and this program reads version {VERSION}; load it with the release that saved it"
        )));
    }
    let (sum, message) = rest.split_first_chunk::<8>().ok_or_else(|| damaged("it ends early"))?;
    if u64::from_le_bytes(*sum) != xxh3_64(message) {
        return Err(damaged("its checksum does not match"));
    }
    Ok(message)
}

fn damaged(why: &str) -> ScorerError {
    ScorerError::Snapshot(format!("it is damaged: {why}"))
}

fn bandit_message(bandit: &Bandit) -> SavedBandit {
    SavedBandit {
        // A struct of numbers and names: it can always be written.
        config: serde_json::to_string(&bandit.config).unwrap_or_default(),
        policy: bandit.policy.save(),
        context: Some(encoder_message(&bandit.context)),
        features: Some(encoder_message(&bandit.features)),
        rng_seed: bandit.rng.get_seed().to_vec(),
        rng_position: bandit.rng.get_word_pos().to_string(),
    }
}

fn bandit_of(saved: SavedBandit, policy: PolicyName) -> Result<Bandit, ScorerError> {
    let config: PolicyConfig = serde_json::from_str(&saved.config)
        .map_err(|e| ScorerError::Snapshot(format!("its settings are not understood: {e}")))?;
    if config.name != policy {
        return Err(ScorerError::Snapshot(format!(
            "it is of policy `{}` and this one is `{policy}`; start with `--policy {}`",
            config.name, config.name
        )));
    }
    let (context, features) = (encoder_of(saved.context)?, encoder_of(saved.features)?);
    let mut policy = policy::build(&config, &Space::default());
    policy.load(&saved.policy)?;
    let seed = <[u8; 32]>::try_from(saved.rng_seed).map_err(|_| damaged("its random seed"))?;
    let mut rng = ChaCha8Rng::from_seed(seed);
    rng.set_word_pos(u128::from_str(&saved.rng_position).map_err(|e| damaged(&e.to_string()))?);
    Ok(Bandit { config, context, features, policy, snapshot: None, rng })
}

fn encoder_message(encoder: &Encoder) -> SavedEncoder {
    let keys = encoder.keys().iter();
    let keys = keys.map(|k| SavedKey { name: k.name.clone(), text: k.text.clone() }).collect();
    SavedEncoder { keys, hashes: encoder.hashes() }
}

fn encoder_of(saved: Option<SavedEncoder>) -> Result<Encoder, ScorerError> {
    let saved = saved.unwrap_or_default();
    let keys = saved.keys.into_iter().map(|k| Key { name: k.name, text: k.text }).collect();
    Encoder::from_keys(keys, saved.hashes).ok_or_else(|| damaged("its names cannot be"))
}

#[derive(Clone, PartialEq, Message)]
struct SavedSession {
    #[prost(message, optional, tag = "1")]
    bandit: Option<SavedBandit>,
    /// Oldest first.
    #[prost(message, repeated, tag = "2")]
    rounds: Vec<SavedRound>,
    #[prost(uint64, tag = "3")]
    dropped: u64,
}

#[derive(Clone, PartialEq, Message)]
struct SavedRound {
    #[prost(string, tag = "1")]
    key: String,
    /// One a place of the slate; none once the reward has come.
    #[prost(message, repeated, tag = "2")]
    waits: Vec<SavedDecided>,
}

#[derive(Clone, PartialEq, Message)]
struct SavedDecided {
    #[prost(double, repeated, tag = "1")]
    context: Vec<f64>,
    #[prost(string, tag = "2")]
    id: String,
    #[prost(double, repeated, tag = "3")]
    features: Vec<f64>,
    #[prost(double, tag = "4")]
    propensity: f64,
}

#[derive(Clone, PartialEq, Message)]
struct SavedBandit {
    /// The policy's settings, as JSON.
    #[prost(string, tag = "1")]
    config: String,
    #[prost(bytes = "vec", tag = "2")]
    policy: Vec<u8>,
    #[prost(message, optional, tag = "3")]
    context: Option<SavedEncoder>,
    #[prost(message, optional, tag = "4")]
    features: Option<SavedEncoder>,
    #[prost(bytes = "vec", tag = "5")]
    rng_seed: Vec<u8>,
    /// A number of 68 bits, in decimal.
    #[prost(string, tag = "6")]
    rng_position: String,
}

#[derive(Clone, PartialEq, Message)]
struct SavedEncoder {
    /// In the order of their inputs.
    #[prost(message, repeated, tag = "1")]
    keys: Vec<SavedKey>,
    #[prost(bool, tag = "2")]
    hashes: bool,
}

#[derive(Clone, PartialEq, Message)]
struct SavedKey {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, optional, tag = "2")]
    text: Option<String>,
}
