"""Inputs drawn from a model's own vocabulary, for what has to run on any model."""

import random

import torch

from icp.errors import ModelError
from icp.examples import Example
from icp.images import Image
from icp.model import Model
from icp.probes import Probe

LENGTHS = (4, 6, 6)


def drawn_pairs(model: Model, seed: int = 0) -> Probe:
    """Three pairs of two lengths that differ in one word, with the same answers: the classes, or two words.

    For a model without a head the one answer is a sentence of four words, to compare with; for a text tower it is an
    image. Of a model of images they are images, which all have the same length.

    Raises `ModelError` where the vocabulary has too few words of one token each.
    """
    if model.family.pixels:
        return _drawn_images(model, seed)
    rng = random.Random(seed)
    words = _words(model, 4 + sum(LENGTHS) + len(LENGTHS), rng)
    answers = model.classes.names if model.classes else tuple(f" {word}" for word in words[:2])
    if model.family.represents:
        answers = (" ".join(words[:4]) if model.family.tower is None else model.beside.noise(seed),)
    rest, rows = iter(words[4:]), []
    for row, length in enumerate(LENGTHS):
        mine, other = [next(rest) for _ in range(length)], next(rest)
        changed = [mine[0], other, *mine[2:]]
        texts = (_asking(model, each) for each in (mine, changed))
        rows.append(Example(*texts, answers=answers, label=row % 2 if len(answers) > 1 else None))
    return Probe(tuple(rows))


def _drawn_images(model: Model, seed: int) -> Probe:
    """Three images of noise, and as their counterparts the same with other noise in the upper half."""
    tokenizer, rows = model.tokenizer, []
    answers = model.classes.names if model.classes else (" ".join(_words(model.other, 6, random.Random(seed))[:4]),)
    for row in range(3):
        pixels, other = (tokenizer.noise(6 * seed + 2 * row + which).pixels for which in (0, 1))
        half = pixels.shape[1] // 2
        changed = torch.cat([other[:, :half], pixels[:, half:]], 1)
        rows.append(Example(Image(pixels), Image(changed), answers, label=row % 2 if model.classes else None))
    return Probe(tuple(rows))


def _asking(model: Model, words: list[str]) -> str:
    """A text; for a masked language model with its mask token before the last word."""
    asked = [model.tokenizer.mask_token] if model.family.reads == "mask" else []
    return " ".join([*words[:-1], *asked, words[-1]])


def _words(model: Model, count: int, rng: random.Random) -> list[str]:
    """Words that are one token each after a space, drawn from the vocabulary; with too few, they are repeated."""
    tokenizer, found = model.tokenizer, {}
    for number in rng.sample(range(len(tokenizer)), len(tokenizer)):
        word = tokenizer.decode([number]).strip()
        if word.isascii() and word.isalpha() and len(word) > 1 and word not in found:
            ids = tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
            found |= {word: None} if len(ids) == 1 and ids[0] != tokenizer.unk_token_id else {}
        if len(found) == count:
            break
    if len(found) < 6:
        raise ModelError(f"the vocabulary of {model.name} has {len(found)} words of one token: 6 are needed for inputs")
    words = list(found)
    return [*words, *(rng.choice(words[2:]) for _ in range(count - len(words)))]
