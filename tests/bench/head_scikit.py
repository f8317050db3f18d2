"""The head's fit beside scikit-learn's LogisticRegression: the same features, labels and penalty, in turn, in one run.

usage: python tests/bench/head_scikit.py --trace PROGRAM [--iterations N] [--penalties A,B,C] [--until-theirs] FEATURES.npy LABELS.npy ...
PROGRAM is the built benchmark `head_trace` (`cargo bench --no-run --bench head_trace` says where it is). It runs to its certified end
before each of scikit-learn's fits (lbfgs, tol 1e-4, at most N iterations, one thread), and twice after it to scikit-learn's objective; with
--until-theirs only this: fits with many classes take minutes from there to a certified optimum. Objectives of scikit-learn are
evaluated in float64 from its weights, ours are those that fits end with. Times are CPU seconds of fitting alone, on one thread each.
Needs numpy, scikit-learn and threadpoolctl.
"""
import argparse
import json
import pathlib
import subprocess
import time
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

arguments = argparse.ArgumentParser()
arguments.add_argument("--trace", required=True)
arguments.add_argument("--iterations", type=int, default=1000)
arguments.add_argument("--penalties", default="0.01,1,100")
arguments.add_argument("--until-theirs", action="store_true")
arguments.add_argument("files", nargs="+")
arguments = arguments.parse_args()
warnings.simplefilter("ignore", ConvergenceWarning)


def objective(x, y, w, b, l2):
    loss = 0.0
    for rows in np.array_split(np.arange(len(x)), max(1, len(x) // 5000)):
        z = x[rows].astype(np.float64) @ w.T + b
        z -= z.max(1, keepdims=True)
        loss += (np.log(np.exp(z).sum(1)) - z[np.arange(len(rows)), y[rows]]).sum()
    return loss / len(x) + 0.5 * l2 * (w ** 2).sum()


def last_line(features, labels, lam, *enough):
    """Of the fit to its certified end, or to where its objective is enough."""
    command = [arguments.trace, features, labels, repr(lam), *(repr(float(objective)) for objective in enough)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()[-1])


def text(seconds):
    return "never" if seconds is None else f"{seconds:.3g}"


print("data, rows x columns x classes, l2 * rows | ours: CPU s to scikit-learn's objective | scikit-learn: CPU s, iterations | ratio"
      if arguments.until_theirs else
      "data, rows x columns x classes, l2 * rows | ours: CPU s to scikit-learn's objective; to a certified gap of 1e-6; passes, products"
      " | scikit-learn: CPU s, iterations | its objective over ours, less 1 | ratio at its objective; at gap 1e-6")
for features, labels in zip(arguments.files[::2], arguments.files[1::2]):
    x, y = np.load(features).astype(np.float32), np.load(labels).astype(np.int64)
    n, classes = len(x), int(y.max()) + 1
    for lam in map(float, arguments.penalties.split(",")):
        end = None if arguments.until_theirs else last_line(features, labels, lam)
        model = LogisticRegression(C=1 / lam, tol=1e-4, max_iter=arguments.iterations)
        with threadpool_limits(1):
            began = time.thread_time()
            model.fit(x, y)
            peer = time.thread_time() - began
        theirs = objective(x, y, model.coef_.astype(np.float64), model.intercept_.astype(np.float64), lam / n)
        same = sum(last_line(features, labels, lam, theirs)["cpu"] for _ in range(2)) / 2
        sure = end["cpu"] if end and end["gap"] <= 1e-6 else None
        ratio = lambda seconds: "none" if seconds is None else f"{peer / seconds:.3g}"
        stopped = "" if model.n_iter_[0] < arguments.iterations else " (not converged)"
        data = f"{pathlib.Path(features).name.split('.')[0]}, {n} x {x.shape[1]} x {classes}, {lam:g}"
        peers = f"{peer:.3g}, {model.n_iter_[0]}{stopped}"
        if end is None:
            print(f"{data} | {text(same)} | {peers} | {ratio(same)}", flush=True)
        else:
            print(f"{data} | {text(same)}; {text(sure)}; {end['passes']}, {end['products']} | {peers} | "
                  f"{theirs / end['objective'] - 1:.1e} | {ratio(same)}; {ratio(sure)}", flush=True)
