//! The whole state of a run in one safetensors file, so that a resumed run ends as the uninterrupted one does.
//!
//! All randomness derives from the seed, the epoch, the picture and the view, so the position in the run is all that
//! is needed of it. A SHA-256 over names, shapes, values and metadata finds a damaged file.

use crate::config::RunConfig;
use crate::error::{Error, Result};
use byol_model::file;
use byol_model::weights::Tensor as HostTensor;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

const FORMAT: &str = "byol.checkpoint";
const VERSION: &str = "1";
const MAX_FILE_BYTES: u64 = 64 << 30;

/// A run at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Where the run stands.
    pub progress: Progress,
    /// The run file.
    pub config: RunConfig,
    /// Online and target networks with their running statistics, and the optimiser's state, by name.
    pub tensors: BTreeMap<String, HostTensor>,
}

/// Where a run stands.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Optimiser steps done.
    pub step: usize,
    /// Passes over the data completed.
    pub epoch: usize,
    /// Optimiser steps done of the present pass: the sampler's position.
    pub position: usize,
    /// The optimiser's own count.
    pub optimizer_steps: u64,
    /// Pictures of the data set.
    pub pictures: usize,
    /// Where it ran.
    pub device: String,
    /// CPU threads of the step.
    pub threads: usize,
}

impl Checkpoint {
    /// Writes the file; the previous one stays until this one is complete.
    ///
    /// # Errors
    /// [`Error::Model`] names the path that cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let wrong = |why: String| Error::Checkpoint { path: path.into(), why };
        let json = |value: serde_json::Result<String>| value.map_err(|e| wrong(e.to_string()));
        let mut metadata: BTreeMap<String, String> = BTreeMap::from([
            ("format".into(), FORMAT.into()),
            ("version".into(), VERSION.into()),
            ("progress".into(), json(serde_json::to_string(&self.progress))?),
            ("config".into(), json(serde_json::to_string(&self.config))?),
        ]);
        let bytes: BTreeMap<&str, Vec<u8>> = self
            .tensors
            .iter()
            .map(|(name, t)| (name.as_str(), t.data.iter().flat_map(|v| v.to_le_bytes()).collect()))
            .collect();
        let views = self.tensors.iter().map(|(name, t)| {
            let view = TensorView::new(Dtype::F32, t.shape.clone(), &bytes[name.as_str()]);
            Ok((name.as_str(), view.map_err(|e| wrong(e.to_string()))?))
        });
        let views: BTreeMap<&str, TensorView<'_>> = views.collect::<Result<_>>()?;
        metadata.insert("sha256".into(), checksum(&metadata, views.iter().map(|(name, view)| (*name, view))));
        let metadata: HashMap<String, String> = metadata.into_iter().collect();
        let file = safetensors::serialize(views, Some(metadata)).map_err(|e| wrong(e.to_string()))?;
        Ok(file::write_atomic(path, &file)?)
    }

    /// Reads and verifies a file.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for one that is truncated, damaged or none; [`Error::CheckpointVersion`] for another
    /// format version; [`Error::Model`] where it cannot be read.
    pub fn load(path: &Path) -> Result<Self> {
        let wrong = |why: String| Error::Checkpoint { path: path.into(), why };
        let bytes = file::read(path, MAX_FILE_BYTES)?;
        let (_, header) =
            SafeTensors::read_metadata(&bytes).map_err(|e| wrong(format!("truncated or damaged: {e}")))?;
        let content = SafeTensors::deserialize(&bytes).map_err(|e| wrong(format!("truncated or damaged: {e}")))?;
        let mut metadata: BTreeMap<String, String> =
            header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        match (metadata.get("format").map(String::as_str), metadata.get("version").map(String::as_str)) {
            (Some(FORMAT), Some(VERSION)) => {}
            (Some(FORMAT), found) => {
                let found = found.unwrap_or("none").into();
                return Err(Error::CheckpointVersion { path: path.into(), found, supported: VERSION });
            }
            _ => return Err(wrong("it is no checkpoint of a run".into())),
        }
        let views: BTreeMap<String, TensorView<'_>> = content.tensors().into_iter().collect();
        let recorded = metadata.remove("sha256").ok_or_else(|| wrong("its checksum is missing".into()))?;
        if checksum(&metadata, views.iter().map(|(name, view)| (name.as_str(), view))) != recorded {
            return Err(wrong("its content does not fit its checksum: it is damaged".into()));
        }
        let text = |key: &str| metadata.get(key).ok_or_else(|| wrong(format!("{key} is missing")));
        let tensors = views.iter().map(|(name, view)| {
            if view.dtype() != Dtype::F32 {
                return Err(wrong(format!("tensor {name:?} has elements of type {:?}", view.dtype())));
            }
            let data = view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            Ok((name.clone(), HostTensor { shape: view.shape().to_vec(), data }))
        });
        Ok(Self {
            progress: serde_json::from_str(text("progress")?).map_err(|e| wrong(format!("progress: {e}")))?,
            config: serde_json::from_str(text("config")?).map_err(|e| wrong(format!("config: {e}")))?,
            tensors: tensors.collect::<Result<_>>()?,
        })
    }
}

