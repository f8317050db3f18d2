#!/bin/sh
# byol.hpp in every standard and compiler, with and without exceptions: compiled with warnings as errors, linked from two
# translation units, and run; with g++ also under AddressSanitizer and UndefinedBehaviorSanitizer.
# BYOL_LIB, BYOL_COMMAND, BYOL_OUT as in tests/c/run.sh. Without clang++, only g++ (CI has both).
set -eu
cd "$(dirname "$0")/../.."
lib=${BYOL_LIB:-target/release}
byol=${BYOL_COMMAND:-target/release/byol}
out=${BYOL_OUT:-target/tests/cpp}
[ -n "${BYOL_ONNXRUNTIME:-}" ] || python3 src/native/fetch.py onnxruntime
mkdir -p "$out"
ln -sf "$(cd "$lib" && pwd)/libbyol.so" "$out/libbyol.so.0"
for seed in 1 2; do
    "$byol" --quiet export --encoder resnet18 --stem small-stride2 --width 4 --blocks 1,1 --pool grid2 --channels 1 \
        --image-size 28 --seed $seed --output "$out/encoder$seed.onnx" >/dev/null 2>&1
done
warnings='-Wall -Wextra -Wpedantic -Wconversion -Wundef -Wshadow -Wcast-qual -Wold-style-cast -Wnon-virtual-dtor
    -Woverloaded-virtual -Werror'
compilers=g++
if command -v clang++ >/dev/null || [ -n "${CI:-}" ]; then compilers='g++ clang++'; fi
passed=0
# one TITLE COMPILER FLAGS...
one() {
    title=$1 compiler=$2
    shift 2
    # shellcheck disable=SC2086
    "$compiler" "$@" $warnings -Iinclude tests/cpp/flow.cc tests/cpp/other.cc -o "$out/flow" "$out/libbyol.so.0" \
        -Wl,-rpath,"$(cd "$out" && pwd)" || { echo "C++ test $title: FAILED to compile"; exit 1; }
    if "$out/flow" "$out/encoder1.onnx" "$out/encoder2.onnx" "$out" >"$out/flow.log" 2>"$out/flow.err" && [ ! -s "$out/flow.err" ]
    then
        echo "C++ test $title: ok"
        passed=$((passed + 1))
    else
        echo "C++ test $title: FAILED"
        cat "$out/flow.log" "$out/flow.err"
        exit 1
    fi
}
for compiler in $compilers; do
    for standard in c++11 c++14 c++17 c++20 c++2b; do one "$compiler $standard" "$compiler" -std=$standard; done
    one "$compiler without exceptions" "$compiler" -std=c++17 -fno-exceptions -fno-rtti
    one "$compiler BYOL_NO_EXCEPTIONS" "$compiler" -std=c++11 -DBYOL_NO_EXCEPTIONS
done
export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1 UBSAN_OPTIONS=print_stacktrace=1
for standard in c++11 c++20; do
    one "g++ $standard under sanitizers" g++ -std=$standard -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all
done
nm "$out/flow" | grep -q __asan_init || { echo 'the program is not instrumented' >&2; exit 1; }
echo "$passed passed, 0 failed"
