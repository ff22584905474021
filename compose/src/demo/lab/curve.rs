//! Sums over all decisions so far, sampled so that a run of any length keeps few points.

use super::judge::Worth;

/// Most points kept. When there are more, every second goes and sampling is half as dense from then on.
const MOST: usize = 240;
/// Decisions between points at the start.
const EVERY: u64 = 5;

/// What was held of a category, and what was true; nothing before it could first be offered.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Belief {
    /// Score of the policy in charge.
    pub incumbent: Option<f64>,
    /// Score of its shadow.
    pub shadow: Option<f64>,
    /// True mean worth.
    pub truth: Option<f64>,
}

/// The sums after so many decisions.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Decisions so far.
    pub tips: u64,
    /// Sums of what they were worth; the shadow's as long as every decision had one.
    pub sums: Worth,
    /// In the order of the categories' names.
    pub beliefs: Vec<Belief>,
}

/// The points of a run.
#[derive(Debug)]
pub struct Curve {
    every: u64,
    tips: u64,
    sums: Worth,
    points: Vec<Point>,
}

impl Curve {
    /// Without decisions.
    pub fn new(categories: usize) -> Curve {
        let sums = Worth { best: 0.0, incumbent: 0.0, shadow: Some(0.0), uniform: 0.0 };
        let start = Point { tips: 0, sums, beliefs: vec![Belief::default(); categories] };
        Curve { every: EVERY, tips: 0, sums, points: vec![start] }
    }

    /// Counts a decision; `beliefs` is asked when a point is due.
    pub fn add(&mut self, worth: &Worth, beliefs: impl FnOnce() -> Vec<Belief>) {
        self.tips += 1;
        self.sums.best += worth.best;
        self.sums.incumbent += worth.incumbent;
        self.sums.shadow = self.sums.shadow.zip(worth.shadow).map(|(sum, new)| sum + new);
        self.sums.uniform += worth.uniform;
        if !self.tips.is_multiple_of(self.every) {
            return;
        }
        self.points.push(Point { tips: self.tips, sums: self.sums, beliefs: beliefs() });
        if self.points.len() > MOST {
            self.every *= 2;
            let every = self.every;
            self.points.retain(|p| p.tips.is_multiple_of(every));
        }
    }

    /// Decisions so far.
    pub fn tips(&self) -> u64 {
        self.tips
    }

    /// The points, the first before any decision.
    pub fn points(&self) -> &[Point] {
        &self.points
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_keeps_few_points_at_even_distances() {
        let mut curve = Curve::new(0);
        for _ in 0..100_000 {
            curve.add(&Worth { best: 0.75, incumbent: 0.5, shadow: Some(0.625), uniform: 0.25 }, Vec::new);
        }
        let points = curve.points();
        assert!((MOST / 2..=MOST).contains(&points.len()), "{}", points.len());
        let step = points[1].tips;
        for (i, point) in points.iter().enumerate() {
            assert_eq!(point.tips, step * i as u64);
            let sums = Worth {
                best: 0.75 * point.tips as f64,
                incumbent: 0.5 * point.tips as f64,
                shadow: Some(0.625 * point.tips as f64),
                uniform: 0.25 * point.tips as f64,
            };
            assert_eq!(point.sums, sums);
        }
        assert!(curve.tips() - points.last().unwrap().tips < step);
    }

    #[test]
    fn beliefs_are_asked_for_points_alone() {
        let (mut curve, mut asked) = (Curve::new(1), 0);
        let belief = Belief { incumbent: Some(0.5), shadow: None, truth: Some(0.4) };
        for _ in 0..3 * EVERY {
            curve.add(&Worth { best: 1.0, incumbent: 1.0, shadow: None, uniform: 1.0 }, || {
                asked += 1;
                vec![belief]
            });
        }
        assert_eq!(asked, 3);
        assert_eq!(curve.points()[0].beliefs, [Belief::default()]);
        assert_eq!(curve.points()[3].beliefs, [belief]);
        assert_eq!(curve.points()[3].sums.shadow, None, "a decision without one ends the shadow's sum");
    }
}
