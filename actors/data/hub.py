"""Whether models and data sets that are no folders can be fetched: a hub is asked once.

Invariant: of a hub that does not answer one hears within `ANSWER_S`; its own client tries five
times per file, half a minute in all.
"""

from __future__ import annotations

import functools
import logging
import os
from pathlib import Path

from oapl.errors import first_line
from oapl.remote.waiting import call_within

ANSWER_S = 5.0
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
"""For what is imported, and for processes that are started, from then on."""

log = logging.getLogger(__name__)


def ask_for(name: str) -> None:
    """Before something is loaded by its name: take it from the cache where no hub answers.

    Args:
        name: Of a model or a data set; of a folder nobody is asked for.
    """
    if not Path(name).expanduser().exists():
        _ask()


@functools.cache
def _ask() -> None:
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.HF_HUB_OFFLINE:  # as the user has asked for
        return
    hub = constants.ENDPOINT
    try:
        call_within(ANSWER_S, lambda: get_session().head(hub, timeout=ANSWER_S), f"{hub} to answer")
    except Exception as error:  # noqa: BLE001 - of whichever library it speaks HTTP with
        log.warning(
            "%s does not answer (%s); what is no folder is taken from its cache, or refused",
            hub,
            first_line(error),
        )
        constants.HF_HUB_OFFLINE = True
        os.environ.update(OFFLINE)
