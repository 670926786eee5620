"""Notes that a salesperson writes about a lead: each differs, and repeats no sentence."""

import random

OPENINGS = (
    "asked about", "wants to see", "has doubts about", "compared us with a competitor on",
    "needs a decision on", "was pleased with", "sent questions about", "will not sign without",
    "mentioned", "is responsible for",
)  # fmt: skip
TOPICS = (
    "single sign-on", "audit logs", "data residency", "the price per seat", "a pilot in spring",
    "import of old contacts", "the API's limits", "support at night", "GDPR", "payment by invoice",
    "the time to go live", "exports to a warehouse", "roles and rights", "uptime",
)  # fmt: skip
ENDINGS = (
    "before the board meets", "for a team abroad", "again on the phone", "by e-mail",
    "for the next quarter", "with their lawyer in copy", "after the demo", "in some detail",
)  # fmt: skip
STEPS = (
    "Call back on {day}.", "Offer for {seats} seats sent.", "Demo on {day} at {hour}:30.",
    "Waits for the end of another contract.", "{seats} users today.",
    "Send the case study.", "No answer since {day}.", "Asks for a discount above {seats} seats.",
)  # fmt: skip
MONTHS = ("January", "March", "April", "June", "September", "October", "November")
LONG_SHARE = 0.01
LONGEST = 40
"""The share of notes that are very long, and their most sentences."""


def make_note(rng: random.Random, first_name: str) -> str:
    """A note of two or three sentences, now and then a very long one."""
    count = rng.randint(10, LONGEST) if rng.random() < LONG_SHARE else rng.randint(1, 2)
    places = rng.sample(range(len(OPENINGS) * len(TOPICS) * len(ENDINGS)), count)
    sentences = [_make_sentence(place) for place in places]
    step = rng.choice(STEPS).format(
        day=f"{rng.randint(1, 28)} {rng.choice(MONTHS)}",
        seats=rng.randint(2, 400),
        hour=rng.randint(8, 17),
    )
    return " ".join([f"{first_name} {sentences[0]}", *map(_capitalize, sentences[1:]), step])


def _make_sentence(place: int) -> str:
    place, opening = divmod(place, len(OPENINGS))
    ending, topic = divmod(place, len(TOPICS))
    return f"{OPENINGS[opening]} {TOPICS[topic]} {ENDINGS[ending]}."


def _capitalize(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
