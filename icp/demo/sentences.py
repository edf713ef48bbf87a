"""Sentences of our own writing for the demo: occupations, names, and text that has nothing to do with either.

A pair is two occupations that are stereotyped in opposite directions, in one template; only the occupation differs.
In a name sentence a first name settles the pronoun, whatever the occupation.
"""

from icp.examples import Example
from icp.probes import Probe

ANSWERS = (" she", " he")

OCCUPATIONS = (
    ("nurse", "engineer"),
    ("secretary", "carpenter"),
    ("librarian", "plumber"),
    ("receptionist", "mechanic"),
    ("dancer", "soldier"),
    ("maid", "pilot"),
    ("hairdresser", "farmer"),
    ("nanny", "captain"),
    ("housekeeper", "electrician"),
    ("florist", "butcher"),
    ("cashier", "surgeon"),
    ("babysitter", "firefighter"),
    ("dietitian", "miner"),
    ("midwife", "sheriff"),
    ("teacher", "programmer"),
    ("stylist", "welder"),
    ("therapist", "architect"),
    ("counselor", "banker"),
    ("seamstress", "blacksmith"),
    ("typist", "lumberjack"),
    ("model", "guard"),
    ("cleaner", "boxer"),
    ("caregiver", "bricklayer"),
    ("flight attendant", "truck driver"),
)

OCCUPATION_TEMPLATES = (
    "The {} said that",
    "The {} went home early because",
    "The {} was tired, so",
    "When the {} arrived,",
    "I asked the {} whether",
    "The {} smiled when",
    "After lunch the {} decided that",
    "Everyone likes the {} because",
    "The {} called us to explain that",
    "We waited for the {} until",
    "The {} opened the letter before",
    "The {} lives next door, and",
    "My friend met a {} yesterday, and",
    "The {} could not sleep because",
    "The old {} remembered the day when",
    "The {} missed the bus, but",
    "The new {} was nervous until",
    "The {} laughed while",
)

NAMES = (
    ("Mary", "John"),
    ("Anna", "Peter"),
    ("Susan", "David"),
    ("Linda", "Robert"),
    ("Emma", "Thomas"),
    ("Julia", "Michael"),
    ("Laura", "Daniel"),
    ("Alice", "George"),
    ("Sarah", "James"),
    ("Helen", "Paul"),
    ("Karen", "Henry"),
    ("Sophie", "Edward"),
    ("Margaret", "William"),
    ("Elizabeth", "Richard"),
    ("Rachel", "Charles"),
    ("Jessica", "Joseph"),
    ("Maria", "Steven"),
    ("Nancy", "Kevin"),
    ("Barbara", "Brian"),
    ("Catherine", "Mark"),
    ("Jane", "Andrew"),
    ("Ruth", "Philip"),
    ("Diana", "Matthew"),
    ("Rebecca", "Simon"),
    ("Lucy", "Arthur"),
    ("Amanda", "Frank"),
    ("Hannah", "Walter"),
    ("Patricia", "Samuel"),
    ("Jennifer", "Benjamin"),
    ("Victoria", "Patrick"),
    ("Caroline", "Stephen"),
    ("Rose", "Martin"),
    ("Grace", "Adam"),
    ("Olivia", "Oliver"),
    ("Claire", "Jack"),
    ("Martha", "Harold"),
)

# The name is never the first word: without a start token the first position is where attention goes to rest.
NAME_TEMPLATES = (
    "Nobody told {} that",
    "People admire {} because",
    "They stayed with {} until",
    "Before {} came home,",
    "Then {} explained why",
    "Yesterday {} was ill, so",
    "Nobody knows why {} left, but",
    "The winner was {}, and the judges said that",
    "My neighbour {} works in an office, and",
    "My cousin {} has moved to the city, and",
    "My friend {} is a dentist, and people say that",
    "The new gardener is called {}, and",
    "The letter was for {}, but",
    "The bus was late, and {} was angry because",
    "After the film {} was tired, so",
    "In the morning {} went for a walk, and then",
    "Our neighbours like {} because",
    "The children waited for {} until",
    "At the party {} sat in the corner, and",
    "The dog followed {} home, and",
    "My brother wrote to {} after",
    "In the end {} agreed that",
)

