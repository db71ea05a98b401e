//! What to change in an Nginx's configuration where the local ports toward an upstream run out: which line, and
//! into what.

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
};

use super::{Name, nginx::shown};
use crate::{
    ceilings::User,
    human::thousands,
    kernel::survey::Survey,
    proxies::nginx::{
        Nginx,
        leads::{Lead, Leads},
        settings::{Keeping, Settings, Upstream},
    },
};

/// Idle connections to keep, at least and at most.
const KEPT: RangeInclusive<u64> = 32..=1024;
/// A connection that is kept for so many requests is closed seldom.
const MANY_REQUESTS: u64 = 100_000;

/// The Nginxes of a network namespace.
#[derive(Default)]
pub(in crate::ceilings) struct Advice<'a> {
    of: Vec<(&'a Nginx, Leads<'a>)>,
}

/// An upstream whose ports are used.
#[derive(Clone, Copy)]
pub(in crate::ceilings) struct Use<'a> {
    /// From which address.
    pub(in crate::ceilings) src: IpAddr,
    /// Where to.
    pub(in crate::ceilings) to: SocketAddr,
    /// Connections that are established.
    pub(in crate::ceilings) established: u64,
    /// From how many addresses there are sockets toward it.
    pub(in crate::ceilings) sources: usize,
    /// Local ports that each address has.
    pub(in crate::ceilings) ports: u64,
    /// Who has sockets open toward it.
    pub(in crate::ceilings) who: &'a [User],
}

/// What fits a configuration.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::ceilings) struct Fitting {
    /// To keep connections for another request; `None`: they can't be kept.
    pub(in crate::ceilings) keep: Option<String>,
    /// To connect from more addresses.
    pub(in crate::ceilings) sources: String,
}

impl<'a> Advice<'a> {
    /// By the configurations of a survey.
    pub(in crate::ceilings) fn of(survey: &'a Survey, netns: u32) -> Self {
        let here = survey.proxies.nginx.iter().filter(|nginx| nginx.master.netns == Some(netns));
        Self { of: here.map(|nginx| (nginx, Leads::of(&nginx.settings))).collect() }
    }

    /// What fits; `None`: no Nginx is known to lead there, or the sockets are somebody else's.
    pub(in crate::ceilings) fn fitting(&self, what: Use<'_>) -> Option<Fitting> {
        self.of.iter().find_map(|(nginx, leads)| {
            let ways = leads.toward(what.to.ip(), what.to.port());
            // Of several the one that keeps no connections.
            let keeps = |way: &&Lead<'_>| keeps(&nginx.settings, way);
            let way = ways.iter().find(|way| !keeps(way)).or(ways.first())?;
            (what.who.is_empty() || has_one_of(nginx, what.who))
                .then(|| Fitting { keep: keep(nginx, way, what), sources: sources(way, what) })
        })
    }
}

fn has_one_of(nginx: &Nginx, who: &[User]) -> bool {
    let mut pids = nginx.workers.iter().map(|worker| worker.located.process.pid);
    pids.any(|own| who.iter().any(|user| matches!(user, User::Process(pid, ..) if *pid == own)))
}

/// Whether connections are kept on this way.
fn keeps(settings: &Settings, way: &Lead<'_>) -> bool {
    let idle = way.upstream.and_then(|upstream| settings.idle(upstream));
    settings.keeps(way.pass) && idle.is_some()
}

/// Connections are kept in an `upstream` block, by directives that do not have them closed
/// (`ngx_http_upstream_keepalive_module`); `stream`, uwsgi and SCGI keep none.
fn keep(nginx: &Nginx, way: &Lead<'_>, what: Use<'_>) -> Option<String> {
    let Lead { upstream, pass, .. } = *way;
    let settings = &nginx.settings;
    if pass.stream || matches!(pass.directive.as_str(), "uwsgi_pass" | "scgi_pass") {
        return None;
    }
    let workers = nginx.workers.iter().filter(|worker| !worker.shutting_down).count() as u64;
    let each = what.established.div_ceil(workers.max(1));
    let value = each.next_power_of_two().clamp(*KEPT.start(), *KEPT.end());
    let who = format!("nginx[{}]", nginx.master.process.pid);
    let opens = format!("{who} opens a connection for each request");
    let beside = beside(settings, way);
    let and = beside.as_ref().map_or_else(String::new, |beside| format!(", and {beside}"));
    let (change, now) = match upstream {
        None => {
            let directive = &pass.directive;
            let block =
                format!("upstream NAME {{ server {}; keepalive {value}; }} in http", what.to);
            let at = shown(&pass.place);
            (format!("{block}, {directive} to NAME instead of to the address ({at}){and}"), opens)
        }
        Some(upstream) => {
            let block =
                format!("upstream {} ({})", Name::new(&upstream.name), shown(&upstream.place));
            match (settings.idle(upstream), beside) {
                (None, _) => {
                    (format!("keepalive {value}; as the last line of {block}{and}"), opens)
                }
                (Some(_), Some(beside)) => {
                    (beside, format!("{who} closes connections there, though {block} keeps some"))
                }
                (Some(idle), None) => {
                    let now = settings.requests(upstream);
                    let requests = MANY_REQUESTS.max(now.saturating_mul(10));
                    let idle_then = value.max(u64::from(idle) * 2);
                    (
                        format!(
                            "keepalive {idle_then}; keepalive_requests {requests}; instead of {idle} and {now} in {block}"
                        ),
                        format!(
                            "{who} closes idle connections beyond that number in each worker, and each connection \
                             after so many requests"
                        ),
                    )
                }
            }
        }
    };
    Some(format!("{change}; then nginx -s reload ({now})"))
}

