"""Module-level imports run one way, heavy libraries are imported where they are used, and `import icp` is light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import icp

ROOT = Path(icp.__file__).parent
ORDER = """
    errors units family families files images tokenizing quiet numerals statistics control_variate certificate
    alignment batch weights interventions sites live hooks bound properties examples probes pairs data.schema
    data.reader data.labelled data.sentiment data.sst2 data.imdb data.bias_bios data.civil_comments data.fever
    data.questions data.triviaqa data.nq_open data.squad data.crows_pairs data.stereoset data.text_pairs
    data.cad_imdb data.imdb_contrast data.wiki_toxicity_fuzzed data.winobias data.winogender data.counterfact
    data.problems data.cladder data.syllogisms data.ontologies data.prontoqa data.corr2cause data.shapes
    data.waterbirds data divergence anatomy running model masking embedded fitting loading effects sweep
    sweep.memory sweep.plan sweep.lenders sweep.donors sweep.begun sweep.store sweep.provenance sweep.results
    sweep.precision sweep.misses sweep.pool sweep.search sweep.late sweep.crew sweep.ray sweep.arguments
    sweep.routes sweep.capture sweep.exact sweep.gradients sweep.changes sweep.linear sweep.candidates sweep.joint
    sweep.co_ablation sweep.topk sweep.run sweep.measure scores audit selection erasure rows step sensitivity rerank
    apart live_edits invariance presets adapters losses held_out watch runs callbacks mixin trainer finetune
    baselines.paired baselines.flipping baselines.balance baselines.mmd baselines.adversarial baselines.twice
    baselines.last_layer baselines.influence baselines frontier nested_sets prune predictions resampling
    faithfulness metrics judged evaluation seeds evaluate choose_weight carriers changed efficiency sentences
    masked_sentences bias generation qa reading drivers chat counterfactual.rows counterfactual.words
    counterfactual.finders counterfactual.lexicon counterfactual.tables counterfactual.spec counterfactual.lines
    counterfactual.difference counterfactual.editors counterfactual.validator counterfactual.made
    counterfactual.make counterfactual.checked counterfactual.equations counterfactual.worlds counterfactual.domains
    counterfactual.association counterfactual.effects counterfactual.pronouns counterfactual.swap
    counterfactual.lexicons counterfactual.function counterfactual.written counterfactual.language_model
    counterfactual.endpoint counterfactual.proposal counterfactual.template counterfactual.given
    counterfactual.validators.worded counterfactual.validators.classified counterfactual.validators.fluency
    counterfactual.validators plots.style plots.units plots.evidence plots.calibration plots page sections.text
    sections.pictures sections.answers sections.evidence sections.limits sections.places sections.units sections
    report counterfactual.graph counterfactual.show counterfactual capt.leakage capt.abstraction capt.estimator
    capt.corruption capt.cladder_grammar capt.cladder_groups capt.cladder_retold capt.inverse capt.symbols
    capt.syllogism_rules capt.abstracted capt.renaming capt.other_events capt.variable_rules capt.worlds
    capt.training_rows capt.validate capt.stored capt.show capt.lexicon capt.cladder_rules capt.splits capt.quality
    capt.cache capt.few_shot
    capt.language_models capt.cladder_gold capt.rewritten capt.held_out capt.replies capt.training capt.answering
    capt.recipe capt plain drawn finite_differences checks verify steps demo demo.sentences demo.reviews demo.run
    cli_measure cli_train cli_verify cli_pairs cli_capt cli
""".split()  # noqa: SIM905
"""Every module may import those before it. `icp/__init__.py`, the public face, imports what it lists."""

LATE = {
    ("effects", "sweep.store"),  # Effects.save and load read and write what a sweep stores
    ("loading", "selection"),  # a pruned folder carries its selection
    ("cli", ""),
    ("cli_measure", ""),
    ("cli_train", ""),
    ("cli_verify", ""),
    ("cli_pairs", ""),
    ("cli_capt", ""),
    ("report", ""),
    ("sweep.provenance", ""),  # the version number
}
"""Imports inside functions that go against the order; the empty name is the package itself."""

OWNERS = {
    "transformer_lens": {"families", "model", "loading"},
    "peft": {"loading", "adapters"},
    "plotly": {"plots.style", "plots.units", "plots.evidence", "plots.calibration"},
    "ray": {"sweep.ray"},
    "typer": {"cli", "cli_capt", "cli_measure", "cli_pairs", "cli_train", "cli_verify"},
    "zarr": {"sweep.store"},
    "xarray": {"effects"},
    "datasets": {"data.reader", "counterfactual.made"},
    "rapidfuzz": {"counterfactual.difference"},
    "PIL": {"data.waterbirds", "sections.pictures"},
}
"""Which modules may import a library, at any level."""

LATE_LIBRARIES = (
    "transformers",
    "transformer_lens",
    "pandas",
    "xarray",
    "zarr",
    "peft",
    "scipy",
    "sklearn",
    "gguf",
    "ray",
    "fairlearn",
    "torchmetrics",
    "datasets",
    "networkx",
    "PIL",
    "rapidfuzz",
    "PIL",
)
"""Imported inside functions only."""

HEAVY_MODULES = {"callbacks": {"transformers"}, "trainer": {"transformers"}}
"""Modules that cannot be had without such a library, and are themselves imported inside functions only."""


def modules():
    """Every module's source by its name within the package."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts).removesuffix("__init__").rstrip(".")] = path.read_text()
    return found


