//! The context: what a policy sees of a person and the moment.
//!
//! A [`Layout`] is fixed at start-up. It names the features to read, and turns a row of them into the *raw
//! context*, the plain values that an impression records (NaN where there is none), and the raw context into
//! the policy's inputs. The second step is a fixed function, so a reward can be learned from the record.
//!
//! | raw value | becomes |
//! |---|---|
//! | a feature | `(value − centre) / scale`, clamped to ±3; no value: 0, the centre |
//! | all features | one more input: the share of them without a value |
//! | `time.hour`, 0 to 24 UTC | sine and cosine of the day, once and twice around |
//! | `time.weekday`, 0 is Monday | 1 at weekends, else 0 |
//! | `taste.<category>_…` | an action feature of that category's tips: `ln(1 + value) / ln 11` |
//! | `tip.effort` in minutes | an action feature: `log₁₀(effort / 10)` |

use std::{
    collections::{BTreeMap, HashSet},
    f64::consts::TAU,
};

use features::value::{FeatureRow, Value};
use ingest::Millis;
use ndarray::Array1;
use serde::{Deserialize, Serialize};

use crate::{
    ScorerError,
    record::names_hash,
    tips::{Tip, TipCatalogue},
};

const HOUR: &str = "time.hour";
const WEEKDAY: &str = "time.weekday";
const EFFORT: &str = "tip.effort";
const CATEGORY: &str = "{category}";
const DAY_MS: i64 = 86_400_000;
/// Inputs besides the features: the share without a value, four of the hour, one of the weekday.
const EXTRA: usize = 6;

/// Whether a value of a recorded context belongs to the tip that was chosen and not to the moment. It is nothing
/// that a choice among other tips could rest on.
pub fn is_of_the_tip(name: &str) -> bool {
    name == EFFORT
}

/// A feature in the context, with the value and the spread it usually has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContextFeature {
    /// `view.feature_window`.
    pub name: String,
    /// A usual value.
    pub centre: f64,
    /// How far values usually are from it.
    pub scale: f64,
}

/// What makes up the context.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContextConfig {
    /// Features of the person.
    pub features: Vec<ContextFeature>,
    /// Counts of the person for each category of tips; `{category}` stands for its name. Each must exist for
    /// every category in `taste_categories`.
    pub taste: Vec<String>,
    /// Categories for which the features of `taste` exist; tips of others go without.
    pub taste_categories: Vec<String>,
}

impl Default for ContextConfig {
    fn default() -> Self {
        let feature = |(name, centre, scale): &(&str, f64, f64)| ContextFeature {
            name: (*name).to_owned(),
            centre: *centre,
            scale: *scale,
        };
        ContextConfig {
            features: SHIPPED.iter().map(feature).collect(),
            taste: vec!["taste.{category}_liked_28d".into(), "taste.{category}_refused_28d".into()],
            taste_categories: SHIPPED_CATEGORIES.map(str::to_owned).to_vec(),
        }
    }
}

/// From the shipped views: name, usual value, usual spread.
const SHIPPED: [(&str, f64, f64); 30] = [
    ("sleep_debt.deficit_minutes_7d", 150.0, 300.0),
    ("sleep_debt.last_night_minutes_24h", 420.0, 90.0),
    ("sleep_rhythm.late_nights_7d", 0.0, 3.0),
    ("sleep_quality.latest_score_24h", 75.0, 12.0),
    ("task_load.created_24h", 3.0, 5.0),
    ("task_load.due_within_day_24h", 1.0, 3.0),
    ("task_activity.completed_24h", 3.0, 5.0),
    ("task_activity.minutes_24h", 120.0, 120.0),
    ("task_snoozes.snoozed_24h", 0.0, 3.0),
    ("habit_rhythm.kept_7d", 5.0, 7.0),
    ("habit_rhythm.missed_7d", 1.0, 4.0),
    ("calendar_density.meetings_24h", 2.0, 3.0),
    ("calendar_density.meeting_minutes_24h", 60.0, 120.0),
    ("mood_trend.latest_mood_24h", 3.0, 1.0),
    ("mood_trend.mood_7d", 3.0, 0.7),
    ("stress.latest_calm_24h", 3.0, 1.0),
    ("energy.latest_freshness_24h", 3.0, 1.0),
    ("movement.steps_1h", 400.0, 800.0),
    ("movement.steps_24h", 7000.0, 5000.0),
    ("exercise.minutes_7d", 90.0, 120.0),
    ("heart.latest_bpm_7d", 60.0, 10.0),
    ("code_rhythm.pushes_24h", 2.0, 5.0),
    ("code_rhythm.late_pushes_7d", 0.0, 3.0),
    ("inbox.received_24h", 20.0, 30.0),
    ("inbox.important_24h", 1.0, 3.0),
    ("listening.minutes_24h", 30.0, 60.0),
    ("surroundings.at_work_24h", 0.5, 0.5),
    ("tip_fatigue.shown_24h", 3.0, 5.0),
    ("reaction_rates.accepted_7d", 2.0, 4.0),
    ("reaction_rates.dismissed_7d", 2.0, 4.0),
];

