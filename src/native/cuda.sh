#!/bin/sh
# Compiles src/train/cuda.cc to target/release/libbyol_cuda.so, which byol opens beside itself where it trains on CUDA.
# Needs libtorch's headers and a few of CUDA's (fetch.py torch cuda), and neither CUDA nor a GPU: what is undefined in it
# is in the libtorch_cuda that is loaded by then.
set -eu
cd "$(dirname "$0")/../.."
built=${CARGO_TARGET_DIR:-target}
torch=${LIBTORCH:-.native/libtorch}/include
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
# Headers whose wheels are large and of which cuda.cc declares what is named; found first, and empty.
empty=$built/cuda/include
mkdir -p "$empty" "$built/release"
for header in cublas_v2 cublasLt cusparse cusolverDn cusolver_common cuda_fp16 nccl; do : >"$empty/$header.h"; done
# -Wall is for cuda.cc: warnings of the system's headers are not shown.
"${CXX:-c++}" -std=c++17 -O2 -fPIC -shared -Wall -Wextra -Werror -fvisibility=hidden "-DBYOL_VERSION=\"$version\"" \
    -isystem "$empty" -isystem .native/cuda/include -isystem "$torch" -isystem "$torch/torch/csrc/api/include" \
    src/train/cuda.cc -o "$built/release/libbyol_cuda.so.new"
strip --strip-unneeded "$built/release/libbyol_cuda.so.new"
mv "$built/release/libbyol_cuda.so.new" "$built/release/libbyol_cuda.so"
echo "$built/release/libbyol_cuda.so"
