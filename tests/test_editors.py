"""Functions, language models and endpoints: only the words of the variable change, and what fails says so."""

import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest
from helpers import BY_NAME

from icp import Chat
from icp.counterfactual import (
    Endpoint,
    Function,
    LanguageModel,
    Lexicon,
    Pattern,
    Row,
    Shot,
    Spec,
    Variable,
    lexicons,
    make_pairs,
)  # fmt: skip
from icp.counterfactual.written import trimmed
from icp.errors import ArtefactError, DataError, EndpointError, SpecError

JOBS = Lexicon("job", {"care": ("nurse",), "trade": ("carpenter",)})
SPEC = Spec("rating", ("poor", "great"), (), (Variable("job", JOBS),))
ROW = {"text": "The old nurse said that she ran; a nurse laughed", "label": 1}
SHOT = Shot("The nurse ran", "nurse", "trade", "carpenter")


def pairs(edit, rows=(ROW,), spec=SPEC, **how):
    return make_pairs(rows, edit=edit, spec=spec, progress=False, **how)


def test_a_function_of_the_text_makes_pairs():
    made = pairs(Function("job", lambda text: text.replace("nurse", "carpenter")))
    [(row, edit)] = made
    assert (edit.before, edit.after) == ("care", "trade")
    assert [row.text[slice(*span)] for span in edit.spans] == ["nurse", "nurse"]
    assert [edit.text[slice(*span)] for span in edit.new_spans] == ["carpenter", "carpenter"]
    many = pairs(Function("job", lambda text: [text, "no job", text.replace("nurse", "carpenter")]))
    assert len(many) == 1 and dict(many.counts["rejected"]) == {"unchanged": 1, "value not found": 1}
    assert "'no job' says nothing for job" in {row["told"] for row in many.rejected}
    assert dict(pairs(Function("job", lambda text: None)).counts["rejected"]) == {"no proposal": 1}
    with pytest.raises(DataError, match="the function made 3 of 'The old"):
        pairs(Function("job", lambda text: [3]))


@pytest.mark.parametrize(
    "answer, kept",
    [
        (' "carpenter".\nText: x', "carpenter"),
        ("", ""),
        (" \n", ""),
        ("...", ""),
        ("b c d", "b c d"),
        ("b c d e", ""),
        ("An elf", "elf"),
    ],
)
def test_an_answer_is_one_line_of_few_words(answer, kept):
    assert trimmed(answer, 3) == kept


def test_a_tiny_language_model_writes_the_words_and_nothing_else():
    model = BY_NAME["llama"].model()
    spec = Spec(
        "rating",
        ("poor", "great"),
        (),
        (Variable("job", Pattern({"care": "nurse", "other": r"\b(?!nurse)[a-z]{3,}\b"})),),
    )
    rows = [{"text": "nurse", "label": 1}]
    how = dict(samples=4, most_words=12)
    made = pairs(LanguageModel("job", model, (), **how), rows, spec, keep=4)
    assert (
        made.counts["accepted"] + sum(made.counts["rejected"].values())
        == made.counts["proposed"] + made.counts["without"]
    )
    assert len(made) >= 1, "a random model writes words of its small vocabulary"
    again = pairs(LanguageModel("job", model, (), **how), rows, spec, keep=4)
    assert list(again) == list(made)
    other = pairs(LanguageModel("job", model, (), seed=5, **how), rows, spec, keep=4)
    assert [edit.text for _, edit in other] != [edit.text for _, edit in made]


class Fixed(LanguageModel):
    """Answers with what it is told, and keeps what it was asked."""

    answers: ClassVar = ("carpenter",)
    asked: ClassVar = []

    def write(self, prompts):
        self.asked.extend(prompts)
        return [list(self.answers) for _ in prompts]


def test_a_text_for_which_there_is_no_room_is_a_rejection():
    model = BY_NAME["llama"].model()
    rows = [{"text": "nurse " * (model.context + 1), "label": 1}, {"text": "nurse", "label": 1}]
    made = pairs(LanguageModel("job", model), rows)
    assert made.counts["rejected"]["prompt too long"] == 1 and "do not fit into" in made.rejected[0]["told"]
    assert made.counts["rows"] == 2


def test_each_wording_is_asked_for_once_and_put_back_everywhere():
    Fixed.asked.clear()
    editor = Fixed("job", BY_NAME["llama"].model(), (SHOT,))
    [(_, edit)] = pairs(editor, [{"text": "The nurse met the nurse", "label": 0}])
    [(_, other)] = pairs(Fixed("job", editor.model), [{"text": "It was a nurse", "label": 0}])
    assert other.text == "It was a carpenter" and Fixed.asked.pop().endswith("Words: nurse\nNew job: trade\nNew words:")
    assert edit.text == "The carpenter met the carpenter" and edit.new_spans == ((4, 13), (22, 31))
    assert Fixed.asked == [
        "Write other words in place of some words of a text, so that they say another job.\n\n"
        "Text: The nurse ran\nWords: nurse\nNew job: trade\nNew words: carpenter\n\n"
        "Text: The nurse met the nurse\nWords: nurse\nNew job: trade\nNew words:"
    ]


