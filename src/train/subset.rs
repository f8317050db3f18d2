//! Parts of a labelled data set that have all classes in their proportions, for label fractions and held-out pictures.

use crate::augment::{Draw, Random};

/// Rows of which `share` is taken from each class, rounded, at least one of every class that has any. Only rows for which
/// `free` is true are taken, fewer where there are not enough. The seed decides all; the rows come in rising order.
pub fn stratified(labels: &[u32], share: f64, seed: u64, free: impl Fn(usize) -> bool) -> Vec<usize> {
    let classes = labels.iter().max().map_or(0, |&most| most as usize + 1);
    let mut of_class = vec![0usize; classes];
    labels.iter().for_each(|&label| of_class[label as usize] += 1);
    let mut wanted: Vec<usize> =
        of_class.iter().map(|&n| if n == 0 { 0 } else { ((n as f64 * share).round() as usize).clamp(1, n) }).collect();
    let mut order: Vec<usize> = (0..labels.len()).filter(|&row| free(row)).collect();
    Random::new(Draw { seed, epoch: 0, picture: 0, view: u64::MAX - 2 }).shuffle(&mut order);
    order.retain(|&row| {
        let left = &mut wanted[labels[row] as usize];
        let take = *left > 0;
        *left -= usize::from(take);
        take
    });
    order.sort_unstable();
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_there_in_its_proportion_and_what_is_taken_stays_taken() {
        // 100 of class 0, 50 of class 1, 3 of class 2.
        let labels: Vec<u32> = (0..153).map(|i| if i < 100 { 0 } else { u32::from(i >= 150) + 1 }).collect();
        let held_out = stratified(&labels, 0.1, 7, |_| true);
        let count = |rows: &[usize], class: u32| rows.iter().filter(|&&row| labels[row] == class).count();
        assert_eq!([0, 1, 2].map(|class| count(&held_out, class)), [10, 5, 1]);
        let rest = stratified(&labels, 1.0, 8, |row| !held_out.contains(&row));
        assert_eq!([0, 1, 2].map(|class| count(&rest, class)), [90, 45, 2]);
        assert!(rest.iter().all(|row| !held_out.contains(row)));
        assert_eq!(stratified(&labels, 0.1, 7, |_| true), held_out);
        assert_ne!(stratified(&labels, 0.1, 9, |_| true), held_out);
        assert!(stratified(&[], 0.5, 0, |_| true).is_empty());
    }
}
