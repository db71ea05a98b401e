//! Whole captures: written, read, and damaged in every way.

use std::{path::Path, sync::LazyLock};

use proptest::prelude::*;
use tracer_ebpf::RAW_EVENT_SIZE;

use super::{
    CaptureError, Item,
    block::Encoder,
    content::{CgroupPath, End, Header},
    frame::{FORMAT, HEAD, Kind, MARKER},
    reader::Reader,
    walk::{Step, Walk},
    writer::Writer,
};
use crate::{
    event::{Comm, Known, Loss, Owner},
    existing::{Met, MetSocket},
    reason::Reason,
};

/// Records that differ from each other.
fn records(from: usize, count: usize) -> Vec<u8> {
    let record = |number: usize| {
        let mut record = [0; RAW_EVENT_SIZE];
        record[8..16].copy_from_slice(&(number as u64 * 1000).to_le_bytes());
        record[16..24].copy_from_slice(&(number as u64).to_le_bytes());
        record
    };
    (from..from + count).flat_map(record).collect()
}

fn header() -> Header {
    let (abi, record_size) = (tracer_ebpf::ABI_VERSION, RAW_EVENT_SIZE);
    Header { format: FORMAT, abi, record_size, host: "a".to_owned(), part: 1, ..Header::default() }
}

/// Three blocks of records, loss, sockets and cgroups, and where its frames begin: two headers, the sockets, then
/// three frames for each block, and the index.
fn small() -> (Vec<u8>, Vec<usize>) {
    static SMALL: LazyLock<(Vec<u8>, Vec<usize>)> = LazyLock::new(make_small);
    SMALL.clone()
}

fn at(writer: &Writer<Vec<u8>>) -> usize {
    usize::try_from(writer.written()).unwrap()
}

fn make_small() -> (Vec<u8>, Vec<usize>) {
    let mut encoder = Encoder::new().unwrap();
    let mut writer = Writer::new(Vec::new(), &header()).unwrap();
    let mut starts = vec![0, at(&writer) / 2];
    let mut put = |frame, writer: &mut Writer<Vec<u8>>| {
        starts.push(at(writer));
        writer.put(&frame).unwrap();
    };
    let comm = Comm::new(*b"nginx\0\0\0\0\0\0\0\0\0\0\0");
    let owner = Owner { pid: 7, tid: 7, comm, known: Known::Inferred };
    let socket = MetSocket { cookie: 5, owner, cgroup: Some(9), passive: true };
    let met = Met { continued: false, sockets: vec![socket] };
    let loss = Loss { ts_ns: 1, states: 2, ..Loss::default() };
    let path = CgroupPath { id: 9, path: "/a".to_owned() };
    let met = serde_json::to_vec(&met).unwrap();
    put(encoder.other(Kind::Sockets, 1, &met).unwrap(), &mut writer);
    for block in 0..3 {
        encoder.records(&records(block * 10, 10), |_| unreachable!("a full block")).unwrap();
        put(encoder.seal().unwrap().unwrap(), &mut writer);
        let loss = serde_json::to_vec(&loss).unwrap();
        put(encoder.other(Kind::Lost, 2, &loss).unwrap(), &mut writer);
        let paths = serde_json::to_vec(&[&path]).unwrap();
        put(encoder.other(Kind::Cgroups, 2, &paths).unwrap(), &mut writer);
    }
    starts.push(at(&writer));
    let bytes = writer.end(&End { produced: Some(36), ..End::default() }).unwrap().0;
    (bytes, starts)
}

/// All that can be read.
fn read(bytes: &[u8]) -> Result<(Vec<Item>, bool), CaptureError> {
    let mut reader = Reader::open(bytes)?;
    let mut items = Vec::new();
    while let Some(item) = reader.next_item()? {
        items.push(item);
    }
    Ok((items, reader.end().is_some()))
}

/// The numbers of the records, and how many are said to be missing.
fn told(items: &[Item]) -> (Vec<u64>, Option<u64>) {
    let number = |record: &[u8]| u64::from_le_bytes(record[16..24].try_into().unwrap());
    let (mut numbers, mut missing) = (Vec::new(), Some(0));
    for item in items {
        match item {
            Item::Records(records) => {
                numbers.extend(records.chunks(RAW_EVENT_SIZE).map(number));
            }
            Item::Damage(damage) => {
                missing = missing.and_then(|sum: u64| Some(sum + damage.events?));
            }
            _ => {}
        }
    }
    (numbers, missing)
}

