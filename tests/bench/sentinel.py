#!/usr/bin/env python3
"""Does the collapse sentinel catch what collapses, and nothing else? 20 configurations made to collapse, 20 healthy ones.

usage: sentinel.py BYOL [OUT.json]       (from the repository's root; run it at nice 19, some minutes)

Small encoders on 2,400 real pictures (examples/data/fashion-mnist), `--on-collapse warn`, so that every run goes to its
end and can be judged there by something else than what the sentinel looks at: the k-NN accuracy of the features beside
that of the same encoder untrained, and the loss. Printed as a table for docs/results.md: the step at which the sentinel
was sure, as a share of the run, and what became of the run.
"""
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BASE = {
    "seed": 0, "steps": 300, "batch_size": 32, "evaluation_epochs": 4.0, "checkpoint_epochs": 0.0, "device": "cpu",
    "threads": 2, "tensorboard": False, "on_collapse": "warn",
    "data": {"path": "examples/data/fashion-mnist", "images": 2400, "mean": [0.286], "std": [0.353]},
    "encoder": {"name": "resnet18", "stem": "small-stride2", "width": 8, "blocks": [1, 1], "channels": 1,
                "image_size": 28, "pool": "grid2"},
    "projector": {"hidden": 256, "output": 64}, "predictor": {"hidden": 256, "output": 64},
    "optimizer": {"name": "sgd", "base_learning_rate": 0.5, "momentum": 0.9, "weight_decay": 1e-5, "warmup": "5%"},
    "ema": {"tau_base": 0.95, "tau_end": 1.0}, "views": "small-image",
}
LARS = {"optimizer.name": "lars", "optimizer.base_learning_rate": 2.0}
ADAM = {"optimizer.name": "adamw", "optimizer.base_learning_rate": 0.004}
NONE = {"predictor.layers": 0}
TAU0 = {"ema.tau_base": 0.0, "ema.tau_end": 0.0}
LINEAR = {"predictor.layers": 1}
PLAIN = {"projector.batch_norm": False, "predictor.batch_norm": False}

COLLAPSING = [
    ("no predictor, tau 0", {**NONE, **TAU0}),
    ("no predictor, tau 0, seed 1", {**NONE, **TAU0, "seed": 1}),
    ("no predictor, tau 0, seed 2", {**NONE, **TAU0, "seed": 2}),
    ("no predictor, tau 0, LARS", {**NONE, **TAU0, **LARS}),
    ("no predictor, tau 0, AdamW", {**NONE, **TAU0, **ADAM}),
    ("no predictor, tau 0, average pooling", {**NONE, **TAU0, "encoder.pool": "average"}),
    ("no predictor, tau 0.5", {**NONE, "ema.tau_base": 0.5, "ema.tau_end": 0.5}),
    ("no predictor, tau 0.8", {**NONE, "ema.tau_base": 0.8}),
    ("no predictor, batch 128", {**NONE, "batch_size": 128}),
    ("no predictor, learning rate 2", {**NONE, "optimizer.base_learning_rate": 2.0}),
    ("no predictor, learning rate 10", {**NONE, "optimizer.base_learning_rate": 10.0}),
    ("no predictor, heads without BatchNorm", {**NONE, **PLAIN}),
    ("no predictor, heads without BatchNorm, LARS", {**NONE, **PLAIN, **LARS}),
    ("tau 0, heads without BatchNorm, learning rate 2", {**TAU0, **PLAIN, "optimizer.base_learning_rate": 2.0}),
    ("heads without BatchNorm, learning rate 20", {**PLAIN, "optimizer.base_learning_rate": 20.0}),
    ("heads without BatchNorm, AdamW at 0.3", {**PLAIN, **ADAM, "optimizer.base_learning_rate": 0.3}),
    ("tau 0, linear predictor at a hundredth of the rate", {**TAU0, **LINEAR, "optimizer.predictor_learning_rate": 0.01}),
    ("tau 0, linear predictor, projector 10 times, predictor a tenth",
     {**TAU0, **LINEAR, "optimizer.projector_learning_rate": 10.0, "optimizer.predictor_learning_rate": 0.1}),
    ("linear predictor at a hundredth of the rate", {**LINEAR, "optimizer.predictor_learning_rate": 0.01}),
    ("tau 0, heads without BatchNorm, projector 10 times as fast",
     {**TAU0, **PLAIN, "optimizer.projector_learning_rate": 10.0, "optimizer.base_learning_rate": 1.0}),
]
HEALTHY = [
    ("the base", {}),
    ("seed 1", {"seed": 1}),
    ("seed 2", {"seed": 2}),
    ("learning rate 0.05", {"optimizer.base_learning_rate": 0.05}),
    ("learning rate 1", {"optimizer.base_learning_rate": 1.0}),
    ("tau 0.9", {"ema.tau_base": 0.9}),
    ("tau 0.99", {"ema.tau_base": 0.99}),
    ("tau 0.95, constant", {"ema.tau_end": 0.95}),
    ("LARS", LARS),
    ("LARS, learning rate 0.45", {**LARS, "optimizer.base_learning_rate": 0.45}),
    ("AdamW", ADAM),
    ("batch 16", {"batch_size": 16}),
    ("batch 64", {"batch_size": 64}),
    ("batch 128", {"batch_size": 128}),
    ("predictor 10 times as fast", {"optimizer.predictor_learning_rate": 10.0}),
    ("average pooling", {"encoder.pool": "average"}),
    ("four blocks, standard stem", {"encoder.blocks": [2, 2], "encoder.stem": "small"}),
    ("projection of 16", {"projector.output": 16, "predictor.output": 16}),
    ("crop only", {"views": "crop-only"}),
    ("two batches of 16 for one step", {"batch_size": 16, "accumulate": 2}),
]


