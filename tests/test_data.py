"""Every form of every data set: the real files where they are there, else rows of our own in the published schema."""

import json
import os
import sys
from pathlib import Path

import pytest

import icp
from icp import data
from icp.errors import DataError, ProbeError

REAL = os.environ.get("ICP_DATA")


def real(name):
    folder = Path(REAL or "-") / name
    if not folder.is_dir():
        pytest.skip(f"ICP_DATA names no folder with {name}: the real files are not copied into this project")
    return folder


@pytest.mark.parametrize(
    ("load", "path", "split", "count", "of_first_class"),
    [
        (data.sst2, "sst2", "train", 6920, 3310),
        (data.sst2, "sst2", "validation", 872, 428),
        (data.sst2, "sst2", "test", 1821, 912),
        (data.imdb, "cad_imdb/orig", "train", 1707, 851),
        (data.fever_symmetric, "fever_symmetric/symmetric_v0.1/fever_symmetric_generated.jsonl", None, 717, 379),
        (data.fever_symmetric, "fever_symmetric/symmetric_v0.1", "test", 956, 478),
        (data.fever_symmetric, "fever_symmetric/symmetric_v0.2", "validation", 708, 354),
        (data.fever_symmetric, "fever_symmetric/symmetric_v0.2", "test", 712, 356),
    ],
)
def test_real_labelled_texts(load, path, split, count, of_first_class):
    found = load(real(path.split("/")[0]).parent / path, split)
    assert len(found) == count
    assert sum(row.label == 0 for row in found) == of_first_class
    assert {row.label for row in found} == {0, 1} == set(range(len(found.classes)))


@pytest.mark.parametrize(("version", "split"), [("0.1", "test"), ("0.2", "validation"), ("0.2", "test")])
def test_real_symmetric_claims_cluster_by_the_pair_that_four_were_made_from(version, split):
    of_word = {}
    for row in data.fever_symmetric(real("fever_symmetric") / f"symmetric_v{version}", split):
        of_word.setdefault(row.word, []).append(row)
    for rows in of_word.values():
        assert len(rows) == 4 and len({row.claim for row in rows}) == 2 and sum(row.label for row in rows) == 2


def test_real_review_pairs_flip():
    folder = real("cad_imdb")
    sizes = {"train": 1707, "validation": 245, "test": 488}
    for split, size in sizes.items():
        pairs = data.cad_imdb(folder, split).to_pairs("Review: {text}\nSentiment:", (" negative", " positive"))
        assert isinstance(pairs, icp.FlippingPairs) and len(pairs) == size
        assert all(e.label != flipped for e, flipped in zip(pairs.probe.examples, pairs.flipped))
        assert all(e.counterpart.startswith("Review: ") for e in pairs.probe.examples)
        assert sum(e.counterpart == e.text for e in pairs.probe.examples) == {"train": 1, "test": 1}.get(split, 0)


def test_real_facts():
    folder = real("counterfact")
    facts = data.counterfact(folder, "validation")
    assert len(facts) == 1919 and all(fact.new not in (None, fact.true) for fact in facts)
    probe = facts.to_probe()
    assert probe.examples[0].answers == (" BBC", " Sega") and probe.examples[0].template == "{}, by"
    known = data.counterfact(folder, "known")
    assert len(known) == 1209 and all(fact.new is None for fact in known)
    assert known.to_probe().examples[0].answers == (" Antarctica",)


def test_real_questions():
    trivia = data.triviaqa(real("triviaqa"), "test")
    assert len(trivia) == 1000 and all(q.aliases and q.context is None for q in trivia)
    assert "Mark Twain" in trivia[0].aliases
    natural = data.nq_open(real("nq_open"), "validation")
    assert len(natural) == 3610
    assert natural[0] == data.Question(
        "when was the last time anyone was on the moon", ("14 December 1972 UTC", "December 1972")
    )


def test_real_stereoset():
    folder = real("stereoset")
    sizes = {"race": (962, 36), "religion": (79, 3), "gender": (253, 10)}
    for domain, (items, terms) in sizes.items():
        found = data.stereoset(folder, domain)
        assert len(found) == items and len({item.target for item in found}) == terms
        assert {(item.bias_type, item.kind) for item in found} == {(domain, "intrasentence")}


