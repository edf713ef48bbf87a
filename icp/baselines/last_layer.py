"""Deep feature reweighting (Kirichenko, Izmailov and Wilson 2023): retrain the last layer on balanced groups."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from icp.errors import ModelError
from icp.family import unwrap
from icp.hooks import on_input
from icp.model import Model
from icp.probes import Probe
from icp.rows import Rows
from icp.weights import without_name


def last_layer_retraining(
    model: Model, held_out: Probe, *, strength: float = 1.0, draws: int = 10, seed: int = 0
) -> Model:
    """A copy of `model` whose unembedding rows of the label words were fitted anew on `held_out`.

    Logistic regression (scikit-learn, inverse regularisation `strength`) on what enters the unembedding after each
    text, scaled to unit variance; the mean of fits to `draws` subsets that hold equally many rows of every (label, cue)
    group. There is no intercept, since an unembedding has none. Nothing else of the model changes.

    Raises `ProbeError` where a group is empty, `ModelError` for a model that has no `transformers` unembedding.
    """
    from sklearn.linear_model import LogisticRegression

    if model.kind != "transformers":
        raise ModelError(f"the last layer of a {model.kind} cannot be retrained: load it with icp.load(<hub id>)")
    rows = Rows.of(model, held_out)
    rows.require_cells("last_layer_retraining")
    features = features_of(model, rows).double().cpu().numpy()
    labels, groups = rows.labels.numpy(), rows.groups.numpy()
    smallest, random = np.bincount(groups).min(), np.random.default_rng(seed)
    fits = []
    for _ in range(draws):
        cells = [random.permutation(np.flatnonzero(groups == group))[:smallest] for group in np.unique(groups)]
        chosen = np.concatenate(cells)
        scale = features[chosen].std(0).clip(min=1e-12)
        fit = LogisticRegression(C=strength, fit_intercept=False, max_iter=5000)
        fits.append(fit.fit(features[chosen] / scale, labels[chosen]).coef_ / scale)
    weights = np.mean(fits, 0)
    if len(weights) == 1:  # of two classes there is one row, for the second
        weights = np.concatenate([-weights, weights]) / 2
    changed = replace(model.copy(), tuning=None)
    without_name(changed.module)
    unembedding = unwrap(changed.unembed)
    if unwrap(changed.module.get_submodule(changed.family.embed)).weight is unembedding.weight:
        unembedding.weight = nn.Parameter(unembedding.weight.detach().clone())
        changed.config.tie_word_embeddings = False
    with torch.no_grad():
        unembedding.weight[rows.columns.to(model.device)] = torch.from_numpy(weights).to(unembedding.weight)
    return changed


def features_of(model: Model, rows: Rows) -> Float[Tensor, "row d_model"]:
    """What enters the unembedding after each text; raises `ModelError` where there is none."""
    if model.unembed is None:
        raise ModelError(f"{model.name} has no last layer to train again: its answers are made of representations")
    seen: list[Tensor] = []
    found = []
    with model.frozen(), torch.no_grad():
        handle = on_input(model.unembed, seen.append)
        try:
            for some in torch.arange(len(rows)).split(32):
                batch = rows.batch(model, some.tolist())
                model.logits(batch)
                reads, _ = rows.reads(some.tolist(), model.device)
                found.append(seen.pop()[reads.rows, reads.positions])
        finally:
            handle.remove()
    return torch.cat(found)
