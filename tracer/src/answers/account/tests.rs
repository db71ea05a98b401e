use super::*;

fn account() -> Account {
    Account::new(Product::Nginx)
}

/// In a second of 1970.
fn at(entry: Entry, second: i64) -> Entry {
    let at = Some(jiff::Timestamp::from_second(second).unwrap());
    match entry {
        Entry::Trouble(trouble) => Entry::Trouble(Trouble { at, ..trouble }),
        Entry::Answer(answer) => Entry::Answer(Answer { at, ..answer }),
    }
}

fn line(upstream: Option<&str>, class: Class) -> Entry {
    let upstream = upstream.map(str::to_owned);
    let (at, pid, errno, address) = (None, None, None, None);
    let status = match class {
        Class::ConnectTimeout | Class::ReadTimeout => 504,
        Class::OpenFiles | Class::OwnLimit => 500,
        _ => 502,
    };
    Entry::Trouble(Trouble { at, pid, class, errno, status: Some(status), upstream, address })
}

fn answer(status: u16, tries: &[(&str, u16)]) -> Entry {
    let one = |&(upstream, status): &(&str, u16)| Try {
        upstream: upstream.to_owned(),
        address: None,
        status: Some(status),
    };
    let tries = tries.iter().map(one).collect();
    Entry::Answer(Answer { status: Some(status), tries, tells_tries: true, ..Answer::default() })
}

#[test]
fn an_answer_is_explained_by_its_last_try() {
    let mut account = account();
    account.note(line(Some("a"), Class::PortsExhausted));
    account.note(line(Some("b"), Class::Refused));
    account.note(answer(502, &[("a", 502), ("b", 502)]));
    account.note(line(Some("a"), Class::Reset));
    account.note(answer(200, &[("a", 502), ("b", 200)]));
    account.note(line(Some("a"), Class::ConnectTimeout));
    account.note(answer(504, &[("a", 504)]));
    let (a, b) = (&account.rows()["a"], &account.rows()["b"]);
    assert_eq!(b.explained, BTreeMap::from([(Class::Refused, 1)]));
    assert_eq!(a.explained, BTreeMap::from([(Class::ConnectTimeout, 1)]));
    assert_eq!((a.answers(), b.answers(), account.succeeded), (1, 1, 1));
    assert_eq!(a.lines.values().sum::<u64>(), 3);
}

#[test]
fn what_no_line_explains_is_unexplained() {
    let mut account = account();
    account.note(answer(502, &[("a", 502)]));
    account.note(answer(500, &[("a", 500)]));
    account.note(line(None, Class::OwnLimit));
    account.note(line(Some("a"), Class::OpenFiles));
    account.note(answer(500, &[]));
    let row = &account.rows()["a"];
    assert_eq!((row.unexplained, row.answers(), account.succeeded), (1, 2, 1));
    assert_eq!(row.explained, BTreeMap::from([(Class::OpenFiles, 1)]));
}

#[test]
fn a_client_that_left_takes_no_line() {
    let mut account = account();
    account.note(line(Some("a"), Class::Refused));
    let upstream = "a".to_owned();
    let tries = vec![Try { upstream, address: None, status: None }];
    account.note(Entry::Answer(Answer { status: Some(499), tries, ..Answer::default() }));
    account.note(answer(502, &[("a", 502)]));
    assert_eq!(account.rows()["a"].explained, BTreeMap::from([(Class::Refused, 1)]));
}

#[test]
fn lines_of_no_free_ports_are_of_the_answers_behind_them() {
    let mut account = Account::new(Product::HaProxy);
    let answer = |status, retries, class| {
        let upstream = "app/s1".to_owned();
        let tries = vec![Try { upstream, address: None, status: Some(status) }];
        Entry::Answer(Answer { status: Some(status), tries, retries, class, ..Answer::default() })
    };
    let Entry::Trouble(no_ports) = line(Some("app"), Class::PortsExhausted) else { panic!() };
    let lines = |account: &mut Account, count| {
        for _ in 0..count {
            account.note(Entry::Trouble(Trouble { status: Some(503), ..no_ports.clone() }));
        }
    };
    lines(&mut account, 4);
    account.note(answer(503, 3, Some(Class::Connect)));
    account.note(answer(503, 3, Some(Class::Connect)));
    // The second try had a port.
    lines(&mut account, 1);
    account.note(answer(200, 1, None));
    account.note(answer(503, 0, Some(Class::Connect)));
    // Its client left.
    lines(&mut account, 1);
    account.note(answer(503, 0, None));
    account.note(answer(503, u32::MAX, Some(Class::Connect)));
    let row = &account.rows()["app/s1"];
    let wanted = BTreeMap::from([(Class::PortsExhausted, 1), (Class::Connect, 3)]);
    assert_eq!((&row.explained, row.answers()), (&wanted, 4));
    assert_eq!(account.rows()["app"].lines_of(Class::PortsExhausted), 6);
}

#[test]
fn there_are_not_too_many_upstreams() {
    let mut account = account();
    for index in 0..2 * MAX_UPSTREAMS {
        account.note(line(Some(&index.to_string()), Class::Refused));
    }
    assert!(account.rows().len() <= MAX_UPSTREAMS + 1, "{}", account.rows().len());
    assert_eq!(account.rows().values().map(|row| row.lines_of(Class::Refused)).sum::<u64>(), 8192);
}

fn refused(upstream: &str, second: i64) -> Entry {
    at(line(Some(upstream), Class::Refused), second)
}

