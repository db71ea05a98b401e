use super::*;
use crate::logs::{Answer, Entry, Try};

fn of_connect(accounts: &mut Accounts, upstream: &str, count: u64) {
    of(Class::Connect, accounts, upstream, count);
}

fn of(class: Class, accounts: &mut Accounts, upstream: &str, count: u64) {
    let tries = vec![Try { upstream: upstream.to_owned(), ..Try::default() }];
    let answer = Answer { status: Some(503), tries, class: Some(class), ..Answer::default() };
    for _ in 0..count {
        accounts.note(Product::HaProxy, Entry::Answer(answer.clone()));
    }
}

/// Failures of HAProxy in one namespace; `-`: toward nowhere.
fn kernel<const N: usize>(failures: [(&str, Class, u64); N]) -> Kernel {
    let failures = failures.map(|(upstream, class, count)| {
        let upstream = Some(upstream.to_owned()).filter(|it| it != "-");
        let netns = BTreeSet::from([Some(1)]);
        ((Product::HaProxy, upstream, class), Seen { count, netns, unowned: false })
    });
    failures.into_iter().collect()
}

fn sum(accounts: &Accounts, kernel: &Kernel) -> Summary {
    summary(accounts, kernel, &BTreeMap::new(), 0)
}

/// Of all upstreams: class, answers, whether that is inferred.
fn shared(sum: &Summary) -> Vec<(&'static str, u64, bool)> {
    let by = sum.upstreams.iter().flat_map(|it| &it.by);
    by.map(|by| (by.class, by.answers, by.inferred)).collect()
}

#[test]
fn the_kernel_says_why_there_was_no_connection() {
    let mut accounts = Accounts::default();
    of_connect(&mut accounts, "10.0.0.9:80", 10);
    let failures =
        kernel([("10.0.0.9:80", Class::PortsExhausted, 40), ("10.0.0.7:80", Class::Refused, 1000)]);
    let found = sum(&accounts, &failures);
    assert_eq!((found.failed, found.explained, found.share), (10, 10, Some(1.0)));
    let by = &found.upstreams[0].by[0];
    assert_eq!((by.class, by.answers, by.kernel), ("ports-exhausted", 10, Some(40)));
    assert!(!by.inferred && !by.kernel_shared);
    // Nobody failed toward it: unexplained.
    let found = sum(&accounts, &Kernel::new());
    assert_eq!((found.explained, found.unexplained), (0, 10));
}

#[test]
fn several_causes_share_the_answers_and_it_is_said() {
    let mut accounts = Accounts::default();
    of_connect(&mut accounts, "app/s1", 8);
    let failures = kernel([
        ("10.0.0.9:80", Class::PortsExhausted, 30),
        ("10.0.0.9:80", Class::Refused, 10),
        ("10.0.0.9:80", Class::Reset, 500),
    ]);
    let addresses = BTreeMap::from([("app/s1".to_owned(), "10.0.0.9:80".to_owned())]);
    let found = summary(&accounts, &failures, &addresses, 0);
    assert_eq!(shared(&found), [("ports-exhausted", 6, true), ("refused", 2, true)]);
}

#[test]
fn the_kernel_says_whether_it_was_a_reset() {
    let mut accounts = Accounts::default();
    of(Class::Ended, &mut accounts, "10.0.0.9:80", 5);
    for (resets, wanted) in [
        (0, vec![("closed-early", 5, Some(0), false)]),
        (2, vec![("closed-early", 3, Some(0), true), ("reset", 2, Some(2), true)]),
        (5, vec![("reset", 5, Some(5), false)]),
        (7, vec![("reset", 5, Some(7), false)]),
    ] {
        // Those toward others, and of clients, are not meant.
        let failures =
            kernel([("10.0.0.9:80", Class::Reset, resets), ("10.0.0.7:80", Class::Reset, 9)]);
        let found = sum(&accounts, &failures);
        let by = found.upstreams[0].by.iter();
        let by: Vec<_> = by.map(|by| (by.class, by.answers, by.kernel, by.inferred)).collect();
        assert_eq!(by, wanted);
        assert_eq!(found.explained, 5);
    }
}

