//! Execution providers: the part of ONNX Runtime that computes, by name.
//!
//! Whoever names one gets that one or an error that says why not: it is never quietly replaced by the CPU. ONNX Runtime
//! itself may still place single operators that a provider lacks on the CPU, as it always does.

use std::fmt;
use std::str::FromStr;

use ort::ep::{self, ExecutionProviderDispatch};

use crate::error::{Error, Result};

/// What computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Provider {
    /// The processor.
    #[default]
    Cpu,
    /// NVIDIA GPUs.
    Cuda,
    /// NVIDIA GPUs, through TensorRT's compiler.
    TensorRt,
    /// Apple's GPU and neural engine.
    CoreMl,
    /// GPUs on Windows.
    DirectMl,
    /// Intel's processors, GPUs and NPUs.
    OpenVino,
    /// XNNPACK's kernels on the processor.
    Xnnpack,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Cpu, Self::Cuda, Self::TensorRt, Self::CoreMl, Self::DirectMl, Self::OpenVino, Self::Xnnpack];

    /// Its name: `cpu`, `cuda`, `tensorrt`, `coreml`, `directml`, `openvino` or `xnnpack`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
            Self::CoreMl => "coreml",
            Self::DirectMl => "directml",
            Self::OpenVino => "openvino",
            Self::Xnnpack => "xnnpack",
        }
    }

    pub(crate) fn is_cpu(self) -> bool {
        self == Self::Cpu
    }

    /// The provider as ONNX Runtime wants to be told. All but the CPU must register, or the session fails. `arena` is
    /// the CPU's: whether it keeps memory between runs.
    pub(crate) fn dispatch(self, arena: bool) -> [ExecutionProviderDispatch; 1] {
        let named = match self {
            Self::Cpu => return [ep::CPU::default().with_arena_allocator(arena).build()],
            Self::Cuda => ep::CUDA::default().build(),
            Self::TensorRt => ep::TensorRT::default().build(),
            Self::CoreMl => ep::CoreML::default().build(),
            Self::DirectMl => ep::DirectML::default().build(),
            Self::OpenVino => ep::OpenVINO::default().build(),
            Self::Xnnpack => ep::XNNPACK::default().build(),
        };
        [named.error_on_failure()]
    }

    /// Says which provider was asked for, where a session could not be built with another than the CPU.
    pub(crate) fn blame(self, error: Error) -> Error {
        match error {
            Error::Runtime { path, code, message } if !self.is_cpu() => {
                let message = format!("with the execution provider {self}: {message}");
                Error::Runtime { path, code, message }
            }
            error => error,
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Provider {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|provider| provider.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| Error::InvalidOption {
            option: "provider",
            value: name.into(),
            must: "it must be cpu, cuda, tensorrt, coreml, directml, openvino or xnnpack",
        })
    }
}
