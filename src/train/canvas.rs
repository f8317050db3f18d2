//! The picture that a plan of augmentations is carried out on: float planes in 0..1, changed in place.
//!
//! One canvas per thread, used again for every picture. All arithmetic is written so that the compiler can use the
//! widest vectors the machine has, and so that it must not change the order of any sum: the same plan gives the same
//! bits on every machine of one architecture.

use std::f32::consts::PI;

use pulp::NullaryFnOnce;

use crate::augment::Sampled;
use crate::resample::{Cut, Resampler, Source};

/// Planes of one picture and the memory that operators need.
pub struct Canvas {
    channels: usize,
    height: usize,
    width: usize,
    planes: Vec<f32>,
    spare: Vec<f32>,
    resampler: Resampler,
    arch: pulp::Arch,
}

impl Canvas {
    /// A black canvas.
    pub fn new(channels: usize, height: usize, width: usize) -> Canvas {
        let planes = vec![0.0; channels * height * width];
        let (spare, resampler, arch) = (Vec::new(), Resampler::default(), pulp::Arch::new());
        Canvas { channels, height, width, planes, spare, resampler, arch }
    }

    /// The pixels, channels x height x width.
    pub fn planes(&self) -> &[f32] {
        &self.planes
    }

    /// The pixels, to be set by hand.
    pub fn planes_mut(&mut self) -> &mut [f32] {
        &mut self.planes
    }

    /// Carries out the plan on a picture, starting from the whole of it where the plan does not begin with a crop.
    ///
    /// # Panics
    /// If the source's channels are not the canvas's, or its pixels are fewer than it says.
    pub fn paint(&mut self, source: Source<'_>, plan: &[Sampled]) {
        assert_eq!(source.channels, self.channels, "a picture must be brought to the canvas's channels first");
        let arch = self.arch;
        arch.dispatch(Paint { canvas: self, source, plan });
    }

    /// Carries out one operation on the pixels as they are. A crop needs a source: here it does nothing.
    pub fn apply(&mut self, operation: Sampled) {
        let arch = self.arch;
        arch.dispatch(Apply { canvas: self, operation });
    }

    /// Writes (pixel - mean) / std of each channel to `out`, channels x height x width.
    pub fn normalise_into(&self, mean: &[f32], std: &[f32], out: &mut [f32]) {
        let area = self.height * self.width;
        for (channel, (out, plane)) in out.chunks_exact_mut(area).zip(self.planes.chunks_exact(area)).enumerate() {
            let (mean, scale) = (mean[channel], 1.0 / std[channel]);
            for (out, value) in out.iter_mut().zip(plane) {
                *out = (value - mean) * scale;
            }
        }
    }

    #[inline(always)]
    fn paint_here(&mut self, source: Source<'_>, plan: &[Sampled]) {
        let (cut, rest) = Cut::of(plan, source.width, source.height);
        self.resampler.resample(source, cut, self.height, self.width, &mut self.planes);
        for &operation in rest {
            self.apply_here(operation);
        }
    }

