"""The commands: what they write, what they print, and how they fail."""

import json
from dataclasses import replace

import pytest
import torch
from helpers import BY_NAME, make_tokenizer

import icp
from icp import cli

WORDS = (("nurse", "carpenter"), ("doctor", "attendant"), ("old", "flight"))
TEMPLATES = ("The {} said that", "It was late and the {} laughed because", "The {} went home early and")


@pytest.fixture
def folder(tmp_path):
    """A saved tiny model, pairs, and two kinds of cost."""
    BY_NAME["llama"].model().save_pretrained(tmp_path / "model")
    answers = (" she", " he")
    rows = [
        icp.Example(t.format(a), t.format(b), answers, label=0, template=t, word=a) for t in TEMPLATES for a, b in WORDS
    ]
    icp.Probe(tuple(rows)).save(tmp_path / "pairs.jsonl")
    texts = [
        "The old doctor ran home",
        "It was late and she smiled",
        "The nurse went home early",
        "It was late and he ran",
    ]
    icp.Probe.from_texts(texts).save(tmp_path / "text.jsonl")
    icp.Probe(tuple(rows)).save(tmp_path / "named.jsonl")
    return tmp_path


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a command as the installed script would; gives (exit status, stdout, stderr)."""

    def command(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["icp", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.app()
        printed = capsys.readouterr()
        return stopped.value.code or 0, printed.out, printed.err

    return command


def score(run, folder, *more):
    costs = ("--cost", folder / "text.jsonl", "--cost", folder / "named.jsonl")
    return run(
        "score", folder / "model", folder / "pairs.jsonl", "--out", folder / "run", *costs,
        "--candidates", 8, "--max-damage", 5, "--quiet", *more,
    )  # fmt: skip


def test_a_run_from_scores_to_report(run, folder):
    status, printed, _ = score(run, folder)
    assert status == 0 and "indirect_effect" in printed and "blocks." in printed
    parts = [{e.template for e in icp.Probe.load(folder / "run" / f"{p}.jsonl").examples} for p in ("rank", "select")]
    assert not parts[0] & parts[1]

    status, printed, _ = run("prune", folder / "model", folder / "run", "--max-damage", 50, "--quiet")
    selection = icp.Selection.load(folder / "run" / "selection.safetensors")
    assert status == 0 and f"cut {len(selection)} units" in printed
    assert icp.load(folder / "run" / "pruned").selection.units == selection.units

    probe, out = folder / "run" / "test.jsonl", folder / "run" / "evaluation.json"
    models = (folder / "model", folder / "run" / "pruned")
    status, printed, _ = run("evaluate", *models, "--probe", probe, "--out", out)
    stored = icp.Evaluation.load(out)
    before = stored.values[str(folder / "model")]["gap"]
    assert status == 0 and f"{before.mean():.4f}" in printed
    fresh = icp.evaluate(icp.load(folder / "model"), icp.Probe.load(probe))
    assert before == pytest.approx(next(iter(fresh.values.values()))["gap"])

    changed = icp.ChangedAnswers.load(folder / "run" / "changed-answers.json")
    expected = icp.changed_answers(*map(icp.load, models), icp.Probe.load(probe), names=tuple(map(str, models)))
    assert changed.table().equals(expected.table()) and changed.names == expected.names
    assert f"answers: {folder / 'run' / 'changed-answers.json'}\n" in printed
    assert f"{changed.is_kind('mended').sum()} mended, {changed.is_kind('broken').sum()} broken, 0 other\n" in printed

    status, printed, _ = run("report", folder / "run", "--title", "A title of my own")
    page = (folder / "run" / "report.html").read_text()
    assert status == 0 and "A title of my own" in page and str(selection.units[0]) in page
    assert "Which answers changed" in page


def test_changed_answers_are_kept_of_two_models_and_labels_only(run, folder):
    """Beside the file that --out names, and never where there is none."""
    other = folder / "other"
    BY_NAME["llama"].model(seed=3).save_pretrained(other)
    bare = icp.Probe(tuple(replace(e, label=None) for e in icp.Probe.load(folder / "pairs.jsonl").examples))
    bare.save(folder / "bare.jsonl")
    for models, probe, name in (
        ([folder / "model"], "named", "evaluation"),
        ([folder / "model", other], "bare", "evaluation-of-pairs"),
    ):
        status, _, _ = run("evaluate", *models, "--probe", folder / f"{probe}.jsonl", "--out", folder / f"{name}.json")
        assert status == 0 and not list(folder.glob("changed-answers*"))
    call = ("evaluate", folder / "model", other, "--probe")
    for out, beside in (("evaluation-x", "changed-answers-x.json"), ("mine", "changed-answers-mine.json")):
        run(*call, folder / "named.jsonl", "--out", folder / f"{out}.json")
        assert [path.name for path in folder.glob("changed-answers*")] == [beside]
        run(*call, folder / "bare.jsonl", "--out", folder / f"{out}.json")
        assert not list(folder.glob("changed-answers*")), "of an earlier evaluation under this name"


def test_answers_that_cannot_be_compared_leave_the_evaluation(run, folder):
    """Rows with other numbers of answers have losses, and no table of which changed."""
    rows = icp.Probe.load(folder / "named.jsonl").examples
    icp.Probe((*rows[1:], replace(rows[0], answers=(" she", " he", " it")))).save(folder / "mixed.jsonl")
    BY_NAME["llama"].model(seed=3).save_pretrained(folder / "other")
    out = folder / "evaluation.json"
    call = ("evaluate", folder / "model", folder / "other", "--probe", folder / "mixed.jsonl", "--out", out)
    assert run(*call, "--metric", "task_loss")[0] == 0
    assert len(next(iter(icp.Evaluation.load(out).values.values()))["task_loss"]) == len(rows)
    assert not list(folder.glob("changed-answers*"))


@pytest.mark.parametrize("what", ("erase:2", "mask:zero"))
def test_it_says_what_is_done_to_the_units_that_are_cut(run, folder, what):
    score(run, folder, "--kinds", "head", "--max-damage", 50)
    call = ("prune", folder / "model", folder / "run", "--max-damage", 50, "--quiet", "--intervention")
    for wrong, says in (("swap:counterpart", "cannot be written into weights"), ("erase:0", "cannot read the interv")):
        status, _, said = run(*call, wrong)
        assert status == 1 and says in said and not (folder / "run" / "pruned").exists()
    status, printed, _ = run(*call, what)
    selection = icp.Selection.load(folder / "run" / "selection.safetensors")
    assert status == 0 and f"cut {len(selection)} units ({what}): " in printed
    assert selection.role({"erase:2": "erase", "mask:zero": "prune"}[what]) == selection.units
    assert not any(choice.shift for choice in selection.choices) or what == "erase:2"
    assert icp.load(folder / "run" / "pruned").selection.choices == selection.choices
    assert run("report", folder / "run")[0] == 0
    role = {"erase:2": "erase 2 directions", "mask:zero": "prune (zero)"}[what]
    assert role in (folder / "run" / "report.html").read_text()


def test_scoring_again_resumes_and_gives_the_same_ranking(run, folder):
    assert score(run, folder)[1] == score(run, folder)[1]


def test_scoring_another_probe_into_the_same_folder_is_refused(run, folder):
    score(run, folder)
    before = (folder / "run" / "rank.jsonl").read_text()
    status, _, error = score(run, folder, "--by", "word")
    assert status == 1 and "holds another measurement" in error and "examples" in error
    assert (folder / "run" / "rank.jsonl").read_text() == before


def test_pairs_that_were_ranked_on_cannot_be_selected_on(run, folder):
    score(run, folder)
    (folder / "run" / "select.jsonl").write_bytes((folder / "run" / "rank.jsonl").read_bytes())
    status, _, error = run("prune", folder / "model", folder / "run", "--quiet")
    assert status == 1 and "were used for ranking" in error
    assert not (folder / "run" / "selection.safetensors").exists()


def measure(run, folder, *more):
    return run("measure", folder / "model", folder / "pairs.jsonl", "--store", folder / "effects", "--quiet", *more)


def test_measuring_in_shards_is_measuring_the_whole(run, folder):
    options = ("--intervention", "mask:mean", "--intervention", "scale:0.5", "--batch-size", 4,
               "--positions", "-2:", "--property", "TaskLoss", "--reference", folder / "text.jsonl")  # fmt: skip
    for index, count in ((2, 64), (1, 92)):
        status, printed, _ = measure(run, folder, *options, "--shard", f"{index}/2")
        assert status == 0 and f"{count} units, 2 interventions, 9 examples\n" in printed
    stored = icp.Effects.load(folder / "effects")
    model, pairs = icp.load(folder / "model"), icp.Probe.load(folder / "pairs.jsonl")
    want = icp.measure(
        model, pairs, model.units("head", "neuron"), [icp.Mask("mean"), icp.Scale(0.5)], property=icp.TaskLoss(),
        positions=(-2, None), batch_size=4, reference=icp.Probe.load(folder / "text.jsonl"), progress=False,
    )  # fmt: skip
    assert (stored.dP == want.dP).all() and stored.header == want.header
    assert measure(run, folder, *options)[1].startswith("156 units, 2 interventions, 9 examples\n")


def test_single_units_are_measured_with_the_usual_swap(run, folder):
    units = ("blocks.1.attn.hook_z[2]", "blocks.0.mlp.hook_post[5]")
    status, printed, _ = measure(run, folder, *(word for unit in units for word in ("--unit", unit)))
    stored = icp.Effects.load(folder / "effects")
    assert status == 0 and printed.endswith(f"effects: {folder / 'effects'}\n")
    assert sorted(map(str, stored.units)) == sorted(units) and stored.interventions == ["swap:counterpart"]
    status, printed, _ = measure(run, folder, "--method", "linear")
    assert status == 1


def test_rows_without_a_number_are_counted(run, folder):
    status, printed, _ = measure(run, folder, "--kinds", "head", "--intervention", "scale:1e39")
    bad = int(icp.Effects.load(folder / "effects").not_finite.sum())
    assert status == 0 and bad > 0
    assert f"{bad} rows have no number: the model returned NaN or infinity\n" in printed


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--intervention", "mask:median"), "cannot read the intervention 'mask:median': unknown mask 'median'"),
        (("--intervention", "scale:much"), "cannot read the intervention 'scale:much'"),
        (("--intervention", "flip"), "unknown intervention 'flip': use mask:zero"),
        (("--property", "Loss"), "unknown property 'Loss': use one of LogitDifference, Probability"),
        (("--positions", "first"), "unknown positions 'first'"),
        (("--positions", "1:x"), "cannot read the positions '1:x'"),
        (("--kinds", "synapse"), "'synapse'"),
        (("--shard", "3/2"), "shard '3/2' is not a part of a whole"),
        (("--workers", 2), "--workers, --cpus-per-worker and --gpus-per-worker go with --ray"),
        (("--cpus-per-worker", 2), "go with --ray"),
        (("--kinds", "head", "--unit", "hook_embed[0]"), "--kinds and --unit are two ways"),
        (("--steps", 2), "--steps, --grad-drop and --no-qk-fix refine estimates: give --method linear too"),
        (("--no-qk-fix",), "give --method linear too"),
        (("--method", "linear", "--steps", 0), "steps=0 is not a number of gradients"),
        (("--budget", 0.5), "budget=0.5 is for a search"),
        (("--seed", 1, "--ray", "local"), "seed=1 is for a search"),
        (("--top", 9, "--shard", "1/2"), "top=9 is one search"),
        (("--dtype", "int8"), "unknown dtype 'int8': use one of float32"),
        (("--device", "toaster"), "cannot load onto the device 'toaster' ("),
        (("--device", "meta"), "cannot load onto the device 'meta' ("),
        (("--padding-side", "top"), "'top'"),
        (("--memory", 0.001), "a memory budget of 0.00 GB is too small"),
        (("--ray", "local", "--shard", "1/2"), "leave shard, top and dtype out"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(run, folder, options, said):
    status, printed, error = measure(run, folder, *options)
    assert status == 1 and not printed and not (folder / "effects").exists()
    assert error.startswith("icp: ") and said in error and error.count("\n") == 1


def test_a_cluster_is_asked_for_by_its_address(run, folder, monkeypatch):
    seen = []

    def ran(self, measure, model, call):
        seen.append((self, call["progress"]))
        measure(model, **call)

    monkeypatch.setattr(icp.Ray, "run", ran)
    status, _, _ = measure(run, folder, "--kinds", "head", "--ray", "auto", "--workers", 3, "--gpus-per-worker", 0.5,
                           "--cpus-per-worker", 2)  # fmt: skip
    assert status == 0 and seen == [(icp.Ray("auto", 3, 2.0, 0.5), False)]
    assert len(icp.Effects.load(folder / "effects").units) == 12


def test_a_search_prints_its_certificate(run, folder):
    options = ("--top", 5, "--budget", 1.5, "--confidence", 0.9, "--miss-rate", 0.1, "--seed", 3)
    status, printed, _ = measure(run, folder, *options)
    found = icp.Effects.load(folder / "effects" / "top")
    assert status == 0 and len(found.units) == 5
    asked = (
        found.certificate.confidence,
        found.certificate.miss_rate,
        found.certificate.budget,
        found.certificate.seed,
    )
    assert asked == (0.9, 0.1, 1.5, 3)
    assert printed.splitlines()[1:] == [str(found.certificate), f"effects: {folder / 'effects' / 'top'}"]


def test_every_option_of_measuring_reaches_it(run, folder):
    refined = ("--method", "linear", "--steps", 2, "--grad-drop", "--no-qk-fix", "--padding-side", "left")
    options = ("--dtype", "float64", "--device", "cpu", "--intervention", "mask:zero", "--kinds", "query, head")
    assert measure(run, folder, *refined, *options)[0] == 0
    stored = icp.Effects.load(folder / "effects")
    model, pairs = icp.load(folder / "model"), icp.Probe.load(folder / "pairs.jsonl")
    want = icp.measure(
        model, pairs, model.units("query", "head"), icp.Mask("zero"), method=icp.Linear(2, True, False),
        padding_side="left", dtype=torch.float64, progress=False,
    )  # fmt: skip
    assert stored.header["method"] == "linear, 2 steps, GradDrop, without the QK fix"
    assert stored.header["padding_side"] == "left" and stored.header["dtype"] == "torch.float64"
    assert (stored.dP == want.dP[[want.units.index(unit) for unit in stored.units]]).all()


def test_units_that_stand_in_for_each_other_reach_the_report(run, folder):
    measure(run, folder, "--kinds", "head", "--intervention", "mask:mean")
    (folder / "run").mkdir()
    store = folder / "run" / "co-ablation.zarr"
    call = ("co-ablate", folder / "model", folder / "pairs.jsonl", "--store", store, "--quiet")
    status, printed, _ = run(*call, "--effects", folder / "effects", "--first", 3)
    found = icp.CoAblation.load(store)
    assert status == 0 and "rank given backup" in printed and printed.endswith(f"co-ablation: {store}\n")
    best = icp.spuriousness(icp.Effects.load(folder / "effects")).head(3).units
    assert list(found.units) == list(best) and found.header["interventions"] == ["mask:mean"]
    assert run("report", folder / "run")[0] == 0
    assert str(best[0]) in (folder / "run" / "report.html").read_text()
    named = ("--unit", "blocks.0.attn.hook_z[1]", "--unit", "blocks.1.attn.hook_z[0]", "--intervention", "mask:zero")
    status, _, _ = run(*call[:4], folder / "other.zarr", "--quiet", *named)
    assert status == 0 and len(icp.CoAblation.load(folder / "other.zarr").units) == 2
    for wrong in ((), (*named, "--effects", folder / "effects")):
        status, _, error = run(*call, *wrong)
        assert status == 1 and "say which units, one way" in error


@pytest.mark.parametrize(
    "error",
    (
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("[x] DefaultCPUAllocator: can't allocate"),
    ),
)
def test_out_of_memory_is_one_sentence(run, folder, monkeypatch, error):
    def full(*_, **__):
        raise error

    monkeypatch.setattr("icp.load", full)
    status, _, said = measure(run, folder)
    assert status == 1 and said.startswith("icp: out of memory: take a smaller --memory") and said.count("\n") == 1


def wrong_file(folder):
    (folder / "run").mkdir()
    (folder / "run" / "selection.safetensors").write_bytes(b"not one of ours")
    return ("report", folder / "run")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (lambda f: ("evaluate", "no/such-model", "--probe", f / "pairs.jsonl"), "no/such-model"),
        (lambda f: ("evaluate", f / "model", f / "model", "--probe", f / "pairs.jsonl"), "is named twice"),
        (lambda f: ("evaluate", f / "model", "--probe", f / "missing.jsonl"), "missing.jsonl"),
        (lambda f: ("evaluate", f / "model", "--probe", f / "pairs.jsonl", "--metric", "bleu"), "'bleu'"),
        (lambda f: ("prune", f / "model", f / "nowhere"), "nowhere"),
        (lambda f: ("report", f / "model"), "nothing to report"),
        (wrong_file, "truncated or not a safetensors file"),
    ],
)
def test_bad_input_is_one_sentence_and_a_non_zero_exit(run, folder, arguments, said):
    status, printed, error = run(*arguments(folder))
    assert status == 1 and not printed
    assert error.startswith("icp: ") and said in error and error.count("\n") == 1


def test_an_unknown_kind_of_unit_leaves_nothing_half_written(run, folder):
    status, _, error = score(run, folder, "--kinds", "head,synapse")
    assert status == 1 and "'synapse'" in error
    assert not list((folder / "run").glob("*.zarr"))


def test_an_interrupt_exits_with_130_and_says_how_to_go_on(run, folder, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("icp.steps.score", interrupted)
    status, _, error = score(run, folder)
    assert status == 130 and "resumes" in error


def test_an_unexpected_error_is_not_hidden(run, folder, monkeypatch):
    def broken(*args, **kwargs):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("icp.steps.score", broken)
    with pytest.raises(ZeroDivisionError):
        score(run, folder)


def test_the_tokenizer_of_these_tests_knows_every_word():
    words = {piece for t in TEMPLATES for pair in WORDS for word in pair for piece in t.format(word).split()}
    unknown = make_tokenizer().unk_token_id
    assert all(unknown not in make_tokenizer()(word)["input_ids"] for word in words)


def test_an_evaluation_file_keeps_every_number(run, folder):
    out = folder / "evaluation.json"
    run("evaluate", folder / "model", "--probe", folder / "pairs.jsonl", "--out", out)
    assert len(json.loads(out.read_text())["values"][str(folder / "model")]["gap"]) == len(TEMPLATES) * len(WORDS)


def test_the_version_is_shown(run):
    status, printed, _ = run("--version")
    assert status == 0 and printed.strip() == f"icp {icp.__version__}"


def labelled(folder):
    """Rows to train on, with counterparts, and a selection of the model's own."""
    answers = (" she", " he")
    rows = [
        icp.Example(*pair[:: 1 - 2 * (n % 2)], answers, label=n % 2)
        for n, pair in enumerate([(t.format(a), t.format(b)) for t in TEMPLATES for a, b in WORDS])
    ]
    icp.Probe(tuple(rows)).save(folder / "train.jsonl")
    model = icp.load(folder / "model")
    icp.Selection.of(model, model.units("head")[:3], "regularise").save(folder / "heads.safetensors")
    return "finetune", folder / "model", folder / "train.jsonl", "--epochs", 1, "--batch-size", 3, "--quiet"


