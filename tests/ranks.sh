#!/bin/sh
# Ranks as a stock torchrun launches them, ranks whose network is cut, and the simulation of many more. The environment
# with PyTorch is the one of own_encoder.sh. Needs root, for network namespaces.
set -eu
cd "$(dirname "$0")/.."
python=target/python-timm out=target/ranks byol=$PWD/target/release/byol
sh tests/own_encoder.sh --environment
rm -rf "$out"
mkdir -p "$out"
echo '--- what docs/scale.md says, simulated'
python3 tests/bench/scale.py --check >"$out/scale.txt" || { cat "$out/scale.txt"; exit 1; }
tail -1 "$out/scale.txt"

run="--config examples/demo.toml --images 640 --learning-rate 0.05 --evaluation-epochs 0 --device cpu --threads 1"

echo '--- torchrun'
# shellcheck disable=SC2086
"$byol" -q pretrain $run --steps 20 --out "$out/one"
# shellcheck disable=SC2086
"$python/bin/torchrun" --no-python --standalone --nproc-per-node 2 "$byol" -q pretrain $run --steps 20 --out "$out/two"
"$python/bin/python" - "$out" <<'P'
import sys
from safetensors.numpy import load_file
import numpy
one, two = (load_file(f"{sys.argv[1]}/{run}/encoder.safetensors") for run in ("one", "two"))
apart = sum(numpy.sum((one[k] - two[k]).astype(float) ** 2) for k in one) / sum(numpy.sum(one[k].astype(float) ** 2) for k in one)
apart **= 0.5
print(f"one process and two ranks under torchrun, 20 steps: weights apart by {apart:.1e} of their norm")
assert apart < 2e-2  # as in ranks.rs, which says why it is more than rounding
P

echo '--- a rank that torchrun loses'
# shellcheck disable=SC2086
"$python/bin/torchrun" --no-python --standalone --nproc-per-node 2 "$byol" pretrain $run --steps 1000000 \
    --checkpoint-epochs 1 --rank-timeout 3 --out "$out/lost" >"$out/lost.txt" 2>&1 &
launcher=$!
trap 'kill $launcher 2>/dev/null || true' EXIT
i=0
until [ -e "$out/lost/checkpoint.safetensors" ]; do
    i=$((i + 1))
    [ $i -lt 600 ] || { cat "$out/lost.txt"; echo 'no checkpoint came'; exit 1; }
    sleep 0.1
done
victim=
for pid in $(pgrep -P "$launcher"); do
    if tr '\0' '\n' <"/proc/$pid/environ" | grep -qx 'RANK=1'; then victim=$pid; fi
done
kill -STOP "$victim"
i=0
until grep -q 'rank 1 (process .*no sign of life' "$out/lost.txt"; do
    i=$((i + 1))
    [ $i -lt 80 ] || { cat "$out/lost.txt"; echo 'a stopped rank was not named within 8 s'; exit 1; }
    sleep 0.1
done
kill -KILL "$victim"
if wait "$launcher"; then echo 'torchrun called a lost rank a success'; exit 1; fi
trap - EXIT
grep -o 'rank 1 (process.*' "$out/lost.txt" | head -1

echo '--- a link that is cut'
# Two machines, as far as the network knows.
a=byol-a-$$ b=byol-b-$$
ip netns add "$a"
ip netns add "$b"
trap 'ip netns del $a; ip netns del $b' EXIT
ip link add va netns "$a" type veth peer name vb netns "$b"
ip -n "$a" addr add 10.77.0.1/24 dev va
ip -n "$b" addr add 10.77.0.2/24 dev vb
for side in "$a va" "$b vb"; do
    # shellcheck disable=SC2086
    set -- $side
    ip -n "$1" link set lo up
    ip -n "$1" link set "$2" up
done
# rank NAMESPACE RANK
rank() {
    # shellcheck disable=SC2086
    ip netns exec "$1" env RANK="$2" WORLD_SIZE=2 LOCAL_RANK=0 LOCAL_WORLD_SIZE=1 MASTER_ADDR=10.77.0.1 MASTER_PORT=29512 \
        "$byol" pretrain $run --steps 1000000 --checkpoint-epochs 1 --rank-timeout 3 --out "$out/cut-$2" >"$out/cut-$2.txt" 2>&1
}
rank "$a" 0 &
first=$!
rank "$b" 1 &
second=$!
i=0
until [ -e "$out/cut-0/checkpoint.safetensors" ]; do
    i=$((i + 1))
    [ $i -lt 600 ] || { cat "$out"/cut-*.txt; echo 'no checkpoint came'; exit 1; }
    sleep 0.1
done
ip -n "$a" link set va down
before=$(date +%s)
if wait $first; then echo 'rank 0 called a cut link a success'; exit 1; fi
if wait $second; then echo 'rank 1 called a cut link a success'; exit 1; fi
took=$(($(date +%s) - before))
echo "both ended $took s after the cut"
[ $took -le 9 ]
grep 'rank 1 (process .*no sign of life' "$out/cut-0.txt"
grep 'rank 0 (process .*not answered' "$out/cut-1.txt"
rm -rf "$out"
