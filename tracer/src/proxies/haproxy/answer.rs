//! The answer to `show info;show stat`, as bytes, to what it says.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use csv::{ByteRecord, ReaderBuilder};

use super::{Backend, Failures, Frontend, Server, State};
use crate::event::visible;

/// Most lines of `show info`: HAProxy 3.0 has some 90.
const MOST_LINES: usize = 1000;
/// Longest line of `show stat`, in bytes, and most columns: HAProxy 3.0 has some 110.
const LONGEST_LINE: usize = 64 << 10;
const MOST_COLUMNS: usize = 1000;
/// Most lines of `show stat`: an answer that isn't too long has no more.
const MOST_ROWS: usize = 100_000;

/// What a worker answered to `show info;show stat`: lines of `Name: value`, an empty one, and CSV whose head names the
/// columns. Names that are unknown here are passed over.
///
/// # Errors
/// It is no such answer, or has more lines or columns than HAProxy has.
pub fn parse(answer: &[u8]) -> Result<State> {
    let (info, stat) = divided(answer).with_context(|| {
        let begin = answer.get(..80).unwrap_or(answer);
        let begin = begin.split(|&byte| byte == b'\n').next().unwrap_or_default();
        format!("is not that of `show info;show stat`: {}", visible(begin))
    })?;
    let lines = info.split(|&byte| byte == b'\n').take(MOST_LINES);
    let info: HashMap<&[u8], &[u8]> = lines.filter_map(named).collect();
    let text = |name: &str| info.get(name.as_bytes()).copied();
    let number = |name| text(name).and_then(figures);
    let mut state = State {
        version: visible(text("Version").unwrap_or_default()),
        pid: number("Pid").and_then(|pid| pid.try_into().ok()),
        stopping: number("Stopping") == Some(1),
        maxconn: number("Maxconn").context("`show info` has no Maxconn")?,
        hard_maxconn: number("Hard_maxconn"),
        current: number("CurrConns").context("`show info` has no CurrConns")?,
        connections: number("CumConns"),
        maxsock: number("Maxsock"),
        ulimit_n: number("Ulimit-n"),
        dropped_logs: number("DroppedLogs"),
        frontends: Vec::new(),
        backends: Vec::new(),
        servers: Vec::new(),
    };
    proxies(stat, &mut state)?;
    Ok(state)
}

/// The two answers: the second begins with `# ` after an empty line.
fn divided(answer: &[u8]) -> Option<(&[u8], &[u8])> {
    const BETWEEN: &[u8] = b"\n\n# ";
    let at = answer.windows(BETWEEN.len()).position(|window| window == BETWEEN)?;
    Some((answer.get(..at)?, answer.get(at + BETWEEN.len()..)?))
}

fn named(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = line.windows(2).position(|window| window == b": ")?;
    Some((line.get(..at)?, line.get(at + 2..)?))
}

fn figures(bytes: &[u8]) -> Option<u64> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// A line of `show stat`, with the columns by name.
struct Line<'a> {
    columns: &'a HashMap<Vec<u8>, usize>,
    record: &'a ByteRecord,
}

impl Line<'_> {
    fn bytes(&self, column: &str) -> &[u8] {
        let at = self.columns.get(column.as_bytes());
        at.and_then(|&at| self.record.get(at)).unwrap_or_default()
    }

    fn text(&self, column: &str) -> String {
        visible(self.bytes(column))
    }

    /// Empty: there is none.
    fn number(&self, column: &str) -> Option<u64> {
        figures(self.bytes(column))
    }

    fn count(&self, column: &str) -> u64 {
        self.number(column).unwrap_or(0)
    }

    fn failures(&self) -> Failures {
        Failures {
            connect: self.count("econ"),
            response: self.count("eresp"),
            retries: self.count("wretr"),
            redispatches: self.count("wredis"),
        }
    }

    fn frontend(&self) -> Frontend {
        Frontend {
            name: self.text("pxname"),
            current: self.count("scur"),
            limit: self.number("slim"),
            most: self.count("smax"),
            connections: self.number("conn_tot"),
            denied: self.count("dcon").saturating_add(self.count("dses")),
            status: self.text("status"),
        }
    }

    fn backend(&self) -> Backend {
        Backend {
            name: self.text("pxname"),
            current: self.count("scur"),
            queued: self.count("qcur"),
            most_queued: self.count("qmax"),
            fullconn: self.number("slim"),
            failures: self.failures(),
            status: self.text("status"),
        }
    }

    fn server(&self) -> Server {
        Server {
            backend: self.text("pxname"),
            name: self.text("svname"),
            address: std::str::from_utf8(self.bytes("addr")).ok().and_then(|it| it.parse().ok()),
            current: self.count("scur"),
            limit: self.number("slim"),
            queued: self.count("qcur"),
            queue_limit: self.number("qlimit"),
            failures: self.failures(),
            status: self.text("status"),
        }
    }
}

