r"""Section 17.4: certificates, proofs that no attack in N(x) succeeds.

`margins` bounds $z_y-z_j$ over N(x) by a method of `METHODS`, `certify` reads off who is proved
stable, `certified_radius` how far. `trace` turns a network into the graph that bounds run through.
"""

from adversarial_lab.certified.certificate import (
    METHODS,
    Method,
    certified_radius,
    certify,
    margins,
    radius_path,
)
from adversarial_lab.certified.graph import Graph, Node, trace
from adversarial_lab.certified.interval import RULES, Interval, Region, bound, ibp, region
from adversarial_lab.certified.polytope import worst_input

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
    "certify",
    "ibp",
    "margins",
    "radius_path",
    "region",
    "trace",
    "worst_input",
]
