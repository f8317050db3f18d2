#!/bin/sh
# Compiles and runs every program of docs/c-guide.md, with warnings as errors; and reads byol.h and byol.hpp with doxygen,
# which must not warn.
set -eu
cd "$(dirname "$0")/.."
out=${BYOL_OUT:-target/tests/guide}
sh src/native/need.sh cc c++ python3 doxygen
[ -n "${BYOL_ONNXRUNTIME:-}" ] || python3 src/native/fetch.py onnxruntime
rm -rf "$out"
mkdir -p "$out"
ln -sf "$(cd "${BYOL_LIB:-target/release}" && pwd)/libbyol.so" "$out/libbyol.so.0"
"${BYOL_COMMAND:-target/release/byol}" --quiet export --encoder resnet18 --stem small-stride2 --width 4 --blocks 1,1 \
    --pool grid2 --channels 1 --image-size 28 --seed 1 --output "$out/encoder.onnx" >/dev/null 2>&1
python3 - docs/c-guide.md "$out" <<'PYTHON'
import re, sys
from pathlib import Path
guide, out = Path(sys.argv[1]).read_text(), Path(sys.argv[2])
for i, (language, code) in enumerate(re.findall(r"^```(c|cpp)\n(.*?)^```", guide, re.S | re.M)):
    (out / f"program{i}.{'c' if language == 'c' else 'cc'}").write_text(code)
(out / "picture.pgm").unlink(missing_ok=True)
# A gray BMP of 28 x 28.
size = 54 + 1024 + 28 * 28
header = b"BM" + size.to_bytes(4, "little") + bytes(4) + (1078).to_bytes(4, "little")
info = b"".join(n.to_bytes(k, "little") for n, k in [(40, 4), (28, 4), (28, 4), (1, 2), (8, 2), (0, 4), (784, 4), (0, 4), (0, 4), (256, 4), (0, 4)])
palette = b"".join(bytes([v, v, v, 0]) for v in range(256))
(out / "picture.bmp").write_bytes(header + info + palette + bytes(i % 251 for i in range(784)))
PYTHON
passed=0
for source in "$out"/program*; do
    compiler=cc standard=c11
    if [ "${source##*.}" = cc ]; then compiler=c++ standard=c++11; fi
    $compiler -std=$standard -Wall -Wextra -Wpedantic -Werror -Iinclude "$source" -o "$out/program" "$out/libbyol.so.0" \
        -Wl,-rpath,"$(cd "$out" && pwd)"
    "$out/program" "$out/encoder.onnx" "$out/picture.bmp" >"$out/said" || { echo "$source: FAILED"; exit 1; }
    echo "guide, $(basename "$source"): $(cat "$out/said")"
    passed=$((passed + 1))
done
[ $passed -ge 3 ] || { echo "only $passed programs in the guide"; exit 1; }
{ cat docs/Doxyfile; echo "OUTPUT_DIRECTORY = $out"; } >"$out/Doxyfile"
doxygen "$out/Doxyfile" >/dev/null 2>"$out/doxygen"
if [ -s "$out/doxygen" ]; then
    head -20 "$out/doxygen"
    exit 1
fi
ls "$out"/html/byol_8h.html >/dev/null
passed=$((passed + 1))
echo "$passed passed, 0 failed"
