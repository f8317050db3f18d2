"""Turns a guide into a shell script that does what its reader does: guide.py GUIDE [--install | --rest]

Blocks of `sh` are run, those of `text` are what the one before must have printed; of other languages, each block is the file
that its first line names in a comment. --install takes only the commands that install libbyol, --rest only the others.
"""
import pathlib
import re
import shlex
import sys

guide = pathlib.Path(sys.argv[1]).read_text()
part = sys.argv[2] if len(sys.argv) > 2 else None
# What a block prints goes to `said`; when a command fails, that is shown and the script ends.
print("""set -eu
exec 3>&1
trap 'status=$?; [ $status = 0 ] || cat said >&3' EXIT""")
blocks = re.findall(r"^```(\w+)\n(.*?)^```$", guide, re.M | re.S)
following = [language for language, _ in blocks[1:]] + [""]
commands = 0
for (language, text), after in zip(blocks, following):
    installs = language == "sh" and "install-sdk" in text
    if part and installs != (part == "--install"):
        continue
    if language == "sh":
        commands += len(text.splitlines())
        # In this shell, so that its variables stay.
        print(f"cat <<'COMMANDS'\n{text}COMMANDS")
        print(f"exec >said 2>&1\n{text}exec >&3 2>&3\ncat said")
    elif language == "text":
        for line in text.splitlines():
            print(f"grep -qxF {shlex.quote(line)} said || {{ echo {shlex.quote('not printed: ' + line)}; exit 1; }}")
    else:
        first, rest = text.split("\n", 1)
        path = first.removeprefix("// ")
        print(f"mkdir -p {shlex.quote(str(pathlib.Path(path).parent))}\ncat >{shlex.quote(path)} <<'CONTENT'\n{rest}CONTENT")
if commands == 0:
    sys.exit(f"{sys.argv[1]} has no commands")
print(f"echo 'guide: {commands} commands of {pathlib.Path(sys.argv[1]).name} {part or ''} did what they say'")
