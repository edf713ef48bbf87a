"""Probes split without sharing, balance, swap, save and load; what cannot be read is named."""

import hashlib
import json
from dataclasses import replace

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

import icp

ANSWERS = (" she", " he")
WORDS = ("nurse", "doctor", "carpenter", "baker", "pilot")
TEMPLATES = ("The {} said that", "It was late and the {} said that", "The old {} ran", "The {} smiled")


def grid() -> icp.Probe:
    """Every template with every word in every group."""
    return icp.Probe(
        tuple(
            icp.Example(t.format(w), t.format("person"), ANSWERS, i % 2, template=t, word=w, group=g)
            for t in TEMPLATES
            for i, w in enumerate(WORDS)
            for g in ("a", "b", "c")
        )
    )


@given(
    st.sampled_from(
        ["template", "word", "group", ["template", "word"], ["word", "group"], ("template", "word", "group"), "text"]
    ),
    st.integers(0, 1000),
    st.sampled_from([(0.5, 0.5), (0.4, 0.3, 0.3)]),
)
def test_parts_of_a_split_share_no_value(by, seed, fractions):
    fields = [by] if isinstance(by, str) else list(by)
    parts = grid().split(by=by, seed=seed, fractions=fractions)
    assert len(parts) == len(fractions)
    for field in fields:
        values = [{getattr(e, field) for e in part.examples} for part in parts]
        assert sum(map(len, values)) == len(set().union(*values)), f"a {field} is in two parts"
    kept = [e for part in parts for e in part.examples]
    assert len(kept) == len(set(kept)) and set(kept) <= set(grid().examples)
    if len(fields) == 1:
        assert len(kept) == len(grid()), "splitting by one field loses nothing"
    again = grid().split(by=by, seed=seed, fractions=fractions)
    assert [p.examples for p in again] == [p.examples for p in parts], "the same seed gives the same parts"


def test_another_seed_gives_other_parts():
    ways = {grid().split(by="word", seed=seed)[0].examples for seed in range(10)}
    assert len(ways) > 1


def test_split_does_not_depend_on_the_order_of_the_examples():
    backwards = icp.Probe(grid().examples[::-1])
    for one, other in zip(grid().split(by="word", seed=3), backwards.split(by="word", seed=3)):
        assert set(one.examples) == set(other.examples)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"by": "colour"}, "cannot split by 'colour': use one of template, word, group"),
        ({"by": ()}, "split needs a field"),
        ({"by": "word", "fractions": (0.5, 0.4)}, "fractions that sum to 1, got ('word',) and (0.5, 0.4)"),
        ({"by": "word", "fractions": (1.5, -0.5)}, "fractions that sum to 1"),
        ({"by": "word", "fractions": (0.98, 0.02)}, "part 1 of the split by word is empty: give more values"),
    ],
)  # fmt: skip
def test_a_split_that_cannot_be_made_says_why(options, words):
    with pytest.raises(icp.ProbeError) as error:
        grid().split(**options)
    assert words in str(error.value)


def test_a_split_by_a_field_that_some_lack_says_so():
    probe = icp.Probe((*grid().examples, icp.Example("The baker ran")))
    with pytest.raises(icp.ProbeError, match="cannot split by word: some examples have none"):
        probe.split(by="word")


def test_swapping_twice_gives_the_probe_back():
    once = grid().swapped()
    assert [e.text for e in once.examples] == [e.counterpart for e in grid().examples]
    assert [e.label for e in once.examples] == [e.label for e in grid().examples]
    assert once.swapped() == grid()


def test_swapping_exchanges_the_groups_with_the_texts():
    """`group` is the cue of the text: kept in its place it would name the cue of the other text."""
    told = icp.Example("The nurse ran", "The baker ran", ANSWERS, 0, group="f", counterpart_group="m")
    untold = icp.Example("The nurse ran", "The baker ran", ANSWERS, 0, group="f")
    swapped = icp.Probe((told, untold)).swapped()
    assert [(e.text, e.group, e.counterpart_group) for e in swapped.examples] == [
        ("The baker ran", "m", "f"),
        ("The baker ran", None, "f"),
    ]
    assert swapped.swapped() == icp.Probe((told, untold))
    balanced = icp.Probe((told,)).balanced()
    assert [(e.text, e.group) for e in balanced.examples] == [("The nurse ran", "f"), ("The baker ran", "m")]
    with pytest.raises(icp.ProbeError, match="cannot split by group: some examples have none"):
        icp.Probe((untold,)).balanced().split(by="group")


