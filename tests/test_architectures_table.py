"""The README's table of what `icp verify` found is that of the stored results, which have every architecture."""

import json
from pathlib import Path

import verify
from helpers import VERIFIED

from icp.checks import CHECKS

ROOT = Path(verify.__file__).parent.parent
RESULTS = json.loads((ROOT / "benchmarks" / "results" / "verify.json").read_text())


def test_the_readme_has_the_table_of_the_results():
    shown = (ROOT / "README.md").read_text().split("<!-- verify -->\n")[1].split("<!-- /verify -->")[0]
    assert shown.strip() == verify.table(RESULTS["models"])


def test_every_architecture_has_gone_through_every_check():
    assert {case.name for case in VERIFIED} <= set(RESULTS["models"])
    for name, found in RESULTS["models"].items():
        assert [check["name"] for check in found["checks"]] == list(CHECKS), name
        assert not [check for check in found["checks"] if check["holds"] is False], name


def test_a_check_that_fails_or_is_left_out_shows():
    checks = [{"name": "a (float64)", "holds": False}, {"name": "b", "holds": True}, {"name": "c (x)", "holds": None}]
    model = {"class": "A", "row": "a", "weights": "random", "cpu_seconds": 3, "checks": checks}
    assert verify.table({"tiny": model}).splitlines()[-1] == "| tiny | `A` | a | 1 of 2 | c | 3 |"
