"""The widgets' JavaScript beside Python: V8 from a wheel, so that no test depends on node or a
browser being there."""

import json
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
from py_mini_racer import MiniRacer

from minildm.widgets.page import script, without_exports

DOCUMENT = Path(__file__).with_name("document.js")


class JavaScript:
    """A file of `minildm/widgets`, its functions called with and returning what JSON can say."""

    def __init__(self, name: str) -> None:
        self.engine = MiniRacer()
        self.engine.eval(without_exports(script(name)))

    def __call__(self, function: str, *arguments: Any) -> Any:
        answer = self.engine.eval(f"JSON.stringify({function}(...{json.dumps(arguments)}))")
        return json.loads(str(answer))


class Page(JavaScript):
    """A widget as a page shows it, without a kernel, in the little document of document.js."""

    def __init__(self, name: str, widget: anywidget.AnyWidget) -> None:
        self.engine = MiniRacer()
        self.engine.eval(DOCUMENT.read_text(encoding="utf-8"))
        source = without_exports(script(name))
        self.engine.eval(source.replace("export default", "globalThis.widget ="))
        traits = {key: value for key, value in widget.get_state().items() if key[0] != "_"}
        numbers = {
            key: np.frombuffer(traits.pop(key), "<f4").tolist()
            for key, value in list(traits.items())
            if isinstance(value, bytes | memoryview)
        }
        plain = {key: value for key, value in traits.items() if is_json(value)}
        self.engine.eval(f"open({json.dumps(plain)}, {json.dumps(numbers)})")

    def seen(self, tag: str) -> list[dict[str, Any]]:
        """What is seen of every element with this tag, in their order."""
        return self("seen", tag)

    def set(self, trait: str, value: Any) -> None:
        """As the kernel does."""
        self.engine.eval(f"model.set({json.dumps(trait)}, {json.dumps(value)})")

    def get(self, trait: str) -> Any:
        return self("((trait) => model.get(trait))", trait)

    def happen(self, tag: str, i: int, event: str, value: Any = None) -> None:
        """As the reader does to element number i with this tag."""
        given = "undefined" if value is None else json.dumps(value)
        self.engine.eval(f"happen({json.dumps(tag)}, {i}, {json.dumps(event)}, {given})")


def is_json(value: Any) -> bool:
    """Can JSON say it?"""
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True
