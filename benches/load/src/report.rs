//! Writes down what was measured: tables, JSON with every run, and a plot.

use std::{fmt::Write as _, fs};

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    footprint::{Fact, median},
    goals::{Metric, Point, Yardstick},
    load::Outcome,
    machine,
    measured::Measured,
    pairs::Bench,
    plot,
};

/// A median and the range around it.
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

/// One line for the terminal.
pub fn line(measured: &Measured) -> String {
    let Measured { point, discarded, .. } = measured;
    let name = name(point);
    let count = measured.ours.len();
    let quiet = format!("{count} runs, {discarded} discarded");
    let Some(ours) = Spread::of(measured.ours.iter().filter_map(|run| point.metric.of(run))) else {
        return format!("{name}: others were busy all the time ({quiet})");
    };
    let cost = cost_of(&measured.ours);
    let ours = ours.shown(point.metric);
    match Spread::of(measured.ratios()) {
        Some(ratio) => {
            format!(
                "{name} vs {}: {ours}, ratio {}, {} ({cost}; {quiet})",
                point.yardstick.name(),
                ratio.ratio(),
                verdict(measured)
            )
        }
        None => format!("{name}: {ours} ({cost}; {quiet})"),
    }
}

/// Writes all files and prints the tables.
pub fn write(bench: &Bench, measured: &[Measured], facts: &[Fact]) -> Result<()> {
    let output = &bench.options.output;
    fs::create_dir_all(output)?;
    let tables = tables(bench, measured, facts)?;
    println!("{tables}");
    fs::write(output.join("results.md"), tables)?;
    fs::write(output.join("results.json"), serde_json::to_string_pretty(&all(bench, measured, facts))?)?;
    fs::write(output.join("results.svg"), plot::bars(measured))?;
    eprintln!("written to {}", output.display());
    Ok(())
}

fn tables(bench: &Bench, measured: &[Measured], facts: &[Fact]) -> Result<String> {
    let options = &bench.options;
    let mut text = format!(
        "{}. {} agents × 10 keys, {} pairs of {} s after {} s of warm-up{}.\n",
        machine::description(),
        options.agents,
        options.pairs,
        options.seconds,
        options.warm_up,
        if options.pin { ", server and client on a processor each" } else { "" },
    );
    if !measured.is_empty() {
        text += "\n| workload | compared with | figure | service | yardstick | ratio (least–most) | goal | stretch | reached |\n\
                 |---|---|---|---|---|---|---|---|---|\n";
        for point in measured {
            ratio_row(&mut text, point)?;
        }
        text += "\n| workload | compared with | p50 / p99 ms | its p50 / p99 | server CPU µs a call | its | flushes a call | its | client cores | pairs (discarded) |\n\
                 |---|---|---|---|---|---|---|---|---|---|\n";
        for point in measured {
            cost_row(&mut text, point)?;
        }
    }
    if !facts.is_empty() {
        text += "\n| footprint | service | OpenBao on PostgreSQL | ratio | goal | reached |\n|---|---|---|---|---|---|\n";
        for fact in facts {
            fact_row(&mut text, fact)?;
        }
    }
    Ok(text)
}

fn ratio_row(text: &mut String, measured: &Measured) -> Result<()> {
    let Measured { point, rate, .. } = measured;
    let spread = |runs: &[Outcome]| {
        let of_all = Spread::of(runs.iter().filter_map(|run| point.metric.of(run)));
        of_all.map_or("–".to_owned(), |spread| spread.shown(point.metric))
    };
    let ratio = Spread::of(measured.ratios()).map_or("–".to_owned(), |ratio| ratio.ratio());
    let goal = |goal: Option<f64>| match (goal, point.metric) {
        (None, _) => "–".to_owned(),
        (Some(goal), Metric::Rate) => format!("≥ {}", short(goal)),
        (Some(goal), Metric::P50 | Metric::P99) => format!("≤ {}", short(goal)),
    };
    let figure = match rate {
        Some(rate) => format!("{} at {rate:.0} calls/s", point.metric.name()),
        None => point.metric.name().to_owned(),
    };
    let (name, yardstick, reached) = (name(point), point.yardstick.name(), verdict(measured));
    let (ours, theirs) = (spread(&measured.ours), spread(&measured.theirs));
    let (goal, stretch) = (goal(point.goal), goal(point.stretch));
    writeln!(
        text,
        "| {name} | {yardstick} | {figure} | {ours} | {theirs} | {ratio} | {goal} | {stretch} | {reached} |"
    )?;
    Ok(())
}

fn cost_row(text: &mut String, measured: &Measured) -> Result<()> {
    let Measured { point, ours, theirs, discarded, .. } = measured;
    let of = |runs: &[Outcome], figure: fn(&Outcome) -> Option<f64>, digits: usize| {
        let spread = Spread::of(runs.iter().filter_map(figure));
        spread.map_or("–".to_owned(), |spread| format!("{:.digits$}", spread.median))
    };
    let latency = |runs: &[Outcome]| {
        format!("{} / {}", of(runs, |run| run.latency_ms(0.5), 2), of(runs, |run| run.latency_ms(0.99), 2))
    };
    let cpu = |runs: &[Outcome]| of(runs, |run| Some(run.server_us()), 1);
    let flushes = |runs: &[Outcome]| of(runs, Outcome::flushes, 3);
    writeln!(
        text,
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} ({discarded}) |",
        name(point),
        point.yardstick.name(),
        latency(ours),
        latency(theirs),
        cpu(ours),
        cpu(theirs),
        flushes(ours),
        flushes(theirs),
        of(ours, |run| Some(run.usage.client / run.usage.seconds), 2),
        ours.len(),
    )?;
    Ok(())
}

