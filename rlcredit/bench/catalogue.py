"""Thirty products and three shoppers: the smallest search task in which grades and ties matter.

Products are texts, not settings: BM25 reads them as it would any catalogue. A shopper's query says
who they are; the terms say what they want. Grades are Exact 3, Substitute 2, Complement 1.
"""

TERMS = ("waterproof", "trail", "leather", "office", "shoes")

DOCUMENTS = (
    "waterproof trail shoes with a grippy sole",
    "light trail shoes for dry summer paths",
    "waterproof hiking boots in nubuck leather",
    "trail running vest with two bottles",
    "waterproof jacket for long trail days",
    "gaiters that keep mud out of trail shoes",
    "leather office shoes with a plain toe",
    "brown leather loafers",
    "black office shoes, vegan",
    "leather belt for office trousers",
    "shoe trees of cedar for leather shoes",
    "office chair with leather seat",
    "canvas shoes for the beach",
    "waterproof sandals for the river",
    "children's shoes with lights",
    "waterproof spray for leather and suede",
    "leather laptop bag for the office",
    "waterproof laptop sleeve",
    "trail map, printed on waterproof paper",
    "trail mix with nuts and raisins",
    "office desk of oak",
    "desk lamp for the home office",
    "leather football boots",
    "leather sofa, three seats",
    "rain coat, waterproof, yellow",
    "dancing shoes with leather soles",
    "waterproof trail boots for winter",
    "insoles for running shoes",
    "wool socks for boots",
    "steel bottle for the trail",
)

QUESTIONS = (
    ("hiker who expects rain", {"d00": 3, "d26": 3, "d02": 2, "d01": 2, "d05": 1, "d04": 1}),
    ("clerk on the first day", {"d06": 3, "d07": 2, "d08": 2, "d09": 1, "d10": 1, "d16": 1}),
    ("walker with a job in town", {"d01": 3, "d25": 2, "d06": 2, "d12": 1}),
)
"""Query, and the grade of each product that is not irrelevant."""
