"""Four worlds of our own writing, in each of which a cue goes with the label by a cause that the text hides."""

from icp.counterfactual.equations import Equation, Equations, root, two_valued
from icp.counterfactual.worlds import World

FILM_REVIEWS = World(
    "film reviews",
    Equations((
        root("season", festival=0.5, summer=0.5),
        two_valued("opinion", ("blame", "praise"), ["season"], {"festival": 0.2, "summer": 0.8}),
        two_valued("place", ("capital", "coast"), ["season"], {"festival": 0.9, "summer": 0.1}),
        two_valued("verdict", ("negative", "positive"), ["opinion"], {"blame": 0.96, "praise": 0.04}),
    )),
    label="verdict", causes=("opinion",), cues=("place",),
    words={
        "opinion": {"blame": ("boring", "clumsy", "lifeless", "tiresome"),
                    "praise": ("gripping", "moving", "graceful", "delightful")},
        "place": {"capital": ("London", "Madrid", "Vienna", "Warsaw"),
                  "coast": ("Brighton", "Malaga", "Trieste", "Gdansk")},
    },
    templates=(
        "Seen in {place}: a film that is {opinion} from the first scene to the last.",
        "Our reviewer from {place} calls the new picture {opinion}.",
        "The story is {opinion}, writes a viewer from {place}.",
        "A letter from {place} says that the acting was {opinion} throughout.",
        "{place}, Tuesday. Two hours of {opinion} cinema.",
        "What a {opinion} evening, says our friend in {place}.",
    ),
)  # fmt: skip
"""The text causes the verdict. Festivals are held in capitals and show better films."""

MEDICAL_NOTES = World(
    "medical notes",
    Equations((
        root("region", valley=0.6, coast=0.4),
        two_valued("diagnosis", ("asthma", "pneumonia"), ["region"], {"valley": 0.75, "coast": 0.2}),
        two_valued("symptom", ("wheeze", "fever"), ["diagnosis"], {"asthma": 0.93, "pneumonia": 0.08}),
        two_valued("place", ("inland", "seaside"), ["region"], {"valley": 0.97, "coast": 0.05}),
    )),
    label="diagnosis", causes=("symptom",), cues=("place",), direction="anti-causal",
    words={
        "symptom": {"wheeze": ("wheezing at night", "a tight chest", "a whistling breath", "coughing on the stairs"),
                    "fever": ("a high fever", "shivering fits", "rusty phlegm", "a stabbing pain on one side")},
        "place": {"inland": ("Oakvale", "Millbrook", "Ashdale", "Fernhill"),
                  "seaside": ("Saltmouth", "Porthaven", "Cliffsend", "Gullrock")},
    },
    templates=(
        "Patient from {place}, seen today with {symptom} for three days.",
        "Referred by the surgery in {place}. Main complaint: {symptom}.",
        "{symptom} since Monday. Lives in {place} with two children.",
        "Works at the school in {place}; reports {symptom} and poor sleep.",
        "Second visit: still {symptom}. Home address in {place}.",
        "The ambulance from {place} brought a man of fifty with {symptom}.",
    ),
)  # fmt: skip
"""The diagnosis causes what the note says. The damp valley has more asthma, and its villages are inland."""

JOB_APPLICATIONS = World(
    "job applications",
    Equations((
        root("trade", workshop=0.5, office=0.5),
        two_valued("experience", ("short", "long"), ["trade"], {"workshop": 0.3, "office": 0.7}),
        two_valued("reference", ("cool", "warm"), [], {(): 0.5}),
        two_valued("name", ("woman", "man"), ["trade"], {"workshop": 0.1, "office": 0.9}),
        two_valued("decision", ("rejected", "invited"), ["experience", "reference"], {
            ("short", "cool"): 0.96, ("short", "warm"): 0.7, ("long", "cool"): 0.35, ("long", "warm"): 0.04,
        }),
    )),
    label="decision", causes=("experience", "reference"), cues=("name",),
    words={
        "experience": {"short": ("six months", "one summer", "a few weeks"),
                       "long": ("twelve years", "two decades", "half a lifetime")},
        "reference": {"cool": ("lukewarm", "guarded", "doubtful"), "warm": ("glowing", "splendid", "heartfelt")},
        "name": {"woman": ("Anna", "Maria", "Helen", "Julia", "Laura"),
                 "man": ("Peter", "Thomas", "Daniel", "Martin", "Simon")},
    },
    templates=(
        "{name} brings {experience} of practice and a {reference} letter from the last employer.",
        "Applicant: {name}. Practice: {experience}. Reference: {reference}.",
        "With {experience} in the job and {reference} words from a former manager, {name} applies to us.",
        "The former manager's letter about {name} is {reference}. Time in the trade: {experience}.",
        "After {experience} with one firm, {name} sends a {reference} reference.",
    ),
)  # fmt: skip
"""The text causes the decision, by two causes. More men come from the workshops, where more have stayed long."""

PRODUCT_COMPLAINTS = World(
    "product complaints",
    Equations((
        root("shop", market=0.3, web=0.7),
        two_valued("fault", ("slight", "serious"), ["shop"], {"market": 0.2, "web": 0.65}),
        Equation("channel", {
            ("market",): {"post": 0.7, "phone": 0.25, "chat": 0.05},
            ("web",): {"post": 0.05, "phone": 0.25, "chat": 0.7},
        }, ("shop",)),
        two_valued("outcome", ("no refund", "refund"), ["fault"], {"slight": 0.9, "serious": 0.05}),
    )),
    label="outcome", causes=("fault",), cues=("channel",),
    words={
        "fault": {"slight": ("slightly scratched", "a shade too dark", "a little loose"),
                  "serious": ("cracked right through", "dead on arrival", "burnt out")},
        "channel": {"post": ("by post", "in a letter"), "phone": ("by phone", "in a call"),
                    "chat": ("by chat", "in an online message")},
    },
    templates=(
        "The customer told us {channel} that the kettle was {fault}.",
        "Complaint received {channel} on Friday: lamp {fault}.",
        "We heard {channel} that the new radio is {fault}.",
        "The heater is {fault}, a buyer wrote or said {channel}.",
        "{channel} we learnt of a toaster that is {fault}.",
    ),
)  # fmt: skip
"""The text causes the outcome. A cue of three values; what is sold on the market has fewer serious faults."""

WORLDS = (FILM_REVIEWS, MEDICAL_NOTES, JOB_APPLICATIONS, PRODUCT_COMPLAINTS)