def test_rows_are_written_together_and_as_alone(monkeypatch):
    spec = Spec("rating", SPEC.classes, (), (Variable("job", Pattern({"care": "nurse", "other": r"\b(?!nurse)\w+"})),))
    rows = [{"text": text, "label": 1} for text in ("nurse", "The nurse", "nurse ran", "nurse", "It was late")]
    editor, sizes = LanguageModel("job", BY_NAME["llama"].model(), samples=3, most_words=12), []
    real = LanguageModel.write
    monkeypatch.setattr(LanguageModel, "write", lambda self, asked: sizes.append(len(asked)) or real(self, asked))
    together = [list(edits) for edits in editor.edits_all([Row(**row) for row in rows], spec)]
    assert sizes == [4], "one for both nurses, three for three words, none for texts of two values"
    assert together == [list(editor.edits(Row(**row), spec)) for row in rows] and sizes == [4]
    alone = LanguageModel("job", editor.model, samples=3, most_words=12)
    assert together == [list(alone.edits(Row(**row), spec)) for row in rows] and sizes == [4, 1, 3]


@pytest.mark.parametrize(
    "answers, reason",
    [(("",), "no answer"), (("a nurse",), "answer without the value"), (("tree",), "answer without the value")],
)
def test_an_answer_that_says_something_else_is_rejected(answers, reason):
    editor = type("Said", (Fixed,), {"answers": answers})("job", BY_NAME["llama"].model())
    assert dict(pairs(editor, [{"text": "The nurse ran", "label": 0}]).counts["rejected"]) == {reason: 1}


@pytest.mark.parametrize(
    "text, reason",
    [("It ran", "no word of the variable"), ("The nurse and the carpenter", "two values")],
)
def test_a_text_that_cannot_be_rewritten_is_named(text, reason):
    editor = Fixed("job", BY_NAME["llama"].model())
    assert dict(pairs(editor, [{"text": text, "label": 0}]).counts["rejected"]) == {reason: 1}


@pytest.mark.parametrize(
    "how, told",
    [
        (dict(to=("law",)), "'job' cannot become 'law': it is one of care, trade"),
        (dict(shots=(SHOT._replace(after="law"),)), "'job' cannot become 'law'"),
        (dict(shots=(SHOT._replace(words="doctor"),)), "the words 'doctor' of a worked example are not in its text"),
        (dict(samples=0), "samples=0 and most_words=6: both are at least 1"),
    ],
)
def test_what_cannot_be_asked_is_refused_at_once(how, told):
    with pytest.raises(SpecError, match=told):
        pairs(LanguageModel("job", BY_NAME["llama"].model(), **how))


