#!/bin/sh
# The GPU lines, on a machine with an NVIDIA GPU and torch 2.11.0 (CUDA) in python3's site-packages; no Rust is needed.
#
# usage: tests/gpu/run.sh BYOL DATA OUT [STAGE...]
#   BYOL   the command, built elsewhere with `make build`, and beside it libbyol_cuda.so (`make cuda`)
#   DATA   folder with Fashion-MNIST's four IDX files
#   OUT    where results go; results.txt there has every line that is said here
#   STAGE  parity: ten steps from one seed on CPU and CUDA in float32, TF32 and bf16, views painted and made on the device,
#                  and with the step as a CUDA graph and without
#          ranks:  over NCCL, two ranks where there are two GPUs (also one that is killed and one that is stopped), else one
#          small:  ResNet-18 at 32 pixels, batch 512, bf16, beside the peer eager and compiled
#          large:  ResNet-50 at 224 pixels, batch 256, likewise
#          long:   200 epochs of Fashion-MNIST with its curve, k-NN and linear accuracy
#          All by default; each is meant to end within ten minutes, so that a machine lent for so long can do one a call.
#
# The peer is lightly, as PEER composes it (../shared/peers/pretrain_lightly.py unless set); where python3 has no lightly, its
# lines are left out and said to be. Fails where devices disagree, where CUDA is not used, and where a goal is missed.
#
# DRY=1 tries the script itself where there is no GPU: all on the CPU, with Gloo, small, and nothing but the parities judged.
set -eu
byol=$1 data=$2 out=$3
shift 3
here=$(cd "$(dirname "$0")/../.." && pwd)
stages=${*:-parity ranks small large long}
if [ -z "${DRY:-}" ]; then
    torch=$(python3 -c 'import os, torch; print(os.path.join(os.path.dirname(torch.__file__), "lib"))')
    nvidia=$(python3 -c 'import glob, os, site; print(":".join(sorted({p for s in site.getsitepackages() for p in glob.glob(s + "/nvidia/*/lib")})))')
    LD_LIBRARY_PATH=$torch:$nvidia${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    export LD_LIBRARY_PATH
fi
mkdir -p "$out"
[ -n "${DRY:-}" ] || nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader | tee -a "$out/results.txt"
for stage in $stages; do
    began=$(date +%s)
    python3 "$here/tests/gpu/stage.py" "$stage" "$byol" "$data" "$out" | tee -a "$out/results.txt" >"$out/$stage.txt" &
    watched=$!
    # What it says is seen as it comes; its exit status is the last line.
    tail -n +1 -f --pid=$watched "$out/$stage.txt"
    grep -q '^passed$' "$out/$stage.txt" || { echo "$stage failed" | tee -a "$out/results.txt"; failed=1; }
    echo "--- $stage: $(($(date +%s) - began)) s" | tee -a "$out/results.txt"
done
exit ${failed:-0}
