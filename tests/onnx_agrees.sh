#!/bin/sh
# Runs tests/onnx_agrees.py and tests/head_agrees.py in an environment of its own, made in target/python when its requirements change.
# With --environment it only makes that.
set -eu
cd "$(dirname "$0")/.."
python=target/python
if ! cmp -s tests/requirements.txt "$python/installed.txt"; then
    rm -rf "$python"
    python3 -m venv "$python"
    "$python/bin/python" -m pip install -q --disable-pip-version-check -r tests/requirements.txt
    cp tests/requirements.txt "$python/installed.txt"
fi
[ "${1:-}" != --environment ] || exit 0
"$python/bin/python" tests/onnx_agrees.py
"$python/bin/python" tests/head_agrees.py target/release/byol \
    examples/data/fashion-mnist/t10k-images-idx3-ubyte.gz examples/data/fashion-mnist/t10k-labels-idx1-ubyte.gz