static CLEAN: LazyLock<Vec<Item>> = LazyLock::new(|| read(&small().0).unwrap().0);

/// What comes out of a damaged capture is right, and in order, and what is missing is said.
fn judge(bytes: &[u8]) {
    let Ok((items, ended)) = read(bytes) else { return };
    let (numbers, missing) = told(&items);
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    assert!(numbers.iter().all(|&number| number < 30), "{numbers:?}");
    if ended {
        assert_eq!(missing.map(|missing| missing + numbers.len() as u64), Some(30));
    }
    let clean = &*CLEAN;
    let is_of_it = |item: &&Item| !matches!(item, Item::Damage(_));
    assert!(items.iter().filter(is_of_it).all(|item| clean.contains(item)), "{items:?}");
    if items.len() < clean.len() {
        let has_damage = items.iter().any(|item| matches!(item, Item::Damage(_)));
        assert!(has_damage || !ended, "something is missing, and nobody says so");
    }
}

#[test]
fn a_capture_comes_back() {
    let (bytes, _) = small();
    let (items, ended) = read(&bytes).unwrap();
    assert!(ended);
    assert_eq!(told(&items), ((0..30).collect(), Some(0)));
    assert!(matches!(&items[0], Item::Sockets(met) if met.sockets[0].owner.pid == 7));
    assert!(matches!(&items[2], Item::Lost(loss) if loss.states == 2));
    assert!(
        matches!(items.last(), Some(Item::End(end)) if end.events == 30 && end.index.is_some())
    );
}

#[test]
fn cut_off_at_any_byte_it_is_read_up_to_there() {
    let (bytes, starts) = small();
    for length in 0..bytes.len() {
        let cut = &bytes[..length];
        let whole = starts.iter().filter(|&&start| start <= length).count();
        match read(cut) {
            Err(CaptureError::NotOne) => assert!(length < MARKER.len()),
            Err(CaptureError::NoHeader) => assert!(whole < 2, "{length}"),
            Err(error) => panic!("{length}: {error}"),
            Ok((items, ended)) => {
                assert!(!ended, "{length}");
                let (numbers, _) = told(&items);
                let complete = (0..3).filter(|block| starts[4 + 3 * block] <= length).count();
                assert_eq!(numbers, (0..complete as u64 * 10).collect::<Vec<_>>(), "{length}");
                let torn = !starts.contains(&length) && length < *starts.last().unwrap();
                let damaged = items.iter().any(|item| matches!(item, Item::Damage(_)));
                assert!(damaged || !torn, "{length}");
                judge(cut);
            }
        }
    }
}

#[test]
fn a_damaged_block_is_passed_over_and_counted() {
    let (mut bytes, starts) = small();
    // The second block: its content, then its head.
    for at in [starts[6] + HEAD + 3, starts[6] + 20] {
        bytes[at] ^= 0x10;
        let (items, ended) = read(&bytes).unwrap();
        assert!(ended);
        let expected: Vec<u64> = (0..10).chain(20..30).collect();
        assert_eq!(told(&items), (expected, Some(10)));
        let damage = items.iter().find_map(|item| match item {
            Item::Damage(damage) => Some(damage.to_string()),
            _ => None,
        });
        assert!(damage.is_some_and(|it| it.ends_with("bytes passed over, 10 events missing")));
    }
}

#[test]
fn a_block_that_is_cut_out_is_noticed() {
    let (bytes, starts) = small();
    let without = [&bytes[..starts[6]], &bytes[starts[7]..]].concat();
    let (items, _) = read(&without).unwrap();
    assert_eq!(told(&items).1, Some(10));
}

#[test]
fn either_copy_of_the_header_is_enough() {
    let (bytes, starts) = small();
    for copy in 0..2 {
        let mut bytes = bytes.clone();
        bytes[starts[copy] + HEAD + 5] ^= 1;
        assert_eq!(told(&read(&bytes).unwrap().0), ((0..30).collect(), Some(0)));
    }
    let mut bytes = bytes;
    bytes[HEAD + 5] ^= 1;
    bytes[starts[1] + HEAD + 5] ^= 1;
    assert!(matches!(read(&bytes), Err(CaptureError::NoHeader)));
}

