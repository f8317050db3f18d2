//! The preconditioner for weak penalties: every class's own block of the Hessian, from all rows that curve it.
//!
//! A sample tells little of the directions in which rows hardly vary, and a weak penalty leaves the optimum to be decided by those.
//! Near it few rows are unsure of their class; what they say of one class, weighted by `p (1 - p)`, is a matrix of the
//! columns that is soon made and factored, `R'R`. Classes are coupled as if it had to do with nothing but how much they are
//! confused: `R_a' L_ab R_b` stands for the block of two of them, with one number `L_ab` for all columns, half of what it
//! would be for two blocks alike. With ten classes that saves a fifth to a quarter of the products; with many the coupling is
//! small.

use rayon::prelude::*;

use crate::cancel::Cancel;
use crate::curvature::Curvature;
use crate::dense::{Triangle, multiplied};
use crate::error::Result;
use crate::precondition::{add_second_moments, factored, of_bias};
use crate::problem::Problem;

/// Most values that the factors of all classes may have together.
const VALUES: usize = 96 << 20;
/// Rows that are multiplied at once.
const ROWS: usize = 1024;
/// How much of the coupling between classes is taken to be the same for all columns.
const COUPLED: f64 = 0.5;

/// The inverse of the blocks, coupled.
#[derive(Debug)]
pub struct Blocks {
    factors: Vec<Triangle>,
    /// `[classes, classes]`, between the halves of the factors.
    coupling: Vec<f32>,
    parallel: bool,
}

impl Blocks {
    /// Values that they keep.
    pub fn values(&self) -> usize {
        let width = self.factors.first().map_or(0, Triangle::size);
        self.factors.len() * width * (width + 1) / 2
    }

    /// The inverse times `v`, class after class.
    pub fn apply(&self, mut v: Vec<f32>) -> Vec<f32> {
        let classes = self.factors.len();
        let width = v.len() / classes;
        self.solve_half(&mut v, true);
        v = multiplied(&self.coupling, (classes, 1), &v, (classes, width), self.parallel);
        self.solve_half(&mut v, false);
        v
    }

    fn solve_half(&self, v: &mut [f32], first: bool) {
        let width = v.len() / self.factors.len();
        let solve = |(factor, v): (&Triangle, &mut [f32])| factor.solve_half(v, first);
        if self.parallel {
            self.factors.par_iter().zip(v.par_chunks_mut(width)).for_each(solve);
        } else {
            self.factors.iter().zip(v.chunks_mut(width)).for_each(solve);
        }
    }
}

impl Problem<'_> {
    /// Multiply-adds that the blocks take to make of so many rows, each counted for every class that it is active in. None
    /// where they would take too much memory.
    pub fn blocks_work(&self, entries: usize) -> Option<f64> {
        let width = self.columns + 1;
        let fit = self.classes * width * width / 2 <= VALUES;
        fit.then(|| (width * width) as f64 * (entries as f64 / 2.0 + (self.classes * width) as f64 / 6.0))
    }

    /// Multiply-adds of a product and of the blocks' share in the step around it, as many as take that time: both wait for memory.
    pub fn blocks_product_work(&self, curvature: &Curvature) -> f64 {
        4.0 * (curvature.work() + 2.0 * (self.classes * (self.columns + 1) * (self.columns + 1)) as f64)
    }

    /// The blocks, factored. None if one is singular in float32.
    ///
    /// # Errors
    /// Cancelled or past the deadline; rows that cannot be read.
    pub fn blocks(&self, curvature: &Curvature, l2: f64, cancel: &Cancel) -> Result<Option<Blocks>> {
        self.inside(|| self.blocks_inside(curvature, l2, cancel))
    }

    fn blocks_inside(&self, curvature: &Curvature, l2: f64, cancel: &Cancel) -> Result<Option<Blocks>> {
        let &Self { columns, classes, parallel, .. } = self;
        let width = columns + 1;
        let constant = if self.fixed.is_none() { 1.0 } else { 0.0 };
        let every: Vec<u32> = (0..columns as u32).collect();
        let (mut entries, mut x, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
        let mut factors = Vec::with_capacity(classes);
        for class in 0..classes {
            curvature.rows_of(class, &mut entries);
            let mut block = vec![0f32; width * width];
            for entries in entries.chunks(ROWS) {
                x.resize(entries.len() * width, 0.0);
                for (&(row, _), x) in entries.iter().zip(x.chunks_exact_mut(width)) {
                    self.columns_of(row as usize, &every, &mut x[..columns], &mut scratch)?;
                    x[columns] = constant;
                }
                let weighted: Vec<(u32, f32)> = (0u32..).zip(entries).map(|(at, entry)| (at, entry.1)).collect();
                add_second_moments(&mut block, &x, width, &weighted, parallel, cancel)?;
            }
            (0..columns).for_each(|i| block[i * (width + 1)] += l2 as f32);
            block[width * width - 1] += of_bias(block[width * width - 1]);
            let Some(factor) = factored(block, width, parallel, cancel)? else { return Ok(None) };
            factors.push(factor.packed());
        }
        let Some(coupling) = coupling(curvature.confused(), classes, cancel)? else { return Ok(None) };
        Ok(Some(Blocks { factors, coupling, parallel }))
    }
}

