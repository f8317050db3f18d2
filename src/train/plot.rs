//! A run in one picture: loss, learning rate with tau, and k-NN accuracy over steps.
//!
//! Drawn with a typeface that is part of the program, so that it looks the same on a machine without any fonts.

use std::ops::Range;
use std::path::Path;
use std::sync::Once;

use image::RgbImage;
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use serde::Deserialize;

use crate::error::{Error, Result};

/// One line of `metrics.jsonl`, as far as it is plotted; other keys are passed over.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Point {
    /// Optimiser steps done.
    pub step: u64,
    /// The loss of the step, or the mean since the line before.
    #[serde(default)]
    pub loss: Option<f64>,
    /// Learning rate.
    #[serde(default)]
    pub learning_rate: Option<f64>,
    /// Decay of the target network's average.
    #[serde(default)]
    pub tau: Option<f64>,
    /// Top-1 of the nearest neighbours, 0..1.
    #[serde(default)]
    pub knn: Option<f64>,
}

/// Size of the picture in pixels.
const SIZE: (u32, u32) = (1200, 1080);
const TYPEFACE: &str = "byol";
const BLUE: RGBColor = RGBColor(31, 96, 168);
const ORANGE: RGBColor = RGBColor(214, 108, 20);
const GREEN: RGBColor = RGBColor(38, 128, 66);
const INK: RGBColor = RGBColor(60, 60, 60);

/// Reads the lines of `metrics.jsonl`. A last line without an end, as a killed run leaves, is passed over.
///
/// # Errors
/// [`Error::Io`]; [`Error::Data`] naming the line that is no JSON object with a step.
pub fn read_metrics(path: &Path) -> Result<Vec<Point>> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let mut points = Vec::new();
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        match serde_json::from_str(line) {
            Ok(point) => points.push(point),
            Err(_) if !line.ends_with('\n') => {}
            Err(e) => {
                return Err(Error::Data { path: path.to_owned(), why: format!("line {}: {e}", number + 1) });
            }
        }
    }
    Ok(points)
}

/// Draws three panels over the same steps. A panel without values says so.
///
/// # Errors
/// [`Error::Data`] if the drawing library refuses, which it has no reason to.
pub fn plot_run(points: &[Point], title: &str) -> Result<RgbImage> {
    let failed = |why: String| Error::Data { path: "plot".into(), why };
    register_typeface();
    let mut pixels = vec![255; (SIZE.0 * SIZE.1 * 3) as usize];
    draw(points, title, &mut pixels).map_err(|e| failed(e.to_string()))?;
    RgbImage::from_raw(SIZE.0, SIZE.1, pixels).ok_or_else(|| failed("the picture has no pixels".into()))
}

type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;
type Panel<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

