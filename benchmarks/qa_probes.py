"""The probes of `qa`: twin claims with and without evidence, and subjects of one relation."""

import random

import icp
from icp.alignment import align
from icp.data.counterfact import Fact
from icp.data.fever import Claim

ANSWERS = (" true", " false")
CLAIM = "Claim: {claim}\nTrue or false? This claim is"
EVIDENCE = "Evidence: {evidence}\n" + CLAIM


def fours(claims: list[Claim]) -> list[list[Claim]]:
    """By four: a claim and its twin, each with the evidence that supports and that refutes it."""
    groups: dict[str | None, list[Claim]] = {}
    for claim in claims:
        groups.setdefault(claim.word, []).append(claim)
    found = []
    for word, rows in groups.items():
        four = sorted(rows, key=lambda row, first=rows[0].claim: (row.claim != first, row.label))
        if [row.label for row in four] != [0, 1, 0, 1] or len({row.claim for row in four}) != 2:
            raise SystemExit(f"FeverSymmetric's {word!r} is not two claims, each supported once and refuted once")
        found.append(four)
    return found


def aligned(model: icp.Model, examples: list[icp.Example], count: int) -> icp.Probe:
    """The first `count` whose counterpart can be aligned."""

    def tokens(text: str) -> list[int]:
        return model.tokenizer(text)["input_ids"]

    fit = [one for one in examples if align(tokens(one.text), tokens(one.counterpart)).problem is None]
    if len(fit) < count:
        raise SystemExit(f"{count} pairs are wanted to rank on, and {len(fit)} of {len(examples)} can be aligned")
    return icp.Probe(tuple(fit[:count]))


def claim_pairs(fours: list[list[Claim]], seed: int) -> list[icp.Example]:
    """Twin claims without evidence, in the order and the direction that the seed draws."""
    draw, found = random.Random(f"claims {seed}"), []
    for four in draw.sample(fours, len(fours)):
        one, other = draw.sample([four[0].claim, four[2].claim], 2)
        found.append(
            icp.Example(
                CLAIM.format(claim=one), CLAIM.format(claim=other), ANSWERS, template="claim", word=four[0].word
            )
        )
    return found


def fact_pairs(model: icp.Model, facts: list[Fact], seed: int) -> list[icp.Example]:
    """Two subjects of one relation, whose true objects are the two answers, of one token each."""
    draw, by_relation = random.Random(f"facts {seed}"), {}
    for fact in facts:
        if len(model.tokenizer(f" {fact.true}")["input_ids"]) == 1:
            by_relation.setdefault(fact.relation, []).append(fact)
    found = []
    for relation, rows in sorted(by_relation.items()):
        mixed = draw.sample(rows, len(rows))
        for one, other in zip(mixed[::2], mixed[1::2]):
            if one.true != other.true:
                answers = (f" {one.true}", f" {other.true}")
                found.append(icp.Example(one.prompt, other.prompt, answers, template=relation, word=one.subject))
    return draw.sample(found, len(found))


def with_evidence(fours: list[list[Claim]]) -> icp.Probe:
    """Every row of every four, in that order."""
    return icp.Probe(
        tuple(
            icp.Example(
                EVIDENCE.format(claim=row.claim, evidence=row.evidence), None, ANSWERS, row.label, word=row.word
            )
            for four in fours
            for row in four
        )
    )


def alone(fours: list[list[Claim]]) -> icp.Probe:
    """Every claim and its twin, without evidence and so without a label."""
    return icp.Probe(
        tuple(
            icp.Example(CLAIM.format(claim=row.claim), None, ANSWERS, word=row.word)
            for four in fours
            for row in four[::2]
        )
    )