#[test]
fn what_the_log_says_itself_is_not_divided() {
    let mut accounts = Accounts::default();
    of(Class::PortsExhausted, &mut accounts, "10.0.0.9:80", 9);
    of_connect(&mut accounts, "10.0.0.9:80", 4);
    let ports = ("10.0.0.9:80", Class::PortsExhausted, 40);
    // A line was lost.
    let found = sum(&accounts, &kernel([ports]));
    assert_eq!(shared(&found), [("ports-exhausted", 13, false)]);
    let found = sum(&accounts, &kernel([ports, ("10.0.0.9:80", Class::Refused, 16)]));
    assert_eq!(shared(&found), [("ports-exhausted", 9, false), ("refused", 4, false)]);
}

#[test]
fn what_failed_toward_others_explains_nothing() {
    let mut accounts = Accounts::default();
    of_connect(&mut accounts, "10.0.0.9:80", 3);
    of_connect(&mut accounts, "app/s1", 4);
    // Where a server's address is not known, it may be that one: never without a mark.
    let failures = kernel([("10.0.0.7:80", Class::Refused, 50)]);
    let found = sum(&accounts, &failures);
    assert_eq!((found.explained, found.unexplained), (4, 3));
    assert_eq!(shared(&found), [("refused", 4, true)]);
    // But not where it is known as another's.
    let addresses = BTreeMap::from([("app/s2".to_owned(), "10.0.0.7:80".to_owned())]);
    assert_eq!(summary(&accounts, &failures, &addresses, 0).explained, 0);
    // Files have no upstream.
    let found = sum(&accounts, &kernel([("-", Class::OpenFiles, 7)]));
    let by: Vec<_> = found.upstreams.iter().flat_map(|it| &it.by).collect();
    assert!(by.iter().all(|by| by.class == "open-files" && by.kernel.is_none()), "{by:?}");
    assert_eq!(shared(&found), [("open-files", 4, true), ("open-files", 3, true)]);
}

#[test]
fn open_files_of_one_upstream_are_certain() {
    let mut accounts = Accounts::default();
    of_connect(&mut accounts, "10.0.0.9:80", 3);
    of(Class::OwnLimit, &mut accounts, "-", 3);
    let found = sum(&accounts, &kernel([("-", Class::OpenFiles, 7)]));
    assert!(shared(&found).contains(&("open-files", 3, false)), "{found:?}");
}

#[test]
fn ended_toward_an_unknown_address_is_inferred() {
    let mut accounts = Accounts::default();
    of(Class::Ended, &mut accounts, "app/s1", 2);
    assert_eq!(shared(&sum(&accounts, &Kernel::new())), [("closed-early", 2, true)]);
    let found = sum(&accounts, &kernel([("10.0.0.7:80", Class::Reset, 5)]));
    assert_eq!(shared(&found), [("reset", 2, true)]);
}

#[test]
fn of_several_namespaces_it_is_not_known_which_is_the_logs() {
    let mut accounts = Accounts::default();
    of_connect(&mut accounts, "10.0.0.9:80", 3);
    of_connect(&mut accounts, "10.0.0.8:80", 2);
    let mut failures =
        kernel([("10.0.0.9:80", Class::Refused, 5), ("10.0.0.8:80", Class::Refused, 5)]);
    let there = (Product::HaProxy, Some("10.0.0.9:80".to_owned()), Class::Refused);
    failures.get_mut(&there).unwrap().netns.insert(Some(2));
    let marks = |sum: &Summary| {
        let by = sum.upstreams.iter().map(|it| (it.by[0].inferred, it.by[0].kernel_shared));
        by.collect::<Vec<_>>()
    };
    assert_eq!(marks(&sum(&accounts, &failures)), [(true, true), (false, false)]);
    let seen = failures.get_mut(&there).unwrap();
    (seen.netns, seen.unowned) = (BTreeSet::from([Some(1)]), true);
    assert_eq!(marks(&sum(&accounts, &failures)), [(true, true), (false, false)]);
}

#[test]
fn what_other_proxies_failed_at_explains_nothing() {
    let mut accounts = Accounts::default();
    of_connect(&mut accounts, "10.0.0.9:80", 3);
    let failures = kernel([("10.0.0.9:80", Class::Refused, 5), ("-", Class::OpenFiles, 5)]);
    let others =
        failures.into_iter().map(|((_, to, class), seen)| ((Product::Envoy, to, class), seen));
    let found = sum(&accounts, &others.collect());
    assert_eq!((found.explained, found.unexplained), (0, 3));
}
