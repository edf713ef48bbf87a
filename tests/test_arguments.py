"""Arguments of another kind than `measure` takes are one sentence, and nothing is written."""

import inspect

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
