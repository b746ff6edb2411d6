"""The words of the generated product catalogue: categories, personas, and what personas want.

An attribute's first wording is its canonical one, the others are paraphrases. No wording shares a
word with a wording of another attribute, with a persona's query, or with the generic praise: what a
query hides can then be matched only by a policy that learnt what its persona implies.
"""

from dataclasses import dataclass
from typing import TypeAlias

Wordings: TypeAlias = tuple[str, ...]


def _words(text: str) -> Wordings:
    return tuple(text.split())


@dataclass(frozen=True, kw_only=True)
class Persona:
    """Who asks: what such a person types, and the attributes wanted without saying so."""

    surfaces: Wordings
    kind: int
    """Row of the persona in each category group's table of materials."""
    use: Wordings
    features: tuple[str, str]
    """Canonical wordings of two of ``FEATURES``."""
    style: str
    """Canonical wording of one of ``STYLES``."""


CATEGORIES: tuple[Wordings, ...] = (
    ("shoes", "sneakers", "footwear"),
    ("jacket", "coat", "parka"),
    ("hat", "cap", "headwear"),
    ("backpack", "rucksack", "daypack"),
    ("suitcase", "luggage", "trolley"),
    ("wallet", "billfold", "cardholder"),
    ("bottle", "flask", "tumbler"),
    ("lamp", "lantern", "luminaire"),
    ("pillow", "headrest", "bolster"),
    ("headphones", "earphones", "headset"),
    ("watch", "timepiece", "chronograph"),
    ("speaker", "soundbar", "boombox"),
)
"""Nouns of each category; three categories in a row form a group (wear, carry, home, tech)."""

CATEGORIES_PER_GROUP = 3

MATERIALS: tuple[tuple[Wordings, ...], ...] = (
    (
        ("merino wool", "sheep fleece"),
        ("pima cotton", "combed jersey"),
        ("organic linen", "woven flax"),
        ("brushed suede", "nubuck hide"),
    ),
    (
        ("ripstop nylon", "parachute fabric"),
        ("grain leather", "tanned cowhide"),
        ("waxed canvas", "oiled sailcloth"),
        ("recycled polyester", "reclaimed pet"),
    ),
    (
        ("stainless steel", "chrome metal"),
        ("solid bamboo", "natural cane"),
        ("food silicone", "soft rubber"),
        ("tempered glass", "borosilicate crystal"),
    ),
    (
        ("anodized aluminum", "aircraft alloy"),
        ("carbon fiber", "graphite composite"),
        ("matte polycarbonate", "impact plastic"),
        ("walnut veneer", "real hardwood"),
    ),
)
"""Material = table[group of the category][kind of the persona]."""

FEATURES: tuple[Wordings, ...] = (
    ("lightweight", "featherlight"),
    ("breathable", "ventilated mesh"),
    ("padded", "thick lining"),
    ("adjustable", "custom fit"),
    ("insulated", "thermal core"),
    ("heavy duty", "rugged build"),
    ("compact", "pocket sized"),
    ("silent", "whisper quiet"),
    ("reflective", "high visibility"),
    ("waterproof", "rain resistant"),
    ("noise cancelling", "sound blocking"),
    ("lockable", "theft deterrent"),
    ("hypoallergenic", "sensitive skin"),
    ("antibacterial", "germ repellent"),
    ("non slip", "sure grip"),
    ("machine washable", "easy clean"),
    ("rechargeable", "usb charging"),
    ("foldable", "collapsible"),
    ("quick drying", "moisture wicking"),
    ("modular", "snap together"),
    ("oversized", "extra roomy"),
    ("wireless", "cord free"),
    ("uv protected", "sunproof"),
    ("scratch proof", "scuff safe"),
    ("shock absorbing", "drop cushioned"),
    ("one handed", "single finger"),
)

STYLES: tuple[Wordings, ...] = (
    ("minimalist", "understated"),
    ("vintage", "retro"),
    ("sporty", "athletic"),
    ("elegant", "refined"),
    ("playful", "whimsical"),
    ("industrial", "workshop look"),
    ("bohemian", "hippie inspired"),
    ("futuristic", "space age"),
    ("classic", "timeless"),
    ("rustic", "farmhouse"),
)

