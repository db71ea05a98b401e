//! What of a configuration leads to an address: which directives pass to it, and by which `upstream` block.

use std::{collections::HashMap, net::IpAddr};

use super::settings::{Pass, Settings, Upstream};

/// Most ways to one address that are kept: each is one `upstream` block or one directive.
const MAX_LEADS: usize = 8;

/// One way to an address.
#[derive(Clone, Copy, Debug)]
pub struct Lead<'a> {
    /// The block that has it among its servers; `None`: a directive names it.
    pub upstream: Option<&'a Upstream>,
    /// A directive that passes there: the first that keeps no connections, or else the first.
    pub pass: &'a Pass,
    /// How many more there are that keep none.
    pub more: usize,
}

/// Directives that pass to the same.
struct Passes<'a> {
    /// The first that keeps no connections, or else the first.
    first: &'a Pass,
    /// How many keep none.
    closing: usize,
}

impl<'a> Passes<'a> {
    fn lead(&self, upstream: Option<&'a Upstream>) -> Lead<'a> {
        Lead { upstream, pass: self.first, more: self.closing.saturating_sub(1) }
    }
}

/// The ways, by address and port.
#[derive(Debug, Default)]
pub struct Leads<'a> {
    by_address: HashMap<(IpAddr, u16), Vec<Lead<'a>>>,
}

impl<'a> Leads<'a> {
    /// Of a configuration. Names that are looked up and targets with variables are not known to lead anywhere.
    /// Names of upstreams are compared without case, and the first with a name is meant (`ngx_http_upstream_add`).
    #[must_use]
    pub fn of(settings: &'a Settings) -> Self {
        let mut passes: HashMap<(bool, String), Passes<'_>> = HashMap::new();
        for pass in &settings.passes {
            let all = passes
                .entry(key(pass.stream, &pass.target))
                .or_insert(Passes { first: pass, closing: 0 });
            if !settings.keeps(pass) {
                if all.closing == 0 {
                    all.first = pass;
                }
                all.closing += 1;
            }
        }
        let mut leads = Self::default();
        for upstream in &settings.upstreams {
            if let Some(passes) = passes.remove(&key(upstream.stream, &upstream.name)) {
                for address in upstream.servers.iter().filter_map(|server| server.address) {
                    leads.add(address, passes.lead(Some(upstream)));
                }
            }
        }
        let mut direct: Vec<Lead<'_>> =
            passes.into_values().map(|passes| passes.lead(None)).collect();
        direct.sort_by(|a, b| {
            (&a.pass.place.file, a.pass.place.line).cmp(&(&b.pass.place.file, b.pass.place.line))
        });
        for lead in direct {
            if let Some(address) = lead.pass.address {
                leads.add(address, lead);
            }
        }
        leads
    }

    fn add(&mut self, (address, port): (IpAddr, u16), lead: Lead<'a>) {
        let ways = self.by_address.entry((address.to_canonical(), port)).or_default();
        let same = |way: &Lead<'_>| match (way.upstream, lead.upstream) {
            (Some(one), Some(other)) => std::ptr::eq(one, other),
            _ => false,
        };
        if ways.len() < MAX_LEADS && !ways.iter().any(same) {
            ways.push(lead);
        }
    }

    /// The ways to an address, in the order of the configuration, those by `upstream` blocks first.
    #[must_use]
    pub fn toward(&self, address: IpAddr, port: u16) -> &[Lead<'a>] {
        self.by_address.get(&(address.to_canonical(), port)).map_or(&[], Vec::as_slice)
    }
}

/// Upstreams of `stream` have names of their own.
fn key(stream: bool, name: &str) -> (bool, String) {
    (stream, name.to_ascii_lowercase())
}
