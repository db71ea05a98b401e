//! The fallback where the kernel has no `inet_diag`: `/proc/net/tcp` and `tcp6`.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use anyhow::{Context, Result};
use tracer_ebpf::state;

use super::sock_diag::Socket;
use crate::event::State;

/// Bytes read at a time, if the kernel gives as many.
const CHUNK: usize = 64 << 10;

/// The timer's number of a minisock (`get_timewait4_sock` in `net/ipv4/tcp_ipv4.c`).
const TIMER_TIME_WAIT: u64 = 3;

/// Gives every TCP socket of the calling thread's network namespace to `each`, once.
///
/// Sockets have no cookie here, listeners no backlog, and those that are bound and no more aren't
/// shown. The list isn't taken at one instant.
///
/// # Errors
/// `/proc` isn't mounted, or a file in it can't be read.
pub fn list(mut each: impl FnMut(Socket)) -> Result<()> {
    let ticks = rustix::param::clock_ticks_per_second();
    let mut seen = HashSet::new();
    for path in ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"] {
        let file = match File::open(path) {
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.ends_with('6') => break,
            other => other.with_context(|| format!("can't open {path}"))?,
        };
        let mut reader = BufReader::with_capacity(CHUNK, file);
        let mut line = Vec::with_capacity(256);
        while reader.read_until(b'\n', &mut line).with_context(|| format!("can't read {path}"))? > 0
        {
            let socket = str::from_utf8(&line).ok().and_then(|line| parse(line, ticks));
            if let Some(socket) = socket
                && seen.insert((socket.src, socket.sport, socket.dst, socket.dport, socket.inode))
            {
                each(socket);
            }
            line.clear();
        }
    }
    Ok(())
}

/// One line (`get_tcp4_sock` and its like in `net/ipv4/tcp_ipv4.c` and `net/ipv6/tcp_ipv6.c`).
/// `ticks`: of the kernel's timers in a second. `None`: the heading, or no such line.
#[must_use]
pub fn parse(line: &str, ticks: u64) -> Option<Socket> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (src, sport) = endpoint(words.next()?)?;
    let (dst, dport) = endpoint(words.next()?)?;
    let state = State::from_number(u8::from_str_radix(words.next()?, 16).ok()?)?;
    let (send_queue, recv_queue) = words.next()?.split_once(':')?;
    let (timer, left) = words.next()?.split_once(':')?;
    let uid = words.nth(1)?.parse().ok()?;
    let inode = words.nth(1)?.parse().ok()?;
    let hex = |text| u64::from_str_radix(text, 16).ok();
    let left = Duration::from_millis(hex(left)?.saturating_mul(1000) / ticks.max(1));
    let listens = state.number() == state::LISTEN;
    Some(Socket {
        cookie: None,
        state,
        src,
        sport,
        dst,
        dport,
        inode,
        uid,
        recv_queue: u32::from_str_radix(recv_queue, 16).ok()?,
        send_queue: if listens { None } else { Some(u32::from_str_radix(send_queue, 16).ok()?) },
        time_left: (hex(timer)? == TIMER_TIME_WAIT).then_some(left),
        interface: 0,
        cgroup: None,
    })
}

/// `0100007F:1F90`: the address in words of the machine's byte order.
fn endpoint(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = address.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let address = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let mut bytes = [0; 16];
            bytes.copy_from_slice(words.as_flattened());
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some((address, port))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use proptest::prelude::*;

    use super::*;

    /// Lines as a little-endian machine prints them.
    #[cfg(target_endian = "little")]
    #[test]
    fn reads_the_kernels_lines() {
        let line = "   1: 0100007F:1F90 0200000A:D431 01 00000010:00000020 02:00000A4C 00000000  \
                    1000        0 31337 2 ffff8881 20 4 30 10 -1                     \n";
        let socket = parse(line, 100).unwrap();
        assert_eq!(socket.src, "127.0.0.1".parse::<IpAddr>().unwrap());
        assert_eq!(socket.dst, "10.0.0.2".parse::<IpAddr>().unwrap());
        assert_eq!((socket.sport, socket.dport), (8080, 54_321));
        assert_eq!(socket.state, State::ESTABLISHED);
        assert_eq!((socket.uid, socket.inode), (1000, 31_337));
        assert_eq!((socket.recv_queue, socket.send_queue), (32, Some(16)));
        assert_eq!((socket.cookie, socket.time_left), (None, None));

        let line = "   2: 00000000000000000000000001000000:0016 \
                    0000000000000000FFFF00000100007F:D431 06 00000000:00000000 03:00001766 \
                    00000000     0        0 0 3 ffff8881";
        let socket = parse(line, 100).unwrap();
        assert_eq!(socket.src, "::1".parse::<IpAddr>().unwrap());
        assert_eq!(socket.dst, "127.0.0.1".parse::<IpAddr>().unwrap());
        assert_eq!(socket.state, State::TIME_WAIT);
        assert_eq!(socket.time_left, Some(Duration::from_millis(59_900)));
    }

    #[test]
    fn what_is_no_socket_is_skipped() {
        let heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt \
                       uid  timeout inode";
        assert_eq!(parse(heading, 100), None);
        assert_eq!(parse("", 100), None);
        let line = "0: 0100007F:1F90 0200000A:D431 0F 0:0 00:0 0 0 0 1";
        assert_eq!(parse(line, 100), None, "state 15");
        assert_eq!(parse(&line.replace("0F", "ü1"), 100), None);
    }

    #[test]
    fn lists_a_listener_of_this_process() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let own = listener.local_addr().unwrap();
            let mut found = Vec::new();
            list(|socket| {
                if (socket.src, socket.sport) == (own.ip(), own.port()) {
                    found.push(socket);
                }
            })
            .unwrap();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].state.number(), state::LISTEN);
            assert_eq!((found[0].cookie, found[0].send_queue), (None, None));
        }
    }

    proptest! {
        #[test]
        fn junk_never_panics(line in any::<String>(), ticks in any::<u64>()) {
            let _ = parse(&line, ticks);
        }

        #[test]
        fn junk_in_fields_never_panics(
            line in "[0-9]{1,3}: [0-9A-Fü]{7,33}:[0-9A-F]{0,5} [0-9A-F]{8,32}:[0-9A-F]{4} \
                     [0-9A-F]{2} [0-9A-F]{8}:[0-9A-F]{8} 0[0-4]:[0-9A-F]{8,17} 0 [0-9]{1,11} 0 \
                     [0-9]{1,11}",
            ticks in any::<u64>(),
        ) {
            let _ = parse(&line, ticks);
        }
    }
}
