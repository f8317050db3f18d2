//! Views made where the pictures lie: bytes in the device's memory, both views of a batch by tensor operations, nothing
//! copied from the host but numbers of pictures and of plans.
//!
//! The plans are those of [`crate::augment`], so a picture's views are the ones that [`crate::canvas`] paints, up to rounding
//! (with TF32 allowed, matrix products round to 10 bits). A crop, its flips and a blur are products with two matrices, one for
//! rows and one for columns, which are computed on the device from a few numbers each. What else a plan holds is carried out
//! in rounds: the next operation of each picture, one kind after the other. No value is read back.

use crate::augment::{Draw, Sampled, ViewsConfig};
use crate::error::{Error, Result};
use crate::network::to_device;
use crate::resample::Cut;
use byol_model::dataset::Dataset;
use byol_model::picture::Filter;
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

/// The pictures of a data set on a device, and how their views are made.
#[derive(Debug)]
pub struct DeviceViews {
    pictures: Tensor, // uint8 [pictures, height, width, channels]; smaller ones fill their upper left corner
    sizes: Vec<(usize, usize)>, // width and height of each
    views: ViewsConfig,
    seed: u64,
    size: usize,
    channels: usize,
    mean: Tensor,  // [channels, 1, 1]
    scale: Tensor, // [channels, 1, 1]: 1 / standard deviation
}

/// What a [`DeviceViews`] makes.
#[derive(Clone, Debug)]
pub struct DeviceViewsOptions {
    /// Side of a view in pixels.
    pub size: usize,
    /// Channels of a view: 1 or 3.
    pub channels: usize,
    /// Subtracted from pixels in 0..1, one number for each channel.
    pub mean: Vec<f32>,
    /// Divides what is left.
    pub std: Vec<f32>,
    /// The two pipelines.
    pub views: ViewsConfig,
    /// Decides the views.
    pub seed: u64,
    /// Bytes that the pictures may take on the device.
    pub memory: u64,
}