#[test]
fn what_is_none_or_newer_is_refused_in_words() {
    let says = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
    assert!(says(b"").contains("no capture"));
    assert!(says(b"{\"ts\":\"2026\"}\n").contains("no capture"));
    assert!(says(&vec![0; 3 << 20]).contains("no capture"));
    let mut newer = Header { abi: 99, socklife: "7.0".to_owned(), ..header() };
    let bytes = Writer::new(Vec::new(), &newer).unwrap().end(&End::default()).unwrap().0;
    assert!(says(&bytes).contains("use socklife 7.0"));
    newer.abi = tracer_ebpf::ABI_VERSION;
    let mut bytes = Writer::new(Vec::new(), &newer).unwrap().end(&End::default()).unwrap().0;
    bytes[10] = 9;
    let crc = crc32c::crc32c(&bytes[..60]).to_le_bytes();
    bytes[60..64].copy_from_slice(&crc);
    assert!(says(&bytes).contains("newer socklife (format 9"));
}

#[test]
fn what_comes_from_elsewhere_is_inert() {
    let mut encoder = Encoder::new().unwrap();
    let host = "a\u{1b}[31m\n\u{202e}b\\\"".to_owned();
    let mut writer = Writer::new(Vec::new(), &Header { host, ..header() }).unwrap();
    let paths = [CgroupPath { id: 1, path: "/\u{7}".to_owned() }];
    let paths = serde_json::to_vec(&paths).unwrap();
    writer.put(&encoder.other(Kind::Cgroups, 1, &paths).unwrap()).unwrap();
    let bytes = writer.end(&End::default()).unwrap().0;
    let reader = Reader::open(&bytes[..]).unwrap();
    assert_eq!(reader.header().host, "a\\u{1b}[31m\\u{a}\\u{202e}b\\\"");
    let Item::Cgroups(paths) = &read(&bytes).unwrap().0[0] else { unreachable!("cgroups") };
    assert_eq!(paths[0].path, "/\\u{7}");
}

/// Recorded once, and kept: later versions read it, too.
#[test]
fn format_1_is_read() {
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/incidents-v1.socklife");
    let mut walk = Walk::open(Path::new(fixture)).unwrap();
    let (mut samples, mut settings) = (0, 0);
    let mut note = |step: Step<'_>| match step {
        Step::Sample(_) => samples += 1,
        Step::Settings(_) => settings += 1,
        _ => {}
    };
    while walk.advance(&mut note).unwrap() {}
    // What `socklife record` said when it was made.
    let table = &walk.table;
    assert_eq!((table.seen(), table.failures(), table.lost()), (32_534, 16_395, 0));
    let of = |reason| table.reasons()[&Some(reason)];
    assert_eq!(of(Reason::PortRangeExhausted), 15_571);
    assert_eq!((of(Reason::ProcessFileLimit), of(Reason::Reset)), (808, 16));
    assert_eq!((walk.damaged(), walk.undecodable()), (0, 0));
    assert_eq!(walk.end().and_then(|end| end.produced), Some(32_534));
    assert!(samples > 10 && settings > 0, "{samples} samples, {settings} settings");
}

#[test]
fn a_second_capture_in_the_same_file_is_not_taken_for_the_first() {
    let (bytes, _) = small();
    let (items, _) = read(&[&bytes[..], &bytes[..]].concat()).unwrap();
    assert_eq!(told(&items).0, (0..30).collect::<Vec<_>>());
    assert!(matches!(items.last(), Some(Item::Damage(damage)) if damage.why.contains("another")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn flipped_bits_never_make_a_wrong_event(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 1..6),
    ) {
        let (mut bytes, _) = small();
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        judge(&bytes);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..3000), cut in 0_usize..2000, keep: bool,
    ) {
        if keep {
            let (capture, _) = small();
            bytes = [&capture[..cut.min(capture.len())], &bytes[..]].concat();
        }
        judge(&bytes);
    }
}
