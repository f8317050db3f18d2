#!/bin/sh
# Compiles every tests/c/*.c against libbyol and runs it on two small encoders. Prints one line per program.
#
#   BYOL_LIB     folder with libbyol.so   (target/release)
#   BYOL_COMMAND the command byol         (target/release/byol)
#   BYOL_OUT     where programs and files go (target/tests/c)
#   CC, CFLAGS   compiler and further flags
#   BYOL_UNDER   a program to run them under, such as valgrind with its options
#   BYOL_ONLY    names of the programs to run, if not all
set -eu
cd "$(dirname "$0")/../.."
lib=${BYOL_LIB:-target/release}
byol=${BYOL_COMMAND:-target/release/byol}
out=${BYOL_OUT:-target/tests/c}
only=${BYOL_ONLY:-$(basename -s .c tests/c/*.c) matrix forked}
for file in "$byol" "$lib/libbyol.so"; do
    [ -e "$file" ] || { echo "$file is missing: run 'cargo build --release' first" >&2; exit 1; }
done
[ -n "${BYOL_ONNXRUNTIME:-}" ] || python3 src/native/fetch.py onnxruntime
mkdir -p "$out"
# The name that programs ask for (its SONAME), which `make install` gives it too.
ln -sf "$(cd "$lib" && pwd)/libbyol.so" "$out/libbyol.so.0"
for seed in 1 2; do
    "$byol" --quiet export --encoder resnet18 --stem small-stride2 --width 4 --blocks 1,1 --pool grid2 --channels 1 \
        --image-size 28 --seed $seed --output "$out/encoder$seed.onnx" >/dev/null 2>&1
done
failed=0 passed=0
for name in $only; do
    source=tests/c/$name.c
    if [ "$name" = matrix ]; then
        source=$out/matrix.c
        python3 tests/c/matrix.py >"$source" 2>/dev/null
    elif [ "$name" = forked ]; then
        source=$out/forked.c
        python3 tests/c/matrix.py forked >"$source"
    fi
    # shellcheck disable=SC2086
    ${CC:-cc} -std=c11 -D_POSIX_C_SOURCE=200809L -O1 -g -Wall -Wextra -Wpedantic -Wconversion -Wstrict-prototypes -Wundef \
        -Werror ${CFLAGS:-} -Iinclude -Itests/c "$source" -o "$out/$name" "$out/libbyol.so.0" -Wl,-rpath,"$(cd "$out" && pwd)" \
        -pthread -lm
    # shellcheck disable=SC2086
    if ${BYOL_UNDER:-} "$out/$name" "$out/encoder1.onnx" "$out/encoder2.onnx" "$out" >"$out/$name.log" 2>"$out/$name.err" &&
        { [ -n "${BYOL_UNDER:-}" ] || [ ! -s "$out/$name.err" ]; }; then
        if [ "$name" = matrix ]; then
            uniq "$out/matrix.log" >"$out/matrix.found"
            if [ -n "${BYOL_BLESS:-}" ]; then cp "$out/matrix.found" tests/c/matrix.expected; fi
            diff tests/c/matrix.expected "$out/matrix.found" ||
                { echo 'C test matrix: not what was recorded (BYOL_BLESS=1 records it anew)'; exit 1; }
        fi
        echo "C test $name: ok"
        passed=$((passed + 1))
    else
        echo "C test $name: FAILED"
        cat "$out/$name.log" "$out/$name.err"
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
