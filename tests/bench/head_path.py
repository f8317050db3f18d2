"""The paper's path of 45 penalties (appendix D.2) beside 45 of scikit-learn's fits: the same rows, penalties and judge, in one run.

usage: python tests/bench/head_path.py --byol PROGRAM [--iterations N] [--patience N] FEATURES.npy LABELS.npy
Three fifths of the rows (shuffled, seed 0) are for training, a fifth for validation, a fifth for testing. PROGRAM runs
`linear-eval --protocol transfer --raw`: --patience 0 (the default here) fits all 45. scikit-learn fits each from nothing (lbfgs,
tol 1e-4, at most N iterations); the value with the best validation accuracy, then the strongest, is fitted to both parts
again. CPU seconds, one thread each; ours are of the whole process, reading and judging among them.
Needs numpy, scikit-learn and threadpoolctl.
"""
import argparse
import json
import pathlib
import resource
import subprocess
import tempfile
import time
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

arguments = argparse.ArgumentParser()
arguments.add_argument("--byol", required=True)
arguments.add_argument("--iterations", type=int, default=1000)
arguments.add_argument("--patience", type=int, default=0)
arguments.add_argument("features")
arguments.add_argument("labels")
arguments = arguments.parse_args()
warnings.simplefilter("ignore", ConvergenceWarning)

x, y = np.load(arguments.features).astype(np.float32), np.load(arguments.labels).astype(np.uint32)
order = np.random.default_rng(0).permutation(len(x))
fifth = len(x) // 5
parts = {"": order[:-2 * fifth], "validation-": order[-2 * fifth:-fifth], "test-": order[-fifth:]}
children = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def ours(patience):
    with tempfile.TemporaryDirectory() as folder:
        command = [arguments.byol, "linear-eval", "--protocol", "transfer", "--raw", "--threads", "1", "--bootstrap", "40", "--json",
                   "--quiet", "--patience", str(patience)]
        for name, rows in parts.items():
            for kind, values in (("features", x), ("labels", y)):
                file = pathlib.Path(folder, f"{name}{kind}.npy")
                np.save(file, values[rows])
                command += [f"--{name}{kind}", file]
        began = children()
        found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        return found, children() - began


def accuracy(model, rows):
    return float((model.predict(x[rows]) == y[rows]).mean())


def fit(rows, penalty):
    # scikit-learn's C stands beside the sum of the losses, as the protocol's values do beside it from the other side.
    return LogisticRegression(C=1 / penalty, tol=1e-4, max_iter=arguments.iterations).fit(x[rows], y[rows])


found, cpu = ours(arguments.patience)
print(json.dumps({"ours": {key: value for key, value in found.items() if not isinstance(value, (list, dict))}, "cpu": cpu}), flush=True)
train, validation, test = parts.values()
best, peer, stopped = None, 0.0, 0
with threadpool_limits(1):
    for penalty in 10.0 ** (5 - 11 * np.arange(45) / 44):
        began = time.thread_time()
        model = fit(train, penalty)
        right = accuracy(model, validation)
        peer += time.thread_time() - began
        stopped += int(model.n_iter_[0] >= arguments.iterations)
        if best is None or right > best[0]:
            best = (right, penalty)
        print(f"  {penalty:.3g}: validation {right:.4f}, {model.n_iter_[0]} iterations, {peer:.1f} s so far", flush=True)
    both = np.concatenate([train, validation])
    began = time.thread_time()
    model = fit(both, best[1] * len(both) / len(train))
    peer += time.thread_time() - began
print(json.dumps({"scikit-learn": {"penalty": best[1], "l2": best[1] / len(train), "validation": best[0], "test": accuracy(model, test),
                                   "fits that were cut off": stopped}, "cpu": peer, "ratio": peer / cpu}))
