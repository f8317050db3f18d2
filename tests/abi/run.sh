#!/bin/sh
# The ABI of 0.1.0 still holds: abidiff finds nothing but what the header allows to grow, and a program compiled with
# 0.1.0's header runs on today's library. Both headers are committed; the ABI files are made of them here, so that no
# version of a tool is baked in.
set -eu
cd "$(dirname "$0")/../.."
lib=${BYOL_LIB:-target/release}
byol=${BYOL_COMMAND:-target/release/byol}
out=${BYOL_OUT:-target/tests/abi}
command -v abidiff >/dev/null || { echo 'abidiff is missing: apt-get install abigail-tools' >&2; exit 1; }
[ -n "${BYOL_ONNXRUNTIME:-}" ] || python3 src/native/fetch.py onnxruntime
mkdir -p "$out/old"
cp tests/abi/byol-0.1.0.h "$out/old/byol.h"

# library HEADER NAME
library() {
    python3 tests/abi/stub.py "$1" >"$out/$2.c"
    cc -std=c11 -g -O0 -fPIC -shared -w -I. -Wl,-soname,libbyol.so.0 "$out/$2.c" -o "$out/$2.so"
}
# compare OLD NEW: fails, and says why, if more than the end of structs has changed
compare() {
    abidiff --no-added-syms --leaf-changes-only --no-show-locs "$out/$1.so" "$out/$2.so" >"$out/$2.diff" && return
    # 4: there are changes; 1 and 2: it did not work.
    [ $(($? & 3)) = 0 ] || { cat "$out/$2.diff"; return 1; }
    python3 tests/abi/allowed.py <"$out/$2.diff"
}
library tests/abi/byol-0.1.0.h was
library include/byol.h is
compare was is || { echo 'the ABI of 0.1.0 is broken'; exit 1; }
echo 'ABI: nothing of 0.1.0 is lost or changed'

# That abidiff would see it, if it were: a field in the middle, one of another size, a parameter more, a function less.
broken=0
for change in 's/^    uint32_t sessions;/    uint32_t sessions; uint32_t inserted;/' 's/^    double top1;/    float top1;/' \
    's/size_t columns,/size_t columns, size_t more,/' 's/byol_head_close/byol_head_shut/' \
    's/^    uint64_t max_image_bytes;//'; do
    sed "$change" include/byol.h >"$out/changed.h"
    cmp -s "$out/changed.h" include/byol.h && { echo "nothing to change by $change"; exit 1; }
    library "$out/changed.h" changed
    if compare is changed >/dev/null; then echo "abidiff does not see $change"; exit 1; fi
    broken=$((broken + 1))
done
# And that it lets a struct grow at its end.
sed 's/^    size_t class_weights_len;/    size_t class_weights_len; uint64_t appended;/' include/byol.h >"$out/grown.h"
cmp -s "$out/grown.h" include/byol.h && { echo 'nothing to grow'; exit 1; }
library "$out/grown.h" grown
compare is grown || { echo 'a struct may not even grow'; exit 1; }
echo "ABI: $broken broken headers are seen, a grown one passes"

ln -sf "$(cd "$lib" && pwd)/libbyol.so" "$out/libbyol.so.0"
"$byol" --quiet export --encoder resnet18 --stem small-stride2 --width 4 --blocks 1,1 --pool grid2 --channels 1 \
    --image-size 28 --seed 1 --output "$out/encoder.onnx" >/dev/null 2>&1
cc -std=c11 -O1 -Wall -Wextra -Werror -I"$out/old" tests/abi/program-0.1.0.c -o "$out/program" "$out/libbyol.so.0" \
    -Wl,-rpath,"$(cd "$out" && pwd)" -lm
"$out/program" "$out/encoder.onnx"
echo 'ABI: the program of 0.1.0 runs'
echo '3 passed, 0 failed'
