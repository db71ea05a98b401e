//! The loads, and the ceiling that each runs into.

use serde_json::Value;
use socklife_tests::course::Course;

use crate::PORT;

/// What runs out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// Local ports, of connections that this side closes at once.
    PortsClosed,
    /// Local ports, of connections that stay.
    PortsHeld,
    /// Open files of a process.
    Files,
    /// Entries in TIME-WAIT.
    TimeWait,
}

impl Subject {
    /// Its name in the output of `check`.
    pub(crate) fn ceiling(self) -> &'static str {
        match self {
            Self::PortsClosed | Self::PortsHeld => "ephemeral-ports",
            Self::Files => "open-files",
            Self::TimeWait => "time-wait",
        }
    }
}

/// A rising usage.
pub(crate) struct Load {
    /// For people, and to choose by.
    pub(crate) name: &'static str,
    pub(crate) subject: Subject,
    pub(crate) course: Course,
    /// Random times.
    random: bool,
    pub(crate) limit: u32,
}

const fn load(name: &'static str, subject: Subject, rate: f64, limit: u32) -> Load {
    let course = Course { rate, doubling_s: f64::INFINITY, calm_s: 0.0 };
    Load { name, subject, course, random: false, limit }
}

impl Load {
    const fn doubling(mut self, doubling_s: f64) -> Self {
        self.course.doubling_s = doubling_s;
        self
    }

    const fn after_calm(mut self, calm_s: f64) -> Self {
        self.course.calm_s = calm_s;
        self
    }

    const fn at_random(mut self) -> Self {
        self.random = true;
        self
    }
}

/// All of them. The last one never runs out.
pub(crate) const LOADS: [Load; 13] = [
    load("ports, closed, constant", Subject::PortsClosed, 400.0, 8000),
    load("ports, closed, constant, random", Subject::PortsClosed, 300.0, 8000).at_random(),
    load("ports, closed, doubling", Subject::PortsClosed, 100.0, 8000).doubling(5.0),
    load("ports, closed, doubling, random", Subject::PortsClosed, 100.0, 8000)
        .doubling(5.0)
        .at_random(),
    load("ports, closed, slowly doubling", Subject::PortsClosed, 150.0, 8000).doubling(15.0),
    load("ports, closed, after a calm", Subject::PortsClosed, 500.0, 8000).after_calm(20.0),
    load("ports, held, constant", Subject::PortsHeld, 300.0, 6000),
    load("ports, held, doubling", Subject::PortsHeld, 100.0, 6000).doubling(5.0),
    load("files, constant", Subject::Files, 200.0, 4096),
    load("files, doubling", Subject::Files, 60.0, 8192).doubling(5.0),
    load("TIME-WAIT, constant", Subject::TimeWait, 300.0, 6000),
    load("TIME-WAIT, doubling", Subject::TimeWait, 100.0, 6000).doubling(5.0),
    load("ports, closed, levels off", Subject::PortsClosed, 100.0, 8000),
];

impl Load {
    /// Entries in TIME-WAIT come of it.
    pub(crate) fn closes(&self) -> bool {
        matches!(self.subject, Subject::PortsClosed | Subject::TimeWait)
    }

    /// The load ends then at the latest.
    pub(crate) fn bound_s(&self) -> f64 {
        (self.course.when(f64::from(self.limit)) * 1.5).min(58.0)
    }

    /// An even number of ports; enough of them where they are not what runs out.
    pub(crate) fn port_range(&self) -> String {
        let ports = match self.subject {
            Subject::PortsClosed | Subject::PortsHeld => self.limit,
            Subject::Files | Subject::TimeWait => 20_000,
        };
        format!("20000 {}", 20_000 + ports - 1)
    }

    /// Of `socklife-load ramp`.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let what = match self.subject {
            Subject::PortsClosed | Subject::TimeWait => "closed",
            Subject::PortsHeld => "held",
            Subject::Files => "files",
        };
        let Course { rate, doubling_s, calm_s } = self.course;
        let mut arguments = vec![
            what.to_owned(),
            format!("--rate={rate}"),
            format!("--doubling={doubling_s}"),
            format!("--calm={calm_s}"),
            format!("--seconds={}", self.bound_s()),
        ];
        if self.random {
            arguments.push("--random".to_owned());
        }
        match self.subject {
            Subject::Files => arguments.push(format!("--files={}", self.limit)),
            Subject::TimeWait => arguments.push("--until-overflow".to_owned()),
            Subject::PortsClosed | Subject::PortsHeld => {}
        }
        arguments
    }

    /// For people.
    pub(crate) fn rate(&self) -> String {
        let Course { rate, doubling_s, calm_s } = self.course;
        let mut text = format!("{rate}/s");
        if doubling_s.is_finite() {
            text += &format!(", doubling every {doubling_s} s");
        }
        if calm_s > 0.0 {
            text += &format!(" after {calm_s} s with {}/s", rate / 10.0);
        }
        if self.random {
            text += ", at random";
        }
        text
    }

    /// Whether a finding of `check` is about what this load uses up.
    pub(crate) fn is_about(&self, finding: &Value) -> bool {
        finding["ceiling"] == self.subject.ceiling()
            && match self.subject {
                Subject::PortsClosed | Subject::PortsHeld => finding["dport"] == PORT,
                Subject::Files => finding["scope"] == "process",
                Subject::TimeWait => true,
            }
    }
}
