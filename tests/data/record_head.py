"""Records tests/data/head: small feature sets and what scikit-learn finds to be their optimum.

    python tests/data/record_head.py

Needs numpy and scikit-learn (recorded with 1.9.1, seed 5). Per case `x.npy` float32, `y.npy` int64; in cases.json the
penalty per example, whether columns are standardised, the weights of classes, and the optimum: its objective in float64
and the class of every row. The optimum is newton-cg's at tol 1e-12 on float64 copies.
"""

import json
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

FOLDER = Path(__file__).parent / "head"


def blobs(rows, columns, classes, spread, rng):
    """Correlated, non-negative rows around class centres, as pooled ReLU features are."""
    mix = rng.normal(size=(columns, columns)) * np.geomspace(2, 0.02, columns)
    y = np.arange(rows) % classes
    centres = rng.normal(size=(classes, columns)) * spread
    x = np.maximum((centres[y] + rng.normal(size=(rows, columns))) @ mix + 1.0, 0)
    return x.astype(np.float32), y


def objective(x, y, w, b, l2, weights):
    z = x @ w.T + b
    top = z.max(1, keepdims=True)
    losses = np.log(np.exp(z - top).sum(1)) + top[:, 0] - z[np.arange(len(y)), y]
    return float((weights * losses).sum() / weights.sum() + l2 / 2 * (w * w).sum())


def main():
    FOLDER.mkdir(exist_ok=True)
    rng = np.random.default_rng(5)
    cases = {}
    for name, rows, columns, classes, spread, l2, standardize, class_weights in [
        ("ten", 600, 24, 10, 0.5, 1e-3, False, None),
        ("weak", 400, 16, 4, 0.6, 1e-5, False, None),
        ("strong", 200, 12, 3, 0.5, 1.0, False, None),
        ("two", 150, 9, 2, 0.3, 1e-2, False, None),
        ("standardized", 300, 20, 5, 0.5, 1e-2, True, None),
        ("weighted", 300, 10, 3, 0.4, 1e-3, False, [1.0, 3.0, 0.5]),
        ("wide", 60, 90, 6, 0.5, 1e-2, False, None),
    ]:
        x, y = blobs(rows, columns, classes, spread, rng)
        np.save(FOLDER / f"{name}.x.npy", x)
        np.save(FOLDER / f"{name}.y.npy", y)
        z = x.astype(np.float64)
        if standardize:
            z = (z - z.mean(0)) / np.where(z.std(0) > 0, z.std(0), 1)
        weights = np.ones(rows) if class_weights is None else np.array(class_weights)[y]
        model = LogisticRegression(C=1 / (l2 * weights.sum()), solver="newton-cg", tol=1e-12, max_iter=10_000)
        model.fit(z, y, sample_weight=weights)
        w, b = model.coef_, model.intercept_
        if classes == 2:
            # scikit-learn keeps one column for two classes, with the penalty on that column alone; the softmax over
            # both halves it over two columns of opposite sign. Same classifier if C is doubled.
            model = LogisticRegression(C=2 / (l2 * weights.sum()), solver="newton-cg", tol=1e-12, max_iter=10_000)
            model.fit(z, y, sample_weight=weights)
            w = np.concatenate([-model.coef_, model.coef_]) / 2
            b = np.concatenate([-model.intercept_, model.intercept_]) / 2
        cases[name] = {
            "l2": l2,
            "standardize": standardize,
            "class_weights": class_weights,
            "objective": objective(z, y, w, b, l2, weights),
            "predictions": (z @ w.T + b).argmax(1).tolist(),
        }
        print(name, cases[name]["objective"], (z @ w.T + b).argmax(1).__eq__(y).mean())
    (FOLDER / "cases.json").write_text(json.dumps(cases) + "\n")


main()