def test_real_crows_pairs():
    found = data.crows_pairs(real("crows_pairs"), "test")
    assert len(found) == 1508 and sum(pair.direction == "antistereo" for pair in found) == 218
    assert len({pair.bias_type for pair in found}) == 9 and len({pair.writer for pair in found}) == 77


def written(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, list) and name.endswith(".jsonl"):
        content = "".join(json.dumps(row) + "\n" for row in content)
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


BIOS = [
    {"hard_text": "She works at the clinic .", "profession": 13, "gender": 1},
    {"hard_text": "He opened a practice .", "profession": 25, "gender": 0},
    {"hard_text": "He plays the cello .", "profession": 5, "gender": 0},
]


def test_bias_bios(tmp_path):
    found = data.bias_bios(written(tmp_path, "bios.jsonl", BIOS))
    assert len(found.classes) == 28
    assert [found.classes[row.label] for row in found] == ["nurse", "surgeon", "composer"]
    assert [row.group for row in found] == ["female", "male", "male"]
    narrow = found.keep("surgeon", "nurse")
    assert [row.label for row in narrow] == [1, 0] and narrow.classes == ("surgeon", "nurse")
    probe = narrow.to_probe("{text} Profession:", (" surgeon", " nurse"))
    assert probe.examples[0].text == "She works at the clinic . Profession:"
    assert (probe.examples[0].label, probe.examples[0].group) == (1, "female")
    with pytest.raises(DataError, match=r"'hairdresser'.*accountant"):
        found.keep("hairdresser")


WILDS = """,comment_text,toxicity,male,female,LGBTQ,christian,muslim,other_religions,black,white,split
0,"A fine day, said he",0.0,0.8,0.0,0.0,0.0,0.0,0.0,0.5,0.0,train
1,"You are all ""fools""
and worse",0.75,0.0,0.0,0.0,0.0,0.0,0.0,0.4,0.0,val
2,Half and half,0.5,0.0,0.9,0.0,0.0,0.0,0.0,1.0,0.0,train
"""


def test_civil_comments_of_wilds(tmp_path):
    path = written(tmp_path, "all_data_with_identities.csv", WILDS)
    found = data.civil_comments(path, identity="black")
    assert [row.label for row in found] == [0, 1, 1]
    assert [row.identities for row in found] == [("male", "black"), (), ("female", "black")]
    assert [row.group for row in found] == ["black", "no black", "black"]
    assert found[1].text == 'You are all "fools"\nand worse'
    assert [row.text for row in data.civil_comments(path, "validation")] == [found[1].text]
    assert len(data.civil_comments(path, "train")) == 2
    with pytest.raises(DataError, match=r"split 'test': it has train, val"):
        data.civil_comments(path, "test")
    with pytest.raises(DataError, match="no identity 'tall': use one of male"):
        data.civil_comments(path, identity="tall")


def test_civil_comments_without_identities(tmp_path):
    path = written(tmp_path, "train.jsonl", [{"text": "Well done", "toxicity": 0.1, "insult": 0.0}])
    assert data.civil_comments(tmp_path, "train")[0].identities is None
    with pytest.raises(DataError, match="row 0 has no identities"):
        data.civil_comments(path, identity="black")


def test_sst2_of_glue_has_a_line_of_names(tmp_path):
    path = written(tmp_path, "train.tsv", 'sentence\tlabel\nit is "good" \t1\nit is not \t0\n')
    assert [(row.text, row.label) for row in data.sst2(path)] == [('it is "good" ', 1), ("it is not ", 0)]
    with pytest.raises(DataError, match=r"test.tsv, line 2 has no field 'label' \(it has 'index', 'sentence'\)"):
        data.sst2(written(tmp_path, "test.tsv", "index\tsentence\n0\tit is\n"))


