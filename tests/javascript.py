"""The widgets' JavaScript beside Python: V8 from a wheel, so that no test depends on node or a
browser being there."""

import json
from typing import Any

from py_mini_racer import MiniRacer

from minildm.widgets.page import script, without_exports


class JavaScript:
    """A file of `minildm/widgets`, its functions called with and returning what JSON can say."""

    def __init__(self, name: str) -> None:
        self.engine = MiniRacer()
        self.engine.eval(without_exports(script(name)))

    def __call__(self, function: str, *arguments: Any) -> Any:
        answer = self.engine.eval(f"JSON.stringify({function}(...{json.dumps(arguments)}))")
        return json.loads(str(answer))
