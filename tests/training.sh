#!/bin/sh
# Training that can be trusted, from outside: runs killed and resumed, a full disk, and event files read by TensorBoard.
# usage: sh tests/training.sh        (needs target/release/byol with training; a virtual environment in target)
set -eu
cd "$(dirname "$0")/.."
byol=target/release/byol
test -x "$byol" || { echo "$byol is missing: make build"; exit 1; }
python3 tests/kill.py "$byol" "${BYOL_KILLS:-6}"

python=target/tensorboard/bin/python
if ! "$python" -c 'import tensorboard' 2>/dev/null; then
    python3 -m venv target/tensorboard
    "$python" -m pip install -q --disable-pip-version-check 'tensorboard==2.21.0' 'setuptools<81'
fi
run=$(mktemp -d target/tensorboard-run-XXXXXX)
trap 'rm -r "$run"' EXIT
settings='--config examples/demo.toml --images 640 --epochs 2 --batch-size 32 --evaluation-epochs 1 --checkpoint-epochs 0.25'
# Interrupted in the middle and resumed: the reader must forget what was said beyond the checkpoint.
"$byol" pretrain $settings --out "$run/run" 2>/dev/null &
pid=$!
while [ ! -e "$run/run/checkpoint.safetensors" ]; do kill -0 $pid && sleep 0.05; done
kill -9 $pid
wait $pid || true
"$byol" -q pretrain --resume --out "$run/run"
"$python" tests/tensorboard_reads.py "$run/run"
