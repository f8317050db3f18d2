//! Products of 16-bit whole numbers, added up in 32 bits: for [`crate::rounded`] and [`crate::moments`], on processors that have
//! an instruction for it (AVX-512 VNNI).

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
