"""What a run will do before it is started: an event model of engines, buffer and learner.

Pure arithmetic, without a cluster and without torch. `setting` says what is simulated, `lengths`
how long groups take, `simulation` lets the events follow each other; `rates` are what was measured
or assumed, `task` what a recipe asks for, `forecast` makes of them hours, loads and a sentence
about what holds the run up (`foreseen`), `search` tries other settings.
"""
