"""The table of metric names: what each number means, and its unit.

Invariant: a number under one of these names means the same in every run. `{SET}`, `{VERIFIER}` and
the like stand for one part of a name, `@n` and `@k` for a number; a name in `_*` stands for four:
`_mean`, `_std`, `_min`, `_max`. The x axis of all of them is the learner step.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

STEP = "step"


@dataclass(frozen=True, slots=True)
class Metric:
    """What a number means, in one line, and its unit (empty for a bare number)."""

    meaning: str
    unit: str = ""


METRICS: dict[str, Metric] = {
    "loss/{TERM}": Metric("mean over the global batch's rollouts of one term of the loss"),
    "loss/sign": Metric("1 or -1: sign of the policy's term of the loss, or of all of it"),
    "policy/entropy": Metric("mean entropy of the policy on response tokens", "nats"),
    "policy/reference_kl": Metric("k3 of the policy from the reference, mean of tokens", "nats"),
    "policy/previous_kl": Metric("k3 of the policy from that before the last iteration", "nats"),
    "policy/entropy_coefficient": Metric("weight of the entropy bonus in this step"),
    "reference/resets": Metric("the reference was set anew before this step", "resets"),
    "grpo/advantage_*": Metric("advantage of the batch's rollouts"),
    "grpo/ratio_*": Metric("policy over the policy that it is compared with, per token"),
    "grpo/clipped_rate": Metric("share of tokens whose gradient a bound took away"),
    "grpo/importance_*": Metric("proximal policy over the sampler, what is taken out as 0"),
    "grpo/importance_ess": Metric("effective sample size of these weights, as a share"),
    "grpo/masked_rate": Metric("share of tokens that were taken out of the loss"),
    "ppo/advantage_*": Metric("advantage of the batch's tokens, whitened where so set"),
    "ppo/ratio_*": Metric("policy over that before the iteration, per token"),
    "ppo/clipped_rate": Metric("share of tokens whose gradient a bound took away"),
    "critic/return_*": Metric("what the critic's values shall become", "reward"),
    "critic/squared_error": Metric("mean square of return less value", "reward^2"),
    "critic/clipped_rate": Metric("share of tokens whose value moved beyond its clip"),
    "remix/advantage_*": Metric("advantage of the batch's tokens, whitened where so set"),
    "remix/ratio_*": Metric("policy over the one that a token counts as drawn from"),
    "remix/centre_*": Metric("that ratio of history before the iteration's first update"),
    "remix/clipped_rate": Metric("share of tokens whose gradient a bound took away"),
    "remix/history_rate": Metric("share of the batch's rollouts that are history"),
    "remix/base_weight": Metric("lambda of KL-Convex: weight of the base, the rest is previous"),
    "geometric/probability_{KIND}": Metric("mean geometric mean of token probabilities, by answer"),
    "policy/grad_norm": Metric("norm of the gradient before clipping"),
    "policy/lr": Metric("learning rate of the step"),
    "policy/loss_scale": Metric("factor of the loss in an fp16 step; halved when one overflows"),
    "critic/loss": Metric("the critic's loss over the global batch, as the objective defines it"),
    "critic/grad_norm": Metric("norm of the critic's gradient before clipping"),
    "critic/value_*": Metric("the critic's values of the batch's response tokens", "reward"),
    "critic/explained_variance": Metric(
        "1 - var(return - value) / var(return) over an iteration's tokens, before its first update"
    ),
    "critic/loss_scale": Metric("factor of the critic's loss in an fp16 step"),
    "critic/skipped": Metric("the critic's update was skipped: not finite", "steps"),
    "policy/policy_kl": Metric("k3 between policy and sampler at lag > 0, mean of tokens", "nats"),
    "policy/mismatch_kl": Metric("k3 between policy and sampler at equal version", "nats"),
    "policy/prob_ratio": Metric("mean exp(|ln pi - ln pi_vllm|) over tokens; 1 is perfect"),
    "policy/rollout_prob_ratio_*": Metric("the same mean over the tokens of each rollout alone"),
    "policy/ratio_at/{BIN}": Metric(
        "mean pi / pi_vllm over the tokens of each tenth of a response, the first is 0"
    ),
    "oapl/v_star_*": Metric("V* of the accepted groups", "reward"),
    "oapl/advantage_*": Metric("r - V* of the batch's rollouts", "reward"),
    "oapl/advantage_positive": Metric("mean r - V* where the reward is above 0", "reward"),
    "oapl/advantage_nonpositive": Metric("mean r - V* where it is not", "reward"),
    "oapl/residual_*": Metric("beta2 ln(pi/pi_vllm) - (r - V*) per rollout", "reward"),
    "oapl/outside_rate": Metric("share of tokens, or rollouts, outside the bounds of the ratio"),
    "oapl/log_ratio_*": Metric("ln pi - ln pi_vllm per token", "nats"),
    "oapl/sequence_log_ratio_*": Metric("ln pi - ln pi_vllm summed over a rollout", "nats"),
    "reward/sandbox_level": Metric(
        "isolation of programs that models write, or of the judging processes where none are run: "
        "0 none, 1 Landlock or seccomp, 2 both, 3 both in namespaces"
    ),
    "reward/mean": Metric("reward of the rollouts accepted since the last step", "reward"),
    "reward/std": Metric("standard deviation of the same rewards", "reward"),
    "reward/trained_mean": Metric("reward of the rollouts trained on in this step", "reward"),
    "reward/uniform_groups": Metric("share of accepted groups whose rewards are all equal"),
    "reward/uniform_right_groups": Metric("of these the share whose rewards are above 0"),
    "reward/uniform_wrong_groups": Metric("of these the share whose rewards are not"),
    "reward/calls": Metric("calls of the reward server", "calls"),
    "reward/tasks": Metric("rollouts judged", "rollouts"),
    "reward/{VERIFIER}/mean": Metric("reward that one verifier gave, before its weight", "reward"),
    "reward/{VERIFIER}/malformed_rate": Metric("share without an answer where one was asked for"),
    "reward/{VERIFIER}/timeout_rate": Metric("share that ran into the deadline"),
    "reward/{VERIFIER}/error_rate": Metric("share on which the verifier itself failed"),
    "reward/{VERIFIER}/malformed_rate/{SOURCE}": Metric("the same of one data source's prompts"),
    "reward/{VERIFIER}/timeout_rate/{SOURCE}": Metric("the same of those beyond the deadline"),
    "reward/{VERIFIER}/latency_p50_s": Metric("median of waiting plus judging", "s"),
    "reward/{VERIFIER}/latency_p95_s": Metric("95th percentile of it, of the slowest server", "s"),
    "reward/{VERIFIER}/queue_length": Metric("most responses that waited at a time", "rollouts"),
    "reward/{VERIFIER}/judged": Metric("verdicts given", "rollouts"),
    "reward/{VERIFIER}/failures": Metric("responses that the pool could not judge", "rollouts"),
    "reward/{VERIFIER}/{PART}": Metric("mean of a named part of one verifier's reward"),
    "rollout/length_mean": Metric("response length of accepted rollouts", "tokens"),
    "rollout/length_max": Metric("longest accepted response", "tokens"),
    "rollout/truncated_rate": Metric("share of accepted responses cut off at the limit"),
    "rollout/repetition_rate": Metric(
        "share of a response's 4-grams that stood in it before (seq-rep-4), mean of accepted ones"
    ),
    "rollout/loop_rate": Metric("share of accepted responses that end in a block again and again"),
    "rollout/relative_length": Metric(
        "length less that of the run `tracking.baseline` at the same step", "tokens"
    ),
    "rollout/group_seconds_mean": Metric("time from hand-out to the group's last reward", "s"),
    "rollout/group_seconds_max": Metric("the slowest group's", "s"),
    "rollout/rollouts": Metric("responses finished by the engines, of evaluations too", "rollouts"),
    "rollout/tokens": Metric("tokens of finished responses", "tokens"),
    "rollout/evaluated": Metric("responses to the problems of evaluations", "rollouts"),
    "rollout/evaluated_tokens": Metric("their tokens", "tokens"),
    "rollout/truncated": Metric("responses cut off at the limit", "rollouts"),
    "rollout/aborted": Metric("responses aborted by a synchronisation", "rollouts"),
    "rollout/aborted_tokens": Metric("tokens of aborted responses", "tokens"),
    "rollout/aborted_groups": Metric("draws in flight when the version moved", "groups"),
    "rollout/aborted_length_mean": Metric("tokens per rollout of groups given back", "tokens"),
    "rollout/tokens_per_s": Metric("tokens generated per second, all engines", "tokens/s"),
    "engine/{COUNTER}": Metric("counters of the inference engines"),
    "stage/number": Metric("the stage that begins here, from 1, in a run of stages"),
    "data/epoch": Metric("passes over the examples so far (SFT)"),
    "replay/size": Metric("kept groups in the buffer", "groups"),
    "replay/older": Metric("kept groups of a version before the served one", "groups"),
    "replay/ahead": Metric("kept groups of the period that follows", "groups"),
    "replay/in_flight": Metric("draws that workers hold", "groups"),
    "replay/queued": Metric("returned draws that wait for a worker", "groups"),
    "replay/need": Metric("draws that may still be handed out", "groups"),
    "replay/accepted": Metric("groups accepted, dropped ones included", "groups"),
    "replay/accepted_rollouts": Metric("rollouts of accepted groups", "rollouts"),
    "replay/accepted_tokens": Metric("their response tokens", "tokens"),
    "replay/dropped": Metric("groups that ended in a filter or a skipped step", "groups"),
    "replay/spared": Metric("groups kept though the filter would have dropped them", "groups"),
    "replay/failed": Metric("draws that ended in a failure", "groups"),
    "replay/returned": Metric("draws given back by a living worker", "groups"),
    "replay/returned/{CAUSE}": Metric("the same by cause", "groups"),
    "replay/deaths": Metric("draws lost with a worker, to be retried or failed", "groups"),
    "replay/refused_{WHY}": Metric("groups refused: stale, unknown, incomplete...", "groups"),
    "replay/refused_tokens": Metric("tokens of refused groups, duplicates included", "tokens"),
    "replay/duplicates": Metric("groups put a second time", "groups"),
    "replay/cleared_groups": Metric("kept groups thrown away at a synchronisation", "groups"),
    "replay/cleared_tokens": Metric("their tokens", "tokens"),
    "replay/cleared_length_mean": Metric("tokens per rollout of cleared groups", "tokens"),
    "replay/wasted_tokens": Metric("tokens of groups given back or failed", "tokens"),
    "replay/moves": Metric("publications ahead of a period's last groups, which were moved"),
    "replay/moved_groups": Metric("groups that went on in another engine", "groups"),
    "replay/moved_tokens": Metric(
        "tokens of their rollouts that went on; among the aborted ones, too", "tokens"
    ),
    "replay/filled_groups": Metric(
        "groups of the next version in the places of last ones that were lost", "groups"
    ),
    "replay/reused": Metric("groups used once more within their period", "groups"),
    "replay/history": Metric("groups of earlier iterations lent beside fresh ones", "groups"),
    "replay/window": Metric("groups of earlier iterations that may be lent", "groups"),
    "replay/lag_mean": Metric("learner steps between a group's version and its use", "steps"),
    "replay/lag_max": Metric("the largest of them", "steps"),
    "weights/version": Metric("learner step whose weights were published last", "steps"),
    "weights/bytes": Metric("size of the publication", "bytes"),
    "weights/probe": Metric("mean exp(|difference|) between learner and engine after a load"),
    "weights/load_s": Metric("from the pause of an engine to the end of its load", "s"),
    "weights/skipped_loads": Metric("publications an engine did not take", "loads"),
    "time/wait_for_batch_s": Metric("the learner waited for its batch", "s"),
    "time/wait_for_evaluation_s": Metric("the learner waited for an evaluation; 0 beside it", "s"),
    "time/prepare_s": Metric("scoring an iteration's tokens before its first update", "s"),
    "time/forward_backward_s": Metric("forward and backward passes of a step", "s"),
    "time/step_s": Metric("from the end of one step to the end of the next", "s"),
    "time/publish_s": Metric("export and publication", "s"),
    "time/checkpoint_s": Metric("saving a checkpoint", "s"),
    "time/both_working_s": Metric("engines generated while the learner computed", "s"),
    "idle/learner": Metric("share of the step in which the learner waited for its batch"),
    "idle/engines": Metric("share of the step in which engines had nothing to do"),
    "seconds/learner/{STATE}": Metric(
        "the learner's time since the line before: start, restart, data, synchronise, publish, "
        "evaluate, checkpoint, prepare, update, other, finish",
        "s",
    ),
    "seconds/engines/{STATE}": Metric(
        "that of all engines together: generate, thrown_away, evaluate, load, idle, absent", "s"
    ),
    "seconds/devices": Metric("time since the line before by the devices that the run holds", "s"),
    "total/rollouts": Metric("rollouts of accepted groups so far, no evaluation", "rollouts"),
    "total/weighted_rollouts": Metric(
        "the same, each by its `rollout.max_tokens` over `tracking.full_rollout_tokens`", "rollouts"
    ),
    "total/tokens": Metric("response tokens of these", "tokens"),
    "total/iterations": Metric("takes so far; learner steps are the x axis", "iterations"),
    "total/hours": Metric("time at work so far, what was made again included", "h"),
    "total/device_hours": Metric("the same by the devices held: cards, or threads", "h"),
    "total/ettr": Metric(
        "effective training time: 1 - (start, restarts, work made again, waits on faults) / time"
    ),
    "alarms/{NAME}": Metric("1 while an alarm is on"),
    "perf/tokens_per_s": Metric("tokens trained on per second, all ranks", "tokens/s"),
    "perf/mfu": Metric("share of what its devices can do that the gradients of a step need"),
    "perf/peak_memory_bytes": Metric("largest memory of a learner rank", "bytes"),
    "eval/{SET}/mean@n": Metric("mean reward over n samples per problem", "reward"),
    "eval/{SET}/pass@k": Metric("unbiased estimate that one of k samples is right"),
    "eval/{SET}/maj@n": Metric("share of problems whose most frequent answer is right"),
    "eval/{SET}/greedy": Metric("mean reward at temperature 0", "reward"),
    "eval/{SET}/length_mean": Metric("mean response length", "tokens"),
    "eval/{SET}/length_p10": Metric("length within which a tenth of the responses lie", "tokens"),
    "eval/{SET}/length_p50": Metric("length within which half of them lie", "tokens"),
    "eval/{SET}/length_p90": Metric("length within which nine tenths lie", "tokens"),
    "eval/{SET}/length_p99": Metric("length within which 99 % lie", "tokens"),
    "eval/{SET}/halved_right": Metric("share right if half the limit had cut responses off"),
    "eval/{SET}/halved_loss": Metric("what that loses of the share right", "points"),
    "eval/{SET}/think_rate": Metric("share with a thought between paired think tags"),
    "eval/{SET}/reflection_rate": Metric("share with a word of eval.reflection_words"),
    "eval/{SET}/repetition_rate": Metric(
        "share of a response's 4-grams that stood in it before, mean of the responses"
    ),
    "eval/{SET}/{CATEGORY}/mean@n": Metric("mean@n of the problems of a category", "reward"),
    "eval/{SET}/{CATEGORY}/greedy": Metric("the same at temperature 0", "reward"),
    "eval/{SET}/{CATEGORY}/mean@n_se": Metric("standard error over a category's problems"),
    "eval/{SET}/{CATEGORY}/greedy_se": Metric("the same at temperature 0"),
    "eval/score": Metric("mean over several sets of their mean@n, else greedy", "reward"),
    "eval/{SET}/truncated_rate": Metric("share of responses cut off at the limit"),
    "eval/{SET}/malformed_rate": Metric("of those that ended, share without the form asked for"),
    "eval/{SET}/entropy": Metric("mean of -ln p over the tokens of the samples", "nats"),
    "eval/{SET}/unjudged": Metric("samples left out because no verdict could be had", "rollouts"),
    "eval/{SET}/{MEASURE}_se": Metric("standard error of a measure over problems"),
    "faults/worker_restarts": Metric("workers that died or hung, and places lost with a node"),
    "faults/reward_server_restarts": Metric("reward servers that died or hung"),
    "faults/rank_restarts": Metric("times that all went back to a checkpoint for a learner rank"),
    "faults/replay_restarts": Metric("the same for the replay buffer"),
    "faults/node_restarts": Metric("the same for Ray on the learner's machine"),
    "faults/reward_servers_down": Metric("reward servers that gave no counters"),
    "faults/engine": Metric("inference engines that failed under a worker, which rebuilds them"),
    "faults/engine_rebuilds": Metric("inference engines that were built anew"),
    "faults/failed_loads": Metric("publications that an engine began to take in, and could not"),
    "faults/probe_failures": Metric("engines rebuilt since they disagreed with the learner"),
    "faults/probe_warnings": Metric("loads after which engine and learner agree less than well"),
    "faults/cut_drains": Metric("loads that cut off responses which they had waited for"),
    "faults/moved_disagreements": Metric(
        "moved rollouts that began anew: the engine they came to disagreed with their log-probs"
    ),
    "faults/reward_calls": Metric("calls of a reward server that failed, and were tried again"),
    "faults/reward_tasks": Metric("responses that no reward server judged; their groups fail"),
    "faults/reward_{KIND}": Metric(
        "responses without a verdict of their own by cause, and what befell the reward pool"
    ),
    "faults/skipped_steps": Metric("learner steps left out for a non-finite loss or gradient"),
    "faults/skipped_evaluations": Metric("evaluations in mid-run that came to nothing"),
    "faults/{KIND}": Metric("other events that should not happen"),
}


def describe(name: str) -> Metric | None:
    """Look up a metric's full name in the table; None when no entry covers it."""
    if name in METRICS:
        return METRICS[name]
    return next((METRICS[entry] for entry, form in _forms() if form.fullmatch(name)), None)


@cache
def _forms() -> list[tuple[str, re.Pattern[str]]]:
    """The patterns of the table, the most particular first."""
    entries = sorted(METRICS, key=lambda entry: (entry.count("{"), -len(entry)))
    return [(entry, re.compile(_form(entry))) for entry in entries]


def _form(entry: str) -> str:
    form = re.escape(entry)
    form = re.sub(r"\\\{[A-Z]+\\\}", "[^/]+", form)
    form = re.sub(r"@[nk]", r"@\\d+", form)
    return form.replace(r"_\*", "_(mean|std|min|max)")
