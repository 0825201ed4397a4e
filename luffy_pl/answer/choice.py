r"""The letter of a multiple choice that a text claims.

A letter counts where it is marked (`(C)`, `**C**`, `\text{C}`, `C.`, `C:`) or said (`option C`,
`so C.`), not where it is a word (`A gas expands`, `I think`) or a symbol (`E = mc^2`). Two letters
that are both claimed (`B/C`, `A and C`) are none, and so is one that is denied (`not C`).
"""

# ruff: noqa: RUF001 (signs that look like others are the subject)
from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST_CLAIM = 300
"""Characters of a claim that are looked at."""

_L = r"([A-Ja-j])"
_UPPER = r"([A-J])"
_MARKED = re.compile(
    rf"\\(?:text\w*|math(?:rm|bf|sf|it)|boxed|fbox|bf|rm|it)\s*\{{?\s*[(\[]?{_UPPER}[)\]]?\s*[.:)]?\s*\}}"
    rf"|\\(?:bf|rm|it)\s+{_UPPER}(?![A-Za-z])"
    rf"|\*\*\s*[(\[]?{_UPPER}[)\]]?[.:)]?\s*\*\*|(?<!\*)\*[(\[]?{_UPPER}[)\]]?[.:)]?\*(?!\*)|__{_UPPER}__"
    rf"|[`\"'“‘<\[{{$]\s*[(\[]?{_UPPER}[)\]]?\s*[`\"'”’>\]}}$]|\\\(\s*\(?{_UPPER}\)?\s*\\\)"
)
_DECORATION = re.compile(
    r"\\(?:text\w*|math(?:rm|bf|sf|it)|boxed|fbox|bf|rm|it"
    r"|large|Large|LARGE|huge|Huge)(?![A-Za-z])"
    r"|\\[()\[\],;:! ]|~|\*(?!\s*\d)|[_`$\"“”{}#>]"
)
_NAMED = r"(?:options?|choices?|answers?|letter)"
_LEAD = re.compile(
    rf"^(?:(?:so|thus|hence|therefore)\b,?\s*)?(?:the\s+)?(?:(?:final|correct|right|best)\s+)?{_NAMED}\s*"
    r"(?:is\b|[:：=])?\s*[:：]?\s*(?=\W?[A-Ja-j]\b)",
    re.IGNORECASE,
)
_HEAD = re.compile(
    rf"\({_L}\)|{_L}(?=$|[),;，。、：](?!\d)|[.:](?:\s|$|[^\W\d_]{{2}}))"
    rf"|{_UPPER}(?=\s+[-–—]\s*.*[A-Za-z]{{3}}|\s*[–—]|\s+[(\[])"
    rf"|{_UPPER}(?=\s+(?:is\b|because\b|since\b|as\b))"
)
_SAID = re.compile(
    rf"\b(?:{_NAMED}(?:\s+is)?|so|is|be|think|choose|pick|select|therefore|thus|hence)[,:]?\s+\(?{_UPPER}\)?"
    r"(?=[.):;,!]*\s*$|[.):,;]+\s)",
    re.IGNORECASE,
)
_CORRECT = re.compile(
    rf"(?<![A-Za-z]){_UPPER}\)?\s+is\s+(?:the\s+)?(?:only\s+)?(?:correct|right|best|true)\b"
)
_ALSO = re.compile(
    r"^\)?\s*(?:(?:,?\s*(?:and|or)\b|[/&+、]|和|或)\s*(?:option\s+)?\(?[A-J]\)?(?![A-Za-z'])"
    r"|[,;]\s*\(?[A-J]\)?(?=\W|$)(?!'|\s+[a-z]{2}))"
    r"|^[^.;]*(?<![A-J)])\s\(?or\s+(?:possibly |maybe |perhaps |even )?\(?[A-J]\)?(?![A-Za-z'])"
)
_OPERATOR = re.compile(
    r"\s*(?:\\(?:cdot|times|div|pm|frac|sqrt|cup|cap|in)(?![A-Za-z])|[*/^_=+<>])"
)
_SPOKEN_OF = re.compile(
    r"\)?\s+(?:is|was)\b(?!\s+(?:the\s+)?(?:correct|right|best|only|answer|true))"
)
_RULED_OUT = re.compile(
    r",?\s*\(?\b(?:and not|not|rather than|instead of)\s+(?:options?\s+)?\(?[A-J]\)?(?![A-Za-z])\)?"
    r"(?:(?:,| or| and| nor|/)+\s*\(?[A-J]\)?(?![A-Za-z]))*"
)
_OTHER_MARK = re.compile(rf"\({_UPPER}\)|(?<![A-Za-z]){_UPPER}[.):](?=\s|$)")
_DENIED = re.compile(
    r"\b(?:not|cannot|neither|never|except|incorrect|wrong|unlikely)\b|n't\b", re.I
)
_GOLD = re.compile(
    rf"\\text\{{ ?\(?{_UPPER}[).:]? ?\}} ?(?P<wrapped>.*)|\({_UPPER}\) ?(?P<round>.*)"
    rf"|\\text\{{ ?\(?{_UPPER}[).:]\)? (?P<inner>[^{{}}]*)\}}|{_UPPER}(?:[.)] (?P<dotted>\S.*)|)",
    re.DOTALL,
)
_STARTS_TEXT = re.compile(r"[-\w(\[$.]|\\(?:frac|sqrt|text|pi|\$|\{|begin)")


