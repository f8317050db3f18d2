"""The demo: BYOL learns from 10,000 pictures without labels, a C program classifies with the result.

usage: python3 examples/demo.py        (make demo builds what it needs first)
Leaves in target/demo: encoder.onnx, head.safetensors, views.png, plot.png, results.json.
BYOL_DEMO_SEED chooses the seed; BYOL_DEMO_FAST=1 learns for two epochs only, to see that everything works.
Every figure comes out of `byol` or the C program; this script only calls them in order.
"""
import gzip
import json
import os
import pathlib
import platform
import resource
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
DATA = ROOT / "examples/data/fashion-mnist"
BUILT = ROOT / "target/release"
OUT = ROOT / "target/demo"
SEED = os.environ.get("BYOL_DEMO_SEED", "0")
FAST = bool(os.environ.get("BYOL_DEMO_FAST"))
seconds = {}


def call(what, *arguments):
    """Runs a command in the project's root, timed as `what`; its standard error is shown."""
    began = time.perf_counter()
    done = subprocess.run([str(a) for a in arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    seconds[what] = round(seconds.get(what, 0) + time.perf_counter() - began, 2)
    if done.returncode != 0:
        sys.exit(f"demo: {' '.join(map(str, arguments))}\nended with exit code {done.returncode}")
    return done.stdout


def byol(what, *arguments):
    return json.loads(call(what, BUILT / "byol", "--json", *arguments))


def judge(encoder, name):
    """20-NN and linear top-1 with all labels and with 10 of each class."""
    features = OUT / "features"
    features.mkdir(exist_ok=True)
    train, test = features / f"{name}-train.safetensors", features / f"{name}-test.safetensors"
    byol("extract", "extract", encoder, "--data", DATA, "--split", "train", "-o", train)
    byol("extract", "extract", encoder, "--data", DATA, "--split", "test", "-o", test)
    pair = ["--features", train, "--test-features", test]
    return {
        "knn": byol("evaluate", "knn", *pair)["top1"],
        "linear": byol("evaluate", "linear-eval", *pair)["top1"],
        "linear10": byol("evaluate", "linear-eval", *pair, "--labels-per-class", 10)["top1"],
    }


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    run, encoder, untrained = OUT / "run", OUT / "encoder.onnx", OUT / "untrained.onnx"
    config = ROOT / "examples/demo.toml"

    print("1. What the two networks will be shown:", flush=True)
    byol("views", "views", "--config", config, "-o", OUT / "views.png")
    print(f"   {OUT.relative_to(ROOT)}/views.png\n2. Learning from 10,000 pictures, without their labels:", flush=True)
    shorter = ["--epochs", "2", "--evaluation-epochs", "1"] if FAST else []
    learned = byol("pretrain", "pretrain", "--config", config, "--out", run, "--force", "--seed", SEED, *shorter)
    byol("export", "export", run, "-o", encoder)
    byol("export", "export", run, "--untrained", "-o", untrained)
    os.replace(run / "plot.png", OUT / "plot.png")
    print(f"   {learned['steps']} steps, {learned['images_per_second']:.0f} pictures/s, {seconds['pretrain']:.0f} s")

    print("3. A C program extracts features, trains a head and classifies:", flush=True)
    plain = OUT / "data"
    plain.mkdir(exist_ok=True)
    for file in DATA.glob("*.gz"):
        (plain / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    program = OUT / "classify"
    cc = os.environ.get("CC", "cc")
    call("compile", cc, "-std=c11", "-O2", "-Wall", "-Wextra", "-I", ROOT / "include", ROOT / "examples/c/classify.c",
         "-o", program, "-L", BUILT, "-lbyol", "-Wl,-rpath,$ORIGIN/../release")
    print(call("classify", program, encoder, plain, OUT / "head.safetensors"), end="", flush=True)

    print("4. How good is what it learned?", flush=True)
    results = {name: judge(source, name) for name, source in
               (("pixels", "pixels"), ("untrained", untrained), ("byol", encoder))}
    # ru_maxrss of children: the largest of them, in KiB on Linux and in bytes on macOS.
    unit = 1 if platform.system() == "Darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit / 1e6
    record = {**results, "seconds": seconds, "peak_memory_mb": round(peak, 1), "seed": int(SEED), "fast": FAST}
    (OUT / "results.json").write_text(json.dumps(record, indent=2) + "\n")

    print(f"\n{'top-1 on 2,000 test pictures':<34}{'20-NN':>8}{'linear':>9}{'10 labels per class':>22}")
    for name, title in (("pixels", "raw pixels"), ("untrained", "the same encoder, untrained"), ("byol", "BYOL encoder")):
        r = results[name]
        print(f"{title:<34}{r['knn']:>8.1%}{r['linear']:>9.1%}{r['linear10']:>22.1%}")
    print(f"\nlearned in {seconds['pretrain']:.0f} s; {OUT.relative_to(ROOT)} holds encoder.onnx, head.safetensors, "
          "views.png, plot.png, results.json")


if __name__ == "__main__":
    main()
