//! The messages of the admin interface (`envoy.admin.v3`, `envoy.config.bootstrap.v3`), of which only what matters
//! here: protocol buffers printed as JSON, where what is zero is left out, and numbers of 64 bits are text.

use std::{borrow::Cow, collections::HashMap, net::SocketAddr};

use serde::{Deserialize, Deserializer, de::IgnoredAny};

/// A number, be it text.
#[derive(Clone, Copy, Default)]
pub(super) struct Number(pub(super) Option<u64>);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either<'a> {
            Number(u64),
            Text(#[serde(borrow)] Cow<'a, str>),
            Other(IgnoredAny),
        }
        Ok(Self(match Either::deserialize(from)? {
            Either::Number(number) => Some(number),
            Either::Text(text) => text.parse().ok(),
            Either::Other(_) => None,
        }))
    }
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
pub(super) struct Clusters {
    pub(super) cluster_statuses: Vec<ClusterStatus>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ClusterStatus {
    pub(super) name: String,
    /// The name that its counts have: `alt_stat_name`.
    pub(super) observability_name: String,
    pub(super) circuit_breakers: Breakers,
    pub(super) host_statuses: Vec<HostStatus>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Breakers {
    pub(super) thresholds: Vec<Threshold>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Threshold {
    /// Left out: the default one.
    pub(super) priority: Option<String>,
    pub(super) max_connections: Number,
    pub(super) max_pending_requests: Number,
    pub(super) max_requests: Number,
    pub(super) max_retries: Number,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct HostStatus {
    pub(super) address: Address,
    pub(super) stats: Vec<Count>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Address {
    pub(super) socket_address: Option<SocketAddress>,
}

impl Address {
    pub(super) fn known(&self) -> Option<SocketAddr> {
        let SocketAddress { address, port_value } = self.socket_address.as_ref()?;
        Some(SocketAddr::new(address.parse().ok()?, port_value.0?.try_into().ok()?))
    }
}

#[derive(Deserialize)]
pub(super) struct SocketAddress {
    #[serde(default)]
    pub(super) address: String,
    #[serde(default)]
    pub(super) port_value: Number,
}

/// A count with its name; a histogram has neither.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Count {
    pub(super) name: String,
    pub(super) value: Number,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Stats {
    pub(super) stats: Vec<Count>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Listeners {
    pub(super) listener_statuses: Vec<ListenerStatus>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ListenerStatus {
    pub(super) name: String,
    pub(super) local_address: Address,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Runtime {
    pub(super) entries: HashMap<String, Entry>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Entry {
    pub(super) final_value: Number,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Dump {
    pub(super) configs: Vec<Config>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Config {
    pub(super) bootstrap: Bootstrap,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Bootstrap {
    pub(super) node: Node,
    pub(super) overload_manager: OverloadManager,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Node {
    pub(super) user_agent_build_version: Build,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Build {
    pub(super) version: Option<Version>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Version {
    pub(super) major_number: u32,
    pub(super) minor_number: u32,
    pub(super) patch: u32,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct OverloadManager {
    pub(super) resource_monitors: Vec<Monitor>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Monitor {
    pub(super) typed_config: Downstream,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Downstream {
    pub(super) max_active_downstream_connections: Number,
}
