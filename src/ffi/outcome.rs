//! Which status every error of the crates below has. A code once given to an error stays.
//!
//! Both enums are non-exhaustive, so the compiler can't ask for a new variant; the test below does.

use crate::status::*;

impl From<byol_serve::Error> for Fault {
    fn from(error: byol_serve::Error) -> Self {
        use byol_serve::Error as E;
        let message = error.to_string();
        let (code, runtime_code, item) = match error {
            E::NonFinite { row, .. } | E::NonFiniteNamed { row, .. } => (BYOL_E_NON_FINITE, 0, Some(row)),
            E::EmptyData { .. } | E::OneClass { .. } | E::EmptyClass { .. } | E::ConstantFeatures { .. } => {
                (BYOL_E_DATA, 0, None)
            }
            E::LabelOutside { row, .. } => (BYOL_E_LABEL, 0, Some(row)),
            E::LabelMismatch { .. } | E::NoLabels => (BYOL_E_LABEL, 0, None),
            E::UnknownExample { .. } | E::UnknownClass { .. } => (BYOL_E_NOT_FOUND, 0, None),
            E::DimensionMismatch { .. } => (BYOL_E_SHAPE, 0, None),
            E::Separable { .. } => (BYOL_E_NO_OPTIMUM, 0, None),
            E::InvalidOption { .. } => (BYOL_E_INVALID_ARG, 0, None),
            E::NotConverged { .. } => (BYOL_E_NOT_CONVERGED, 0, None),
            E::HeadForAnotherEncoder { .. } | E::FeaturesOfAnotherEncoder { .. } => (BYOL_E_WRONG_ENCODER, 0, None),
            E::Io { source, .. } => (of_io(&source), 0, None),
            E::Corrupt { .. } => (BYOL_E_CORRUPT, 0, None),
            E::NewerFormat { .. } => (BYOL_E_NEWER_FORMAT, 0, None),
            E::RuntimeNotFound { .. } => (BYOL_E_RUNTIME, 0, None),
            E::BusyConfig { .. } => (BYOL_E_BUSY_CONFIG, 0, None),
            E::Runtime { code, .. } => (BYOL_E_RUNTIME, code, None),
            E::ModelInvalid { .. } => (BYOL_E_MODEL_INVALID, 0, None),
            E::ModelUnsupported { .. } => (BYOL_E_MODEL_UNSUPPORTED, 0, None),
            E::ModelHash { .. } => (BYOL_E_CHECKSUM, 0, None),
            E::TooLarge { .. } => (BYOL_E_LIMIT, 0, None),
            E::Item { index, source } => {
                let inner = Fault::from(*source);
                (inner.code, inner.runtime_code, Some(index))
            }
            E::Model(source) => (Fault::from(source).code, 0, None),
            E::NoMemory { .. } => (BYOL_E_NO_MEMORY, 0, None),
            E::Cancelled => (BYOL_E_CANCELLED, 0, None),
            E::Deadline => (BYOL_E_DEADLINE, 0, None),
            _ => (BYOL_E_OTHER, 0, None),
        };
        Self { code, runtime_code, item, message }
    }
}

impl From<byol_model::Error> for Fault {
    fn from(error: byol_model::Error) -> Self {
        use byol_model::Error as E;
        let message = error.to_string();
        let code = match error {
            E::Io { source, .. } => of_io(&source),
            E::Graph { .. } => BYOL_E_MODEL_INVALID,
            E::Setting { .. } | E::Unknown { .. } | E::View { .. } | E::Contract { .. } => BYOL_E_INVALID_ARG,
            E::WeightsFile { .. } => BYOL_E_CORRUPT,
            E::WeightsOf { why, .. } => Fault::from(*why).code,
            E::MissingTensor { .. } | E::ExtraTensor { .. } | E::TensorShape { .. } => BYOL_E_SHAPE,
            E::NonFiniteTensor { .. } => BYOL_E_NON_FINITE,
            E::Decode { .. } => BYOL_E_IMAGE_DECODE,
            E::Limit { .. } => BYOL_E_LIMIT,
            E::Dataset { .. } => BYOL_E_DATA,
            E::Onnx { .. } => BYOL_E_MODEL_INVALID,
            E::Import { .. } => BYOL_E_MODEL_UNSUPPORTED,
            _ => BYOL_E_OTHER,
        };
        Self { code, runtime_code: 0, item: None, message }
    }
}

/// A missing file is told from one that can't be used.
pub(crate) fn of_io(error: &std::io::Error) -> byol_status {
    match error.kind() {
        std::io::ErrorKind::NotFound => BYOL_E_NOT_FOUND,
        std::io::ErrorKind::OutOfMemory => BYOL_E_NO_MEMORY,
        _ => BYOL_E_IO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The variants of `enum Error` in a source file.
    fn variants(source: &str) -> Vec<&str> {
        let body = source.split_once("pub enum Error {").expect("the enum").1;
        let body = body.split_once("\n}\n").expect("its end").0;
        body.lines()
            .filter_map(|line| line.strip_prefix("    "))
            .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()))
            .filter_map(|line| line.split(|c: char| !c.is_alphanumeric()).next())
            .collect()
    }

    #[test]
    fn every_error_of_the_crates_below_has_a_code_of_its_own_choice() {
        let ours = include_str!("outcome.rs");
        let (_, ours) = ours.split_once("impl From<byol_serve").expect("the first mapping");
        let (serve, model) = ours.split_once("impl From<byol_model").expect("the second mapping");
        for (source, mapping) in
            [(include_str!("../serve/error.rs"), serve), (include_str!("../model/error.rs"), model)]
        {
            let variants = variants(source);
            assert!(variants.len() > 10, "{variants:?}");
            for variant in variants {
                let named =
                    mapping.split(|c: char| !c.is_alphanumeric() && c != ':').any(|w| w == format!("E::{variant}"));
                assert!(named, "Error::{variant} has no status code in outcome.rs");
            }
        }
    }

    #[test]
    fn an_item_keeps_its_own_code_and_says_which_it_is() {
        let error = byol_serve::Error::Item {
            index: 4,
            source: Box::new(byol_serve::Error::Model(byol_model::Error::Decode {
                name: "x.png".into(),
                why: "short".into(),
            })),
        };
        let fault = Fault::from(error);
        assert_eq!((fault.code, fault.item), (BYOL_E_IMAGE_DECODE, Some(4)));
        assert!(fault.message.contains("x.png"), "{}", fault.message);
    }
}
