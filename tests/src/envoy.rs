//! A real Envoy in front of one cluster of one host.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    net::Namespace,
    process::{Process, run},
    python::{installed, interpreter},
    wait_for,
};

/// What goes into its bootstrap: fields of YAML in flow style, each with a comma behind it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pieces<'a> {
    /// The bootstrap, such as `overload_manager: {…},`.
    pub bootstrap: &'a str,
    /// The listener `web`.
    pub listener: &'a str,
    /// The route to the cluster, such as `retry_policy: {…},`.
    pub route: &'a str,
    /// The cluster `app`, such as `connect_timeout: 1s, circuit_breakers: {…},`.
    pub cluster: &'a str,
    /// The format of its access log; `None`: the default one.
    pub log_format: Option<&'a str>,
    /// It passes connections on, not requests.
    pub tcp: bool,
    /// The port of the admin interface; 0: any, which it says in a file.
    pub admin: u16,
}

/// A running Envoy with one worker thread.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    directory: TempDir,
    namespace: String,
    admin: String,
}

/// The program.
///
/// # Errors
/// It can't be had.
pub fn program() -> Result<PathBuf> {
    installed("envoy/_bin/envoy")
}

impl Envoy {
    /// Where it listens.
    pub const PORT: u16 = 8080;

    /// Starts it inside a namespace, in front of `address:port`.
    ///
    /// # Errors
    /// It doesn't start.
    pub fn start(namespace: &Namespace, upstream: &str, pieces: Pieces) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("socklife-envoy-").tempdir()?;
        let file = directory.path().join("envoy.yaml");
        fs::write(&file, bootstrap(&directory.path().display().to_string(), upstream, pieces)?)?;
        let told = directory.path().join("admin");
        let mut command = namespace.command(program()?);
        command.arg("-c").arg(&file).args(["--concurrency", "1", "--disable-hot-restart"]);
        command.args(["--file-flush-interval-msec", "100"]);
        let mut admin = format!("127.0.0.1:{}", pieces.admin);
        if pieces.admin == 0 {
            command.arg("--admin-address-path").arg(&told);
        }
        let mut process = Process::start(&mut command)?;
        let started = wait_for("Envoy to start", || {
            let is_there = process.stderr_so_far().contains("starting main dispatch loop");
            Ok(if is_there { Some(true) } else { process.ended()?.then_some(false) })
        })?;
        if !started {
            let end = process.end()?;
            bail!("Envoy does not start: {}{}", end.stdout, end.stderr);
        }
        if pieces.admin == 0 {
            admin = fs::read_to_string(&told).context("the address of its admin interface")?;
        }
        let envoy = Self { process, directory, namespace: namespace.path(), admin };
        wait_for("Envoy's listeners", || {
            let ready = envoy.ask("/ready").is_ok_and(|answer| answer.trim() == "LIVE");
            Ok(ready.then_some(()))
        })?;
        Ok(envoy)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What its admin interface answers.
    ///
    /// # Errors
    /// It doesn't.
    pub fn ask(&self, path: &str) -> Result<String> {
        let ask = "import sys, urllib.request; \
                   print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())";
        let mut command = std::process::Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace)).arg(interpreter()?).args(["-c", ask]);
        run(command.arg(format!("http://{}{path}", self.admin.trim())))
    }

    /// A count or a gauge of `/stats`.
    ///
    /// # Errors
    /// It isn't there.
    pub fn count(&self, name: &str) -> Result<u64> {
        let stats: Value = serde_json::from_str(&self.ask("/stats?format=json")?)?;
        let stats = stats["stats"].as_array().context("no statistics")?;
        let one = stats.iter().find(|one| one["name"] == name).context(name.to_owned())?;
        one["value"].as_u64().context("no number")
    }

    /// Its access log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.directory.path().join("access.log")
    }

    /// Stops it, and reads its access log.
    ///
    /// # Errors
    /// It doesn't stop, or the log can't be read.
    pub fn stop(mut self) -> Result<String> {
        self.process.signal(Signal::SIGTERM)?;
        self.process.end()?;
        let log = fs::read(self.log())?;
        Ok(String::from_utf8_lossy(&log).into_owned())
    }
}

fn bootstrap(at: &str, upstream: &str, pieces: Pieces) -> Result<String> {
    const TYPES: &str = "type.googleapis.com/envoy.extensions";
    let Pieces { bootstrap, listener, route, cluster, log_format, tcp, admin } = pieces;
    let (host, port) = upstream.rsplit_once(':').context("no port")?;
    let format = log_format.map_or_else(String::new, |format| {
        let text = Value::from(format!("{format}\n"));
        format!(", log_format: {{text_format_source: {{inline_string: {text}}}}}")
    });
    let log = format!(
        "access_log: [{{name: file, typed_config: {{\"@type\": \
         {TYPES}.access_loggers.file.v3.FileAccessLog, path: {at}/access.log{format}}}}}]"
    );
    let filter = if tcp {
        format!(
            "{{\"@type\": {TYPES}.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: web, \
             cluster: app, {log}}}"
        )
    } else {
        format!(
            "{{\"@type\": {TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager, \
             stat_prefix: web, {log}, \
             http_filters: [{{name: router, typed_config: \
             {{\"@type\": {TYPES}.filters.http.router.v3.Router}}}}], \
             route_config: {{virtual_hosts: [{{name: all, domains: [\"*\"], \
             routes: [{{match: {{prefix: /}}, route: {{{route} cluster: app}}}}]}}]}}}}"
        )
    };
    Ok(format!(
        "{{admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {admin}}}}}}}, \
         {bootstrap} static_resources: {{\n\
         listeners: [{{name: web, {listener} \
         address: {{socket_address: {{address: 0.0.0.0, port_value: {own}}}}}, \
         filter_chains: [{{filters: [{{name: web, typed_config: {filter}}}]}}]}}],\n\
         clusters: [{{name: app, type: STATIC, {cluster} load_assignment: {{cluster_name: app, \
         endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: \
         {{address: \"{host}\", port_value: {port}}}}}}}}}]}}]}}}}]\n}}}}\n",
        own = Envoy::PORT,
    ))
}