/// The inverse of what couples the classes, from how much every two of them are confused (upper triangle).
fn coupling(confused: Vec<f64>, classes: usize, cancel: &Cancel) -> Result<Option<Vec<f32>>> {
    let between = |a: usize, b: usize| confused[a.min(b) * classes + a.max(b)];
    let own = |a: usize| (0..classes).filter(|b| *b != a).map(|b| between(a, b)).sum::<f64>();
    let own: Vec<f64> = (0..classes).map(own).collect();
    let mut coupled = vec![0f32; classes * classes];
    for a in 0..classes {
        coupled[a * (classes + 1)] = 1.0;
        for b in a + 1..classes {
            let between = between(a, b);
            let share = if between > 0.0 { between / (own[a] * own[b]).sqrt() } else { 0.0 };
            coupled[a * classes + b] = (-COUPLED * share) as f32;
        }
    }
    Ok(factored(coupled, classes, false, cancel)?.map(|factor| factor.inverse(1.0, false)))
}

#[cfg(test)]
pub mod tests {
    use std::time::Instant;

    use super::*;
    use crate::curvature::SURELY_WRONG;
    use crate::dense::Cholesky;
    use crate::newton::Kept;
    use crate::pass::Pass;
    use crate::precondition::Preconditioner;
    use crate::rows::Rows;
    use crate::solver::FitOptions;

    /// Rows of overlapping classes, in columns of which the first vary most.
    pub fn rows(count: usize, columns: usize, classes: usize, apart: f32) -> (Vec<f32>, Vec<u32>) {
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        let y: Vec<u32> = (0..count).map(|row| (row % classes) as u32).collect();
        let value = |row: usize, k: usize, noise: f32| {
            let own = if k % classes == row % classes { apart } else { 0.0 };
            2.0 + (own + noise) * 4.0 / (1.0 + k as f32)
        };
        let x = (0..count * columns).map(|i| value(i / columns, i % columns, random())).collect();
        (x, y)
    }

    /// Upper triangle `R` of `R'R`, in float64.
    fn root(a: &[f64], size: usize) -> Vec<f64> {
        let mut r = vec![0.0; size * size];
        for i in 0..size {
            for j in i..size {
                let taken: f64 = (0..i).map(|k| r[k * size + i] * r[k * size + j]).sum();
                let rest = a[i * size + j] - taken;
                r[i * size + j] = if i == j { rest.sqrt() } else { rest / r[i * size + i] };
            }
        }
        r
    }