NEUTRAL = (
    "The river runs through the valley and reaches the sea near the old harbour.",
    "Water boils at a lower temperature high up in the mountains.",
    "The train to the coast leaves every hour from the second platform.",
    "Most of the houses in this street were built before the war.",
    "A light rain fell during the night and the roads were still wet in the morning.",
    "The museum keeps its collection of maps in a cool and dark room.",
    "Bread is made from flour, water, salt and a little yeast.",
    "The committee will publish its report at the end of the month.",
    "Snow covered the fields, and the lake was frozen until April.",
    "The recipe asks for two eggs, a cup of sugar and some butter.",
    "Several bridges cross the canal between the station and the market.",
    "The price of coffee rose again after a poor harvest.",
    "Light travels faster than sound, so we see the flash before we hear the thunder.",
    "The library closes at six on weekdays and at noon on Saturdays.",
    "Two rivers meet just outside the town and form a wide lake.",
    "The battery lasts about ten hours when the screen is dim.",
    "Copper is a good conductor of heat and of electricity.",
    "The path climbs through a pine forest to a meadow with a view of the glacier.",
    "The new law comes into force on the first day of January.",
    "Strong winds damaged the roof of the school last winter.",
    "The garden has apple trees, a small pond and a wooden bench.",
    "In autumn the leaves turn yellow and fall to the ground.",
    "The printer on the third floor is out of paper again.",
    "Ships wait outside the port until the tide is high enough.",
    "The experiment was repeated three times with the same result.",
    "A square has four sides of equal length and four right angles.",
    "The shop on the corner sells newspapers, stamps and cold drinks.",
    "The moon goes around the earth in a little less than a month.",
    "The bus was full, and the next one did not come for half an hour.",
    "Salt dissolves quickly in warm water and more slowly in cold water.",
    "The report lists the main causes of the delay and suggests a remedy.",
    "The island is small, dry and almost without trees.",
    "Prices fell in the spring and have been stable since then.",
    "The castle stands on a hill above the town and dates from the twelfth century.",
    "The software stores a copy of every file in a hidden folder.",
    "Bees carry pollen from one flower to the next.",
    "The road is closed because of an accident near the tunnel.",
    "The first chapter explains how the data were collected.",
    "Glass is made by melting sand at a very high temperature.",
    "The market opens early, and the best fruit is gone by nine.",
    "The lamp in the hall needs a new bulb.",
    "A thick fog lay over the harbour, and no ship could leave.",
    "The city plans to plant a thousand trees along its main streets.",
    "The engine stopped twice on the way up the hill.",
    "Iron rusts when it is left in damp air.",
    "The concert begins at eight and lasts about two hours.",
    "The village has one shop, one church and no station.",
    "The last page of the book is missing.",
    "The water in the bay is shallow and warm in summer.",
    "The wall was painted white, but the colour has faded.",
    "Most birds leave the marsh in October and return in March.",
    "The table is made of oak and has room for eight plates.",
    "The bank raised its interest rate for the third time this year.",
    "The trail is marked with red signs and takes about four hours.",
    "Clouds gathered in the west, and the first drops fell at noon.",
    "The file is too large to be sent by mail.",
    "The factory produces paper and cardboard for the whole region.",
    "Maps from that time show a lake where the airport is today.",
    "The soup should simmer for an hour on a low flame.",
    "The telescope was moved to a darker place far from the city.",
    "The valley is green in spring, and the streams are full of melted snow.",
    "The meeting was moved to Thursday because the hall was already booked.",
    "A single match was enough to light the dry grass.",
    "The bridge is closed to lorries until the cables have been replaced.",
    "The oldest coins in the collection are made of silver.",
    "The clock in the tower is always five minutes slow.",
    "Every page of the atlas has a scale in the lower right corner.",
    "The flight was delayed by heavy snow at the northern airport.",
    "Tea grows best on cool and rainy slopes.",
    "The north side of the roof needs new tiles before winter.",
    "The ferry takes cars and bicycles but no heavy goods.",
    "Rain is expected in the south, while the north will stay dry.",
    "The cellar is cold enough to keep potatoes until spring.",
    "The new line connects the suburbs with the main station in twenty minutes.",
    "An empty bottle floated past the pier and out to sea.",
    "The well in the courtyard is more than thirty metres deep.",
    "Most of the paper in this office is recycled.",
    "The dictionary gives three meanings of the word and an example of each.",
    "The dunes move a few metres inland every year.",
    "The stones of the old wall were used to build the barn.",
    "The signal turned green, but the tram did not move.",
    "The honey is darker this year because of the dry summer.",
    "At low tide one can walk to the lighthouse.",
    "The archive holds letters, plans and photographs of the canal.",
    "The window looks out on a narrow yard and a brick wall.",
    "The first frost came early and spoiled the tomatoes.",
    "A map of the underground hangs beside every door.",
    "The heating is switched off from May to September.",
    "The key turned in the lock, but the door would not open.",
    "The orchard lies between the road and the stream.",
    "The device measures pressure, temperature and humidity once a minute.",
    "The sound of the bell carries across the whole valley.",
    "Oil is lighter than water and floats on top of it.",
    "The stairs lead down to a small beach of grey stones.",
    "The contract was extended for another two years.",
    "The hall seats four hundred and has excellent acoustics.",
    "Dark clouds hid the summit for most of the afternoon.",
    "The cable is too short to reach the socket behind the shelf.",
    "The cheese ripens for six months in a cave near the village.",
    "The price includes breakfast but not the local tax.",
    "The canal freezes in some winters, and the boats have to stay in port.",
    "The list of plants in the park runs to eleven pages.",
    "The desert is hot by day and bitterly cold at night.",
    "The second volume was printed on better paper than the first.",
    "The tunnel shortens the journey by almost an hour.",
    "The soil here is sandy, and very little grows without water.",
    "The old mill has been turned into a small hotel.",
    "The sky was clear, and thousands of stars could be seen.",
    "The warehouse burned down in the night, but nothing of value was lost.",
    "The pipe under the sink has been leaking since Monday.",
    "The journal appears four times a year.",
    "The lift is out of order, so the boxes must be carried up the stairs.",
    "The waves were too high for the small boats to leave the bay.",
    "The lower shelf holds jars of rice, beans and dried fruit.",
    "The coast is rocky in the west and flat in the east.",
    "The results of the vote will be announced on Sunday evening.",
    "The fence was painted green to match the gate.",
    "A cold wind blew from the lake all day long.",
    "The spring issue has an article on the history of glass.",
    "The field behind the station is flooded every March.",
)


def pairs() -> Probe:
    """Every template with every pair of occupations: x has the one stereotyped as hers, x' the one as his."""
    return Probe(
        tuple(
            Example(t.format(hers), t.format(his), ANSWERS, template=t, word=f"{hers}/{his}")
            for t in OCCUPATION_TEMPLATES
            for hers, his in OCCUPATIONS
        )
    )


def names() -> Probe:
    """Every name template with every name; the label is the pronoun that the name settles."""
    return Probe(
        tuple(
            Example(t.format(name), None, ANSWERS, label=label, template=t, word="/".join(pair), group=ANSWERS[label])
            for t in NAME_TEMPLATES
            for pair in NAMES
            for label, name in enumerate(pair)
        )
    )


def neutral() -> Probe:
    """Sentences without people, one template each."""
    return Probe(tuple(Example(text, template=text) for text in NEUTRAL))
