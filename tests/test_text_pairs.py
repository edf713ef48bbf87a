"""Data sets that are published as pairs: the real files where they are there, else rows of our own."""

import pytest
from test_data import real, written

import icp
from icp import data
from icp.data.winobias import GENDERS
from icp.errors import DataError


def test_real_contrast_sets_flip():
    folder = real("imdb_contrast")
    for split, size in {"validation": 100, "test": 488}.items():
        found = data.imdb_contrast(folder, split)
        pairs = found.to_pairs("Review: {text}\nSentiment:", (" negative", " positive"))
        assert isinstance(pairs, icp.FlippingPairs) and len(pairs) == size and not found.left_out
        assert all(one.text != other.text and one.word == other.word for one, other in found)


def test_real_fuzzed_comments_preserve_and_those_that_do_not_differ_are_counted():
    found = data.wiki_toxicity_fuzzed(real("wiki_toxicity_fuzzed"))
    assert len(found) == 734 and {why: len(keys) for why, keys in found.left_out.items()} == {"the same text": 758}
    assert len({row.word for row, _ in found}) == 734 and sum(row.label for row, _ in found) == 168
    assert all(one.text != other.text and one.word == other.word for one, other in found)
    assert isinstance(found.to_pairs("{text}", (" no", " yes")), icp.PreservingPairs)


@pytest.mark.parametrize(
    ("type", "split", "count", "left_out"),
    [(1, "validation", 394, 2), (1, "test", 391, 5), (2, "validation", 389, 7), (2, "test", 391, 5)],
)
def test_real_winobias_pairs_up(type, split, count, left_out):
    found = data.winobias(real("winobias"), split, type)
    assert (len(found), len(found.left_out["more than pronouns differ"])) == (count, left_out)
    assert count + left_out == 396, "every sentence has its counterpart"
    for one, other in found:
        assert "[" not in one.text and (one.word, one.other, one.label) == (other.word, other.other, other.label)
        assert {one.group, other.group} == {"male", "female"}
        less = [[word for word in row.text.lower().strip(".").split() if word not in GENDERS] for row in (one, other)]
        assert less[0] == less[1]
    assert sum(row.label for row, _ in found) > 0


def test_real_winogender():
    found = data.winogender(real("winogender"), "test")
    assert len(found) == 240 and len(found.left_out["a neutral pronoun"]) == 240
    pairs = found.to_pairs("{text}", (" one", " other"))
    assert {(e.group, e.counterpart_group) for e in pairs.probe.examples} == {("male", "female")}
    assert sum(e.label for e in pairs.probe.examples) == 120


def contrast(folder, *, labels=("Negative", "Positive")):
    written(folder, "dev_original.tsv", f"Sentiment\tText\n{labels[0]}\tA long bore.\n")
    written(folder, "dev_contrast.tsv", f"Sentiment\tText\n{labels[1]}\tA short joy.\n")
    return folder


def test_contrast_sets(tmp_path):
    found = data.imdb_contrast(contrast(tmp_path), "validation")
    assert [(one.text, one.label, other.text, other.label, other.word) for one, other in found] == [
        ("A long bore.", 0, "A short joy.", 1, "1")
    ]
    with pytest.raises(DataError, match="no split 'train' of the contrast sets: there are validation, test"):
        data.imdb_contrast(tmp_path, "train")
    with pytest.raises(DataError, match=r"row 1 of .*dev_original.tsv and .*dev_contrast.tsv are both negative"):
        data.imdb_contrast(contrast(tmp_path, labels=("Negative", "Negative")), "validation")
    written(tmp_path, "dev_contrast.tsv", "Sentiment\tText\nPositive\tA joy.\nPositive\tA treat.\n")
    with pytest.raises(DataError, match=r"has 1 rows and .* 2: they go in pairs"):
        data.imdb_contrast(tmp_path, "validation")


PLAIN = 'rev_id,comment,toxic\n1,"The tall man left, sadly",False\n2,Nothing here,True\n'
FUZZED = 'rev_id,comment,toxic\n2,Nothing here,True\n1,"The short man left, sadly",False\n'


def fuzzed(folder, plain=PLAIN, other=FUZZED):
    written(folder, "toxicity_nonfuzzed_testset.csv", plain)
    written(folder, "toxicity_fuzzed_testset.csv", other)
    return folder


