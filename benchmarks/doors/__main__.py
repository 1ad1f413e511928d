"""Every medium, in every shape, through every door: `python -m benchmarks.doors` prints a table in Markdown.

A cell counts the requests that were guarded and those that were refused. A request is unguarded if bytes of the
original reach the model, or LiteLLM, in any encoding; or if it is answered although no medium was found in it. The
benchmark fails if one is.
"""

from __future__ import annotations

import argparse
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal

from langchain_core.messages import BaseMessage
from starlette.testclient import TestClient

from benchmarks.doors.files import File, files
from benchmarks.doors.shapes import DOORS, MODEL, Door
from smoothguard_guardrail import SmoothGuardConfig, SmoothGuardRunnable
from smoothguard_guardrail.serving import ServerSettings, create_app
from smoothguard_guardrail.testing import ScriptedChatModel

Ending = Literal["guarded", "refused", "unguarded"]


class Listener:
    """A server whose model notes what it is sent."""

    def __init__(self) -> None:
        self.model = ScriptedChatModel(script=["A grey rectangle."])
        guard = SmoothGuardRunnable(self.model, SmoothGuardConfig(num_samples=2, early_stop=None))
        self.app = create_app({MODEL: guard}, settings=ServerSettings(record="full"))

    def send(self, http: TestClient, door: Door, body: dict[str, Any], file: File) -> Ending:
        """Send a request, and say how it ended."""
        self.model.received.clear()
        answer = http.post(door.path, json=body)
        changed = answer.text if "action" in answer.json() else ""  # LiteLLM sends it on; others may echo a request
        if holds([*self.model.received, changed], file):
            return "unguarded"
        if answer.status_code == 200:
            return _ending(answer.json())
        if 400 <= answer.status_code < 500 and not self.model.received:
            return "refused"
        raise RuntimeError(f"{door.path} answered {answer.status_code}: {answer.text[:200]}")


def _ending(answer: dict[str, Any]) -> Ending:
    """Read what the guard says that it did."""
    if "action" in answer:
        actions: dict[str, Ending] = {"BLOCKED": "refused", "GUARDRAIL_INTERVENED": "guarded"}
        return actions.get(answer["action"], "unguarded")
    record = answer.get("smoothguard")
    if record is None:  # LangServe's
        if isinstance(answer["output"], str):  # a form answers with text alone
            return "guarded"
        record = answer["output"]["response_metadata"]["smoothguard"]
    done = {medium["action"] for medium in record["media"]}
    return "guarded" if done == {"perturbed"} else "unguarded"


def holds(seen: Any, file: File) -> bool:
    """Return whether something holds the middle of a file: as bytes, as text, or as base64 at any offset."""
    middle = file.data[len(file.data) // 4 : -len(file.data) // 4 or None]
    needles = [middle] + [b64encode(middle[start:])[4:-4] for start in range(3)]
    haystack = _joined(_flatten(seen))
    return any(needle and _joined(needle) in haystack for needle in needles)


def _joined(text: bytes) -> bytes:
    """Return bytes without line ends, also those that JSON wrote: base64 may be broken into lines."""
    return text.replace(b"\\n", b"").replace(b"\n", b"")


def _flatten(node: Any) -> bytes:
    if isinstance(node, BaseMessage):
        return _flatten(node.__dict__)
    if isinstance(node, dict):
        return b"\0".join(_flatten(part) for item in node.items() for part in item)
    if isinstance(node, (list, tuple)):
        return b"\0".join(map(_flatten, node))
    return node if isinstance(node, bytes) else str(node).encode()


def run(doors: Iterable[Door] = DOORS, media: Iterable[File] | None = None) -> dict[tuple[str, str], Counter[Ending]]:
    """Send every file through every door; return how the requests ended, by file and door."""
    listener = Listener()
    found: dict[tuple[str, str], Counter[Ending]] = {}
    with TestClient(listener.app, base_url="http://localhost") as http:
        for file in files() if media is None else media:
            for door in doors:
                endings: Counter[Ending] = Counter()
                for name, body in door.requests(file):
                    ending = listener.send(http, door, body, file)
                    endings[ending] += 1
                    if ending == "unguarded":
                        print(f"UNGUARDED  {name}")
                found[file.name, door.name] = endings
    return found


def table(found: dict[tuple[str, str], Counter[Ending]]) -> str:
    """Return a Markdown table: guarded + refused, by file and door; files with the same counts share a row."""
    names, doors = (list(dict.fromkeys(keys)) for keys in zip(*found, strict=True))
    rows: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        endings = [found[name, door] for door in doors]
        rows.setdefault(tuple(f"{each['guarded']} + {each['refused']}" for each in endings), []).append(name)
    lines = [f"| medium | {' | '.join(doors)} |", f"|---|{'---|' * len(doors)}"]
    lines += [f"| {', '.join(alike)} | {' | '.join(cells)} |" for cells, alike in rows.items()]
    total = sum(found.values(), Counter())
    counts = ", ".join(f"{total[ending]:,} {ending}" for ending in ("guarded", "refused", "unguarded"))
    return "\n".join([*lines, "", f"{total.total():,} requests: {counts}."])


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="Every medium, in every shape, through every door of the server.")
    parser.add_argument("--medium", action="append", help="a file's name, such as pdf; by default all")
    parser.add_argument("--door", action="append", help="a door's name, such as messages; by default all")
    given = parser.parse_args()
    found = run(
        [door for door in DOORS if not given.door or door.name in given.door],
        [file for file in files() if not given.medium or file.name in given.medium],
    )
    print(table(found))
    if any(endings["unguarded"] for endings in found.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
