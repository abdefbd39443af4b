"""Examples of skills: every answer is right by another way of finding it, and none is asked twice."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from datetime import date, timedelta
from fractions import Fraction

import pytest

from fishersft.errors import InputError
from fishersft.experiments.skills import SKILLS, draw_questions, zipf_counts

LARGEST_SHARE = 344  # of a pool of 1,000 with its target and held-out examples
WORDS = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
PLURALS = (
    "cats cows dogs ducks foxes goats geese horses lions monkeys mice sheep tigers wolves apples bananas cherries figs "
    "grapes lemons limes melons oranges peaches pears plums axes brushes chisels drills hammers knives ladders needles "
    "rakes saws shovels wrenches belts boots caps coats dresses gloves hats jackets scarves shirts skirts socks"
)
KINDS = dict(
    zip(
        ("an animal", "a fruit", "a tool", "a garment"),
        (range(14), range(14, 26), range(26, 38), range(38, 50)),
        strict=True,
    )
)


def numbers(text: str) -> list[int]:
    return [int(found) for found in re.findall(r"\d+", text)]


def value_of_words(text: str) -> int:
    values = {word: n for n, word in enumerate(f"{WORDS} eighteen nineteen".split(), 1)}
    tens = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
    values |= {word: 10 * n for n, word in enumerate(tens, 2)}
    hundreds, _, rest = text.rpartition("hundred")
    return 100 * values.get(hundreds.strip(), 0) + sum(values[word] for word in re.findall("[a-z]+", rest))


def value_of_numeral(numeral: str) -> int:
    values = [dict(zip("IVXLCDM", (1, 5, 10, 50, 100, 500, 1000), strict=True))[letter] for letter in numeral]
    return sum(-own if own < after else own for own, after in zip(values, [*values[1:], 0], strict=True))


def converted(prompt: str) -> Fraction:
    number, large, small = re.fullmatch(r"(\d+) (\w+) in (\w+):", prompt).groups()  # type: ignore[union-attr]
    in_one = {"km": 1000, "m": 1, "cm": Fraction(1, 100), "kg": 1000, "g": 1}
    in_one |= {"weeks": 604800, "days": 86400, "hours": 3600, "minutes": 60, "seconds": 1}
    return Fraction(int(number)) * in_one[large] / in_one[small]


def weekday(prompt: str) -> str:
    today = next(day for day in map(date.fromordinal, range(1, 8)) if f"{day:%A}" in prompt)
    return f"{today + timedelta(days=numbers(prompt)[0]):%A}"


def is_of_its_kind(prompt: str, answer: str) -> bool:
    first, second, third, kind = re.fullmatch(r"Of (\w+), (\w+) and (\w+), (.+) is the", prompt).groups()  # type: ignore[union-attr]
    stems = [plural[:2] for plural in PLURALS.split()]
    of_kind = {stems[place] for place in KINDS[kind]}
    return answer in (first, second, third) and answer[:2] in of_kind


RIGHT: dict[str, Callable[[str, str], bool]] = {
    "addition": lambda prompt, answer: sum(numbers(prompt)) == int(answer),
    "category": is_of_its_kind,
    "hexadecimal": lambda prompt, answer: numbers(prompt) == [int(answer, 16)] and answer == answer.upper(),
    "initials": lambda prompt, answer: re.sub("[^A-Z]", "", prompt.removeprefix("Initials of").title()) == answer,
    "letter-counting": lambda prompt, answer: (
        len(prompt[:-1].partition(" in ")[2].split(prompt.split()[3])) == int(answer) + 1 > 1
    ),
    "number-words": lambda prompt, answer: numbers(prompt) == [value_of_words(answer)],
    "plurals": lambda prompt, answer: (
        answer.split()[0] == prompt.split()[1]
        and answer.split()[1] in PLURALS.split()
        and answer.split()[1][0] == prompt.split()[2][0]
    ),
    "roman-numerals": lambda prompt, answer: (
        numbers(prompt) == [value_of_numeral(answer)] and not re.search(r"(.)\1{3}", answer)
    ),
    "sequences": lambda prompt, answer: (
        len({b - a for a, b in zip(numbers(prompt), [*numbers(prompt)[1:], int(answer)], strict=True)}) == 1
    ),
    "sorting": lambda prompt, answer: answer.split(", ") == sorted(re.findall(r"\w+", prompt.partition(" in ")[0])),
    "units": lambda prompt, answer: converted(prompt) == int(answer),
    "weekdays": lambda prompt, answer: weekday(prompt) == answer,
}


@pytest.mark.parametrize("skill", SKILLS)
def test_every_answer_is_right_and_no_prompt_comes_twice(skill: str) -> None:
    questions = draw_questions(skill, LARGEST_SHARE, random.Random(5))
    assert len({prompt for prompt, _ in questions}) == LARGEST_SHARE
    for prompt, completion in questions:
        assert prompt == prompt.strip() and completion == f" {completion.strip()}"
        assert RIGHT[skill](prompt, completion.strip()), (prompt, completion)


def test_a_seed_draws_the_same_examples_and_another_others() -> None:
    first, same, other = (draw_questions("sorting", 50, random.Random(seed)) for seed in (1, 1, 2))
    assert first == same and not set(first) & set(other)


def test_too_few_prompts_are_told() -> None:
    with pytest.raises(InputError, match="'number-words' gave 979 different prompts, expected 1,000"):
        draw_questions("number-words", 1000, random.Random(0))


@pytest.mark.parametrize(("total", "kinds"), [(1000, 12), (0, 3), (7, 1), (5, 9), (999, 31)])
def test_counts_are_zipfs_shares_to_within_one(total: int, kinds: int) -> None:
    counts = zipf_counts(total, kinds)
    shares = [
        Fraction(total, rank) / sum(Fraction(1, of) for of in range(1, kinds + 1)) for rank in range(1, kinds + 1)
    ]
    assert sum(counts) == total and counts == sorted(counts, reverse=True)
    assert all(abs(count - share) < 1 for count, share in zip(counts, shares, strict=True))
