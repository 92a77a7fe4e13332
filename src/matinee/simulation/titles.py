"""Made-up movies' names: title words and a year, as the service writes them, odd ones among them."""

import numpy as np
from numpy.typing import NDArray

from matinee.core.errors import ConfigurationError

_FIRST = (
    "amber", "bitter", "blue", "broken", "burning", "captain's", "cold", "crimson", "crooked", "dark", "distant",
    "drowned", "empty", "endless", "fallen", "first", "forgotten", "gentle", "glass", "golden", "hidden", "hollow",
    "iron", "last", "little", "lonely", "long", "lost", "midnight", "naked", "northern", "paper", "perfect", "shy",
    "reluctant", "restless", "scarlet", "second", "secret", "silent", "silver", "sleeping", "stolen", "strange",
    "summer's", "sweet", "unknown", "velvet", "wild", "winter's",
)  # fmt: skip
_SECOND = (
    "alibi", "apprentice", "bargain", "bride", "caravan", "carnival", "city", "colony", "comet", "confession",
    "dance", "daughter", "debt", "doctor", "eclipse", "empire", "enemy", "expedition", "fiddler", "fire", "garden",
    "ghost", "harbour", "heart", "holiday", "hunter", "island", "jury", "kingdom", "landlord", "ledger", "letter",
    "lighthouse", "machine", "mirror", "neighbour", "night", "orchestra", "orphan", "passenger", "piano", "promise",
    "rebel", "river", "room", "shadow", "signal", "sky", "soldier", "station", "stranger", "summit", "thief",
    "tunnel", "umbrella", "verdict", "voyage", "wedding", "widow", "witness",
)  # fmt: skip
_PATTERNS = (
    "the {} {}", "{} {}", "my {} {}", "the {} {} of baghdad", "the {} {} of the sea", "{} {} ii",
    "the {} {} returns", "{} {} at noon", "{} {} in paris", "the {} {} and the wolf", "the {} {} of no return",
    "{} {} under glass", "the {} {} on the hill", "{} {} for two", "{} {} rising", "the {} {} of tomorrow",
)  # fmt: skip
_ODD_SHARE = 0.01


def name_movies(
    random: np.random.Generator, year: NDArray[np.int16], part: int = 1
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Ids and titles of as many movies as there are years; no id comes twice, and none is one of another part.

    One in a hundred is odd as real ones are: `m*a*s*h`'s stars, an underscore for a colon, no year at all.

    Raises:
        ConfigurationError: there are more movies than names.
    """
    n_names = len(_FIRST) * len(_SECOND) * len(_PATTERNS)
    if year.size > n_names:
        raise ConfigurationError(f"a world has at most {n_names} movies, not {year.size}")
    ids, titles = [], []
    numbers = random.permutation(n_names)[: year.size].tolist()
    odd = random.random(year.size)
    for number, its_year, oddness in zip(numbers, year.tolist(), odd.tolist(), strict=True):
        rest, pattern = divmod(number, len(_PATTERNS))
        first, second = divmod(rest, len(_SECOND))
        words = _PATTERNS[pattern].format(_FIRST[first], _SECOND[second]) + (f" {part}" if part > 1 else "")
        titles.append(words.title().replace("'S", "'s"))
        ids.append(_id(words.replace("'", "").replace(" ", "+"), its_year, oddness))
    return tuple(ids), tuple(titles)


def _id(words: str, year: int, oddness: float) -> str:
    if oddness < _ODD_SHARE / 3:
        return f"{words}+"
    if oddness < 2 * _ODD_SHARE / 3:
        return f"{words.replace('+', '_+', 1)}+{year}"
    if oddness < _ODD_SHARE:
        first, plus, rest = words.partition("+")
        return f"{'*'.join(first)}{plus}{rest}+{year}"
    return f"{words}+{year}"
