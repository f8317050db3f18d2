#!/bin/sh
# The C tests with threads under ThreadSanitizer: libbyol, all crates that it is made of, and the test programs are
# instrumented. Any report fails.
#
# Not instrumented: ONNX Runtime (process/race.supp), and Rust's standard library, which comes compiled. What its locks do
# inline is part of our crates and is seen; its few functions that are not inline get a wrapper that tells
# ThreadSanitizer what they order.
#
#   BYOL_ONLY    names of the programs to run (close mixed threads)
#   BYOL_LIB     an instrumented libbyol that is there already
set -eu
cd "$(dirname "$0")/../.."
sh src/native/need.sh cargo cc
out=target/tests/c-race
target=$(rustc -vV | sed -n 's/^host: //p')
libraries=$(rustc --print target-libdir)
mkdir -p "$out"

readelf -sW "$libraries"/libstd-*.rlib 2>/dev/null | awk '$4 == "FUNC" {print $8}' | sort -u >"$out/std"
# wrap PATTERN PARAMETERS ARGUMENTS BEFORE AFTER: one function of the standard library
wrap() {
    symbol=$(grep "$1\$" "$out/std") || { echo "Rust's standard library has no $1 any more" >&2; exit 1; }
    echo "unsigned long __real_$symbol($2);"
    echo "unsigned long __wrap_$symbol($2) { $4; unsigned long r = __real_$symbol($3); $5; return r; }"
    echo "-Clink-arg=-Wl,--wrap=$symbol" >>"$out/wraps"
}
: >"$out/wraps"
{
    echo 'void __tsan_acquire(void *); void __tsan_release(void *);'
    # Names that rustc's LLVM gives to what the C compiler's run time intercepts under the plain ones.
    for function in memcpy memmove; do
        echo "void *$function(void *, const void *, unsigned long);"
        echo "void *__tsan_$function(void *, const void *, unsigned long);"
        echo "void *__tsan_$function(void *to, const void *from, unsigned long n) { return $function(to, from, n); }"
    done
    echo 'void *memset(void *, int, unsigned long); void *__tsan_memset(void *, int, unsigned long);'
    echo 'void *__tsan_memset(void *to, int byte, unsigned long n) { return memset(to, byte, n); }'
    wrap '5mutex5futexNt.*lock_contended' 'void *lock' lock '' '__tsan_acquire(lock)'
    wrap '6rwlock5futexNt.*read_contended' 'void *lock' lock '' '__tsan_acquire(lock)'
    wrap '6rwlock5futexNt.*write_contended' 'void *lock' lock '' '__tsan_acquire(lock)'
    wrap '7condvar5futexNt.*7Condvar4wait' 'void *condvar, void *lock' 'condvar, lock' '__tsan_release(lock)' '__tsan_acquire(lock)'
    wrap '7condvar5futexNt.*7Condvar12wait_timeout' 'void *condvar, void *lock, unsigned long s, unsigned n' \
        'condvar, lock, s, n' '__tsan_release(lock)' '__tsan_acquire(lock)'
    wrap '4once5futexNt.*4Once4call' 'void *once, unsigned char ignore, void *f, void *table, void *place' \
        'once, ignore, f, table, place' '' '__tsan_release(once); __tsan_acquire(once)'
} >"$out/wrap.c"
cc -O1 -fPIC -fno-builtin -Wall -Wextra -Werror -c "$out/wrap.c" -o "$out/wrap.o"

if [ -z "${BYOL_LIB:-}" ]; then
    RUSTC_BOOTSTRAP=1 CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
        RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer -Clink-arg=$PWD/$out/wrap.o $(tr '\n' ' ' <"$out/wraps")" \
        cargo build --release -p byol-ffi --target "$target" --target-dir target/race-build
    BYOL_LIB=target/race-build/$target/release
fi
# An uninstrumented run would prove nothing.
readelf -sW "$BYOL_LIB/libbyol.so" | grep -q __tsan_read8 || { echo 'libbyol is not instrumented' >&2; exit 1; }

export BYOL_LIB
# Of mutexes only ONNX Runtime's are seen, and only half of them.
export TSAN_OPTIONS="suppressions=$PWD/tests/c/process/race.supp exitcode=66 report_mutex_bugs=0"
# Addresses at random places can lie where ThreadSanitizer keeps its shadow. Some containers forbid to ask for others.
under=
if setarch -R true 2>/dev/null; then under='setarch -R'; fi
CFLAGS=-fsanitize=thread BYOL_OUT=$out BYOL_ONLY=${BYOL_ONLY:-close mixed threads} BYOL_UNDER=$under sh tests/c/run.sh
