#!/usr/bin/env python3
"""The speed record: minutes on this machine until a linear accuracy on the demo's data, recipe by recipe.

usage: record.py BYOL [--only NAME,..] [--seeds 0,1,2] [--precision NAME]

Each line is one run of `byol pretrain` on the 10,000 training pictures without labels, timed from its start to its end
(program start, reading and writing of files included), then judged by `byol linear-eval`: a linear head on all their labels,
its penalty chosen on held-out rows of them, the 2,000 test pictures. Says how busy the machine was with others.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# One stage alone, read where its 14 x 14 maps can be: byol pools to a divisor only.
STAGE = {"encoder": {"blocks": [1], "pool": "grid7"}}
# Each recipe: what differs from examples/demo.toml.
RECIPES = {
    "pixels": None,
    "r01": {"epochs": 8, "batch_size": 128, "encoder": {"pool": "grid2"}, "optimizer": {"base_learning_rate": 0.2},
            "ema": {"tau_base": 0.97}, "area": 0.4},
    "v00": {"epochs": 2},
    "v09": {"epochs": 2, "optimizer": {"name": "lars"}},
    "one-2": {"epochs": 2, **STAGE},
    "one-1": {"epochs": 1, **STAGE},
    "one-4": {"epochs": 4, **STAGE},
    "one-8": {"epochs": 8, **STAGE},
    "one-lars": {"epochs": 2, **STAGE, "optimizer": {"name": "lars"}},
    "one-jitter": {"epochs": 2, **STAGE, "jitter": 0.6},
    "one-32": {"epochs": 2, "encoder": {"blocks": [1], "pool": "grid7", "width": 32}},
    "one-128": {"epochs": 2, **STAGE, "batch_size": 128},
    "c01": {"epochs": 8},
    "c01-jitter": {"epochs": 8, "jitter": 0.6},
    "demo": {},
}


def toml(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def run_file(changes, path):
    with open(ROOT / "examples/demo.toml", "rb") as file:
        config = tomllib.load(file)
    for key, value in changes.items():
        if key in ("area", "jitter"):
            for view in config["views"].values():
                for operator in view:
                    if key == "area" and operator["name"] == "random-resized-crop":
                        operator["area"] = [value, 1.0]
                    if key == "jitter" and operator["name"] == "color-jitter":
                        operator["brightness"] = operator["contrast"] = value
        elif isinstance(value, dict):
            config[key].update(value)
        else:
            config[key] = value
    config["evaluation_epochs"] = config["checkpoint_epochs"] = 0
    config["data"]["path"] = str(ROOT / "examples/data/fashion-mnist")
    plain = {k: v for k, v in config.items() if not isinstance(v, dict)}
    tables = {k: v for k, v in config.items() if isinstance(v, dict)}
    lines = [f"{k} = {toml(v)}" for k, v in plain.items()]
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{k} = {toml(v)}" for k, v in table.items())]
    path.write_text("\n".join(lines) + "\n")


def judge(byol, encoder):
    data = ["--data", str(ROOT / "examples/data/fashion-mnist")]
    answers = [json.loads(subprocess.run([byol, "--json", "-q", what, str(encoder), *data], stdout=subprocess.PIPE, check=True).stdout)
               for what in ("linear-eval", "knn")]
    return [answer["top1"] for answer in answers]


def busy():
    """CPU seconds of the whole machine since it started."""
    fields = open("/proc/stat").readline().split()[1:]
    return (sum(map(int, fields)) - int(fields[3]) - int(fields[4])) / os.sysconf("SC_CLK_TCK")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("byol")
    parser.add_argument("--only", default=",".join(RECIPES))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--precision", default="float32")
    given = parser.parse_args()
    print("| recipe | seconds | linear | 20-NN | CPU seconds, of others |\n|---|---|---|---|---|", flush=True)
    for name in given.only.split(","):
        changes, rows = RECIPES[name], []
        for seed in given.seeds.split(","):
            with tempfile.TemporaryDirectory() as folder:
                if changes is None:
                    print("| raw pixels | | {:.4f} | {:.4f} | |".format(*judge(given.byol, "pixels")), flush=True)
                    break
                run_file(changes, Path(folder) / "run.toml")
                command = [given.byol, "-q", "pretrain", "--config", f"{folder}/run.toml", "--seed", seed, "--device", "cpu",
                           "--precision", given.precision, "--out", f"{folder}/run"]
                others, began = busy(), time.time()
                child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
                _, status, usage = os.wait4(child.pid, 0)
                seconds, own = time.time() - began, usage.ru_utime + usage.ru_stime
                if status != 0:
                    raise SystemExit(f"{' '.join(command)} failed")
                others = busy() - others - own
                linear, knn = judge(given.byol, f"{folder}/run/encoder.onnx")
                rows.append((seconds, linear, knn, own, others))
                print(f"| {name}, seed {seed} | {seconds:.1f} | {linear:.4f} | {knn:.4f} | {own:.1f}, {others:.1f} |", flush=True)
        if len(rows) > 1:
            mean = [statistics.mean(column) for column in zip(*rows)]
            print("| {}, mean | {:.1f} | {:.4f} | {:.4f} | {:.1f}, {:.1f} |".format(name, *mean), flush=True)


if __name__ == "__main__":
    main()
