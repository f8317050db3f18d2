#!/bin/sh
# libbyol in one process with another version of ONNX Runtime (a wheel from PyPI), a second Rust library and protobuf, loaded
# before it and after it, all symbols global; and the static library in one program with a second Rust archive.
set -eu
cd "$(dirname "$0")/../.."
out=${BYOL_OUT:-target/tests/c}
BYOL_OUT=$out BYOL_ONLY=init sh tests/c/run.sh >/dev/null
wheels=$out/wheels
mkdir -p "$wheels"
python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: --require-hashes --python-version 3.12 \
    --platform manylinux_2_28_x86_64 -d "$wheels" -r tests/c/process/onnxruntime.txt
python3 -m zipfile -e "$wheels"/onnxruntime-1.30.0-*.whl "$wheels"
other=$(ls "$wheels"/onnxruntime/capi/libonnxruntime.so.1.30*)
protobuf=$(ldconfig -p | sed -n 's/.*libprotobuf\.so\.[0-9]* .*=> //p' | head -1)
[ -n "$protobuf" ] || { echo 'libprotobuf is missing: apt-get install libprotobuf-dev' >&2; exit 1; }
rustc -O --edition 2024 --crate-type cdylib tests/c/process/other.rs -o "$out/libother.so"
rustc -O --edition 2024 --crate-type staticlib tests/c/process/other.rs -o "$out/libother.a"
cc -std=c11 -D_DEFAULT_SOURCE -O1 -g -Wall -Wextra -Werror -Iinclude tests/c/process/coexist.c -o "$out/coexist" -ldl
byol=byol:$(cd "$out" && pwd)/libbyol.so.0 ort=ort:$other rust=rust:$out/libother.so any=any:$protobuf
passed=0
# together TITLE LIBRARY...: the same features as alone, nothing printed as an error
together() {
    title=$1
    shift
    if ! "$program" "$out/encoder1.onnx" "$@" >"$out/coexist.log" 2>"$out/coexist.err" || [ -s "$out/coexist.err" ]; then
        echo "$title: FAILED"
        cat "$out/coexist.log" "$out/coexist.err"
        exit 1
    fi
    grep -q '"version":"1.32.0"' "$out/coexist.log" || { echo "$title: another ONNX Runtime"; cat "$out/coexist.log"; exit 1; }
    sed -n 's/^\(features [-0-9.]*\) .*/\1/p' "$out/coexist.log" >"$out/coexist.sum"
    [ -f "$out/coexist.alone" ] || cp "$out/coexist.sum" "$out/coexist.alone"
    cmp "$out/coexist.sum" "$out/coexist.alone" || exit 1
    echo "libbyol $title: ok"
    passed=$((passed + 1))
}
rm -f "$out/coexist.alone"
program=$out/coexist
together alone "$byol"
together 'before ONNX Runtime 1.30' "$byol" "$ort"
together 'after ONNX Runtime 1.30' "$ort" "$byol"
grep -q 'other ONNX Runtime 1.30' "$out/coexist.log" || { echo 'the other ONNX Runtime was not used'; exit 1; }
together 'before a Rust library' "$byol" "$rust"
together 'after a Rust library' "$rust" "$byol"
together 'before protobuf' "$byol" "$any"
together 'after protobuf' "$any" "$byol"
together 'before all of them' "$byol" "$any" "$rust" "$ort"
together 'after all of them' "$ort" "$rust" "$any" "$byol"

sh src/native/archive.sh "${BYOL_LIB:-target/release}/libbyol.a" "$out/libbyol-only.a"
printf '%s\n' '#include <byol.h>' 'int other_answer(void);' \
    'int main(void) { return !(other_answer() == 42 && byol_version() == BYOL_VERSION_NUMBER); }' >"$out/two.c"
for order in "$out/libbyol-only.a $out/libother.a" "$out/libother.a $out/libbyol-only.a"; do
    # shellcheck disable=SC2086
    cc -Iinclude "$out/two.c" -o "$out/two" $order -lgcc_s -lpthread -lm -ldl
    "$out/two"
    passed=$((passed + 1))
done
echo 'libbyol.a with a second Rust archive, in both orders: ok'
# The same as a program that has libbyol and the second Rust archive inside, and shows their symbols to all that is loaded.
cc -std=c11 -D_DEFAULT_SOURCE -O1 -g -Wall -Wextra -Werror -Iinclude tests/c/process/coexist.c -o "$out/coexist-static" \
    -rdynamic -Wl,-u,byol_version,-u,other_answer "$out/libbyol-only.a" "$out/libother.a" -lgcc_s -lpthread -lm -ldl
program=$out/coexist-static
together 'inside the program, before ONNX Runtime 1.30' byol:- rust:- "$ort"
together 'inside the program, after all of them' "$ort" "$rust" "$any" rust:- byol:-
echo "$passed passed, 0 failed"
