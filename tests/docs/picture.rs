//! The picture in the README, for readers on small screens and on dark ones.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::fs;

use support::package;

/// Width of a telephone, in pixels.
const TELEPHONE: f64 = 420.0;

/// Smallest legible text there, in pixels.
const LEGIBLE: f64 = 10.0;

/// Returns the number after each `before` in the text.
fn numbers(text: &str, before: &str) -> Vec<f64> {
    let number = |part: &str| {
        let end = part.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap();
        part[..end].parse().unwrap()
    };
    text.split(before).skip(1).map(number).collect()
}

#[test]
fn the_picture_can_be_read_on_a_telephone_and_in_the_dark() {
    let picture = fs::read_to_string(package().join("docs/bench.svg")).unwrap();
    let (style, drawing) = picture.split_once("</style>").unwrap();
    let width = numbers(&picture, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"")[0];
    let sizes = [numbers(style, "font: "), numbers(style, "font-size: ")].concat();
    assert!(sizes.len() > 2, "{style}");
    for size in sizes {
        assert!(size * (TELEPHONE / width).min(1.0) >= LEGIBLE, "{size} of {width}");
    }
    let (light, dark) = style.split_once("@media (prefers-color-scheme: dark)").unwrap();
    for text in ["text { ", "rect { ", "rect.ours { ", ".faint { ", "line { "] {
        assert!(light.contains(text) && dark.contains(text), "{text}");
    }
    assert!(drawing.matches("<rect").count() > 20, "there is nothing to see");
    // Each has its colour from the style, and nothing covers the page's own.
    assert!(drawing.contains("<text") && !drawing.contains("fill=") && !drawing.contains("style="));
}
