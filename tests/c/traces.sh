#!/bin/sh
# What the system sees of libbyol: no socket, no process, no file but the given ones; nothing printed; as many threads as the
# processors it may use; less than 2 microseconds of processor for a call.
set -eu
cd "$(dirname "$0")/../.."
sh src/native/need.sh cc strace taskset
out=${BYOL_OUT:-target/tests/c}
BYOL_OUT=$out BYOL_ONLY=init sh tests/c/run.sh >/dev/null
# Outside target/, where libbyol would look for a checkout.
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
sh src/native/install.sh "$place/prefix" sdk >/dev/null
cp -P .native/onnxruntime/lib/*.so* "$place/prefix/lib/byol/"
cp "$out/encoder1.onnx" "$place/encoder.onnx"
cc -std=c11 -O1 -Iinclude tests/c/install/features.c -o "$place/features" -L"$place/prefix/lib" -lbyol \
    -Wl,-rpath,"$place/prefix/lib"
passed=0

# trace VARIABLE...: runs the program under strace in this environment
trace() {
    env -i "$@" strace -f -qq -e trace=file,network,process -e signal=none -o "$place/trace" "$place/features" \
        "$place/encoder.onnx" >"$place/said" 2>"$place/err"
    [ ! -s "$place/err" ] || { cat "$place/err"; exit 1; }
    # That the trace is one: the model is in it.
    grep -q 'open.*encoder\.onnx' "$place/trace"
}
sockets='[0-9]+ +(socket|connect|bind|listen|sendto|sendmsg|socketpair)\('

# Without HOME, ONNX Runtime asks for the user's home folder, and the C library its local name service.
trace
if grep -E "$sockets" "$place/trace" | grep -vE 'socket\(AF_UNIX|sun_path="/var/run/nscd/socket"'; then
    echo 'the above has to do with sockets'
    exit 1
fi
trace HOME=/nonexistent
if grep -E "$sockets" "$place/trace"; then
    echo 'the above has to do with sockets'
    exit 1
fi
if grep -E '[0-9]+ +(fork|vfork|kill|execveat)\(' "$place/trace" || [ "$(grep -c 'execve(' "$place/trace")" != 1 ] ||
    grep -E 'clone3?\(' "$place/trace" | grep -v CLONE_THREAD; then
    echo 'the above starts processes'
    exit 1
fi
passed=$((passed + 1))
echo 'no socket, no other process: ok'
# Opened, and there: what the loader needs, the given files, and what the kernel tells about processors and memory.
grep -E '[0-9]+ +(open|openat|creat)\(' "$place/trace" | grep -v ' = -1 ' | sed 's/.*"\(.*\)".*/\1/' | sort -u >"$place/opened"
grep -vE "^($place/prefix/lib/(byol/)?lib(byol|onnxruntime)\.so|$place/encoder\.onnx$|/etc/ld\.so\.cache$|/(usr/)?lib(64)?/)" \
    "$place/opened" | grep -vE '^/(proc/(self|cpuinfo|sys)|sys/(devices/system/(cpu|node)|fs/cgroup|bus/pci/devices)|etc/localtime$)' >"$place/unexpected" || true
if [ -s "$place/unexpected" ]; then
    echo 'opened, and not asked to:'
    cat "$place/unexpected"
    exit 1
fi
if grep -E 'O_(WRONLY|RDWR|CREAT)|(unlink|rename|mkdir)(at)?\(' "$place/trace" | grep -v ' = -1 '; then
    echo 'the above writes'
    exit 1
fi
passed=$((passed + 1))
echo "no file but the given ones, none written ($(wc -l <"$place/opened") opened): ok"

threads() { sed -n 's/.*"threads":\([0-9]*\).*/\1/p'; }
one=$(taskset -c 0 "$place/features" "$place/encoder.onnx" 2>"$place/err" | threads)
[ "$one" = 1 ] || { echo "$one threads on one processor"; exit 1; }
all=$("$place/features" "$place/encoder.onnx" 2>>"$place/err" | threads)
[ "$all" = "$(nproc)" ] || { echo "$all threads on $(nproc) processors"; exit 1; }
[ ! -s "$place/err" ] || { cat "$place/err"; exit 1; }
passed=$((passed + 1))
echo "threads: 1 on one processor, $all on $(nproc): ok"

# A cgroup with half a processor, of version 2 or 1, where this machine lets us make one.
group='' kind=''
for try in "2 /sys/fs/cgroup/byol-test-$$ cpu.max" "1 /sys/fs/cgroup/cpu/byol-test-$$ cpu.cfs_quota_us"; do
    set -- $try
    if mkdir "$2" 2>/dev/null; then
        case $1 in 2) quota='50000 100000' ;; *) quota=50000 ;; esac
        if [ -f "$2/$3" ] && (echo "$quota" >"$2/$3") 2>/dev/null; then
            group=$2 kind=$1
            break
        fi
        rmdir "$2"
    fi
done
if [ -n "$group" ] && [ "$all" -gt 1 ]; then
    half=$(sh -c "echo \$\$ >$group/cgroup.procs; exec $place/features $place/encoder.onnx" 2>"$place/err" | threads)
    rmdir "$group"
    [ "$half" = 1 ] || { echo "$half threads in a cgroup of half a processor"; exit 1; }
    [ ! -s "$place/err" ] || { cat "$place/err"; exit 1; }
    passed=$((passed + 1))
    echo "threads: 1 in a cgroup (version $kind) of half a processor: ok"
else
    [ -z "$group" ] || rmdir "$group"
    echo 'cgroup quota: not tried, this machine has one processor or lets no cgroup be made'
fi
cc -std=c11 -D_POSIX_C_SOURCE=200809L -O2 -Iinclude tests/bench/call.c -o "$place/call" -L"$place/prefix/lib" -lbyol \
    -Wl,-rpath,"$place/prefix/lib"
"$place/call" >"$place/said" || { cat "$place/said"; exit 1; }
passed=$((passed + 1))
echo "a call: $(tail -1 "$place/said"): ok"
echo "$passed passed, 0 failed"