    #[test]
    fn they_invert_what_they_are_said_to_stand_for() {
        let (count, columns, classes, l2) = (400, 9, 4, 1e-3);
        let (x, y) = rows(count, columns, classes, 0.8);
        let width = columns + 1;
        let options = FitOptions { l2, threads: 1, ..FitOptions::default() };
        let cancel = Cancel::new();
        let problem = Problem::new(Rows::F32(&x), columns, &y, classes, &options, &cancel).unwrap();
        let w: Vec<f64> = (0..classes * width).map(|i| ((i * 37 % 19) as f64 - 9.0) / 12.0).collect();
        let mut pass = Pass::new(&problem.data(), false);
        pass.keep_from(1e-20);
        let mut gradient = vec![0.0; w.len()];
        problem.evaluate(&mut pass, false, &w, l2, &mut gradient, &cancel).unwrap();
        let curvature = Curvature::new(pass.active(), problem.total, columns, classes, false);
        let blocks = problem.blocks(&curvature, l2, &cancel).unwrap().unwrap();

        let mut own = vec![vec![0.0; width * width]; classes];
        let mut confused = vec![0.0; classes * classes];
        let mut wrong = 0;
        for (x, &label) in x.chunks_exact(columns).zip(&y) {
            let mut x: Vec<f64> = x.iter().zip(&problem.mean).map(|(x, mean)| f64::from(*x) - mean).collect();
            x.push(1.0);
            let scores: Vec<f64> = w.chunks_exact(width).map(|w| w.iter().zip(&x).map(|(w, x)| w * x).sum()).collect();
            let total: f64 = scores.iter().map(|z: &f64| z.exp()).sum();
            let mut p: Vec<f64> = scores.iter().map(|z| z.exp() / total).collect();
            let right = p[label as usize];
            if right < f64::from(SURELY_WRONG) {
                p.iter_mut().for_each(|p| *p *= (1.0 - f64::from(SURELY_WRONG)) / (1.0 - right));
                p[label as usize] = f64::from(SURELY_WRONG);
                wrong += 1;
            }
            for a in 0..classes {
                (0..classes).for_each(|b| confused[a * classes + b] += p[a] * p[b] / count as f64);
                for i in 0..width {
                    for j in 0..width {
                        own[a][i * width + j] += p[a] * (1.0 - p[a]) * x[i] * x[j] / count as f64;
                    }
                }
            }
        }
        assert!(wrong > 0);
        for block in &mut own {
            (0..columns).for_each(|i| block[i * width + i] += l2);
        }
        let roots: Vec<Vec<f64>> = own.iter().map(|block| root(block, width)).collect();
        let total = |a: usize| (0..classes).filter(|b| *b != a).map(|b| confused[a * classes + b]).sum::<f64>();
        let v: Vec<f32> = (0..classes * width).map(|i| ((i * 23 % 17) as f32 - 8.0) / 8.0).collect();
        let inverted = blocks.apply(v.clone());
        // R_a' (sum over b of L_ab R_b v_b), class after class.
        let turned: Vec<Vec<f64>> = (0..classes)
            .map(|b| {
                let v = &inverted[b * width..][..width];
                (0..width).map(|i| (i..width).map(|j| roots[b][i * width + j] * f64::from(v[j])).sum()).collect()
            })
            .collect();
        for a in 0..classes {
            let mixed: Vec<f64> = (0..width)
                .map(|i| {
                    let share = |b: usize| -COUPLED * confused[a * classes + b] / (total(a) * total(b)).sqrt();
                    (0..classes).map(|b| if a == b { turned[a][i] } else { share(b) * turned[b][i] }).sum()
                })
                .collect();
            for j in 0..width {
                let back: f64 = (0..=j).map(|i| roots[a][i * width + j] * mixed[i]).sum();
                let wanted = f64::from(v[a * width + j]);
                assert!((back - wanted).abs() < 0.02, "class {a}, column {j}: {back} for {wanted}");
            }
        }
    }

    #[test]
    fn those_of_many_classes_are_too_heavy_to_be_kept_between_fits() {
        let (x, y) = rows(8, 2, 2, 0.8);
        let cancel = Cancel::new();
        let problem = Problem::new(Rows::F32(&x), 2, &y, 2, &FitOptions::default(), &cancel).unwrap();
        let is_heavy = |classes: usize| {
            let size = 300;
            let unit: Vec<f32> = (0..size * size).map(|i| if i % (size + 1) == 0 { 1.0 } else { 0.0 }).collect();
            let factor = |_| Cholesky::new(unit.clone(), size, false, &cancel).unwrap().unwrap().packed();
            let blocks = Blocks { factors: (0..classes).map(factor).collect(), coupling: Vec::new(), parallel: false };
            Preconditioner::of_blocks(blocks, &problem).is_heavy()
        };
        assert!(!is_heavy(300) && is_heavy(400));
    }

    #[test]
    fn weak_penalties_come_to_them_and_are_certified_with_the_same_bits_for_any_number_of_threads() {
        let (columns, classes) = (200, 6);
        let (x, y) = rows(3000, columns, classes, 0.3);
        let run = |l2: f64, threads: usize| {
            let options = FitOptions { l2, threads, ..FitOptions::default() };
            let cancel = Cancel::new();
            let problem = Problem::new(Rows::F32(&x), columns, &y, classes, &options, &cancel).unwrap();
            let mut kept = Kept::default();
            let found = problem.solve(&options, None, &cancel, None, Instant::now(), &mut kept).unwrap();
            (found.w, found.report, format!("{kept:?}").contains("Blocks"))
        };
        let (w, report, blocks) = run(1e-8, 1);
        assert!(blocks && report.converged, "{report:?}");
        for threads in [2, 3] {
            assert_eq!(w, run(1e-8, threads).0, "{threads} threads");
        }
        let (_, report, blocks) = run(1e-2, 1);
        assert!(!blocks && report.converged, "{report:?}");
    }
}
