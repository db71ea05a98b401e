//! `--what-if`: the same model under other settings. Nothing is changed but a copy of what was read.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use super::{Ceiling, Subject};
use crate::{
    event::State,
    kernel::{settings::parse_ports, survey::Survey},
    ports::PortSet,
};

/// Other settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WhatIf {
    text: String,
    range: Option<RangeInclusive<u16>>,
    reserved: Option<PortSet>,
    sources: Option<u64>,
    upstreams: Option<u64>,
    keepalive: bool,
    tw_reuse: Option<u8>,
    tw_buckets: Option<u64>,
    nofile: Option<u64>,
    conntrack_max: Option<u64>,
    backlog: Option<u32>,
}

/// What `--what-if` takes, for people.
pub const KNOWN: &str = "range=LO-HI, reserved=LIST (8000;8080-8090), sources=N, upstreams=N, keepalive, \
                     tw_reuse=0|1|2, tw_buckets=N, nofile=N, conntrack_max=N, backlog=N";

impl FromStr for WhatIf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut settings = Self { text: text.to_owned(), ..Self::default() };
        for item in text.split(',').map(str::trim) {
            settings.set(item).map_err(|why| format!("{item:?}: {why}; there are {KNOWN}"))?;
        }
        Ok(settings)
    }
}

/// A number that is at least 1.
fn positive<T: FromStr + PartialOrd + From<u8>>(value: &str) -> Result<Option<T>, &'static str> {
    let number = value.parse::<T>().ok().filter(|number| *number >= T::from(1));
    number.map(Some).ok_or("it must be a number from 1 on")
}

impl WhatIf {
    fn set(&mut self, item: &str) -> Result<(), &'static str> {
        let Some((name, value)) = item.split_once('=') else {
            self.keepalive = item == "keepalive";
            return if self.keepalive { Ok(()) } else { Err("no such setting") };
        };
        match name {
            "range" => {
                let ends = value.split_once('-');
                let ends = ends.and_then(|(first, last)| {
                    Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
                });
                let sound = ends.filter(|range| *range.start() > 0 && !range.is_empty());
                self.range = Some(sound.ok_or("give the first and the last port")?);
            }
            "reserved" => {
                let list = value.replace(';', ",");
                let ports = parse_ports(&list);
                if ports.to_string() != list && !list.split(',').all(is_ports) {
                    return Err("give ports and ranges of ports");
                }
                self.reserved = Some(ports);
            }
            "sources" => self.sources = positive(value)?,
            "upstreams" => self.upstreams = positive(value)?,
            "tw_reuse" => {
                let number = value.parse().ok().filter(|number| *number <= 2);
                self.tw_reuse = Some(number.ok_or("it is 0, 1 or 2")?);
            }
            "tw_buckets" => self.tw_buckets = positive(value)?,
            "nofile" => self.nofile = positive(value)?,
            "conntrack_max" => self.conntrack_max = positive(value)?,
            "backlog" => self.backlog = positive(value)?,
            _ => return Err("no such setting"),
        }
        Ok(())
    }

    /// Puts the settings into what was read.
    pub fn apply(&self, survey: &mut Survey) {
        for namespace in &mut survey.namespaces {
            let settings = &mut namespace.settings;
            settings.port_range = self.range.clone().unwrap_or(settings.port_range.clone());
            if let Some(reserved) = &self.reserved {
                settings.reserved = reserved.clone();
            }
            settings.tw_reuse = self.tw_reuse.unwrap_or(settings.tw_reuse);
            settings.max_tw_buckets = self.tw_buckets.unwrap_or(settings.max_tw_buckets);
            if let (Some(table), Some(max)) = (&mut namespace.conntrack, self.conntrack_max) {
                table.max = max;
            }
            if let Some(backlog) = self.backlog {
                settings.somaxconn = settings.somaxconn.max(backlog.into());
                for socket in &mut namespace.sockets {
                    if socket.state == State::LISTEN {
                        socket.send_queue = Some(backlog);
                    }
                }
            }
            if self.keepalive {
                namespace.sockets.retain(|socket| socket.time_left.is_none());
                namespace.counters.time_wait = 0;
            }
        }
        if let Some(nofile) = self.nofile {
            for files in &mut survey.owners.files {
                // Numbers above a lower limit are not known here: as if there were none.
                files.below_limit = files.open;
                files.soft = nofile;
                files.hard = files.hard.max(nofile);
            }
        }
    }

    /// Puts what concerns upstreams as a whole into their findings.
    pub fn adjust(&self, ceiling: &mut Ceiling) {
        let sources = self.sources.unwrap_or(1);
        let factor = match ceiling.subject {
            Subject::Upstream { .. } => sources.saturating_mul(self.upstreams.unwrap_or(1)),
            Subject::BindPool { .. } => sources,
            _ => 1,
        };
        ceiling.limit = ceiling.limit.saturating_mul(factor);
        ceiling.forecast = None;
        if let Some(traffic) = &mut ceiling.traffic {
            #[expect(clippy::cast_precision_loss, reason = "a rate")]
            let times = |per_s: f64| per_s * factor as f64;
            traffic.sustainable_per_s = traffic.sustainable_per_s.map(times);
            if self.keepalive {
                traffic.sustainable_per_s = None;
                ceiling
                    .notes
                    .push("connections are kept: what is closed is not counted".to_owned());
            }
        }
        if factor > 1 {
            ceiling.notes.push(format!("for {factor} pairs of source and upstream together"));
        }
    }
}

/// `8080`, `9148-9150`
fn is_ports(item: &str) -> bool {
    let (first, last) = item.split_once('-').unwrap_or((item, item));
    matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(first), Ok(last)) if first <= last)
}

impl fmt::Display for WhatIf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn settings() {
        let all = "range=1024-65535, reserved=8000;8080-8090,sources=2,upstreams=3,keepalive,\
                   tw_reuse=1,tw_buckets=10,nofile=20,conntrack_max=30,backlog=40";
        let parsed: WhatIf = all.parse().unwrap();
        assert_eq!(parsed.range, Some(1024..=65_535));
        assert_eq!(parsed.reserved.unwrap().len(), 12);
        assert_eq!((parsed.sources, parsed.upstreams), (Some(2), Some(3)));
        assert!(parsed.keepalive);
        for wrong in
            ["nonsense", "", "range=5", "range=9-5", "sources=0", "tw_reuse=3", "reserved=x", "a=b"]
        {
            let why = wrong.parse::<WhatIf>().unwrap_err();
            assert!(why.contains("there are range=LO-HI"), "{why}");
        }
    }

    proptest! {
        #[test]
        fn junk_never_panics(text in any::<String>(), value in any::<String>()) {
            let _ = text.parse::<WhatIf>();
            for name in ["range", "reserved", "sources", "tw_reuse", "nofile"] {
                let _ = format!("{name}={value}").parse::<WhatIf>();
            }
        }
    }
}
