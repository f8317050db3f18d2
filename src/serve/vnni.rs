//! Products of 16-bit whole numbers, added up in 32 bits: for [`crate::rounded`], [`crate::moments`] and [`crate::couplings`], on processors that have
//! an instruction for it (AVX-512 VNNI).

/// Numbers of a vector.
pub const LANES: usize = 16;

/// Adding it to a number leaves the nearest whole one in the low bits: 1.5 * 2^23.
pub const WHOLE: f32 = 12_582_912.0;

/// That this processor has the instructions. Without them there is none, and so nothing to call: what uses them are its
/// methods, next to what calls them.
#[derive(Clone, Copy, Debug)]
pub struct Vnni(pub Support);

/// What there can be one of only where the instructions can be.
#[cfg(target_arch = "x86_64")]
pub type Support = ();
#[cfg(not(target_arch = "x86_64"))]
pub type Support = std::convert::Infallible;

impl Vnni {
    /// If this processor has the instructions.
    #[cfg(target_arch = "x86_64")]
    pub fn new() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni");
        found.then_some(Self(()))
    }

    /// None here.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn new() -> Option<Self> {
        None
    }
}

/// What numbers are multiplied with, each by its own largest size, so that none is above `most`; 0 where there is nothing.
pub fn per_unit(largest: &[f32], most: f32) -> Vec<f32> {
    largest.iter().map(|&size| if size > 1e-30 { most / size } else { 0.0 }).collect()
}
