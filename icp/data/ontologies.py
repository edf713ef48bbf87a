"""The closed vocabulary of PrOntoQA: classes with their plurals, properties and individuals, and the family of each.

As the published rows of the true and the fictional ontology use it (Saparov and He 2023); written as a list, so that
what is found by it owes nothing to a grammar.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """A class, property or individual (`kind`), the family whose facts it appears in, and its plural if it has one."""

    singular: str
    kind: str
    family: str
    plural: str | None = None

    @property
    def forms(self) -> tuple[str, ...]:
        return (self.singular,) if self.plural is None else (self.singular, self.plural)


MAMMALS = """
    tabby/tabbies cat/cats feline/felines carnivore/carnivores mammal/mammals vertebrate/vertebrates chordate/chordates
    bilaterian/bilaterians snake/snakes sheep/sheep
"""
ARTHROPODS = """
    painted_lady/painted_ladies butterfly/butterflies lepidopteran/lepidopterans insect/insects arthropod/arthropods
    protostome/protostomes invertebrate/invertebrates whale/whales spider/spiders nematode/nematodes
"""
NUMBERS = """
    Mersenne_prime/Mersenne_primes prime_number/prime_numbers natural_number/natural_numbers integer/integers
    real_number/real_numbers number/numbers complex_number/complex_numbers imaginary_number/imaginary_numbers
    negative_number/negative_numbers
"""
FICTIONAL = """
    yumpus/yumpuses vumpus/vumpuses numpus/numpuses rompus/rompuses wumpus/wumpuses jompus/jompuses tumpus/tumpuses
    zumpus/zumpuses dumpus/dumpuses impus/impuses
"""
PROPERTIES = {
    "mammals": "furry carnivorous herbivorous warm-blooded cold-blooded",
    "arthropods": "bony segmented six-legged eight-legged small",
    "animals": "multicellular unicellular",
    "numbers": "real imaginary prime composite positive negative",
    "fictional": """
        dull large opaque transparent bright small cold earthy fruity floral kind brown sour spicy hot temperate nervous
        orange red happy liquid feisty luminous metallic blue wooden sweet amenable angry bitter mean aggressive shy
    """,
}
INDIVIDUALS = {
    "animals": "Max Sam Fae Stella Sally Polly Wren Rex Alex",
    "numbers": "3 7 31 127 8191 131071",
}


def _classes(family: str, pairs: str) -> list[Word]:
    split = (pair.replace("_", " ").split("/") for pair in pairs.split())
    return [Word(one, "class", family, many) for one, many in split]


WORDS: tuple[Word, ...] = (
    *_classes("mammals", MAMMALS),
    *_classes("arthropods", ARTHROPODS),
    *_classes("animals", "animal/animals"),
    *_classes("numbers", NUMBERS),
    *_classes("fictional", FICTIONAL),
    *(Word(one, "property", family, None) for family, words in PROPERTIES.items() for one in words.split()),
    *(Word(one, "individual", family, None) for family, words in INDIVIDUALS.items() for one in words.split()),
)


def family(name: str) -> str:
    """The family of a class by its singular, without regard to capitals; a class that is not listed is its own."""
    return next((word.family for word in WORDS if word.singular.lower() == name.lower()), name)
