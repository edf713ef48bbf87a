"""Arguments of another kind than `measure` takes are one sentence, and nothing is written."""

import inspect
import sys

import numpy as np
import pytest
import torch
from helpers import BY_NAME, make_probe

import icp

measure = inspect.unwrap(icp.measure)  # as users have it: without the type checks that only tests switch on
CASE = BY_NAME["llama"]


@pytest.fixture(scope="module")
def model():
    return CASE.model()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": CASE.module()}, r"cannot measure a LlamaForCausalLM: pass what icp\.load\(\.\.\.\) returns"),
        ({"model": "smollm2"}, "cannot measure a str: "),
        ({"probe": ["The nurse said"]}, "probe is a list, not a Probe: make one with icp.Probe.from_pairs"),
        ({"batch_size": np.int64(8)}, "batch_size=.*8.* is no number of rows: give an int"),
        ({"probe": None}, "probe is a NoneType"),
        ({"reference": ["The nurse said"]}, "reference is a list, not a Probe"),
        ({"memory": "8GB"}, "memory='8GB' is no number of bytes: give one such as 8e9"),
        ({"memory": float("nan")}, "memory=nan is no"),
        ({"memory": float("inf")}, "memory=inf is no"),
        ({"memory": True}, "memory=True is no"),
        ({"batch_size": 2.5}, "batch_size=2.5 is no number of rows"),
        ({"batch_size": "8"}, "batch_size='8' is no"),
        ({"positions": (0.5, 2)}, r"positions=\(0\.5, 2\) is no span: give ints"),
        ({"positions": (None, 2)}, r"positions=\(None, 2\) is no span"),
        ({"positions": (0, True)}, r"positions=\(0, True\) is no span"),
        ({"dtype": "bfloat16"}, "dtype='bfloat16' is no dtype"),
        ({"runner": "auto"}, r"runner='auto' is no runner: pass icp\.Ray\(\.\.\.\)"),
        ({"units": [3]}, "3 is no unit: give an address such as"),
        ({"units": None}, "None is no unit: give an address such as"),
    ],
)
def test_another_kind_of_argument_is_one_sentence(model, options, said, tmp_path):
    call = dict(model=model, probe=make_probe(), units="hook_embed[0]", interventions=icp.Mask()) | options
    with pytest.raises(icp.IcpError, match=f"^{said}") as raised:
        measure(**call, store=tmp_path / "effects", progress=False)
    assert "\n" not in str(raised.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ({"confidence": 0.9}, {"miss_rate": 0.1}, {"budget": 0.5}, {"seed": 1}))
def test_an_option_of_a_search_is_not_ignored_beside_a_runner(model, option, tmp_path):
    name, value = next(iter(option.items()))
    with pytest.raises(icp.IcpError, match=f"^{name}={value} is for a search: give top=k too"):
        measure(
            model, make_probe(), "hook_embed[0]", icp.Mask(), store=tmp_path / "e", runner=icp.Ray(workers=1),
            progress=False, **option,
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_what_is_meant_is_taken(model):
    probe = make_probe()
    got = measure(
        model, probe, "hook_embed[0]", icp.Mask("mean"), dtype=torch.float32, positions=(-2, None), batch_size=2,
        memory=64_000_000_000.0, reference=probe, progress=False,
    )  # fmt: skip
    assert got.header["dtype"] == "torch.float32" and np.abs(got.dP).max() > 0


def test_a_store_that_is_no_path_is_one_sentence(model):
    with pytest.raises(icp.IcpError, match=r"^store=3 is no path"):
        measure(model, make_probe(), "hook_embed[0]", icp.Mask(), store=3, progress=False)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "smollm2"}, "cannot measure a str: "),
        ({"probe": ["The nurse said"]}, "probe is a list, not a Probe"),
        ({"intervention": "zero"}, "'zero' is not an intervention"),
        ({"property": "gap"}, "'gap' is not a property"),
        ({"batch_size": "4"}, "batch_size='4' is no number of rows"),
        ({"batch_size": 2.5}, "batch_size=2.5 is no number of rows"),
        ({"positions": (0.5, 1)}, r"positions=\(0\.5, 1\) is no span"),
    ],
)
@pytest.mark.parametrize("function", ("measure_sets", "co_ablation"))
def test_the_same_for_sets(model, function, options, said, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["icp.sweep.co_ablation"], "measure_sets", inspect.unwrap(icp.measure_sets))
    units = ["hook_embed[0]", "hook_embed[1]"]
    call = dict(model=model, probe=make_probe(), intervention=icp.Mask()) | options
    call |= {"sets": [units]} if function == "measure_sets" else {"units": units}
    with pytest.raises(icp.IcpError, match=f"^{said}"):
        inspect.unwrap(getattr(icp, function))(**call, store=tmp_path / "sets", progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("memory", (np.float32(8e9), np.int64(8_000_000_000)))
def test_a_budget_may_be_a_number_of_numpys(model, memory, tmp_path):
    measure(model, make_probe(), "hook_embed[0]", icp.Mask(), memory=memory, store=tmp_path / "e", progress=False)
    measure(
        model, make_probe(), "hook_embed[0]", icp.Mask(), memory=float(memory), store=tmp_path / "e", progress=False
    )


def test_a_search_does_not_go_into_the_store_of_one_measurement(model, tmp_path):
    units = model.units("neuron")
    measure(model, make_probe(), units, icp.Mask(), store=tmp_path / "e", method="linear", progress=False)
    before = sorted(path.name for path in (tmp_path / "e").iterdir())
    with pytest.raises(icp.ArtefactError, match="is the store of one measurement: give a search a folder of its own"):
        measure(model, make_probe(), units, icp.Mask(), store=tmp_path / "e", top=3, budget=1.0, progress=False)
    assert sorted(path.name for path in (tmp_path / "e").iterdir()) == before
