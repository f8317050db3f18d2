//! A look at the views before training on them: one row per picture, the picture first, then draws of both pipelines.

use byol_model::dataset::Dataset;
use image::{Rgb, RgbImage};

use crate::augment::{Draw, ViewsConfig};
use crate::canvas::Canvas;
use crate::error::{Error, Result};
use crate::resample::Source;

/// What is drawn.
#[derive(Clone, Copy, Debug)]
pub struct GridOptions {
    /// Side of a view in pixels.
    pub size: usize,
    /// Channels of a view: 1 or 3.
    pub channels: usize,
    /// Pictures, evenly picked from the data set: rows of the grid.
    pub pictures: usize,
    /// Draws of each of the two views.
    pub draws: usize,
    /// The seed; the first draw is what a run with this seed sees in its first epoch.
    pub seed: u64,
}

const PAPER: Rgb<u8> = Rgb([255; 3]);
/// Pixels between cells.
const GAP: usize = 4;
/// Pixels between the original, the first views and the second views.
const WIDE_GAP: usize = 16;
/// Cells are enlarged until they are about so wide.
const CELL: usize = 96;

/// Draws the grid: the original, draws of the first view, draws of the second view.
///
/// Views are shown before normalisation, each pixel enlarged to a whole square; small pictures at least three times.
///
/// # Errors
/// [`Error::Operator`]; [`Error::Setting`] for channels other than 1 or 3, or a grid of no pictures;
/// [`Error::Model`] for a picture that cannot be read.
pub fn draw_views(dataset: &Dataset, views: &ViewsConfig, options: GridOptions) -> Result<RgbImage> {
    let GridOptions { size, channels, pictures, draws, seed } = options;
    views.check(size)?;
    if !matches!(channels, 1 | 3) {
        return Err(Error::setting("encoder.channels", channels, "pictures from files have 1 or 3 channels"));
    }
    let rows = pictures.min(dataset.len());
    if rows == 0 || draws == 0 || size == 0 {
        let why = format!("{rows} pictures with {draws} draws of {size} pixels leave nothing to draw");
        return Err(Error::setting("views", rows, why));
    }
    let zoom = if size >= CELL { 1 } else { CELL.div_ceil(size).max(3) };
    let cell = size * zoom;
    let width = cell + 2 * (WIDE_GAP + draws * cell + (draws - 1) * GAP) + 2 * GAP;
    let height = rows * (cell + GAP) + GAP;
    let too_large = || Error::setting("views", rows, format!("a grid of {width} x {height} pixels is too large"));
    if width > 32_768 || height > 32_768 {
        return Err(too_large());
    }
    let mut grid = RgbImage::from_pixel(width as u32, height as u32, PAPER);
    let mut canvas = Canvas::new(channels, size, size);
    let mut plan = Vec::new();
    for row in 0..rows {
        let index = row * dataset.len() / rows;
        let picture = dataset.picture(index)?;
        let pixels = picture.view().packed(channels)?;
        let source = Source { pixels: &pixels, channels, width: picture.width, height: picture.height };
        let top = GAP + row * (cell + GAP);
        // The whole picture in its own shape, centred in the cell.
        let longest = picture.width.max(picture.height);
        let [w, h] = [picture.width, picture.height].map(|side| (side * size / longest).max(1));
        let mut original = Canvas::new(channels, h, w);
        original.paint(source, &[]);
        paste(&mut grid, &original, [h, w], [top + (size - h) * zoom / 2, GAP + (size - w) * zoom / 2], zoom);
        for view in 0..2 {
            let left = GAP + cell + WIDE_GAP + view * (draws * cell + (draws - 1) * GAP + WIDE_GAP);
            for draw in 0..draws {
                // Even numbers are first views, odd ones second views; 0 and 1 are what training sees.
                let draw_of = Draw { seed, epoch: 0, picture: index as u64, view: (2 * draw + view) as u64 };
                views.sample(draw_of, (picture.width, picture.height), size, &mut plan);
                canvas.paint(source, &plan);
                paste(&mut grid, &canvas, [size, size], [top, left + draw * (cell + GAP)], zoom);
            }
        }
    }
    Ok(grid)
}

fn paste(grid: &mut RgbImage, canvas: &Canvas, [height, width]: [usize; 2], [top, left]: [usize; 2], zoom: usize) {
    let planes: Vec<&[f32]> = canvas.planes().chunks_exact(height * width).collect();
    for y in 0..height * zoom {
        for x in 0..width * zoom {
            let at = y / zoom * width + x / zoom;
            let value = |channel: usize| (planes[channel.min(planes.len() - 1)][at] * 255.0).round() as u8;
            grid.put_pixel((left + x) as u32, (top + y) as u32, Rgb([value(0), value(1), value(2)]));
        }
    }
}
