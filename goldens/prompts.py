"""What text is generated from: prompts of one word to a page, code, chat, numbers, other languages."""

from __future__ import annotations

FIRST_PROMPTS = 4  # those that a short run takes

_LIST = ", ".join(f"item {i}" for i in range(1, 25))
_TABLE = "\n".join(f"{n},{n * n},{n**3}" for n in range(1, 13))
_PARAGRAPH = (
    "The river rises in the hills to the north and is joined by two smaller streams before it reaches the town. "
    "In spring it floods the meadows, and the road to the mill is closed for a week or two. "
)

# (prompt, whether it goes through the tokenizer's chat template, where the tokenizer has one)
PROMPTS: tuple[tuple[str, bool], ...] = (
    ("The capital of France is", False),
    ("The capital of France is", True),
    ("def fibonacci(n):", False),
    ("Name three primary colours.", True),
    ("Once", False),
    ("Hello", True),
    ("1, 2, 3, 4, 5, 6,", False),
    ("Water boils at", False),
    ("The opposite of hot is", False),
    ("import numpy as np\n\nx = np.", False),
    ("What is 7 times 8?", True),
    ("Dear Sir or Madam,", False),
    ("To be, or not to be,", False),
    ("Der Himmel ist blau und das Gras ist", False),
    ("Il était une fois", False),
    ("SELECT name FROM users WHERE", False),
    ("<html>\n<head>\n<title>", False),
    ('{"name": "Ada", "age": 36, "city":', False),
    ("The first law of thermodynamics states that", False),
    ("Write a haiku about the sea.", True),
    ("Translate to French: good morning, my friend.", True),
    ("class Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self, item):\n", False),
    ("A list of things to buy: " + _LIST + ", item", False),
    ("n,square,cube\n" + _TABLE + "\n13,", False),
    ("Explain in one sentence why the sky is blue, so that a child of six understands it.", True),
    ("Q: How many days are there in a leap year?\nA:", False),
    ("She opened the door, looked out into the dark garden and whispered:", False),
    ("Monday, Tuesday, Wednesday,", False),
    (_PARAGRAPH * 2 + "In summer", False),
    (_PARAGRAPH * 4 + "In winter", False),
    ("Summarise in a few words:\n" + _PARAGRAPH * 3, True),
    ("for i in range(10):\n    print(i)\n" * 6 + "for i in", False),
)
