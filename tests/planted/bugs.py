"""Bugs to plant: where, what is written instead, and the unit test that must fail of it."""

from __future__ import annotations

from dataclasses import dataclass

REPLAY = "tests/unit/oapl/test_replay.py"
USES = "tests/unit/oapl/test_replay_uses.py"
LOOPS = "tests/unit/oapl/test_loops.py"
SNAPSHOTS = "tests/unit/learner/test_snapshots.py"
CONTENTS = "tests/unit/learner/test_contents.py"
RESUMING = "tests/unit/learner/test_resuming.py"
GROUP = "tests/unit/learner/test_group.py"
WORKERS = "tests/unit/deploy/test_workers.py"
WORKER = "tests/unit/actors/test_worker.py"
WEIGHTS = "tests/unit/oapl/test_weights.py"
HANDLES = "tests/unit/deploy/test_handles.py"
GENERATION = "tests/unit/deploy/test_generation.py"
ATTEMPT = "tests/unit/deploy/test_attempt.py"


@dataclass(frozen=True, slots=True)
class Bug:
    """A mutation of one file.

    Attributes:
        what: The bug, in words.
        file: Where it is planted.
        old: Text that stands there once.
        new: What takes its place.
        test: FILE::NAME of the unit test that must fail.
    """

    what: str
    file: str
    old: str
    new: str
    test: str


