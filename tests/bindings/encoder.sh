#!/bin/sh
# Writes the small encoder that the tests of all bindings share: encoder.sh FILE
set -eu
cd "$(dirname "$0")/../.."
target/release/byol --quiet export --encoder resnet18 --width 8 --stem small --image-size 28 --channels 1 -o "$1" >/dev/null
