#!/bin/sh
# Everything of the GPU's that can be checked without one and without torch's CUDA build: libbyol_cuda.so compiles without a
# warning, asks of torch's CUDA half for nothing but what load.sh has found there, and is what the program opens; and the
# stages of run.sh hold together, tried on the CPU.
set -eu
cd "$(dirname "$0")/../.."
make -s cuda
library=target/release/libbyol_cuda.so out=target/gpu-check torch=${LIBTORCH:-.native/libtorch}/lib
rm -rf "$out"
mkdir -p "$out"
names() { nm -D "$@" | sed 's/.* //; s/@.*//' | sort -u; }
for file in "$torch/libtorch_cpu.so" "$torch/libc10.so" \
    "$(c++ -print-file-name=libstdc++.so.6)" "$(c++ -print-file-name=libgcc_s.so.1)" "$(c++ -print-file-name=libc.so.6)"; do
    names --defined-only "$file"
done | sort -u >"$out/known"
names --undefined-only "$library" | grep -v '^_ITM_\|^__gmon_start__$' | comm -23 - "$out/known" >"$out/asked"
LC_ALL=C sort "$out/asked" >"$out/sorted"
if LC_ALL=C sort tests/gpu/symbols.txt | LC_ALL=C comm -13 - "$out/sorted" | grep .; then
    echo 'cuda.cc asks for symbols that tests/gpu/load.sh has not found in torch: run it'
    exit 1
fi
# Functions that cuda.rs looks up.
for name in $(grep -o 'function!("[a-z_]*")' src/train/cuda.rs | cut -d'"' -f2) version; do
    names --defined-only "$library" | grep -qx "byol_cuda_$name" || { echo "$library has no byol_cuda_$name"; exit 1; }
done
DRY=1 sh tests/gpu/run.sh target/release/byol examples/data/fashion-mnist "$out/run" parity ranks
rm -r "$out"
