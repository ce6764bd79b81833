"""What a run will use, counted before anything is loaded: memory by part, rollouts, bytes sent.

Pure arithmetic from a configuration and a model's shape to records; nothing is started, and no
weight is read. `shape` says what is counted, `learner_memory`, `engine_memory` and `publication`
count, `machines` says whether it fits and `remedies` which setting would make it fit, found by
counting again; `report` puts all of it together. Figures hold for decoders of the Llama kind
(Llama, Qwen2, Qwen3, Mistral): others come out low.
"""
