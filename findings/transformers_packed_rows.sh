#!/usr/bin/env bash
# transformers 5.19.0 (torch 2.13.0): packed sequences attend across their borders, silently
#
# Several sequences lie in one row and `position_ids` start again at 0 with each. The model then
# keeps them apart, but only while `attention_mask` is None and no cache is made.
# Expected: a mask of ones says "no padding", and a cache that nobody reads changes nothing, so the
#   log-probs stay those of each sequence alone; or an error.
# Happens: with either of the two the border is gone, in train() too, and without a warning.
#   `use_cache` is True unless the call or the model's config says otherwise.
#
# Seen: nats per token between packed and alone, three sequences, random weights
#   mask None, use_cache=False       mean 0.0000 max 0.0000
#   mask None, use_cache left alone  mean 0.8755 max 3.7878
#   mask of ones, use_cache=False    mean 0.8755 max 3.7878
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
pip=("$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check)
"${pip[@]}" torch==2.13.0
"${pip[@]}" --no-deps transformers==5.19.0 anyio==4.16.0 filelock==4.2.12 fsspec==2026.9.0 \
    h11==0.16.0 httpcore2==2.16.2 httpx2==2.16.2 huggingface_hub==2.4.0 idna==3.20 numpy==2.3.5 \
    packaging==26.3 PyYAML==6.0.3 regex==2026.11.15 safetensors==0.8.0 sniffio==1.3.1 \
    tokenizers==0.23.3 tqdm==4.70.1 truststore==0.10.5 typing_extensions==4.16.0
cd "$work"
TMPDIR=$work XDG_CACHE_HOME=$work HF_HUB_OFFLINE=1 venv/bin/python - <<'EOF'
import sys

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

torch.manual_seed(0)
model = Qwen2ForCausalLM(
    Qwen2Config(
        vocab_size=128, hidden_size=128, intermediate_size=256, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=4, initializer_range=0.1,
    )
).train()  # no dropout in it
sequences = [torch.randint(3, 128, (length,)) for length in (11, 23, 17)]
row = torch.cat(sequences)[None]
positions = torch.cat([torch.arange(len(s)) for s in sequences])[None]


def score(logits, tokens):
    return logits[:-1].log_softmax(-1).gather(1, tokens[1:, None])[:, 0]


def packed(**options):
    with torch.no_grad():
        logits = model(input_ids=row, position_ids=positions, **options).logits[0]
    pieces = logits.split([len(s) for s in sequences])
    return torch.cat([score(piece, s) for piece, s in zip(pieces, sequences)])


with torch.no_grad():
    alone = torch.cat([score(model(input_ids=s[None]).logits[0], s) for s in sequences])
errors = []
for name, options in {
    "mask None, use_cache=False": dict(use_cache=False),
    "mask None, use_cache left alone": {},
    "mask of ones, use_cache=False": dict(attention_mask=torch.ones_like(row), use_cache=False),
}.items():
    errors.append((packed(**options) - alone).abs())
    print(f"{name:32} mean {errors[-1].mean():.4f} max {errors[-1].max():.4f}")
right, cached, ones = errors
if not (right.max() < 1e-4 and cached.mean() > 0.1 and ones.mean() > 0.1):
    sys.exit("changed: not what the head of this script states")
EOF
