//! The two sides of a comparison: the service and what it is compared with. Each starts with a store of its own.

pub mod bare;
pub mod openbao;
pub mod pgbench;
pub mod postgres;
pub mod service;
pub mod sqlite;

use std::{path::Path, rc::Rc};

use anyhow::Result;

use crate::load::{self, Outcome, Shape, Source, Target};

/// What can be run at a load.
pub trait Side {
    /// Runs it once.
    fn run(&mut self, shape: &Shape) -> Result<Outcome>;
}

/// Gives the calls of one run.
type Calls = Box<dyn Fn() -> Rc<dyn Source>>;

/// Puts back what a run has taken away.
type Refill = Box<dyn Fn() -> Result<()>>;

/// A server that is driven by our own client.
pub struct Served<'d> {
    pub target: Target,
    pub calls: Calls,
    /// Before each run.
    pub refill: Option<Refill>,
    /// On the disk whose flushes count.
    pub directory: &'d Path,
}

impl Side for Served<'_> {
    fn run(&mut self, shape: &Shape) -> Result<Outcome> {
        if let Some(refill) = &self.refill {
            refill()?;
        }
        load::run(&self.target, shape, (self.calls)(), self.directory)
    }
}
