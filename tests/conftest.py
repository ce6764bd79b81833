"""The environment of every test, set before torch is imported anywhere."""

import os

os.environ.update(
    TORCHDYNAMO_DISABLE="1",  # vLLM's token-rank kernel would be compiled for 20 s
    VLLM_ENABLE_V1_MULTIPROCESSING="0",
    VLLM_LOGGING_LEVEL="ERROR",
    VLLM_NO_USAGE_STATS="1",
    OMP_NUM_THREADS="1",
    HF_HUB_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
    DS_ACCELERATOR="cpu",  # else its import warns that there is no GPU
)