impl DeviceViews {
    /// Decodes all pictures and puts them on the device.
    ///
    /// # Errors
    /// [`Error::Data`] where they take more than `memory` bytes; [`Error::Model`] names a picture that cannot be read;
    /// [`Error::Torch`].
    pub fn new(data: &Dataset, options: DeviceViewsOptions, device: Device) -> Result<Self> {
        let DeviceViewsOptions { size, channels, mean, std, views, seed, memory } = options;
        views.check(size)?;
        let too_large = |bytes: u64| {
            let why = format!(
                "all {} pictures, each as large as the largest, take {bytes} bytes, more than the {memory} that views on the \
                 device may have",
                data.len()
            );
            Error::Data { path: data.path().to_owned(), why }
        };
        let mut pictures: Vec<(Vec<u8>, usize, usize)> = Vec::with_capacity(data.len());
        let (mut width, mut height) = (1, 1);
        for start in (0..data.len()).step_by(1024) {
            let decoded: Vec<_> = (start..(start + 1024).min(data.len()))
                .into_par_iter()
                .map(|i| {
                    let picture = data.picture(i)?;
                    Ok((picture.view().packed(channels)?.into_owned(), picture.width, picture.height))
                })
                .collect::<Result<_>>()?;
            for (_, w, h) in &decoded {
                (width, height) = (width.max(*w), height.max(*h));
            }
            let bytes = (width * height * channels) as u64 * data.len() as u64;
            if bytes > memory {
                return Err(too_large(bytes));
            }
            pictures.extend(decoded);
        }
        let mut pixels = vec![0u8; width * height * channels * pictures.len()];
        let row = width * channels;
        for ((packed, w, h), whole) in pictures.iter().zip(pixels.chunks_exact_mut(row * height)) {
            for (from, to) in packed.chunks_exact(w * channels).take(*h).zip(whole.chunks_exact_mut(row)) {
                to[..from.len()].copy_from_slice(from);
            }
        }
        let shape = [pictures.len(), height, width, channels].map(|n| n as i64);
        let of = |values: Vec<f32>| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(&values)?.f_view([channels as i64, 1, 1])?.f_to_device(device)?)
        };
        Ok(Self {
            pictures: Tensor::f_from_slice(&pixels)?.f_view(shape)?.f_to_device(device)?,
            sizes: pictures.iter().map(|(_, width, height)| (*width, *height)).collect(),
            views,
            seed,
            size,
            channels,
            scale: of(std.iter().map(|std| 1.0 / std).collect())?,
            mean: of(mean)?,
        })
    }

    /// View 0 or 1 of the pictures with these numbers in an epoch: `[n, channels, size, size]`, normalised, channels last.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub fn view(&self, indices: &[u32], epoch: u64, view: u64) -> Result<Tensor> {
        let plan = |&picture: &u32| {
            let mut plan = Vec::new();
            let draw = Draw { seed: self.seed, epoch, picture: picture.into(), view };
            self.views.sample(draw, self.sizes[picture as usize], self.size, &mut plan);
            plan
        };
        let plans: Vec<Vec<Sampled>> = indices.iter().map(plan).collect();
        let planes = tch::no_grad(|| self.paint(indices, &plans))?;
        let normal = planes.f_sub(&self.mean)?.f_mul(&self.scale)?;
        Ok(normal.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])?)
    }

    fn device(&self) -> Device {
        self.pictures.device()
    }

    /// Numbers for each picture, `[n, 1, ...]` with so many dimensions.
    fn each(&self, values: &[f32], dimensions: usize) -> Result<Tensor> {
        let mut shape = vec![1i64; dimensions];
        shape[0] = values.len() as i64;
        Ok(to_device(values, self.device())?.f_view(shape.as_slice())?)
    }

    fn paint(&self, indices: &[u32], plans: &[Vec<Sampled>]) -> Result<Tensor> {
        let n = indices.len() as i64;
        let [_, height, width, channels] = self.pictures.size()[..] else { return Err(Error::Thread("views")) };
        let side = self.size as i64;
        let numbers: Vec<i64> = indices.iter().map(|&i| i.into()).collect();
        let numbers = to_device(&numbers, self.device())?;
        let pixels = self.pictures.f_index_select(0, &numbers)?.f_to_kind(Kind::Float)?.f_mul_scalar(1.0 / 255.0)?;

        // The crop and the flips right behind it, as two matrices.
        let (mut cuts, mut rest) = (Vec::new(), Vec::new());
        for (plan, &index) in plans.iter().zip(indices) {
            let (w, h) = self.sizes[index as usize];
            let (cut, tail) = Cut::of(plan, w, h);
            cuts.push(cut);
            rest.push(tail);
        }
        let rows = self.resampling(&cuts, 0, height)?; // [n, side, height]
        let columns = self.resampling(&cuts, 1, width)?; // [n, side, width]
        let lines = rows.f_bmm(&pixels.f_view([n, height, width * channels])?)?.f_view([n, side, width, channels])?;
        let lines = lines.f_permute([0, 3, 1, 2])?.f_reshape([n, channels * side, width])?;
        let planes = lines.f_bmm(&columns.f_transpose(1, 2)?)?.f_view([n, channels, side, side])?;
        let mut planes = planes.f_clamp(0.0, 1.0)?;

        // The rest, in rounds.
        for round in 0..rest.iter().map(|plan| plan.len()).max().unwrap_or(0) {
            let mut kinds: Vec<(std::mem::Discriminant<Sampled>, Vec<i64>, Vec<Sampled>)> = Vec::new();
            for (place, plan) in rest.iter().enumerate() {
                let Some(&operation) = plan.get(round) else { continue };
                let kind = std::mem::discriminant(&operation);
                match kinds.iter_mut().find(|(known, ..)| *known == kind) {
                    Some((_, places, operations)) => {
                        places.push(place as i64);
                        operations.push(operation);
                    }
                    None => kinds.push((kind, vec![place as i64], vec![operation])),
                }
            }
            for (_, places, operations) in kinds {
                let places = to_device(&places, self.device())?;
                let changed = self.apply(&planes.f_index_select(0, &places)?, &operations)?;
                let _ = planes.f_index_copy_(0, &places, &changed)?;
            }
        }
        Ok(planes)
    }

    /// Weights of the source's rows (axis 0) or columns (axis 1) for each of the view's, `[n, side, source]`: Pillow's
    /// antialiased resize of a box.
    fn resampling(&self, cuts: &[Cut], axis: usize, source: i64) -> Result<Tensor> {
        let device = self.device();
        let side = self.size as f32;
        let of = |f: &dyn Fn(&Cut) -> f32| self.each(&cuts.iter().map(f).collect::<Vec<_>>(), 3);
        let length_of = |cut: &Cut| [cut.height, cut.width][axis] as f32;
        let length = of(&length_of)?;
        let scale = of(&|cut| length_of(cut) / side)?;
        let widen = scale.f_clamp_min(1.0)?;
        let flip = of(&|cut| f32::from(u8::from([cut.flip_vertical, cut.flip_horizontal][axis])))?;
        let bicubic = of(&|cut| f32::from(u8::from(cut.filter == Filter::Bicubic)))?;
        let outputs = Tensor::f_arange(self.size as i64, (Kind::Float, device))?.f_view([1, -1, 1])?;
        // A flipped view's first row is the last.
        let outputs = outputs.f_add(&outputs.f_mul_scalar(-2.0)?.f_add_scalar(f64::from(side) - 1.0)?.f_mul(&flip)?)?;
        let centre = outputs.f_add_scalar(0.5)?.f_mul(&scale)?;
        // Of the box: its first pixel is 0.
        let inputs = Tensor::f_arange(source, (Kind::Float, device))?.f_view([1, 1, -1])?;
        let inputs = inputs.f_sub(&of(&|cut| [cut.top, cut.left][axis] as f32)?)?;
        let x = inputs.f_add_scalar(0.5)?.f_sub(&centre)?.f_div(&widen)?.f_abs()?;
        let inner = x.f_mul_scalar(1.5)?.f_add_scalar(-2.5)?.f_mul(&x)?.f_mul(&x)?.f_add_scalar(1.0)?;
        let outer =
            x.f_mul_scalar(-0.5)?.f_add_scalar(2.5)?.f_mul(&x)?.f_add_scalar(-4.0)?.f_mul(&x)?.f_add_scalar(2.0)?;
        let cubic = inner.f_where_self(&x.f_lt(1.0)?, &outer.f_mul(&x.f_lt(2.0)?)?)?;
        let linear = x.f_neg()?.f_add_scalar(1.0)?.f_clamp_min(0.0)?;
        let inside = inputs.f_ge(0.0)?.f_logical_and(&inputs.f_lt_tensor(&length)?)?;
        let weights = cubic.f_where_self(&bicubic.f_gt(0.5)?, &linear)?.f_mul(&inside)?;
        Ok(weights.f_div(&weights.f_sum_dim_intlist([2i64].as_slice(), true, Kind::Float)?)?)
    }

    /// One kind of operation on some pictures `[n, channels, side, side]`, each with its own numbers.
    fn apply(&self, x: &Tensor, operations: &[Sampled]) -> Result<Tensor> {
        let of = |f: &dyn Fn(&Sampled) -> f32| self.each(&operations.iter().map(f).collect::<Vec<_>>(), 4);
        let strength = || {
            of(&|operation| match *operation {
                Sampled::Brightness(s) | Sampled::Contrast(s) | Sampled::Saturation(s) => s,
                Sampled::Hue(s) | Sampled::Solarize(s) | Sampled::Rotate(s) => s,
                Sampled::Blur { sigma, .. } => sigma,
                Sampled::Crop { .. }
                | Sampled::FlipHorizontal
                | Sampled::FlipVertical
                | Sampled::Shift { .. }
                | Sampled::Grayscale => 0.0,
            })
        };
        let colour = self.channels == 3;
        Ok(match operations.first() {
            None | Some(Sampled::Crop { .. }) => x.shallow_clone(),
            Some(Sampled::FlipHorizontal) => x.f_flip([3])?,
            Some(Sampled::FlipVertical) => x.f_flip([2])?,
            Some(Sampled::Brightness(_)) => x.f_mul(&strength()?)?.f_clamp(0.0, 1.0)?,
            Some(Sampled::Contrast(_)) => {
                let mean = self.gray(x)?.f_mean_dim([1i64, 2, 3].as_slice(), true, Kind::Float)?;
                mix(x, &mean, &strength()?)?
            }
            Some(Sampled::Saturation(_)) if colour => mix(x, &self.gray(x)?, &strength()?)?,
            Some(Sampled::Hue(_)) if colour => turn_hue(x, &strength()?)?,
            Some(Sampled::Grayscale) if colour => self.gray(x)?.f_expand_as(x)?.f_contiguous()?,
            Some(Sampled::Saturation(_) | Sampled::Hue(_) | Sampled::Grayscale) => x.shallow_clone(),
            Some(Sampled::Solarize(_)) => {
                let inverted = x.f_neg()?.f_add_scalar(1.0)?;
                inverted.f_where_self(&x.f_ge_tensor(&strength()?)?, x)?
            }
            Some(Sampled::Blur { .. }) => {
                let kernel = of(&|operation| match *operation {
                    Sampled::Blur { kernel, .. } => (kernel / 2) as f32,
                    _ => 0.0,
                })?;
                let matrix = self.blurring(&kernel, &strength()?)?; // [n, 1, side, side]
                matrix.f_matmul(x)?.f_matmul(&matrix.f_transpose(2, 3)?)?
            }
            Some(Sampled::Shift { .. }) => {
                let shift = |axis: usize| {
                    of(&|operation| match *operation {
                        Sampled::Shift { right, down } => [down, right][axis] as f32,
                        _ => 0.0,
                    })
                };
                let [outputs, inputs] = self.places()?;
                let matrix = |axis| -> Result<Tensor> {
                    Ok(outputs.f_sub(&inputs)?.f_eq_tensor(&shift(axis)?)?.f_to_kind(Kind::Float)?)
                };
                matrix(0)?.f_matmul(x)?.f_matmul(&matrix(1)?.f_transpose(2, 3)?)?
            }
            Some(Sampled::Rotate(_)) => self.rotate(x, &strength()?)?,
        })
    }

    /// Numbers of the view's rows, as a column and as a row: `[1, 1, side, 1]` and `[1, 1, 1, side]`.
    fn places(&self) -> Result<[Tensor; 2]> {
        let places = Tensor::f_arange(self.size as i64, (Kind::Float, self.device()))?;
        Ok([places.f_view([1, 1, -1, 1])?, places.f_view([1, 1, 1, -1])?])
    }

    /// `[n, 1, side, side]`.
    fn gray(&self, x: &Tensor) -> Result<Tensor> {
        if self.channels != 3 {
            return Ok(x.f_mean_dim([1i64].as_slice(), true, Kind::Float)?);
        }
        let [red, green, blue] = [0, 1, 2].map(|channel| x.f_narrow(1, channel, 1));
        Ok((red?.f_mul_scalar(0.2989)?).f_add(&green?.f_mul_scalar(0.587)?)?.f_add(&blue?.f_mul_scalar(0.114)?)?)
    }

    /// A Gaussian cut at `radius`, with a mirrored border that does not repeat the edge, as a matrix.
    fn blurring(&self, radius: &Tensor, sigma: &Tensor) -> Result<Tensor> {
        let [outputs, inputs] = self.places()?;
        let last = self.size as f64 - 1.0;
        let gauss = |distance: &Tensor| -> Result<Tensor> {
            let near = distance.f_abs()?.f_le_tensor(radius)?;
            let value = distance.f_div(sigma)?.f_square()?.f_mul_scalar(-0.5)?.f_exp()?;
            Ok(value.f_mul(&near)?)
        };
        let direct = gauss(&inputs.f_sub(&outputs)?)?;
        // What lies outside to the left is pixel -input, to the right 2 last - input; the edges themselves are not repeated.
        let left = gauss(&inputs.f_neg()?.f_sub(&outputs)?)?.f_mul(&inputs.f_gt(0.0)?)?;
        let right = gauss(&inputs.f_neg()?.f_add_scalar(2.0 * last)?.f_sub(&outputs)?)?.f_mul(&inputs.f_lt(last)?)?;
        let matrix = direct.f_add(&left)?.f_add(&right)?;
        Ok(matrix.f_div(&matrix.f_sum_dim_intlist([3i64].as_slice(), true, Kind::Float)?)?)
    }

    /// torchvision's `rotate` with bilinear interpolation and zeros outside.
    fn rotate(&self, x: &Tensor, degrees: &Tensor) -> Result<Tensor> {
        let [rows, columns] = self.places()?;
        let half = (self.size as f64 - 1.0) / 2.0;
        let angle = degrees.f_mul_scalar(-std::f64::consts::PI / 180.0)?;
        let (sin, cos) = (angle.f_sin()?, angle.f_cos()?);
        let (u, v) = (columns.f_add_scalar(-half)?, rows.f_add_scalar(-half)?);
        // In units of half the side less half a pixel, as `grid_sampler` reads with aligned corners.
        let unit = 1.0 / half.max(0.5);
        let from_x = cos.f_mul(&u)?.f_add(&sin.f_mul(&v)?)?.f_mul_scalar(unit)?;
        let from_y = cos.f_mul(&v)?.f_sub(&sin.f_mul(&u)?)?.f_mul_scalar(unit)?;
        let grid = Tensor::f_stack(&[from_x.f_squeeze_dim(1)?, from_y.f_squeeze_dim(1)?], 3)?;
        Ok(x.f_grid_sampler(&grid, 0, 0, true)?)
    }
}

