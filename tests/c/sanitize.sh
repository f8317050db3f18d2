#!/bin/sh
# The C tests under AddressSanitizer, UndefinedBehaviorSanitizer and LeakSanitizer (the C side), and under valgrind's
# memcheck (all of the process). Any report fails.
set -eu
cd "$(dirname "$0")/../.."
# Not fork: what its child leaves behind is on purpose.
memory='close flow init matrix misuse mixed picture soak teach threads'

export BYOL_TEST_SLOW=1
echo 'AddressSanitizer, UndefinedBehaviorSanitizer, LeakSanitizer'
CFLAGS='-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -fno-var-tracking' BYOL_OUT=target/tests/c-sanitized \
    ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1 UBSAN_OPTIONS=print_stacktrace=1 BYOL_ONLY="$memory" sh tests/c/run.sh
# An uninstrumented run would prove nothing.
nm target/tests/c-sanitized/flow | grep -q __asan_init || { echo 'the programs are not instrumented' >&2; exit 1; }

echo 'valgrind'
BYOL_OUT=target/tests/c-valgrind BYOL_ONLY="$memory" BYOL_UNDER="valgrind -q --error-exitcode=99 --leak-check=full \
    --show-leak-kinds=definite --errors-for-leak-kinds=definite --fair-sched=yes --suppressions=tests/c/valgrind.supp" \
    sh tests/c/run.sh
