"""The text of a compiled program, as computations that call one another."""

import re
from collections.abc import Callable, Iterable

CALLED = r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%([\w.-]+)"


def computations(text: str) -> dict[str, str]:
    return {found[1]: found[0] for found in re.finditer(r"^(?:ENTRY )?%([\w.-]+) \(.*?^}", text, re.M | re.S)}


def called(line: str) -> list[str]:
    branches = re.findall(r"branch_computations=\{(.*?)\}", line)
    return re.findall(CALLED, line) + [name.strip().lstrip("%") for b in branches for name in b.split(",")]


def lines_from(text: str, start: Iterable[str], follow: Callable[[str], bool] = lambda line: True) -> list[str]:
    """The lines of some computations and of those they call, but for what is called on a line not to follow."""
    blocks, waiting = computations(text), list(start)
    seen, found = set(waiting), []
    while waiting:
        for line in blocks[waiting.pop()].splitlines():
            found.append(line)
            new = set(called(line)) - seen if follow(line) else set()
            waiting += new
            seen |= new
    return found


def entry(text: str) -> list[str]:
    return [name for name, block in computations(text).items() if block.startswith("ENTRY")]


def loops(text: str) -> set[str]:
    return set(re.findall(r"body=%([\w.-]+)", text))


KINDS = "all-reduce|all-gather|all-to-all|collective-permute|collective-broadcast|reduce-scatter"


def messages(text: str, start: Iterable[str] | None = None) -> list[str]:
    """The lines on which devices talk, of some computations and what they call."""
    lines = lines_from(text, entry(text) if start is None else start)
    return [line for line in lines if re.search(rf" (?:{KINDS})(?:-start)?\(", line)]


def kind(message: str) -> str:
    return re.findall(rf" ({KINDS})(?:-start)?\(", message)[0]