/// What explains answers toward an upstream, and how many nothing does.
fn of(account: &Account, upstream: &str) -> (Vec<(Class, u64)>, u64) {
    let row = &account.rows()[upstream];
    (row.explained.iter().map(|(class, count)| (*class, *count)).collect(), row.unexplained)
}

#[test]
fn a_line_without_an_answer_does_not_stand_before_others() {
    let mut account = account();
    // Of a request that is not logged.
    account.note(refused("a", 1000));
    account.note(at(line(Some("a"), Class::Reset), 1007));
    account.note(at(answer(502, &[("a", 502)]), 1007));
    assert_eq!(of(&account, "a"), (vec![(Class::Reset, 1)], 0));
    // The second began between line and answer; one of the next second is another's.
    account.note(at(line(Some("a"), Class::Reset), 1010));
    account.note(at(line(Some("a"), Class::BadAnswer), 1012));
    account.note(at(answer(502, &[("a", 502)]), 1011));
    assert_eq!(of(&account, "a"), (vec![(Class::Reset, 2)], 0));
    // What is too old is forgotten.
    account.note(at(answer(502, &[("a", 502)]), 1012 + PATIENCE + 1));
    assert_eq!(of(&account, "a"), (vec![(Class::Reset, 2)], 1));
}

#[test]
fn lines_that_no_answer_has_are_counted_and_explain_nothing() {
    let mut account = account();
    let Entry::Trouble(reset) = line(Some("a"), Class::Reset) else { panic!() };
    // While the answer was passed on: its status is 200.
    account.note(Entry::Trouble(Trouble { status: None, ..reset }));
    account.note(answer(200, &[("a", 200)]));
    account.note(line(Some("a"), Class::Refused));
    account.note(answer(502, &[("a", 502)]));
    assert_eq!(of(&account, "a"), (vec![(Class::Refused, 1)], 0));
    assert_eq!(account.rows()["a"].lines_of(Class::Reset), 1);
}

#[test]
fn thousands_a_second_of_two_classes_are_exact() {
    let mut account = account();
    for second in 1000..1010 {
        for index in 0..2000_u32 {
            let class = if index % 3 == 0 { Class::Refused } else { Class::PortsExhausted };
            account.note(at(line(Some("a"), class), second));
        }
        // Some are done as the next second begins.
        for index in 0..2000_i64 {
            account.note(at(answer(502, &[("a", 502)]), second + index / 1990));
        }
    }
    let wanted = vec![(Class::PortsExhausted, 13_330), (Class::Refused, 6670)];
    assert_eq!(of(&account, "a"), (wanted, 0));
}

#[test]
fn what_was_not_tried_takes_no_line_of_a_try() {
    let mut account = account();
    account.note(line(Some("a"), Class::Refused));
    // limit_req, or return 503.
    account.note(answer(503, &[]));
    account.note(answer(500, &[]));
    assert_eq!((account.succeeded, account.rows()["a"].answers()), (2, 0));
    account.note(line(Some("b"), Class::OpenFiles));
    account.note(answer(503, &[]));
    account.note(answer(500, &[("a", 502), ("", 0)]));
    assert_eq!(of(&account, "b"), (vec![(Class::OpenFiles, 1)], 0));
    // Where the format does not tell, the status has to do.
    account.note(line(Some("a"), Class::ReadTimeout));
    account.note(line(Some("a"), Class::Refused));
    let untold = Answer { status: Some(504), ..Answer::default() };
    account.note(Entry::Answer(Answer { status: Some(503), ..untold.clone() }));
    account.note(Entry::Answer(untold));
    assert_eq!(of(&account, "a"), (vec![(Class::ReadTimeout, 1)], 0));
}

#[test]
fn an_upstreams_own_error_takes_no_line() {
    let mut account = account();
    account.note(line(Some("a"), Class::Refused));
    // proxy_next_upstream http_503, and a 500 at last.
    account.note(answer(500, &[("a", 503), ("a", 500)]));
    account.note(answer(503, &[("a", 503)]));
    assert_eq!(account.succeeded, 2);
    // A try that failed before does not explain it.
    account.note(answer(500, &[("a", 502), ("b", 500)]));
    assert_eq!((account.succeeded, account.rows()["a"].answers()), (3, 0));
    // `error_page 502 =503`
    account.note(line(Some("a"), Class::Reset));
    account.note(answer(503, &[("a", 502)]));
    assert_eq!(of(&account, "a"), (vec![(Class::Reset, 1)], 0));
}

#[test]
fn what_others_pass_on_is_not_theirs() {
    for proxy in [Product::HaProxy, Product::Envoy] {
        let mut account = Account::new(proxy);
        account.note(answer(502, &[("app/s1", 502)]));
        account.note(answer(504, &[("app/s1", 504)]));
        assert_eq!((account.succeeded, account.rows().len()), (2, 0), "{proxy:?}");
    }
    // Of one kind nothing goes to another.
    let mut accounts = crate::answers::Accounts::default();
    accounts.note(Product::Nginx, line(Some("a"), Class::Refused));
    let Entry::Answer(none) = answer(503, &[]) else { panic!() };
    let class = Some(Class::NoServer);
    accounts.note(Product::HaProxy, Entry::Answer(Answer { class, ..none }));
    accounts.note(Product::Nginx, answer(502, &[("a", 502)]));
    let all: Vec<_> = accounts.iter().map(|account| (account.proxy(), account.rows())).collect();
    assert_eq!(all[0].1["a"].explained, BTreeMap::from([(Class::Refused, 1)]));
    assert_eq!(all[1].1["-"].explained, BTreeMap::from([(Class::NoServer, 1)]));
}
