"""KL, entropy, length and validation over learner steps: how the policy moves."""

from __future__ import annotations

from oapl.reports._lines import evaluated, first_of, metric, panel, panels
from oapl.reports._study.study import Study
from oapl.reports.base import About, Drawing

DECLARES = About(
    title="Training dynamics",
    section="learning",
    place=30,
    reads="Entropy that falls to nothing, or a KL that leaps, is seen here before the score falls.",
    like="ProRL Fig. 1, 5, 6, 7; OAPL Fig. 3",
)
KLS = ("policy/reference_kl", "policy/policy_kl", "policy/mismatch_kl")
TITLES = {
    "policy/reference_kl": "KL to the reference (k3, nats a token)",
    "policy/policy_kl": "KL to the sampler (k3, nats a token)",
    "policy/mismatch_kl": "KL to the sampler at equal version (k3, nats a token)",
}


def draw(study: Study) -> Drawing:
    """See `base.FigureFile`."""
    there = [name for name in KLS if name in study.names()][:2]
    found = [panel(study, TITLES[name], metric(name)) for name in there]
    found.append(panel(study, "entropy (nats a token)", metric("policy/entropy")))
    lengths = first_of(("rollout/length_mean",))
    found.append(panel(study, "response length (tokens)", lengths))
    found.append(panel(study, "validation score (mean@n)", evaluated("mean@n")))
    return panels(found, "these runs have recorded neither KL, entropy, lengths nor evaluations")
