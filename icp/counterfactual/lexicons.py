"""Small word lists of our own, aligned value by value: a start, to be joined (`NOUNS | PRONOUNS`) or replaced.

They are short and plain on purpose. Words that are often something else were left out (`Grace`, `Mark`, `Turkey`, a
`miss`), and so were names that either gender has.
"""

from icp.counterfactual.lexicon import Lexicon

PRONOUNS = Lexicon(
    "pronouns",
    {
        "male": ("he", "him", "his", "his", "himself", "he'd", "he'll"),
        "female": ("she", "her", "her", "hers", "herself", "she'd", "she'll"),
    },
)
"""`her` and `his` have two partners each: `icp.counterfactual.pronouns` says when they are told apart."""

NOUNS = Lexicon(
    "gendered nouns",
    {
        "male": (
            "man", "men", "boy", "boys", "father", "fathers", "dad", "dads", "son", "sons", "brother", "brothers",
            "husband", "husbands", "uncle", "uncles", "nephew", "nephews", "grandfather", "grandfathers", "grandson",
            "grandsons", "boyfriend", "boyfriends", "king", "kings", "prince", "princes", "duke", "dukes", "lord",
            "lords", "gentleman", "gentlemen", "waiter", "waiters", "steward", "stewards", "host", "hosts", "widower",
            "widowers", "hero", "heroes", "actor", "actors", "monk", "monks", "wizard", "wizards", "businessman",
            "businessmen", "policeman", "policemen", "salesman", "salesmen", "schoolboy", "schoolboys", "groom",
            "grooms", "bachelor", "bachelors", "mr", "male", "males", "masculine", "masculinity", "fatherhood",
        ),
        "female": (
            "woman", "women", "girl", "girls", "mother", "mothers", "mom", "moms", "daughter", "daughters", "sister",
            "sisters", "wife", "wives", "aunt", "aunts", "niece", "nieces", "grandmother", "grandmothers",
            "granddaughter", "granddaughters", "girlfriend", "girlfriends", "queen", "queens", "princess",
            "princesses", "duchess", "duchesses", "lady", "ladies", "gentlewoman", "gentlewomen", "waitress",
            "waitresses", "stewardess", "stewardesses", "hostess", "hostesses", "widow", "widows", "heroine",
            "heroines", "actress", "actresses", "nun", "nuns", "witch", "witches", "businesswoman", "businesswomen",
            "policewoman", "policewomen", "saleswoman", "saleswomen", "schoolgirl", "schoolgirls", "bride", "brides",
            "bachelorette", "bachelorettes", "mrs", "female", "females", "feminine", "femininity", "motherhood",
        ),
    },
)  # fmt: skip

FIRST_NAMES = Lexicon(
    "first names",
    {
        "male": (
            "James", "John", "Robert", "Michael", "David", "William", "Richard", "Thomas", "Charles", "Daniel",
            "Matthew", "Anthony", "Steven", "Paul", "Andrew", "Kevin", "Brian", "George", "Edward", "Peter",
        ),
        "female": (
            "Mary", "Patricia", "Jennifer", "Linda", "Elizabeth", "Barbara", "Susan", "Jessica", "Sarah", "Karen",
            "Nancy", "Lisa", "Margaret", "Sandra", "Emily", "Donna", "Michelle", "Amanda", "Melissa", "Laura",
        ),
    },
)  # fmt: skip

PLACES = Lexicon(
    "places",
    {
        "Europe": ("Berlin", "Madrid", "Vienna", "Warsaw", "Lisbon", "Stockholm", "Athens", "Oslo"),
        "Africa": ("Nairobi", "Lagos", "Accra", "Dakar", "Kampala", "Lusaka", "Tunis", "Addis Ababa"),
        "Asia": ("Tokyo", "Mumbai", "Seoul", "Bangkok", "Jakarta", "Hanoi", "Manila", "Kathmandu"),
        "the Americas": ("Toronto", "Lima", "Bogota", "Chicago", "Havana", "Quito", "Montreal", "Mexico City"),
    },
)

NATIONALITIES = Lexicon(
    "nationalities",
    {
        "Europe": ("German", "Italian", "Norwegian", "Austrian", "Hungarian", "Belgian"),
        "Africa": ("Nigerian", "Kenyan", "Ethiopian", "Ghanaian", "Moroccan", "Zambian"),
        "Asia": ("Indian", "Indonesian", "Korean", "Malaysian", "Mongolian", "Cambodian"),
        "the Americas": ("Mexican", "Brazilian", "Canadian", "Colombian", "Peruvian", "Chilean"),
    },
    plurals=True,
)

AGES = Lexicon(
    "ages",
    {
        "young": (
            "young man", "young men", "young woman", "young women", "young people", "young person", "young couple",
            "young lady", "young ladies", "youthful", "teenager", "teenagers", "adolescent", "adolescents",
            "juvenile", "twenty-year-old",
        ),
        "old": (
            "old man", "old men", "old woman", "old women", "old people", "old person", "old couple",
            "old lady", "old ladies", "elderly", "pensioner", "pensioners", "retiree", "retirees",
            "geriatric", "seventy-year-old",
        ),
    },
)  # fmt: skip
"""`old` and `aged` alone are left out: an old film, five years old, a man aged 30."""