/// Categories that the shipped view `taste` counts.
const SHIPPED_CATEGORIES: [&str; 14] = [
    "calendar",
    "code",
    "focus",
    "habits",
    "learning",
    "mail",
    "mood",
    "movement",
    "music",
    "nourishment",
    "rest",
    "sleep",
    "social",
    "tasks",
];

/// The raw context of one decision, without the tip's own `tip.effort`.
#[derive(Debug, Clone, PartialEq)]
pub struct RawContext(pub Vec<f64>);

/// What the context is made of, and where each value stands.
#[derive(Debug, Clone)]
pub struct Layout {
    features: Vec<ContextFeature>,
    /// For each category, where its tastes stand in the raw context.
    tastes: BTreeMap<String, usize>,
    taste_width: usize,
    read: Vec<String>,
    names: Vec<String>,
    names_hash: u64,
}

impl Layout {
    /// Of a configuration, for the tips of a catalogue.
    ///
    /// # Errors
    /// A scale that is not positive, or a name that occurs twice.
    pub fn new(config: &ContextConfig, catalogue: &TipCatalogue) -> Result<Layout, ScorerError> {
        let mut names: Vec<String> = Vec::new();
        for f in &config.features {
            if !(f.scale > 0.0 && f.scale.is_finite() && f.centre.is_finite()) {
                let text =
                    format!("context feature `{}`: centre and scale must be numbers, scale above 0", f.name);
                return Err(ScorerError::Config(text));
            }
            names.push(f.name.clone());
        }
        if let Some(plain) = config.taste.iter().find(|t| !t.contains(CATEGORY)) {
            let text = format!("context taste `{plain}`: write {CATEGORY} where the category's name belongs");
            return Err(ScorerError::Config(text));
        }
        let mut read = names.clone();
        names.extend([HOUR.to_owned(), WEEKDAY.to_owned()]);
        let mut tastes = BTreeMap::new();
        for category in &config.taste_categories {
            tastes.insert(category.clone(), names.len());
            for template in &config.taste {
                let name = template.replace(CATEGORY, category);
                names.push(name.clone());
                read.push(name);
            }
        }
        names.push(EFFORT.to_owned());
        let mut once = HashSet::new();
        if let Some(twice) = names.iter().find(|n| !once.insert(n.as_str())) {
            return Err(ScorerError::Config(format!("`{twice}` stands in the context twice; leave one out")));
        }
        for feature in catalogue.features() {
            if !once.contains(feature.as_str()) {
                read.push(feature);
            }
        }
        let names_hash = names_hash(&names);
        let (features, taste_width) = (config.features.clone(), config.taste.len());
        Ok(Layout { features, tastes, taste_width, read, names, names_hash })
    }

    /// The features to read for a decision, in this order: those of the context, then those that tips'
    /// conditions name.
    pub fn features_to_read(&self) -> &[String] {
        &self.read
    }

    /// Names of the raw context's values.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Identifies [`Layout::names`].
    pub fn names_hash(&self) -> u64 {
        self.names_hash
    }

