//! Options that name logs of proxies.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::{
    answers::read::Log,
    logs::{Kind, nginx_access::Format},
    proxies::nginx::settings::Escape,
};

/// Logs whose failed answers are explained.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Logs of proxies (failed answers are explained)")]
pub struct LogArgs {
    /// Nginx's error log. Like each of these it can be given several times.
    #[arg(long, value_name = "PATH")]
    pub nginx_error_log: Vec<PathBuf>,
    /// Nginx's access log; its format is that of the configuration of a running Nginx, or found out, or given by
    /// --nginx-log-format.
    #[arg(long, value_name = "PATH")]
    pub nginx_access_log: Vec<PathBuf>,
    /// The text of its format.
    #[arg(
        long,
        value_name = "TEXT",
        requires = "nginx_access_log",
        help = "The text of its log_format: '$remote_addr [$time_local] $status $upstream_addr $upstream_status'"
    )]
    pub nginx_log_format: Option<String>,
    /// HAProxy's log (option httplog or tcplog), as a syslog daemon writes it.
    #[arg(long, value_name = "PATH")]
    pub haproxy_log: Vec<PathBuf>,
    /// Envoy's access log: its default format, or JSON.
    #[arg(long, value_name = "PATH")]
    pub envoy_access_log: Vec<PathBuf>,
}

impl LogArgs {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { nginx_error_log, nginx_access_log, haproxy_log, envoy_access_log, .. } = self;
        [nginx_error_log, nginx_access_log, haproxy_log, envoy_access_log]
            .into_iter()
            .all(Vec::is_empty)
    }

    /// The logs. `known`: the format of an access log, as Nginx itself tells it.
    ///
    /// # Errors
    /// The format has no status.
    pub fn logs(&self, known: impl Fn(&Path) -> Option<Format>) -> Result<Vec<Log>, String> {
        let format = match &self.nginx_log_format {
            Some(text) => Some(
                Format::compile(text, Escape::Default)
                    .map_err(|error| format!("--nginx-log-format: {error}"))?,
            ),
            None => None,
        };
        let mut logs = Vec::new();
        let mut add = |paths: &[PathBuf], kind: &Kind| {
            logs.extend(paths.iter().map(|path| Log { path: path.clone(), kind: kind.clone() }));
        };
        add(&self.nginx_error_log, &Kind::NginxError);
        for path in &self.nginx_access_log {
            let format = format.clone().or_else(|| known(path)).unwrap_or_else(Format::guess);
            add(std::slice::from_ref(path), &Kind::NginxAccess(format));
        }
        add(&self.haproxy_log, &Kind::HaProxy);
        add(&self.envoy_access_log, &Kind::Envoy);
        Ok(logs)
    }
}
