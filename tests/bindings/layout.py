"""Prints how the C compiler lays out every struct of include/byol.h, one line each: struct, field, offset, size.

usage: python3 tests/bindings/layout.py

A struct's own line has no field. The tests of Go and Swift compare their view with it; tests/c_abi.rs compares Rust's.
"""
import os
import pathlib
import re
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
HEADER = ROOT / "include/byol.h"


def structs():
    """The structs of the header and their fields, in its order."""
    code = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.S)
    for name, body in re.findall(r"typedef struct (\w+) \{(.*?)\}", code, flags=re.S):
        fields = [re.search(r"(\w+)(\[\w+\])?$", part.strip()) for part in body.split(";") if part.strip()]
        yield name, [field.group(1) for field in fields]


def main():
    lines = ["#include <byol.h>", "#include <stdio.h>", "int main(void) {"]
    for name, fields in structs():
        lines.append(f'printf("{name}\\t\\t0\\t%zu\\n", sizeof({name}));')
        for field in fields:
            where = f"offsetof({name}, {field}), sizeof((({name} *)0)->{field})"
            lines.append(f'printf("{name}\\t{field}\\t%zu\\t%zu\\n", {where});')
    lines += ["return 0; }"]
    with tempfile.TemporaryDirectory() as folder:
        source, program = pathlib.Path(folder, "layout.c"), pathlib.Path(folder, "layout")
        source.write_text("\n".join(lines))
        subprocess.run([os.environ.get("CC", "cc"), "-I", HEADER.parent, source, "-o", program], check=True)
        print(subprocess.run([program], check=True, text=True, stdout=subprocess.PIPE).stdout, end="")


if __name__ == "__main__":
    main()