    #[inline(always)]
    fn apply_here(&mut self, operation: Sampled) {
        match operation {
            Sampled::Crop { .. } => {}
            Sampled::FlipHorizontal => self.planes.chunks_exact_mut(self.width).for_each(<[f32]>::reverse),
            Sampled::FlipVertical => self.flip_vertical(),
            Sampled::Rotate(degrees) => self.rotate(degrees),
            Sampled::Shift { right, down } => self.shift(right, down),
            Sampled::Brightness(factor) => {
                for value in &mut self.planes {
                    *value = (*value * factor).clamp(0.0, 1.0);
                }
            }
            Sampled::Contrast(factor) => {
                let base = (1.0 - factor) * self.mean_gray();
                for value in &mut self.planes {
                    *value = (factor * *value + base).clamp(0.0, 1.0);
                }
            }
            Sampled::Saturation(factor) => {
                if let Some([red, green, blue]) = colours(self.channels, &mut self.planes) {
                    for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
                        let base = (1.0 - factor) * gray(*r, *g, *b);
                        *r = (factor * *r + base).clamp(0.0, 1.0);
                        *g = (factor * *g + base).clamp(0.0, 1.0);
                        *b = (factor * *b + base).clamp(0.0, 1.0);
                    }
                }
            }
            Sampled::Hue(turn) => {
                if let Some([red, green, blue]) = colours(self.channels, &mut self.planes) {
                    for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
                        (*r, *g, *b) = turn_hue(*r, *g, *b, turn);
                    }
                }
            }
            Sampled::Grayscale => {
                if let Some([red, green, blue]) = colours(self.channels, &mut self.planes) {
                    for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
                        let gray = gray(*r, *g, *b);
                        (*r, *g, *b) = (gray, gray, gray);
                    }
                }
            }
            Sampled::Blur { kernel, sigma } => self.blur(kernel, sigma),
            Sampled::Solarize(threshold) => {
                for value in &mut self.planes {
                    *value = if *value >= threshold { 1.0 - *value } else { *value };
                }
            }
        }
    }

    #[inline(always)]
    fn flip_vertical(&mut self) {
        for plane in self.planes.chunks_exact_mut(self.height * self.width) {
            let mut rows = plane.chunks_exact_mut(self.width);
            while let (Some(upper), Some(lower)) = (rows.next(), rows.next_back()) {
                upper.swap_with_slice(lower);
            }
        }
    }

    /// torchvision's `rotate` with bilinear interpolation and zeros outside.
    #[inline(always)]
    fn rotate(&mut self, degrees: f32) {
        let (height, width) = (self.height, self.width);
        let (sin, cos) = (-degrees * (PI / 180.0)).sin_cos();
        let (half_w, half_h) = ((width as f32 - 1.0) * 0.5, (height as f32 - 1.0) * 0.5);
        std::mem::swap(&mut self.planes, &mut self.spare);
        self.planes.resize(self.spare.len(), 0.0);
        for y in 0..height {
            let v = y as f32 - half_h;
            for x in 0..width {
                let u = x as f32 - half_w;
                let (from_x, from_y) = (cos * u + sin * v + half_w, cos * v - sin * u + half_h);
                let (x0, y0) = (from_x.floor(), from_y.floor());
                let (fx, fy) = (from_x - x0, from_y - y0);
                let (x0, y0) = (x0 as isize, y0 as isize);
                let corners = [
                    (x0, y0, (1.0 - fx) * (1.0 - fy)),
                    (x0 + 1, y0, fx * (1.0 - fy)),
                    (x0, y0 + 1, (1.0 - fx) * fy),
                    (x0 + 1, y0 + 1, fx * fy),
                ];
                for channel in 0..self.channels {
                    let plane = &self.spare[channel * height * width..][..height * width];
                    let mut sum = 0.0;
                    for (x, y, weight) in corners {
                        if (0..width as isize).contains(&x) && (0..height as isize).contains(&y) {
                            sum += weight * plane[y as usize * width + x as usize];
                        }
                    }
                    self.planes[(channel * height + y) * width + x] = sum;
                }
            }
        }
    }

    #[inline(always)]
    fn shift(&mut self, right: i32, down: i32) {
        let (height, width) = (self.height as i32, self.width as i32);
        std::mem::swap(&mut self.planes, &mut self.spare);
        self.planes.clear();
        self.planes.resize(self.spare.len(), 0.0);
        let (from, to) = (0.max(-right).min(width), 0.max(right).min(width));
        let run = (width - right.abs()).max(0);
        for channel in 0..self.channels as i32 {
            for y in 0.max(down)..height.min(height + down) {
                let target = ((channel * height + y) * width + to) as usize;
                let source = ((channel * height + y - down) * width + from) as usize;
                self.planes[target..][..run as usize].copy_from_slice(&self.spare[source..][..run as usize]);
            }
        }
    }

    /// Rows, then columns, with a mirrored border that does not repeat the edge (torchvision's "reflect").
    #[inline(always)]
    fn blur(&mut self, kernel: usize, sigma: f32) {
        let weights = gaussian(kernel, sigma);
        let radius = weights.len() - 1;
        if radius == 0 {
            return;
        }
        let (height, width) = (self.height, self.width);
        self.spare.clear();
        self.spare.resize(height * width + width + 2 * radius, 0.0);
        let (mixed, padded) = self.spare.split_at_mut(height * width);
        for plane in self.planes.chunks_exact_mut(height * width) {
            for y in 0..height {
                let out = &mut mixed[y * width..][..width];
                let row = |y: isize| &plane[mirror(y, height) * width..][..width];
                for (out, value) in out.iter_mut().zip(row(y as isize)) {
                    *out = weights[0] * value;
                }
                for (distance, &w) in weights.iter().enumerate().skip(1) {
                    let (above, below) = (row(y as isize - distance as isize), row(y as isize + distance as isize));
                    for ((out, a), b) in out.iter_mut().zip(above).zip(below) {
                        *out += w * (a + b);
                    }
                }
            }
            for (row, out) in mixed.chunks_exact(width).zip(plane.chunks_exact_mut(width)) {
                padded[radius..radius + width].copy_from_slice(row);
                for distance in 1..=radius {
                    padded[radius - distance] = row[mirror(-(distance as isize), width)];
                    padded[radius + width - 1 + distance] = row[mirror((width - 1 + distance) as isize, width)];
                }
                for (out, value) in out.iter_mut().zip(row) {
                    *out = weights[0] * value;
                }
                for (distance, &w) in weights.iter().enumerate().skip(1) {
                    let (left, right) = (&padded[radius - distance..], &padded[radius + distance..]);
                    for ((out, a), b) in out.iter_mut().zip(left).zip(right) {
                        *out += w * (a + b);
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn mean_gray(&self) -> f32 {
        let area = self.height * self.width;
        let total = if self.channels == 3 {
            let (red, rest) = self.planes.split_at(area);
            let (green, blue) = rest.split_at(area);
            0.2989 * sum(red) + 0.587 * sum(green) + 0.114 * sum(blue)
        } else {
            sum(&self.planes) / self.channels as f64
        };
        (total / area as f64) as f32
    }
}

struct Paint<'a> {
    canvas: &'a mut Canvas,
    source: Source<'a>,
    plan: &'a [Sampled],
}

impl NullaryFnOnce for Paint<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.canvas.paint_here(self.source, self.plan);
    }
}

struct Apply<'a> {
    canvas: &'a mut Canvas,
    operation: Sampled,
}

