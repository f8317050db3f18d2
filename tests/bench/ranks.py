#!/usr/bin/env python3
"""Efficiency of two ranks with one core each against one rank with one core, in turn.

usage: ranks.py BYOL DATA [--rounds N] [--steps N] [--width N]

Each rank has as many pictures of a batch as the one alone (weak scaling), its own core (taskset) and one thread.
Efficiency is the pictures a second of two ranks over twice those of one; 1 would be perfect. Beside it, what the machine itself
loses when both cores work: two runs that know nothing of each other. All run in every round, and the median of the rounds'
ratios is told, with the smallest and the largest.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path


def run(byol, arguments, ranks, folder, apart=False):
    """Pictures a second of one run; of as many runs that know nothing of each other, where they are apart."""
    processes = []
    for rank in range(ranks):
        environment = dict(os.environ)
        if ranks > 1 and not apart:
            environment.update(RANK=str(rank), WORLD_SIZE=str(ranks), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(ranks),
                               MASTER_ADDR="127.0.0.1", MASTER_PORT="29533")
        command = ["taskset", "-c", str(rank), byol, "-q", "--json", "pretrain", *arguments, "--force", "--out",
                   f"{folder}{rank if apart else 0}"]
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    answers = [process.communicate() for process in processes]
    for process, (_, errors) in zip(processes, answers):
        if process.returncode != 0:
            sys.exit(errors.decode())
    own = [json.loads(answer)["images_per_second"] for answer, _ in answers if answer]
    return sum(own) if apart else own[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("byol")
    parser.add_argument("data")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=128, help="pictures a rank")
    given = parser.parse_args()
    common = ["--data", given.data, "--encoder", "resnet18", "--stem", "small", "--width", str(given.width), "--image-size",
              "28", "--channels", "1", "--views", "small-image", "--device", "cpu", "--threads", "1", "--evaluation-epochs",
              "0", "--checkpoint-epochs", "0", "--steps", str(given.steps)]
    ratios, machine = [], []
    with tempfile.TemporaryDirectory() as folder:
        for round_ in range(given.rounds):
            rates = {}
            for ranks in (1, 2) if round_ % 2 == 0 else (2, 1):
                batch = ["--batch-size", str(given.batch * ranks)]
                rates[ranks] = run(given.byol, common + batch, ranks, Path(folder) / "run")
            apart = run(given.byol, common + ["--batch-size", str(given.batch)], 2, Path(folder) / "apart", apart=True)
            ratios.append(rates[2] / (2 * rates[1]))
            machine.append(apart / (2 * rates[1]))
            print(f"one rank {rates[1]:.1f}, two ranks {rates[2]:.1f}, two apart {apart:.1f} pictures/s: efficiency {ratios[-1]:.3f}, the "
                  f"machine's own {machine[-1]:.3f}", flush=True)
    for what, values in (("efficiency", ratios), ("the machine's own", machine)):
        print(f"{what} {statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f}), load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