fn draw(points: &[Point], title: &str, pixels: &mut [u8]) -> Drawn {
    let root = BitMapBackend::with_buffer(pixels, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let root = root.margin(12, 8, 8, 8).titled(title, (TYPEFACE, 26).into_font().color(&INK))?;
    let last = points.iter().map(|p| p.step).max().unwrap_or(0).max(1);
    let pick = |of: fn(&Point) -> Option<f64>| -> Vec<(f64, f64)> {
        let finite = points.iter().filter_map(|p| Some((p.step as f64, of(p).filter(|v| v.is_finite())?)));
        finite.collect()
    };
    let [loss, rate, knn] = root.split_evenly((3, 1)).try_into().map_err(|_| "three panels")?;
    let (losses, rates, taus, knns) = (pick(|p| p.loss), pick(|p| p.learning_rate), pick(|p| p.tau), pick(|p| p.knn));
    draw_loss(&loss, last as f64, &losses)?;
    draw_rate(&rate, last as f64, &rates, &taus)?;
    draw_knn(&knn, last as f64, &knns)?;
    root.present()?;
    Ok(())
}

fn draw_loss(panel: &Panel<'_>, last: f64, values: &[(f64, f64)]) -> Drawn {
    let mut chart = chart_of(panel).build_cartesian_2d(0.0..last, range(values))?;
    mesh(&mut chart, if values.is_empty() { "loss (no values)" } else { "loss" }, None)?;
    chart.draw_series(LineSeries::new(values.iter().copied(), BLUE.mix(0.3)))?;
    // The line that the eye looks for: a mean over a fiftieth of the run.
    let reach = (values.len() / 100).max(1);
    let smooth = (0..values.len()).map(|i| {
        let near = &values[i.saturating_sub(reach)..(i + reach + 1).min(values.len())];
        (values[i].0, near.iter().map(|v| v.1).sum::<f64>() / near.len() as f64)
    });
    chart.draw_series(LineSeries::new(smooth, BLUE.stroke_width(2)))?;
    Ok(())
}

fn draw_rate(panel: &Panel<'_>, last: f64, rates: &[(f64, f64)], taus: &[(f64, f64)]) -> Drawn {
    let mut chart =
        chart_of(panel).build_cartesian_2d(0.0..last, range(rates))?.set_secondary_coord(0.0..last, range(taus));
    mesh(&mut chart, if rates.is_empty() { "learning rate (no values)" } else { "learning rate" }, None)?;
    chart
        .configure_secondary_axes()
        .y_desc(if taus.is_empty() { "tau (no values)" } else { "tau" })
        .y_label_formatter(&|v| number(*v))
        .label_style((TYPEFACE, 16).into_font().color(&ORANGE))
        .axis_style(INK.mix(0.5))
        .draw()?;
    chart.draw_series(LineSeries::new(rates.iter().copied(), BLUE.stroke_width(2)))?;
    chart.draw_secondary_series(LineSeries::new(taus.iter().copied(), ORANGE.stroke_width(2)))?;
    Ok(())
}

fn draw_knn(panel: &Panel<'_>, last: f64, values: &[(f64, f64)]) -> Drawn {
    let mut chart = chart_of(panel).build_cartesian_2d(0.0..last, range(values))?;
    mesh(&mut chart, if values.is_empty() { "k-NN top-1 (no values)" } else { "k-NN top-1" }, Some("step"))?;
    chart.draw_series(LineSeries::new(values.iter().copied(), GREEN.stroke_width(2)))?;
    chart.draw_series(values.iter().map(|&point| Circle::new(point, 4, GREEN.filled())))?;
    Ok(())
}

type Chart<'a, 'b> = ChartContext<'a, BitMapBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

fn chart_of<'a, 'b>(panel: &'a Panel<'b>) -> ChartBuilder<'a, 'b, BitMapBackend<'b>> {
    let mut builder = ChartBuilder::on(panel);
    builder.margin(10).margin_right(24).set_label_area_size(LabelAreaPosition::Left, 90);
    // Room for the axis of tau in all three, so that steps stand above one another.
    builder.set_label_area_size(LabelAreaPosition::Right, 80).set_label_area_size(LabelAreaPosition::Bottom, 44);
    builder
}

fn mesh(chart: &mut Chart<'_, '_>, values: &str, steps: Option<&str>) -> Drawn {
    chart
        .configure_mesh()
        .y_desc(values)
        .x_desc(steps.unwrap_or_default())
        .x_label_formatter(&|v| format!("{v:.0}"))
        .y_label_formatter(&|v| number(*v))
        .label_style((TYPEFACE, 16).into_font().color(&INK))
        .axis_desc_style((TYPEFACE, 18).into_font().color(&INK))
        .axis_style(INK.mix(0.5))
        .bold_line_style(INK.mix(0.15))
        .light_line_style(WHITE)
        .draw()?;
    Ok(())
}

/// The values with a little room; never empty, whatever they are.
fn range(values: &[(f64, f64)]) -> Range<f64> {
    let low = values.iter().map(|v| v.1).fold(f64::INFINITY, f64::min);
    let high = values.iter().map(|v| v.1).fold(f64::NEG_INFINITY, f64::max);
    if low > high {
        return 0.0..1.0;
    }
    let room = if high > low { 0.05 * (high - low) } else { 0.1 * low.abs().max(1e-3) };
    low - room..high + room
}

/// As many digits as tell neighbouring ticks apart, and no more.
fn number(value: f64) -> String {
    let text = if value != 0.0 && value.abs() < 1e-3 { format!("{value:.1e}") } else { format!("{value:.4}") };
    if text.contains('e') { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

fn register_typeface() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // The bytes are a font of a published crate: were they none, letters would be missing and nothing else.
        let _ = plotters::style::register_font(TYPEFACE, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_any_values_and_one_that_is_flat_are_drawn() {
        for points in [vec![], vec![Point { step: 3, loss: Some(1.0), knn: Some(f64::NAN), ..Point::default() }]] {
            let picture = plot_run(&points, "empty").unwrap();
            assert_eq!(picture.dimensions(), SIZE);
            assert!(picture.pixels().any(|p| p.0 != [255; 3]), "axes and letters are drawn");
        }
    }
}