/// What must stand where requests are passed on; `None`: connections are kept there. A header goes to where others
/// are: in a block of its own it would have them dropped.
fn beside(settings: &Settings, way: &Lead<'_>) -> Option<String> {
    let Lead { pass, more, .. } = *way;
    if settings.keeps(pass) {
        return None;
    }
    let here = format!("beside {} ({})", pass.directive, shown(&pass.place));
    let more = match more {
        0 => String::new(),
        more => format!(", and at {more} more that pass there"),
    };
    if pass.directive == "fastcgi_pass" {
        return Some(format!("fastcgi_keep_conn on; {here}{more}"));
    }
    let version = if pass.persistent { "" } else { "proxy_http_version 1.1; " };
    let header = "proxy_set_header Connection \"\";";
    Some(match (&pass.headers, pass.keeping) {
        (Some(headers), Keeping::Varies) => {
            let version =
                if version.is_empty() { String::new() } else { format!("{version}{here}, and ") };
            format!(
                "{version}an empty value instead of close in the map of the variable that proxy_set_header Connection \
                 has (near {}){more}",
                shown(headers)
            )
        }
        (Some(headers), _) => {
            let version =
                if version.is_empty() { String::new() } else { format!("{version}{here}, and ") };
            format!(
                "{version}{header} beside the other proxy_set_header ({}){more}",
                shown(headers)
            )
        }
        (None, _) => format!("{version}{header} {here}{more}"),
    })
}

