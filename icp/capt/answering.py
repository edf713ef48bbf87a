"""Asking a model the problems: a choice among the answers, or whatever it writes; after reasoning or without."""

from collections.abc import Sequence
from dataclasses import replace

from icp.capt.abstracted import Abstracted
from icp.capt.renaming import Renaming, copies
from icp.capt.replies import Replies, parsed
from icp.capt.training_rows import ANSWER, END, WORKED, answer_probe
from icp.data.problems import Problem
from icp.errors import DataError
from icp.generation import generate
from icp.model import Model
from icp.predictions import answered, probabilities_of

DECODINGS = ("constrained", "free")
ANSWER_TOKENS, REASONING_TOKENS = 8, 256


def ask(
    model: Model,
    rows: Sequence[Abstracted],
    renaming: Renaming,
    *,
    decoding: str = "constrained",
    reasoning: bool = False,
    seed: int = 0,
    max_tokens: int | None = None,
    batch_size: int | None = None,
    progress: bool = True,
) -> Replies:
    """Ask problems renamed as they were in training, in symbols drawn by `seed`, which is not that of the training.

    Constrained decoding takes the likelier of the answers; free decoding writes greedily, of which
    `icp.capt.parsed` reads the answer. With `reasoning` a worked solution is written first: constrained decoding then
    takes the likelier answer after it, free decoding what it says after its last `Answer:`. At most `max_tokens` are
    written (8, with reasoning 256). Where two answers are equally likely, neither is the model's.

    Raises `DataError` for a decoding that there is not, and without rows.
    """
    if decoding not in DECODINGS or not rows:
        raise DataError(f"decoding={decoding!r} of {len(rows)} rows: use one of {', '.join(DECODINGS)}, and give rows")
    asked = copies(rows, renaming, seed=seed)
    problems = tuple(row.problem for row in rows)
    free = decoding == "free"

    def written(stops: tuple[str, ...]) -> list[str]:
        prompts = [one.prompt + (WORKED if reasoning else ANSWER) for one in asked]
        limit = (REASONING_TOKENS if reasoning else ANSWER_TOKENS) if max_tokens is None else max_tokens
        found = generate(model, prompts, max_tokens=limit, stops=stops, batch_size=batch_size, progress=progress)
        return [texts[0] for texts in found]

    if free:
        texts = written((END,) if reasoning else ("\n",))
        said = [_read(text, one, reasoning) for text, one in zip(texts, asked)]
        return Replies(problems, tuple(said), tuple(texts))
    texts = written((ANSWER, END)) if reasoning else []
    told = [replace(one, prompt=f"{one.prompt}{WORKED} {text}") for one, text in zip(asked, texts)] or asked
    best = answered(probabilities_of(model, answer_probe(told)))
    said = [None if place < 0 else one.answers[place] for one, place in zip(asked, best.tolist())]
    return Replies(problems, tuple(said), tuple(texts))


def _read(text: str, one: Problem, reasoning: bool) -> str | None:
    if not reasoning:
        return parsed(text, one.answers)
    _, mark, after = f"\n{text}".rpartition(ANSWER)
    return parsed(after, one.answers) if mark else None
