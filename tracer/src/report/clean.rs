//! Text of a capture, made safe to keep and to print: a capture may come from anybody.

use std::{borrow::Cow, sync::Arc};

use crate::{
    capture::content::{End, Header, Sysctls},
    check::Judged,
    event::is_inert,
    live::listing::Listing,
};

/// Most characters of a text that are kept.
const MAX_TEXT: usize = 2000;
/// Most texts of a list that are kept.
const MAX_TEXTS: usize = 100;
/// Most findings of a sample: some more than [`Listing::of`] leaves.
const MAX_GAUGES: usize = 1000;
/// Most users, or callers whose calls failed, that a finding names.
const MAX_WHO: usize = 100;

/// A text with everything made visible that a terminal could take for a command; one that is too long is cut.
fn clean(text: &str) -> Option<String> {
    // A backslash is what such characters were made visible with.
    let shown = |character: char| is_inert(character) || character == '\\';
    if text.len() <= MAX_TEXT && text.chars().all(shown) {
        return None;
    }
    let mut clean = String::new();
    for character in text.chars().take(MAX_TEXT) {
        if shown(character) {
            clean.push(character);
        } else {
            clean.extend(character.escape_unicode());
        }
    }
    Some(clean)
}

fn text(text: &mut String) {
    if let Some(clean) = clean(text) {
        *text = clean;
    }
}

fn texts(list: &mut Vec<String>) {
    list.truncate(MAX_TEXTS);
    list.iter_mut().for_each(text);
}

/// Makes the header's names inert.
pub(super) fn header(header: &mut Header) {
    for name in [&mut header.socklife, &mut header.host, &mut header.boot_id, &mut header.kernel] {
        text(name);
    }
    [&mut header.machine, &mut header.started, &mut header.zone].into_iter().for_each(text);
    texts(&mut header.arguments);
    texts(&mut header.unseen);
    header.trigger.iter_mut().for_each(text);
    header.hooks.truncate(MAX_TEXTS);
    for hook in &mut header.hooks {
        for name in [&mut hook.event, &mut hook.rung, &mut hook.cost] {
            cow(name);
        }
        texts(&mut hook.notes);
    }
}

fn cow(text: &mut Cow<'static, str>) {
    if let Some(clean) = clean(text) {
        *text = Cow::Owned(clean);
    }
}

/// Makes the end's words inert.
pub(super) fn end(end: &mut End) {
    text(&mut end.why);
}

/// Makes names and values of settings inert.
pub(super) fn sysctls(sysctls: &mut Sysctls) {
    let clean_map = |map: &mut std::collections::BTreeMap<String, String>| {
        let cleaned = std::mem::take(map).into_iter().take(MAX_TEXTS);
        *map = cleaned
            .map(|(mut name, mut value)| {
                text(&mut name);
                text(&mut value);
                (name, value)
            })
            .collect();
    };
    clean_map(&mut sysctls.host);
    sysctls.namespaces.truncate(MAX_GAUGES);
    for namespace in &mut sysctls.namespaces {
        namespace.path.iter_mut().for_each(text);
        clean_map(&mut namespace.sysctls);
    }
}

/// Makes what a sample says inert.
pub(super) fn listing(listing: &mut Listing) {
    listing.gauges.truncate(MAX_GAUGES);
    for gauge in &mut listing.gauges {
        if !is_clean(gauge) {
            judged(Arc::make_mut(gauge));
        }
    }
    texts(&mut listing.unseen);
}

fn is_clean(Judged { ceiling, .. }: &Judged) -> bool {
    let lists = [&ceiling.remedy, &ceiling.notes];
    let basis = ceiling.forecast.as_ref().map_or("", |forecast| forecast.basis.as_str());
    lists.iter().all(|list| list.len() <= MAX_TEXTS && list.iter().all(|it| clean(it).is_none()))
        && [&*ceiling.evidence, basis].into_iter().all(|it| clean(it).is_none())
        && ceiling.who.len() <= MAX_WHO
        && ceiling.passing.ages_s.is_empty()
        && ceiling.failures.len() <= MAX_TEXTS
        && ceiling.failures.iter().all(|failed| failed.who.len() <= MAX_WHO)
}

fn judged(Judged { ceiling, .. }: &mut Judged) {
    texts(&mut ceiling.remedy);
    texts(&mut ceiling.notes);
    cow(&mut ceiling.evidence);
    ceiling.forecast.iter_mut().for_each(|forecast| text(&mut forecast.basis));
    ceiling.who.truncate(MAX_WHO);
    ceiling.passing.ages_s = Vec::new();
    ceiling.failures.truncate(MAX_TEXTS);
    ceiling.failures.iter_mut().for_each(|failed| failed.who.truncate(MAX_WHO));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ceilings::{Ceiling, Subject, thresholds::Status};

    #[test]
    fn hostile_text_of_a_sample_is_made_visible_and_cut() {
        let mut ceiling = Ceiling::new(Subject::Host, 1, 2);
        ceiling.remedy = vec!["\x1b[2Jrm".to_owned(), "a".repeat(1 << 20)];
        ceiling.evidence = Cow::Borrowed("a\u{202e}b");
        let status = Status::Ok;
        let mut hostile = Listing {
            gauges: std::iter::repeat_n(Arc::new(Judged { ceiling, status }), 2 * MAX_GAUGES)
                .collect(),
            unseen: vec!["\n".to_owned()],
            ..Listing::default()
        };
        listing(&mut hostile);
        assert_eq!(hostile.gauges.len(), MAX_GAUGES);
        let ceiling = &hostile.gauges[0].ceiling;
        assert_eq!(ceiling.remedy[0], "\\u{1b}[2Jrm");
        assert_eq!(ceiling.remedy[1].len(), MAX_TEXT);
        assert_eq!(ceiling.evidence, "a\\u{202e}b");
        assert_eq!(hostile.unseen, ["\\u{a}"]);
        assert!(is_clean(&hostile.gauges[0]), "nothing is left to do");
    }

    #[test]
    fn what_was_made_visible_before_stays() {
        let mut before = "comm \\u{1b}[31m".to_owned();
        text(&mut before);
        assert_eq!(before, "comm \\u{1b}[31m");
    }
}
