//! A bandit that is spoken to in lines of JSON.

use std::{
    borrow::Cow,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

use hashbrown::HashSet;
use serde::Serialize;

use super::{
    Bandit, Candidate, Fields,
    lines::{ActionLine, Answer, Done, Line, Place, Refused, Reward, SlateAnswer, Token},
    rounds::{Limits, NotWaiting, Rounds},
    saved, scan,
};
use crate::{
    ScorerError,
    policy::{Choice, PolicyConfig},
};

/// Most actions of one round.
pub const MOST_ACTIONS: usize = 10_000;
/// Most places of a slate.
pub const MOST_PLACES: usize = 100;
/// Most bytes of the id of a round or an action.
const MOST_KEY_BYTES: usize = 1_024;

/// Takes lines, gives answers.
///
/// | line | answer |
/// |---|---|
/// | `{"round":t,"context":{…},"actions":[{"id":…,"features":{…}},…]}` | `{"round":t,"action":…,"propensity":…,"distribution":[…],"policy":…}` |
/// | `{"round":t,"reward":r}` | nothing |
/// | a round with `"k":n` | `{"round":t,"slate":[{"action":…,"propensity":…},…],"policy":…}` |
/// | `{"round":t,"reward":[r,…]}` for such a round | nothing |
/// | `{"save":"FILE"}` | `{"saved":"FILE"}` |
/// | `{"load":"FILE"}` | `{"loaded":"FILE"}` |
/// | an empty line | nothing |
/// | anything that cannot be followed | `{"error":"…","round":t}`, and it is as if the line had not come |
///
/// Nothing answers a reward, so that a program which writes a reward and then a round reads the answer to the
/// round next. A round takes one reward: the first settles it.
pub struct Session {
    pub(super) bandit: Bandit,
    pub(super) rounds: Rounds,
}

impl Session {
    /// Untaught.
    pub fn new(config: &PolicyConfig, seed: u64, limits: Limits) -> Session {
        Session { bandit: Bandit::new(config, seed), rounds: Rounds::new(limits) }
    }

    /// The bandit behind it.
    pub fn bandit(&self) -> &Bandit {
        &self.bandit
    }

    /// Rounds that were forgotten before their reward came.
    pub fn dropped(&self) -> u64 {
        self.rounds.dropped()
    }

    /// Follows one line and appends the answer to `out`, if there is one, as a line.
    pub fn line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        if line.trim_ascii().is_empty() {
            return;
        }
        let parsed =
            std::str::from_utf8(line).map_err(|e| format!("the line is not UTF-8: {e}")).and_then(|text| {
                match scan::line(text) {
                    Some(line) => Ok(line),
                    None => serde_json::from_str::<Line<'_>>(text).map_err(|e| not_a_line(&e)),
                }
            });
        let (round, outcome) = match parsed {
            Err(why) => (None, Err(why)),
            Ok(line) => (line.round, self.follow(line, out)),
        };
        if let Err(error) = outcome {
            write(out, &Refused { error, round });
        }
    }

    fn follow(&mut self, line: Line<'_>, out: &mut Vec<u8>) -> Result<(), String> {
        let Line { round, context, actions, k, reward, save, load } = line;
        match (round, actions, reward, save, load) {
            (Some(round), Some(actions), None, None, None) => {
                let context = context.map(|c| c.0).unwrap_or_default();
                self.decide(round, &context, actions, k, out)
            }
            (Some(round), None, Some(reward), None, None) if context.is_none() && k.is_none() => {
                self.reward(round, reward)
            }
            (None, None, None, Some(file), None) if context.is_none() && k.is_none() => {
                self.save(Path::new(&file)).map_err(|e| e.to_string())?;
                write(out, &Done::Saved(&file));
                Ok(())
            }
            (None, None, None, None, Some(file)) if context.is_none() && k.is_none() => {
                self.load(Path::new(&file)).map_err(|e| e.to_string())?;
                write(out, &Done::Loaded(&file));
                Ok(())
            }
            _ => Err(format!("a line is one of {FORMS}")),
        }
    }

    fn decide(
        &mut self,
        round: Token<'_>,
        context: &Fields<'_>,
        actions: Vec<ActionLine<'_>>,
        k: Option<usize>,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let round_key = known_by(round, "`round`")?;
        if actions.is_empty() || actions.len() > MOST_ACTIONS {
            return Err(format!("`actions` has {} entries; it needs 1 to {MOST_ACTIONS}", actions.len()));
        }
        let mut known = HashSet::with_capacity(actions.len());
        let mut ids = Vec::with_capacity(actions.len());
        let mut candidates = Vec::with_capacity(actions.len());
        for action in actions {
            let id = known_by(action.id, "the `id` of an action")?;
            if !known.insert(id.clone()) {
                return Err(format!("the action {} stands there twice; name each once", action.id));
            }
            ids.push(action.id);
            candidates.push(Candidate { id, features: action.features.map(|f| f.0).unwrap_or_default() });
        }
        let policy = self.bandit.name();
        if let Some(k) = k {
            if !(1..=MOST_PLACES).contains(&k) {
                return Err(format!("`k` is {k}; it must be 1 to {MOST_PLACES}"));
            }
            let (choices, waits): (Vec<_>, Vec<_>) =
                self.bandit.decide_slate(context, &candidates, k).into_iter().unzip();
            self.rounds.add(&round_key, waits);
            let place = |c: &Choice| Place { action: ids[c.index], propensity: c.propensity() };
            write(out, &SlateAnswer { round, slate: choices.iter().map(place).collect(), policy });
            return Ok(());
        }
        let (choice, waits) =
            self.bandit.decide(context, &candidates).ok_or("there is no action to choose from")?;
        self.rounds.add(&round_key, vec![waits]);
        let (action, propensity) = (ids[choice.index], choice.propensity());
        let distribution = &choice.distribution.propensities[..];
        write(out, &Answer { round, action, propensity, distribution, policy });
        Ok(())
    }

    fn reward(&mut self, round: Token<'_>, reward: Reward) -> Result<(), String> {
        let key = known_by(round, "`round`")?;
        let places = self.rounds.waiting(&key).map_err(|why| match why {
            NotWaiting::Settled => {
                format!("round {round} has its reward already; the first one counts and this one changed nothing")
            }
            NotWaiting::Unknown => format!(
                "round {round} is not known: it was never asked, or is more than {} rounds ago; nothing was learned",
                self.rounds.limits().rounds
            ),
        })?;
        let rewards = match reward {
            Reward::One(reward) => vec![Some(reward)],
            Reward::Each(rewards) => rewards,
        };
        if rewards.len() != places {
            return Err(format!(
                "round {round} chose {places} and this is {} rewards; give as many, null where one is not known",
                rewards.len()
            ));
        }
        for (decided, reward) in self.rounds.take(&key).iter().zip(rewards) {
            if let Some(reward) = reward {
                self.bandit.settle(decided, reward);
            }
        }
        Ok(())
    }

    /// Writes everything to a file, which appears whole or not at all.
    ///
    /// # Errors
    /// What the system says of the file.
    pub fn save(&self, file: &Path) -> Result<(), ScorerError> {
        let failed =
            |e: io::Error| ScorerError::Unavailable(format!("cannot save to `{}`: {e}", file.display()));
        let mut unfinished = file.as_os_str().to_owned();
        unfinished.push(format!(".{}.tmp", std::process::id()));
        let unfinished = PathBuf::from(unfinished);
        let written = File::create(&unfinished).and_then(|mut to| {
            to.write_all(&saved::of_session(self))?;
            to.sync_all()?;
            std::fs::rename(&unfinished, file)
        });
        written.map_err(|e| {
            // Best effort: what failed is told, the leftover is not.
            let _ = std::fs::remove_file(&unfinished);
            failed(e)
        })
    }

    /// Goes on where the session that wrote the file was; on an error it is as before.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged, of another version of the format, or of another policy.
    pub fn load(&mut self, file: &Path) -> Result<(), ScorerError> {
        let bytes = std::fs::read(file)
            .map_err(|e| ScorerError::Snapshot(format!("cannot read `{}`: {e}", file.display())))?;
        saved::to_session(self, &bytes)
            .map_err(|e| ScorerError::Snapshot(format!("`{}` cannot be loaded: {e}", file.display())))
    }
}

const FORMS: &str = r#"{"round":…,"context":{…},"actions":[{"id":…},…]} (with "k":n for a slate), {"round":…,"reward":…}, {"save":"FILE"} and {"load":"FILE"}"#;

fn not_a_line(e: &serde_json::Error) -> String {
    format!("the line cannot be read: {e}; a line is one of {FORMS}")
}

fn known_by<'a>(token: Token<'a>, what: &str) -> Result<Cow<'a, str>, String> {
    token
        .key()
        .filter(|key| key.len() <= MOST_KEY_BYTES)
        .ok_or_else(|| format!("{what} must be a number or a text of at most {MOST_KEY_BYTES} bytes"))
}

fn write(out: &mut Vec<u8>, answer: &impl Serialize) {
    let before = out.len();
    if serde_json::to_writer(&mut *out, answer).is_err() {
        // Numbers, texts and lists of them can always be written; half a line never goes out.
        out.truncate(before);
        return;
    }
    out.push(b'\n');
}
