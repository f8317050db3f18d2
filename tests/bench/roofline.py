#!/usr/bin/env python3
"""Arithmetic and bytes that a step of BYOL must do, what this machine can, and what byol reaches.

usage: roofline.py BYOL DATA [--only NAME,..] [--precision NAME]        (torch, numpy: for what the machine can)

Can: the fastest float32 product of 1024 x 1024 or 2048 x 2048 matrices of sixty each, on all cores, and the fastest copy of 512 MB of twenty, both by PyTorch.
Must, for each picture: 2 views x (online forward and twice that backward, target forward) = 16 multiply-adds for one of the
forward pass. Bytes, without fusing what libtorch does not fuse: of each normalised map, 7 readings and writings forward
(convolution; BatchNorm twice in, once out; ReLU in and out; the next layer), 12 more on the way back; for each learned value
of the online networks 32 bytes a step (LARS: three flat buffers read, two written; EMA: two and one).
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import torch

CASES = {
    "ResNet-18, 32 px, batch 64": (["--encoder", "resnet18", "--stem", "small", "--image-size", "32", "--channels", "3"], 64, 6),
    "ResNet-18 width 16, 28 px, batch 256": (
        ["--encoder", "resnet18", "--stem", "small", "--width", "16", "--image-size", "28", "--channels", "3"], 256, 12),
    "ResNet-50, 224 px, batch 16": (["--encoder", "resnet50", "--image-size", "224", "--channels", "3"], 16, 3),
}


def best(n, f):
    f()
    times = []
    for _ in range(n):
        began = time.perf_counter()
        f()
        times.append(time.perf_counter() - began)
    return min(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("byol")
    parser.add_argument("data")
    parser.add_argument("--only", default="")
    parser.add_argument("--precision", default="float32")
    given = parser.parse_args()
    torch.set_num_threads(os.cpu_count())
    flops = 0
    for n in (1024, 2048):
        x = torch.randn(n, n)
        flops = max(flops, 2 * n**3 / best(60, lambda: torch.mm(x, x)))
    source = torch.zeros(128 << 20)
    target = torch.zeros(128 << 20)
    bandwidth = 2 * source.numel() * 4 / best(20, lambda: target.copy_(source))
    del source, target
    print(f"{os.cpu_count()} cores can: {flops / 1e9:.0f} Gflop/s in products, {bandwidth / 1e9:.1f} GB/s copied; load {os.getloadavg()[0]:.1f}\n")
    print("| step | Gflop a picture | MB a picture | arithmetic ms | bytes ms | their sum | measured ms a picture | of the sum |")
    print("|---|---|---|---|---|---|---|---|")
    tables = []
    for name, (encoder, batch, steps) in CASES.items():
        if given.only and given.only not in name:
            continue
        summary = json.loads(subprocess.run([given.byol, "--json", "summary", *encoder], stdout=subprocess.PIPE, check=True).stdout)
        maps = 0
        for layer in summary["layers"]:
            if "Norm" in layer["operator"]:
                values = 1
                for n in layer["output"].strip("[]").split(","):
                    values *= int(n)
                maps += values
        head = summary["dimension"] * 4096 + 4096 * 256 + 256 * 4096 + 4096 * 256
        work = 16 * (summary["multiply_adds"] + head)  # the target has no predictor: an upper bound by a few percent
        moved = 2 * 4 * maps * (19 + 7)
        learned = summary["parameters"] + head
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([given.byol, "-q", "--json", "pretrain", "--data", given.data, *encoder, "--batch-size", str(batch),
                            "--views", "small-image", "--steps", str(steps), "--device", "cpu", "--evaluation-epochs", "0",
                            "--precision", given.precision, "--checkpoint-epochs", "0", "--on-collapse", "warn", "--profile",
                            f"{folder}/trace.json", "--out", f"{folder}/run"], capture_output=True, text=True, check=True)
            lines = [json.loads(line) for line in Path(f"{folder}/run/metrics.jsonl").read_text().splitlines()]
            spans = json.loads(Path(f"{folder}/trace.json").read_text())["traceEvents"]
        ended = [line["step"] * batch / line["images_per_second"] for line in lines if "loss" in line]
        measured = 1000 * (ended[-1] - ended[0]) / ((len(ended) - 1) * batch)
        arithmetic = 1000 * work / flops
        memory = 1000 * (moved + 32 * learned / batch) / bandwidth
        print(f"| {name} | {work / 1e9:.2f} | {moved / 1e6:.1f} | {arithmetic:.2f} | {memory:.2f} | {arithmetic + memory:.2f} | "
              f"{measured:.2f} | {(arithmetic + memory) / measured:.0%} |", flush=True)
        totals = {}
        for span in spans:
            if span["ph"] == "X":
                totals[span["name"]] = totals.get(span["name"], 0) + span["dur"] / 1e3
        tables.append((name, steps * batch, totals))
    for name, pictures, totals in tables:
        parts = sorted(totals.items(), key=lambda part: -part[1])
        print(f"\n{name}, ms a picture, summed over threads: " + ", ".join(f"{part} {ms / pictures:.2f}" for part, ms in parts if ms / pictures > 0.005))


if __name__ == "__main__":
    main()
