#!/bin/sh
# Allocation failures: see process/failing.c. Prints the counts; a signal other than abort fails.
set -eu
cd "$(dirname "$0")/../.."
out=${BYOL_OUT:-target/tests/c}
BYOL_OUT=$out BYOL_ONLY=init sh tests/c/run.sh >/dev/null
cc -std=c11 -D_DEFAULT_SOURCE -O1 -g -Wall -Wextra -Werror -Iinclude -Itests/c tests/c/process/failing.c -o "$out/failing" \
    "$out/libbyol.so.0" -Wl,-rpath,"$(cd "$out" && pwd)"
rm -f "$out/failing-head.safetensors"
"$out/failing" "$out/encoder1.onnx" "$out/failing-head.safetensors" || { echo '0 passed, 1 failed'; exit 1; }
echo '1 passed, 0 failed'