/// SHA-256 over everything in the order of the names, each part with its length.
fn checksum<'a, 'b: 'a>(
    metadata: &BTreeMap<String, String>,
    tensors: impl Iterator<Item = (&'a str, &'a TensorView<'b>)>,
) -> String {
    use sha2::{Digest, Sha256};
    let mut sha = Sha256::new();
    let mut part = |bytes: &[u8]| {
        sha.update((bytes.len() as u64).to_le_bytes());
        sha.update(bytes);
    };
    for (key, value) in metadata {
        part(key.as_bytes());
        part(value.as_bytes());
    }
    for (name, view) in tensors {
        part(name.as_bytes());
        part(format!("{:?} {:?}", view.dtype(), view.shape()).as_bytes());
        part(view.data());
    }
    sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Checkpoint {
        let tensor = HostTensor { shape: vec![2, 3], data: vec![1.0, -2.0, 3.5, 0.0, 1e-30, 7.0] };
        Checkpoint {
            progress: Progress {
                step: 7,
                epoch: 1,
                position: 2,
                optimizer_steps: 7,
                pictures: 100,
                device: "cpu".into(),
                threads: 2,
            },
            config: RunConfig::default(),
            tensors: BTreeMap::from([
                ("online.encoder.a".into(), tensor.clone()),
                ("optimizer.momentum.a".into(), tensor),
            ]),
        }
    }

    #[test]
    fn a_checkpoint_reads_back_as_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        example().save(&path).unwrap();
        assert_eq!(Checkpoint::load(&path).unwrap(), example());
    }

    #[test]
    fn any_flipped_byte_and_any_truncation_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        example().save(&path).unwrap();
        let good = std::fs::read(&path).unwrap();
        let refused = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            matches!(Checkpoint::load(&path), Err(Error::Checkpoint { .. } | Error::CheckpointVersion { .. }))
        };
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            // The padding of the header is the only part that carries nothing.
            assert!(refused(&bad) || good[at] == b' ', "byte {at}");
        }
        for length in [0, 7, 8, 100, good.len() / 2, good.len() - 1] {
            assert!(refused(&good[..length]), "length {length}");
        }
    }

    #[test]
    fn another_version_and_another_file_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        example().save(&path).unwrap();
        let text = std::fs::read(&path).unwrap();
        let from = b"\"version\":\"1\"";
        let at = text.windows(from.len()).position(|w| w == from).unwrap();
        let mut newer = text.clone();
        newer[at + from.len() - 2] = b'2';
        std::fs::write(&path, newer).unwrap();
        assert!(matches!(Checkpoint::load(&path), Err(Error::CheckpointVersion { found, .. }) if found == "2"));
        byol_model::weights::Weights::default().save(&path, &BTreeMap::new()).unwrap();
        assert!(Checkpoint::load(&path).unwrap_err().to_string().contains("no checkpoint"));
        assert!(matches!(Checkpoint::load(&folder.path().join("none")), Err(Error::Model(_))));
    }
}
