#!/bin/sh
# The GPU lines, on a machine with an NVIDIA GPU and torch 2.11.0 (CUDA) in python3's site-packages; no Rust is needed.
#
# usage: tests/gpu/run.sh BYOL DATA OUT
#   BYOL  the command, built elsewhere with `make build`
#   DATA  folder with Fashion-MNIST's four IDX files
#   OUT   where results go
# Shows: the sentence on the device; ten steps on CPU and CUDA from one seed, loss against loss; a real run with its
# throughput and memory. Fails where the two devices disagree or CUDA is not used.
set -eu
byol=$1 data=$2 out=$3
here=$(cd "$(dirname "$0")/../.." && pwd)
torch=$(python3 -c 'import os, torch; print(os.path.join(os.path.dirname(torch.__file__), "lib"))')
nvidia=$(python3 -c 'import glob, os, site; print(":".join(sorted({p for s in site.getsitepackages() for p in glob.glob(s + "/nvidia/*/lib")})))')
LD_LIBRARY_PATH=$torch:$nvidia${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
mkdir -p "$out"
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader | tee "$out/gpu.txt"

short="--config $here/examples/demo.toml --data $data --images 2560 --batch-size 256 --steps 10 --evaluation-epochs 0 --seed 0"
for device in cpu cuda; do
    # shellcheck disable=SC2086
    "$byol" -q pretrain $short --device $device --force --out "$out/$device" 2>&1 | tee "$out/$device.txt"
done
python3 - "$out" <<'P'
import json, sys
losses = [[r["loss"] for r in map(json.loads, open(f"{sys.argv[1]}/{d}/metrics.jsonl")) if "loss" in r] for d in ("cpu", "cuda")]
assert len(losses[0]) == len(losses[1]) >= 10, "different numbers of steps"
worst = max(abs(a - b) / max(abs(a), 1e-3) for a, b in zip(*losses))
print(f"loss of ten steps, CPU against CUDA: largest relative difference {worst:.1e}")
assert worst < 5e-3, "CPU and CUDA disagree"
P

# Memory while the real run goes on, twice a second.
nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits -lms 500 >"$out/memory.txt" &
watch=$!
trap 'kill $watch 2>/dev/null || true' EXIT
"$byol" -q --json pretrain --config "$here/examples/demo.toml" --data "$data" --batch-size 256 --epochs 20 --device cuda \
    --force --out "$out/run" | tee "$out/run.json"
kill $watch
echo "largest memory in use, MiB: $(sort -n "$out/memory.txt" | tail -1)"
