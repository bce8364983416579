"""For the tests of widgets: what a page would show, and what the kernel answers it."""

import base64
import io

import numpy as np
from PIL import Image


def decoded(address: str) -> np.ndarray:
    """The pixels of a picture that travels in its address, (H, W) or (H, W, 3) in 0 to 255."""
    start, data = address.split(",")
    assert start == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def heard(widget, monkeypatch, message) -> list:
    """What the kernel sends back when the page sends `message`."""
    sent = []
    monkeypatch.setattr(widget, "send", lambda content, buffers=None: sent.append(content))
    widget._handle_custom_msg(message, [])
    return sent
