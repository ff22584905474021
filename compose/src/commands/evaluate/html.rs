//! The evaluation as a page that needs nothing but itself.

use pipelines::evaluate::{Charts, Evaluation, Judgement, file::FileEvaluation};
use serde::Serialize;

const PAGE: &str = include_str!("../../../static/evaluation.html");
const STYLE: &str = include_str!("../../../static/evaluation.css");
const SCRIPT: &str = include_str!("../../../static/evaluation.js");
const UPLOT: &str = include_str!("../../../../dashboards/vendor/uplot/uPlot.iife.min.js");
const UPLOT_STYLE: &str = include_str!("../../../../dashboards/vendor/uplot/uPlot.min.css");

/// What the page's script draws.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    about: String,
    sections: Vec<Section<'a>>,
}

#[derive(Debug, Serialize)]
struct Section<'a> {
    title: String,
    judgement: &'a Judgement,
    charts: &'a Charts,
}

impl<'a> Section<'a> {
    fn of(title: String, judgement: &'a Judgement) -> Section<'a> {
        Section { title, judgement, charts: &judgement.charts }
    }
}

impl<'a> From<&'a Evaluation> for Report<'a> {
    fn from(evaluation: &'a Evaluation) -> Report<'a> {
        let title = |j: &Judgement| {
            format!(
                "{}, judged by what {} logged: {} decisions of {} people",
                j.target, j.logged_by, j.rows, j.people
            )
        };
        let l = &evaluation.left_out;
        Report {
            about: format!(
                "{} decisions of the log. Left out: {} fresh, {} without a reward, {} rewards without their \
                 impression, {} unusable.",
                evaluation.decisions, l.fresh, l.unsettled, l.orphaned, l.unusable
            ),
            sections: evaluation.judgements.iter().map(|j| Section::of(title(j), j)).collect(),
        }
    }
}

impl<'a> From<&'a FileEvaluation> for Report<'a> {
    fn from(found: &'a FileEvaluation) -> Report<'a> {
        let mut sections = vec![Section::of(
            format!("{}, {} rows", found.judgement.target, found.judgement.rows),
            &found.judgement,
        )];
        for p in &found.positions {
            sections.push(Section::of(
                format!("Position {} alone, {} rows", p.position, p.judgement.rows),
                &p.judgement,
            ));
        }
        let name = std::path::Path::new(&found.file).file_name().unwrap_or_default().to_string_lossy();
        Report {
            about: format!(
                "{name}: {} rows read, {} left out, {} actions, {} columns of context, rewards expected by the \
                 model of the {}.",
                found.rows_read,
                found.left_out,
                found.actions,
                found.context,
                if found.model == "file" { "file" } else { "evaluation, cross-fitted" }
            ),
            sections,
        }
    }
}

impl Report<'_> {
    /// The page.
    ///
    /// # Errors
    /// Figures that are no JSON.
    pub fn page(&self) -> Result<String, serde_json::Error> {
        // In a script a `<` could end it, whatever the names in the log are.
        let data = serde_json::to_string(self)?.replace('<', "\\u003c");
        let mut page = String::with_capacity(PAGE.len() + UPLOT.len() + data.len() + 16_384);
        let mut rest = PAGE;
        let parts = [
            ("{{uplot-style}}", UPLOT_STYLE),
            ("{{style}}", STYLE),
            ("{{data}}", &data),
            ("{{uplot}}", UPLOT),
        ];
        for (place, part) in parts.into_iter().chain([("{{script}}", SCRIPT)]) {
            if let Some((before, after)) = rest.split_once(place) {
                page.push_str(before);
                page.push_str(part);
                rest = after;
            }
        }
        page.push_str(rest);
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use pipelines::evaluate::{Options, file::evaluate_file};
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn the_page_is_whole_and_names_cannot_break_out_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("log.csv");
        let mut text = "action,propensity,reward,target.</script><b>,target.b\n".to_owned();
        for i in 0..60 {
            text += &format!("{},0.5,{},0.9,0.1\n", if i % 4 == 0 { "b" } else { "</script><b>" }, i % 2);
        }
        std::fs::write(&file, text).unwrap();
        let mut rng = StdRng::seed_from_u64(1);
        let found = evaluate_file(&file, None, &Options::default(), &mut rng, &mut |_| {}).unwrap();
        let page = Report::from(&found).page().unwrap();
        assert!(!page.contains("{{") && page.contains("uPlot") && page.contains("clipped_ips"));
        assert!(!page.contains("</script><b>") && page.contains("\\u003c/script>"));
        assert_eq!(page.matches("<script").count(), page.matches("</script>").count());
        assert!(!page.contains("src=") && !page.contains("href="));
    }
}