/// `factor x + (1 - factor) base`, clipped.
fn mix(x: &Tensor, base: &Tensor, factor: &Tensor) -> Result<Tensor> {
    let rest = factor.f_neg()?.f_add_scalar(1.0)?;
    Ok(x.f_mul(factor)?.f_add(&base.f_mul(&rest)?)?.f_clamp(0.0, 1.0)?)
}

/// As the canvas turns it: hue, chroma, value, and back.
fn turn_hue(x: &Tensor, turn: &Tensor) -> Result<Tensor> {
    let channel = |i: i64| x.f_narrow(1, i, 1);
    let (r, g, b) = (channel(0)?, channel(1)?, channel(2)?);
    let value = x.f_amax([1i64].as_slice(), true)?;
    let chroma = value.f_sub(&x.f_amin([1i64].as_slice(), true)?)?;
    let divisor = chroma.f_add(&chroma.f_eq(0.0)?)?;
    let from_red = g.f_sub(&b)?.f_div(&divisor)?;
    let from_green = b.f_sub(&r)?.f_div(&divisor)?.f_add_scalar(2.0)?;
    let from_blue = r.f_sub(&g)?.f_div(&divisor)?.f_add_scalar(4.0)?;
    let sixths = from_green.f_where_self(&value.f_eq_tensor(&g)?, &from_blue)?;
    let sixths = from_red.f_where_self(&value.f_eq_tensor(&r)?, &sixths)?;
    let sixths = sixths.f_add(&turn.f_mul_scalar(6.0)?)?;
    let out = |offset: f64| -> Result<Tensor> {
        let k = sixths.f_add_scalar(offset)?;
        let k = k.f_sub(&k.f_mul_scalar(1.0 / 6.0)?.f_floor()?.f_mul_scalar(6.0)?)?;
        let part = k.f_minimum(&k.f_neg()?.f_add_scalar(4.0)?)?.f_clamp(0.0, 1.0)?;
        Ok(value.f_sub(&chroma.f_mul(&part)?)?)
    };
    Ok(Tensor::f_cat(&[out(5.0)?, out(3.0)?, out(1.0)?], 1)?)
}
