"""vLLM's own weight-transfer interface, and what a vLLM worker must do beside it.

Imported only where vLLM is; vLLM imports it in each of its workers, in whatever process (see
`EXTENSION`). A worker is handed tensors where it lives in the host's process; else they come
through the host, by `actors.engines._vllm.shared_memory`, or it fetches them from the learner.

Start, update and finish are vLLM's layerwise reload: each layer is loaded under its Hugging Face
names, then processed for its kernels. After that two kinds of layer are packed again for vLLM's CPU
kernels. A tied `lm_head`: they keep a packed copy of it, the reload packs only layers that receive
a tensor, and a tied head receives none, so it would go on answering with the *first* weights (mean
error 0.04 to 0.08 nats, no message). Experts: they lie unpacked after a reload (0.7 nats).

One class serves vLLM 0.23, whose worker does the layerwise reload itself and hands in
`load_weights`, and 0.25 and later, where the engine does all three.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)

from actors.engines._vllm import models, shared_memory
from oapl.errors import WeightsError
from oapl.weights.base import Tensors
from oapl.weights.collective import Intake

BACKEND = "oapl"
EXTENSION = "actors.engines._vllm.weights.WorkerExtension"
SETTLE = "settle_publication"
"""The extension's method; called in all workers after each load."""


def register() -> None:
    """Make the backend known in this process; a second call changes nothing."""
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    if BACKEND not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(BACKEND, PublicationEngine)


@dataclass
class PublicationInit(WeightTransferInitInfo):
    """Nothing: who fetches is told from where with each chunk."""


@dataclass
class PublicationUpdate(WeightTransferUpdateInfo):
    """A part of a publication: the tensors themselves, the address of a segment of memory, or the
    oldest chunk that was fetched."""

    tensors: Tensors | None = None
    address: Mapping[str, Any] | None = None
    is_fetched: bool = False


class PublicationEngine(WeightTransferEngine):
    """Loads the tensors it is handed, or has fetched. Lives in the vLLM worker."""

    init_info_cls = PublicationInit
    update_info_cls = PublicationUpdate
    supports_draft_weight_update = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._intake = Intake()
        self._fetched: deque[Tensors] = deque()

    def init_transfer_engine(self, init_info: PublicationInit) -> None:
        """Do nothing: there is no connection to make. See vLLM's `WeightTransferEngine`."""

    def start_weight_update(self) -> None:
        """Begin the layerwise reload. See vLLM's `WeightTransferEngine`."""
        from vllm.model_executor.model_loader.reload import initialize_layerwise_reload

        initialize_layerwise_reload(self.model)

    def fetch(self, offered: Mapping[str, Any]) -> None:
        """Fetch a chunk from the learner and hold it until it is loaded; touches no model.

        Args:
            offered: As `oapl.weights.collective.Intake.fetch` takes it. With the first chunk of a
                publication goes what is left of another.

        Raises:
            WeightsError: It did not come, or is not what was sent.
        """
        if offered["offer"]["number"] == 0:
            self._fetched.clear()
        self._fetched.append(self._intake.fetch(offered))

    def receive_weights(self, update_info: PublicationUpdate, load_weights: Any = None) -> None:
        """Load a part of a publication into the model.

        Args:
            update_info: Its tensors, where they lie, or that they were fetched.
            load_weights: How the model takes them in, where vLLM hands it in (0.23).
        """
        load = load_weights or self.model.load_weights
        if update_info.is_fetched:
            load(self._fetched.popleft())
        else:
            load(update_info.tensors or shared_memory.read(update_info.address or {}))

    def finish_weight_update(self) -> None:
        """End the layerwise reload. See vLLM's `WeightTransferEngine`."""
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

        finalize_layerwise_reload(self.model, self.model_config)

    def shutdown(self) -> None:
        """Give up a publication that was begun. See vLLM's `WeightTransferEngine`."""
        self._intake.leave()

    @staticmethod
    def trainer_send_weights(iterator: Any, trainer_args: Any) -> None:
        """Refuse: the transports have senders of their own, but vLLM 0.23 demands it of a class.

        Args:
            iterator: vLLM's; not looked at, nor is `trainer_args`.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("weights are published through oapl.weights")


class WorkerExtension:
    """Methods that vLLM adds to its worker class."""

    model_runner: Any
    weight_transfer_engine: PublicationEngine

    def fetch_chunk(self, offered: Mapping[str, Any]) -> str | None:
        """Fetch a chunk (`PublicationEngine.fetch`). An error's text is returned, since vLLM would
        wrap the error.
        """
        try:
            self.weight_transfer_engine.fetch(offered)
        except WeightsError as error:
            return str(error)
        return None

    def settle_publication(self, may_hold_nan: bool) -> None:
        """Pack tied heads and experts again, and empty a KV cache that may hold NaN: such a block
        keeps answering NaN, whatever weights come later.
        """
        models.repack_tied_heads(self.model_runner.model)
        models.repack_experts(self.model_runner.model)
        if may_hold_nan:
            _zero(self.model_runner.kv_caches)


def _zero(caches: Any) -> None:
    """A tensor per layer, or on some devices one for keys and one for values."""
    if hasattr(caches, "zero_"):
        caches.zero_()
    else:
        for cache in caches:
            _zero(cache)


register()  # vLLM imports the extension, and so this module, before it makes the engine
