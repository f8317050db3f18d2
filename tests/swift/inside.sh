#!/bin/sh
# Runs a command in the folder that tests/swift/toolchain.sh made, as DIR there, with this checkout as /byol:
#
#   inside.sh DIR COMMAND...
#
# The mounts live in a namespace of their own and end with it. The environment is empty but for what BYOL_INSIDE lists.
set -eu
tree=$(cd "$(dirname "$0")/../.." && pwd -P)
root=$(sh "$tree/tests/swift/toolchain.sh")
folder=$1
shift
exec unshare --mount --propagation private sh -c '
    root=$1 tree=$2 folder=$3 variables=$4
    shift 4
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mkdir -p "$root/byol" "$root/native"
    mount --rbind "$tree" "$root/byol"
    # .native may be a link to somewhere else.
    mount --bind "$(cd "$tree/.native" && pwd -P)" "$root/native"
    # shellcheck disable=SC2086
    exec chroot "$root" /usr/bin/env -i HOME=/tmp PATH=/usr/bin:/bin LC_ALL=C.UTF-8 \
        BYOL_ONNXRUNTIME=/native/onnxruntime/lib $variables \
        sh -c "cd \"\$1\" && shift && exec \"\$@\"" - "$folder" "$@"
' - "$root" "$tree" "$folder" "${BYOL_INSIDE:-}" "$@"
