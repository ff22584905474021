//! A bandit that is spoken to in lines of JSON.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    Bandit, Candidate,
    lines::{ActionLine, Answer, Done, Line, Refused, key},
    rounds::{Limits, NotWaiting, Rounds},
    saved,
};
use crate::{ScorerError, policy::PolicyConfig};

/// Most actions of one round.
pub const MOST_ACTIONS: usize = 10_000;
/// Most bytes of the id of a round or an action.
const MOST_KEY_BYTES: usize = 1_024;

/// Takes lines, gives answers.
///
/// | line | answer |
/// |---|---|
/// | `{"round":t,"context":{…},"actions":[{"id":…,"features":{…}},…]}` | `{"round":t,"action":…,"propensity":…,"distribution":[…],"policy":…}` |
/// | `{"round":t,"reward":r}` | nothing |
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
        let parsed = std::str::from_utf8(line)
            .map_err(|e| format!("the line is not UTF-8: {e}"))
            .and_then(|text| serde_json::from_str::<Line<'_>>(text).map_err(|e| not_a_line(&e)));
        let (round, outcome) = match parsed {
            Err(why) => (None, Err(why)),
            Ok(line) => (line.round, self.follow(line, out)),
        };
        if let Err(error) = outcome {
            write(out, &Refused { error, round });
        }
    }

    fn follow(&mut self, line: Line<'_>, out: &mut Vec<u8>) -> Result<(), String> {
        match line {
            Line {
                round: Some(round),
                context,
                actions: Some(actions),
                reward: None,
                save: None,
                load: None,
            } => {
                let context = context.map(|c| c.0).unwrap_or_default();
                self.decide(round, &context, &actions, out)
            }
            Line {
                round: Some(round),
                reward: Some(reward),
                context: None,
                actions: None,
                save: None,
                load: None,
            } => self.reward(round, reward),
            Line {
                save: Some(file),
                round: None,
                context: None,
                actions: None,
                reward: None,
                load: None,
            } => {
                self.save(Path::new(&file)).map_err(|e| e.to_string())?;
                write(out, &Done::Saved(&file));
                Ok(())
            }
            Line {
                load: Some(file),
                round: None,
                context: None,
                actions: None,
                reward: None,
                save: None,
            } => {
                self.load(Path::new(&file)).map_err(|e| e.to_string())?;
                write(out, &Done::Loaded(&file));
                Ok(())
            }
            _ => Err(format!("a line is one of {FORMS}")),
        }
    }

    fn decide(
        &mut self,
        round: &RawValue,
        context: &super::Fields<'_>,
        actions: &[ActionLine<'_>],
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let round_key = known_by(round, "`round`")?;
        if actions.is_empty() || actions.len() > MOST_ACTIONS {
            return Err(format!("`actions` has {} entries; it needs 1 to {MOST_ACTIONS}", actions.len()));
        }
        let mut ids = HashSet::with_capacity(actions.len());
        let mut candidates = Vec::with_capacity(actions.len());
        for action in actions {
            let id = known_by(action.id, "the `id` of an action")?;
            if !ids.insert(id.clone()) {
                return Err(format!("the action {} stands there twice; name each once", action.id));
            }
            let features = action.features.as_ref().map(|f| f.0.clone()).unwrap_or_default();
            candidates.push(Candidate { id, features });
        }
        let (choice, decided) =
            self.bandit.decide(context, &candidates).ok_or("there is no action to choose from")?;
        self.rounds.add(&round_key, Some(decided));
        let answer = Answer {
            round,
            action: actions[choice.index].id,
            propensity: choice.propensity(),
            distribution: &choice.distribution.propensities,
            policy: self.bandit.name(),
        };
        write(out, &answer);
        Ok(())
    }

    fn reward(&mut self, round: &RawValue, reward: f64) -> Result<(), String> {
        let key = known_by(round, "`round`")?;
        let decided = self.rounds.take(&key).map_err(|why| match why {
            NotWaiting::Settled => {
                format!("round {round} has its reward already; the first one counts and this one changed nothing")
            }
            NotWaiting::Unknown => format!(
                "round {round} is not known: it was never asked, or is more than {} rounds ago; nothing was learned",
                self.rounds.limits().rounds
            ),
        })?;
        if self.bandit.settle(&decided, reward) { Ok(()) } else { Err("the reward was not learned".into()) }
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

const FORMS: &str = r#"{"round":…,"context":{…},"actions":[{"id":…},…]}, {"round":…,"reward":…}, {"save":"FILE"} and {"load":"FILE"}"#;

fn not_a_line(e: &serde_json::Error) -> String {
    format!("the line cannot be read: {e}; a line is one of {FORMS}")
}

fn known_by<'a>(raw: &'a RawValue, what: &str) -> Result<std::borrow::Cow<'a, str>, String> {
    key(raw)
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
