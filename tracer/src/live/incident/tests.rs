//! Sentences.

use super::*;
use crate::{
    event::{Errno, State},
    live::{recent::Recent, testing},
    reason::Failure,
};

fn failing(make: impl Fn(&mut Recent)) -> HashMap<FailureKey, Failing> {
    let mut recent = Recent::default();
    make(&mut recent);
    recent.advance(0, 1.0);
    recent.failing()
}

fn told(failing: &HashMap<FailureKey, Failing>, gauges: &[Arc<Judged>]) -> Vec<Incident> {
    let (window_s, losing) = (5.0, false);
    let (found, _) = found(&Facts { failing, gauges, own_netns: Some(7), window_s, losing });
    found.into_iter().map(|found| found.incident).collect()
}

#[test]
fn a_sentence_has_who_what_where_and_how_often() {
    let failing = failing(|recent| {
        for (pid, times) in [(812, 30), (813, 12)] {
            let (event, failure) = testing::exhausted(pid, 9001);
            (0..times).for_each(|_| recent.note(&event, failure));
        }
    });
    let early = told(&failing, &[]);
    assert_eq!(
        early[0].sentence,
        "nginx[812] and 1 more can't connect to 10.0.0.9:9001: no free local port; 42.0 failures/s"
    );
    assert_eq!(early[0].status, Status::Critical);
    assert!(!early[0].remedy.is_empty(), "advice before there is a finding");

    let key = failing.keys().next().unwrap();
    let (netns, src, dst, dport) = (7, key.src.unwrap(), key.dst.unwrap(), 9001);
    let subject = Subject::Upstream { netns, src, dst, dport, interface: 0, range: None };
    let mut ceiling = Ceiling::new(subject.clone(), 28_232, 28_232);
    let states = [(State::TIME_WAIT, 27_914)].into();
    ceiling.traffic = Some(crate::ceilings::Traffic { states, ..Default::default() });
    ceiling.remedy = vec!["keepalive".to_owned()];
    let gauge = Arc::new(Judged { ceiling, status: Status::Critical });
    let incidents = told(&failing, &[gauge]);
    assert_eq!(incidents.len(), 1, "the finding is told once: {incidents:?}");
    assert_eq!(
        incidents[0].sentence,
        "nginx[812] and 1 more can't connect to 10.0.0.9:9001: no free local port \
         (28,232 of 28,232 used; 27,914 TIME-WAIT); 42.0 failures/s"
    );
    assert_eq!(incidents[0].about, About::Ceiling(subject));
    assert_eq!(incidents[0].remedy, ["keepalive"]);
}

#[test]
fn failures_alike_toward_many_upstreams_are_one_incident() {
    let refused = Failure { reason: Some(Reason::Refused), error: Some(Errno::ECONNREFUSED) };
    let toward = |upstreams: u32| {
        failing(|recent| {
            for address in 0..upstreams {
                let (event, _) = testing::exhausted_to(0x0a00_0001 + address);
                recent.note(&event, refused);
            }
        })
    };
    assert_eq!(told(&toward(3), &[]).len(), 3);
    let incidents = told(&toward(40), &[]);
    assert_eq!(incidents.len(), 1);
    assert_eq!(
        incidents[0].sentence,
        "nginx[812] can't connect to 10.0.0.1:9001: refused (ECONNREFUSED), and 39 more like it; \
         40.0 failures/s in all"
    );
    assert_eq!(incidents[0].status, Status::Warning);
}

#[test]
fn of_very_many_the_worst_are_told_and_the_rest_is_counted() {
    const UPSTREAMS: u32 = 900;
    let failing = failing(|recent| {
        for address in 0..UPSTREAMS {
            let (event, failure) = testing::exhausted_to(0x0a00_0001 + address);
            // The last ones fail most.
            (0..=address / 300).for_each(|_| recent.note(&event, failure));
        }
    });
    let (gauges, own_netns, window_s) = (&[][..], Some(7), 5.0);
    let facts = Facts { failing: &failing, gauges, own_netns, window_s, losing: false };
    let (found, more) = found(&facts);
    assert_eq!(found.len() as u64 + more, u64::from(UPSTREAMS));
    assert!(!found.is_empty() && found.len() <= MAX_OF_REASON);
    for found in found {
        assert!(
            found.incident.sentence.ends_with("3.00 failures/s"),
            "{}",
            found.incident.sentence
        );
    }
}

#[test]
fn what_is_nearly_full_is_told_before_it_fails() {
    let subject = Subject::Conntrack { netns: 9 };
    let judged = |used, status| {
        Arc::new(Judged { ceiling: Ceiling::new(subject.clone(), used, 100), status })
    };
    let none = HashMap::new();
    assert!(told(&none, &[judged(50, Status::Ok)]).is_empty());
    let incidents = told(&none, &[judged(85, Status::Warning)]);
    assert_eq!(incidents[0].sentence, "conntrack table: 85 of 100 entries (85 %) [netns 9]");
    let mut soon = Ceiling::new(subject.clone(), 50, 100);
    let basis = String::new();
    soon.forecast = Some(crate::ceilings::forecast::Forecast { seconds: 42.0, basis });
    let incidents = told(&none, &[Arc::new(Judged { ceiling: soon, status: Status::Ok })]);
    assert_eq!(
        (incidents[0].status, incidents[0].sentence.as_str()),
        (Status::Warning, "conntrack table: 50 of 100 entries (50 %); full in 42 s [netns 9]")
    );
}
