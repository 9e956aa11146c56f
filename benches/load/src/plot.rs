//! The ratios as an SVG picture: a bar for each point, as a share of its goal, with its scatter.

use std::fmt::Write as _;

use crate::{
    goals::Metric,
    measured::Measured,
    report::{name, verdict},
};

const ROW: f64 = 22.0;
const LABELS: f64 = 400.0;
const UNIT: f64 = 160.0;
/// Bars longer than so many goals are cut.
const LONGEST: f64 = 3.0;

/// Bars of all points that have a goal and a ratio.
pub fn bars(measured: &[Measured]) -> String {
    let shown: Vec<_> = measured.iter().filter_map(|point| Some((point, shares(point)?))).collect();
    let height = ROW * (shown.len() as f64 + 2.0);
    let width = LABELS + UNIT * LONGEST + 80.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (row, (point, [least, median, most])) in shown.iter().enumerate() {
        let y = ROW * (row as f64 + 1.0);
        let colour = match verdict(point) {
            "stretch" => "#2a7f4f",
            "goal" => "#6fbf8b",
            _ => "#d0694f",
        };
        let x = |share: f64| LABELS + UNIT * share.min(LONGEST);
        let label = format!("{} / {} {}", name(&point.point), point.point.yardstick.name(), metric(point));
        let text_y = y + 13.0;
        // A String takes all that is written
        let _written = writeln!(
            svg,
            "<text x=\"{}\" y=\"{text_y}\" text-anchor=\"end\">{label}</text>\n\
             <rect x=\"{LABELS}\" y=\"{}\" width=\"{:.1}\" height=\"14\" fill=\"{colour}\"/>\n\
             <path d=\"M{:.1} {m}H{:.1}\" stroke=\"black\"/>\n\
             <text x=\"{:.1}\" y=\"{text_y}\">{median:.2}</text>",
            LABELS - 6.0,
            y + 2.0,
            x(*median) - LABELS,
            x(*least),
            x(*most),
            x(median.max(*most)) + 6.0,
            m = y + 9.0,
        );
    }
    let goal = LABELS + UNIT;
    let _written = write!(
        svg,
        "<path d=\"M{goal} {}V{}\" stroke=\"black\" stroke-dasharray=\"4 3\"/>\n\
         <text x=\"{goal}\" y=\"14\" text-anchor=\"middle\">goal = 1</text>\n</svg>\n",
        ROW,
        height - ROW,
    );
    svg
}

fn metric(measured: &Measured) -> &'static str {
    match measured.point.metric {
        Metric::Rate => "",
        Metric::P50 | Metric::P99 => measured.point.metric.name(),
    }
}

/// Least, median and most of the ratios as shares of the goal, turned so that more is better.
fn shares(measured: &Measured) -> Option<[f64; 3]> {
    let goal = measured.point.goal?;
    let of_goal = |ratio: f64| match measured.point.metric {
        Metric::Rate => ratio / goal,
        Metric::P50 | Metric::P99 => goal / ratio,
    };
    let mut shares: Vec<f64> = measured.ratios().into_iter().map(of_goal).collect();
    shares.sort_by(f64::total_cmp);
    Some([*shares.first()?, crate::footprint::median(shares.clone()), *shares.last()?])
}
