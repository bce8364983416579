#!/usr/bin/env bash
# torch 2.6.0 (seen 2026-11-30, Linux, Python 3.11, no GPU): taking a default device back with
# torch.set_default_device(None), whose signature allows None, leaves torch.get_default_device()
# broken, of which the documentation says nothing:
#
#     AttributeError: 'NoneType' object has no attribute 'device'
#
# It holds also where no default device was ever set. Factory functions go on working; whoever
# asks does not: transformers 5.6.0's from_pretrained does, and so do diffusers' pipelines that
# load a text encoder through it. torch 2.14.1 answers "cpu".
#
# Output seen:
#     2.6.0: zeros on cpu; get_default_device: AttributeError 'NoneType' object has no attribute 'device'
#
# minildm.device.set_default_device therefore never passes None (tests/test_device.py).
# Downloads about 2.5 GB on Linux. Exits 0 while torch 2.6.0 does as said, 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==2.6.0" "numpy==2.1.0"
"$folder/venv/bin/python" - <<'PY'
import sys

import torch

torch.set_default_device(None)
made = torch.zeros(1).device
try:
    told = f"{torch.get_default_device()}"
except AttributeError as error:
    told = f"AttributeError {error}"
version = torch.__version__.partition("+")[0]
print(f"{version}: zeros on {made}; get_default_device: {told}")
sys.exit(told != "AttributeError 'NoneType' object has no attribute 'device'")
PY
