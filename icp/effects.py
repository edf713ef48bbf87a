"""Measured effects, labelled, with provenance. No judging happens here; see `icp.scores`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from icp.certificate import Certificate
from icp.errors import ArtefactError
from icp.statistics import Clusters, clusters_of
from icp.units import Unit

if TYPE_CHECKING:
    import xarray

JOINT = "joint"
"""The method of effects of sets, which `icp.SetEffects` holds."""


@dataclass(frozen=True, eq=False)
class Effects:
    """dP [unit, intervention, example] in the property's unit, positive where the intervention raises P.

    `clean` [example] is P(x); `total` [example] is P(x') - P(x), NaN where there is no counterpart. `header` holds the
    labels and the provenance: probe, property, interventions, method, positions, model binding, plans and versions.
    """

    dP: np.ndarray
    clean: np.ndarray
    total: np.ndarray
    header: dict[str, Any]

    @property
    def units(self) -> list[Unit]:
        return [Unit.parse(u) for u in self.header["units"]]

    @property
    def not_finite(self) -> np.ndarray:
        """How many rows of each unit [unit] the model gave no finite P for: their dP is NaN."""
        return np.isnan(self.dP).sum((1, 2))

    @property
    def interventions(self) -> list[str]:
        return self.header["interventions"]

    @property
    def estimated(self) -> bool:
        """Whether these are first-order estimates."""
        return self.header["method"].startswith("linear")

    @property
    def clusters(self) -> Clusters:
        """The examples' templates and words, as standard errors need them."""
        return clusters_of(self.header["examples"])

    @property
    def certificate(self) -> Certificate | None:
        """What `icp.measure(..., top=k)` proved of these units; None where they were not found that way."""
        stored = self.header.get("certificate")
        return None if stored is None else Certificate.from_json(stored)

    def of(self, intervention: str) -> np.ndarray:
        """dP [unit, example] of one intervention by its label; raises `ArtefactError` naming the labels there are."""
        if intervention not in self.interventions:
            raise ArtefactError(
                f"no intervention {intervention!r} was measured: there are {', '.join(self.interventions)}"
            )
        return self.dP[:, self.interventions.index(intervention)]

    def dataset(self) -> "xarray.Dataset":
        """The same as an `xarray.Dataset` with dimensions unit, intervention and example."""
        import xarray

        examples = self.header["examples"]
        coords = {
            "unit": list(self.header["units"]),
            "intervention": list(self.interventions),
            "example": np.arange(len(self.clean)),
        }
        for field in ("text", "template", "word", "group", "label"):
            coords[field] = ("example", np.array([e[field] for e in examples], dtype=object))
        return xarray.Dataset(
            {
                "dP": (("unit", "intervention", "example"), self.dP),
                "clean": ("example", self.clean),
                "total": ("example", self.total),
            },
            coords=coords,
            attrs={"property": self.header["property"], "unit_of_P": self.header["unit_of_P"],
                   "provenance": json.dumps({k: v for k, v in self.header.items() if k not in ("units", "examples")})},
        )  # fmt: skip

    def save(self, path: "str | Path") -> Path:
        """Write a zarr store, whole or not at all; `icp.measure(store=path)` writes the same format as it goes."""
        from icp.sweep.store import Store

        Store.save(path, self.header, self.dP, self.clean, self.total)
        return Path(path)

    @classmethod
    def load(cls, path: "str | Path") -> "Effects":
        """Read a store; raises `ArtefactError` where it is foreign, damaged, or not measured to its end."""
        from icp.sweep.store import finished

        header, *arrays = finished(path)
        if header["method"] == JOINT:
            raise ArtefactError(f"{path} holds effects of sets of units: read it with icp.SetEffects.load")
        return cls(*arrays, header)
