"""From a recipe to a plan: what is measured, given or assumed, and how it is told.

`recipe` reads the task, `model` the size, `cards` and `assumptions` say what nobody measured, `run`
and `bench` what was, `lengths` how long responses are; `making` puts them together for
`oapl.planning`, `shown` tells the outcome. `published` is the table of the papers' settings.
"""
