"""Which passwords are accepted, and what to tell those whose are not."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from zxcvbn import zxcvbn
from zxcvbn.frequency_lists import FREQUENCY_LISTS
from zxcvbn.matching import L33T_TABLE

LENGTH_MAX: Final = 128
# zxcvbn's time grows with the square of the text: 8 ms for this much, 40 ms for 72 characters. More
# characters make no password weaker.
ESTIMATED_CHARACTERS_MAX: Final = 48
# It also tries each way to read digits and symbols as letters: seconds, for some texts.
READINGS_MAX: Final = 16
# Of 0 to 4; 3 stands for at least 10**8 guesses.
SCORE_MIN: Final = 3
# A shorter part of a name is found in passwords by chance.
ABOUT_CHARACTERS_MIN: Final = 4
ABOUT_MAX: Final = 16

_COMMON: Final = frozenset(word for words in FREQUENCY_LISTS.values() for word in words)


@dataclass(frozen=True, kw_only=True)
class PasswordPolicy:
    """At least *length_min* characters; the others say which kinds of characters are required."""

    length_min: int
    uppercase: bool
    lowercase: bool
    number: bool
    symbol: bool

    def violations(self, password: str, about: Sequence[str] = ()) -> list[str]:
        """What to change about *password*, one sentence each; none if it is accepted.

        *about* is what others know of the person: the e-mail address, the names.
        """
        if len(password) > LENGTH_MAX:
            return [f"Use at most {LENGTH_MAX} characters."]
        known = list(_words_about(about))
        return [
            *self._composition(password),
            *_guessable(password, known),
        ]

    def _composition(self, password: str) -> Iterator[str]:
        if len(password) < self.length_min:
            yield f"Use at least {self.length_min} characters."
        if self.uppercase and not any(character.isupper() for character in password):
            yield "Add an upper-case letter."
        if self.lowercase and not any(character.islower() for character in password):
            yield "Add a lower-case letter."
        if self.number and not any(character.isdecimal() for character in password):
            yield "Add a digit."
        if self.symbol and all(character.isalnum() for character in password):
            yield "Add a character that is neither a letter nor a digit."


def _words_about(about: Sequence[str]) -> Iterator[str]:
    for text in about[:ABOUT_MAX]:
        word = text.partition("@")[0].strip().casefold()
        if len(word) >= ABOUT_CHARACTERS_MIN:
            yield word


def _guessable(password: str, known: Sequence[str]) -> Iterator[str]:
    folded = password.casefold()
    if folded in _COMMON:
        yield "Choose another password: this one is among the most common ones."
    elif any(word in folded for word in known):
        yield "Leave your name and your e-mail address out of it."
    elif _score(password, known) < SCORE_MIN:
        yield "Make it harder to guess: add a word or two, avoid repeats, sequences and dates."


def _score(password: str, known: Sequence[str]) -> int:
    text = password[:ESTIMATED_CHARACTERS_MAX]
    if not text:
        # zxcvbn fails on nothing.
        return 0
    readings = 1
    for characters in L33T_TABLE.values():
        readings *= max(1, sum(character in text for character in characters))
    if readings > READINGS_MAX:
        text = _with_one_symbol_for_each_letter(text)
    score: int = zxcvbn(text, known)["score"]
    return score


def _with_one_symbol_for_each_letter(text: str) -> str:
    """*text* with fewer different symbols, which makes it no harder to guess."""
    for characters in L33T_TABLE.values():
        first, *others = [character for character in characters if character in text] or [""]
        for other in others:
            text = text.replace(other, first)
    return text