fn fact_row(text: &mut String, fact: &Fact) -> Result<()> {
    let Fact { what, unit, ours, theirs, goal, share } = fact;
    let theirs_shown = theirs.map_or("–".to_owned(), |theirs| format!("{theirs:.1} {unit}"));
    let ratio = theirs.map(|theirs| ours / theirs);
    let ratio_shown = ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.3}"));
    let goals =
        [goal.map(|goal| format!("≤ {goal} {unit}")), share.map(|share| format!("≤ {share:.3} of it"))];
    let goals: Vec<String> = goals.into_iter().flatten().collect();
    let absolute = goal.is_none_or(|goal| *ours <= goal);
    let relative = ratio.zip(*share).is_none_or(|(ratio, share)| ratio <= share);
    let reached = match (goal.is_none() && ratio.is_none(), absolute && relative) {
        (true, _) => "–",
        (false, true) => "goal",
        (false, false) => "no",
    };
    let goals = goals.join(", ");
    writeln!(text, "| {what} | {ours:.1} {unit} | {theirs_shown} | {ratio_shown} | {goals} | {reached} |")?;
    Ok(())
}

/// What the ratio reaches, of what was asked.
pub fn verdict(measured: &Measured) -> &'static str {
    let Point { metric, goal, stretch, .. } = measured.point;
    let Some(ratio) = Spread::of(measured.ratios()) else {
        return if measured.ours.is_empty() { "not measured" } else { "–" };
    };
    let reaches = |goal: Option<f64>| goal.is_some_and(|goal| metric.reaches(ratio.median, goal));
    match goal {
        None => "–",
        Some(_) if reaches(stretch) => "stretch",
        Some(_) if reaches(goal) => "goal",
        Some(_) => "no",
    }
}

/// What a point is called.
pub fn name(point: &Point) -> String {
    let Point { workload, protocol, database, connections, .. } = point;
    format!("{workload}, {}, {}, c={connections}", protocol.name(), database.name())
}

fn cost_of(runs: &[Outcome]) -> String {
    let figure = |of: fn(&Outcome) -> Option<f64>| {
        Spread::of(runs.iter().filter_map(of)).map_or(f64::NAN, |spread| spread.median)
    };
    format!(
        "p50 {:.2} ms, p99 {:.2} ms, server {:.1} µs a call, {:.3} flushes, client {:.2} cores",
        figure(|run| run.latency_ms(0.5)),
        figure(|run| run.latency_ms(0.99)),
        figure(|run| Some(run.server_us())),
        figure(Outcome::flushes),
        figure(|run| Some(run.usage.client / run.usage.seconds)),
    )
}

fn all(bench: &Bench, measured: &[Measured], facts: &[Fact]) -> Value {
    let options = &bench.options;
    let points: Vec<Value> = measured.iter().map(of_point).collect();
    let facts: Vec<Value> = facts
        .iter()
        .map(|fact| json!({"what": fact.what, "unit": fact.unit, "service": fact.ours, "openbao": fact.theirs}))
        .collect();
    json!({
        "machine": machine::description(),
        "agents": options.agents,
        "seconds": options.seconds,
        "warm_up": options.warm_up,
        "pinned": options.pin,
        "other_cores_at_most": options.other_cores,
        "points": points,
        "footprint": facts,
    })
}

fn of_point(measured: &Measured) -> Value {
    let Measured { point, ours, theirs, discarded, rate } = measured;
    let runs = |runs: &[Outcome]| runs.iter().map(of_run).collect::<Vec<Value>>();
    let alone = point.yardstick == Yardstick::None;
    json!({
        "workload": point.workload.to_string(),
        "protocol": point.protocol.name(),
        "database": point.database.name(),
        "connections": point.connections,
        "yardstick": (!alone).then(|| point.yardstick.name()),
        "metric": point.metric.name(),
        "rate": rate,
        "goal": point.goal,
        "stretch": point.stretch,
        "ratios": measured.ratios(),
        "reached": verdict(measured),
        "discarded": discarded,
        "service_runs": runs(ours),
        "yardstick_runs": runs(theirs),
    })
}

fn of_run(run: &Outcome) -> Value {
    json!({
        "calls_per_second": run.rate(),
        "p50_ms": run.latency_ms(0.5),
        "p90_ms": run.latency_ms(0.9),
        "p99_ms": run.latency_ms(0.99),
        "p999_ms": run.latency_ms(0.999),
        "max_ms": run.latency_ms(1.0),
        "server_us_per_call": run.server_us(),
        "flushes_per_call": run.flushes(),
        "client_cores": run.usage.client / run.usage.seconds,
        "other_cores": run.usage.other_cores,
    })
}

impl Spread {
    fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let figures: Vec<f64> = figures.into_iter().collect();
        let least = figures.iter().copied().min_by(f64::total_cmp)?;
        let most = figures.iter().copied().max_by(f64::total_cmp)?;
        Some(Self { median: median(figures), least, most })
    }

    fn shown(&self, metric: Metric) -> String {
        let Self { median, least, most } = self;
        match metric {
            Metric::Rate => format!("{median:.0} ({least:.0}–{most:.0})"),
            Metric::P50 | Metric::P99 => format!("{median:.2} ({least:.2}–{most:.2}) ms"),
        }
    }

    fn ratio(&self) -> String {
        format!("{} ({}–{})", short(self.median), short(self.least), short(self.most))
    }
}

/// Three digits or so.
fn short(figure: f64) -> String {
    match figure {
        great if great >= 100.0 => format!("{great:.0}"),
        some if some >= 10.0 => format!("{some:.1}"),
        few => format!("{few:.2}"),
    }
}
