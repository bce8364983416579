#!/usr/bin/env bash
# nbval 0.11.0 (seen 2026-11-30, with ipykernel 7.4.0, ipywidgets 8.1.9, tqdm 4.70.1, pytest 9.2.0,
# Linux, Python 3.11): a cell that ends well, but in which a progress bar has told of some thousand
# steps, fails with "Timeout of 5 seconds exceeded waiting for output". nbval listens to the kernel's
# outputs only after the cell's reply; what waits meanwhile is bounded by ZeroMQ's queues, and the
# last message of all, that the kernel is idle, is among those dropped. --nbval-cell-timeout changes
# nothing. A bar that tells of itself once a second (TQDM_MININTERVAL=1) is safe.
#
# Output seen:
#     2,000 steps told: passed
#     40,000 steps told: failed, Timeout of 5 seconds exceeded waiting for output.
#     40,000 steps, told once a second: passed
#
# minildm's notebooks are tested with TQDM_MININTERVAL=2 (notebooks/conftest.py). Takes some
# minutes. Exits 0 while it is so, 1 if it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "nbval==0.11.0" "ipykernel==7.4.0" "ipywidgets==8.1.9" \
    "tqdm==4.70.1" "pytest==9.2.0" "nbformat==5.11.1" "jupyter-client==8.10.0" "pyzmq==27.3.0"
cat >"$folder/notebook.py" <<'PY'
import sys

import nbformat

steps, interval = sys.argv[1:]
cell = f"""
import time

from tqdm.notebook import tqdm

for step in tqdm(range({steps}), mininterval={interval}, miniters=1):
    time.sleep(0.001)
"""
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
nbformat.write(notebook, sys.argv[0].replace("notebook.py", "bar.ipynb"))
PY
told() { # STEPS INTERVAL: does nbval say that the cell passed?
    "$folder/venv/bin/python" "$folder/notebook.py" "$1" "$2"
    "$folder/venv/bin/python" -m pytest -q -p no:cacheprovider --nbval-lax --nbval-current-env \
        --nbval-cell-timeout=600 "$folder/bar.ipynb" >"$folder/log" 2>&1 && echo passed && return
    echo "failed, $(grep -o 'Timeout of 5 seconds exceeded waiting for output.' "$folder/log" | head -1)"
}
few=$(told 2000 0)
echo "2,000 steps told: $few"
many=$(told 40000 0)
echo "40,000 steps told: $many"
seldom=$(told 40000 1)
echo "40,000 steps, told once a second: $seldom"
[ "$few" = passed ] && [[ "$many" == failed,*output. ]] && [ "$seldom" = passed ]
