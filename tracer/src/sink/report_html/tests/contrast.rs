//! The contrast of every colour in the style, by the formulas of WCAG 2.2, in both themes.

use std::collections::{BTreeMap, BTreeSet};

use super::super::STYLE;

/// Custom properties that are colours, by name.
type Colours = BTreeMap<String, [u8; 3]>;

/// What is between `before` and the next brace.
fn block<'a>(css: &'a str, before: &str) -> &'a str {
    let start = css.find(before).unwrap() + before.len();
    let end = css[start..].find('}').unwrap();
    &css[start..start + end]
}

fn colours(block: &str) -> Colours {
    let declarations = block.split(';').filter_map(|it| it.trim().split_once(':'));
    let colours = declarations.map(|(name, value)| {
        let hex = value.trim().strip_prefix('#').unwrap();
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (name.to_owned(), [byte(0), byte(2), byte(4)])
    });
    colours.collect()
}

fn themes() -> [Colours; 2] {
    let dark = &STYLE[STYLE.find("(prefers-color-scheme: dark)").unwrap()..];
    [colours(block(STYLE, ":root {")), colours(block(dark, ":root {"))]
}

fn luminance(colour: [u8; 3]) -> f64 {
    let linear = colour.map(|channel| {
        let share = f64::from(channel) / 255.0;
        if share <= 0.04045 { share / 12.92 } else { ((share + 0.055) / 1.055).powf(2.4) }
    });
    0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
}

fn contrast(a: [u8; 3], b: [u8; 3]) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

/// Colours that a property is given anywhere.
fn used(property: &str) -> BTreeSet<String> {
    let declarations = STYLE.split(['{', '}', ';']).filter_map(|it| it.trim().split_once(':'));
    let these = declarations.filter(|(name, _)| name.trim() == property);
    let colours =
        these.filter_map(|(_, value)| value.trim().strip_prefix("var(")?.strip_suffix(')'));
    colours.map(str::to_owned).collect()
}

#[test]
fn every_colour_can_be_read_on_every_ground_in_both_themes() {
    let (grounds, texts) = (used("background"), used("color"));
    let mut shapes: BTreeSet<_> = used("stroke").union(&used("fill")).cloned().collect();
    // Lines of the grid only help; textures are holes in an area.
    assert!(shapes.remove("--line") && shapes.remove("--surface"));
    assert!(
        grounds.len() >= 2 && texts.len() >= 6 && shapes.len() >= 8,
        "{grounds:?} {texts:?} {shapes:?}"
    );
    for theme in themes() {
        for (colours, least) in [(&texts, 4.5), (&shapes, 3.0)] {
            for (colour, ground) in
                colours.iter().flat_map(|it| grounds.iter().map(move |g| (it, g)))
            {
                let found = contrast(theme[colour], theme[ground]);
                assert!(found >= least, "{colour} on {ground}: {found:.2}");
            }
        }
        // Neighbours in a stack are parted by a line in the ground's colour, which their contrast to it shows.
        assert!(contrast(theme["--warn"], theme["--surface"]) >= 3.0);
    }
}

#[test]
fn all_colours_are_in_the_two_themes() {
    let [light, dark] = themes();
    assert!(light.keys().eq(dark.keys()));
    let rest = &STYLE[STYLE.find("* { box-sizing").unwrap()..];
    assert!(!rest.contains('#'), "a colour of its own");
    let known = light.keys().map(String::as_str);
    let known: BTreeSet<_> = known.collect();
    for name in rest.split("var(").skip(1).map(|it| it.split(')').next().unwrap()) {
        assert!(known.contains(name), "{name}");
    }
}

#[test]
fn contrast_is_computed_as_it_is_defined() {
    assert!((contrast([0; 3], [255; 3]) - 21.0).abs() < 0.001);
    assert!((contrast([0x77; 3], [255; 3]) - 4.478).abs() < 0.001);
}