def test_imdb_folder_of_the_authors(tmp_path):
    written(tmp_path, "train/pos/0_9.txt", "A joy.<br />")
    written(tmp_path, "train/neg/0_1.txt", "A bore.")
    written(tmp_path, "train/neg/10_2.txt", "A long bore.")
    found = data.imdb(tmp_path, "train")
    assert [(row.text, row.label) for row in found] == [("A bore.", 0), ("A long bore.", 0), ("A joy.<br />", 1)]
    with pytest.raises(DataError, match="name split='train' or 'test'"):
        data.imdb(tmp_path)
    with pytest.raises(DataError, match="no file of the split 'test'"):
        data.imdb(tmp_path, "test")
    (tmp_path / "train/pos/0_9.txt").unlink()
    with pytest.raises(DataError, match=r"pos holds no \*.txt"):
        data.imdb(tmp_path, "train")


FEVER = [
    {
        "id": 75397, "verifiable": "VERIFIABLE", "label": "SUPPORTS", "claim": "A river runs through the town.",
        "evidence": [[[1, 2, "Town", 7], [1, 2, "River", 0]], [[3, 4, "Town", 7]]],
    },
    {
        "id": 150448, "verifiable": "NOT VERIFIABLE", "label": "NOT ENOUGH INFO", "claim": "The mayor likes tea.",
        "evidence": [[[108, None, None, None]]],
    },
]  # fmt: skip


def test_fever_of_the_authors(tmp_path):
    found = data.fever(written(tmp_path, "shared_task_dev.jsonl", FEVER).parent, "validation")
    assert [found.classes[row.label] for row in found] == ["SUPPORTS", "NOT ENOUGH INFO"]
    assert found[0].sentences == (("River", 0), ("Town", 7)) and found[1].sentences == ()
    assert found.to_probe("{claim}", (" yes", " no", " maybe")).examples[1].text == "The mayor likes tea."
    with pytest.raises(DataError, match="row 0 has no evidence, which the template"):
        found.to_probe("{evidence} {claim}", (" yes", " no", " maybe"))


def test_fever_rows_of_the_hub_are_joined_by_claim(tmp_path):
    row = {"id": 5, "label": "REFUTES", "claim": "It is so.", "evidence_annotation_id": 1, "evidence_id": 2}
    rows = [row | {"evidence_wiki_url": page, "evidence_sentence_id": n} for page, n in (("B", 3), ("A", 1), ("B", 3))]
    found = data.fever(written(tmp_path, "x.jsonl", rows))
    assert len(found) == 1 and found[0].sentences == (("A", 1), ("B", 3))


@pytest.mark.parametrize(
    "content",
    [
        {"Data": [{"Question": "Who?", "QuestionId": "q", "Answer": {"Value": "Ann", "Aliases": ["Ann", "Anne"]}}]},
        [{"question": "Who?", "question_id": "q", "answer": {"value": "Ann", "aliases": ["Anne", "Ann"]}}],
        [{"id": "q", "question": "Who?", "golden_answers": ["Ann", "Anne"]}],
    ],
)
def test_triviaqa_in_each_form(tmp_path, content):
    assert data.triviaqa(written(tmp_path, "x.json", content)) == [data.Question("Who?", ("Ann", "Anne"))]


def test_questions_without_an_answer_are_refused(tmp_path):
    path = written(
        tmp_path, "test.jsonl", [{"question": "Who?", "answer": ["Ann"]}, {"question": "Why?", "answer": []}]
    )
    with pytest.raises(DataError, match=r"test.jsonl, line 2: the question 'Why\?' has no answers"):
        data.nq_open(path)


SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "Town",
            "paragraphs": [
                {
                    "context": "The town lies on a river.",
                    "qas": [
                        {"id": "1", "question": "Where?", "answers": [{"text": "a river", "answer_start": 17}] * 2},
                        {"id": "2", "question": "When?", "answers": [], "is_impossible": True},
                    ],
                }
            ],
        }
    ],
}


