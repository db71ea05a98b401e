//! An incident under way, and the truth about it.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use socklife_tests::{
    conntrack::{MAX as CONNTRACK_MAX, NFT},
    net::{FAR4, Link, NEAR4, load_binary},
    nginx::{Blocks, Logs, Nginx},
    process::Process,
};

use crate::incident::{Incident, Plan};

/// Entries of a conntrack table that a demonstration may make (320 bytes each).
const MOST_TRACKED: u64 = 600_000;

/// Whether all is there that the load needs.
pub(crate) enum Ready {
    Yes,
    NotYet,
    /// It can't be staged here: why.
    Never(String),
}

/// An incident under way; what is load goes first.
pub(crate) struct Staged<'a> {
    clients: Option<Process>,
    nginx: Nginx,
    tracked: Option<Process>,
    _upstream: Process,
    link: &'a Link,
    plan: &'a Plan,
    /// What there was before the load.
    dropped: u64,
}

impl<'a> Staged<'a> {
    /// Starts all but the load; or says why it can't be staged here.
    pub(crate) fn begin(link: &'a Link, plan: &'a Plan) -> Result<Result<Self, String>> {
        let (low, high) = plan.port_range;
        link.near.sysctl("net.ipv4.ip_local_port_range", &format!("{low} {high}"))?;
        link.keep_time_wait()?;
        let tracked = if plan.incident == Incident::Conntrack {
            if !Path::new(NFT).exists() {
                return Ok(Err(format!("no {NFT}: `apt-get install nftables`")));
            }
            // Clients get through to Nginx.
            link.near.track_all_but(Nginx::PORT)?;
            let max: u64 = link.near.read(CONNTRACK_MAX)?.trim().parse()?;
            if max > MOST_TRACKED {
                link.near.track_none()?;
                return Ok(Err(format!(
                    "this host's nf_conntrack_max is {max}; more than {MOST_TRACKED} entries would take \
                     too much memory, and the setting is left alone"
                )));
            }
            Some(Process::start_ordered(link.near.command(load_binary()).arg("track"))?)
        } else {
            None
        };
        let to = format!("{FAR4}:{}", plan.port);
        let upstream = link.far.serve(plan.upstream, &[to.parse()?])?;
        let main = plan.files.map(|files| format!("worker_rlimit_nofile {files};"));
        let http = format!("limit_req_zone $server_port zone=z:1m rate={}r/s;", plan.rate);
        // Where it can't accept, it tries again after this time.
        let events = format!(
            "accept_mutex_delay 20ms; worker_connections {};",
            plan.worker_connections.unwrap_or(4096)
        );
        let blocks = Blocks {
            main: main.as_deref().unwrap_or_default(),
            events: Some(&events),
            http: &http,
            server: "limit_req zone=z burst=1000; proxy_connect_timeout 2s;",
            workers: None,
        };
        let nginx = Nginx::start_with(&link.near, &to, blocks)?;
        let clients = None;
        let dropped = 0;
        let staged = Self { clients, nginx, tracked, _upstream: upstream, link, plan, dropped };
        Ok(Ok(staged))
    }

    /// Whether the load may begin.
    pub(crate) fn ready(&mut self) -> Result<Ready> {
        let Some(tracked) = &mut self.tracked else { return Ok(Ready::Yes) };
        if tracked.stdout_so_far().contains('\n') {
            return Ok(Ready::Yes);
        }
        let ended = tracked.ended()?;
        Ok(if ended { Ready::Never(tracked.stderr_so_far()) } else { Ready::NotYet })
    }

    /// What is true of it all along.
    pub(crate) fn facts(&self) -> Result<Value> {
        let Plan { incident, port, port_range: (low, high), files, worker_connections, .. } =
            self.plan;
        Ok(json!({
            "incident": incident.name(),
            "process": "nginx",
            "pids": self.nginx.workers()?,
            "listens": format!("{NEAR4}:{}", Nginx::PORT),
            "upstream": format!("{FAR4}:{port}"),
            "port_range": format!("{low} {high}"),
            "files": files,
            "worker_connections": worker_connections,
            "rate": self.plan.rate,
        }))
    }

    /// Starts the load.
    pub(crate) fn load(&mut self) -> Result<()> {
        self.dropped = self.drops()?;
        let clients = self.plan.clients.to_string();
        let far = &self.link.far;
        let mut command = if self.plan.incident == Incident::WorkerConnections {
            // wrk comes back at once where it is turned away, thousands of times a second.
            let mut command = far.command(load_binary());
            command.args(["ask", "--to", &format!("{NEAR4}:{}", Nginx::PORT)]);
            command.args(["--clients", &clients]);
            command
        } else {
            let mut command = far.command("wrk");
            command.args(["-t", "1", "-c", &clients, "-d", "24h"]);
            command.arg(format!("http://{NEAR4}:{}/", Nginx::PORT));
            command
        };
        self.clients = Some(Process::start(&mut command)?);
        Ok(())
    }

    /// Whether something has failed.
    pub(crate) fn failing(&self) -> Result<bool> {
        let logs = || self.nginx.logs();
        Ok(match self.plan.incident {
            Incident::Ports => logs()?.with(99) > 0,
            Incident::TimeWait => false,
            Incident::Files => logs()?.with(24) > 0,
            Incident::Conntrack => self.drops()? > self.dropped,
            Incident::WorkerConnections => logs()?.not_enough > 0,
        })
    }

    /// Packets that the conntrack table had no room for, since the namespace's beginning.
    fn drops(&self) -> Result<u64> {
        if self.tracked.is_none() {
            return Ok(0);
        }
        Ok(self.link.near.conntrack_counters()?.get("drop").copied().unwrap_or(0))
    }

    /// Ends it, load first; gives the truth.
    pub(crate) fn end(self) -> Result<Value> {
        let dropped = self.drops()? - self.dropped;
        let time_wait = self.link.near.time_wait()?;
        let Self { clients, nginx, tracked, _upstream: upstream, link, .. } = self;
        drop(clients);
        let Logs { errors, not_enough, statuses } = nginx.stop()?;
        drop(upstream);
        if let Some(mut tracked) = tracked {
            tracked.close_input();
            let end = tracked.end()?;
            if end.code != Some(0) {
                eprintln!("the conntrack table is as full as before: {}", end.stderr);
            }
            link.near.track_none()?;
        }
        Ok(json!({
            "statuses": statuses,
            "errors": errors,
            "not_enough": not_enough,
            "dropped": dropped,
            "time_wait": time_wait,
        }))
    }
}