SOURCES = modules()


def imports(source, *, known=tuple(SOURCES)):
    """(module, whether at module level) for each import that runs; what is under TYPE_CHECKING never does."""
    found = set()

    def visit(nodes, top):
        for node in nodes:
            if isinstance(node, ast.Import):
                found.update((alias.name, top) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, "imports are written out in full"
                submodules = [f"{node.module}.{alias.name}" for alias in node.names]
                inner = [name for name in submodules if name.removeprefix("icp.") in known]
                found.update((name, top) for name in inner or [node.module])
            elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                visit(node.orelse, top)
            else:
                function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                visit(ast.iter_child_nodes(node), top and not function)

    visit(ast.parse(source).body, True)
    return found


def inside(name):
    """The name within the package, or None for a module of another one."""
    return name.removeprefix("icp").removeprefix(".") if name.split(".")[0] == "icp" else None


def backwards(top):
    """Imports (from, to) of this package that go against the order."""
    found = set()
    for module in ORDER:
        for name, at_top in imports(SOURCES[module]):
            target = inside(name)
            if target is not None and at_top == top and (target == "" or ORDER.index(target) >= ORDER.index(module)):
                found.add((module, target))
    return found


def test_every_module_has_its_place():
    assert sorted(ORDER) == sorted(name for name in SOURCES if name), "give a new module a place in ORDER"


def test_module_level_imports_run_one_way():
    assert backwards(top=True) == set()


def test_imports_inside_functions_go_back_only_where_listed():
    assert backwards(top=False) == LATE


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_is_known_to_its_owners_only(library):
    users = {
        module for module, source in SOURCES.items() for name, _ in imports(source) if name.split(".")[0] == library
    }
    assert users <= OWNERS[library]


@pytest.mark.parametrize("library", LATE_LIBRARIES)
def test_a_heavy_library_is_imported_inside_functions(library):
    for module, source in SOURCES.items():
        found = {name.split(".")[0] for name, top in imports(source) if top}
        assert library not in found - HEAVY_MODULES.get(module, set()), module


def test_a_heavy_module_is_imported_inside_functions():
    for module, source in SOURCES.items():
        found = {inside(name) for name, top in imports(source) if top}
        assert module in HEAVY_MODULES or not found & set(HEAVY_MODULES), module


def test_only_models_know_transformer_lens():
    assert {module for module, source in SOURCES.items() if "transformer_lens" in source} <= OWNERS["transformer_lens"]


def test_import_icp_is_light_and_does_nothing():
    script = """
import os, sys
before = dict(os.environ)
import icp
assert dict(os.environ) == before, "import changed the environment"
heavy = "transformers transformer_lens plotly pandas xarray zarr peft sklearn scipy torchmetrics fairlearn gguf typer"
print(*[name for name in heavy.split() if name in sys.modules])
print(*[name for name in icp.__all__ if not hasattr(icp, name)])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT.parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [], "imported with icp, or in __all__ and missing"
    assert done.stderr == ""


def test_the_public_face_is_the_list_and_nothing_else():
    tree = ast.parse(SOURCES[""])
    assert all(isinstance(node, ast.ImportFrom | ast.Assign | ast.Expr) for node in tree.body)
    imported = {
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert imported == set(icp.__all__)
    assert len(icp.__all__) == len(set(icp.__all__))


def test_the_reader_of_imports_sees_what_it_should():
    """The checks above are worth what this function finds."""
    source = """
from typing import TYPE_CHECKING
import icp.model
from icp import hooks
if TYPE_CHECKING:
    import pandas
def f():
    from icp.sites import Site
    import scipy.stats
class C:
    import zarr
"""
    assert imports(source) == {
        ("typing", True), ("icp.model", True), ("icp.hooks", True), ("icp.sites", False), ("scipy.stats", False),
        ("zarr", True),
    }  # fmt: skip
