"""PrOntoQA with shorter chains, and its test problems told in every way that was not trained on."""

from collections.abc import Sequence
from dataclasses import replace

from icp.capt.worlds import QUESTIONS, Ontology, anti_sense, non_sense, retold, with_more_symbols
from icp.data.problems import Problem
from icp.data.prontoqa import hops_told
from icp.data.syllogisms import SENTENCE, read_statements, skeleton_of
from icp.errors import DataError

NEW_PHRASINGS = ("all", "any", "a")
"""Those of `icp.capt.worlds.PHRASINGS` that PrOntoQA does not have."""
NEW_QUESTION = QUESTIONS[2]
"""A template of the question that neither published form of PrOntoQA has."""


def shortened(problem: Problem, hops: int) -> Problem:
    """A problem of PrOntoQA with the last `hops` facts of its chain, for models that longer ones are too hard for.

    The individual is said to be what the chain has reached by then. Facts about classes before it are left out, and so
    are those about other classes, but for the ones that say what is asked about (they are there to distract).

    Raises `DataError` where there is no reasoning, or it is not as long.
    """
    steps = [one.strip() for one in SENTENCE.findall(problem.reasoning or "")]
    if hops < 1 or len(steps) < 2 * hops + 1:
        raise DataError(f"the reasoning of {problem.prompt[:60]!r} has {len(steps) // 2} hops: {hops} cannot be kept")
    kept = steps[-2 * hops - 1 :]
    classes = {one.predicate.name for one in read_statements(" ".join(kept[:-1]))[0] if one.individual}
    told, _, question = problem.prompt.rpartition("\n")
    sentences = [one.strip() for one in SENTENCE.findall(told)]
    *facts, asked = read_statements(problem.prompt)[0]
    prompt = " ".join(
        sentence
        for sentence, one in zip(sentences, facts, strict=True)
        if not one.individual and (one.subject.name in classes or one.predicate.name == asked.predicate.name)
    )
    prompt = f"{prompt} {kept[0]}\n{question}"
    *facts, asked = read_statements(prompt)[0]
    skeleton = skeleton_of(facts, asked)
    told = hops_told(hops)
    return replace(problem, prompt=prompt, reasoning=" ".join(kept), skeleton=skeleton, query_type=told)


def told_otherwise(problems: Sequence[Problem], ontology: Ontology, slots: int, seed: int = 0) -> list[Problem]:
    """Test problems of PrOntoQA as they are, and each of them five times over; the kind stands in `split`.

    | split | what training has not seen |
    |---|---|
    | `id` | the problem |
    | `anti` | what is said of these real words, none of which is true in the ontology |
    | `nonsense` | the words |
    | `paraphrased` | how facts are told, and in another order |
    | `new question` | how the question is asked |
    | `more symbols` | so many variables: prompts say `slots` of them, and training prompts have to say fewer |

    Answers stay, and so do skeletons but for `more symbols`. Raises `DataError` where a problem says `slots` variables
    already, or what `anti_sense` raises.
    """
    made = [[replace(one, split="id"), anti_sense(one, ontology, seed), non_sense(one, seed)] for one in problems]
    for one, versions in zip(problems, made):
        facts, _, question = one.prompt.rpartition("\n")
        *_, asked = read_statements(one.prompt)[0]
        claim = one.prompt[asked.subject.start : asked.predicate.stop]
        as_asked = question.replace(claim, "{}").replace("{}.", "{}")
        told = retold(one, NEW_PHRASINGS, seed, as_asked, shuffled=True)
        versions += [
            replace(told, split="paraphrased"),
            replace(one, prompt=f"{facts}\n{NEW_QUESTION.format(claim)}", split="new question"),
            replace(with_more_symbols(one, slots, seed), split="more symbols"),
        ]
    return [one for together in zip(*made) for one in together]
