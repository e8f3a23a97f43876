r"""Section 17.4: certificates, proofs that no attack in N(x) succeeds.

`margins` bounds $z_y-z_j$ over N(x) by a method of `METHODS`, `certify` reads off who is proved
stable, `certified_radius` how far. `trace` turns a network into the graph that bounds run through.
`smoothing` certifies another classifier, by samples; `ibp_loss` trains a network to be certified.
"""

from adversarial_lab.certified import smoothing
from adversarial_lab.certified.certificate import (
    METHODS,
    Method,
    certified_radius,
    certify,
    margins,
    radius_path,
)
from adversarial_lab.certified.graph import Graph, Node
from adversarial_lab.certified.interval import RULES, Interval, Region, bound, ibp, region
from adversarial_lab.certified.jacobian import local_constants
from adversarial_lab.certified.lipschitz import layer_constants, lipschitz_bound, pair_constants
from adversarial_lab.certified.polytope import worst_input
from adversarial_lab.certified.short_warmup import (
    initialise_for_intervals,
    short_warmup_loss,
    short_warmup_ramp,
    widening,
)
from adversarial_lab.certified.spectral import spectral_norm, spectral_path
from adversarial_lab.certified.support import support, support_table
from adversarial_lab.certified.tracing import trace
from adversarial_lab.certified.training import certified_ramp, crown_ibp_loss, ibp_loss

__all__ = [
    "METHODS",
    "RULES",
    "Graph",
    "Interval",
    "Method",
    "Node",
    "Region",
    "bound",
    "certified_radius",
    "certified_ramp",
    "certify",
    "crown_ibp_loss",
    "ibp",
    "ibp_loss",
    "initialise_for_intervals",
    "layer_constants",
    "lipschitz_bound",
    "local_constants",
    "margins",
    "pair_constants",
    "radius_path",
    "region",
    "short_warmup_loss",
    "short_warmup_ramp",
    "smoothing",
    "spectral_norm",
    "spectral_path",
    "support",
    "support_table",
    "trace",
    "widening",
    "worst_input",
]