@contextmanager
def served(*replies):
    """A chat server on this machine that gives these (status, body) replies in turn, the last for ever; what it saw."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen.append((self.path, dict(self.headers), json.loads(body)))
            status, reply = replies[min(len(seen), len(replies)) - 1]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(reply.encode())

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def chat(answer):
    return 200, json.dumps({"choices": [{"message": {"role": "assistant", "content": answer}}]})


ONE = [{"text": "The nurse ran", "label": 0}]


def test_an_endpoint_is_asked_as_the_protocol_says():
    with served(chat("Carpenter."), chat("wood")) as (url, seen):
        editor = Endpoint("job", Chat(url + "/", "some-model", "secret", pause=0.0), (SHOT,), samples=2, seed=3)
        made = pairs(editor, ONE, keep=2)
    assert [edit.text for _, edit in made] == ["The Carpenter ran"]
    assert dict(made.counts["rejected"]) == {"answer without the value": 1}
    assert [path for path, _, _ in seen] == ["/v1/chat/completions"] * 2
    assert seen[0][1]["Authorization"] == "Bearer secret" and "secret" not in repr(editor)
    assert (seen[0][2]["model"], seen[0][2]["temperature"], seen[0][2]["seed"]) == ("some-model", 0.0, 3)
    assert (seen[1][2]["temperature"], seen[1][2]["seed"]) == (1.0, 4)
    assert seen[0][2]["messages"][0]["content"].endswith(
        "Text: The nurse ran\nWords: nurse\nNew job: trade\nNew words:"
    )


def test_what_may_pass_is_tried_again():
    with served((503, "busy"), (429, "slow down"), chat("carpenter")) as (url, seen):
        made = pairs(Endpoint("job", Chat(url, "m", pause=0.0)), ONE)
    assert len(made) == 1 and len(seen) == 3 and "Authorization" not in seen[0][1]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_no_other_text_would_get_around_ends_the_run(status):
    with served((status, "no key")) as (url, seen):
        told = rf"failed at once \(status {status}: no key\): check base_url, model and api_key"
        with pytest.raises(EndpointError, match=told):
            pairs(Endpoint("job", Chat(url, "m", retries=2, pause=0.0)), TWO)
    assert len(seen) == 1


TWO = [*ONE, {"text": "A nurse laughed", "label": 1}]


@pytest.mark.parametrize(
    "reply, tries, told",
    [
        ((500, "broken"), 3, "failed after 3 tries (status 500: broken)"),
        ((400, "too long"), 1, "failed at once (status 400: too long)"),
        ((200, "<html>"), 1, "answered b'<html>', which is no chat completion"),
        ((200, "\xff"), 1, "which is no chat completion"),
        ((200, '{"choices": []}'), 1, "which is no chat completion"),
        ((200, '{"choices": [{"message": {"content": ["x"]}}]}'), 1, "which is no chat completion"),
    ],
)
def test_a_text_for_which_an_endpoint_fails_is_named_and_the_others_kept(reply, tries, told):
    with served(*[reply] * tries, chat("carpenter")) as (url, seen):
        made = pairs(Endpoint("job", Chat(url, "m", retries=2, pause=0.0)), TWO)
    assert [edit.text for _, edit in made] == ["A carpenter laughed"] and len(seen) == tries + 1
    assert made.counts["rejected"] == {"request failed": 1} and told in made.rejected[0]["told"]


def test_a_server_that_does_not_answer_in_time_is_a_rejection():
    silent = socket.create_server(("127.0.0.1", 0))
    with silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        made = pairs(Endpoint("job", Chat(url, "m", timeout=0.05, retries=1, pause=0.0)), ONE)
    assert made.counts["rejected"] == {"request failed": 1} and "after 2 tries (timed out)" in made.rejected[0]["told"]


def test_answers_that_came_are_not_asked_for_again(tmp_path):
    path, folder = tmp_path / "answers.jsonl", tmp_path / "pairs"
    with served(chat("carpenter"), (401, "out of money")) as (url, seen):
        with pytest.raises(EndpointError, match="out of money"):
            pairs(Endpoint("job", Chat(url, "m", answers=path)), TWO, folder=folder)
        assert len(seen) == 2 and not folder.exists()
    path.write_bytes(path.read_bytes() + b'{"asked": "cut sho')
    made = pairs(Endpoint("job", Chat(url, "m", answers=path)), ONE)
    assert [edit.text for _, edit in made] == ["The carpenter ran"], "nobody is at this address any more"
    assert path.read_text().count("\n") == 1 and path.read_text().endswith('"answer": "carpenter"}\n')
    with served(chat("carpenter")) as (other, seen):
        assert len(pairs(Endpoint("job", Chat(other, "m", answers=path), seed=1), TWO)) == 2
        assert len(pairs(Endpoint("job", Chat(other, "m", answers=path), seed=1), TWO)) == 2
        assert len(seen) == 2, "another seed is another question"
    path.write_text("notes\n")
    with pytest.raises(ArtefactError, match=r"line 1 of .* holds no answer"):
        pairs(Endpoint("job", Chat(url, "m", answers=path)), ONE)


def test_an_endpoint_that_is_not_there_or_is_none_is_named():
    with served(chat("x")) as (url, _):
        pass
    with pytest.raises(EndpointError, match=r"failed after 2 tries .*refused"):
        pairs(Endpoint("job", Chat(url, "m", retries=1, pause=0.0)), ONE)
    with pytest.raises(EndpointError, match="base_url is 'localhost': it has to begin with http"):
        pairs(Endpoint("job", Chat("localhost", "m")), ONE)
    with pytest.raises(EndpointError, match="give a timeout above 0"):
        pairs(Endpoint("job", Chat(url, "m", timeout=0.0)), ONE)


@pytest.mark.smollm2
def test_smollm2_writes_words_that_say_the_other_value(smollm2):
    shots = (
        Shot("The king was late.", "king", "female", "queen"), Shot("My sister ran home.", "sister", "male", "brother"),
        Shot("The boys are here.", "boys", "female", "girls"),
    )  # fmt: skip
    spec = Spec("rating", ("poor", "great"), (), (Variable("gender", lexicons.NOUNS),))
    editor = LanguageModel("gender", smollm2, shots)
    made = [list(editor.edits(Row(text, 0), spec)) for text in ("He met his father.", "a prince in a castle")]
    assert [edit.text for [edit] in made] == ["He met his mother.", "a princess in a castle"]
