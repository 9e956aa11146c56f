//! Runs of the service and of a yardstick that take turns, each pair compared with itself alone: a machine whose
//! speed drifts moves both.

use std::{
    cell::{Cell, OnceCell, RefCell},
    path::PathBuf,
    rc::Rc,
    time::Instant,
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::{
    goals::{Metric, Point, Yardstick},
    load::{Outcome, Shape, Target, Wire},
    measured::Measured,
    options::{Database, Options, Protocol},
    sides::{
        Served, Side,
        bare::Bare,
        openbao::{self, OpenBao},
        pgbench::Pgbench,
        postgres::Cluster,
        service::{self, Service, Template, Templates},
        sqlite::Sqlite,
    },
    workload::{Agents, Calls, Random, Workload},
};

/// So many times the pairs that must count are tried.
const TRIES: usize = 3;

/// Deletes use up what they need: enough for a run at 25,000 a second.
const AGENTS_TO_DELETE_FROM: usize = 10_000;

/// What all points share.
pub struct Bench {
    pub options: Options,
    pub directory: TempDir,
    cluster: OnceCell<Cluster>,
    templates: RefCell<Templates>,
}

impl Bench {
    pub fn new(options: Options) -> Result<Self> {
        let mut directory = tempfile::Builder::new();
        directory.prefix("superserve-load-");
        let directory = match &options.directory {
            Some(parent) => directory.tempdir_in(parent)?,
            None => directory.tempdir()?,
        };
        Ok(Self { options, directory, cluster: OnceCell::new(), templates: RefCell::default() })
    }

    /// The binary under test.
    pub fn binary(&self) -> Result<PathBuf> {
        let binary = &self.options.binary;
        binary.canonicalize().with_context(|| format!("{}: `just bench-load` builds it", binary.display()))
    }

    /// The cluster for everything, started when it is first asked for.
    pub fn cluster(&self) -> Result<&Cluster> {
        if let Some(cluster) = self.cluster.get() {
            return Ok(cluster);
        }
        let parent = self.directory.path().parent().context("a temporary directory has a parent")?;
        let cluster = Cluster::start(parent)?;
        Ok(self.cluster.get_or_init(|| cluster))
    }

    /// The cluster, for a database that needs it.
    pub fn cluster_of(&self, database: Database) -> Result<Option<&Cluster>> {
        (database == Database::Postgres).then(|| self.cluster()).transpose()
    }

    /// A store of so many agents, filled when it is first asked for.
    pub fn template(&self, database: Database, agents: usize) -> Result<Rc<Template>> {
        if let Some(template) = self.templates.borrow().get(&(database, agents)) {
            return Ok(Rc::clone(template));
        }
        eprintln!("filling {} with {agents} agents", database.name());
        let (cluster, started) = (self.cluster_of(database)?, Instant::now());
        let template = Template::make(&self.binary()?, database, cluster, agents, self.directory.path())?;
        eprintln!("filled in {:.1} s", started.elapsed().as_secs_f64());
        let template = Rc::new(template);
        self.templates.borrow_mut().insert((database, agents), Rc::clone(&template));
        Ok(template)
    }

    /// Where servers run, if they are pinned.
    fn processor(&self) -> Option<usize> {
        self.options.pin.then_some(0)
    }

    /// Measures one point.
    pub fn measure(&self, point: &Point) -> Result<Measured> {
        let agents = match point.workload {
            Workload::Delete => self.options.agents.max(AGENTS_TO_DELETE_FROM),
            Workload::Set | Workload::List | Workload::Resolve => self.options.agents,
        };
        let template = self.template(point.database, agents)?;
        let cluster = self.cluster_of(point.database)?;
        let service = template.start(&self.binary()?, cluster, self.directory.path(), self.processor())?;
        let mut ours = self.served(&service, &template, point.workload, wire(point.protocol));
        let mut replica = None;
        if point.yardstick == Yardstick::OneReplica {
            let second = template.start_replica(&self.binary()?, self.cluster()?, self.directory.path())?;
            let Target { addresses, servers, .. } = second.target(Wire::Grpc, "");
            ours.target.addresses.extend(addresses);
            ours.target.servers.extend(servers);
            replica = Some(second);
        }
        let theirs = match point.yardstick {
            Yardstick::None => None,
            Yardstick::Grpc | Yardstick::OneReplica => {
                Some(Box::new(self.served(&service, &template, point.workload, Wire::Grpc)) as _)
            }
            _ => Some(self.yardstick(point)?),
        };
        let measured = self.take_turns(point, &mut ours, theirs);
        drop((service, replica));
        measured
    }

    fn take_turns(
        &self,
        point: &Point,
        ours: &mut dyn Side,
        mut theirs: Option<Box<dyn Side + '_>>,
    ) -> Result<Measured> {
        let mut shape = self.shape(point);
        if let (Metric::P99, Some(theirs)) = (point.metric, &mut theirs) {
            shape.rate = Some(theirs.run(&shape)?.rate() / 2.0);
        }
        let mut measured =
            Measured { point: *point, ours: vec![], theirs: vec![], discarded: 0, rate: shape.rate };
        let quiet = |run: &Outcome| run.usage.other_cores <= self.options.other_cores;
        for _ in 0..self.options.pairs * TRIES {
            if measured.ours.len() == self.options.pairs {
                break;
            }
            let our_run = ours.run(&shape)?;
            let their_run = theirs.as_mut().map(|theirs| theirs.run(&shape)).transpose()?;
            // Decided by what others did, never by the result
            if quiet(&our_run) && their_run.as_ref().is_none_or(quiet) {
                measured.ours.push(our_run);
                measured.theirs.extend(their_run);
            } else {
                measured.discarded += 1;
            }
        }
        Ok(measured)
    }

    fn shape(&self, point: &Point) -> Shape {
        let streams = if point.protocol == Protocol::Grpc { self.options.streams } else { 1 };
        Shape { streams, rate: self.options.rate, ..self.shape_of(point.connections) }
    }

    /// A closed loop of so many connections.
    pub fn shape_of(&self, connections: usize) -> Shape {
        let (warm_up, duration) = (self.options.warm_up(), self.options.duration());
        Shape { connections, streams: 1, warm_up, duration, rate: None }
    }

    /// Whose secrets OpenBao keeps.
    pub fn openbao_agents(&self) -> Rc<Agents> {
        let names = (0..self.options.agents).map(|agent| format!("agt_{agent:022}"));
        Rc::new(Agents { ids: names.collect() })
    }

    /// The service as a side.
    pub fn served(
        &self,
        service: &Service,
        template: &Template,
        workload: Workload,
        wire: Wire,
    ) -> Served<'_> {
        let target = service.target(wire, template.token());
        let grpc = service.target(Wire::Grpc, template.token());
        let agents = Rc::clone(&template.agents);
        let refill = (workload == Workload::Delete).then(|| {
            let agents = Rc::clone(&agents);
            Box::new(move || service::fill(&grpc, &agents)) as _
        });
        let headers = format!("authorization: Bearer {}\r\n", template.token());
        self.side(target, refill, move || calls(workload, wire, &headers, &agents))
    }

    fn side(
        &self,
        target: Target,
        refill: Option<Box<dyn Fn() -> Result<()>>>,
        calls: impl Fn() -> Calls + 'static,
    ) -> Served<'_> {
        let calls = Box::new(move || Rc::new(calls()) as _);
        Served { target, calls, refill, directory: self.directory.path() }
    }

    fn yardstick(&self, point: &Point) -> Result<Box<dyn Side + '_>> {
        let (workload, agents) = (point.workload, self.options.agents);
        let directory = self.directory.path();
        Ok(match point.yardstick {
            Yardstick::None | Yardstick::Grpc | Yardstick::OneReplica => {
                unreachable!("made of the service itself")
            }
            Yardstick::BareTonic => self.bare(workload, Wire::Grpc)?,
            Yardstick::BareAxum => self.bare(workload, Wire::Http1)?,
            Yardstick::SqliteLoop | Yardstick::SqliteWriter => {
                let shared = point.yardstick == Yardstick::SqliteWriter;
                Box::new(Sqlite::start(directory, agents, shared)?)
            }
            Yardstick::Pgbench => Box::new(Pgbench::start(self.cluster()?, workload, agents, directory)?),
            Yardstick::RaftV1 | Yardstick::RaftV2 | Yardstick::PgV1 | Yardstick::PgV2 => {
                self.openbao(point.yardstick, workload)?
            }
        })
    }

    fn bare(&self, workload: Workload, wire: Wire) -> Result<Box<dyn Side + '_>> {
        let directory = self.directory.path();
        let bare = Bare::start(wire, directory, self.processor())?;
        let agents = Rc::new(Agents { ids: vec!["agt_0123456789abcdefghijkl".to_owned()] });
        let headers = "authorization: Bearer none\r\n".to_owned();
        let target = bare.target();
        // The server lives as long as who calls it
        Ok(Box::new(self.side(target, None, move || {
            let _lives = &bare;
            calls(workload, wire, &headers, &agents)
        })))
    }

    fn openbao(&self, yardstick: Yardstick, workload: Workload) -> Result<Box<dyn Side + '_>> {
        let directory = self.directory.path();
        let openbao = Rc::new(self.start_openbao(yardstick)?);
        let agents = self.openbao_agents();
        openbao.fill(&agents)?;
        let refill = (workload == Workload::Delete).then(|| {
            let (openbao, agents) = (Rc::clone(&openbao), Rc::clone(&agents));
            Box::new(move || openbao.fill(&agents)) as _
        });
        let target = openbao.target();
        let calls = Box::new(move || openbao.calls(Some(workload), &agents));
        Ok(Box::new(Served { target, calls, refill, directory }))
    }

    /// OpenBao on a fresh store.
    pub fn start_openbao(&self, yardstick: Yardstick) -> Result<OpenBao> {
        let (version, on_postgres) = yardstick.openbao().context("not OpenBao")?;
        let setup = openbao::Setup {
            binary: self.options.openbao.as_deref().context("OPENBAO_BIN is not set")?,
            directory: self.directory.path(),
            cluster: on_postgres.then(|| self.cluster()).transpose()?,
            version,
            processor: self.processor(),
        };
        block_on(setup.start())
    }
}

/// Runs something asynchronous that is not measured.
pub fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

fn calls(workload: Workload, wire: Wire, headers: &str, agents: &Rc<Agents>) -> Calls {
    Calls {
        workload,
        wire,
        agents: Rc::clone(agents),
        headers: headers.to_owned(),
        random: Random::new(),
        deleted: Cell::new(0),
    }
}

fn wire(protocol: Protocol) -> Wire {
    match protocol {
        Protocol::Grpc => Wire::Grpc,
        Protocol::Rest => Wire::Http1,
    }
}
