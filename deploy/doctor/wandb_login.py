"""Where W&B would keep a run."""

from __future__ import annotations

import os
from collections.abc import Iterator

from deploy.doctor.finding import Finding
from oapl.tracking.wandb_sink import wandb_mode

AREA = "services"


def look() -> Iterator[Finding]:
    """Look at login and environment, as a run with `tracking.wandb = "auto"` would."""
    mode = wandb_mode("auto")
    where = {
        "online": "logged in: runs are uploaded",
        "offline": "nobody is logged in: runs are kept offline, in the run folder"
        if not os.environ.get("WANDB_MODE")
        else "offline by WANDB_MODE",
        "off": "off by WANDB_MODE",
    }[mode]
    hint = "" if mode == "online" else "; `wandb login` changes that" if mode == "offline" else ""
    yield Finding(area=AREA, name="W&B", found=where + hint)