@dataclass(frozen=True)
class Claim:
    """`letter` is "" if the text claims no letter; `several`: it claims more than one."""

    letter: str = ""
    several: bool = False


@dataclass(frozen=True)
class GoldChoice:
    """A gold that is an option: its letter, and what the option says ("" if only the letter).

    `is_marked`: it is written as an option, `(C)`; `C` alone may also be a variable.
    """

    letter: str
    text: str
    is_marked: bool = True


def read_claim(text: str) -> Claim:
    """What `text`, the content of a box or the words behind `Answer:`, claims."""
    plain = _plain(text[:LONGEST_CLAIM])
    plain = _LEAD.sub("", plain, count=1)
    if match := _HEAD.match(plain):
        letter = next(group for group in match.groups() if group)
        rest = plain[match.end() :]
        if _is_word(letter, plain, match.end()):
            return Claim()
        if _ALSO.match(rest) or _OTHER_MARK.search(rest):
            return Claim(several=True)
        if _OPERATOR.match(rest) or _SPOKEN_OF.match(rest):
            return Claim()
        return Claim(letter.upper())
    if re.match(rf"\(?{_UPPER}\)?\s*(?:/|,|\bor\b|\band\b|&|、)\s*\(?{_UPPER}\b", plain):
        return Claim(several=True)
    return _read_sentence(plain)


def read_option(plain: str) -> GoldChoice | None:
    r"""`C`, `\text{(C)}`, `\text{(B)} 12` and `B. 12`; a lower-case letter is a variable."""
    match = _GOLD.fullmatch(plain)
    if match is None:
        return None
    letter = next(
        group for group in match.groups() if group and len(group) == 1 and group.isalpha()
    )
    found = match.groupdict()
    text = next(
        (found[name] for name in ("wrapped", "round", "inner", "dotted") if found[name]), ""
    )
    if text and not _STARTS_TEXT.match(text):
        return None
    return GoldChoice(letter, text.strip(), is_marked=plain != letter)


def _plain(text: str) -> str:
    """Every marked letter as `(C)`, and no other decoration."""
    marked = _MARKED.sub(lambda m: f" ({next(g for g in m.groups() if g)}) ", text)
    plain = re.sub(r"\s+", " ", _RULED_OUT.sub("", _DECORATION.sub(" ", marked))).strip()
    return re.sub(r"\(\s+", "(", re.sub(r"\s+([).,:;])", r"\1", plain))


def _is_word(letter: str, plain: str, end: int) -> bool:
    """A lower-case letter with words behind it, unless it is marked, is none."""
    return (
        letter.islower()
        and plain[:1] != "("
        and bool(re.match(r"[.):]?\s*\w", plain[end:]))
        and (plain[end : end + 1] not in ".):")
    )


def _read_sentence(plain: str) -> Claim:
    sentence = plain.partition("\n")[0]
    if _DENIED.search(sentence):
        return Claim()
    found = list(_SAID.finditer(sentence)) or list(_CORRECT.finditer(sentence))
    if not found:
        return Claim()
    last = found[-1]
    around = sentence[: last.start(1)].rstrip("( ")
    if re.search(r"\b[A-J]\)?\s*(?:,|/|\band|\bor|&)$", around) or _ALSO.match(
        sentence[last.end(1) :]
    ):
        return Claim(several=True)
    return Claim(last[1].upper())
