"""A run from configuration to trained model: checked, its folder locked, and then done.

from oapl import RunConfig
from deploy.run.program import train
outcome = train(RunConfig(model={"path": "my-model"}, ...))
"""

from __future__ import annotations

from deploy.checks import evaluation as evaluation_checks
from deploy.checks.preflight import preflight
from deploy.run import evaluating, folders, restarts, stages, storage, training
from deploy.run.attempts import Attempts
from deploy.run.loops import run_alone
from deploy.run.outcome import RunOutcome, earlier_outcome
from learner.checkpoints import resuming
from oapl.config import RunConfig
from oapl.tracking.restarts import RestartLog
from reward_server import settings as reward_settings


def train(config: RunConfig) -> RunOutcome:
    """Train by reinforcement learning, or by imitation when the objective samples nothing; where
    there are stages, one after the other.

    Raises:
        InputError: The configuration cannot work; nothing was started.
        OaplError: The run failed; its last checkpoint is good.
    """
    if config.is_staged:
        return stages.run(config)
    report = preflight(config)
    with storage.named(config.folder), folders.locked(config.folder):
        config = folders.prepare(config)
        resume = resuming.resume_from(config)
        if earlier := earlier_outcome(config, resume):
            return earlier
        attempts = Attempts(
            restarts=restarts.of_the_run(config),
            record=RestartLog(config.folder).add,
            resume=resume,
            setting=config.checkpoint.resume,
            trials=report.trials,
        )
        return run_alone(training.train(reward_settings.prepare(config), attempts, report.notes))


def evaluate(config: RunConfig) -> RunOutcome:
    """Evaluate the model at `model.path` on `eval.sources`; nothing is trained.

    Raises:
        InputError: The configuration cannot work, or names no evaluation set.
        OaplError: The evaluation failed.
    """
    config = evaluation_checks.evaluating(config)
    trials = preflight(config, purpose="evaluate").trials
    with storage.named(config.folder), folders.locked(config.folder):
        config = folders.prepare_evaluation(config)
        return run_alone(evaluating.evaluate(reward_settings.prepare(config), trials))