def test_fine_tuning_writes_adapters_and_a_model_that_loads(run, folder):
    command = labelled(folder)
    status, printed, _ = run(*command, "--out", folder / "tuned", "--selection", folder / "heads.safetensors")
    assert status == 0 and "penalty 0." in printed and "merged model" in printed
    tuned = icp.load(folder / "tuned" / "model")
    assert not torch.equal(tuned.unembed_weights()[0], torch.zeros(())) and tuned.kind == "transformers"
    assert (folder / "tuned" / "adapter" / "adapter_model.safetensors").is_file()
    again, repeated, _ = run(*command, "--out", folder / "tuned", "--selection", folder / "heads.safetensors")
    assert again == 0 and repeated == printed, "a finished run is taken as it is"
    python = icp.finetune(
        icp.load(folder / "model"), icp.Probe.load(folder / "train.jsonl"), progress=False,
        arguments={"num_train_epochs": 1, "per_device_train_batch_size": 3},
        invariance=icp.Invariance(icp.Selection.load(folder / "heads.safetensors")),
    )  # fmt: skip
    for one, other in zip(python.module.parameters(), tuned.module.parameters()):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def kinds_of_pairs(folder):
    """The rows of `labelled` as pairs of either kind, in files."""
    probe = icp.Probe.load(folder / "train.jsonl")
    flipped = tuple(1 - example.label for example in probe.examples)
    icp.PreservingPairs(probe).save(folder / "preserving.json")
    icp.FlippingPairs(probe, flipped).save(folder / "flipping.json")
    return folder / "preserving.json", folder / "flipping.json"


