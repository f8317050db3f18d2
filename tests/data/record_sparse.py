"""Records tests/data/head/sparse.json: what scikit-learn finds to be the sparse optima of the sets of record_head.py.

    python tests/data/record_sparse.py

Needs numpy and scikit-learn (recorded with 1.9.1). Per case the set, both penalties per example, whether columns are
standardised, the weights of classes; saga's objective in float64 at tol 1e-12, which of its weights are 0, and the class
of every row. `margin` is by how much the gradient of the zero weight nearest to moving stays below the penalty, and
`least` the smallest weight that is not 0: where both are large, the zeros are no matter of rounding.
"""

import json
import warnings
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

FOLDER = Path(__file__).parent / "head"
warnings.simplefilter("ignore", FutureWarning)


def main():
    cases = {}
    for name, of, l1, l2, standardize, class_weights in [
        ("ten", "ten", 1e-2, 0.0, True, None),
        ("ten, elastic", "ten", 1e-3, 1e-3, True, None),
        ("two", "two", 2e-2, 0.0, False, None),
        ("two, elastic", "two", 1e-2, 1e-2, True, None),
        ("standardized", "standardized", 5e-3, 0.0, True, None),
        ("weighted", "weighted", 1e-2, 0.0, True, [1.0, 3.0, 0.5]),
        ("wide", "wide", 1e-2, 0.0, True, None),
    ]:
        x, y = np.load(FOLDER / f"{of}.x.npy").astype(np.float64), np.load(FOLDER / f"{of}.y.npy")
        weights = np.ones(len(y)) if class_weights is None else np.array(class_weights)[y]
        if standardize:
            # A row of weight 2 is two rows, here too.
            x = x - np.average(x, 0, weights)
            std = np.sqrt(np.average(x * x, 0, weights))
            x = x / np.where(std > 0, std, 1)
        model = LogisticRegression(
            C=1 / ((l1 + l2) * weights.sum()), l1_ratio=l1 / (l1 + l2), solver="saga", tol=1e-12, max_iter=200_000,
            random_state=0,
        ).fit(x, y, sample_weight=weights)
        w, b = model.coef_, model.intercept_
        z = x @ w.T + b
        if len(w) == 1:
            z = np.concatenate([np.zeros_like(z), z], 1)
        top = z.max(1, keepdims=True)
        p = np.exp(z - top)
        losses = np.log(p.sum(1)) + top[:, 0] - z[np.arange(len(y)), y]
        p = p / p.sum(1, keepdims=True)
        p[np.arange(len(y)), y] -= 1
        gradient = (p * weights[:, None]).T @ x / weights.sum()
        gradient = gradient[-len(w):] + l2 * w
        zero = w == 0
        cases[name] = {
            "set": of, "l1": l1, "l2": l2, "standardize": standardize, "class_weights": class_weights,
            "objective": float((weights * losses).sum() / weights.sum() + l1 * abs(w).sum() + l2 / 2 * (w * w).sum()),
            "zero": zero.astype(int).tolist(),
            "margin": float(1 - abs(gradient[zero]).max() / l1),
            "least": float(abs(w[~zero]).min()),
            "predictions": z.argmax(1).tolist(),
        }
        off = abs(gradient[~zero] + l1 * np.sign(w[~zero])).max() / l1
        print(name, model.n_iter_, cases[name]["objective"], f"{zero.mean():.0%} zero, off by {off:.1e},",
              f"margin {cases[name]['margin']:.1e}, least {cases[name]['least']:.1e}")
    (FOLDER / "sparse.json").write_text(json.dumps(cases) + "\n")


main()
