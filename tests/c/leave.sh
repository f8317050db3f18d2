#!/bin/sh
# Ends processes that use libbyol in every way, BYOL_LEAVE (20; `make soak`: 1000) times each: status 0, nothing printed.
set -eu
cd "$(dirname "$0")/../.."
out=${BYOL_OUT:-target/tests/c}
times=${BYOL_LEAVE:-20}
BYOL_OUT=$out BYOL_ONLY=init sh tests/c/run.sh >/dev/null
flags='-std=c11 -D_DEFAULT_SOURCE -O1 -g -Wall -Wextra -Werror -Iinclude'
# shellcheck disable=SC2086
cc $flags -fPIC -shared tests/c/process/plugin.c -o "$out/plugin.so" "$out/libbyol.so.0" -Wl,-rpath,"$(cd "$out" && pwd)" -pthread
# shellcheck disable=SC2086
cc $flags tests/c/process/leave.c -o "$out/leave" -ldl -pthread
passed=0 failed=0
for way in return exit _exit quick_exit exit-from-thread pthread_exit dlclose; do
    bad=0 i=0
    while [ $i -lt "$times" ]; do
        i=$((i + 1))
        status=0
        timeout 60 "$out/leave" "$out/encoder1.onnx" "$(cd "$out" && pwd)/plugin.so" $way >"$out/leave.log" 2>&1 || status=$?
        if [ $status != 0 ] || [ -s "$out/leave.log" ]; then
            bad=$((bad + 1))
            echo "$way: status $status $(head -c 300 "$out/leave.log")"
        fi
    done
    echo "leaving by $way: $((times - bad)) of $times clean"
    if [ $bad = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