def test_fuzzed_comments(tmp_path):
    found = data.wiki_toxicity_fuzzed(fuzzed(tmp_path))
    assert [(one.text, other.text, one.label) for one, other in found] == [
        ("The tall man left, sadly", "The short man left, sadly", 0)
    ]
    assert found.left_out == {"the same text": ("2",)}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (FUZZED.replace("\n2,", "\n3,"), "rev_id '2' is in one of"),
        (FUZZED.replace("\n2,", "\n1,"), "rev_id '1' is twice in .*toxicity_fuzzed_testset.csv"),
        (FUZZED.replace("True", "False"), "rev_id '2' is toxic in .* and not so in"),
        (FUZZED.replace("True", "yes"), "line 2: the field 'toxic' is 'yes', and should be one of 'False', 'True'"),
    ],
)
def test_fuzzed_comments_that_do_not_join(tmp_path, other, message):
    with pytest.raises(DataError, match=message):
        data.wiki_toxicity_fuzzed(fuzzed(tmp_path, other=other))


PRO = (
    "1 [The nurse] thanked the guard because [she] was late.\n2 The nurse met [the guard] and gave [him] [his] hat.\n"
    "3 The baker met [the cook] at the gate and greeted [him].\n"
)
ANTI = (
    "1 [The nurse] thanked the guard because [he] was late.\n2 The nurse met [the guard] and gave [her] [her] hat.\n"
    "3 The baker met [the cook] at a gate and greeted [her].\n"
)


def coreferences(folder, pro=PRO, anti=ANTI):
    written(folder, "pro_stereotyped_type2.txt.dev", pro)
    written(folder, "anti_stereotyped_type2.txt.dev", anti)
    return folder


def test_winobias(tmp_path):
    found = data.winobias(coreferences(tmp_path), "validation", 2)
    text = "The nurse thanked the guard because she was late."
    assert found[0][0] == data.Coreference(text, 0, "female", "nurse", "guard", "she")
    assert found[1][1].text == "The nurse met the guard and gave her her hat." and found[1][1].label == 1
    assert found.left_out == {"more than pronouns differ": ("3",)}
    template = "{text} By '{pronoun}' they mean the"
    example = found.to_pairs(template, (" first", " second")).probe.examples[0]
    assert example.text.endswith("By 'she' they mean the") and example.counterpart.endswith("By 'he' they mean the")
    assert (example.group, example.counterpart_group, example.word) == ("female", "male", "nurse")


@pytest.mark.parametrize(
    ("anti", "message"),
    [
        (ANTI.replace("\n3 ", "\n4 "), "sentence 3 is in one of"),
        (ANTI.replace("[he]", "he"), r"anti_stereotyped_type2.txt.dev, line 1 is '1 \[The nurse\]"),
        (ANTI.replace("[The nurse]", "[The queen]"), "line 1 is"),
        (ANTI.replace("2 The", "1 The"), "line 2 is"),
    ],
)
def test_winobias_that_is_damaged(tmp_path, anti, message):
    with pytest.raises(DataError, match=message):
        data.winobias(coreferences(tmp_path, anti=anti), "validation", 2)


def test_winobias_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"there is no .*pro_stereotyped_type1.txt.test: give the folder"):
        data.winobias(tmp_path, "test", 1)
    with pytest.raises(DataError, match="types 1 and 2, not 'train' and 3"):
        data.winobias(tmp_path, "train", 3)


def test_winogender(tmp_path):
    rows = [("nurse.guest.1.male", "he"), ("nurse.guest.1.female", "she"), ("nurse.guest.1.neutral", "they")]
    table = "sentid\tsentence\n" + "".join(f"{key}.txt\tThe nurse said that {word} left.\n" for key, word in rows)
    found = data.winogender(written(tmp_path, "all_sentences.tsv", table))
    assert [(one.text, other.group, one.label) for one, other in found] == [
        ("The nurse said that he left.", "female", 1)
    ]
    assert found.left_out == {"a neutral pronoun": ("nurse.guest.1",)}
    with pytest.raises(DataError, match=r"line 2: the field 'sentid' is 'nurse.guest.2.male.txt'"):
        data.winogender(written(tmp_path, "all_sentences.tsv", table.replace(".1.", ".2.")))
    with pytest.raises(DataError, match=r"nurse.guest.1 of .* has no sentence for male or for female"):
        data.winogender(written(tmp_path, "all_sentences.tsv", table.replace("1.female", "1.neutral")))


def test_pairs_of_another_kind_are_refused():
    one, other = data.LabelledText("a b", 0), data.LabelledText("a c", 1)
    with pytest.raises(DataError, match=r"pair 0 \(None\) has the labels \['no', 'yes'\]: it is not label-preserving"):
        data.TextPairs(icp.PreservingPairs, ("no", "yes"), ((one, other),))
    with pytest.raises(DataError, match="it is not label-flipping"):
        data.TextPairs(icp.FlippingPairs, ("no", "yes"), ((one, one),))
    with pytest.raises(DataError, match="there are no pairs"):
        data.TextPairs(icp.FlippingPairs, ("no", "yes"), ())
    with pytest.raises(DataError, match="is no kind of pair"):
        data.TextPairs(icp.pairs.Pairs, ("no", "yes"), ((one, other),))