def test_squad_of_the_authors_and_of_the_hub(tmp_path):
    expected = [
        data.Question("Where?", ("a river",), "The town lies on a river."),
        data.Question("When?", (), "The town lies on a river."),
    ]
    assert data.squad(written(tmp_path, "dev-v2.0.json", SQUAD).parent, "validation") == expected
    of_hub = [
        {"id": "1", "context": q.context, "question": q.text, "answers": {"text": list(q.aliases), "answer_start": [0]}}
        for q in expected
    ]
    assert data.squad(written(tmp_path, "hub.jsonl", of_hub)) == expected
    damaged = json.loads(json.dumps(SQUAD))
    del damaged["data"][0]["paragraphs"][0]["qas"][1]["answers"]
    with pytest.raises(DataError, match=r"x.json: the field 'data\[0\].paragraphs\[0\].qas\[1\].answers' is None"):
        data.squad(written(tmp_path, "x.json", damaged))


def options(*sentences):
    return [
        {"sentence": s, "id": s, "gold_label": name, "labels": []}
        for s, name in zip(sentences, ("unrelated", "stereotype", "anti-stereotype"))
    ]


def test_stereoset_of_the_authors_and_of_the_hub(tmp_path):
    head = {"id": "1", "target": "baker", "bias_type": "profession"}
    intra = head | {"context": "The baker is BLANK.", "sentences": options("a", "b", "c")}
    inter = head | {"id": "2", "context": "He is a baker.", "sentences": options("d", "e", "f")}
    dev = {"version": "1.0", "data": {"intersentence": [inter], "intrasentence": [intra]}}
    found = data.stereoset(written(tmp_path, "dev.json", dev).parent, "validation")
    expected = [
        data.StereoSetItem("1", "baker", "profession", "intrasentence", "The baker is BLANK.", "b", "c", "a"),
        data.StereoSetItem("2", "baker", "profession", "intersentence", "He is a baker.", "e", "f", "d"),
    ]
    assert found == expected
    columns = {name: [one[name] for one in inter["sentences"]] for name in ("sentence", "gold_label")}
    assert data.stereoset(written(tmp_path, "hub.jsonl", [inter | {"sentences": columns}])) == expected[1:]
    dev["data"]["intersentence"][0]["sentences"].pop()
    with pytest.raises(DataError, match=r"dev.json: the item '2' has the options \['stereotype', 'unrelated'\]"):
        data.stereoset(written(tmp_path, "dev.json", dev))


def test_counterfact_of_rome(tmp_path):
    row = {
        "case_id": 0,
        "requested_rewrite": {
            "prompt": "The mother tongue of {} is", "relation_id": "P103", "subject": "Ann",
            "target_new": {"str": "English", "id": "Q1"}, "target_true": {"str": "French", "id": "Q2"},
        },
        "paraphrase_prompts": [],
    }  # fmt: skip
    [fact] = data.counterfact(written(tmp_path, "counterfact.json", [row]))
    assert fact == data.Fact("The mother tongue of Ann is", "Ann", "French", "English", "The mother tongue of {} is")


def test_review_pairs_that_are_none(tmp_path):
    text = "Sentiment\tText\tbatch_id\nNegative\tA bore.\t4\nNegative\tA joy.\t4\n"
    with pytest.raises(DataError, match=r"batch_id '4' of .* has the labels \['negative', 'negative'\]"):
        data.cad_imdb(written(tmp_path, "x.tsv", text))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", '{"sentence": "fine", "label": 1}\n{"sentence": "fine"}\n', r"line 2 has no field 'label' \(it"),
        ("x.jsonl", '{"sentence": "fine", "label": 1}\n{"sentence": "fi', "line 2 is not JSON"),
        ("x.jsonl", "[1]\n", "line 1 is not an object with named fields: it is list"),
        ("x.jsonl", '{"sentence": "fine", "label": 7}\n', "line 1: the field 'label' is 7, and should be one of '0'"),
        ("x.jsonl", '{"sentence": " ", "label": 1}\n', "line 1: the field 'sentence' is ' ', and should be a text"),
        (
            "x.json",
            '[{"sentence": "fine", "label": 1}, {"sentence": 3, "label": 1}]',
            "row 1: the field 'sentence' is 3",
        ),
        ("x.json", '{"rows": []}', r"x.json has no field 'sentence' \(it has 'rows'\): SST-2 has \(sentence, label\)"),
        ("x.tsv", "fine\t1\nfine\n", "line 2 has 1 columns, and the first line 2"),
        ("x.tsv", "fine\t1\nfine\t2\n", "line 2: the field 'label' is '2'"),
        ("x.csv", "", "holds no rows of SST-2"),
        ("x.parquet", "PAR1", "ends in '.parquet': SST-2 is read from .jsonl, .json, .csv, .tsv"),
    ],
)
def test_a_wrong_schema_is_refused_with_the_place_and_the_field(tmp_path, name, content, message):
    path = written(tmp_path, name, content)
    with pytest.raises(DataError, match=message) as error:
        data.sst2(path)
    assert name in str(error.value)


