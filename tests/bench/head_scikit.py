"""The head's fit beside scikit-learn's LogisticRegression: the same features, labels and penalty, one thread each.

usage: python tests/bench/head_scikit.py TRACE RESULTS.json NAME FEATURES.npy LABELS.npy [NAME FEATURES.npy LABELS.npy ...]
       python tests/bench/head_scikit.py --peer RESULTS.json NAME FEATURES.npy LABELS.npy ...
TRACE is the program that `cargo bench --bench head_trace --no-run` builds. The second form only lets scikit-learn run.
scikit-learn (lbfgs, tol 1e-4, at most 3,000 iterations) runs to its own stop; ours to its certified relative gap of 1e-6,
with the CPU seconds and the objective after every iteration. What scikit-learn took is kept in RESULTS.json, and not
measured again: it takes hours, ours seconds; delete the file for both in one run. CPU seconds are of fitting alone.
Objectives of scikit-learn are evaluated in float64. Needs numpy, scikit-learn and threadpoolctl.
"""
import json
import os
import pathlib
import resource
import subprocess
import sys
import warnings

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

warnings.simplefilter("ignore", ConvergenceWarning)
PENALTIES = [float(v) for v in os.environ.get("BYOL_PENALTIES", "100,1,0.01").split(",")]


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def objective(x, y, w, b, l2):
    loss = 0.0
    for rows in np.array_split(np.arange(len(x)), max(1, len(x) // 2000)):
        z = x[rows].astype(np.float64) @ w.T + b
        z -= z.max(1, keepdims=True)
        loss += (np.log(np.exp(z).sum(1)) - z[np.arange(len(rows)), y[rows]]).sum()
    return loss / len(x) + 0.5 * l2 * (w ** 2).sum()


def peer(x, y, penalty):
    model = LogisticRegression(C=1 / penalty, tol=1e-4, max_iter=3000)
    began = cpu()
    model.fit(x, y)
    seconds = cpu() - began
    w, b = model.coef_.astype(np.float64), model.intercept_.astype(np.float64)
    if len(w) == 1:
        w, b = np.concatenate([-w, w]) / 2, np.concatenate([-b, b]) / 2
    found = objective(x, y, w, b, penalty / len(x))
    return {"seconds": seconds, "iterations": int(model.n_iter_[0]), "objective": found}


trace, arguments = (None, sys.argv[2:]) if sys.argv[1] == "--peer" else (sys.argv[1], sys.argv[2:])
kept = pathlib.Path(arguments[0])
results = json.loads(kept.read_text()) if kept.exists() else {}
print("data | l2 * rows | scikit-learn: CPU s, iterations, above the optimum | ours: CPU s to that objective, to 1e-6 (true), "
      "to 1e-6 (certified) | passes, products | ratio")
for name, features, labels in zip(arguments[1::3], arguments[2::3], arguments[3::3]):
    x, y = np.load(features).astype(np.float32), np.load(labels).astype(np.int64)
    for penalty in PENALTIES:
        key = f"{name} {penalty:g}"
        if key not in results:
            results[key] = peer(x, y, penalty)
            kept.write_text(json.dumps(results, indent=1))
        theirs = results[key]
        if trace is None:
            print(key, theirs, flush=True)
            continue
        out = subprocess.run([trace, features, labels, repr(penalty)], stdout=subprocess.PIPE, check=True, text=True).stdout
        *points, report = [json.loads(line) for line in out.splitlines()]
        best = min([point["objective"] for point in points] + [report["objective"]])

        def until(value):
            return next((point["cpu"] for point in points if point["objective"] <= value), float("nan"))

        there = until(theirs["objective"])
        print(f"{name}, {len(x)} x {x.shape[1]} x {y.max() + 1} | {penalty:g} | {theirs['seconds']:.1f}, {theirs['iterations']}, "
              f"{theirs['objective'] / best - 1:.1e} | {there:.3f}, {until(best * (1 + 1e-6)):.3f}, {report['cpu']:.3f} "
              f"({report['gap']:.0e}) | {report['passes']}, {report['products']} | {theirs['seconds'] / there:.1f}", flush=True)
