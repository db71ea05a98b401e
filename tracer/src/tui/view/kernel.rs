//! How all this is known: hooks and what they cost, what was lost, our own consumption, what is not seen.

use super::doc::Doc;
use crate::{
    human::thousands,
    live::shot::{Ground, Shot},
    sink::text::{span, told},
    tui::{
        columns::{self, is_lossy},
        model::Model,
        text::bytes,
        theme::Tone,
    },
};

/// Writes it.
pub(in crate::tui) fn write(model: &Model, doc: &mut Doc) {
    let Some(shot) = model.shot() else {
        doc.text(super::nothing_yet(model), Tone::Plain);
        return;
    };
    let ground = &shot.ground;
    if let Some(why) = &ground.blind {
        doc.toned("no events", why, Tone::Warning);
    } else {
        let (per_s, all) = (columns::rate(ground.events_per_s), thousands(ground.events));
        doc.row("events", &format!("{per_s} a second, {all} since the start"));
    }
    if let Some(replay) = &model.replay
        && let Some(flaw) = &replay.flaw
    {
        doc.toned("recording", flaw, Tone::Bad);
    }
    lost(shot, doc);
    match &ground.recorded {
        Some(recorded) => {
            doc.row("recorded", &recorded.about);
            doc.row("listing", &format!("sockets and open files: {}", listed(shot)));
        }
        None => ourselves(shot, doc),
    }
    hooks(ground, doc);
    if !shot.unseen.is_empty() {
        doc.title("not seen");
        for what in shot.unseen.iter() {
            doc.beside("", 1, what, Tone::Plain);
        }
    }
}

fn lost(shot: &Shot, doc: &mut Doc) {
    let ground = &shot.ground;
    if ground.blind.is_none() && !is_lossy(shot) && ground.lost.owners == 0 {
        doc.row("lost", "none");
    }
    for line in told(&ground.lost) {
        doc.toned("lost", &line, Tone::Bad);
    }
    if ground.losing {
        doc.toned("", "more every second: figures with + are at least that", Tone::Bad);
    }
    if ground.unlisted > 0 {
        let text =
            format!("{} failures are in totals only: too many rows", thousands(ground.unlisted));
        doc.toned("no room", &text, Tone::Warning);
    }
}

fn ourselves(shot: &Shot, doc: &mut Doc) {
    let ground = &shot.ground;
    doc.row(
        "we use",
        &format!(
            "{:.1} % of a processor, {} of memory",
            ground.cpu_percent,
            bytes(ground.resident)
        ),
    );
    doc.row("listing", &format!("sockets and open files: {}", listed(shot)));
    let (last, longest) = ground.frame_us;
    doc.row(
        "frame",
        &format!(
            "took {}, longest of the last minute {}, of processor time",
            span(last * 1000),
            span(longest * 1000)
        ),
    );
}

fn listed(shot: &Shot) -> String {
    let ground = &shot.ground;
    let Some(listed_ns) = shot.listed_ns else { return "not yet".to_owned() };
    let age = span(shot.at_ns.saturating_sub(listed_ns));
    // How often is not in a capture.
    match &ground.recorded {
        Some(_) => format!("took {:.1} ms, {age} before", ground.listing_ms),
        None => format!(
            "every {:.1} s, takes {:.1} ms, was {age} ago",
            ground.listing_every_s, ground.listing_ms
        ),
    }
}

fn hooks(ground: &Ground, doc: &mut Doc) {
    if !ground.hooks.is_empty() {
        doc.title("hooks in use");
    }
    for hook in ground.hooks.iter() {
        let mark = if hook.inferred { "~ " } else { "" };
        doc.beside(&hook.event, 14, &format!("{mark}{}", hook.rung), Tone::Plain);
        doc.beside("", 14, &format!("cost: {}", hook.cost), Tone::Quiet);
        for note in &hook.notes {
            doc.beside("", 14, note, Tone::Quiet);
        }
    }
    if !ground.unhooked.is_empty() {
        doc.title("no hook on this kernel: figures of these are missing, or have a +");
        for (event, why) in ground.unhooked.iter() {
            doc.beside("", 1, event, Tone::Warning);
            doc.beside("", 3, why, Tone::Quiet);
        }
    }
}