def merged(change):
    config = json.loads(json.dumps(BASE))
    for key, value in change.items():
        *path, last = key.split(".")
        place = config
        for part in path:
            place = place[part]
        place[last] = value
    return config


def toml(config):
    plain = {k: v for k, v in config.items() if not isinstance(v, dict)}
    lines = [f"{key} = {json.dumps(value)}" for key, value in plain.items()]
    for name, table in config.items():
        if isinstance(table, dict):
            lines.append(f"[{name}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def run(byol, name, change, base):
    folder = base / re.sub(r"\W+", "-", name)
    file = base / "run.toml"
    file.write_text(toml(merged(change)))
    done = subprocess.run([byol, "--json", "pretrain", "--config", str(file), "--out", str(folder)], cwd=ROOT, text=True,
                          capture_output=True)
    diverged = "diverged" in done.stderr
    if done.returncode != 0 and not diverged:
        sys.exit(f"{name}: exit code {done.returncode}\n{done.stderr}")
    called = re.search(r"collapsed at step (\d+) of (\d+)", done.stderr)
    failed = re.search(r"at step (\d+) \(learning rate", done.stderr) if diverged else None
    steps = merged(change)["steps"]
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    said = [m for m in metrics if "loss" in m]
    judged = [m["knn"] for m in metrics if "knn" in m]
    tail = said[-20:]
    mean = lambda key: sum(m[key] for m in tail) / max(len(tail), 1)
    at = called or failed
    return {
        "name": name, "caught": int(at.group(1)) / steps if at else None, "by": "loss" if failed and not called else "sentinel",
        "diverged": diverged, "knn": judged[-1] if judged else None, "loss": mean("loss"), "spread": mean("embedding_std"),
        "cosine": mean("cosine"), "rank": mean("effective_rank"),
        "readings": [[m["step"], round(m["embedding_std"], 4), round(m["cosine"], 4), round(m["effective_rank"], 3)]
                     for m in said],
    }


def main():
    byol = str(Path(sys.argv[1]).resolve())
    results = {}
    with tempfile.TemporaryDirectory() as place:
        for kind, all_of_them in (("collapsing", COLLAPSING), ("healthy", HEALTHY)):
            print(f"\n| {kind} | sure after | by | 20-NN at the end | loss | spread | cosine | rank |\n|---|---|---|---|---|---|---|---|")
            for name, change in all_of_them:
                r = run(byol, name, change, Path(place))
                results.setdefault(kind, []).append(r)
                caught = "never" if r["caught"] is None else f"{r['caught']:.1%}"
                knn = "diverged" if r["diverged"] else f"{r['knn']:.3f}"
                print(f"| {name} | {caught} | {r['by'] if r['caught'] else ''} | {knn} | {r['loss']:.3f} | {r['spread']:.3f} | "
                      f"{r['cosine']:.3f} | {r['rank']:.2f} |", flush=True)
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text(json.dumps(results))
    missed = [r["name"] for r in results["collapsing"] if r["caught"] is None]
    stopped = [r["name"] for r in results["healthy"] if r["caught"] is not None]
    print(f"\n{len(COLLAPSING)} collapsing: missed {missed}; {len(HEALTHY)} healthy: stopped {stopped}")


if __name__ == "__main__":
    main()
