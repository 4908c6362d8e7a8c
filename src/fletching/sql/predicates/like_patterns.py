"""Patterns of LIKE: ``%`` for any text, ``_`` for any character, an escape before either."""

from __future__ import annotations

import dataclasses

import pyarrow.compute as pc

from fletching.errors import InvalidArgumentError

__all__ = ["LikePattern"]


@dataclasses.dataclass(frozen=True, slots=True)
class LikePattern:
    """A pattern whose escapes have been read.

    Attributes:
        pieces: (character, whether it stands for others) pairs.
    """

    pieces: tuple[tuple[str, bool], ...]

    @classmethod
    def parse(cls, text: str, escape: object = "\\") -> LikePattern:
        """Reads a pattern; a character behind the escape stands for itself.

        Raises:
            InvalidArgumentError: the escape is not one character, or ends the pattern.
        """
        if not isinstance(escape, str) or len(escape) != 1:
            raise InvalidArgumentError("ESCAPE takes one character")
        if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
            raise InvalidArgumentError("a text of the filter is not valid Unicode")
        parts: list[tuple[str, bool]] = []
        characters = iter(text)
        for character in characters:
            if character == escape:
                escaped = next(characters, "")
                if not escaped:
                    raise InvalidArgumentError(
                        f"the pattern {text[:60]!r} ends with its escape {escape!r}"
                    )
                parts.append((escaped, False))
            else:
                parts.append((character, character in "%_"))
        return cls(tuple(parts))

    @property
    def prefix(self) -> str:
        """What a match must begin with."""
        prefix: list[str] = []
        for character, wild in self.pieces:
            if wild:
                break
            prefix.append(character)
        return "".join(prefix)

    def matches(self, text: pc.Expression) -> pc.Expression:
        """Whether a text matches, as a pyarrow expression; null for null.

        Not Arrow's own LIKE, which misses texts whose pattern is ``%`` before an escaped backslash.
        """
        form = "".join("%_"[character == "_"] if wild else "x" for character, wild in self.pieces)
        fixed = "".join(character for character, wild in self.pieces if not wild)
        plain = form.strip("%")
        if "%" not in plain and "_" not in plain and "%%" not in form:
            match form.startswith("%"), form.endswith("%"):
                case False, False:
                    return pc.equal(text, pc.scalar(fixed))
                case False, True:
                    return pc.starts_with(text, fixed)
                case True, False:
                    return pc.ends_with(text, fixed)
                case _ if plain:
                    return pc.match_substring(text, fixed)
        return pc.match_substring_regex(text, self._regex)

    @property
    def _regex(self) -> str:
        """The pattern in RE2's syntax."""
        wild = {"%": ".*", "_": "."}
        made = [
            wild[character] if stands else "\\" * (character in _SPECIAL) + character
            for character, stands in self.pieces
        ]
        return "(?s)\\A" + "".join(made) + "\\z"


_SPECIAL = frozenset(".^$*+?{}[]|()\\")
