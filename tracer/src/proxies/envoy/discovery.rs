//! Where an Envoy's admin interface is: from its command line and its bootstrap (`envoy.config.bootstrap.v3`, `admin`).

use std::{
    ffi::{OsStr, OsString},
    net::IpAddr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::{
    event::visible,
    proxies::{
        endpoint::Endpoint,
        files::{Files, Rooted},
        host,
    },
};

/// What to do where there is none.
const ADVICE: &str = "add `admin: {address: {socket_address: {address: 127.0.0.1, port_value: 9901}}}` to its bootstrap";
/// Longest bootstrap that is read.
const LONGEST: usize = 4 << 20;

/// What a command line says (Envoy's documentation, "Command line options").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    /// `-c`, `--config-path`
    pub path: Option<PathBuf>,
    /// `--config-yaml`, which is merged over the file.
    pub yaml: Option<OsString>,
    /// `--admin-address-path`: the file that it writes its admin interface's address to.
    pub address_path: Option<PathBuf>,
}

/// What a command line says.
#[must_use]
pub fn configured(arguments: &[OsString]) -> Configured {
    let mut configured = Configured::default();
    let mut words = arguments.iter().skip(1);
    while let Some(word) = words.next() {
        let bytes = word.as_bytes();
        // What is behind `--` is for the program around it.
        let (name, value) = match bytes.iter().position(|&byte| byte == b'=') {
            Some(at) if bytes.starts_with(b"--") => bytes.split_at(at),
            _ => (bytes, &b""[..]),
        };
        let mut value = || match value.strip_prefix(b"=") {
            Some(value) => Some(OsStr::from_bytes(value).to_owned()),
            None => words.next().cloned(),
        };
        match name {
            b"-c" | b"--config-path" => configured.path = value().map(PathBuf::from),
            b"--config-yaml" => configured.yaml = value(),
            b"--admin-address-path" => configured.address_path = value().map(PathBuf::from),
            _ => {}
        }
    }
    configured
}

/// The admin interface of a process.
pub(super) fn endpoint(pid: u32) -> Result<Endpoint> {
    let arguments = host::arguments(pid).context("its command line can't be read")?;
    let configured = configured(&arguments);
    let files = Rooted::of(pid).context("its files can't be looked at")?;
    // The only one that knows the port where the bootstrap says 0.
    if let Some(path) = &configured.address_path
        && let Ok(bytes) = files.read(path)
        && let Ok(text) = std::str::from_utf8(&bytes)
        && let Ok(endpoint) = text.trim().parse()
    {
        return Ok(endpoint);
    }
    if let Some(yaml) = &configured.yaml
        && let Some(endpoint) = admin_of(yaml.as_bytes(), false).context("its --config-yaml")?
    {
        return Ok(endpoint);
    }
    let path = configured.path.context("its command line names no bootstrap (`-c`)")?;
    let shown = visible(path.as_os_str().as_bytes());
    let what = || format!("its bootstrap {shown}");
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    if ["pb", "pb_text", "textproto"].contains(&extension) {
        bail!("{} is no YAML and no JSON: give its admin interface", what());
    }
    let bytes = files.read(Path::new(&path)).with_context(what)?;
    let found = admin_of(&bytes, extension == "json").with_context(what)?;
    found.with_context(|| format!("{} has no admin interface: {ADVICE}", what()))
}

#[derive(Deserialize)]
struct Bootstrap {
    admin: Option<Admin>,
}

#[derive(Deserialize)]
struct Admin {
    address: Option<Address>,
}

#[derive(Deserialize)]
struct Address {
    #[serde(alias = "socketAddress")]
    socket_address: Option<SocketAddress>,
    pipe: Option<Pipe>,
}

#[derive(Deserialize)]
struct SocketAddress {
    address: String,
    #[serde(alias = "portValue")]
    port_value: u16,
}

#[derive(Deserialize)]
struct Pipe {
    path: PathBuf,
}

