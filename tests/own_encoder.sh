#!/bin/sh
# Exports timm models in training mode, trains them with byol, and lets stock onnxruntime judge what was written; then
# the same of weights of torchvision and timm that load by name. The environment with PyTorch is made in
# target/python-timm when its requirements change; with --environment, that is all.
set -eu
cd "$(dirname "$0")/.."
python=target/python-timm models=target/own-encoder
if ! cmp -s tests/own_encoder.txt "$python/installed.txt"; then
    rm -rf "$python"
    python3 -m venv "$python"
    "$python/bin/python" -m pip install -q --disable-pip-version-check -r tests/own_encoder.txt
    cp tests/own_encoder.txt "$python/installed.txt"
fi
[ "${1:-}" != --environment ] || exit 0
rm -rf "$models"
"$python/bin/python" tests/data/record_own_encoder.py "$models"
BYOL_OWN_ENCODERS="$PWD/$models" cargo test --release --workspace --features train --test own_encoder -- --ignored --nocapture
cargo build --release --workspace --features train
"$python/bin/python" tests/own_encoder.py "$models"
"$python/bin/python" tests/zoo.py "$models"
rm -rf "$models"
