#!/bin/sh
# Fuzzes libbyol: five targets side by side, BYOL_FUZZ_SECONDS (60) of wall time each, from the committed corpus. A crash,
# a leak, a broken promise, 30 seconds on one input or 2 GiB fail, and leave the input in target/fuzz.
#
#   sh tests/fuzz/run.sh                  all targets
#   sh tests/fuzz/run.sh model head       these
#   sh tests/fuzz/run.sh model FILE       one input again, with its backtrace
#
#   BYOL_FUZZ_SECONDS  wall time of each target
#   BYOL_FUZZ_OUT      where what is found goes (target/fuzz)
#
# Stable Rust is enough: RUSTC_BOOTSTRAP lets it link the sanitizer that it ships with. ONNX Runtime itself is not
# instrumented.
set -eu
cd "$(dirname "$0")/../.."
sh src/native/need.sh cargo c++
[ -n "${BYOL_ONNXRUNTIME:-}" ] || python3 src/native/fetch.py onnxruntime
seconds=${BYOL_FUZZ_SECONDS:-60}
out=${BYOL_FUZZ_OUT:-target/fuzz}
host=$(rustc -vV | sed -n 's/^host: //p')
mkdir -p "$out"

# The crates are to be those of the product, in the same versions.
cp Cargo.lock tests/fuzz/Cargo.lock
RUSTC_BOOTSTRAP=1 RUSTFLAGS="--cfg fuzzing -Zsanitizer=address -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares" \
    cargo build --release --manifest-path tests/fuzz/Cargo.toml --target "$host" --target-dir target/fuzz-build
built=target/fuzz-build/$host/release
# An uninstrumented run would prove nothing.
nm "$built/model" | grep -q __asan_init || { echo 'the targets are not instrumented' >&2; exit 1; }

BYOL_ONNXRUNTIME=${BYOL_ONNXRUNTIME:-$PWD/.native/onnxruntime/lib}
ASAN_OPTIONS=${ASAN_OPTIONS:-allocator_may_return_null=1}
export BYOL_ONNXRUNTIME ASAN_OPTIONS
if [ $# = 2 ] && [ -f "$2" ]; then exec "$built/$1" "$2"; fi

targets=${*:-model head picture view structs}
for target in $targets; do
    mkdir -p "$out/$target" "$out/found"
    dictionary=tests/fuzz/$target.dict
    case $target in
        model) known=tests/data/encoder ;;
        head) known=tests/data/golden ;;
        picture) known=tests/data/formats ;;
        *) known= ;;
    esac
    if [ -d "tests/fuzz/corpus/$target" ]; then known="tests/fuzz/corpus/$target $known"; fi
    # shellcheck disable=SC2046,SC2086
    "$built/$target" -max_total_time="$seconds" -timeout=30 -rss_limit_mb=2048 -malloc_limit_mb=1024 -max_len=65536 \
        -print_final_stats=1 -artifact_prefix="$out/found/$target-" $([ -f "$dictionary" ] && echo "-dict=$dictionary") \
        "$out/$target" $known >"$out/$target.log" 2>&1 &
    echo $! >"$out/$target.pid"
done
failed=0 passed=0
for target in $targets; do
    status=0
    wait "$(cat "$out/$target.pid")" || status=$?
    rm "$out/$target.pid"
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$out/$target.log")
    covered=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$out/$target.log" | tail -1)
    if [ $status = 0 ] && [ "${runs:-0}" -gt 1000 ]; then
        echo "fuzz $target: ok, $runs runs, $covered edges covered"
        passed=$((passed + 1))
    else
        echo "fuzz $target: FAILED, status $status"
        tail -50 "$out/$target.log"
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
