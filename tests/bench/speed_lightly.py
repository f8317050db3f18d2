#!/usr/bin/env python3
"""byol beside lightly on the CPU: loader and step together, and memory, in turn.

usage: speed_lightly.py BYOL PEER.py FASHION_MNIST [--only NAME,..] [--rounds N] [--precision NAME]

PEER.py is lightly's BYOL as its documentation composes it; python needs what it needs. Both have the same encoder, heads,
optimiser, batch and pictures (three channels), all cores, and each round runs both, in alternating order. The peer times its
loader, its step on a resident batch, and both together; ours is timed together, over all steps but the first two. Memory is
the sum of all processes' proportional shares, at its largest. Tells each round, and the median of the rounds' ratios.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

# Name: pixels, width, batch, steps of ours, steps of the peer (it runs them three times over).
CASES = {
    "narrow28": (28, 16, 256, 16, 5),
    "narrow32": (32, 16, 256, 16, 5),
    "full28": (28, 64, 64, 6, 2),
    "full32": (32, 64, 64, 6, 2),
}
# The peer's heads, optimiser and constant target; views of small pictures.
RUN = """
[projector]
hidden = 1024
output = 256
[predictor]
hidden = 1024
output = 256
[optimizer]
name = "sgd"
base_learning_rate = 0.06
weight_decay = 5e-4
[ema]
tau_base = 0.99
"""


def family(pid):
    """A process and all below it."""
    found = [pid]
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += family(int(child))
    except OSError:
        pass
    return found


def run(command):
    """Its output, and the largest memory of it and its children, in MiB."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak, ended = [0.0], threading.Event()

    def watch():
        while not ended.wait(0.25):
            total = 0
            for pid in family(process.pid):
                try:
                    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                    total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
                except (OSError, ProcessLookupError):
                    continue
            peak[0] = max(peak[0], total / 1024)

    thread = threading.Thread(target=watch)
    thread.start()
    out, err = process.communicate()
    ended.set()
    thread.join()
    if process.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{err}")
    return out, peak[0]


def peer(given, size, width, batch, steps):
    out, memory = run([sys.executable, given.peer, "--data", given.data, "--images", "10000", "--size", str(size), "--width",
                       str(width), "--batch", str(batch), "--steps", str(steps)])
    words = out.split()
    return float(words[1]), float(words[4]), float(words[7]), memory


def ours(given, size, width, batch, steps):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.toml"
        file.write_text(RUN)
        _, memory = run([given.byol, "-q", "pretrain", "--config", file, "--data", given.data, "--images", "10000", "--encoder",
                         "resnet18", "--stem", "small", "--width", str(width), "--image-size", str(size), "--channels", "3",
                         "--batch-size", str(batch), "--views", "small-image", "--device", "cpu", "--precision", given.precision,
                         "--evaluation-epochs", "0", "--checkpoint-epochs", "0", "--on-collapse", "warn", "--steps", str(steps),
                         "--out", f"{folder}/run"])
        lines = [json.loads(line) for line in open(f"{folder}/run/metrics.jsonl")]
        # Fewer than 50 steps: the rate is over all so far, so it says when each ended.
        ended = [line["step"] * batch / line["images_per_second"] for line in lines if "loss" in line]
        return (len(ended) - 2) * batch / (ended[-1] - ended[1]), memory


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("byol")
    parser.add_argument("peer")
    parser.add_argument("data")
    parser.add_argument("--only", default=",".join(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="float32")
    given = parser.parse_args()
    for name in given.only.split(","):
        size, width, batch, own, theirs = CASES[name]
        ratios = []
        for round_ in range(given.rounds):
            answers = {}
            for who in ("peer", "ours") if round_ % 2 == 0 else ("ours", "peer"):
                answers[who] = peer(given, size, width, batch, theirs) if who == "peer" else ours(given, size, width, batch, own)
            (loader, step, together, memory), (rate, own_memory) = answers["peer"], answers["ours"]
            ratios.append(rate / together)
            print(f"{name}, {size} pixels, width {width}, batch {batch}: lightly {loader:.0f} loader, {step:.1f} step, {together:.1f} "
                  f"together, {memory:.0f} MiB; byol {rate:.1f}, {own_memory:.0f} MiB; ratio {ratios[-1]:.2f}, load "
                  f"{os.getloadavg()[0]:.1f}", flush=True)
        print(f"{name}: byol / lightly {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})", flush=True)


if __name__ == "__main__":
    main()
