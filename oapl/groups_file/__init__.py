"""Stored groups: what was sampled once, in a form that anything can be trained from.

A set is a folder of `groups-00000.parquet`, `groups-00001.parquet` and so on, a row per rollout,
with token ids and log-probs as they were sampled. One schema serves writer and reader: `record`
says what a group holds, `rows` how it becomes rows and back, `shards` how files are written and
read.
"""

from oapl.groups_file.record import FORMAT, Header, Logprobs, MadeBy, StoredGroup
from oapl.groups_file.shards import (
    Writer,
    header,
    ids,
    is_set,
    read,
    read_shard,
    rewards,
    shards,
    write_shard,
)

__all__ = [
    "FORMAT",
    "Header",
    "Logprobs",
    "MadeBy",
    "StoredGroup",
    "Writer",
    "header",
    "ids",
    "is_set",
    "read",
    "read_shard",
    "rewards",
    "shards",
    "write_shard",
]