def test_a_mark_of_byte_order_is_no_part_of_a_name(tmp_path):
    path = written(tmp_path, "x.csv", "\N{ZERO WIDTH NO-BREAK SPACE}text,label\nA joy.,1\n")
    assert [row.text for row in data.imdb(path)] == ["A joy."]


def test_a_quotation_that_never_ends_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"x.csv, line 2 is no row of a table"):
        data.imdb(written(tmp_path, "x.csv", 'text,label\n"fine,1\n'))


def test_text_that_is_not_utf_8_is_refused(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_bytes(b"caf\xe9\t1\n")
    with pytest.raises(DataError, match=r"x.tsv is not text in UTF-8"):
        data.sst2(path)


def test_numbers_are_checked(tmp_path):
    row = BIOS[0] | {"profession": 28}
    with pytest.raises(DataError, match="line 1: the field 'profession' is 28, and should be one of '0', '1'"):
        data.bias_bios(written(tmp_path, "x.jsonl", [row]))
    for wrong in ("much", "nan", ""):
        with pytest.raises(DataError, match=f"line 4: the field 'toxicity' is '{wrong}', and should be a number"):
            data.civil_comments(written(tmp_path, "x.csv", WILDS.replace("0.75", wrong)))
    with pytest.raises(DataError, match=r"line 1: the field 'id' is 1.5, and should be a whole number"):
        data.fever(written(tmp_path, "x.jsonl", [FEVER[0] | {"id": 1.5}]))
    with pytest.raises(DataError, match=r"'evidence\[0\]\[1\]' is \[1\], and should be a list of 4"):
        data.fever(written(tmp_path, "x.jsonl", [FEVER[0] | {"evidence": [[[1, 2, "Town", 7], [1]]]}]))


def test_where_data_is_looked_for(tmp_path):
    written(tmp_path, "train.tsv", "fine\t1\n")
    assert len(data.sst2(tmp_path, "train")) == 1
    with pytest.raises(DataError, match=r"is a folder: name a split \(train\)"):
        data.sst2(tmp_path)
    with pytest.raises(DataError, match="no file of the split 'test': train was found there"):
        data.sst2(tmp_path, "test")
    with pytest.raises(DataError, match="is a file, which is one split: leave split='train' out"):
        data.sst2(tmp_path / "train.tsv", "train")
    with pytest.raises(DataError, match="config='x' belongs to a hub id"):
        data.sst2(tmp_path / "train.tsv", config="x")
    for nothing in (tmp_path / "no.tsv", "data/no.tsv", "no such", "a/b/c"):
        with pytest.raises(DataError, match="there is no file or folder"):
            data.sst2(nothing, "train")


@pytest.mark.parametrize(
    ("template", "answers", "message"),
    [
        ("{text}", (" bad",), "is not one answer a class: the classes are negative, positive"),
        ("{text}", " bad", "is not one answer a class"),
        ("Review:", (" bad", " good"), "names no field: put one in braces, of text, label, group, word"),
        ("{review}", (" bad", " good"), "names 'review': the rows have text"),
        ("{text", (" bad", " good"), "cannot be read"),
        ("{group}: {text}", (" bad", " good"), "row 0 has no group"),
    ],
)
def test_a_template_that_does_not_fit_is_refused(tmp_path, template, answers, message):
    found = data.sst2(written(tmp_path, "x.tsv", "fine\t1\n"))
    with pytest.raises(DataError, match=message):
        found.to_probe(template, answers)


def test_a_probe_of_labelled_texts_can_be_measured(tmp_path, tokenizer):
    from helpers import BY_NAME

    found = data.sst2(written(tmp_path, "x.tsv", "The nurse smiled\t1\nThe doctor ran\t0\n"))
    probe = found.to_probe("{text} because", (" she", " he"))
    values = icp.evaluate(BY_NAME["gpt2"].model(), probe).values
    assert [len(v) for v in next(iter(values.values())).values()] == [2, 2]
    with pytest.raises(ProbeError, match="label 1"):
        icp.Example(found[0].text, label=found[0].label)


@pytest.fixture
def hub(monkeypatch):
    """`datasets.load_dataset` that knows what was put into `served`, and notes what it was asked for."""
    datasets = pytest.importorskip("datasets")
    served, asked = {}, []

    def load_dataset(name, config=None, *, split):
        asked.append((name, config, split))
        if name not in served:
            raise FileNotFoundError(f"Couldn't find {name}\nsecond line")
        rows, features = served[name]
        return datasets.Dataset.from_list(rows, features=datasets.Features(features))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return datasets, served, asked


def test_a_hub_id_is_read_through_datasets(hub):
    datasets, served, asked = hub
    text, label = datasets.Value("string"), datasets.ClassLabel(names=["neg", "pos"])
    served["stanfordnlp/imdb"] = ([{"text": "A joy.", "label": 1}, {"text": "A bore.", "label": 0}],
                                  {"text": text, "label": label})  # fmt: skip
    found = data.imdb("stanfordnlp/imdb", "test")
    assert asked == [("stanfordnlp/imdb", None, "test")]
    assert [(row.text, row.label) for row in found] == [("A joy.", 1), ("A bore.", 0)]
    served["a/glue"] = ([{"sentence": "fine", "label": -1}], {"sentence": text, "label": label})
    with pytest.raises(DataError, match=r"a/glue \(test\), row 0: the field 'label' is None"):
        data.sst2("a/glue", "test")


def test_names_of_classes_inside_lists_are_found_on_the_hub(hub):
    datasets, served, asked = hub
    gold = datasets.ClassLabel(names=["anti-stereotype", "stereotype", "unrelated"])
    string = datasets.Value("string")
    head = {"id": "1", "target": "baker", "bias_type": "profession", "context": "He is a baker."}
    row = head | {"sentences": {"sentence": ["a", "b", "c"], "gold_label": [2, 0, 1]}}
    features = dict.fromkeys(head, string) | {"sentences": datasets.Sequence({"sentence": string, "gold_label": gold})}
    served["McGill-NLP/stereoset"] = ([row], features)
    [item] = data.stereoset("McGill-NLP/stereoset", "validation", config="intersentence")
    assert asked == [("McGill-NLP/stereoset", "intersentence", "validation")]
    assert (item.unrelated, item.anti_stereotype, item.stereotype) == ("a", "b", "c")


def test_the_hubs_own_numbers_of_crows_pairs(hub):
    datasets, served, _ = hub
    string = datasets.Value("string")
    row = {"sent_more": "a", "sent_less": "b", "stereo_antistereo": 1, "bias_type": 1, "anon_writer": 3}
    names = {"stereo_antistereo": ["stereo", "antistereo"], "bias_type": ["race-color", "age"],
             "anon_writer": ["a0", "a1", "a2", "a3"]}  # fmt: skip
    features = {"sent_more": string, "sent_less": string}
    features |= {name: datasets.ClassLabel(names=of) for name, of in names.items()}
    served["nyu-mll/crows_pairs"] = ([row], features)
    assert data.crows_pairs("nyu-mll/crows_pairs", "test") == [data.CrowsPair("a", "b", "age", "antistereo", "a3")]


def test_a_hub_that_cannot_be_read(hub, monkeypatch):
    with pytest.raises(DataError, match="name a split of it"):
        data.sst2("stanfordnlp/sst2")
    with pytest.raises(
        DataError, match=r"cannot load no/thing \(split='train', config=None\).*Couldn't find no/thing$"
    ):
        data.sst2("no/thing", "train")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'icp\[data\]'"):
        data.sst2("stanfordnlp/sst2", "train")