impl NullaryFnOnce for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.canvas.apply_here(self.operation);
    }
}

/// The three planes of a colour picture; none for other numbers of channels.
#[inline(always)]
fn colours(channels: usize, planes: &mut [f32]) -> Option<[&mut [f32]; 3]> {
    if channels != 3 {
        return None;
    }
    let (red, rest) = planes.split_at_mut(planes.len() / 3);
    let (green, blue) = rest.split_at_mut(rest.len() / 2);
    Some([red, green, blue])
}

#[inline(always)]
fn gray(red: f32, green: f32, blue: f32) -> f32 {
    0.2989 * red + 0.587 * green + 0.114 * blue
}

/// Without branches: hue, saturation, value, and back by the form in which each channel is one formula of the hue.
#[inline(always)]
fn turn_hue(r: f32, g: f32, b: f32, turn: f32) -> (f32, f32, f32) {
    let (value, least) = (max(r, max(g, b)), min(r, min(g, b)));
    let chroma = value - least;
    let divisor = if chroma == 0.0 { 1.0 } else { chroma };
    let (from_red, from_green, from_blue) = ((g - b) / divisor, 2.0 + (b - r) / divisor, 4.0 + (r - g) / divisor);
    let sixths = if value == g { from_green } else { from_blue };
    let sixths = if value == r { from_red } else { sixths };
    let sixths = sixths + 6.0 * turn;
    let channel = |offset: f32| {
        let k = sixths + offset;
        let k = k - 6.0 * (k / 6.0).floor();
        value - chroma * max(0.0, min(1.0, min(k, 4.0 - k)))
    };
    (channel(5.0), channel(3.0), channel(1.0))
}

// f32::max and min have rules for NaN that cost instructions; pixels are never NaN.
#[inline(always)]
fn max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[inline(always)]
fn min(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// Sixteen sums side by side over short stretches, gathered in double precision: fast, exact enough, one order.
#[inline(always)]
fn sum(values: &[f32]) -> f64 {
    let mut total = 0.0;
    for stretch in values.chunks(1024) {
        let mut lanes = [0.0f32; 16];
        let chunks = stretch.chunks_exact(16);
        let rest: f32 = chunks.remainder().iter().sum();
        for chunk in chunks {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane += value;
            }
        }
        total += f64::from(rest) + lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
    }
    total
}

/// One half of the normalised kernel, from its centre out; what is too small to change a 32-bit sum is cut off.
fn gaussian(kernel: usize, sigma: f32) -> Vec<f32> {
    let mut weights: Vec<f32> = (0..=kernel / 2).map(|x| (-0.5 * (x as f32 / sigma).powi(2)).exp()).collect();
    let total = weights[0] + 2.0 * weights[1..].iter().sum::<f32>();
    weights.iter_mut().for_each(|w| *w /= total);
    let length = weights.iter().rposition(|&w| w > 1e-8).map_or(1, |last| last + 1);
    weights.truncate(length);
    weights
}

#[inline(always)]
fn mirror(at: isize, length: usize) -> usize {
    let last = length as isize - 1;
    let at = at.abs();
    (if at > last { 2 * last - at } else { at }) as usize
}
