#!/usr/bin/env bash
# transformers 5.19.0: AutoTokenizer splits a home-made tokenizer anew beside a qwen2 model
#
# A word-level tokenizer with `\boxed{` as one word is saved beside a model's config.
# Expected: AutoTokenizer loads what tokenizer.json says, whatever the model is.
# Happens: with `model_type: qwen2` it makes a Qwen2Tokenizer, whose own rule for splitting text
#   takes the place of the saved one. `\boxed{` never arrives at the vocabulary whole and vanishes
#   from every text: no error, no warning, no unknown token. `llama` and `qwen3` keep the tokenizer.
#
# Seen:
#   llama  TokenizersBackend  [8, 15, 9, 17, 12, 18, 3, 12, 4] '3+4=7;\\boxed{7}'
#   qwen3  TokenizersBackend  [8, 15, 9, 17, 12, 18, 3, 12, 4] '3+4=7;\\boxed{7}'
#   qwen2  Qwen2Tokenizer     [8, 15, 9, 17, 12, 18, 12, 4] '3+4=7;7}'
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
    transformers==5.19.0 anyio==4.16.0 filelock==4.2.12 fsspec==2026.9.0 h11==0.16.0 \
    httpcore2==2.16.2 httpx2==2.16.2 huggingface_hub==2.4.0 idna==3.20 numpy==2.3.5 \
    packaging==26.3 PyYAML==6.0.3 regex==2026.11.15 safetensors==0.8.0 sniffio==1.3.1 \
    tokenizers==0.23.3 tqdm==4.70.1 truststore==0.10.5 typing_extensions==4.16.0
cd "$work"
TMPDIR=$work XDG_CACHE_HOME=$work HF_HUB_OFFLINE=1 venv/bin/python - <<'EOF'
import sys

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast

words = ["<pad>", "<unk>", "<eos>", r"\boxed{", "}", *"0123456789+-=;"]
inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"\\boxed\{|."), "isolated")
inner.decoder = decoders.Fuse()
home_made = PreTrainedTokenizerFast(
    tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>", eos_token="<eos>"
)
text = r"3+4=7;\boxed{7}"
decoded = {}
for kind in ("llama", "qwen3", "qwen2"):
    AutoConfig.for_model(kind, vocab_size=32).save_pretrained(kind)
    home_made.save_pretrained(kind)
    loaded = AutoTokenizer.from_pretrained(kind)
    ids = loaded.encode(text)
    decoded[kind] = loaded.decode(ids)
    print(f"{kind:6} {type(loaded).__name__:18} {ids} {decoded[kind]!r}")
if not (decoded["llama"] == decoded["qwen3"] == text and decoded["qwen2"] == "3+4=7;7}"):
    sys.exit("changed: not what the head of this script states")
EOF