fn sources(way: &Lead<'_>, what: Use<'_>) -> String {
    let Lead { upstream, pass, .. } = *way;
    let Use { src, to, ports, sources, .. } = what;
    let at = shown(&pass.place);
    let bind = pass.directive.strip_suffix("_pass").unwrap_or("proxy").to_owned() + "_bind";
    let from = match &pass.bind {
        Some(bound) if bound.contains('$') => format!(
            "more source addresses than the {sources} that {bind} {} ({at}) has",
            Name::new(bound)
        ),
        now => {
            let instead = now.as_ref().map_or_else(String::new, |bound| {
                format!(" instead of {bind} {}", Name::new(bound))
            });
            let (block, by) =
                if pass.stream { ("stream", "$connection") } else { ("http", "$request_id") };
            format!(
                "a second source address ADDRESS of this host: split_clients \"{by}\" $source {{ 50% {src}; * ADDRESS; \
                 }} in {block}, and {bind} $source; beside {} ({at}){instead}",
                pass.directive
            )
        }
    };
    let more = match upstream {
        Some(Upstream { name, place, .. }) => {
            format!("a further server in upstream {} ({})", Name::new(name), shown(place))
        }
        None => format!("another address or port of the upstream beside {to}"),
    };
    format!("{from}; or {more}: each has {} ports of its own", thousands(ports))
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, io, path::Path, sync::Arc};

    use super::*;
    use crate::{
        event::Comm,
        kernel::owners::Process,
        proxies::{
            Located,
            files::Files,
            nginx::{Worker, program::Version, read::read},
        },
    };

    const NEAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    /// One file.
    struct One<'a>(&'a str);

    impl Files for One<'_> {
        fn read(&self, _path: &Path) -> io::Result<Vec<u8>> {
            Ok(self.0.as_bytes().to_vec())
        }

        fn names(&self, _directory: &Path) -> io::Result<Vec<OsString>> {
            Ok(Vec::new())
        }
    }

    fn located(pid: u32) -> Located {
        let process = Process { pid, comm: Comm::new([b'n'; 16]), started_ns: 1, cgroup: None };
        Located { process, netns: Some(7) }
    }

    /// An Nginx with two workers, 21 and 22.
    fn survey(http: &str) -> Survey {
        let conf = format!("http {{\n{http}\n}}");
        let settings = read(&One(&conf), Path::new("/e/n.conf"), Path::new("/p"), "").unwrap();
        let worker = |pid| Worker {
            located: located(pid),
            shutting_down: false,
            sockets: 1,
            inferred: false,
            files: (1, 1024),
        };
        let nginx = Nginx {
            master: located(20),
            workers: vec![worker(21), worker(22)],
            listening: Vec::new(),
            settings: Arc::new(settings),
            changed_since: false,
        };
        let mut survey = Survey::default();
        survey.proxies.nginx.push(nginx);
        survey
    }

    fn fitting(http: &str, who: &[User]) -> Option<Fitting> {
        Advice::of(&survey(http), 7).fitting(used(who))
    }

    fn used(who: &[User]) -> Use<'_> {
        let to = "10.0.0.2:80".parse().unwrap();
        Use { src: NEAR, to, established: 200, sources: 3, ports: 1000, who }
    }

    fn told(http: &str) -> String {
        let Fitting { keep, sources } = fitting(http, &[]).unwrap();
        format!("{}\n{sources}", keep.unwrap_or_else(|| "-".to_owned()))
    }

    #[test]
    fn each_configuration_has_its_own() {
        let app = "upstream app { server 10.0.0.2; }\n";
        let kept = "upstream app { server 10.0.0.2; keepalive 8; }\n";
        let closing = "server { location / { proxy_pass http://app; } }";
        let keeping = "server { proxy_http_version 1.1; proxy_set_header Connection \"\"; location / { proxy_pass http://app; } }";
        let all = [
            app.to_owned() + closing,
            app.to_owned() + keeping,
            kept.to_owned() + closing,
            kept.to_owned() + keeping,
            "server { location / { proxy_bind 10.0.0.1; proxy_pass http://10.0.0.2; } }".to_owned(),
            "server { location / { fastcgi_bind $from; fastcgi_pass 10.0.0.2:80; } }".to_owned(),
            app.to_owned() + "server { location / { uwsgi_pass app; } }",
            app.replace("app", "\x1bapp") + "server { location / { proxy_pass http://\x1bapp; } }",
            app.to_owned()
                + "server {\nproxy_set_header Host $host;\nlocation / { proxy_pass http://app; }\nlocation /b { proxy_pass http://app; } }",
            kept.to_owned()
                + "server { location / {\nproxy_http_version 1.1; proxy_set_header Connection $connection_upgrade;\nproxy_pass http://app; } }",
            kept.replace("keepalive 8;", "keepalive 8; least_conn;") + keeping,
        ];
        insta::assert_snapshot!(all.map(|http| told(&http)).join("\n\n"));
    }

    #[test]
    fn since_connections_are_kept_by_default_more_are_advised() {
        let http =
            "upstream app { server 10.0.0.2; }\nserver { location / { proxy_pass http://app; } }";
        let survey = survey(http);
        let nginx = &survey.proxies.nginx[0];
        let at = |version| {
            let settings = Settings { version, ..(*nginx.settings).clone() };
            let nginx = Nginx { settings: Arc::new(settings), ..nginx.clone() };
            let leads = Leads::of(&nginx.settings);
            let way = leads.toward("10.0.0.2".parse().unwrap(), 80)[0];
            keep(&nginx, &way, used(&[])).unwrap()
        };
        for old in [None, Some(Version(1, 29, 6))] {
            assert!(
                at(old).starts_with("keepalive 128; as the last line of upstream app"),
                "{}",
                at(old)
            );
        }
        let now = at(Some(Version(1, 30, 0)));
        assert!(
            now.starts_with("keepalive 128; keepalive_requests 100000; instead of 32 and 1000"),
            "{now}"
        );
    }

    #[test]
    fn what_is_not_this_nginx_gets_nothing() {
        let other = "server { location / { proxy_pass http://10.0.0.3; } }";
        assert_eq!(fitting(other, &[]), None);
        let here = "server { location / { proxy_pass http://10.0.0.2; } }";
        let user = |pid| User::Process(pid, Comm::new([b'n'; 16]), 1);
        assert_eq!(fitting(here, &[user(30)]), None);
        assert!(fitting(here, &[user(30), user(22)]).is_some());
        let survey = survey(here);
        assert_eq!(Advice::of(&survey, 8).fitting(used(&[])), None);
    }
}
