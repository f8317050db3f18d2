#!/bin/sh
# What can be proven of libbyol_cuda.so with torch's CUDA build and no GPU: it loads with every symbol resolved, says that
# there is no driver where it is called, and the program trains on the CPU as ever with that torch in its path. Fetches 4.7 GB
# of wheels into target/python-cuda; writes tests/gpu/symbols.txt, which check.sh compares with. Run it when cuda.cc asks
# for something new.
set -eu
cd "$(dirname "$0")/../.."
python=target/python-cuda out=target/gpu-load
if [ ! -x "$python/bin/python" ]; then
    python3 -m venv "$python"
    "$python/bin/python" -m pip install -q --disable-pip-version-check torch==2.11.0 numpy
fi
"$python/bin/python" tests/gpu/load.py target/release/libbyol_cuda.so tests/gpu/symbols.txt
lib=$("$python/bin/python" -c 'import os, torch; print(os.path.join(os.path.dirname(torch.__file__), "lib"))')
nvidia=$(ls -d "$lib"/../../nvidia/*/lib | tr '\n' ':')
echo 'the crate opens it'
BYOL_CUDA=$PWD/target/release/libbyol_cuda.so LD_LIBRARY_PATH="$lib:$nvidia" \
    cargo test -q --release --workspace --features train --lib -- --ignored the_library_is_opened
run="--config examples/demo.toml --images 512 --steps 10 --evaluation-epochs 0"
# shellcheck disable=SC2086
target/release/byol -q pretrain $run --device cpu --force --out "$out/own"
# shellcheck disable=SC2086
LD_LIBRARY_PATH="$lib:$nvidia" target/release/byol pretrain $run --device auto --force --out "$out/cuda" 2>"$out/said"
grep 'libtorch_cuda.so was loaded, but sees no device' "$out/said"
cmp "$out/own/encoder.safetensors" "$out/cuda/encoder.safetensors"
echo 'the same encoder with either libtorch'
rm -r "$out"
