//! One decision, held against what the person would truly have given for each tip.

use scorer::record::Impression;

/// What a decision was worth on average, had each of these made it: exact expected rewards over the same
/// candidates at the same instant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Worth {
    /// Somebody who knows the person's taste.
    pub best: f64,
    /// The policy in charge, by the distribution it drew from.
    pub incumbent: f64,
    /// The policy in its shadow, where one is recorded.
    pub shadow: Option<f64>,
    /// Every candidate alike.
    pub uniform: f64,
}

/// The probability each gave to the tip it drew.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Propensities {
    /// The policy in charge, to the tip that was shown.
    pub incumbent: f64,
    /// Its shadow, to the tip it would have shown.
    pub shadow: Option<f64>,
    /// Every candidate alike.
    pub uniform: f64,
}

/// A decision as the laboratory counts it.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// What it was worth.
    pub worth: Worth,
    /// How sure each was.
    pub propensities: Propensities,
    /// Index of each candidate in the catalogue, and its true worth.
    pub candidates: Vec<(usize, f64)>,
}

/// Judges an impression; `known` gives index and true worth of a tip. `None` where the record is not whole.
pub fn judge(impression: &Impression, known: impl Fn(&str) -> Option<(usize, f64)>) -> Option<Judged> {
    let candidates: Vec<(usize, f64)> =
        impression.candidates.iter().map(|c| known(c.tip.as_deref()?)).collect::<Option<_>>()?;
    let chances: Vec<f64> = impression.candidates.iter().map(|c| c.propensity).collect::<Option<_>>()?;
    let best = candidates.iter().map(|(_, worth)| *worth).reduce(f64::max)?;
    let mean = |chances: &[f64]| chances.iter().zip(&candidates).map(|(p, (_, worth))| p * worth).sum();
    let each = 1.0 / candidates.len() as f64;
    let shadow = impression.shadow.as_ref().filter(|s| s.propensities.len() == candidates.len());
    let worth = Worth {
        best,
        incumbent: mean(&chances),
        shadow: shadow.map(|s| mean(&s.propensities)),
        uniform: mean(&vec![each; candidates.len()]),
    };
    let propensities = Propensities {
        incumbent: impression.propensity?,
        shadow: shadow.and_then(|s| s.propensity),
        uniform: each,
    };
    Some(Judged { worth, propensities, candidates })
}

#[cfg(test)]
mod tests {
    use scorer::record::{Candidate, Shadow};

    use super::*;

    fn impression(propensities: &[f64]) -> Impression {
        let candidate = |(i, p): (usize, &f64)| Candidate {
            tip: Some(i.to_string()),
            score: Some(0.0),
            propensity: Some(*p),
            ..Candidate::default()
        };
        Impression {
            propensity: propensities.first().copied(),
            candidates: propensities.iter().enumerate().map(candidate).collect(),
            ..Impression::default()
        }
    }

    /// The tip called `i` is worth the `i`th of these.
    fn known(worth: &[f64]) -> impl Fn(&str) -> Option<(usize, f64)> {
        move |tip| {
            let i: usize = tip.parse().ok()?;
            Some((i, *worth.get(i)?))
        }
    }

    #[test]
    fn worth_is_the_mean_under_each_distribution() {
        let mut impression = impression(&[0.7, 0.2, 0.1]);
        let judged = judge(&impression, known(&[0.5, 0.2, 0.8])).unwrap();
        assert!((judged.worth.incumbent - (0.35 + 0.04 + 0.08)).abs() < 1e-12);
        assert!((judged.worth.uniform - 0.5).abs() < 1e-12);
        assert_eq!(judged.worth.best, 0.8);
        assert_eq!(judged.propensities, Propensities { incumbent: 0.7, shadow: None, uniform: 1.0 / 3.0 });
        assert_eq!(judged.candidates, [(0, 0.5), (1, 0.2), (2, 0.8)]);

        let propensities = vec![0.0, 0.5, 0.5];
        impression.shadow = Some(Shadow { propensity: Some(0.5), propensities, ..Shadow::default() });
        let judged = judge(&impression, known(&[0.5, 0.2, 0.8])).unwrap();
        assert!((judged.worth.shadow.unwrap() - 0.5).abs() < 1e-12);
        assert_eq!(judged.propensities.shadow, Some(0.5));
    }

    #[test]
    fn what_is_not_whole_is_not_judged() {
        assert_eq!(judge(&impression(&[]), known(&[])), None);
        assert_eq!(judge(&impression(&[0.5, 0.5]), known(&[0.1])), None, "a tip nobody knows");
        let mut blank = impression(&[0.5, 0.5]);
        blank.candidates[1].propensity = None;
        assert_eq!(judge(&blank, known(&[0.1, 0.2])), None);
    }
}
