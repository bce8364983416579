"""For nbval: progress bars speak every two seconds, not ten times a second.

It listens to a kernel only after a cell has ended. By then a bar that spoke through minutes of
training has filled the channel, and what the cell said last is lost
(findings/nbval_long_progress_bar.sh).
"""

import os

os.environ.setdefault("TQDM_MININTERVAL", "2")  # the kernels inherit it