def test_a_probe_without_counterpart_groups_has_the_digest_that_it_always_had(tmp_path):
    """Stored sweeps are resumed by it; what was written before the field was there loads as it is."""
    probe = icp.Probe((icp.Example("The nurse ran", "The baker ran", ANSWERS, 0, group="f"),))
    old = ["text", "counterpart", "answers", "label", "template", "word", "group"]
    rows = [{name: getattr(example, name) for name in old} for example in probe.examples]
    assert probe.digest == hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
    (tmp_path / "old.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert icp.Probe.load(tmp_path / "old.jsonl") == probe
    with_group = icp.Probe((replace(probe.examples[0], counterpart_group="m"),))
    assert with_group.digest != probe.digest
    assert icp.Probe.load(with_group.save(tmp_path / "new.jsonl")) == with_group


def test_balanced_pairs_hold_both_members():
    both = grid().balanced()
    assert len(both) == 2 * len(grid())
    assert both.examples[: len(grid())] == grid().examples
    assert both.examples[len(grid()) :] == grid().swapped().examples


@given(st.lists(st.tuples(st.sampled_from([0, 1]), st.sampled_from(["a", "b"])), min_size=1, max_size=30))
def test_balanced_texts_have_equally_many_of_every_label_and_group(cells):
    probe = icp.Probe(
        tuple(icp.Example(f"text {i}", answers=ANSWERS, label=y, group=g) for i, (y, g) in enumerate(cells))
    )
    drawn = probe.balanced(seed=1)
    counts = {cell: sum((e.label, e.group) == cell for e in drawn.examples) for cell in set(cells)}
    assert set(counts.values()) == {min(cells.count(cell) for cell in set(cells))}
    assert set(drawn.examples) <= set(probe.examples) and len(set(drawn.examples)) == len(drawn)
    assert probe.balanced(seed=1) == drawn


def test_what_cannot_be_balanced_or_swapped_says_why():
    alone = icp.Probe.from_texts(["The baker ran"], answers=ANSWERS)
    with pytest.raises(icp.ProbeError, match=r"cannot balance 'The baker ran'.*counterpart.*label and a group"):
        alone.balanced()
    with pytest.raises(icp.ProbeError, match="some examples have no counterpart"):
        alone.swapped()


@given(st.integers(1, 80), st.integers(0, 5))
def test_take_draws_at_most_that_many_in_order(count, seed):
    probe = grid()
    taken = probe.take(count, seed)
    assert len(taken) == min(count, len(probe))
    places = [probe.examples.index(e) for e in taken.examples]
    assert places == sorted(set(places))
    assert probe.take(count, seed) == taken


def test_pairs_come_as_tuples_mappings_examples_or_a_table():
    rows = [{"text": "The nurse ran", "counterpart": "The baker ran", "label": 0, "word": "nurse"},
            {"text": "The pilot ran", "counterpart": "The baker ran", "label": 1, "word": None}]  # fmt: skip
    by_mapping = icp.Probe.from_pairs(rows, answers=ANSWERS)
    assert by_mapping.examples[0] == icp.Example("The nurse ran", "The baker ran", ANSWERS, 0, word="nurse")
    assert icp.Probe.from_pairs(by_mapping.examples) == by_mapping
    assert icp.Probe.from_pairs(pandas.DataFrame(rows), answers=ANSWERS) == by_mapping
    tuples = icp.Probe.from_pairs([(r["text"], r["counterpart"]) for r in rows], answers=ANSWERS)
    assert [(e.text, e.counterpart, e.answers) for e in tuples.examples] == [
        (r["text"], r["counterpart"], ANSWERS) for r in rows
    ]


def test_a_table_with_gaps_reads_them_as_missing():
    """pandas turns a missing label among integers into NaN and the others into floats."""
    table = pandas.DataFrame(
        {"text": ["The nurse ran", "The baker ran"], "label": [1, None], "answers": [ANSWERS, ANSWERS]}
    )
    first, second = icp.Probe.from_texts(table).examples
    assert first.label == 1 and isinstance(first.label, int)
    assert second.label is None


def test_a_row_keeps_answers_of_its_own():
    rows = [icp.Example("The nurse ran", answers=(" a", " b")), icp.Example("The baker ran")]
    assert [e.answers for e in icp.Probe.from_texts(rows, answers=ANSWERS).examples] == [(" a", " b"), ANSWERS]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: icp.Probe(()), "the probe is empty: give it at least one example"),
        (lambda: icp.Probe.from_texts([]), "the probe is empty"),
        (lambda: icp.Probe.from_pairs([]), "the probe is empty"),
        (lambda: icp.Probe.from_texts(["The nurse", "  "]), "an example has an empty text"),
        (lambda: icp.Probe.from_pairs(["The nurse"]), "'The nurse' has no counterpart: use Probe.from_texts"),
        (lambda: icp.Probe.from_pairs([{"txt": "a", "counterpart": "b"}]), "it needs 'text' and may have counterpart"),
        (lambda: icp.Probe.from_texts([{"text": "a", "colour": 3}]), "has the fields ['colour', 'text']"),
        (lambda: icp.Probe.from_texts("The nurse"), "'The nurse' is one string: give a list of them"),
        (lambda: icp.Probe.from_pairs("The nurse"), "'The nurse' is one string: give a list of them"),
        (lambda: icp.Probe.from_texts(["The nurse"], answers=" she"), "' she' is one string: give a list of them"),
        (lambda: icp.Probe.from_pairs([("a", "b")], answers=" she"), "' she' is one string: give a list of them"),
        (lambda: icp.Probe.from_texts([{"text": 7}]), "the text of an example cannot be 7"),
        (lambda: icp.Probe.from_texts([{"text": "a", "answers": " she"}]), "answers of an example cannot be ' she'"),
        (lambda: icp.Probe.from_texts([{"text": "a", "answers": [1, 2]}]), "answers of an example cannot be [1, 2]"),
        (lambda: icp.Probe.from_texts([{"text": "a", "label": "she"}]), "the label of an example cannot be 'she'"),
        (lambda: icp.Probe.from_texts([{"text": "a", "label": 0.5}]), "a label is a whole number"),
        (lambda: icp.Probe.from_pairs([3]), "cannot read an example from 3: give a pair of texts, a mapping"),
        (lambda: icp.Probe.from_pairs([("a", "b", "c")]), "cannot read an example from ('a', 'b', 'c')"),
        (lambda: icp.Example("The nurse", answers=ANSWERS, label=2), "label 2 of 'The nurse' is not an index into"),
        (lambda: icp.Example("The nurse", answers=ANSWERS, label=-1), "label -1"),
        (lambda: icp.Example("The nurse", label=0), "label 0"),
        (lambda: icp.Example("The nurse", counterpart_group="m"), "the counterpart_group 'm' and no counterpart"),
    ],
)  # fmt: skip
def test_bad_input_names_itself_and_the_way_out(make, words):
    with pytest.raises(icp.ProbeError) as error:
        make()
    assert words in str(error.value)


