#!/usr/bin/env python3
"""Writes a C source that defines every function of a header with an empty body: stub.py byol.h >stub.c

Compiled with -g it is a library whose debug information says all that C knows of the ABI, for abidw and abidiff. (That of
libbyol itself is Rust's. tests/header.rs holds the header to the Rust source, tests/c_abi.rs the layouts and symbols.)
"""
import re
import sys
from pathlib import Path

code = re.sub(r"/\*.*?\*/", "", Path(sys.argv[1]).read_text(), flags=re.S)
print(f'#include "{sys.argv[1]}"')
found = re.findall(r"BYOL_API\s+(?:BYOL_NODISCARD\s+)?([\w \*]+?)(byol_\w+)(\(.*?\));", code, re.S)
assert len(found) > 40, found
for kind, name, parameters in found:
    print(f"{kind}{name}{parameters}\n{{ {'' if kind.strip() == 'void' else 'return 0;'} }}")
