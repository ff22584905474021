//! The evaluation as a person reads it.

use std::fmt;

use ingest::Millis;

use super::{Estimate, Estimator, Evaluation, Interval, Judgement, file::FileEvaluation};

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.from, self.to) {
            (Some(from), Some(to)) => {
                writeln!(f, "{} decisions, shown {} to {}", self.decisions, instant(from), instant(to))?;
            }
            _ => writeln!(f, "no decision is settled yet whose window is over")?,
        }
        let l = &self.left_out;
        writeln!(
            f,
            "left out: {} fresh, {} without a reward, {} rewards without their impression, {} unusable",
            l.fresh, l.unsettled, l.orphaned, l.unusable
        )?;
        for judgement in &self.judgements {
            let (target, by) = (&judgement.target, &judgement.logged_by);
            writeln!(
                f,
                "\n{target}, judged by what {by} logged: {} decisions of {} people",
                judgement.rows, judgement.people
            )?;
            write!(f, "{judgement}")?;
        }
        legend(f, self.judgements.iter().any(|j| !j.estimates.is_empty()))
    }
}

impl fmt::Display for FileEvaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let j = &self.judgement;
        writeln!(f, "{}: {} rows judged, {} left out", self.file, j.rows, self.left_out)?;
        for u in &self.unusable {
            writeln!(f, "left out: {} rows, the first is {}", u.rows, u.example)?;
        }
        let models = if self.model == "file" { "from the file" } else { "fitted, cross-fitted by folds" };
        writeln!(
            f,
            "target: {}; {} actions, {} columns of context, reward model {models}\n",
            j.target, self.actions, self.context
        )?;
        write!(f, "{j}")?;
        for p in &self.positions {
            let name = if p.position.is_empty() { "none" } else { &p.position };
            let value =
                |e| p.judgement.estimate(e).map_or_else(|| "none".to_owned(), |e| format!("{:.4}", e.value));
            writeln!(
                f,
                "position {name}: {} rows, as logged {:.4}, IPS {}, SNIPS {}, DR {}",
                p.judgement.rows,
                p.judgement.diagnostics.mean_reward,
                value(Estimator::Ips),
                value(Estimator::Snips),
                value(Estimator::Dr)
            )?;
        }
        legend(f, !j.estimates.is_empty())
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.estimates.is_empty() {
            writeln!(
                f,
                "  {:<12} {:>9}   {:<20} {:<20} {:<20} {:>10}",
                "", "value", "95 % bootstrap", "normal", "Bernstein", "effective"
            )?;
            for Estimate { estimator, value, normal, bootstrap, bernstein, effective_rows, .. } in
                &self.estimates
            {
                writeln!(
                    f,
                    "  {:<12} {value:>9.4}   {:<20} {:<20} {:<20} {effective_rows:>10.1}",
                    title(*estimator),
                    span(*bootstrap),
                    span(*normal),
                    span(*bernstein)
                )?;
            }
            let d = &self.diagnostics;
            writeln!(f, "  {:<12} {:>9.4}", "as logged", d.mean_reward)?;
            if let Some(gain) = &self.gain {
                writeln!(
                    f,
                    "  {:<12} {:>+9.4}   {:<20} {:<20}",
                    "DR less that",
                    gain.value,
                    span(gain.bootstrap),
                    span(gain.normal)
                )?;
            }
            let model =
                d.model_explains.map_or_else(String::new, |m| format!(", model explains {:.1} %", m * 100.0));
            writeln!(
                f,
                "  support {:.4}, mean weight {:.4} (z {:.1}), effective {:.1}, largest weight {:.2} ({:.1} % of \
                 all), smallest propensity {:.2e}, clipped {} rows{model}",
                d.support,
                d.mean_weight,
                d.mean_weight_z,
                d.effective_rows,
                d.largest_weight,
                d.largest_weight_share * 100.0,
                d.smallest_propensity,
                d.clipped_rows
            )?;
        }
        for warning in &self.diagnostics.warnings {
            writeln!(f, "! {}", warning.message)?;
        }
        Ok(())
    }
}

/// What no interval covers, once for all.
fn legend(f: &mut fmt::Formatter<'_>, any: bool) -> fmt::Result {
    if !any {
        return Ok(());
    }
    writeln!(f, "\nno interval covers:")?;
    for estimator in Estimator::ALL {
        writeln!(f, "  {:<12} {}", title(estimator), estimator.not_covered())?;
    }
    Ok(())
}

fn title(estimator: Estimator) -> &'static str {
    match estimator {
        Estimator::Ips => "IPS",
        Estimator::ClippedIps => "clipped IPS",
        Estimator::Snips => "SNIPS",
        Estimator::Dm => "direct",
        Estimator::Dr => "DR",
        Estimator::Sndr => "SNDR",
        Estimator::SwitchDr => "switch-DR",
    }
}

fn span(interval: Option<Interval>) -> String {
    interval.map_or_else(|| "none".to_owned(), |i| format!("{:.4} to {:.4}", i.low, i.high))
}

fn instant(at: Millis) -> String {
    jiff::Timestamp::from_millisecond(at).map_or_else(|_| at.to_string(), |t| t.to_string())
}