/// The admin interface in a bootstrap, of YAML or JSON; `None`: without.
///
/// # Errors
/// The text can't be read, or its address isn't in figures, or its port is the kernel's to choose.
pub fn admin_of(text: &[u8], is_json: bool) -> Result<Option<Endpoint>> {
    ensure!(text.len() <= LONGEST, "over {} MiB", LONGEST >> 20);
    let bootstrap: Bootstrap = if is_json {
        serde_json::from_slice(text)?
    } else {
        // Bounded by its default budget: nodes, depth, what aliases stand for.
        serde_saphyr::from_slice(text).map_err(|error| {
            anyhow::anyhow!("{}", visible(error.without_snippet().to_string().as_bytes()))
        })?
    };
    let Some(address) = bootstrap.admin.and_then(|admin| admin.address) else { return Ok(None) };
    let Some(SocketAddress { address, port_value }) = address.socket_address else {
        return Ok(address.pipe.map(|pipe| Endpoint::Unix(pipe.path)));
    };
    let shown = visible(address.as_bytes());
    ensure!(
        port_value != 0,
        "the port of its admin interface is chosen when it starts: start it with \
         `--admin-address-path FILE`, or give the interface"
    );
    let ip: IpAddr =
        address.parse().with_context(|| format!("the address {shown} is not in figures"))?;
    Ok(Some(Endpoint::Tcp((ip, port_value).into())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_command_line_says() {
        let of = |line: &str| configured(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        let path = |path: &str| Some(PathBuf::from(path));
        let istio = of("/usr/local/bin/envoy -c etc/istio/proxy/envoy-rev.json --drain-time-s 45");
        assert_eq!(
            istio,
            Configured { path: path("etc/istio/proxy/envoy-rev.json"), ..Configured::default() }
        );
        let all = of("envoy --config-path=/a=b --config-yaml {} --admin-address-path /tmp/x");
        assert_eq!((all.path, all.yaml), (path("/a=b"), Some("{}".into())));
        assert_eq!(all.address_path, path("/tmp/x"));
        assert_eq!(of("envoy -c"), Configured::default());
    }

    #[test]
    fn an_admin_interface_is_found_in_yaml_and_json() {
        let of = |text: &str, json| {
            admin_of(text.as_bytes(), json).map(|it| it.map(|it| it.to_string()))
        };
        let yaml = "static_resources: {clusters: [{name: x}]}\n\
                    admin:\n  profile_path: /x\n  address: {socket_address: {address: ::1, port_value: 15000}}\n";
        assert_eq!(of(yaml, false).unwrap().unwrap(), "[::1]:15000");
        let json = r#"{"node":{"id":"a"},"admin":{"address":{"socketAddress":{"address":"127.0.0.1","portValue":15000}}}}"#;
        assert_eq!(of(json, true).unwrap().unwrap(), "127.0.0.1:15000");
        assert_eq!(of(json, false).unwrap().unwrap(), "127.0.0.1:15000");
        let pipe = "admin: {address: {pipe: {path: /run/envoy.sock}}}";
        assert_eq!(of(pipe, false).unwrap().unwrap(), "/run/envoy.sock");
        assert_eq!(of("node: {id: x}", false).unwrap(), None);
        for (text, why) in [
            (
                "admin: {address: {socket_address: {address: localhost, port_value: 1}}}",
                "not in figures",
            ),
            (
                "admin: {address: {socket_address: {address: 0.0.0.0, port_value: 0}}}",
                "--admin-address-path",
            ),
            ("admin: [", "line"),
        ] {
            let error = format!("{:#}", of(text, false).unwrap_err());
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn hostile_text_costs_little() {
        let started = std::time::Instant::now();
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let of = format!("*a{}, ", level - 1).repeat(10);
            bomb += &format!("a{level}: &a{level} [{of}]\n");
        }
        assert!(admin_of(bomb.as_bytes(), false).is_err());
        for deep in ["[", "{a: ", "- ", "? ", "&a ", "!!a ", "\"", "|\n ", "'", "{"] {
            for length in [1_000, 1_000_000] {
                drop(admin_of(deep.repeat(length / deep.len()).as_bytes(), false));
                drop(admin_of(deep.repeat(length / deep.len()).as_bytes(), true));
            }
        }
        assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[\\[\\]{}:,&*!|>'\"#%@`?\n a-c-]{0,60}", noise in proptest::collection::vec(any::<u8>(), 0..60)) {
            drop((admin_of(text.as_bytes(), false), admin_of(&noise, false), admin_of(&noise, true)));
        }
    }
}