def test_losses_refuse_saved_pairs_of_the_wrong_kind(run, folder):
    name, model, train, *options = labelled(folder)
    preserving, flipping = kinds_of_pairs(folder)
    options += ["--selection", folder / "heads.safetensors", "--out", folder / "tuned"]
    status, _, said = run(name, model, flipping, *options)
    assert status == 1 and "needs label-preserving pairs and was given label-flipping ones" in said
    assert not (folder / "tuned").exists()
    printed = [run(name, model, rows, *options[:-1], folder / rows.stem)[1] for rows in (preserving, train)]
    assert printed[0].splitlines()[0] == printed[1].splitlines()[0]
    assert run(name, model, flipping, *options[:-4], "--out", folder / "plain")[0] == 0, "its labels can be learnt"


def test_pairs_of_both_kinds_are_evaluated_together(run, folder):
    _, model, train, *_ = labelled(folder)
    preserving, flipping = kinds_of_pairs(folder)
    out = folder / "evaluation.json"
    status, printed, _ = run("evaluate", model, "--probe", preserving, "--flipping", flipping, "--out", out)
    found = icp.Evaluation.load(out)
    wanted = icp.evaluate(
        {str(model): icp.load(model)}, icp.Probe.load(train), flipping=icp.FlippingPairs.load(flipping)
    )
    assert status == 0 and "sensitivity" in printed and found.metrics == wanted.metrics
    for metric in ("consistency", "sensitivity"):
        assert (found.values[str(model)][metric] == wanted.values[str(model)][metric]).all()
    for probe, other in ((flipping, flipping), (preserving, preserving), (preserving, train)):
        status, _, said = run("evaluate", model, "--probe", probe, "--flipping", other)
        assert status == 1 and said.startswith("icp: ") and said.count("\n") == 1
    status, _, said = run("evaluate", model, "--probe", preserving, "--metric", "consistency")
    assert status == 1 and "needs pairs whose label flips too" in said