fn proxies(stat: &[u8], state: &mut State) -> Result<()> {
    let longest = stat.split(|&byte| byte == b'\n').map(<[u8]>::len).max().unwrap_or_default();
    ensure!(longest <= LONGEST_LINE, "`show stat` has a line of {longest} bytes");
    let mut reader = ReaderBuilder::new().flexible(true).from_reader(stat);
    let head = reader.byte_headers().context("`show stat` has no head")?;
    ensure!(head.len() <= MOST_COLUMNS, "`show stat` has {} columns", head.len());
    let columns: HashMap<Vec<u8>, usize> =
        head.iter().enumerate().map(|(at, name)| (name.to_vec(), at)).collect();
    let lacks = ["pxname", "svname", "type", "scur"]
        .into_iter()
        .find(|name| !columns.contains_key(name.as_bytes()));
    ensure!(lacks.is_none(), "`show stat` has no column {}", lacks.unwrap_or_default());
    let mut record = ByteRecord::new();
    let mut rows = 0;
    while reader.read_byte_record(&mut record).context("`show stat`")? {
        rows += 1;
        ensure!(rows <= MOST_ROWS, "`show stat` has over {MOST_ROWS} lines");
        let line = Line { columns: &columns, record: &record };
        match line.bytes("type") {
            b"0" => state.frontends.push(line.frontend()),
            b"1" => state.backends.push(line.backend()),
            b"2" => state.servers.push(line.server()),
            // Listeners, with `option socket-stats`: counted in their frontend.
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OPERATOR: &[u8] = include_bytes!("../../../fixtures/haproxy/operator.txt");
    const USER: &[u8] = include_bytes!("../../../fixtures/haproxy/user.txt");

    #[test]
    fn a_real_answer_says_what_it_says() {
        let state = parse(OPERATOR).unwrap();
        assert_eq!(state.version, "2.6.12-1+deb12u4");
        assert_eq!((state.maxconn, state.hard_maxconn, state.current), (50, Some(50), 5));
        assert_eq!((state.maxsock, state.ulimit_n), (Some(131), Some(131)));
        assert!(state.pid.is_some() && !state.stopping);
        let [web, tcp] = state.frontends.as_slice() else { panic!("{:?}", state.frontends) };
        assert_eq!((web.name.as_str(), web.current, web.limit, web.most), ("web", 5, Some(20), 5));
        assert_eq!((tcp.limit, tcp.connections, tcp.status.as_str()), (Some(50), Some(3), "OPEN"));
        assert_eq!((tcp.current, tcp.most), (0, 2));
        let app = &state.backends[0];
        assert_eq!((app.current, app.queued, app.fullconn), (5, 3, Some(10)));
        let [s1, a, b, c, x] = state.servers.as_slice() else { panic!("{:?}", state.servers) };
        assert_eq!((s1.backend.as_str(), s1.name.as_str()), ("app", "s1"));
        assert_eq!(s1.address, Some("127.0.0.1:9011".parse().unwrap()));
        assert_eq!((s1.current, s1.limit, s1.queued, s1.queue_limit), (2, Some(2), 0, Some(7)));
        let failures = Failures { connect: 3, retries: 3, ..Failures::default() };
        assert_eq!((a.failures, a.limit, a.current), (failures, None, 0));
        assert_eq!((b.address, c.address), (Some("[::1]:9101".parse().unwrap()), None));
        assert_eq!(x.status, "MAINT");
    }

    #[test]
    fn a_level_below_operator_hides_addresses_and_no_more() {
        let mut operator = parse(OPERATOR).unwrap();
        operator.servers.iter_mut().for_each(|server| server.address = None);
        operator.connections = operator.connections.map(|it| it - 1);
        assert_eq!(parse(USER).unwrap(), operator);
    }

    #[test]
    fn columns_are_found_by_name() {
        let head = "Maxconn: 9\nCurrConns: 1\n\n# ";
        let few = parse(format!("{head}type,x,svname,scur,pxname\n2,,s,7,p\n\n").as_bytes());
        let few = few.unwrap();
        assert_eq!((few.servers[0].current, few.servers[0].backend.as_str()), (7, "p"));
        let none = parse(format!("{head}pxname,svname,scur\n").as_bytes()).unwrap_err();
        assert!(none.to_string().contains("no column type"), "{none}");
        let refused = parse(b"Permission denied\n\n").unwrap_err();
        assert!(refused.to_string().contains("Permission denied"), "{refused}");
    }

    #[test]
    fn more_than_haproxy_has_is_refused() {
        let head = "Maxconn: 9\nCurrConns: 1\n\n# type,pxname,svname,scur";
        for (stat, why) in [
            (format!("{head}\n{}", "2\n".repeat(100_001)), "over 100000 lines"),
            (format!("{head}{}\n", ",a".repeat(1_000)), "1004 columns"),
            (format!("{head}\n{}\n", ",".repeat(8 << 20)), "a line of 8388608 bytes"),
        ] {
            let error = parse(stat.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
        assert!(parse(format!("{head}\n{}", "2\n".repeat(100_000)).as_bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(noise in proptest::collection::vec(any::<u8>(), 0..200), at: prop::sample::Index) {
            let mut bytes = OPERATOR.to_vec();
            let at = at.index(bytes.len());
            bytes.splice(at..(at + noise.len()).min(OPERATOR.len()), noise.iter().copied());
            drop((parse(&bytes), parse(&noise)));
        }
    }
}