    /// Identifies the whole function from features to inputs.
    pub fn fingerprint(&self) -> u64 {
        let scales: Vec<String> = self.features.iter().map(|f| format!("{} {}", f.centre, f.scale)).collect();
        self.names_hash ^ names_hash(&scales).rotate_left(1)
    }

    /// Length of the policy's context.
    pub fn context_len(&self) -> usize {
        self.features.len() + EXTRA
    }

    /// Number of action features.
    pub fn action_len(&self) -> usize {
        self.taste_width + 1
    }

    /// The raw context of a row read in the order of [`Layout::features_to_read`]. `given` replaces values by
    /// name, such as `time.hour` in the person's own zone.
    ///
    /// # Errors
    /// A name in `given` that is not in the context.
    pub fn raw(
        &self,
        row: &FeatureRow,
        now: Millis,
        given: &BTreeMap<String, f64>,
    ) -> Result<RawContext, ScorerError> {
        let value = |v: Option<&Value>| v.and_then(Value::as_f64).unwrap_or(f64::NAN);
        let n = self.features.len();
        let mut raw = Vec::with_capacity(self.names.len());
        raw.extend((0..n).map(|i| value(row.values.get(i))));
        raw.push(now.rem_euclid(DAY_MS) as f64 / 3_600_000.0);
        // The epoch was a Thursday.
        raw.push((now.div_euclid(DAY_MS) + 3).rem_euclid(7) as f64);
        raw.extend((n..n + self.tastes.len() * self.taste_width).map(|i| value(row.values.get(i))));
        for (name, value) in given {
            let at = self.names[..raw.len()].iter().position(|n| n == name).ok_or_else(|| {
                let name: String = name.chars().take(80).collect();
                ScorerError::Invalid(format!(
                    "context: `{name}` is not in the context this service decides by"
                ))
            })?;
            raw[at] = *value;
        }
        Ok(RawContext(raw))
    }

    /// The policy's context, of length [`Layout::context_len`]. Every value is finite.
    pub fn inputs(&self, raw: &[f64]) -> Array1<f64> {
        let n = self.features.len();
        let mut inputs = Array1::zeros(n + EXTRA);
        let mut missing = 0;
        for (i, f) in self.features.iter().enumerate() {
            match raw.get(i) {
                Some(v) if !v.is_nan() => inputs[i] = ((v - f.centre) / f.scale).clamp(-3.0, 3.0),
                _ => missing += 1,
            }
        }
        inputs[n] = f64::from(missing) / n.max(1) as f64;
        let finite = |i: usize| raw.get(i).copied().filter(|v| v.is_finite());
        if let Some(hour) = finite(n) {
            let angle = hour / 24.0 * TAU;
            inputs[n + 1] = angle.sin();
            inputs[n + 2] = angle.cos();
            inputs[n + 3] = (2.0 * angle).sin();
            inputs[n + 4] = (2.0 * angle).cos();
        }
        if let Some(day) = finite(n + 1) {
            inputs[n + 5] = f64::from(u8::from(day >= 5.0));
        }
        inputs
    }

    /// Appends the features of an action, [`Layout::action_len`] of them, to `out`.
    pub fn action(&self, raw: &[f64], category: &str, effort: f64, out: &mut Vec<f64>) {
        match self.tastes.get(category) {
            Some(&at) => out.extend((at..at + self.taste_width).map(|i| {
                let count = raw.get(i).copied().filter(|v| v.is_finite()).unwrap_or(0.0);
                (1.0 + count.max(0.0)).ln() / 11f64.ln()
            })),
            None => out.extend(std::iter::repeat_n(0.0, self.taste_width)),
        }
        let effort = (effort / 10.0).log10();
        out.push(if effort.is_finite() { effort } else { 0.0 });
    }

    /// The raw context as recorded with the tip that was chosen.
    pub fn recorded(&self, raw: RawContext, tip: &Tip) -> Vec<f64> {
        let mut values = raw.0;
        values.push(f64::from(tip.effort));
        values
    }
}