def test_a_ranking_by_the_cue_takes_label_preserving_pairs(run, folder):
    labelled(folder)
    preserving, flipping = kinds_of_pairs(folder)
    command = ("score", folder / "model", "PAIRS", "--out", folder / "run", "--cost", folder / "text.jsonl",
               "--candidates", 4, "--max-damage", 5, "--by", "text", "--quiet")  # fmt: skip
    status, _, said = run(*(flipping if word == "PAIRS" else word for word in command))
    assert status == 1 and "a ranking by the cue needs label-preserving pairs" in said
    assert not (folder / "run").exists()
    assert run(*(preserving if word == "PAIRS" else word for word in command))[0] == 0
    for pairs in (preserving, flipping):
        call = ("measure", folder / "model", pairs, "--store", folder / pairs.stem, "--kinds", "head", "--quiet")
        assert run(*call)[0] == 0
        assert len(icp.Effects.load(folder / pairs.stem).clean) == 9


def test_fine_tuning_refuses_what_does_not_go_together(run, folder):
    command = labelled(folder)
    status, _, said = run(*command, "--out", folder / "tuned", "--weight", 2)
    assert status == 1 and "go with --selection" in said
    other = BY_NAME["llama"].model(seed=1)
    icp.Selection.of(other, other.units("head")[:3]).save(folder / "other.safetensors")
    status, _, said = run(*command, "--out", folder / "tuned", "--selection", folder / "other.safetensors")
    assert status == 1 and "another weights" in said and not (folder / "tuned").exists()
    status, _, _ = run(
        *command, "--out", folder / "tuned", "--selection", folder / "other.safetensors", "--any-weights"
    )
    assert status == 0