BUGS = (
    # Replay
    Bug(
        "a group with an aborted rollout is accepted",
        "oapl/replay/ledger.py",
        'whole = all(rollout.finish_reason != "abort" for rollout in group.rollouts)',
        "whole = True",
        f"{REPLAY}::test_an_incomplete_group_is_refused_and_its_draw_returns",
    ),
    Bug(
        "the same group is not known when it comes a second time",
        "oapl/replay/draws.py",
        "self._settled[prompt.id] = (prompt.attempt, flight.version)",
        "self._settled[prompt.id] = (prompt.attempt - 1, flight.version)",
        f"{REPLAY}::test_put_accepts_a_group_once",
    ),
    Bug(
        "a draw that comes back keeps its attempt, so that an old answer counts for it",
        "oapl/replay/draws.py",
        "replace(prompt, attempt=prompt.attempt + 1) for prompt in prompts",
        "replace(prompt, attempt=prompt.attempt) for prompt in prompts",
        f"{REPLAY}::test_a_returned_draw_comes_first_and_counts_its_attempts",
    ),
    Bug(
        "a draw that comes back goes to the end of the queue",
        "oapl/replay/draws.py",
        "self._queue.extendleft(reversed(again))",
        "self._queue.extend(again)",
        f"{REPLAY}::test_advance_clears_the_buffer_and_puts_the_slowest_first",
    ),
    Bug(
        "a snapshot forgets the draws in flight",
        "oapl/replay/draws.py",
        '"in_flight": self._begun()',
        '"in_flight": []',
        f"{REPLAY}::test_a_snapshot_brings_everything_back_with_draws_in_flight_first",
    ),
    Bug(
        "a straggler's group is put into the next period's buffer",
        "oapl/replay/ledger.py",
        "is_next = self.is_ahead and group.version == self.version",
        "is_next = self.is_ahead",
        "tests/unit/oapl/test_replay_behind.py::"
        "test_a_group_handed_over_goes_on_with_the_one_behind_and_trains_in_its_period",
    ),
    Bug(
        "a snapshot forgets what the learner has leased",
        "oapl/replay/groups.py",
        '"buffer": [*self.leased.values(), *self.buffer.values()]',
        '"buffer": [*self.buffer.values()]',
        f"{REPLAY}::test_a_snapshot_brings_everything_back_with_draws_in_flight_first",
    ),
    Bug(
        "a snapshot goes on changing with the run",
        "oapl/replay/ledger.py",
        '"counts": copy.deepcopy(self._counts)',
        '"counts": self._counts',
        f"{REPLAY}::test_a_snapshot_does_not_change_with_the_run",
    ),
    Bug(
        "a group of another version than its draw's is taken",
        "oapl/replay/draws.py",
        'return "" if version == self._in_flight[prompt.id].version else "stale"',
        'return ""',
        f"{REPLAY}::test_a_group_is_of_the_version_its_draw_was_handed_out_for",
    ),
    Bug(
        "a late group is not told from one that nobody asked for",
        "oapl/replay/draws.py",
        "if version not in usable or self._is_superseded(prompt):",
        "if version not in usable and self._is_superseded(prompt) and not usable:",
        f"{REPLAY}::test_put_refuses_a_group_of_an_old_version_and_counts_its_tokens",
    ),
    Bug(
        "a synchronisation leaves the oldest group in the buffer",
        "oapl/replay/groups.py",
        "list(self.buffer.values())[keep:]",
        "list(self.buffer.values())[keep + 1 :]",
        f"{REPLAY}::test_advance_clears_the_buffer_and_puts_the_slowest_first",
    ),
    Bug(
        "draws in flight are not counted, so that too many are handed out",
        "oapl/replay/ledger.py",
        "self._groups.need(self.begin, self.step, now, old, lost)",
        "self._groups.need(self.begin, self.step, 0)",
        f"{REPLAY}::test_a_period_hands_out_exactly_what_its_steps_need",
    ),
    Bug(
        "a group that arrives does not wake the learner",
        "oapl/replay/buffer.py",
        "answers = [self._ledger.put(worker, group) for group in groups]\n"
        "            self._changed.notify_all()",
        "answers = [self._ledger.put(worker, group) for group in groups]",
        f"{REPLAY}::test_take_wakes_when_the_last_group_arrives",
    ),
    Bug(
        "a prompt under which engines die is drawn for ever",
        "oapl/replay/draws.py",
        "self._deaths.get(prompt.id, 0) + 1",
        "self._deaths.get(prompt.id, 0)",
        f"{REPLAY}::test_a_prompt_that_kills_engines_fails",
    ),
    Bug(
        "a worker that was released is heard",
        "oapl/replay/draws.py",
        "return worker.incarnation <= self._released.get(worker.index, -1)",
        "return worker.incarnation < self._released.get(worker.index, -1)",
        f"{REPLAY}::test_a_released_incarnation_is_refused_and_its_group_counted",
    ),
    Bug(
        "the newest groups go first",
        "oapl/replay/groups.py",
        "ids = sorted(self.buffer, key=lambda id: self.buffer[id].scored.group.version)[:fresh]",
        "ids = list(self.buffer)[-fresh:]",
        f"{REPLAY}::test_take_leases_in_order_of_arrival",
    ),
    Bug(
        "a group whose first use was skipped is used again",
        "oapl/replay/groups.py",
        "if is_applied:\n            self._uses.add(group)",
        "if True:\n            self._uses.add(group)",
        f"{USES}::test_a_group_whose_first_use_was_skipped_is_not_used_again_and_makes_room",
    ),
    Bug(
        "groups of a skipped step are told as trained on",
        "oapl/loops.py",
        'await replay.drop(skipped, "non_finite", learner.step)',
        "await replay.trained(skipped, learner.step)",
        f"{LOOPS}::test_a_skipped_step_counts_as_a_step_and_its_groups_are_dropped",
    ),
    Bug(
        "an engine that fails takes its prompts with it",
        "oapl/replay/ledger.py",
        "if self._draws.holds(worker, prompt):\n            self._return(prompt, cause)",
        "if not self._draws.holds(worker, prompt):\n            self._return(prompt, cause)",
        f"{LOOPS}::test_an_engine_fault_gives_every_prompt_back",
    ),
    # Checkpoints
    Bug(
        "a checkpoint is renamed before its files are digested",
        "learner/checkpoints/snapshots.py",
        "    digests.write(part)\n    final",
        "    final",
        f"{SNAPSHOTS}::test_a_save_that_was_killed_half_way_leaves_the_last_good_one",
    ),
    Bug(
        "a save that was killed is taken for a checkpoint",
        "learner/checkpoints/snapshots.py",
        "if (m := NAME.fullmatch(path.name))}",
        "if (m := NAME.search(path.name))}",
        f"{SNAPSHOTS}::test_a_save_that_was_killed_half_way_leaves_the_last_good_one",
    ),
    Bug(
        "the newest checkpoint is pruned",
        "learner/checkpoints/snapshots.py",
        "for step in sorted(found)[:-keep]:",
        "for step in sorted(found)[keep:]:",
        f"{SNAPSHOTS}::test_pruning_keeps_the_newest",
    ),
    Bug(
        "checkpoints of a future that was given up stay in place",
        "learner/checkpoints/snapshots.py",
        "and int(m[1]) > step:",
        "and int(m[1]) > step + 10:",
        f"{SNAPSHOTS}::test_going_on_from_an_earlier_checkpoint_sets_the_later_ones_aside",
    ),
    Bug(
        "a flipped byte loads without a word",
        "learner/checkpoints/digests.py",
        "if _digest(folder / name) != digests[name]:",
        "if not _digest(folder / name):",
        f"{RESUMING}::test_a_damaged_one_is_named_with_the_newest_older_one_that_is_whole",
    ),
    Bug(
        "all ranks verify the same share of the files, and nobody the others",
        "learner/checkpoints/digests.py",
        "for name in sorted(digests)[part::parts]:",
        "for name in sorted(digests)[::parts]:",
        f"{SNAPSHOTS}::test_whichever_file_is_damaged_one_of_the_ranks_finds_it",
    ),
    Bug(
        "an older format is read",
        "learner/checkpoints/contents.py",
        "if found not in READABLE:",
        "if found > FORMAT:",
        f"{CONTENTS}::test_another_format_is_refused_with_both_numbers",
    ),
    Bug(
        "a checkpoint of another learner is loaded",
        "learner/checkpoints/contents.py",
        "if name not in free and one != here[name]}",
        "if name not in free and not here}",
        f"{RESUMING}::test_another_precision_of_the_learner_is_refused_before_anything_starts",
    ),
    Bug(
        "a resumed run begins its data anew",
        "learner/saving.py",
        "        await self._replay.restore(replay)\n",
        "",
        f"{GROUP}::test_a_checkpoint_at_a_synchronisation_brings_step_and_replay_back",
    ),
    Bug(
        "a checkpoint taken ahead lacks the weights that engines serve",
        "learner/publication.py",
        "self._weights is not None and not self._serves_own(step)",
        "self._weights is not None and self._serves_own(step)",
        f"{GROUP}::test_with_a_lead_a_checkpoint_brings_the_served_version_back",
    ),
    # The fleet of workers
    Bug(
        "what a dead worker had in flight is not given back",
        "deploy/run/workers.py",
        "            await self._replay.release(WorkerId(index=index, incarnation=incarnation))",
        "            pass",
        f"{WORKERS}::test_a_worker_that_dies_is_replaced_by_one_with_the_current_weights",
    ),
    Bug(
        "a worker whose node has left counts as dead",
        "deploy/run/workers.py",
        "if isinstance(error, DeadlineError) and index not in self._members:",
        "if isinstance(error, DeadlineError) and index in self._members:",
        f"{WORKERS}::test_a_worker_without_a_place_is_tried_for_as_long_as_it_takes",
    ),
    Bug(
        "a load is answered with the report of the load before",
        "deploy/run/workers.py",
        "self._weights, self._report = weights, None",
        "self._weights = weights",
        f"{WORKERS}::test_the_only_worker_stopped_before_a_load_is_replaced_and_the_load_goes_on",
    ),
    Bug(
        "nobody is waited for while it is replaced",
        "deploy/run/workers.py",
        "if self._now() >= ends_at or not (silent or self._is_recovering(began)):",
        "if True:",
        f"{WORKERS}::test_the_only_worker_stopped_between_loads_is_replaced_and_the_learner_waits_"
        "for_it",
    ),
    Bug(
        "a worker that answers no more is not ended",
        "deploy/run/workers.py",
        '        self._note(f"{member.id} has not answered for {silent_s:.0f} s; killing it")\n'
        "        await self._processes.kill(member.process)\n",
        '        self._note(f"{member.id} has not answered for {silent_s:.0f} s; killing it")\n',
        f"{WORKERS}::test_a_worker_that_only_evaluates_is_ended_when_it_answers_no_more",
    ),
    Bug(
        "a worker that gives no counters is kept",
        "deploy/run/workers.py",
        "if silent_s > STATS_TIMEOUT_S:",
        "if silent_s < 0:",
        f"{WORKERS}::test_a_silent_worker_delays_nobody_is_counted_late_and_killed_in_the_end",
    ),
    Bug(
        "the run goes on for ever without a worker",
        "deploy/run/workers.py",
        "if self._places == 0 and not self._stopping:",
        "if self._places < 0:",
        f"{WORKERS}::test_the_run_fails_when_every_place_is_given_up",
    ),
    Bug(
        "an evaluation asks a worker that is dead again",
        "deploy/run/answering.py",
        "            self.dead.append(self.member)\n",
        "",
        f"{WORKERS}::test_a_worker_whose_death_nobody_has_noticed_yet_is_asked_once",
    ),
    Bug(
        "an engine that disagrees with the learner goes on",
        "deploy/run/workers.py",
        "        except ProbeError as error:\n            self._fail(error)\n",
        "        except ProbeError:\n            pass\n",
        f"{WORKERS}::test_an_engine_that_disagrees_later_stops_the_run_though_others_agree",
    ),
    # Publications
    Bug(
        "a chunk that changed on the way is loaded",
        "oapl/weights/base.py",
        "if found != self.digest:",
        "if not found:",
        f"{WEIGHTS}::test_contents_that_changed_on_the_way_are_refused",
    ),
    Bug(
        "a chunk that changed on its way to a worker is loaded",
        "oapl/weights/collective.py",
        "            offer.check(content.cpu().numpy())\n",
        "",
        f"{WEIGHTS}::test_contents_that_changed_on_the_way_are_refused",
    ),
    Bug(
        "a worker goes on in the publication before when another begins",
        "oapl/weights/collective.py",
        "if self._member is None or offer.number == 0:",
        "if self._member is None:",
        "tests/unit/oapl/test_weights_collective.py::"
        "test_who_is_told_of_another_publication_forgets_the_one_it_had_begun",
    ),
    Bug(
        "NaN is published",
        "oapl/weights/base.py",
        "    check_finite(version, chunk, content)\n    found",
        "    found",
        f"{WEIGHTS}::test_a_non_finite_tensor_is_refused_by_name",
    ),
    Bug(
        "weights of another model are taken in",
        "oapl/weights/base.py",
        "    if problems:\n",
        "    if not sent:\n",
        f"{WEIGHTS}::test_a_publication_of_another_model_is_refused",
    ),
    Bug(
        "two publications are under way at once",
        "learner/publication.py",
        '            begin: Step at which the period begins.\n        """\n'
        "        await self.settle()\n",
        '            begin: Step at which the period begins.\n        """\n',
        f"{GROUP}::test_a_publication_waits_for_the_one_before",
    ),
    Bug(
        "what goes wrong with a publication beside training is swallowed",
        "learner/publication.py",
        "                loading.result()\n",
        "                loading.exception()\n",
        f"{GROUP}::test_what_goes_wrong_with_a_publication_ahead_is_raised_by_the_next_step",
    ),
    Bug(
        "a learner that cannot send leaves engines waiting",
        "learner/publication.py",
        "            loading.cancel()\n            await asyncio.gather(loading",
        "            await asyncio.gather(loading",
        f"{GROUP}::test_a_learner_that_cannot_send_ends_the_publication_and_the_load",
    ),
    Bug(
        "the last publication moves the version",
        "learner/publication.py",
        "            self._given = step\n"
        "            await self._export(step, self._loaded_by(self._engines.load))",
        "            self._given = self.version = step\n"
        "            await self._export(step, self._loaded_by(self._engines.load))",
        f"{GROUP}::test_the_last_publication_changes_neither_version_nor_phase",
    ),
    Bug(
        "an older version replaces a newer one in an engine",
        "actors/worker.py",
        "if self._held and weights.version < self._held[0].version:",
        "if self._held and weights.version < 0:",
        f"{WORKER}::test_an_older_version_is_skipped_and_an_equal_one_is_not",
    ),
    Bug(
        "a probe that is NaN passes",
        "actors/worker.py",
        "        if not report.ratio <= self._bound:  # NaN is out of bounds too",
        "        if report.ratio > self._bound:",
        f"{WORKER}::test_an_engine_out_of_bounds_is_rebuilt_once",
    ),
    Bug(
        "weights are published before replay is cleared",
        "oapl/loops.py",
        "            await replay.advance(learner.step)"
        "  # clears; hands out nothing until an engine has it\n"
        "            await learner.checkpoint_if_due()\n"
        "            await learner.publish(learner.step)\n",
        "            await learner.checkpoint_if_due()\n"
        "            await learner.publish(learner.step)\n"
        "            await replay.advance(learner.step)\n",
        f"{LOOPS}::test_without_a_lead_the_acts_are_those_of_algorithm_1_step_for_step",
    ),
    # What is told, and what goes back by itself
    Bug(
        "an engine that hangs is waited for",
        "actors/worker.py",
        "missed = 0 if self._is_loading else missed + 1",
        "missed = 0",
        f"{WORKER}::test_an_engine_that_hangs_ends_its_worker",
    ),
    Bug(
        "what is in flight in an engine that hangs is awaited",
        "actors/worker.py",
        "            if not listening.done():  # else what is in flight would be awaited for ever",
        "            if True:",
        f"{WORKER}::test_an_engine_that_hangs_ends_its_worker",
    ),
    Bug(
        "of what a rank raised Ray's copy is told",
        "learner/ranks.py",
        "met = original(cause)",
        "met = cause",
        f"{GROUP}::test_what_a_rank_has_raised_is_told_in_a_line_that_is_the_same_each_time",
    ),
    Bug(
        "a buffer that cannot be reached ends the run",
        "deploy/processes/handles.py",
        "        except (ActorDiedError, ActorUnavailableError) as error:",
        "        except ActorDiedError as error:",
        f"{HANDLES}::test_of_a_process_that_is_gone_or_away_the_name_and_the_log_are_told",
    ),
    Bug(
        "a generation goes back for ever",
        "deploy/run/generation.py",
        "if stop.signal or failures.are_too_many or storage.cause(error, config.folder):",
        "if stop.signal or storage.cause(error, config.folder):",
        f"{GENERATION}::"
        "test_a_lost_queue_takes_a_generation_back_to_its_last_shard_as_often_as_allowed",
    ),
    Bug(
        "a generation that goes back makes again what is stored",
        "deploy/run/generation.py",
        "    progress.begin_again()\n",
        "",
        f"{GENERATION}::"
        "test_a_lost_queue_takes_a_generation_back_to_its_last_shard_as_often_as_allowed",
    ),
    Bug(
        "who asks to stop between two attempts waits out the pause",
        "deploy/run/training.py",
        "        await stop.unless_asked(asyncio.sleep(attempts.pause_s))\n    except",
        "        await asyncio.sleep(attempts.pause_s)\n    except",
        f"{ATTEMPT}::test_who_asks_between_two_attempts_is_told_that_it_is_heard",
    ),
)
