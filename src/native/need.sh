#!/bin/sh
# Says what to install when a tool is missing: need.sh TOOL...
failed=0
for tool in "$@"; do
    case $tool in
        pip) probe='python3 -m pip --version' advice='Debian, Ubuntu: apt-get install python3-pip; elsewhere: python3 -m ensurepip' ;;
        rustfmt) probe='cargo fmt --version' advice='rustup component add rustfmt' ;;
        clippy) probe='cargo clippy --version' advice='rustup component add clippy' ;;
        cargo) probe='cargo --version' advice='Rust 1.92 or later, see https://rustup.rs' ;;
        cc) probe='cc --version' advice='a C compiler; Debian, Ubuntu: apt-get install gcc' ;;
        c++) probe='c++ --version' advice='a C++17 compiler; Debian, Ubuntu: apt-get install g++' ;;
        python3) probe='python3 -c "import sys; sys.exit(sys.version_info < (3, 9))"' advice='Python 3.9 or later; Debian, Ubuntu: apt-get install python3' ;;
        *) probe="command -v $tool" advice="Debian, Ubuntu: apt-get install $tool" ;;
    esac
    if ! eval "$probe" >/dev/null 2>&1; then
        echo "byol needs $tool, which is missing here. Install it: $advice" >&2
        failed=1
    fi
done
exit $failed
