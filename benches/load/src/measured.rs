//! What came of a point: the runs that count, and the ratio of each pair.

use crate::{
    goals::{Metric, Point},
    load::Outcome,
};

/// What came of a point.
pub struct Measured {
    pub point: Point,
    /// The service.
    pub ours: Vec<Outcome>,
    /// The yardstick, run by run beside the service; none if it was measured alone.
    pub theirs: Vec<Outcome>,
    /// Pairs that others on the machine have spoiled.
    pub discarded: usize,
    /// Of an open loop.
    pub rate: Option<f64>,
}

impl Measured {
    /// The ratio of each pair.
    pub fn ratios(&self) -> Vec<f64> {
        let pairs = self.ours.iter().zip(&self.theirs);
        pairs.filter_map(|(ours, theirs)| self.point.metric.ratio(ours, theirs)).collect()
    }
}

impl Metric {
    /// What a run gave.
    pub fn of(self, run: &Outcome) -> Option<f64> {
        match self {
            Self::Rate => Some(run.rate()),
            Self::P50 => run.latency_ms(0.5),
            Self::P99 => run.latency_ms(0.99),
        }
    }

    fn ratio(self, ours: &Outcome, theirs: &Outcome) -> Option<f64> {
        Some(self.of(ours)? / self.of(theirs)?)
    }
}
