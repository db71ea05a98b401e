//! What `socklife features` tells: which hook each event uses on this kernel, and why not a better one.

use serde::Serialize;

use super::{
    btf::Btf,
    ground::before,
    hooks::{Hook, explain},
    ladder::{Hooked, Hooks, Level},
    loader::{Kernel, Options},
};
use crate::{filter::Filter, live::shot::Hook as InUse};

/// One event of the ladder as `features` prints it.
#[derive(Clone, Debug, Serialize)]
pub struct Feature {
    /// The event, as [`Hooked::name`] has it.
    pub event: &'static str,
    /// The hook in use; `None`: no rung loads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rung: Option<&'static str>,
    /// Whether the event is concluded from others.
    pub inferred: bool,
    /// What it costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<&'static str>,
    /// What this rung can't do on this kernel.
    pub notes: Vec<String>,
    /// The better rungs, and why each is not in use.
    pub refused: Vec<Refusal>,
}

impl Feature {
    /// The hook in use, as the live view and captures have it.
    #[must_use]
    pub fn hook(self) -> Option<InUse> {
        Some(InUse {
            event: self.event.into(),
            rung: self.rung?.into(),
            cost: self.cost.unwrap_or_default().into(),
            inferred: self.inferred,
            notes: self.notes,
        })
    }
}

/// A rung that is not in use.
#[derive(Clone, Debug, Serialize)]
pub struct Refusal {
    /// The hook.
    pub rung: &'static str,
    /// Why, in a person's terms.
    pub why: String,
}

/// Which hook each event would use, found by attaching it for a moment.
#[must_use]
pub fn features(hooks: Hooks) -> Vec<Feature> {
    let options = Options { ring_size: 64 << 10, hooks, kernel_log: false };
    let missing = |hooked: Hooked, refused: &[Refusal]| Feature {
        event: hooked.name(),
        rung: None,
        inferred: false,
        cost: None,
        notes: Vec::new(),
        refused: refused.to_vec(),
    };
    let kernel = match Kernel::attach(&options, &Filter::default()) {
        Ok(kernel) => kernel,
        Err(error) => {
            let refused = [Refusal { rung: "any", why: explain(&error) }];
            return Hooked::ALL.into_iter().map(|hooked| missing(hooked, &refused)).collect();
        }
    };
    let in_use = kernel.hooks().iter().map(|hook| (hook.hooked, feature(hook)));
    let unseen = kernel.unseen().iter().map(|it| (it.hooked, missing(it.hooked, &it.refused)));
    let mut all: Vec<_> = in_use.chain(unseen).collect();
    all.sort_by_key(|(hooked, _)| *hooked);
    all.into_iter().map(|(_, feature)| feature).collect()
}

/// The hooks of a run that is under way.
#[must_use]
pub fn in_use(kernel: &Kernel) -> Vec<Feature> {
    let mut in_use: Vec<_> = kernel.hooks().iter().collect();
    in_use.sort_by_key(|hook| hook.hooked);
    in_use.into_iter().map(feature).collect()
}

fn feature(hook: &Hook) -> Feature {
    let rung = hook.rung;
    let mut notes: Vec<String> = rung.notes.iter().map(|&note| note.to_owned()).collect();
    if rung.level == Level::Kprobe {
        notes.push(
            "it is skipped while another kprobe or eBPF program runs on the same CPU; not all of \
             that is counted"
                .to_owned(),
        );
    }
    if rung.is_plain() {
        let counted = match hook.hooked {
            _ if before((6, 7)) => "this kernel does not count that",
            Hooked::State => "counted as lost",
            _ => "counted apart (skipped_calls)",
        };
        notes.push(format!(
            "it is skipped while another eBPF program runs on the same CPU; {counted}"
        ));
    }
    if hook.hooked == Hooked::State && Btf::of_this_kernel().is_err() {
        notes.push(
            "no errno and no network namespace: of failures only port-range-exhausted is told"
                .to_owned(),
        );
    }
    Feature {
        event: hook.hooked.name(),
        rung: Some(rung.name),
        inferred: rung.level == Level::Inferred,
        cost: Some(rung.cost),
        notes,
        refused: hook.refused.clone(),
    }
}