text = st.text(min_size=1, max_size=20).filter(lambda t: t.strip())


@given(
    st.lists(
        st.builds(dict, text=text, counterpart=st.none() | text, group=st.none() | text, label=st.none() | st.just(1)),
        min_size=1, max_size=5,
    )
)  # fmt: skip
def test_saved_probes_load_as_they_were(tmp_path_factory, rows):
    probe = icp.Probe.from_texts(rows, answers=ANSWERS)
    path = probe.save(tmp_path_factory.mktemp("probe") / "probe.jsonl")
    assert icp.Probe.load(path) == probe


def test_a_cut_or_foreign_file_names_the_line(tmp_path):
    path = grid().save(tmp_path / "probe.jsonl")
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    number = len(path.read_text().splitlines())
    with pytest.raises(icp.ArtefactError, match=rf"line {number} of .*probe\.jsonl is not JSON .*cut short or foreign"):
        icp.Probe.load(path)
    with pytest.raises(icp.ArtefactError, match=r"no probe at .*nothing\.jsonl: give a file of JSON lines"):
        icp.Probe.load(tmp_path / "nothing.jsonl")
    path.write_text("")
    with pytest.raises(icp.ProbeError, match="the probe is empty"):
        icp.Probe.load(path)


@pytest.mark.parametrize(
    "line", ["[1, 2]", "7", '{"txt": "a"}', '{"text": 7}', '{"text": " "}', '{"text": "a", "label": 0}']
)
def test_a_line_that_holds_no_example_is_named(tmp_path, line):
    path = tmp_path / "probe.jsonl"
    path.write_text(json.dumps({"text": "The nurse"}) + "\n" + line + "\n")
    with pytest.raises(icp.ProbeError, match=r"line 2 of .*probe\.jsonl: "):
        icp.Probe.load(path)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "probe.jsonl"
    path.write_bytes(b"\x80\x04\x95pickle\xff\n")
    with pytest.raises(icp.ArtefactError, match=r"probe\.jsonl"):
        icp.Probe.load(path)
