"""A dozen short-answer tasks whose examples are made with a seed, for pools in which some skills are rare."""

from __future__ import annotations

import random
from collections.abc import Callable

from fishersft.errors import InputError

Question = tuple[str, str]  # prompt, completion

_KINDS = {
    kind: nouns.split()
    for kind, nouns in {
        "an animal": "cat cow dog duck fox goat goose horse lion monkey mouse sheep tiger wolf",
        "a fruit": "apple banana cherry fig grape lemon lime melon orange peach pear plum",
        "a tool": "axe brush chisel drill hammer knife ladder needle rake saw shovel wrench",
        "a garment": "belt boot cap coat dress glove hat jacket scarf shirt skirt sock",
    }.items()
}
_NOUNS = [noun for nouns in _KINDS.values() for noun in nouns]
_ADJECTIVES, _ONES, _TENS = (
    words.split()
    for words in (
        "big black blue cheap clean green heavy light long new old red small soft strong warm white yellow",
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen",
        "twenty thirty forty fifty sixty seventy eighty ninety",
    )
)
_IRREGULAR = {
    "goose": "geese",
    "knife": "knives",
    "mouse": "mice",
    "scarf": "scarves",
    "sheep": "sheep",
    "wolf": "wolves",
}
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_UNITS = [
    ("km", "m", 1000),
    ("kg", "g", 1000),
    ("hours", "minutes", 60),
    ("minutes", "seconds", 60),
    ("m", "cm", 100),
    ("weeks", "days", 7),
]
_NUMERALS = {900: "CM", 500: "D", 400: "CD", 100: "C", 90: "XC", 50: "L", 40: "XL", 10: "X", 9: "IX", 5: "V", 4: "IV"}
_TRIES = 50  # draws for each example that is wanted


def zipf_counts(total: int, kinds: int) -> list[int]:
    """How many of `total` each kind gets where the k-th has a share in proportion to 1/k: (kinds,), falling.

    Rounded by largest remainders, equal ones to the more common kind.

    Args:
        total: >= 0.
        kinds: >= 1.

    Cost: O(kinds log kinds).
    Source: Zipf (1949), "Human Behavior and the Principle of Least Effort".

    Example:
        >>> zipf_counts(100, 4)
        [48, 24, 16, 12]
    """
    weights = [1 / rank for rank in range(1, kinds + 1)]
    shares = [total * weight / sum(weights) for weight in weights]
    counts = [int(share) for share in shares]
    for rank in sorted(range(kinds), key=lambda rank: counts[rank] - shares[rank])[: total - sum(counts)]:
        counts[rank] += 1
    return counts


def draw_questions(skill: str, number: int, rng: random.Random) -> list[Question]:
    """Examples of a skill, no prompt twice: prompts without a space at the end, completions that begin with one.

    Args:
        skill: a key of `SKILLS`.
        number: how many, >= 0; every skill has at least 500 prompts.
        rng: what they are drawn with.

    Raises:
        InputError: the skill has too few prompts.

    Cost: O(number), a few draws each.

    Example:
        >>> draw_questions("addition", 2, random.Random(0))
        [('60 + 64 =', ' 124'), ('16 + 44 =', ' 60')]
    """
    drawn: dict[str, str] = {}
    for _ in range(_TRIES * number):
        if len(drawn) == number:
            break
        prompt, completion = SKILLS[skill](rng)
        drawn[prompt] = f" {completion}"
    if len(drawn) < number:
        raise InputError(
            f"the skill {skill!r} gave {len(drawn):,} different prompts, expected {number:,}; ask for fewer"
        )
    return list(drawn.items())


def roman_numeral(number: int) -> str:
    """A whole number from 1 to 999 in Roman numerals.

    Example:
        >>> roman_numeral(949)
        'CMXLIX'
    """
    numeral = ""
    for value, letters in {**_NUMERALS, 1: "I"}.items():
        numeral += letters * (number // value)
        number %= value
    return numeral


def in_words(number: int) -> str:
    """A whole number from 0 to 999 in words.

    Example:
        >>> in_words(342)
        'three hundred forty-two'
    """
    if number < 20:
        return _ONES[number]
    if number < 100:
        return _TENS[number // 10 - 2] + (f"-{_ONES[number % 10]}" if number % 10 else "")
    return f"{_ONES[number // 100]} hundred" + (f" {in_words(number % 100)}" if number % 100 else "")


def plural(noun: str) -> str:
    """The plural of one of this module's nouns.

    Example:
        >>> plural("cherry"), plural("brush"), plural("monkey"), plural("wolf")
        ('cherries', 'brushes', 'monkeys', 'wolves')
    """
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def _addition(rng: random.Random) -> Question:
    a, b = rng.randint(11, 99), rng.randint(11, 99)
    return f"{a} + {b} =", str(a + b)


def _category(rng: random.Random) -> Question:
    kinds = rng.sample(sorted(_KINDS), 3)
    nouns = [rng.choice(_KINDS[kind]) for kind in kinds]
    asked = rng.randrange(3)
    return f"Of {nouns[0]}, {nouns[1]} and {nouns[2]}, {kinds[asked]} is the", nouns[asked]


def _hexadecimal(rng: random.Random) -> Question:
    number = rng.randint(100, 1999)
    return f"{number} in hexadecimal is", f"{number:X}"


def _initials(rng: random.Random) -> Question:
    words = [*rng.sample(_ADJECTIVES, 2), rng.choice(_NOUNS)]
    return f"Initials of {' '.join(words)}:", "".join(word[0] for word in words).upper()


def _letters(rng: random.Random) -> Question:
    words = f"{rng.choice(_ADJECTIVES)} {rng.choice(_NOUNS)}"
    letter = rng.choice(sorted(set(words) - {" "}))
    return f"Number of times {letter} is in {words}:", str(words.count(letter))


def _number_words(rng: random.Random) -> Question:
    number = rng.randint(21, 999)
    return f"{number} in words:", in_words(number)


def _plural(rng: random.Random) -> Question:
    adjective, noun = rng.choice(_ADJECTIVES), rng.choice(_NOUNS)
    return f"Singular: {adjective} {noun}. Plural:", f"{adjective} {plural(noun)}"


def _roman(rng: random.Random) -> Question:
    number = rng.randint(11, 999)
    return f"{number} in Roman numerals is", roman_numeral(number)


def _sequence(rng: random.Random) -> Question:
    start, step = rng.randint(1, 99), rng.randint(2, 12)
    shown = ", ".join(str(start + step * place) for place in range(4))
    return f"Next in {shown}:", str(start + 4 * step)


def _sorting(rng: random.Random) -> Question:
    nouns = rng.sample(_NOUNS, 3)
    return f"{', '.join(nouns)} in alphabetical order:", ", ".join(sorted(nouns))


def _unit(rng: random.Random) -> Question:
    large, small, factor = rng.choice(_UNITS)
    number = rng.randint(2, 199)
    return f"{number} {large} in {small}:", str(number * factor)


def _weekday(rng: random.Random) -> Question:
    day, later = rng.randrange(7), rng.randint(2, 199)
    return f"Today is {_DAYS[day]}. In {later} days it is", _DAYS[(day + later) % 7]


SKILLS: dict[str, Callable[[random.Random], Question]] = {
    "addition": _addition,
    "category": _category,
    "hexadecimal": _hexadecimal,
    "initials": _initials,
    "letter-counting": _letters,
    "number-words": _number_words,
    "plurals": _plural,
    "roman-numerals": _roman,
    "sequences": _sequence,
    "sorting": _sorting,
    "units": _unit,
    "weekdays": _weekday,
}
