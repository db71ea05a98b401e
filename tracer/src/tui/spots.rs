//! The rows of the overview: what fails, a ceiling of each kind, and further ones that need a look.

use super::{
    columns::Sight,
    model::{Model, Spot, Which},
};
use crate::{
    ceilings::{Kind, thresholds::Status},
    live::shot::{Gauge, Shot},
    sink::check_text,
};

/// Ceilings of a moment, as the overview lists them.
pub(super) struct Ceilings<'a> {
    /// The worst of each kind, where there is one.
    pub(super) kinds: Vec<(Kind, Option<&'a Gauge>)>,
    /// Others that need a look; with a filter all that match it.
    pub(super) further: Vec<&'a Gauge>,
}

impl<'a> Ceilings<'a> {
    pub(super) fn of(shot: &'a Shot, filter: &str, sight: Sight) -> Self {
        let words: Vec<String> = filter.split_whitespace().map(str::to_lowercase).collect();
        let wanted = |gauge: &&Gauge| {
            let text = || check_text::headline(&gauge.judged.ceiling, sight.own_netns);
            words.is_empty() || has_all(&text().to_lowercase(), &words)
        };
        let mut rest: Vec<&Gauge> = shot.gauges.iter().filter(wanted).collect();
        let kinds = Kind::ALL.into_iter().map(|kind| {
            let at = rest.iter().position(|g| g.judged.ceiling.subject.kind() == kind);
            (kind, at.map(|at| rest.remove(at)))
        });
        let mut kinds: Vec<_> = kinds.collect();
        let status = |gauge: &Gauge| gauge.judged.status;
        // What needs a look first, each kind in its place otherwise.
        kinds.sort_by_key(|(_, gauge)| std::cmp::Reverse(gauge.map(status)));
        if words.is_empty() {
            rest.retain(|gauge| gauge.judged.status != Status::Ok);
        }
        Self { kinds, further: rest }
    }

    /// All of them, as they are listed.
    pub(super) fn all(&self) -> impl Iterator<Item = &'a Gauge> {
        self.kinds.iter().filter_map(|(_, gauge)| *gauge).chain(self.further.iter().copied())
    }
}

/// Whether a lower-case text has all of these words.
fn has_all(text: &str, words: &[String]) -> bool {
    words.iter().all(|word| text.contains(word))
}

/// What can be selected in the overview, from above.
pub(super) fn spots(model: &Model) -> Vec<Spot> {
    let Some(shot) = model.shot() else { return Vec::new() };
    let ceilings = Ceilings::of(shot, &model.ceiling_filter, model.sight());
    let incidents = (0..shot.incidents.len()).filter_map(|at| Which::of(&shot.incidents, at));
    let incidents = incidents.map(Spot::Incident);
    let gauges = ceilings.all().map(|gauge| Spot::Ceiling(gauge.judged.ceiling.subject.clone()));
    incidents.chain(gauges).collect()
}

/// Place of the selected one.
pub(super) fn at(model: &Model, spots: &[Spot]) -> usize {
    let is_it = |spot: &Spot| Some(spot) == model.spot.as_ref();
    spots.iter().position(is_it).unwrap_or(0)
}