PERSONAS: tuple[Persona, ...] = (
    Persona(
        surfaces=("for my marathon", "to survive a 26 mile race"),
        kind=0,
        use=("distance running", "endurance jogging"),
        features=("lightweight", "breathable"),
        style="sporty",
    ),
    Persona(
        surfaces=("for my charity walk", "to raise money on foot"),
        kind=2,
        use=("leisurely strolling", "gentle promenades"),
        features=("padded", "adjustable"),
        style="classic",
    ),
    Persona(
        surfaces=("for my everest expedition", "to reach the summit"),
        kind=0,
        use=("alpine climbing", "ice mountaineering"),
        features=("insulated", "heavy duty"),
        style="rustic",
    ),
    Persona(
        surfaces=("for a weekend in the woods",),
        kind=3,
        use=("cabin retreats", "forest getaways"),
        features=("compact", "silent"),
        style="bohemian",
    ),
    Persona(
        surfaces=("for my bike commute", "to pedal to the job"),
        kind=0,
        use=("urban cycling", "town riding"),
        features=("reflective", "waterproof"),
        style="industrial",
    ),
    Persona(
        surfaces=("for the train to the office",),
        kind=1,
        use=("rail journeys", "subway trips"),
        features=("noise cancelling", "lockable"),
        style="minimalist",
    ),
    Persona(
        surfaces=("for my newborn", "now that the baby is here"),
        kind=2,
        use=("infant care", "nursery routine"),
        features=("hypoallergenic", "antibacterial"),
        style="playful",
    ),
    Persona(
        surfaces=("for my night shift as a nurse",),
        kind=1,
        use=("hospital rounds", "ward work"),
        features=("non slip", "machine washable"),
        style="classic",
    ),
    Persona(
        surfaces=("for my gap year", "to see the world on a shoestring"),
        kind=3,
        use=("hostel hopping", "budget touring"),
        features=("foldable", "quick drying"),
        style="bohemian",
    ),
    Persona(
        surfaces=("for meeting clients in tokyo", "to impress the board"),
        kind=1,
        use=("corporate travel", "executive visits"),
        features=("rechargeable", "compact"),
        style="elegant",
    ),
    Persona(
        surfaces=("for my first apartment",),
        kind=2,
        use=("small flats", "tiny homes"),
        features=("modular", "silent"),
        style="minimalist",
    ),
    Persona(
        surfaces=("for my dorm room", "now that college starts"),
        kind=3,
        use=("student housing", "campus life"),
        features=("oversized", "rechargeable"),
        style="vintage",
    ),
    Persona(
        surfaces=("for my podcast",),
        kind=1,
        use=("voice recording", "studio interviews"),
        features=("noise cancelling", "adjustable"),
        style="futuristic",
    ),
    Persona(
        surfaces=("for my band", "to rock the crowd"),
        kind=3,
        use=("stage performance", "live concerts"),
        features=("wireless", "heavy duty"),
        style="vintage",
    ),
    Persona(
        surfaces=("for fishing with grandpa",),
        kind=0,
        use=("lakeside angling", "river casting"),
        features=("waterproof", "uv protected"),
        style="rustic",
    ),
    Persona(
        surfaces=("for sunbathing in june", "to lie in the sand"),
        kind=3,
        use=("beach holidays", "seaside vacations"),
        features=("quick drying", "scratch proof"),
        style="playful",
    ),
    Persona(
        surfaces=("for building a bookshelf", "to saw and hammer"),
        kind=1,
        use=("garage carpentry", "diy projects"),
        features=("shock absorbing", "modular"),
        style="industrial",
    ),
    Persona(
        surfaces=("for planting my tomatoes",),
        kind=2,
        use=("backyard gardening", "greenhouse chores"),
        features=("one handed", "machine washable"),
        style="elegant",
    ),
    Persona(
        surfaces=("for coaching kids soccer",),
        kind=0,
        use=("youth training", "team drills"),
        features=("reflective", "oversized"),
        style="sporty",
    ),
    Persona(
        surfaces=("for my grandmother", "now that mum is eighty"),
        kind=2,
        use=("senior comfort", "retirement years"),
        features=("one handed", "padded"),
        style="futuristic",
    ),
)
"""Each is mistaken for the next one, with which it has no attribute in common."""

COLOURS: Wordings = _words(
    "black white navy crimson olive mustard teal lavender beige coral silver emerald"
)

BRANDS: Wordings = _words(
    "Velmora Trakund Ostrelle Pinewick Quorina Halvex Brontide Luminar Kestrix Yarrowby "
    "Zephrane Marlowen Corvanta Nordhal Eldrigo Fenbrook"
)

GENERIC: Wordings = (
    "fine quality",
    "great value",
    "best seller",
    "top rated",
    "gift idea",
    "perfect choice",
    "new arrival",
    "premium pick",
)
"""Praise that no product text contains."""

TITLES: Wordings = (
    "{brand} {noun} {feature_1} {style} {colour}",
    "{brand} {style} {noun} with {feature_1} design, {colour}",
    "{colour} {noun} by {brand}, {use}, {feature_1}",
    "{brand} {feature_2} {noun} made of {material} ({colour})",
    "{style} {noun} for {use} - {brand} {colour}",
)

DESCRIPTIONS: Wordings = (
    "This {noun} was designed with {use} in mind. It is {feature_1} and {feature_2}, "
    "with a {style} finish and {material} throughout.",
    "{material} and {feature_2} details make this {noun} ready for {use}. A {style} model that "
    "stays {feature_1} all day.",
    "What you get: a {noun} for {use}, {feature_1}, {feature_2}, {style}, {material}.",
)
"""Each names all five attributes, so that a product's text never leaves one out."""
